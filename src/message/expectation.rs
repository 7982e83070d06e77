//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client sends its body only when the endpoint wants it. Nothing else can be
//! expected of us.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{Request, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::list;

/// How long an endpoint may say nothing before it gets the body all the same: many servers know nothing of expectations
/// (RFC 9110 §10.1.1: a client does not wait for an indefinite period).
const PATIENCE: Duration = Duration::from_secs(1);

/// An expectation that nobody has defined.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown expectation")]
pub struct Unknown;

/// Ready when the body may be asked for.
pub struct Expectation(Pin<Box<dyn Future<Output = ()>>>);

impl Expectation {
    /// Whether the head of a request says that its body is held back. `Expect` is a list, in which there is only one thing
    /// to be said: what else stands in it cannot be met by us, and passed on it would not be met for our part either.
    pub fn is_stated(headers: &HeaderMap) -> Result<bool, Unknown> {
        let mut members = list::elements(headers, &header::EXPECT).peekable();
        let is_stated = members.peek().is_some();
        let is_known = |member: &[u8]| member.eq_ignore_ascii_case(b"100-continue");
        match members.all(is_known) {
            true => Ok(is_stated),
            false => Err(Unknown),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing::headers;

    #[test]
    fn only_one_thing_can_be_expected() {
        let stated = |lines: &[_]| Expectation::is_stated(&headers(lines));
        assert_eq!(stated(&[]), Ok(false));
        assert_eq!(stated(&[("expect", " ,")]), Ok(false));
        assert_eq!(stated(&[("expect", "100-Continue")]), Ok(true));
        assert_eq!(stated(&[("expect", ", 100-continue,")]), Ok(true));
        let twice = [("expect", "100-continue"), ("expect", "100-continue")];
        assert_eq!(stated(&twice), Ok(true));
        for other in [
            "foo",
            "100-continue, foo",
            "foo,100-continue",
            "100-continue;x",
            "200-ok",
        ] {
            assert_eq!(stated(&[("expect", other)]), Err(Unknown), "{other}");
            let lines = [("expect", "100-continue"), ("expect", other)];
            assert_eq!(stated(&lines), Err(Unknown), "{other}");
        }
    }
}
