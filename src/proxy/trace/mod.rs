//! A request that is traced: what it and each attempt at an endpoint become as spans. Most requests are not, and pay for one look
//! at whether traces are made at all, or for one random number.
//!
//! A trace is begun here, or goes on from what a trusted proxy says (W3C Trace Context); what others say is a link.

pub mod outbox;
mod span;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Uri, Version};

use super::client::Client;
use super::local::Local;
use crate::message::forwarded;
use crate::message::redact::Secrets;
use crate::message::trace::{self, Parent, SpanId, TRACEPARENT, TRACESTATE, TraceId};
use crate::snapshot::{Listener, Tracing};
use crate::upstream::Endpoint;
pub use span::Finished;

/// One request's trace, as far as it is ours. Kept by its record.
#[derive(Debug)]
pub struct Trace {
    id: TraceId,
    span: SpanId,
    /// What asked, where that is believed.
    parent: Option<SpanId>,
    /// `tracestate` beside it.
    state: String,
    /// What asked, where it is not.
    link: Option<Parent>,
    begun: Instant,
    /// The same on the clock, in nanoseconds since 1970.
    at: u64,
    generation: u64,
    version: Version,
    uri: Uri,
    has_query: bool,
    secrets: Option<Arc<Secrets>>,
    /// `Host`
    host: Option<HeaderValue>,
    /// As trusted proxies name it.
    client: Option<IpAddr>,
    attempts: RefCell<Vec<Attempt>>,
}

/// One endpoint that is asked.
#[derive(Debug)]
struct Attempt {
    span: SpanId,
    endpoint: Arc<Endpoint>,
    uri: Uri,
    version: Version,
    begun: Instant,
    status: Option<u16>,
    /// When, and why.
    failed: Option<(Instant, &'static str)>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The worker.
    pub local: &'a Local,
    /// The client's connection.
    pub client: &'a Client,
    /// Where it came in.
    pub listener: &'a Listener,
    /// The snapshot that serves it.
    pub generation: u64,
    /// When it came.
    pub begun: Instant,
}

/// The trace of `request`, where it is to have one.
pub fn begin<B>(rule: &Tracing, asked: Asked<'_>, request: &Request<B>) -> Option<Box<Trace>> {
    let proxies = &asked.listener.trusted_proxies;
    let is_trusted =
        !proxies.is_empty() && forwarded::is_trusted(asked.client.address().ip(), proxies);
    let parent = is_trusted
        .then(|| trace::parent(request.headers()))
        .flatten();
    let random = match parent {
        // The same share of traces wherever it is asked: their ids are random (W3C Trace Context, level 2, §5.1).
        Some(Parent { trace, .. }) => u64::from_be_bytes(std::array::from_fn(|at| trace[8 + at])),
        None => asked.local.next(),
    };
    let is_sampled = match parent {
        Some(parent) if rule.parent_based => parent.is_sampled,
        Some(_) | None => random % Tracing::ALL >= Tracing::ALL - rule.sampled,
    };
    is_sampled.then(|| sampled(rule, asked, request, (parent, random)))
}

#[cold]
fn sampled<B>(
    rule: &Tracing,
    asked: Asked<'_>,
    request: &Request<B>,
    (parent, random): (Option<Parent>, u64),
) -> Box<Trace> {
    let headers = request.headers();
    let proxies = &asked.listener.trusted_proxies;
    let address = asked.client.address();
    let named = forwarded::client_address(headers, address, proxies);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let uri = request.uri();
    // Over HTTP/2 and in absolute form the host is in the target.
    let host = uri
        .authority()
        .and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    Box::new(Trace {
        id: parent.map_or_else(|| new_trace(random), |parent| parent.trace),
        span: new_span(),
        parent: parent.map(|parent| parent.span),
        state: parent.map_or_else(String::new, |_| state(headers)),
        link: if parent.is_none() {
            trace::parent(headers)
        } else {
            None
        },
        begun: asked.begun,
        at: since_1970.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }),
        generation: asked.generation,
        version: request.version(),
        uri: uri.clone(),
        has_query: rule.query,
        secrets: rule.secrets.clone(),
        host: host.or_else(|| headers.get(header::HOST).cloned()),
        client: (named != address.ip()).then_some(named),
        attempts: RefCell::default(),
    })
}

impl Trace {
    /// Its id.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// `endpoint` is about to be sent `request`, which is told whose it is from here on.
    #[cold]
    pub fn begin_attempt<B>(&self, endpoint: &Arc<Endpoint>, request: &mut Request<B>) {
        let attempt = Attempt {
            span: new_span(),
            endpoint: Arc::clone(endpoint),
            uri: request.uri().clone(),
            version: request.version(),
            begun: Instant::now(),
            status: None,
            failed: None,
        };
        let parent = Parent {
            trace: self.id,
            span: attempt.span,
            is_sampled: true,
        };
        let mut value = parent.to_value();
        // As for any field that is one of its kind each: the table of an HTTP/2 connection's fields has no place for it.
        value.set_sensitive(attempt.version >= Version::HTTP_2);
        let headers = request.headers_mut();
        headers.insert(TRACEPARENT, value);
        if self.parent.is_none() {
            // It belongs to another trace, if to any.
            headers.remove(TRACESTATE);
        }
        self.attempts.borrow_mut().push(attempt);
    }

    /// `endpoint` has answered.
    #[cold]
    pub fn answered(&self, endpoint: &Arc<Endpoint>, status: u16) {
        self.change(endpoint, |attempt| attempt.status = Some(status));
    }

    /// The attempt at `endpoint` has come to nothing.
    #[cold]
    pub fn failed(&self, endpoint: &Arc<Endpoint>, error: &'static str) {
        let now = Instant::now();
        self.change(endpoint, |attempt| attempt.failed = Some((now, error)));
    }

    /// Of two attempts at the same time none asks the same endpoint as the other.
    fn change(&self, endpoint: &Arc<Endpoint>, change: impl FnOnce(&mut Attempt)) {
        let mut attempts = self.attempts.borrow_mut();
        let mut running = attempts.iter_mut().rev().filter(|it| it.failed.is_none());
        if let Some(attempt) = running.find(|it| it.endpoint.id() == endpoint.id()) {
            change(attempt);
        }
    }
}

/// The second half is random and was drawn already.
fn new_trace(random: u64) -> TraceId {
    let halves = [fastrand::u64(1..), random];
    std::array::from_fn(|at| halves[at / 8].to_be_bytes()[at % 8])
}

fn new_span() -> SpanId {
    fastrand::u64(1..).to_be_bytes()
}

/// `tracestate`, which may stand in several lines (§3.3.1).
fn state(headers: &HeaderMap) -> String {
    let mut state = String::new();
    for value in headers.get_all(TRACESTATE) {
        let Ok(value) = value.to_str() else { continue };
        if state.len() + value.len() >= LONGEST_STATE {
            return String::new();
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(value);
    }
    state
}

/// §3.3.1.5: that much has to be passed on, at least. The endpoint gets all of it.
const LONGEST_STATE: usize = 512;

#[cfg(test)]
mod tests;
