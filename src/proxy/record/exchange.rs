//! The guard of a response's body: the record of its request rides on it, with what must be given back when it has ended.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::HeaderMap;

use super::Record;
use crate::message::body::{BodyError, Guard, retain};
use crate::message::hop_by_hop;
use crate::message::pause::PauseTimer;
use crate::pool::Connection;
use crate::proxy::error::ProxyError;
use crate::upstream::Lease;

/// The guard of a response's body: gives back, counts and logs when it has ended.
#[derive(Debug)]
pub struct Exchange(pub(super) Box<Record>);

impl Exchange {
    /// Notes who is waited for: the client, while hyper has what came and asks for no more, or the other side.
    pub(super) fn wait_for_client(&mut self, waits: bool) {
        let record = &mut *self.0;
        record.client.moved();
        if record.waits_for_client != waits {
            record.waits_for_client = waits;
            record.client.wait_for_client(waits);
        }
    }
}

/// What an endpoint's response holds until its body has ended.
#[derive(Debug)]
pub struct FromEndpoint {
    /// Counts the request at its endpoint.
    pub lease: Lease,
    /// Where the response comes from; goes back to the pool.
    pub connection: Connection,
    /// Limits pauses of the body.
    pub pause: PauseTimer,
    /// When the body must have ended, where the route says.
    pub until: Option<Instant>,
    /// How long the connection may be used at all. `None`: for this response only.
    pub max_age: Option<Duration>,
}

impl Guard for Exchange {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.wait_for_client(false);
        match self.0.from.get_mut() {
            Some(from) => {
                let deadline = from.until;
                if let Some(deadline) = deadline {
                    let left = deadline.saturating_duration_since(Instant::now());
                    from.pause.set_limit(from.pause.limit().min(left));
                }
                from.pause.poll_pause(cx).map(|()| match deadline {
                    Some(deadline) if deadline <= Instant::now() => BodyError::Late,
                    Some(_) | None => BodyError::Idle,
                })
            }
            None => Poll::Pending,
        }
    }

    fn on_data(&mut self, data: &[u8]) -> Result<(), BodyError> {
        self.0.response_bytes += data.len() as u64;
        if let Some(from) = self.0.from.get_mut() {
            from.pause.moved();
            if from
                .until
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                // Who was waited for until now remains to be seen.
                return Err(BodyError::Late);
            }
        }
        self.wait_for_client(true);
        Ok(())
    }

    fn on_trailers(&mut self, trailers: &mut HeaderMap) {
        retain(trailers, |name| {
            !hop_by_hop::is_hop_by_hop(name) && name != "set-cookie"
        });
    }

    fn on_end(&mut self, result: Result<(), &BodyError>) {
        let now = Instant::now();
        let record = &mut *self.0;
        if let Some(from) = record.from.take() {
            // hyper #4176: a connection whose request body was not wanted whole never becomes ready again.
            if let Err(error) = result {
                // A client that takes its time is no failure of who has answered it.
                if !(matches!(error, BodyError::Late) && record.waits_for_client) {
                    let metrics = &from.lease.endpoint().metrics;
                    metrics.count_failure(cut(error).reason());
                    metrics.attempts.count_failed();
                }
            } else if !record.upload_is_unread()
                && let Some(max_age) = from.max_age
            {
                record.local.pool.checkin(from.connection, now, max_age);
            }
        }
        record.finish(result.err().map(cut), now);
    }
}

/// A response body that could not be passed on whole.
fn cut(error: &BodyError) -> ProxyError {
    match error {
        BodyError::Received(_) | BodyError::TooLarge | BodyError::Elsewhere => {
            ProxyError::ResponseCut
        }
        BodyError::Idle => ProxyError::ResponseIdle,
        BodyError::Late => ProxyError::RequestTimeout,
    }
}
