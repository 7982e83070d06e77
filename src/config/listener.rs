//! `[listener.NAME]`: an address we accept on, with its protocols and TLS.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;

use super::{ListenerTls, Place};
use crate::units::{ByteSize, Name};

/// `[listener.NAME]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// The table's name.
    pub name: Name,
    /// `address`: IP and port. Port 0 lets the system choose one.
    pub address: SocketAddr,
    /// `tls`. Default: plain.
    pub tls: Option<ListenerTls>,
    /// `protocols` holds `"h2"`. Only offered over TLS (ALPN).
    pub http2: bool,
    /// `protocols` holds `"http/1.1"`.
    pub http1: bool,
    /// `trusted_proxies`: peers whose forwarding headers are believed. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// `proxy_protocol = "required"`: every connection begins with a PROXY protocol header and comes from one of these
    /// networks, `proxy_protocol_from`; at least one. Default: off.
    pub proxy_protocol: Option<Vec<IpNet>>,
    /// `forwarded`: in which fields endpoints are told of the client. Default `"x-forwarded"`.
    pub forwarded: ForwardedFields,
    /// `hsts`. Only with `tls`. Default: nothing is said.
    pub hsts: Option<Hsts>,
    /// `redirect_to_https`: answer every request with a 308 to `https`. Only on a plain listener. Default false.
    pub redirect_to_https: bool,
    /// `timeouts`
    pub timeouts: ListenerTimeouts,
    /// `limits`
    pub limits: ListenerLimits,
    /// Where `address` stands.
    pub place: Place,
}

/// `listener.hsts`: that clients shall come over https only (RFC 6797).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hsts {
    /// `max_age`: for how long, in whole seconds; 0 ends it. Default a year.
    pub max_age: Duration,
    /// `include_subdomains`. Default false.
    pub include_subdomains: bool,
    /// `preload`: that the domain may be put into lists that browsers come with. Default false.
    pub preload: bool,
}

/// `listener.forwarded`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardedFields {
    /// `"x-forwarded"`: `X-Forwarded-For`, `-Proto`, `-Port` and `-Host`.
    XForwarded,
    /// `"forwarded"`: `Forwarded` (RFC 7239).
    Forwarded,
    /// `"both"`
    Both,
}

/// `listener.timeouts`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenerTimeouts {
    /// `handshake`: TLS handshake, from accept. Default 10 s.
    pub handshake: Duration,
    /// `header`: a request's whole head, from its first byte (of a connection's first request: from the accept). Default 10 s. On expiry: 408.
    pub header: Duration,
    /// `body_idle`: longest pause in a request body. Default 30 s. On expiry: 408.
    pub body_idle: Duration,
    /// `body_rate`: bytes a second that a request body comes with, at least, over the time that it is waited for beyond
    /// `body_grace`. Default 100 B. `None`: as slow as it likes. Below: 408.
    pub body_rate: Option<ByteSize>,
    /// `body_grace`: how long a request body may be waited for, in all, before `body_rate` counts. Default 30 s.
    pub body_grace: Duration,
    /// `keep_alive`: how long a connection may wait for its next request. Default 75 s.
    pub keep_alive: Duration,
    /// `max_age`: a connection older than this ends with its next response. Default: no limit.
    pub max_age: Option<Duration>,
}

/// `listener.limits`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenerLimits {
    /// `connections`: of this listener, all workers together. Default: no limit.
    pub connections: Option<NonZeroUsize>,
    /// `connections_per_client`: of one client address, IPv6 by /64. Default: no limit.
    pub connections_per_client: Option<NonZeroUsize>,
    /// `requests_per_connection`: then it ends. Default: no limit.
    pub requests_per_connection: Option<NonZeroUsize>,
    /// `header_bytes`: a request's whole head. Default 64 KiB. Beyond: 431.
    pub header_bytes: ByteSize,
    /// `headers`: number of header fields. Default 100. Beyond: 431.
    pub headers: usize,
    /// `uri_bytes`: the request target. Default 8 KiB. Beyond: 414.
    pub uri_bytes: ByteSize,
    /// `body_bytes`: a request's body. Default: no limit. Beyond: 413.
    pub body_bytes: Option<ByteSize>,
    /// `h2_streams`: concurrent streams of one HTTP/2 connection. Default 100.
    pub h2_streams: u32,
}
