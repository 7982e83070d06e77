//! Spans as OTLP has them (opentelemetry-proto 1.x, `trace.proto`), with the names of the semantic conventions for HTTP where
//! these are stable. What no convention has a name for begins with `balancer.`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use http::{Method, Uri, Version};

use super::outbox::Outbox;
use super::{Attempt, Trace};
use crate::config::Address;
use crate::message::authority;
use crate::message::protobuf::Write;
use crate::message::redact::Secrets;
use crate::message::trace::SpanId;
use crate::proxy::client::Client;
use crate::proxy::hedge::OUTRUN;

/// What has become of a request.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// The client's connection.
    pub client: &'a Client,
    /// As sent.
    pub method: &'a Method,
    /// As in `X-Request-Id`.
    pub request_id: &'a str,
    /// Where it came in.
    pub listener: &'a str,
    /// Its route, where it has one.
    pub route: Option<&'a str>,
    /// Its upstream, if it came that far.
    pub upstream: Option<&'a str>,
    /// What the client got; 499 where it left.
    pub status: u16,
    /// Why it failed.
    pub reason: Option<&'static str>,
    /// Whether an endpoint is to blame for that.
    pub is_endpoints_fault: bool,
    /// When it had ended.
    pub at: Instant,
}

impl Trace {
    /// Writes all spans of the request.
    #[cold]
    pub fn finish(&self, finished: &Finished<'_>, outbox: &Outbox) {
        let attempts = self.attempts.borrow();
        outbox.add(|out| {
            out.message(SPANS, |out| self.server(out, finished, told(&attempts)));
            for (before, attempt) in attempts.iter().enumerate() {
                out.message(SPANS, |out| self.client(out, finished, (attempt, before)));
            }
            1 + attempts.len() as u64
        });
    }

    fn server(&self, out: &mut Vec<u8>, finished: &Finished<'_>, told: Option<&Attempt>) {
        let (method, original) = known(finished.method);
        let word = if original.is_some() { "HTTP" } else { method };
        let name = match finished.route {
            Some(route) => Cow::from(format!("{word} {route}")),
            None => Cow::from(word),
        };
        let times = (self.begun, finished.at);
        self.begin(out, (self.span, self.parent), (SERVER, &name), times);
        if !self.state.is_empty() {
            out.bytes(TRACE_STATE, self.state.as_bytes());
        }
        if let Some(link) = &self.link {
            out.message(LINKS, |out| {
                out.bytes(1, &link.trace);
                out.bytes(2, &link.span);
                out.fixed32(6, flags(link.is_sampled, true));
            });
        }
        method_of(out, method, original);
        text(out, "url.path", &path(&self.uri, self.secrets.as_deref()));
        let scheme = finished.client.scheme_value().to_str();
        text(out, "url.scheme", scheme.unwrap_or_default());
        if let (Some(asked), true) = (self.uri.query(), self.has_query) {
            text(out, "url.query", &query(asked, self.secrets.as_deref()));
        }
        self.server_address(out, finished.client);
        version(out, self.version);
        let peer = finished.client.address();
        let client = self.client.unwrap_or_else(|| peer.ip());
        address(out, "client.address", client);
        address(out, "network.peer.address", peer.ip());
        number(out, "network.peer.port", peer.port().into());
        number(out, "http.response.status_code", finished.status.into());
        for (key, value) in [
            ("http.route", finished.route),
            ("balancer.listener", Some(finished.listener)),
            ("balancer.upstream", finished.upstream),
            (
                "balancer.endpoint",
                told.map(|attempt| &**attempt.endpoint.name()),
            ),
            ("balancer.reason", finished.reason),
            ("balancer.request_id", Some(finished.request_id)),
        ] {
            if let Some(value) = value {
                text(out, key, value);
            }
        }
        number(out, "balancer.generation", self.generation);
        // What a client has asked for in vain is no error of the server's, and neither is that it has left.
        if finished.status >= 500 || finished.is_endpoints_fault {
            failed(out, finished.reason, finished.status);
        }
    }

    fn client(
        &self,
        out: &mut Vec<u8>,
        finished: &Finished<'_>,
        (attempt, before): (&Attempt, usize),
    ) {
        let (method, original) = known(finished.method);
        let name = if original.is_some() { "HTTP" } else { method };
        let ended = attempt.failed.map_or(finished.at, |(at, _)| at);
        let times = (attempt.begun, ended);
        self.begin(out, (attempt.span, Some(self.span)), (CLIENT, name), times);
        method_of(out, method, original);
        let endpoint = &attempt.endpoint;
        let scheme = match endpoint.contact().tls {
            Some(_) => "https",
            None => "http",
        };
        let secrets = self.secrets.as_deref();
        let path = path(&attempt.uri, secrets);
        let mut url = format!("{scheme}://{}{path}", endpoint.address());
        if let (Some(asked), true) = (attempt.uri.query(), self.has_query) {
            // A string takes everything.
            let _ = write!(url, "?{}", query(asked, secrets));
        }
        text(out, "url.full", &url);
        match endpoint.address() {
            Address::Socket(socket) => {
                address(out, "server.address", socket.ip());
                number(out, "server.port", socket.port().into());
            }
            Address::Name(host, port) => {
                text(out, "server.address", host);
                number(out, "server.port", (*port).into());
            }
        }
        if let Some(socket) = endpoint.socket_address() {
            address(out, "network.peer.address", socket.ip());
            number(out, "network.peer.port", socket.port().into());
        }
        version(out, attempt.version);
        if before > 0 {
            number(out, "http.request.resend_count", before as u64);
        }
        text(out, "balancer.upstream", endpoint.upstream());
        text(out, "balancer.endpoint", endpoint.name());
        if let Some(status) = attempt.status {
            number(out, "http.response.status_code", status.into());
        }
        if attempt.is_outrun() {
            text(out, "balancer.outcome", OUTRUN);
        }
        let error = match (attempt.failed, attempt.status) {
            // Nobody has waited for it, and nothing is wrong with it.
            (Some((_, OUTRUN)), _) => None,
            (Some((_, error)), _) => Some(error),
            // It has not answered, or not whole, and nobody waits any more.
            (None, None) => finished.reason,
            (None, Some(_)) => finished.reason.filter(|_| finished.is_endpoints_fault),
        };
        let status = attempt.status.unwrap_or(0);
        if error.is_some() || status >= 400 {
            // What failed for its status is called by that.
            let error = error.filter(|error| *error != "status");
            failed(out, error, status);
        }
    }

    fn begin(
        &self,
        out: &mut Vec<u8>,
        (span, parent): (SpanId, Option<SpanId>),
        (kind, name): (u64, &str),
        (begun, ended): (Instant, Instant),
    ) {
        let at = |moment: Instant| {
            let since = moment.saturating_duration_since(self.begun).as_nanos();
            self.at
                .saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
        };
        out.bytes(1, &self.id);
        out.bytes(2, &span);
        if let Some(parent) = parent {
            out.bytes(4, &parent);
        }
        out.bytes(5, cut(name).as_bytes());
        out.number(6, kind);
        out.fixed64(7, at(begun));
        out.fixed64(8, at(ended));
        out.fixed32(16, flags(true, kind == SERVER && parent.is_some()));
    }

    /// Who the client wanted to reach.
    fn server_address(&self, out: &mut Vec<u8>, client: &Client) {
        let asked = self.host.as_ref().and_then(|host| host.to_str().ok());
        let Some(asked) = asked else { return };
        let Some(host) = authority::host(asked) else {
            return;
        };
        text(out, "server.address", &host);
        let port = asked
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| client.local().port());
        number(out, "server.port", port.into());
    }
}

impl Attempt {
    /// Whether another one, at the same time, was answered first.
    fn is_outrun(&self) -> bool {
        matches!(self.failed, Some((_, OUTRUN)))
    }
}

/// Whose endpoint the request's own span names: who has answered, though another was asked after it; else who was asked last.
fn told(attempts: &[Attempt]) -> Option<&Attempt> {
    let mut latest = attempts.iter().rev();
    latest
        .find(|it| it.failed.is_none())
        .or_else(|| attempts.last())
}

/// What of `uri`'s path may be known.
fn path<'u>(uri: &'u Uri, secrets: Option<&Secrets>) -> Cow<'u, str> {
    let path = uri.path();
    secrets.map_or(Cow::Borrowed(path), |secrets| secrets.path(path))
}

/// What of a query may be.
fn query<'u>(asked: &'u str, secrets: Option<&Secrets>) -> Cow<'u, str> {
    secrets.map_or(Cow::Borrowed(asked), |secrets| secrets.query(asked))
}

/// The method as the conventions know it, and as it is where they do not.
fn known(method: &Method) -> (&str, Option<&str>) {
    match method.as_str() {
        known @ ("CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT"
        | "QUERY" | "TRACE") => (known, None),
        other => ("_OTHER", Some(other)),
    }
}

fn method_of(out: &mut Vec<u8>, method: &str, original: Option<&str>) {
    text(out, "http.request.method", method);
    if let Some(original) = original {
        text(out, "http.request.method_original", original);
    }
}

fn version(out: &mut Vec<u8>, version: Version) {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => return,
    };
    text(out, "network.protocol.version", version);
}

fn failed(out: &mut Vec<u8>, reason: Option<&str>, status: u16) {
    let status = itoa::Buffer::new().format(status).to_owned();
    text(out, "error.type", reason.unwrap_or(&status));
    out.message(STATUS, |out| out.number(3, ERROR));
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    attribute(out, key, |out| out.bytes(1, cut(value).as_bytes()));
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    attribute(out, key, |out| out.number(3, value));
}

fn address(out: &mut Vec<u8>, key: &str, value: IpAddr) {
    text(out, key, &value.to_canonical().to_string());
}

fn attribute(out: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.message(ATTRIBUTES, |out| {
        out.bytes(1, key.as_bytes());
        out.message(2, value);
    });
}

/// As much of `text` as a span holds.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// W3C flags, and that it is known (bit 8) whether what they belong to is elsewhere (bit 9).
fn flags(is_sampled: bool, is_remote: bool) -> u32 {
    0x100 | u32::from(is_remote) << 9 | u32::from(is_sampled)
}

/// `ScopeSpans.spans`
const SPANS: u32 = 2;
/// Fields of `Span`.
const TRACE_STATE: u32 = 3;
const ATTRIBUTES: u32 = 9;
const LINKS: u32 = 13;
const STATUS: u32 = 15;
/// `SPAN_KIND_SERVER`, `SPAN_KIND_CLIENT`
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;
const LONGEST: usize = 2048; // a client chooses how long a path is, and many wait to be sent
