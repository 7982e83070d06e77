//! An exchange with endpoints: one attempt after the other, as long as each fails in a way that allows another, and as long
//! as there may be more. Knows nothing of connections.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use super::error::ProxyError;
use super::forward::ask;
use super::hedge;
use super::local::Local;
use super::mirror;
use super::moment::{Allows, Moment, Pace};
use super::record::{Record, ResponseBody};
use crate::config::Retry;
use crate::message::upload::RequestBody;
use crate::metrics::RetryDenied;
use crate::upstream::{Denied, EndpointId, Lease, Pin, Tried, Upstream, Wish};

/// The attempts of one request so far.
#[derive(Debug, Default)]
pub(super) struct Course {
    begun: Cell<u32>,
    /// Who was asked, those included who have not answered yet.
    tried: Cell<Tried>,
    hedge: Cell<Hedge>,
}

/// Whether two attempts go on at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Hedge {
    /// They did not, and may yet.
    #[default]
    Not,
    /// They do: if one fails, the other is all that follows.
    Running,
    /// They did, or could not. Once is enough.
    Over,
}

impl Course {
    /// One attempt more, at `endpoint`.
    pub(super) fn begin(&self, endpoint: EndpointId) {
        self.begun.set(self.begun.get() + 1);
        self.tried.set(self.tried.get().and(endpoint));
    }

    /// Two attempts go on at once, or do not any more.
    pub(super) fn set_hedge(&self, hedge: Hedge) {
        self.hedge.set(hedge);
    }
}

/// What one attempt has to know of the others.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) rule: &'a Retry,
    pub(super) is_idempotent: bool,
    pub(super) turn: Turn,
    pub(super) course: &'a Course,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Nobody was asked before.
    First,
    /// The one before has failed: it takes a connection that nobody had before.
    Again,
    /// The one before has not answered yet.
    Beside,
}

impl Trial<'_> {
    /// Whether another one may be made while this one goes on.
    pub(super) fn may_be_hedged(&self) -> bool {
        self.course.hedge.get() == Hedge::Not && !self.is_last()
    }

    /// Where that goes: to somebody who has not been asked. `None`: nobody else is free, or it is not the time.
    pub(super) fn place_beside(&self, wish: Wish) -> Option<Lease> {
        if self.upstream.hold.is_engaged() {
            return None;
        }
        self.upstream.pick_other(Wish {
            tried: self.course.tried.get(),
            ..wish
        })
    }

    /// Whether another one goes on at the same time, which may yet be answered.
    pub(super) fn is_hedged(&self) -> bool {
        self.course.hedge.get() == Hedge::Running
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

    /// Where another attempt would go now after one that was answered at `moment`; `None` within: nowhere. `None`: none is
    /// wanted.
    #[cold]
    pub(super) fn place(&self, moment: Moment, wish: Wish) -> Option<Option<Lease>> {
        let allows = moment.allows(self.is_idempotent, self.rule);
        if allows != Allows::Another || self.is_last() {
            return None;
        }
        let wish = Wish {
            tried: self.course.tried.get(),
            ..wish
        };
        Some(self.upstream.pick(wish).ok())
    }

    /// Whether, and how soon, another attempt follows one that failed at `moment`. `is_back`: there is a request to send. What
    /// is decided is counted.
    #[cold]
    pub(super) fn follow(&self, moment: Moment, is_back: bool) -> Option<Pace> {
        if self.is_hedged() {
            return None;
        }
        let metrics = &self.upstream.metrics;
        let denied = match moment.allows(self.is_idempotent, self.rule) {
            Allows::None => return None,
            Allows::NotTwice => RetryDenied::Unsafe,
            Allows::Another if self.is_last() => RetryDenied::Attempts,
            Allows::Another if !is_back => RetryDenied::Body,
            Allows::Another if self.upstream.may_retry(Instant::now()) => {
                metrics.retries(moment.reason()).inc();
                self.upstream.note_retried(self.course.tried.get());
                return Some(moment.pace());
            }
            Allows::Another => RetryDenied::Budget,
        };
        metrics.retries_denied(denied).inc();
        None
    }

    /// It got a response with this status.
    pub(super) fn was_answered(&self, status: u16) {
        match self.turn {
            Turn::First => {}
            Turn::Again => self.upstream.budget.answered(!self.is_failure(status)),
            // It was one request more, whatever came of it: it is not given back.
            Turn::Beside => self.upstream.budget.answered(false),
        }
    }

    fn is_last(&self) -> bool {
        self.course.begun.get() >= self.rule.attempts
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
    let course = Course::default();
    let mut place = record
        .affinity()
        .pin()
        .filter(|pin| pin.is_lent())
        .and_then(|pin| away_from(pin, upstream, record.wish()));
    loop {
        let (tried, mut turn, mut preferred) = (course.tried.get(), Turn::Again, None);
        if tried.is_empty() {
            turn = Turn::First;
            // It is asked first, and with that the wish is met.
            preferred = record.affinity().pin();
        }
        let wish = Wish {
            tried,
            preferred,
            ..record.wish()
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
        course.begin(lease.endpoint().id());
        record.set_attempt(lease.endpoint());
        if tried.is_empty() {
            mirror::begin(local, request, record);
        }
        let trial = Trial {
            upstream,
            rule,
            is_idempotent,
            turn,
            course: &course,
        };
        let asked = match record.route().hedge {
            // Boxed: requests that are asked for once at a time carry no room for two.
            Some(after) if hedge::suits(trial, request.as_ref(), record) => {
                Box::pin(hedge::ask(local, trial, lease, request, (record, after))).await
            }
            Some(_) | None => ask::<false>(local, trial, lease, request, record).await,
        };
        match asked {
            Ok(response) => {
                trial.was_answered(response.status().as_u16());
                record.settle();
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
                if pace == Pace::Soon {
                    let pause = PAUSE.mul_f64(local.random());
                    // Boxed, so that requests that do not wait carry no room for it.
                    Box::pin(tokio::time::sleep(pause)).await;
                }
            }
        }
    }
}

/// Any other endpoint than the one that a client is kept with; `None` where nobody else is free.
#[cold]
fn away_from(pin: Pin, upstream: &Upstream, wish: Wish) -> Option<Lease> {
    // Where every client is kept nobody else moves it, and all would be lent to the same one.
    upstream.pass_turn(&wish);
    upstream.pick_other(Wish {
        tried: Tried::default().and(pin.id),
        ..wish
    })
}

/// Waits for an endpoint with room.
async fn wait(upstream: &Arc<Upstream>, wish: Wish, record: &mut Record) -> Result<Lease, Denied> {
    let begun = Instant::now();
    let got = upstream.wait(wish).await;
    record.add_queued(begun);
    if got.is_err() && wish.tried.is_empty() {
        upstream.note_refused();
    }
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
