//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client sends its body only when the endpoint wants it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{Request, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long an endpoint may say nothing before it gets the body all the same: many servers know nothing of expectations
/// (RFC 9110 §10.1.1: a client does not wait for an indefinite period).
const PATIENCE: Duration = Duration::from_secs(1);

/// Ready when the body may be asked for.
pub struct Expectation(Pin<Box<dyn Future<Output = ()>>>);

impl Expectation {
    /// Whether the head of a request says that its body is held back.
    pub fn is_stated(headers: &HeaderMap) -> bool {
        headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }

    /// That of `request`, which is about to be sent: its endpoint's 100 meets it.
    pub fn of<B>(request: &mut Request<B>) -> Self {
        let agreed = Arc::new(Notify::new());
        let waiting = Arc::clone(&agreed);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                agreed.notify_one();
            }
        });
        Self(Box::pin(async move {
            let _ = timeout(PATIENCE, waiting.notified()).await;
        }))
    }

    /// Ready when the body may be asked for.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expectation").finish_non_exhaustive()
    }
}
