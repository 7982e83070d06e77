//! A second attempt beside one that does not answer in time, at another endpoint. Whoever answers first is passed on; the other
//! is let go of, as if its client had left, and nothing is held against its endpoint.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::time::sleep;

use super::forward;
use super::local::Local;
use super::record::{FailedAttempt, Record, ResponseBody};
use super::retry::{Failed, Hedge, Trial, Turn};
use crate::config;
use crate::message::upload::RequestBody;
use crate::metrics::HedgeResult;
use crate::upstream::{Endpoint, Lease, Upstream};

/// What the access log calls an attempt that was let go of because the other one had answered.
pub(super) const OUTRUN: &str = "outrun";

/// Whether `request` may be sent to two endpoints at the same time: it changes nothing and has no body.
pub(super) fn suits(
    trial: Trial<'_>,
    request: Option<&Request<RequestBody>>,
    record: &Record,
) -> bool {
    trial.may_be_hedged()
        && record.asked().is_none()
        && request.is_some_and(|request| {
            config::Hedge::takes(request.method()) && request.body().is_empty()
        })
}

/// As [`forward::ask`], with another attempt at the same time from `after` on.
pub(super) async fn ask(
    local: &Rc<Local>,
    trial: Trial<'_>,
    lease: Lease,
    request: &mut Option<Request<RequestBody>>,
    (record, after): (&Record, Duration),
) -> Result<Response<ResponseBody>, Failed> {
    let mut copy = request.as_ref().map(again);
    let answer = {
        let begun = Instant::now();
        let one = Arc::clone(lease.endpoint());
        let mut first = pin!(forward::ask::<true>(local, trial, lease, request, record));
        tokio::select! {
            biased;
            answer = &mut first => return answer,
            () = sleep(after) => {}
        }
        let Some(lease) = place(trial, record) else {
            trial.course.set_hedge(Hedge::Over);
            return first.await;
        };
        let other = Arc::clone(lease.endpoint());
        let mut race = Race::begin(trial, record, &other);
        let beside = Trial {
            turn: Turn::Beside,
            ..trial
        };
        let hedged = Instant::now();
        let mut second = pin!(forward::ask::<true>(
            local, beside, lease, &mut copy, record
        ));
        let (answer, is_second) = tokio::select! {
            biased;
            answer = &mut first => (answer, false),
            answer = &mut second => (answer, true),
        };
        // What there is to win or to lose is decided: whoever fails from here on fails alone.
        trial.course.set_hedge(Hedge::Over);
        match (answer, is_second) {
            (Ok(response), false) => {
                record.set_endpoint(&one);
                outrun(record, &other, hedged);
                Ok(response)
            }
            (Ok(response), true) => {
                race.result = HedgeResult::Won;
                outrun(record, &one, begun);
                Ok(response)
            }
            (Err(_), false) => {
                let answer = second.await;
                race.result = match &answer {
                    Ok(_) => HedgeResult::Won,
                    Err(_) => HedgeResult::Failed,
                };
                answer
            }
            (Err(_), true) => {
                race.result = HedgeResult::Failed;
                record.set_endpoint(&one);
                first.await
            }
        }
    };
    if request.is_none() {
        *request = copy;
    }
    answer
}

/// The same request, which has no body.
fn again(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut again = Request::new(RequestBody::empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    again
}

/// Where the second attempt goes, if there may be one. What keeps it back is counted.
fn place(trial: Trial<'_>, record: &Record) -> Option<Lease> {
    let upstream = trial.upstream;
    let Some(lease) = trial.place_beside(record.wish()) else {
        upstream.metrics.hedges(HedgeResult::NoEndpoint).inc();
        return None;
    };
    if !upstream.may_retry(Instant::now()) {
        upstream.metrics.hedges(HedgeResult::Budget).inc();
        return None;
    }
    Some(lease)
}

/// The attempt at `endpoint`, begun at `since`, is not waited for.
fn outrun(record: &Record, endpoint: &Arc<Endpoint>, since: Instant) {
    record.note_failed(|| FailedAttempt {
        endpoint: Arc::clone(endpoint),
        is_reused: None,
        error: OUTRUN,
        after: since.elapsed(),
    });
}

/// Two attempts at once; counted when they have ended, also where the client has left before.
struct Race<'a> {
    upstream: &'a Upstream,
    result: HedgeResult,
}

impl<'a> Race<'a> {
    /// The second one begins, at `endpoint`.
    fn begin(trial: Trial<'a>, record: &Record, endpoint: &Arc<Endpoint>) -> Self {
        trial.course.set_hedge(Hedge::Running);
        trial.course.begin(endpoint.id());
        record.set_attempt(endpoint);
        Self {
            upstream: trial.upstream,
            result: HedgeResult::Outrun,
        }
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        self.upstream.metrics.hedges(self.result).inc();
    }
}
