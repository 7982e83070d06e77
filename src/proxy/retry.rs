//! An exchange with endpoints: which attempts are made, and whether a failed one may be followed by another.
//!
//! An attempt is repeated only where nothing of the request can have been acted on: the connection could not be
//! opened (another endpoint is asked), or not a byte was written (`semantics`: rows A and B of the retry matrix).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode};

use super::error::ProxyError;
use super::local::Local;
use super::record::{Exchange, FromEndpoint, Record, ResponseBody};
use crate::message::hop_by_hop;
use crate::message::pause::PauseTimer;
use crate::message::upload::{RequestBody, Stage};
use crate::net::connect::ConnectError;
use crate::pool::{Connection, SendError};
use crate::upstream::{Endpoint, Lease, Upstream};

/// Endpoints asked for one request, at most.
const ATTEMPTS: u32 = 2;

/// An attempt that failed.
struct Failed {
    error: ProxyError,
    /// The request, where nothing of it was sent: another endpoint may be asked.
    unsent: Option<Request<RequestBody>>,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            unsent: None,
        }
    }
}

/// Asks an endpoint of `upstream`; another one where the first could not be asked.
pub async fn forward(
    local: &Rc<Local>,
    upstream: &Arc<Upstream>,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, ProxyError> {
    let mut failed: Option<(ProxyError, _)> = None;
    for attempt in 1..=ATTEMPTS {
        let tried = failed.map(|(_, endpoint)| endpoint);
        let Some(lease) = upstream.pick(tried) else {
            return Err(failed.map_or(ProxyError::NoEndpoint, |(error, _)| error));
        };
        let endpoint = Arc::clone(lease.endpoint());
        record.set_attempt(&endpoint);
        match ask(local, upstream, lease, request, record).await {
            Ok(response) => return Ok(response),
            Err(Failed {
                error,
                unsent: Some(unsent),
            }) if attempt < ATTEMPTS => {
                match error {
                    ProxyError::Closed => upstream.metrics.retries_unsent.inc(),
                    _ => upstream.metrics.retries_connect.inc(),
                }
                failed = Some((error, endpoint.id()));
                request = unsent;
            }
            Err(Failed { error, .. }) => return Err(error),
        }
    }
    // The last attempt has returned.
    Err(failed.map_or(ProxyError::NoEndpoint, |(error, _)| error))
}

/// One attempt at the endpoint of `lease`.
async fn ask(
    local: &Rc<Local>,
    upstream: &Upstream,
    lease: Lease,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, Failed> {
    let endpoint = lease.endpoint();
    let timeouts = &upstream.timeouts;
    let mut now = Instant::now();
    let pooled = local.pool.checkout(endpoint, now, timeouts.pool_idle);
    let mut reused = pooled.is_some();
    let mut connection = match pooled {
        Some(connection) => {
            endpoint.metrics.reuse.inc();
            connection
        }
        None => match open(upstream, endpoint).await {
            Ok(connection) => connection,
            Err(error) => {
                return Err(Failed {
                    error,
                    unsent: Some(request),
                });
            }
        },
    };
    let response = loop {
        now = Instant::now();
        match connection
            .send(request, timeouts.response_head, record.upload.as_deref())
            .await
        {
            Ok(response) => break response,
            Err(SendError::Unsent(unsent)) if reused => {
                // The endpoint closed it; it will have closed others with it.
                endpoint.metrics.stale_retried.inc();
                local.pool.purge(endpoint.id());
                request = *unsent;
                reused = false;
                connection = match open(upstream, endpoint).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        return Err(Failed {
                            error,
                            unsent: Some(request),
                        });
                    }
                };
            }
            Err(SendError::Unsent(unsent)) => {
                endpoint.metrics.count_failure(ProxyError::Closed.reason());
                return Err(Failed {
                    error: ProxyError::Closed,
                    unsent: Some(*unsent),
                });
            }
            Err(SendError::Failed(error)) => {
                let error = classify(&error, record);
                if error.fault() == super::error::Fault::Endpoint {
                    endpoint.metrics.count_failure(error.reason());
                    if reused {
                        endpoint.metrics.stale_failed.inc();
                    }
                }
                return Err(error.into());
            }
            Err(SendError::Timeout) => {
                endpoint
                    .metrics
                    .count_failure(ProxyError::ResponseTimeout.reason());
                return Err(ProxyError::ResponseTimeout.into());
            }
        }
    };
    let head = Instant::now();
    endpoint
        .metrics
        .response
        .observe(head.saturating_duration_since(now).as_secs_f64());
    endpoint.metrics.count(response.status().as_u16());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it: `Upgrade` is not passed on.
        endpoint
            .metrics
            .count_failure(ProxyError::Unasked101.reason());
        return Err(ProxyError::Unasked101.into());
    }
    let (mut parts, body) = response.into_parts();
    if hop_by_hop::strip_response(&mut parts.headers).is_err() {
        endpoint.metrics.count_failure(ProxyError::Garbage.reason());
        return Err(ProxyError::Garbage.into());
    }
    record.set_response_head(head);
    let exchange = Exchange::new(FromEndpoint {
        pause: PauseTimer::new(timeouts.stream_idle),
        max_age: timeouts.max_age,
        lease,
        connection,
    });
    Ok(Response::from_parts(
        parts,
        ResponseBody::received(body).with_guard(exchange),
    ))
}

async fn open(upstream: &Upstream, endpoint: &Arc<Endpoint>) -> Result<Connection, ProxyError> {
    let begun = Instant::now();
    let opened = match endpoint.socket_address() {
        Some(address) => Connection::open(endpoint, address, upstream.timeouts.connect).await,
        None => return Err(ProxyError::ConnectFailed),
    };
    upstream
        .metrics
        .connect
        .observe(begun.elapsed().as_secs_f64());
    opened.map_err(|error| {
        let error = match error {
            ConnectError::Timeout { .. } => ProxyError::ConnectTimeout,
            ConnectError::Failed { source, .. }
                if source.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                ProxyError::ConnectRefused
            }
            ConnectError::Failed { .. } => ProxyError::ConnectFailed,
        };
        endpoint.metrics.count_failure(error.reason());
        error
    })
}

/// Whose fault it is that a request was sent and no response came.
fn classify(error: &hyper::Error, record: &Record) -> ProxyError {
    match record.upload.as_ref().map(|upload| upload.stage()) {
        Some(Stage::Idle) => ProxyError::BodyTimeout,
        Some(Stage::TooLarge) => ProxyError::BodyTooLarge,
        Some(Stage::Broken) => ProxyError::BodyBroken,
        Some(Stage::Untouched | Stage::Moving | Stage::Complete) | None if error.is_parse() => {
            ProxyError::Garbage
        }
        Some(Stage::Untouched | Stage::Moving | Stage::Complete) | None => ProxyError::Closed,
    }
}
