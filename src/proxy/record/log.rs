//! What the access log wants to know of a request besides, and the line that is made of it in the end. Costs nothing where nothing
//! is logged.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, REFERER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, Version};
use smallvec::SmallVec;

use super::Record;
use crate::config::Field;
use crate::message;
use crate::proxy::access_log::Line;
use crate::proxy::client::Client;
use crate::proxy::error::{Fault, ProxyError};
use crate::snapshot::AccessLogRule;
use crate::upstream::Endpoint;

/// What only the access log wants to know.
#[derive(Debug)]
pub(super) struct Details {
    version: Version,
    target: Option<PathAndQuery>,
    sent: Sent,
    /// As trusted proxies name it, where there are any.
    pub(super) client: Option<IpAddr>,
    /// Usually it needs no memory of its own.
    pub(super) host: SmallVec<[u8; 40]>,
    pub(super) path: Option<Box<str>>,
    /// How long the handshake took that has ended right before.
    tls: Option<Duration>,
    /// Who was asked last.
    pub(super) endpoint: RefCell<Option<Arc<Endpoint>>>,
    pub(super) failed: RefCell<Vec<FailedAttempt>>,
    pub(super) connect: Cell<Option<Duration>>,
    pub(super) head: Cell<Option<Duration>>,
    /// Waiting for an endpoint with room.
    pub(super) queued: Duration,
}

/// What only the access log wants to know of a request's fields.
#[derive(Debug, Default)]
struct Sent {
    trace_id: Option<[u8; 32]>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    /// Those that the rule names, each with its place there.
    headers: Vec<(usize, HeaderValue)>,
}

impl Details {
    /// Begins with what `request` says.
    pub(super) fn of<B>(request: &Request<B>, rule: &AccessLogRule, client: &Client) -> Self {
        Self {
            version: request.version(),
            target: request.uri().path_and_query().cloned(),
            sent: Sent::of(request.headers(), rule),
            client: None,
            host: SmallVec::new(),
            path: None,
            tls: client.take_handshake(),
            endpoint: RefCell::default(),
            failed: RefCell::default(),
            connect: Cell::default(),
            head: Cell::default(),
            queued: Duration::ZERO,
        }
    }
}

impl Sent {
    fn of(headers: &HeaderMap, rule: &AccessLogRule) -> Self {
        let value = |field, name| {
            let value = rule.fields.has(field).then(|| headers.get(name));
            value.flatten().cloned()
        };
        let chosen = rule.headers.iter().enumerate();
        Self {
            trace_id: (rule.fields.has(Field::TraceId))
                .then(|| message::trace::trace_id(headers))
                .flatten(),
            user_agent: value(Field::UserAgent, USER_AGENT),
            referer: value(Field::Referer, REFERER),
            headers: chosen
                .flat_map(|(index, (name, _))| {
                    let values = headers.get_all(name).iter();
                    values.map(move |value| (index, value.clone()))
                })
                .collect(),
        }
    }
}

/// An attempt that came to nothing.
#[derive(Debug)]
pub struct FailedAttempt {
    /// Who was asked.
    pub endpoint: Arc<Endpoint>,
    /// On a connection that others had used before. `None`: nobody has told.
    pub is_reused: Option<bool>,
    /// Why it failed.
    pub error: &'static str,
    /// After how long.
    pub after: Duration,
}

impl Record {
    /// Writes its line, where the rule keeps it.
    pub(super) fn log(&self, error: Option<ProxyError>, request_bytes: u64, total: Duration) {
        let (Some(details), Some(rule)) = (&self.details, &self.listener.access_log) else {
            return;
        };
        // 499: the client left; below that only what an endpoint cut on its way.
        let failed =
            self.status >= 499 || error.is_some_and(|error| error.fault() == Fault::Endpoint);
        if !rule.keeps(failed, total, || self.local.random()) {
            return;
        }
        let target = details.target.as_ref();
        let endpoint = details.endpoint.borrow();
        let named = details.client.map(|address| address.to_string());
        let version = endpoint.as_ref().and_then(|endpoint| endpoint.version());
        let traced = self.trace_id().map(message::trace::in_digits);
        let line = Line {
            request_id: self.request_id.as_str(),
            trace_id: traced.as_ref().or(details.sent.trace_id.as_ref()),
            client: named
                .as_deref()
                .unwrap_or_else(|| self.client.address_text()),
            listener: &self.listener.name,
            sni: self.client.server_name(),
            protocol: protocol(details.version),
            method: self.method.as_str(),
            host: &details.host,
            path: details.path.as_deref(),
            raw_path: target.map_or("", PathAndQuery::path),
            query: target.and_then(PathAndQuery::query),
            user_agent: details.sent.user_agent.as_ref(),
            referer: details.sent.referer.as_ref(),
            headers: &details.sent.headers,
            route: &self.route.name,
            upstream: self.upstream().map(|upstream| &*upstream.name),
            endpoint: endpoint.as_ref().map(|endpoint| &**endpoint.name()),
            endpoint_version: version.as_ref().map(|version| version.as_str()),
            attempts: u64::from(self.attempts.get()),
            failed: &details.failed.borrow(),
            status: self.status,
            who: if self.by_upstream {
                "upstream"
            } else {
                "balancer"
            },
            reason: error.map(ProxyError::reason),
            request_bytes,
            response_bytes: self.response_bytes,
            tls: details.tls,
            queued: (details.queued > Duration::ZERO).then_some(details.queued),
            connect: details.connect.get(),
            head: details.head.get(),
            total,
        };
        self.local.access_log.write(&line, rule);
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    }
}
