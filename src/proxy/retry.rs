//! An exchange with endpoints: which attempts are made, and whether a failed one may be followed by another.
//!
//! An attempt is repeated only where nothing of the request can have been acted on: the connection could not be opened or not
//! a byte was written; or, over HTTP/2, the endpoint says that it has not processed it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode};

use super::error::{Fault, ProxyError};
use super::local::Local;
use super::preface;
use super::record::{FromEndpoint, Record, ResponseBody};
use super::tunnel::Asked;
use crate::config::UpstreamTimeouts;
use crate::message::hop_by_hop;
use crate::message::pause::PauseTimer;
use crate::message::upload::{RequestBody, Stage};
use crate::pool::http2::{Refusal, is_violation};
use crate::pool::{Connection, OpenError, SendError, http1};
use crate::upstream::{Denied, Endpoint, EndpointId, Lease, Outcome, Upstream, Wish};

/// Endpoints asked for one request, at most.
const ATTEMPTS: u32 = 2;

/// Connections of one endpoint that may turn out to be at their end before it takes a request. That happens to one of HTTP/1.1;
/// with HTTP/2 to more, where an endpoint ends each after so many requests and many come at once.
const REPLACED: u32 = 16;

/// An attempt that failed.
struct Failed {
    error: ProxyError,
    /// Nothing of the request was sent, it is back in its place: another endpoint may be asked.
    unsent: bool,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            unsent: false,
        }
    }
}

/// Asks an endpoint of `upstream`; another one where the first could not be asked. Takes `request` when it is sent.
pub async fn forward(
    local: &Rc<Local>,
    upstream: &Arc<Upstream>,
    request: &mut Option<Request<RequestBody>>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, ProxyError> {
    let mut failed: Option<(ProxyError, EndpointId)> = None;
    for attempt in 1..=ATTEMPTS {
        let wish = Wish {
            tried: failed.map(|(_, tried)| tried),
            preferred: record.affinity().pin(),
            key: record.hash_key(),
        };
        let picked = match upstream.pick(wish) {
            // Boxed: it is rare, and requests shall not carry room for it.
            Err(Denied::Full) => Box::pin(wait(upstream, wish, record)).await,
            picked => picked,
        };
        let lease = match picked {
            Ok(lease) => lease,
            // What went wrong before says more.
            Err(denied) => {
                return Err(failed.map_or_else(|| denied.into(), |(error, _)| error));
            }
        };
        let endpoint = lease.endpoint().id();
        record.set_attempt(lease.endpoint());
        match ask(local, upstream, lease, request, record).await {
            Ok(response) => return Ok(response),
            Err(Failed {
                error,
                unsent: true,
            }) if attempt < ATTEMPTS => {
                match error {
                    ProxyError::Closed => upstream.metrics.retries_unsent.inc(),
                    ProxyError::StreamRefused => upstream.metrics.retries_refused.inc(),
                    _ => upstream.metrics.retries_connect.inc(),
                }
                failed = Some((error, endpoint));
            }
            Err(Failed { error, .. }) => return Err(error),
        }
    }
    Err(failed.map_or(ProxyError::NoEndpoint, |(error, _)| error))
}

/// Waits for an endpoint with room.
async fn wait(upstream: &Arc<Upstream>, wish: Wish, record: &mut Record) -> Result<Lease, Denied> {
    let begun = Instant::now();
    let got = upstream.wait(wish).await;
    record.add_queued(begun.elapsed());
    got
}

/// One attempt at the endpoint of `lease`.
async fn ask(
    local: &Rc<Local>,
    upstream: &Upstream,
    lease: Lease,
    request: &mut Option<Request<RequestBody>>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, Failed> {
    let endpoint = lease.endpoint();
    let asking = |is_reused| Asking {
        upstream,
        endpoint,
        is_reused,
    };
    let mut sent = record.begun();
    let pooled = local
        .pool
        .checkout(endpoint, sent, upstream.timeouts.pool_idle);
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
            let opened = open(local, asking(false), record.timeouts(upstream), preface).await?;
            sent = Instant::now();
            (opened.connection, opened.reused)
        }
    };
    let mut replaced = 0;
    let response = loop {
        let Some(whole) = request.take() else {
            return Err(ProxyError::Closed.into());
        };
        let upload = record.upload().map(|upload| &**upload);
        let limit = (sent, record.timeouts(upstream).response_head);
        let answered = match &mut connection {
            Connection::Http1(connection) => {
                let answer = pin!(connection.send(whole));
                connection.response(answer, limit, upload).await
            }
            Connection::Http2(stream) => stream.exchange(whole, limit, upload).await,
        };
        match answered {
            Ok(response) => break response,
            Err(SendError::Unsent(unsent)) => {
                *request = Some(*unsent);
                // A shared connection may have taken its last request meanwhile, however new it is.
                let may_be_stale = reused || matches!(connection, Connection::Http2(_));
                if !may_be_stale || replaced == REPLACED {
                    return Err(asking(reused).failed(ProxyError::Closed, true));
                }
                endpoint.metrics.stale_retried.inc();
            }
            Err(SendError::Refused(again, by)) => {
                *request = again.map(|again| *again);
                let unsent = request.is_some();
                if by == Refusal::Stream || !unsent || replaced == REPLACED {
                    return Err(asking(reused).failed(ProxyError::StreamRefused, unsent));
                }
                // The connection ends, and the endpoint is well.
                upstream.metrics.retries_refused.inc();
            }
            Err(SendError::Failed(error)) => {
                let error = classify(&error, record);
                if error.fault() != Fault::Endpoint {
                    return Err(error.into());
                }
                if reused {
                    endpoint.metrics.stale_failed.inc();
                }
                return Err(asking(reused).failed(error, false));
            }
            Err(SendError::Timeout) => {
                return Err(asking(reused).failed(ProxyError::ResponseTimeout, false));
            }
        }
        replaced += 1;
        local.pool.purge(&connection);
        // Connections that need a preface are not reused, and so not replaced.
        let opened = open(local, asking(false), record.timeouts(upstream), None).await?;
        (connection, reused) = (opened.connection, opened.reused);
        sent = Instant::now();
    };
    let now = Instant::now();
    let outcome = Outcome::Answered {
        status: response.status().as_u16(),
        after: now.saturating_duration_since(sent),
        at: now,
    };
    upstream.report(endpoint, outcome);
    let mut response = response.map(ResponseBody::received);
    let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_switched
        && !record
            .asked()
            .is_some_and(|asked| asked.is_agreed(response.headers()))
    {
        // Nobody asked for it: the connection says something else from here on.
        return Err(asking(reused).failed(ProxyError::Unasked101, false));
    }
    if !is_switched
        && response.status().is_success()
        && record.asked().is_some_and(Asked::is_extended)
    {
        // To an HTTP/2 client any success says that the tunnel is there (RFC 8441 §5).
        return Err(asking(reused).failed(ProxyError::NotSwitched, false));
    }
    if hop_by_hop::strip_response(response.headers_mut()).is_err() {
        return Err(asking(reused).failed(ProxyError::Garbage, false));
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

/// Who was asked, and on what.
#[derive(Clone, Copy)]
struct Asking<'a> {
    upstream: &'a Upstream,
    endpoint: &'a Arc<Endpoint>,
    /// On a connection that others had used before.
    is_reused: bool,
}

impl Asking<'_> {
    /// The endpoint failed.
    fn failed(self, error: ProxyError, unsent: bool) -> Failed {
        let outcome = Outcome::Failed {
            reason: error.reason(),
            is_reused: self.is_reused,
            is_telling: error.is_telling(self.is_reused),
        };
        self.upstream.report(self.endpoint, outcome);
        Failed { error, unsent }
    }
}

/// A connection that was not idle in the pool.
struct Opened {
    connection: Connection,
    /// It was there already, for other requests.
    reused: bool,
}

/// A new connection, `preface` first, or over HTTP/2 a share in one. Boxed: with HTTP/1.1 it is rare, and requests shall not
/// carry room for it.
fn open<'a>(
    local: &'a Local,
    asking: Asking<'a>,
    timeouts: UpstreamTimeouts,
    preface: Option<Vec<u8>>,
) -> Pin<Box<dyn Future<Output = Result<Opened, Failed>> + 'a>> {
    Box::pin(async move {
        let Asking {
            upstream, endpoint, ..
        } = asking;
        let begun = Instant::now();
        let Some(address) = endpoint.socket_address() else {
            return Err(asking.failed(ProxyError::ConnectFailed, true));
        };
        let opened = if endpoint.contact().http2 {
            let shared = local.pool.share(endpoint, address, &timeouts).await;
            shared.map(|(connection, reused)| Opened { connection, reused })
        } else {
            let opened =
                http1::Connection::open(endpoint, address, timeouts.connect, preface.as_deref())
                    .await;
            opened.map(|connection| Opened {
                connection: Connection::Http1(connection),
                reused: false,
            })
        };
        if opened.as_ref().is_ok_and(|opened| opened.reused) {
            endpoint.metrics.reuse.inc();
        } else {
            upstream
                .metrics
                .connect
                .observe(begun.elapsed().as_secs_f64());
        }
        opened.map_err(|error| match error {
            OpenError::Timeout => asking.failed(ProxyError::ConnectTimeout, true),
            OpenError::Refused => asking.failed(ProxyError::ConnectRefused, true),
            OpenError::Failed => asking.failed(ProxyError::ConnectFailed, true),
            OpenError::Certificate => asking.failed(ProxyError::TlsCertificate, true),
            OpenError::Protocol => asking.failed(ProxyError::WrongProtocol, true),
            OpenError::Tls => asking.failed(ProxyError::TlsFailed, true),
            OpenError::Exhausted => ProxyError::Exhausted.into(),
        })
    })
}

/// Whose fault it is that a request was sent and no response came.
fn classify(error: &hyper::Error, record: &Record) -> ProxyError {
    match record.upload().map(|upload| upload.stage()) {
        Some(Stage::Idle) => ProxyError::BodyTimeout,
        Some(Stage::TooLarge) => ProxyError::BodyTooLarge,
        Some(Stage::Broken) => ProxyError::BodyBroken,
        Some(Stage::Untouched | Stage::Moving | Stage::Complete) | None
            if error.is_parse() || is_violation(error) =>
        {
            ProxyError::Garbage
        }
        Some(Stage::Untouched | Stage::Moving | Stage::Complete) | None => ProxyError::Closed,
    }
}
