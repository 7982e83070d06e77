//! From the head of a client's request to the head of a request to an endpoint.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};
use http_body::Body;
use smallvec::SmallVec;

use super::client::Client;
use super::error::ProxyError;
use super::local::{RequestId, Via};
use crate::config::ForwardedFields;
use crate::message::expectation::Expectation;
use crate::message::upgrade::Protocol;
use crate::message::{authority, forwarded, hop_by_hop, list, trace};

/// The host a request is for: lower case, without port. Refuses what leaves room for two opinions.
///
/// RFC 9112 §3.2: exactly one `Host`; an absolute-form target's authority takes its place. RFC 9113 §8.3.1: `Host` and
/// `:authority` agree.
pub fn host<B>(request: &Request<B>) -> Result<Cow<'_, str>, ProxyError> {
    let headers = request.headers();
    let field = headers.get(header::HOST);
    // Only where some field stands twice it can be this one.
    if headers.len() != headers.keys_len() && headers.get_all(header::HOST).iter().nth(1).is_some()
    {
        return Err(ProxyError::Host);
    }
    let target = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let field = match field.map(HeaderValue::to_str) {
        Some(Ok(field)) => Some(field),
        Some(Err(_)) => return Err(ProxyError::Host),
        None => None,
    };
    let is_http2 = request.version() >= Version::HTTP_2;
    let host = match (field, target) {
        (Some(field), Some(target)) if is_http2 && !field.eq_ignore_ascii_case(target) => {
            return Err(ProxyError::Host);
        }
        (Some(_), Some(target)) => target,
        (Some(field), None) => field,
        (None, Some(target)) if is_http2 => target,
        (None, _) => return Err(ProxyError::Host),
    };
    authority::host(host).ok_or(ProxyError::Host)
}

/// Who a request is from, as far as the endpoint is told.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's connection.
    pub client: &'a Client,
    /// Whether its forwarding fields are believed.
    pub trusted: bool,
    /// In which fields it is told.
    pub fields: ForwardedFields,
    /// The request's id, unless a trusted proxy has given one.
    pub request_id: RequestId,
    /// What this process is called.
    pub via: &'a Via,
    /// Protocols that the route lets the client change to.
    pub upgrades: &'a [Box<str>],
    /// Fields that only we may set, in which endpoints are told who a client is.
    pub reserved: &'a [HeaderName],
}

/// Makes the head of `request` one for an endpoint: origin-form and canonical target, hop-by-hop fields removed, fields
/// removed that this client may not send, ours set. `canonical` is the path where it differs from what was sent. Gives what to
/// remember of the head as it was.
pub fn to_endpoint<B: Body>(
    request: &mut Request<B>,
    canonical: Option<&str>,
    origin: Origin<'_>,
) -> Result<Received, ProxyError> {
    let received = request.version();
    let may_switch = received == Version::HTTP_11 && request.body().is_end_stream();
    let upgrades = if may_switch { origin.upgrades } else { &[] };
    let mut found = remove_fields(request.headers_mut(), origin.trusted, upgrades)?;
    if found.via && is_loop(request.headers(), origin.via) {
        return Err(ProxyError::Loop);
    }
    if let Some(authority) = request.uri().authority() {
        // The target's authority takes the place of `Host` (RFC 9112 §3.2.2); HTTP/2 has only that (RFC 9113 §8.3.1).
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| ProxyError::Host)?;
        request.headers_mut().insert(header::HOST, host.clone());
        found.host = Some(host);
    }
    set_target(request.uri_mut(), canonical)?;
    *request.version_mut() = Version::HTTP_11;
    let is_unsized =
        !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    let headers = request.headers_mut();
    // One growth for all that is added.
    headers.reserve(ADDED);
    let via = if received >= Version::HTTP_2 {
        join_cookies(headers);
        &origin.via.http2
    } else {
        &origin.via.http1
    };
    set_forwarded(headers, &mut found, &origin);
    for name in origin.reserved {
        headers.remove(name);
    }
    for (name, value) in origin.client.identity() {
        headers.insert(name.clone(), value.clone());
    }
    headers.append(header::VIA, via.clone());
    if found.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if is_unsized {
        // hyper sends no body of unknown length with methods that rarely have one, unless it is told to.
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    Ok(found.received)
}

/// Makes the head of a request for an endpoint, see [`to_endpoint`], one of HTTP/2: `:scheme` and `:authority` take the place of
/// `Host` (RFC 9113 §8.3.1), and the length of a body is where it ends (§8.2.2).
pub fn to_http2<B>(request: &mut Request<B>, scheme: &Scheme) -> Result<(), ProxyError> {
    let headers = request.headers_mut();
    headers.remove(header::TRANSFER_ENCODING);
    // The library does not tell of a 100 over HTTP/2: the body is sent at once.
    headers.remove(header::EXPECT);
    // One of its kind each: in the table of a connection's fields (RFC 7541 §2.3.2) they would take the places of those that
    // come again.
    for name in [&forwarded::X_REQUEST_ID, &trace::TRACEPARENT] {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
    let host = headers.remove(header::HOST).ok_or(ProxyError::Host)?;
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| ProxyError::Host)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| ProxyError::Malformed)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// Fields that a request gets from us.
const ADDED: usize = 6;

/// What is remembered of a request's head once it has become one for an endpoint.
#[derive(Debug, Default)]
pub struct Received {
    /// What the client wants to change its connection to, and may.
    pub protocol: Option<Box<Protocol>>,
    /// `Accept`, for a reply of our own.
    pub accept: Option<HeaderValue>,
}

/// What stood among the fields.
#[derive(Debug, Default)]
struct Found {
    received: Received,
    host: Option<HeaderValue>,
    via: bool,
    trailers: bool,
    forwarded: bool,
    request_id: bool,
}

/// Removes, in one pass over the names, what concerns the client's connection only and what this client may not say.
fn remove_fields(
    headers: &mut HeaderMap,
    trusted: bool,
    upgrades: &[Box<str>],
) -> Result<Found, ProxyError> {
    let mut found = Found::default();
    let mut remove: SmallVec<[HeaderName; 8]> = SmallVec::new();
    for (name, value) in &*headers {
        let text = name.as_str();
        if hop_by_hop::is_hop_by_hop(text) {
            match text {
                "connection" => remove.extend(hop_by_hop::named_by_connection(headers)?),
                "upgrade" => {
                    found.received.protocol = Protocol::asked(headers, upgrades).map(Box::new);
                }
                "te" => found.trailers = hop_by_hop::accepts_trailers(headers),
                _ => {}
            }
            remove.push(name.clone());
        } else if forwarded::is_never_passed(text) {
            remove.push(name.clone());
        } else if forwarded::is_for_trusted(text) {
            if !trusted {
                remove.push(name.clone());
            }
            found.forwarded = true;
            found.request_id |= *name == forwarded::X_REQUEST_ID;
        } else if *name == header::HOST {
            found.host = Some(value.clone());
        } else if text == "accept" {
            found.received.accept.get_or_insert_with(|| value.clone());
        } else if text == "via" {
            found.via = true;
        } else if text == "expect" {
            Expectation::is_stated(headers)?;
        } else if text == "traceparent" && !trace::has_valid_parent(headers) {
            // W3C Trace Context §3.2.2.3, §4.3: what cannot be read is not passed on, and its state neither.
            remove.extend([trace::TRACEPARENT, trace::TRACESTATE]);
        }
    }
    if !remove.is_empty() {
        for name in remove {
            headers.remove(name);
        }
    }
    found.forwarded &= trusted;
    found.request_id &= trusted;
    Ok(found)
}

/// Whether this process has passed the request on before.
fn is_loop(headers: &HeaderMap, own: &Via) -> bool {
    list::elements(headers, &header::VIA).any(|via| own.http1 == *via || own.http2 == *via)
}

fn set_target(uri: &mut Uri, canonical: Option<&str>) -> Result<(), ProxyError> {
    let target = match canonical {
        Some(path) => {
            let target = match uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.to_owned(),
            };
            PathAndQuery::try_from(target).map_err(|_| ProxyError::Malformed)?
        }
        None if uri.authority().is_none() => return Ok(()),
        None => uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    };
    *uri = Uri::from(target);
    Ok(())
}

/// RFC 9113 §8.2.3: cookie crumbs become one field again before they leave HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut whole = first.as_bytes().to_vec();
    for crumb in headers.get_all(header::COOKIE).iter().skip(1) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(whole) = HeaderValue::from_bytes(&whole) {
        headers.insert(header::COOKIE, whole);
    }
}

fn set_forwarded(headers: &mut HeaderMap, found: &mut Found, origin: &Origin<'_>) {
    let element = match origin.fields {
        ForwardedFields::XForwarded => None,
        ForwardedFields::Forwarded | ForwardedFields::Both => {
            let hop = forwarded::Hop {
                peer: origin.client.address_text(),
                host: found.host.as_ref(),
                scheme: origin.client.scheme_value(),
            };
            Some(forwarded::append_element(headers, found.forwarded, hop))
        }
    };
    if origin.fields != ForwardedFields::Forwarded {
        set_x_forwarded(headers, found, origin.client);
    }
    // Only now: what is made of it above is what others said.
    if let Some(element) = element {
        headers.insert(header::FORWARDED, element);
    }
    if !found.request_id {
        headers.insert(forwarded::X_REQUEST_ID, origin.request_id.to_value());
    }
}

fn set_x_forwarded(headers: &mut HeaderMap, found: &mut Found, client: &Client) {
    let chain = if found.forwarded {
        forwarded::append(headers, client.address_value())
    } else {
        client.address_value().clone()
    };
    headers.insert(forwarded::X_FORWARDED_FOR, chain);
    for (name, value) in [
        (
            forwarded::X_FORWARDED_PROTO,
            Some(client.scheme_value().clone()),
        ),
        (
            forwarded::X_FORWARDED_PORT,
            Some(client.port_value().clone()),
        ),
        (forwarded::X_FORWARDED_HOST, found.host.take()),
    ] {
        if let Some(value) = value
            && !(found.forwarded && headers.contains_key(&name))
        {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
