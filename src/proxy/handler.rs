//! One request, from arrival to response; the only place where errors become replies.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use http::{Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout_at;

use super::client::Client;
use super::error::ProxyError;
use super::head::{self, Origin};
use super::local::Local;
use super::record::{Record, ResponseBody};
use super::tunnel::{self, Asked};
use super::{hash_key, hold, reply, retry};
use crate::config::Rewrite;
use crate::filter;
use crate::filter::headers::Facts;
use crate::message::canonical_path::canonicalize;
use crate::message::expectation::Expectation;
use crate::message::framing::Violation;
use crate::message::upload::{Rate, RequestBody, Upload};
use crate::message::{forwarded, grpc, hop_by_hop};
use crate::route::Query;
use crate::snapshot::{Action, Listener, Own, Route, Snapshot, View};

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
    if routed.is_err() {
        record.set_accept(request.headers().get(header::ACCEPT).cloned());
    }
    let mut request = Some(watch_body(request, version, &snapshot, &mut record));
    async move {
        let result = match routed {
            Ok(Routed::Forward(route, member)) => match route.action.upstream(member) {
                Some(upstream) if upstream.hold.is_engaged() => {
                    let deadline = record.deadline();
                    let whither = (upstream, route.retry.get(member as usize));
                    let held = hold::forward(&local, whither, &mut request, &mut record);
                    within(deadline, held).await
                }
                Some(upstream) => {
                    let deadline = record.deadline();
                    let whither = (upstream, route.retry.get(member as usize));
                    // Made where it is awaited: moving it there would be a copy.
                    if deadline.is_none() {
                        retry::forward(&local, whither, &mut request, &mut record).await
                    } else {
                        let answer = retry::forward(&local, whither, &mut request, &mut record);
                        within(deadline, answer).await
                    }
                }
                None => Err(ProxyError::NoRoute),
            },
            Ok(Routed::Reply(response)) => Ok(*response),
            Err(error) => Err(error),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => refuse(error, version, &client, &mut record),
        };
        if let Some(cookie) = record.affinity_cookie(response.status()) {
            let headers = response.headers_mut();
            headers.append(header::SET_COOKIE, cookie);
        }
        if let Some(cookie) = record.written_cookie() {
            let headers = response.headers_mut();
            headers.append(header::SET_COOKIE, cookie);
        }
        if let Some(hsts) = &record.listener().hsts {
            reply::secure(response.headers_mut(), hsts);
        }
        // Last, so that a route may say something else than its listener.
        if let Some(filters) = &record.route().filters
            && let Some(changes) = &filters.response
        {
            filter::headers::apply(changes, response.headers_mut(), record.facts());
        }
        if let Some(asked) = record.take_asked() {
            // Boxed, so that requests that ask for nothing keep no room for it.
            let begun = Box::pin(tunnel::begin(asked, response, record, (&local, &client))).await;
            let (as_any_other, Some(of_it)) = begun else {
                return Ok(begun.0);
            };
            (response, record) = (as_any_other, of_it);
        }
        if client.is_last_response() || record.body_was_not_asked_for() {
            reply::close(version, &mut response);
        }
        record.ride_on(&mut response);
        Ok(response)
    }
}

/// What comes of `answer`, unless it takes longer than its route lets it. Boxed, so that requests that are not held and have no
/// such limit keep no room for it.
fn within<'a>(
    deadline: Option<Instant>,
    answer: impl Future<Output = Result<Response<ResponseBody>, ProxyError>> + 'a,
) -> Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, ProxyError>> + 'a>> {
    Box::pin(async move {
        let Some(deadline) = deadline else {
            return answer.await;
        };
        let in_time = timeout_at(deadline.into(), answer).await;
        in_time.unwrap_or(Err(ProxyError::RequestTimeout))
    })
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
    let mut response = if record.is_grpc() {
        reply::grpc_error(error)
    } else {
        reply::error(error, record.asker())
    };
    let unread = record.upload_is_unread();
    if unread || error == ProxyError::Connect || error.status() == StatusCode::BAD_REQUEST {
        // What is left of the request's body would be read as the next request, as would what follows a CONNECT
        // whose sender did not wait; and who sends what cannot be understood may be understood differently next time.
        reply::close(version, &mut response);
    }
    if unread {
        client.linger();
    }
    response
}

/// Where a request goes.
enum Routed {
    /// To an endpoint of this upstream among those of this route; its head has been made ready for it.
    Forward(Own<Route>, u32),
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
        if request.version() >= Version::HTTP_2 && grpc::is_call(request.headers()) {
            record.set_grpc();
        }
    }
    let listener = record.listener().clone();
    let proxies = &listener.trusted_proxies;
    let trusted = forwarded::is_trusted(client.address().ip(), proxies);
    let mut client_ip = client.address().ip();
    if trusted {
        client_ip = forwarded::client_address(request.headers(), client.address(), proxies);
        record.set_client(client_ip);
    }
    let host = head::host(request)?;
    record.set_host(&host);
    if !client.may_ask_for(&host) {
        return Err(ProxyError::Misdirected);
    }
    within_limits(request, &listener)?;
    let is_extended = tunnel::is_extended(request);
    if *request.method() == Method::CONNECT && !is_extended {
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
    let asked = Query {
        listener: record.listener_index(),
        host: &host,
        method: if is_extended {
            &Method::GET
        } else {
            request.method()
        },
        headers: request.headers(),
        raw_path,
        path: &path,
    };
    let index = match snapshot.router.find(&asked) {
        Ok(Some(index)) => index,
        Ok(None) => return Err(ProxyError::NoRoute),
        Err(ambiguous) => {
            snapshot.routes[ambiguous.route].metrics.ambiguous.inc();
            return Err(ProxyError::AmbiguousPath);
        }
    };
    let route = snapshot.route(index);
    record.set_route(route);
    if let Some(limits) = &route.limits {
        let place = limits.admit(client_ip, request.headers())?;
        record.set_place(place);
    }
    let declared = request.body().size_hint().lower();
    if record
        .body_limit()
        .is_some_and(|limit| declared > limit.get())
    {
        return Err(ProxyError::BodyTooLarge);
    }
    if is_extended && route.action.upstream(0).is_none() {
        // A success of ours would say that there is a tunnel.
        return Err(ProxyError::Upgrade);
    }
    let filters = route.filters.as_deref();
    if filters.is_some_and(|filters| filters.has_variables) {
        let given = request.headers().get(forwarded::X_REQUEST_ID);
        record.set_facts(Facts {
            client_ip,
            host: host.as_ref().into(),
            path: path.as_ref().into(),
            request_id: given
                .filter(|_| trusted)
                .cloned()
                .unwrap_or_else(|| record.request_id().to_value()),
            scheme: client.scheme_value().clone(),
        });
    }
    let member = match &route.action {
        Action::Forward(_) => 0,
        Action::Split(split) => split.pick(client_ip),
        Action::ReadsAndWrites(both) => both.member(asked.method, asked.headers),
        Action::Redirect(redirect) => {
            return Ok(reply::redirect(redirect, &host, &path, query).into());
        }
        Action::Respond(respond) => return Ok(reply::respond(respond).into()),
        Action::NotFound => return Err(ProxyError::NoRoute),
    };
    let upstream = route.action.upstream(member).ok_or(ProxyError::NoRoute)?;
    record.set_member(member);
    // Before the route changes anything: what is hashed is what the client sent.
    if let Some(key) = &upstream.hash_key {
        record.set_hash_key(hash_key::of(key, request, &path, client_ip));
    }
    let sent = match filters.and_then(|filters| filters.rewrite.as_ref()) {
        Some(rewrite) => Some(rewritten(snapshot, (index, rewrite), &asked)?),
        None => match path {
            Cow::Owned(path) => Some(path),
            Cow::Borrowed(_) => None,
        },
    };
    drop(host);
    let mut asked = None;
    if is_extended {
        asked = Some(tunnel::translate(request, &route.upgrades, local.nonce())?);
    }
    let origin = Origin {
        client,
        trusted,
        fields: listener.forwarded,
        request_id: record.request_id(),
        via: &local.via,
        upgrades: &route.upgrades,
        reserved: snapshot.identity_fields.as_deref().unwrap_or_default(),
    };
    let received = head::to_endpoint(request, sent.as_deref(), origin)?;
    record.set_accept(received.accept);
    if let Some(affinity) = &upstream.affinity {
        let mut wanted = affinity.take(upstream, request.headers_mut());
        // What changes something stays where it belongs, and so does a tunnel.
        if let Some(audit) = affinity.audit()
            && request.method().is_safe()
            && received.protocol.is_none()
            && asked.is_none()
        {
            wanted = audit.lend(wanted, local.random());
        }
        record.set_affinity(wanted);
    }
    route.action.take_cookies(request.headers_mut());
    // After ours, which none of them may name.
    if let Some(changes) = filters.and_then(|filters| filters.request.as_ref()) {
        filter::headers::apply(changes, request.headers_mut(), record.facts());
    }
    if let Some(protocol) = received.protocol {
        asked = Some(Asked::new(*protocol));
    }
    if let Some(asked) = asked {
        asked.set(request.headers_mut());
        record.set_asked(asked);
    }
    if let Some(scheme) = &upstream.http2 {
        head::to_http2(request, scheme)?;
    }
    Ok(Routed::Forward(route.clone(), member))
}

/// The path to ask an endpoint of the route at `index` for, where that rewrites paths. One that an exclusive route owns goes nowhere
/// but to that one's upstream, and with a method that may change something nowhere but to where it writes.
pub fn rewritten(
    snapshot: &Snapshot,
    (index, rewrite): (usize, &Rewrite),
    asked: &Query<'_>,
) -> Result<String, ProxyError> {
    let longest = snapshot.listeners[asked.listener].limits.uri_bytes;
    let action = |route: usize| &snapshot.routes[route].action;
    let goes_within = |other: usize| action(index).is_within(action(other), asked.method);
    let router = &snapshot.router;
    match router.sent_path((rewrite, longest), asked, goes_within) {
        Ok(path) => Ok(path.into_owned()),
        Err(_) => Err(ProxyError::Rewrite),
    }
}

/// Limits of a request that do not need its path.
fn within_limits(request: &Request<Incoming>, listener: &Listener) -> Result<(), ProxyError> {
    let limits = &listener.limits;
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
fn watch_body(
    mut request: Request<Incoming>,
    version: Version,
    snapshot: &View,
    record: &mut Record,
) -> Request<RequestBody> {
    if request.body().is_end_stream() {
        return request.map(|_| RequestBody::empty());
    }
    // Over HTTP/2 the library has no way to say 100: the client waits as long as it likes.
    let is_held_back =
        version == Version::HTTP_11 && Expectation::is_stated(request.headers()) == Ok(true);
    let expectation = is_held_back.then(|| {
        record.set_held_back();
        Expectation::of(&mut request)
    });
    request.map(|body| {
        let listener = record.listener().clone();
        let limit = record.body_limit().map(|limit| limit.get());
        let timeouts = &listener.timeouts;
        // Calls may stay silent for as long as they like between messages, but not longer than a pause.
        let rate = timeouts.body_rate.filter(|_| !record.is_grpc());
        let rate = rate.map(|rate| Rate {
            per_second: rate.get(),
            grace: timeouts.body_grace,
        });
        let progress = Rc::clone(record.begin_upload());
        let upload = Upload::new(progress, limit, timeouts.body_idle)
            .at_least(rate)
            .without(snapshot.identity_fields.clone());
        RequestBody::received(body, upload, expectation)
    })
}
