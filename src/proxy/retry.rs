//! An exchange with endpoints: which attempts are made, and whether a failed one may be followed by another.
//!
//! An attempt is repeated where nothing of the request can have been acted on, or where doing so twice is the same as once
//! (RFC 9110 §9.2.2). `Moment::allows` is the whole of that rule. Knows nothing of connections.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use super::error::ProxyError;
use super::forward::ask;
use super::local::Local;
use super::mirror;
use super::record::{Record, ResponseBody};
use crate::config::Retry;
use crate::message::upload::RequestBody;
use crate::metrics::{RetryDenied, RetryReason};
use crate::upstream::{Denied, EndpointId, Lease, Tried, Upstream, Wish};

/// When an attempt has failed, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Moment {
    /// The connection could not be opened.
    Connecting,
    /// Not a byte was sent: the connection was closed, and so was that in its place.
    Unsent,
    /// The endpoint says that it has not processed it.
    Unprocessed,
    /// The connection was closed after something was sent.
    Sent,
    /// No response came in time.
    Silent,
    /// This is the response, and it does not say when to come again.
    Answered(u16),
    /// The response is 425: too early, ask again (RFC 8470 §5.2).
    TooEarly,
}

/// What follows from the moment alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Allows {
    /// One more attempt.
    Another,
    /// None: the endpoint may have acted on it, or still be at it.
    NotTwice,
    /// None was asked for.
    None,
}

/// How soon the next attempt follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    AtOnce,
    /// After a moment that differs from request to request: what failed together does not come again together.
    Soon,
}

impl Moment {
    /// Whether a further attempt may follow at all.
    pub(super) fn allows(self, is_idempotent: bool, rule: &Retry) -> Allows {
        let only_idempotent = if is_idempotent {
            Allows::Another
        } else {
            Allows::NotTwice
        };
        match self {
            Self::Connecting | Self::Unsent | Self::Unprocessed | Self::TooEarly => Allows::Another,
            Self::Sent => only_idempotent,
            Self::Silent if rule.on_timeout => only_idempotent,
            Self::Answered(status) if rule.statuses.contains(&status) => only_idempotent,
            Self::Silent | Self::Answered(_) => Allows::None,
        }
    }

    fn pace(self) -> Pace {
        match self {
            Self::Connecting | Self::Unsent => Pace::AtOnce,
            Self::Unprocessed | Self::Sent | Self::Silent | Self::Answered(_) | Self::TooEarly => {
                Pace::Soon
            }
        }
    }

    fn reason(self) -> RetryReason {
        match self {
            Self::Connecting => RetryReason::Connect,
            Self::Unsent => RetryReason::Unsent,
            Self::Unprocessed => RetryReason::Refused,
            Self::Sent => RetryReason::Closed,
            Self::Silent => RetryReason::Timeout,
            Self::Answered(_) => RetryReason::Status,
            Self::TooEarly => RetryReason::TooEarly,
        }
    }
}

/// What one attempt has to know of the others.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) rule: &'a Retry,
    pub(super) is_idempotent: bool,
    /// Its number, from 1.
    number: u32,
    /// Who was asked before.
    tried: &'a Tried,
}

impl Trial<'_> {
    /// Whether others came before: then it takes a connection that nobody had before.
    pub(super) fn is_repeated(&self) -> bool {
        self.number > 1
    }

    /// How long to wait for the head of a response, at `longest`.
    pub(super) fn patience(&self, longest: Duration) -> Duration {
        match self.rule.attempt_timeout {
            Some(timeout) if self.is_idempotent && !self.is_last() => timeout.min(longest),
            Some(_) | None => longest,
        }
    }

    /// At which moment an attempt has failed that got a response with this status and these fields; `None`: it has not.
    pub(super) fn moment_of(&self, status: u16, headers: &HeaderMap) -> Option<Moment> {
        if status < 425 {
            return None;
        }
        self.moment_of_error(status, headers)
    }

    #[cold]
    fn moment_of_error(&self, status: u16, headers: &HeaderMap) -> Option<Moment> {
        // "0", and nothing else, is no wish to be left alone: a date neither.
        let come_later = |value: &HeaderValue| value.as_bytes().trim_ascii() != b"0";
        if !self.is_failure(status) || headers.get_all(RETRY_AFTER).iter().any(come_later) {
            return None;
        }
        Some(match status {
            425 => Moment::TooEarly,
            status => Moment::Answered(status),
        })
    }

    fn is_failure(&self, status: u16) -> bool {
        status == 425 || self.rule.statuses.contains(&status)
    }

    /// Where another attempt would go now after one that `endpoint` has answered at `moment`; `None` within: nowhere.
    /// `None`: none is wanted.
    #[cold]
    pub(super) fn place(
        &self,
        moment: Moment,
        endpoint: EndpointId,
        key: Option<u64>,
    ) -> Option<Option<Lease>> {
        let allows = moment.allows(self.is_idempotent, self.rule);
        if allows != Allows::Another || self.is_last() {
            return None;
        }
        let wish = Wish {
            tried: self.tried.and(endpoint),
            preferred: None,
            key,
        };
        Some(self.upstream.pick(wish).ok())
    }

    /// Whether, and how soon, another attempt follows one that failed at `moment`. `is_back`: there is a request to send. What
    /// is decided is counted.
    #[cold]
    pub(super) fn follow(&self, moment: Moment, is_back: bool) -> Option<Pace> {
        let metrics = &self.upstream.metrics;
        let denied = match moment.allows(self.is_idempotent, self.rule) {
            Allows::None => return None,
            Allows::NotTwice => RetryDenied::Unsafe,
            Allows::Another if self.is_last() => RetryDenied::Attempts,
            Allows::Another if !is_back => RetryDenied::Body,
            Allows::Another if self.upstream.may_retry(Instant::now()) => {
                metrics.retries(moment.reason()).inc();
                return Some(moment.pace());
            }
            Allows::Another => RetryDenied::Budget,
        };
        metrics.retries_denied(denied).inc();
        None
    }

    /// It was a further attempt, and got a response with this status.
    #[cold]
    pub(super) fn was_answered(&self, status: u16) {
        self.upstream.budget.answered(!self.is_failure(status));
    }

    fn is_last(&self) -> bool {
        self.number >= self.rule.attempts
    }
}

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) error: ProxyError,
    /// Another one follows.
    pub(super) next: Option<Pace>,
    /// There, where that is known.
    pub(super) place: Option<Lease>,
}

/// Asks an endpoint of `upstream`; another one where the first has failed in a way that allows it. `own` is how the route says
/// that, where it does. Takes `request` when it is sent.
pub async fn forward(
    local: &Rc<Local>,
    (upstream, own): (&Arc<Upstream>, Option<&Retry>),
    request: &mut Option<Request<RequestBody>>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, ProxyError> {
    let rule = own.unwrap_or(&upstream.retry);
    let is_idempotent = request
        .as_ref()
        .is_some_and(|request| is_idempotent(request, rule));
    let mut failed: Option<ProxyError> = None;
    let mut tried = Tried::default();
    let mut place = None;
    for number in 1.. {
        let wish = Wish {
            tried,
            // It is asked first, and with that the wish is met.
            preferred: match tried.is_empty() {
                true => record.affinity().pin(),
                false => None,
            },
            key: record.hash_key(),
        };
        let picked = match place.take().map_or_else(|| upstream.pick(wish), Ok) {
            // Boxed: it is rare, and requests shall not carry room for it.
            Err(Denied::Full) => Box::pin(wait(upstream, wish, record)).await,
            picked => picked,
        };
        let lease = match picked {
            Ok(lease) => lease,
            // What went wrong before says more.
            Err(denied) => {
                return Err(failed.unwrap_or_else(|| denied.into()));
            }
        };
        let endpoint = lease.endpoint().id();
        record.set_attempt(lease.endpoint());
        if tried.is_empty() {
            mirror::begin(local, request, record);
        }
        let trial = Trial {
            upstream,
            rule,
            is_idempotent,
            number,
            tried: &tried,
        };
        match ask(local, trial, lease, request, record).await {
            Ok(response) => {
                if trial.is_repeated() {
                    trial.was_answered(response.status().as_u16());
                }
                return Ok(response);
            }
            Err(Failed {
                error, next: None, ..
            }) => return Err(error),
            Err(Failed {
                error,
                next: Some(pace),
                place: found,
            }) => {
                place = found;
                failed = Some(error);
                tried = tried.and(endpoint);
                if pace == Pace::Soon {
                    let pause = PAUSE.mul_f64(local.random());
                    // Boxed, so that requests that do not wait carry no room for it.
                    Box::pin(tokio::time::sleep(pause)).await;
                }
            }
        }
    }
    Err(failed.unwrap_or(ProxyError::NoEndpoint))
}

/// Waits for an endpoint with room.
async fn wait(upstream: &Arc<Upstream>, wish: Wish, record: &mut Record) -> Result<Lease, Denied> {
    let begun = Instant::now();
    let got = upstream.wait(wish).await;
    record.add_queued(begun);
    got
}

/// Whether it is the same to process a request twice as once (RFC 9110 §9.2.2, RFC 10008 for QUERY), as its method says, or
/// as its client does where the rule believes it.
fn is_idempotent<B>(request: &Request<B>, rule: &Retry) -> bool {
    match *request.method() {
        Method::GET
        | Method::HEAD
        | Method::PUT
        | Method::DELETE
        | Method::OPTIONS
        | Method::TRACE => true,
        ref other => {
            other.as_str() == "QUERY" || rule.idempotency_key && has_key(request.headers())
        }
    }
}

#[cold]
fn has_key(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str() == "idempotency-key")
}

const PAUSE: Duration = Duration::from_millis(25); // Envoy's base: longer than a process takes to go, too short to be felt

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Retry {
        Retry {
            statuses: vec![429, 503],
            on_timeout: true,
            ..Retry::DEFAULT
        }
    }

    #[test]
    fn matrix_is_that_of_the_documentation() {
        use Allows::{Another, NotTwice};
        let none = Allows::None;
        for (moment, idempotent, other, by_default) in [
            (Moment::Connecting, Another, Another, Another),
            (Moment::Unsent, Another, Another, Another),
            (Moment::Unprocessed, Another, Another, Another),
            (Moment::TooEarly, Another, Another, Another),
            (Moment::Sent, Another, NotTwice, Another),
            (Moment::Silent, Another, NotTwice, none),
            (Moment::Answered(503), Another, NotTwice, none),
            (Moment::Answered(500), none, none, none),
        ] {
            assert_eq!(moment.allows(true, &rule()), idempotent, "{moment:?}");
            assert_eq!(moment.allows(false, &rule()), other, "{moment:?}");
            assert_eq!(
                moment.allows(true, &Retry::DEFAULT),
                by_default,
                "{moment:?}"
            );
        }
    }

    #[test]
    fn idempotent_is_what_the_standard_says_and_what_a_client_may_promise() {
        let asks = |method: &str, key: bool, rule: &Retry| {
            let request = Request::builder().method(method);
            let request = if key {
                request.header("Idempotency-Key", "1")
            } else {
                request
            };
            is_idempotent(&request.body(()).unwrap(), rule)
        };
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "QUERY"] {
            assert!(asks(method, false, &Retry::DEFAULT), "{method}");
        }
        let believing = Retry {
            idempotency_key: true,
            ..Retry::DEFAULT
        };
        for method in ["POST", "PATCH", "query", "BREW"] {
            assert!(!asks(method, false, &believing), "{method}");
            assert!(!asks(method, true, &Retry::DEFAULT), "{method}");
            assert!(asks(method, true, &believing), "{method}");
        }
    }
}
