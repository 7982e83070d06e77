//! One request, from arrival to response; the only place where errors become replies.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;

use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

use super::client::Client;
use super::error::ProxyError;
use super::head::{self, Origin};
use super::local::Local;
use super::record::{Record, ResponseBody};
use super::{reply, retry};
use crate::message::canonical_path::canonicalize;
use crate::message::framing::Violation;
use crate::message::upload::{RequestBody, Upload};
use crate::message::{forwarded, hop_by_hop};
use crate::route::Query;
use crate::snapshot::{Action, Listener, Own, Route, View};

/// Serves one request. Total: whatever goes wrong becomes a reply here.
///
/// What needs no waiting is done before the future is made, so that the request, which is large, moves into it once.
pub fn handle(
    local: Rc<Local>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    let (snapshot, listener) = client.snapshot(&local);
    let version = request.version();
    let mut record = Record::begin(&local, &client, (&snapshot, listener), &request);
    let routed = route(&local, &client, &snapshot, &mut request, &mut record);
    let mut request = Some(watch_body(request, &mut record));
    async move {
        let result = match routed {
            Ok(Routed::Forward(route)) => match &route.action {
                Action::Forward(upstream) => {
                    retry::forward(&local, upstream, &mut request, &mut record).await
                }
                Action::Redirect(_) | Action::Respond(_) | Action::NotFound => {
                    Err(ProxyError::NoRoute)
                }
            },
            Ok(Routed::Reply(response)) => Ok(*response),
            Err(error) => Err(error),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => refuse(error, version, &client, &mut record),
        };
        if client.is_last_response() {
            reply::close(version, &mut response);
        }
        record.ride_on(&mut response);
        Ok(response)
    }
}

/// The reply to a request that could not be served.
#[cold]
fn refuse(
    error: ProxyError,
    version: Version,
    client: &Client,
    record: &mut Record,
) -> Response<ResponseBody> {
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

/// Where a request goes.
enum Routed {
    /// To an endpoint, by this route; its head has been made ready for it.
    Forward(Own<Route>),
    /// Nowhere: this is the answer.
    Reply(Box<Response<ResponseBody>>),
}

impl From<Response<ResponseBody>> for Routed {
    fn from(response: Response<ResponseBody>) -> Self {
        Self::Reply(Box::new(response))
    }
}

fn route(
    local: &Local,
    client: &Client,
    snapshot: &View,
    request: &mut Request<Incoming>,
    record: &mut Record,
) -> Result<Routed, ProxyError> {
    if !request.body().is_end_stream() {
        record.begin_upload();
    }
    let listener = record.listener().clone();
    let proxies = &listener.trusted_proxies;
    let trusted = forwarded::is_trusted(client.address().ip(), proxies);
    if trusted {
        let address = forwarded::client_address(request.headers(), client.address(), proxies);
        record.set_client(address);
    }
    let host = head::host(request)?;
    record.set_host(&host);
    within_limits(request, &listener)?;
    if *request.method() == Method::CONNECT {
        return Err(ProxyError::Connect);
    }
    let raw_path = request.uri().path();
    if raw_path == "*" {
        return match *request.method() {
            Method::OPTIONS => Ok(reply::options().into()),
            _ => Err(ProxyError::Malformed),
        };
    }
    let path = canonicalize(raw_path)?;
    if let Cow::Owned(path) = &path {
        record.set_path(path);
    }
    let query = request.uri().query();
    if let Some(port) = listener.redirect_to_https {
        return Ok(reply::redirect_to_https(port, &host, &path, query).into());
    }
    let found = snapshot.router.find(&Query {
        listener: record.listener_index(),
        host: &host,
        method: request.method(),
        headers: request.headers(),
        raw_path,
        path: &path,
    });
    let index = match found {
        Ok(Some(index)) => index,
        Ok(None) => return Err(ProxyError::NoRoute),
        Err(ambiguous) => {
            snapshot.routes[ambiguous.route].metrics.ambiguous.inc();
            return Err(ProxyError::AmbiguousPath);
        }
    };
    let route = snapshot.route(index);
    record.set_route(route);
    let upstream = match &route.action {
        Action::Forward(upstream) => upstream,
        Action::Redirect(redirect) => {
            return Ok(reply::redirect(redirect, &host, &path, query).into());
        }
        Action::Respond(respond) => return Ok(reply::respond(respond).into()),
        Action::NotFound => return Err(ProxyError::NoRoute),
    };
    let canonical = match path {
        Cow::Owned(path) => Some(path),
        Cow::Borrowed(_) => None,
    };
    drop(host);
    let origin = Origin {
        client,
        trusted,
        request_id: record.request_id(),
        via: &local.via,
    };
    head::to_endpoint(request, canonical.as_deref(), origin)?;
    if let Some(scheme) = &upstream.http2 {
        head::to_http2(request, scheme)?;
    }
    Ok(Routed::Forward(route.clone()))
}

/// Limits of a request that do not need its path.
fn within_limits(request: &Request<Incoming>, listener: &Listener) -> Result<(), ProxyError> {
    let limits = &listener.limits;
    let too_large =
        |limit: crate::units::ByteSize| request.body().size_hint().lower() > limit.get();
    if limits.body_bytes.is_some_and(too_large) {
        return Err(ProxyError::BodyTooLarge);
    }
    if request.version() < Version::HTTP_2 {
        // The gate has seen to the rest.
        return Ok(());
    }
    if !hop_by_hop::has_plain_length(request.headers()) {
        return Err(ProxyError::Framing(Violation::ContentLength));
    }
    if request.headers().len() > limits.headers {
        return Err(ProxyError::TooManyFields);
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > limits.uri_bytes.as_usize() {
        return Err(ProxyError::TargetTooLong);
    }
    Ok(())
}

/// The request with the listener's limits on its body.
fn watch_body(request: Request<Incoming>, record: &mut Record) -> Request<RequestBody> {
    request.map(|body| {
        if body.is_end_stream() {
            return RequestBody::empty();
        }
        let listener = record.listener().clone();
        let limit = listener.limits.body_bytes.map(|limit| limit.get());
        let progress = Rc::clone(record.begin_upload());
        let upload = Upload::new(progress, limit, listener.timeouts.body_idle);
        RequestBody::received(body, upload)
    })
}
