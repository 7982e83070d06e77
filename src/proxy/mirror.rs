//! Copies of requests for a mirror: sent beside the request itself, by tasks of their own. What becomes of one is counted and
//! concerns no client; there are never more than so many at once.

use std::rc::Rc;
use std::time::Instant;

use http::header::{self, HeaderValue};
use http::{Request, StatusCode, Uri, Version};
use http_body::Body as _;
use tokio::time::timeout_at;

use super::error::ProxyError;
use super::head;
use super::leftover::{Read, read};
use super::local::Local;
use super::record::Record;
use crate::message::forwarded::X_MIRRORED;
use crate::message::tee::{Copied, Tee};
use crate::message::upload::RequestBody;
use crate::pool::http2::Refusal;
use crate::pool::{Connection, OpenError, SendError};
use crate::snapshot::{Mirror, Own, Route};
use crate::upstream::copies::Place;
use crate::upstream::{Excuse, Lease, Outcome, Upstream, Wish};

/// What is read of an answer, so that its connection can be used again; a longer one costs the connection.
const ANSWER: usize = 256 * 1024;

/// Mirrors `request`, which is about to go to an endpoint for the first time, where its route asks for that. Whoever is refused
/// before has nothing to be copied.
pub(super) fn begin(
    local: &Rc<Local>,
    request: &mut Option<Request<RequestBody>>,
    record: &Record,
) {
    if let Some(request) = request
        && let Some(mirror) = record.route().mirror.as_deref()
    {
        copy(local, mirror, request, record);
    }
}

#[cold]
fn copy(local: &Rc<Local>, mirror: &Mirror, request: &mut Request<RequestBody>, record: &Record) {
    let is_meant = record.asked().is_none()
        && !request.headers().contains_key(X_MIRRORED)
        && mirror.wants(request.method(), local.random());
    if !is_meant {
        return;
    }
    if request.body().size_hint().lower() > mirror.body_bytes as u64 {
        mirror.metrics.too_large.inc();
        return;
    }
    let upstream = &mirror.upstream;
    let place = (!upstream.hold.is_engaged()).then(|| upstream.copies.take());
    let Some(place) = place.flatten() else {
        mirror.metrics.dropped.inc();
        return;
    };
    let Ok(head) = head_of(request, mirror) else {
        mirror.metrics.failed.inc();
        return;
    };
    let copy = Outgoing {
        local: Rc::clone(local),
        place,
        route: record.route().clone(),
        head,
    };
    let body = request.body_mut();
    if body.is_end_stream() {
        copy.send(RequestBody::empty());
        return;
    }
    body.copy_to(Tee::new(mirror.body_bytes, move |copied| match copied {
        Copied::Whole(body) => copy.send(RequestBody::full(body)),
        Copied::TooLarge => copy.metrics(|mirror| mirror.metrics.too_large.inc()),
        Copied::Cut => copy.metrics(|mirror| mirror.metrics.incomplete.inc()),
    }));
}

/// A copy on its way.
struct Outgoing {
    local: Rc<Local>,
    place: Place,
    route: Own<Route>,
    head: Request<()>,
}

impl Outgoing {
    fn metrics(&self, count: impl FnOnce(&Mirror)) {
        if let Some(mirror) = &self.route.mirror {
            count(mirror);
        }
    }

    fn send(self, body: RequestBody) {
        let Self {
            local,
            place,
            route,
            head,
        } = self;
        tokio::task::spawn_local(async move {
            // Until the end.
            let _place = place;
            let Some(mirror) = &route.mirror else { return };
            let until = Instant::now() + mirror.timeout;
            let request = head.map(|()| body);
            let exchange = exchange(&local, &mirror.upstream, request, until);
            match timeout_at(until.into(), exchange).await {
                Ok(Some(())) => mirror.metrics.answered.inc(),
                Ok(None) | Err(_) => mirror.metrics.failed.inc(),
            }
        });
    }
}

/// The head of `request` as the mirror gets it: that which the endpoint gets, marked, for a body that is there as a whole.
fn head_of(request: &Request<RequestBody>, mirror: &Mirror) -> Result<Request<()>, ProxyError> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.headers_mut() = request.headers().clone();
    let uri = request.uri();
    let headers = head.headers_mut();
    for field in [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::TRAILER,
        header::EXPECT,
    ] {
        headers.remove(field);
    }
    headers.insert(X_MIRRORED, HeaderValue::from_static("1"));
    if let Some(authority) = uri.authority() {
        // The endpoint is spoken to in HTTP/2, and the mirror maybe not.
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| ProxyError::Host)?;
        headers.insert(header::HOST, host);
    }
    let target = uri.path_and_query().cloned();
    *head.uri_mut() = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    *head.version_mut() = Version::HTTP_11;
    if let Some(scheme) = &mirror.upstream.http2 {
        head::to_http2(&mut head, scheme)?;
    }
    Ok(head)
}

/// One request to an endpoint of `upstream`, and its answer thrown away. `None`: it failed. An endpoint that has not begun to
/// answer by `until`, when the caller gives up, is to blame for that.
async fn exchange(
    local: &Local,
    upstream: &Upstream,
    mut request: Request<RequestBody>,
    until: Instant,
) -> Option<()> {
    let lease = upstream.pick(Wish::default()).ok()?;
    let endpoint = lease.endpoint();
    let timeouts = &upstream.timeouts;
    let mut sent = Instant::now();
    let (mut connection, mut reused) = match local.pool.checkout(endpoint, sent, (timeouts, false))
    {
        Some(connection) => {
            endpoint.metrics.reuse.inc();
            (connection, true)
        }
        None => open(local, upstream, &lease, until).await?,
    };
    let failed = |error, is_excused| upstream.report(endpoint, failure(error, is_excused));
    let mut is_again = false;
    let response = loop {
        let left = until.saturating_duration_since(sent);
        let limit = (sent, timeouts.response_head.min(left));
        let answered = match &mut connection {
            Connection::Http1(connection) => {
                let answer = std::pin::pin!(connection.send(request, None));
                connection.response(answer, limit, None).await
            }
            Connection::Http2(stream) => stream.exchange(request, limit, (None, 0)).await,
        };
        match answered {
            Ok(response) => break response,
            Err(
                SendError::Unsent(again) | SendError::Refused(Some(again), Refusal::Connection),
            ) if !is_again => {
                // The connection was at its end, or takes no more, and the endpoint is well.
                request = *again;
                is_again = true;
                local.pool.purge(&connection);
                (connection, reused) = open(local, upstream, &lease, until).await?;
                sent = Instant::now();
            }
            Err(SendError::Timeout) => {
                failed(ProxyError::ResponseTimeout, reused);
                return None;
            }
            Err(SendError::Refused(..)) => {
                failed(ProxyError::StreamRefused, reused);
                return None;
            }
            Err(SendError::Unsent(_) | SendError::Failed(_)) => {
                failed(ProxyError::Closed, reused);
                return None;
            }
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        failed(ProxyError::Unasked101, reused);
        return None;
    }
    let now = Instant::now();
    let outcome = Outcome::Answered {
        status: response.status().as_u16(),
        after: now.saturating_duration_since(sent),
        at: now,
    };
    upstream.report(endpoint, outcome);
    if read(response.into_body(), ANSWER).await? == Read::Whole {
        local
            .pool
            .checkin(connection, Instant::now(), timeouts.max_age);
    }
    Some(())
}

/// A connection that was not idle, and whether it was there all the same. One that is not there by `until` is late.
async fn open(
    local: &Local,
    upstream: &Upstream,
    lease: &Lease,
    until: Instant,
) -> Option<(Connection, bool)> {
    let endpoint = lease.endpoint();
    let opening = local.pool.open(endpoint, &upstream.timeouts, None);
    let opened = timeout_at(until.into(), opening).await;
    let error = match opened.unwrap_or(Err(OpenError::Timeout.into())) {
        Ok(opened) => return Some(opened),
        Err(not) if not.is_told || not.error == OpenError::Exhausted => return None,
        Err(not) => ProxyError::from(not.error),
    };
    upstream.report(endpoint, failure(error, false));
    None
}

fn failure(error: ProxyError, is_excused: bool) -> Outcome {
    Outcome::Failed {
        reason: error.reason(),
        // No client waits for the answer.
        excuse: is_excused.then_some(Excuse::Stale { is_made_good: true }),
        is_telling: error.is_telling(is_excused),
    }
}
