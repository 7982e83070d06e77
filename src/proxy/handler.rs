//! One request, from arrival to response; the only place where errors become replies.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

use super::connection::Client;
use super::error::ProxyError;
use super::head::{self, Origin};
use super::local::{Local, RequestId};
use super::record::{Record, ResponseBody};
use super::{reply, retry};
use crate::message::canonical_path::canonicalize;
use crate::message::forwarded;
use crate::message::upload::{Progress, RequestBody, Upload};
use crate::route::Query;
use crate::snapshot::{Action, Listener, Snapshot};
use crate::upstream::Upstream;

/// Serves one request. Total: whatever goes wrong becomes a reply here.
pub async fn handle(
    local: Rc<Local>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let snapshot = local.snapshot();
    let version = request.version();
    let id = local.request_id();
    let mut record = Record::begin(&local, &client, &snapshot, &request, id);
    let mut response =
        match route_and_forward(&local, &client, &snapshot, request, (&mut record, id)).await {
            Ok(response) => response,
            Err(error) => {
                record.set_error(error);
                let mut response = reply::error(error);
                let unread = record.upload_is_unread();
                if unread || error.status() == StatusCode::BAD_REQUEST {
                    // What is left of the request's body would be read as the next request; and who sends what cannot be
                    // understood may be understood differently next time.
                    reply::close(version, &mut response);
                }
                if unread {
                    client.linger();
                }
                response
            }
        };
    if client.is_last_response(&local) {
        reply::close(version, &mut response);
    }
    record.ride_on(response)
}

async fn route_and_forward(
    local: &Rc<Local>,
    client: &Rc<Client>,
    snapshot: &Snapshot,
    request: Request<Incoming>,
    (record, id): (&mut Record, RequestId),
) -> Result<Response<ResponseBody>, ProxyError> {
    let (mut parts, body) = request.into_parts();
    let (listener, listener_index) = record.listener();
    let listener = Arc::clone(listener);
    let body = watch_body(body, &listener, record)?;

    let host = head::host(&parts)?;
    record.set_host(&host);
    if parts.version >= Version::HTTP_2 {
        within_limits(&parts, &listener)?;
    }
    if parts.method == Method::CONNECT {
        return Err(ProxyError::Connect);
    }
    if parts.uri.path() == "*" {
        return if parts.method == Method::OPTIONS {
            Ok(reply::options())
        } else {
            Err(ProxyError::Malformed)
        };
    }
    let raw_path = parts.uri.path();
    let path = canonicalize(raw_path)?;
    if let Cow::Owned(path) = &path {
        record.set_path(path);
    }
    if let Some(port) = listener.redirect_to_https {
        return Ok(reply::redirect_to_https(
            port,
            &host,
            &path,
            parts.uri.query(),
        ));
    }

    let query = Query {
        listener: listener_index,
        host: &host,
        method: &parts.method,
        headers: &parts.headers,
        raw_path,
        path: &path,
    };
    let route = match snapshot.router.find(&query) {
        Ok(Some(index)) => &snapshot.routes[index],
        Ok(None) => return Err(ProxyError::NoRoute),
        Err(ambiguous) => {
            snapshot.routes[ambiguous.route].metrics.ambiguous.inc();
            return Err(ProxyError::AmbiguousPath);
        }
    };
    record.set_route(route);
    match &route.action {
        Action::Forward(upstream) => {
            let trusted = forwarded::is_trusted(client.address().ip(), &listener.trusted_proxies);
            if trusted {
                record.set_client(forwarded::client_address(
                    &parts.headers,
                    client.address(),
                    &listener.trusted_proxies,
                ));
            }
            let canonical = match path {
                Cow::Owned(path) => Some(path),
                Cow::Borrowed(_) => None,
            };
            drop(host);
            let origin = Origin {
                client,
                trusted,
                request_id: id,
                instance: &local.instance,
            };
            head::to_endpoint(&mut parts, &body, canonical.as_deref(), origin)?;
            let upstream: &Arc<Upstream> = upstream;
            retry::forward(local, upstream, Request::from_parts(parts, body), record).await
        }
        Action::Redirect(redirect) => {
            Ok(reply::redirect(redirect, &host, &path, parts.uri.query()))
        }
        Action::Respond(respond) => Ok(reply::respond(respond)),
        Action::NotFound => Err(ProxyError::NoRoute),
    }
}

/// A request's body with the listener's limits on it.
fn watch_body(
    body: Incoming,
    listener: &Listener,
    record: &mut Record,
) -> Result<RequestBody, ProxyError> {
    if body.is_end_stream() {
        return Ok(RequestBody::empty());
    }
    let progress = Rc::new(Progress::default());
    record.upload = Some(Rc::clone(&progress));
    let limit = listener.limits.body_bytes.map(|limit| limit.get());
    if limit.is_some_and(|limit| body.size_hint().lower() > limit) {
        return Err(ProxyError::BodyTooLarge);
    }
    let upload = Upload::new(progress, limit, listener.timeouts.body_idle);
    Ok(RequestBody::received(body).with_guard(upload))
}

/// What the gate has checked already on an HTTP/1 connection.
fn within_limits(parts: &http::request::Parts, listener: &Listener) -> Result<(), ProxyError> {
    if parts.headers.len() > listener.limits.headers {
        return Err(ProxyError::TooManyFields);
    }
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > listener.limits.uri_bytes.as_usize() {
        return Err(ProxyError::TargetTooLong);
    }
    Ok(())
}
