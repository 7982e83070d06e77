//! One attempt at one endpoint: a connection, the request over it, the head of the response. Whether another follows is not
//! decided here, and there may be another at the same time.

use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, StatusCode};

use super::error::{Fault, ProxyError};
use super::leftover::Leftover;
use super::local::Local;
use super::moment::Moment;
use super::preface;
use super::record::{FailedAttempt, FromEndpoint, Record, ResponseBody};
use super::retry::{Failed, Trial, Turn};
use super::tunnel::Asked;
use crate::message::hop_by_hop;
use crate::message::pause::PauseTimer;
use crate::message::received::ReceiveError;
use crate::message::upload::{RequestBody, Stage};
use crate::metrics::RetryReason;
use crate::pool::http2::Refusal;
use crate::pool::{Connection, NotOpened, Opened, SendError};
use crate::upstream::{Endpoint, Excuse, Lease, Outcome, Upstream};

/// Connections of one endpoint that may turn out to be at their end before it takes a request. That happens to one of HTTP/1.1;
/// with HTTP/2 to more, where an endpoint ends each after so many requests and many come at once.
const REPLACED: u32 = 16;
/// Those of them that nobody had used before, and that end before their first request or refuse it: it is not their age then.
const NEW: u32 = 2;
/// A client of whose body nothing has come for so long lets the endpoint wait. Lost packets take less to be sent again, and no
/// server known closes sooner.
const STALL: Duration = Duration::from_secs(1);

/// Asks the endpoint of `lease`. Takes `request` when it is sent; where another attempt follows, it is back.
///
/// Made twice, once for requests that are hedged: the other one has a single caller then, and the compiler makes it a part of
/// that, without moving a response once more.
pub(super) async fn ask<const HEDGED: bool>(
    local: &Rc<Local>,
    trial: Trial<'_>,
    lease: Lease,
    request: &mut Option<Request<RequestBody>>,
    record: &Record,
) -> Result<Response<ResponseBody>, Failed> {
    let upstream = trial.upstream;
    let endpoint = lease.endpoint();
    let mut sent = record.ready();
    record.trace_attempt(endpoint, request);
    let asking = |is_reused, since| Asking {
        trial,
        endpoint,
        is_reused,
        since,
    };
    if trial.turn != Turn::First {
        sent = Instant::now();
    }
    let pooled = match trial.turn {
        Turn::First | Turn::Beside => {
            let terms = (&upstream.timeouts, !trial.is_idempotent);
            local.pool.checkout(endpoint, sent, terms)
        }
        Turn::Again => None,
    };
    let (mut connection, mut reused) = match pooled {
        Some(connection) => {
            endpoint.metrics.reuse.inc();
            (connection, true)
        }
        None => {
            let preface = endpoint
                .proxy_protocol()
                .zip(request.as_mut())
                .map(|(version, request)| preface::begin(version, request, record));
            match open(local, (asking(false, sent), record), preface).await {
                Ok(opened) => {
                    record.note_connected(sent);
                    sent = Instant::now();
                    opened
                }
                Err(error) => {
                    return Err(asking(false, sent).not_opened(error, request.is_some(), record));
                }
            }
        }
    };
    let mut ended = Ended::default();
    let response = loop {
        // It may have lost its role while it was connected to.
        if let Some(denied) = upstream.has_lost(endpoint) {
            return Err(Failed {
                error: denied.into(),
                next: None,
                place: None,
            });
        }
        let Some(whole) = request.take() else {
            return Err(Failed {
                error: ProxyError::Closed,
                next: None,
                place: None,
            });
        };
        let upload = record.upload().map(|upload| &**upload);
        let limit = (
            sent,
            trial.patience(record.timeouts(upstream).response_head),
        );
        let waiting = asking(reused, sent).wait(record);
        let answered = match &mut connection {
            Connection::Http1(connection) => {
                let kept = trial.is_idempotent.then_some(trial.rule.body_bytes);
                let answer = pin!(connection.send(whole, kept));
                connection.response(answer, limit, upload).await
            }
            Connection::Http2(stream) => {
                let kept = trial.rule.body_bytes.as_usize();
                stream.exchange(whole, limit, (upload, kept)).await
            }
        };
        waiting.end();
        match answered {
            Ok(response) => break response,
            Err(SendError::Unsent(unsent)) => {
                *request = Some(*unsent);
                // A shared connection may have taken its last request meanwhile, however new it is.
                let may_be_stale = reused || matches!(connection, Connection::Http2(_));
                if !may_be_stale || ended.is_enough(reused) {
                    let failed = (ProxyError::Closed, Some(Moment::Unsent));
                    return Err(asking(reused, sent).failed(failed, true, record));
                }
                endpoint.metrics.stale_retried.inc();
            }
            Err(SendError::Refused(again, by)) => {
                *request = again.map(|again| *again);
                let is_back = request.is_some();
                // The first time it costs nothing; then it is a retry as others are, and takes of what those have.
                let is_over = by == Refusal::Stream || !is_back || ended.is_enough(reused);
                if is_over || (ended.all > 1 && !upstream.may_retry(Instant::now())) {
                    let failed = (ProxyError::StreamRefused, Some(Moment::Unprocessed));
                    return Err(asking(reused, sent).failed(failed, is_back, record));
                }
                // The connection ends, and the endpoint is well.
                upstream.metrics.retries(RetryReason::Refused).inc();
            }
            Err(SendError::Failed(error)) => {
                // The endpoint has ended this one request, on a connection that goes on: nothing was stale.
                let stale = reused && !error.is_reset();
                let error = classify(&error, record);
                let moment = (error == ProxyError::Closed).then_some(Moment::Sent);
                if moment.is_some() {
                    *request = connection.again().map(|again| *again);
                    if stale {
                        local.pool.lose(&connection, Instant::now());
                    }
                }
                let failed = asking(stale, sent).failed((error, moment), request.is_some(), record);
                if stale && error.fault() == Fault::Endpoint {
                    if failed.next.is_some() || trial.is_hedged() {
                        endpoint.metrics.stale_retried.inc();
                    } else {
                        endpoint.metrics.stale_failed.inc();
                    }
                }
                return Err(failed);
            }
            Err(SendError::Timeout) => {
                // The endpoint may still be at it, and counts it until its connection is closed, which is now.
                *request = connection.again().map(|again| *again);
                let failed = (ProxyError::ResponseTimeout, Some(Moment::Silent));
                return Err(asking(reused, sent).failed(failed, request.is_some(), record));
            }
        }
        let was_reused = reused;
        let begun = Instant::now();
        local.pool.purge(&connection);
        // Connections that need a preface are not reused, and so not replaced.
        match open(local, (asking(false, begun), record), None).await {
            Ok(opened) => {
                record.note_connected(begun);
                (connection, reused) = opened;
            }
            Err(error) => {
                return Err(asking(false, sent).not_opened(error, request.is_some(), record));
            }
        }
        if was_reused {
            sent = Instant::now();
        }
    };
    let now = Instant::now();
    let status = response.status().as_u16();
    record.trace_answer(endpoint, status);
    let outcome = Outcome::Answered {
        status,
        after: now.saturating_duration_since(sent_whole(record, sent)),
        at: now,
    };
    upstream.report(endpoint, outcome);
    upstream.hear_version(endpoint, response.status(), response.headers());
    if let Some(moment) = trial.moment_of(status, response.headers()) {
        let asking = asking(reused, sent);
        if let Some(failed) = asking.answered(moment, &mut connection, request, record) {
            // hyper #4176: a connection whose request body was not wanted whole never becomes ready again. One that began with
            // a client's address is not kept for another.
            if !record.upload_is_unread() && endpoint.proxy_protocol().is_none() {
                let left = Leftover {
                    connection,
                    lease,
                    max_age: upstream.timeouts.max_age,
                };
                left.keep(local, response.into_body());
            }
            return Err(failed);
        }
    }
    if !reused {
        // It says the same on all of them.
        endpoint.keep_alive.says(keep_alive(response.headers()));
    }
    connection.settle();
    let mut response = response.map(ResponseBody::received);
    let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_switched
        && !record
            .asked()
            .is_some_and(|asked| asked.is_agreed(response.headers()))
    {
        // Nobody asked for it: the connection says something else from here on.
        return Err(asking(reused, sent).failed((ProxyError::Unasked101, None), false, record));
    }
    if !is_switched
        && response.status().is_success()
        && record.asked().is_some_and(Asked::is_extended)
    {
        // To an HTTP/2 client any success says that the tunnel is there (RFC 8441 §5).
        return Err(asking(reused, sent).failed((ProxyError::NotSwitched, None), false, record));
    }
    if hop_by_hop::strip_response(response.headers_mut()).is_err() {
        return Err(asking(reused, sent).failed((ProxyError::Garbage, None), false, record));
    }
    let pause = PauseTimer::new(record.timeouts(upstream).stream_idle);
    // A connection that began with a client's address is not kept for another.
    let max_age = endpoint
        .proxy_protocol()
        .is_none()
        .then_some(upstream.timeouts.max_age);
    record.set_response(
        FromEndpoint {
            lease,
            connection,
            pause,
            until: record.deadline(),
            max_age,
        },
        now,
    );
    Ok(response)
}

/// What the endpoint says of its patience. Not looked up by hash: one more place that does keeps the compiler from putting the
/// look-ups of every request where they are used.
#[cold]
fn keep_alive(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.iter();
    let (_, value) = fields.find(|(name, _)| name.as_str() == "keep-alive")?;
    Some(value.as_bytes())
}

/// Who was asked, and on what.
#[derive(Clone, Copy)]
struct Asking<'a> {
    trial: Trial<'a>,
    endpoint: &'a Arc<Endpoint>,
    /// On a connection that others had used before.
    is_reused: bool,
    /// Since when.
    since: Instant,
}

impl<'a> Asking<'a> {
    /// It waits from here on, until that is ended or given up.
    fn wait(self, record: &'a Record) -> Waiting<'a> {
        Waiting {
            upstream: self.trial.upstream,
            endpoint: self.endpoint,
            since: self.since,
            record,
        }
    }

    /// It has failed with this error; at a moment that another attempt may follow, or not.
    #[cold]
    fn failed(
        self,
        (error, moment): (ProxyError, Option<Moment>),
        is_back: bool,
        record: &Record,
    ) -> Failed {
        let next = moment.and_then(|moment| self.trial.follow(moment, is_back));
        if error.fault() == Fault::Endpoint {
            let excuse = if self.is_reused && error.may_be_stale() {
                let is_made_good = next.is_some();
                Some(Excuse::Stale { is_made_good })
            } else {
                let is_clients = error.is_clients_choice(|| has_stalled(record, self.since));
                is_clients.then_some(Excuse::Client)
            };
            let outcome = Outcome::Failed {
                reason: error.reason(),
                excuse,
                is_telling: error.is_telling(excuse.is_some()),
            };
            self.trial.upstream.report(self.endpoint, outcome);
        }
        self.note(error.reason(), record);
        Failed {
            error,
            next,
            place: None,
        }
    }

    /// There is no connection.
    #[cold]
    fn not_opened(self, not: NotOpened, is_back: bool, record: &Record) -> Failed {
        let error = ProxyError::from(not.error);
        let moment = (error.fault() == Fault::Endpoint).then_some(Moment::Connecting);
        if !not.is_told {
            return self.failed((error, moment), is_back, record);
        }
        if moment.is_some() {
            // That the endpoint cannot be connected to is told once. Each that has waited for it has waited in vain.
            self.endpoint.metrics.attempts.count_unanswered();
        }
        self.note(error.reason(), record);
        Failed {
            error,
            next: moment.and_then(|moment| self.trial.follow(moment, is_back)),
            place: None,
        }
    }

    /// The response is one that another attempt may follow. `None` where that is not so after all, and it goes to the client.
    #[cold]
    fn answered(
        self,
        moment: Moment,
        connection: &mut Connection,
        request: &mut Option<Request<RequestBody>>,
        record: &Record,
    ) -> Option<Failed> {
        let (error, reason) = match moment {
            Moment::TooEarly => (ProxyError::NoEndpoint, "too_early"),
            _ => (ProxyError::NoEndpoint, "status"),
        };
        if self.trial.is_hedged() {
            // The other one may do better.
            self.trial.was_answered(425);
            self.note(reason, record);
            return Some(Failed {
                error,
                next: None,
                place: None,
            });
        }
        let is_back = connection.can_be_asked_again();
        let place = match is_back {
            true => self.trial.place(moment, record.wish()),
            false => None,
        };
        if let Some(None) = place {
            // Nobody else has room: what the endpoint says is better than nothing.
            return None;
        }
        let next = self.trial.follow(moment, is_back)?;
        self.trial.was_answered(425);
        *request = Some(*connection.again()?);
        self.note(reason, record);
        Some(Failed {
            error,
            next: Some(next),
            place: place.flatten(),
        })
    }

    fn note(self, error: &'static str, record: &Record) {
        record.note_failed(|| FailedAttempt {
            endpoint: Arc::clone(self.endpoint),
            is_reused: Some(self.is_reused),
            error,
            after: self.since.elapsed(),
        });
    }
}

/// An endpoint is waited for. Dropped before that is ended, it has been given up: the client has left, or another endpoint was
/// quicker, or the time of the whole request is over.
struct Waiting<'a> {
    upstream: &'a Upstream,
    endpoint: &'a Endpoint,
    since: Instant,
    record: &'a Record,
}

impl Waiting<'_> {
    fn end(self) {
        mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    #[cold]
    fn drop(&mut self) {
        if self.record.upload_is_unread() {
            // It may wait for the client as much.
            return;
        }
        let now = Instant::now();
        if self.record.deadline().is_some_and(|until| until <= now) {
            let error = ProxyError::RequestTimeout;
            let outcome = Outcome::Failed {
                reason: error.reason(),
                excuse: None,
                is_telling: error.is_telling(false),
            };
            self.upstream.report(self.endpoint, outcome);
            return;
        }
        let asked = sent_whole(self.record, self.since);
        let waited = now.saturating_duration_since(asked);
        self.endpoint.metrics.attempts.count_left(waited);
    }
}

/// Since when nothing but the endpoint is waited for, where it was asked at `sent`: what the client took to send the body is not
/// the endpoint's.
fn sent_whole(record: &Record, sent: Instant) -> Instant {
    let moved = record.upload().and_then(|upload| upload.moved());
    moved.map_or(sent, |moved| sent.max(moved.into_std()))
}

/// Connections of one attempt that have ended before they took its request.
#[derive(Default)]
struct Ended {
    all: u32,
    new: u32,
}

impl Ended {
    /// One more has, which others had used before or not. Whether it is not replaced: they were enough.
    #[cold]
    fn is_enough(&mut self, is_reused: bool) -> bool {
        self.all += 1;
        self.new += u32::from(!is_reused);
        self.all > REPLACED || self.new == NEW
    }
}

/// A connection that was not idle in the pool, and whether it was there all the same; `preface` goes first on a new one. Boxed:
/// with HTTP/1.1 it is rare, and requests shall not carry room for it.
fn open<'a>(
    local: &'a Local,
    (asking, record): (Asking<'a>, &'a Record),
    preface: Option<Vec<u8>>,
) -> Pin<Box<dyn Future<Output = Opened> + 'a>> {
    Box::pin(async move {
        let (upstream, endpoint) = (asking.trial.upstream, asking.endpoint);
        let begun = Instant::now();
        let timeouts = record.timeouts(upstream);
        let waiting = asking.wait(record);
        let opened = local.pool.open(endpoint, &timeouts, preface.as_deref());
        let opened = opened.await;
        waiting.end();
        if matches!(opened, Ok((_, true))) {
            endpoint.metrics.reuse.inc();
        } else {
            upstream
                .metrics
                .connect
                .observe(begun.elapsed().as_secs_f64());
        }
        opened
    })
}

/// Whether the client has let the endpoint wait for its body, since `sent`, until now. Servers close such a connection when
/// they have waited for as long as they like, and nobody but the client has a say in how often that happens.
fn has_stalled(record: &Record, sent: Instant) -> bool {
    let awaited = record.upload().and_then(|upload| upload.awaited());
    awaited.is_some_and(|since| since.into_std().max(sent).elapsed() >= STALL)
}

/// Whose fault it is that a request was sent and no response came.
fn classify(error: &ReceiveError, record: &Record) -> ProxyError {
    match record.upload().map(|upload| upload.stage()) {
        Some(Stage::Idle) => ProxyError::BodyTimeout,
        Some(Stage::TooLarge) => ProxyError::BodyTooLarge,
        Some(Stage::Broken) => ProxyError::BodyBroken,
        Some(Stage::Untouched | Stage::Moving | Stage::Complete) | None if error.is_violation() => {
            ProxyError::Garbage
        }
        Some(Stage::Untouched | Stage::Moving | Stage::Complete) | None => ProxyError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_new_connections_that_end_at_once_are_replaced_once_and_old_ones_often() {
        let mut ended = Ended::default();
        assert!(!ended.is_enough(false));
        assert!(ended.is_enough(false));

        let mut ended = Ended::default();
        assert!((0..REPLACED).all(|_| !ended.is_enough(true)));
        assert!(ended.is_enough(true));
    }
}
