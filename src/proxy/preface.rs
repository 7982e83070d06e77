//! What goes before a request to an endpoint that expects a PROXY protocol header: who asks, and where.

use std::net::SocketAddr;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Request};

use super::record::Record;
use crate::message::forwarded;
use crate::message::proxy_protocol::{Addresses, Version, encode};

/// The header that begins the connection on which `request` is sent, the only one it is for: what comes after it would be
/// taken for the same client's. The endpoint is told so, unless it is asked for a tunnel.
pub(super) fn begin<B>(version: Version, request: &mut Request<B>, record: &Record) -> Vec<u8> {
    let headers = request.headers_mut();
    if record.asked().is_none() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let addresses = Addresses {
        source: source(headers, record),
        destination: record.client().local(),
    };
    encode(version, Some(addresses))
}

/// The client's address: the peer's, or the one that trusted proxies name, of whose port nobody knows.
fn source(headers: &HeaderMap, record: &Record) -> SocketAddr {
    let peer = record.client().address();
    let named = forwarded::client_address(headers, peer, &record.listener().trusted_proxies);
    if named.to_canonical() == peer.ip().to_canonical() {
        peer
    } else {
        SocketAddr::new(named, 0)
    }
}
