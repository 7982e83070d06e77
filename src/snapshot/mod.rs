//! All that a request may consult: compiled, immutable, numbered. Replaced as a whole, never changed.

mod access_log;
mod affinity;
pub mod compile;
mod contacts;
mod mirror;
pub mod pages;
pub mod plan;
pub mod publish;
mod reads_and_writes;
mod split;
mod token;
pub mod tracing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;

pub use access_log::AccessLogRule;
pub use contacts::contacts;
pub use mirror::Mirror;
pub use pages::Pages;
pub use publish::{Held, Own, Publisher, Reader, View};
pub use reads_and_writes::{OwnSecret, ReadsAndWrites};
pub use split::Split;
pub use token::Token;
pub use tracing::Tracing;

use crate::config::{self, HeaderChanges, Rewrite};
use crate::filter::limit::Limits;
use crate::metrics::{ListenerMetrics, RouteMetrics};
use crate::net::per_client::PerClient;
use crate::route::Router;
use crate::tls::{ByDevice, CertificateInfo, RevocationInfo, Sessions};
use crate::units::Name;
use crate::upstream::{Alarm, Upstream};

/// One generation of the configuration, ready for use.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number, from 1.
    pub generation: u64,
    /// Listeners in file order. Routes know them by their index.
    pub listeners: Vec<Arc<Listener>>,
    /// Finds the index of a request's route.
    pub router: Router,
    /// Routes in file order.
    pub routes: Vec<Arc<Route>>,
    /// Counts requests that have no route.
    pub no_route: Arc<Route>,
    /// Upstreams in file order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Raised by workers when an endpoint should be ejected; the same through all generations.
    pub alarm: Arc<Alarm>,
    /// Which become traces; `None`: none.
    pub tracing: Option<Box<Tracing>>,
    /// Fields in which endpoints are told who a client is: no client may send them, to any listener. None where there are none.
    pub identity_fields: Option<Arc<[HeaderName]>>,
    /// Who knows it may change something over the admin address. None: nobody may.
    pub admin_token: Option<Token>,
}

impl Snapshot {
    /// The index of the listener that holds `slot`.
    pub fn listener_index(&self, slot: u32) -> Option<usize> {
        self.listeners
            .iter()
            .position(|listener| listener.slot == slot)
    }
}

/// A listener, as its connections see it.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// Its sockets' number: the same through all generations in which the address stays.
    pub slot: u32,
    /// Its address as configured.
    pub address: SocketAddr,
    /// How to speak TLS.
    pub tls: Option<ByDevice>,
    /// What TLS handshakes are worth.
    pub sessions: Sessions,
    /// Its certificates.
    pub certificates: Vec<CertificateInfo>,
    /// Its revocation lists.
    pub revocation: Option<RevocationInfo>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Whether some route lets its clients speak WebSocket.
    pub websocket: bool,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers a PROXY protocol header is required from; nobody else may connect. `None`: connections begin without one.
    pub proxy_protocol: Option<Vec<IpNet>>,
    /// In which fields endpoints are told of the client.
    pub forwarded: config::ForwardedFields,
    /// What every response has as `Strict-Transport-Security`, unless its endpoint says something else.
    pub hsts: Option<HeaderValue>,
    /// What is said in the place of short error messages; the same on all listeners.
    pub error_pages: Arc<Pages>,
    /// What is logged of requests, where something is; the same on all listeners.
    pub access_log: Option<Arc<AccessLogRule>>,
    /// The port of the TLS listener to send clients to, where every request is redirected.
    pub redirect_to_https: Option<u16>,
    /// Its time limits.
    pub timeouts: config::ListenerTimeouts,
    /// Its other limits.
    pub limits: config::ListenerLimits,
    /// Its open connections, of all workers and generations.
    pub open: Arc<AtomicUsize>,
    /// The same by client, where there is a limit.
    pub per_client: Arc<PerClient>,
    /// Its counters.
    pub metrics: ListenerMetrics,
}

/// A route's name, action, changes and counters. Its matchers are the router's.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// What it does.
    pub action: Action,
    /// Protocols that a request may change its connection to, in lower case.
    pub upgrades: Box<[Box<str>]>,
    /// When a request is sent once more, for each of its upstreams; nothing where that is as they say.
    pub retry: Box<[config::Retry]>,
    /// How long an endpoint may take to answer before another one is asked beside it; most routes wait.
    pub hedge: Option<Duration>,
    /// What it changes in messages; most routes change nothing.
    pub filters: Option<Box<Filters>>,
    /// How many requests it takes, and how large; most routes take any.
    pub limits: Option<Box<Limits>>,
    /// Time limits that come before its upstream's, and that of whole requests; most routes have none.
    pub timeouts: Option<Box<config::RouteTimeouts>>,
    /// Who gets a copy of its requests; of most routes nobody.
    pub mirror: Option<Box<Mirror>>,
    /// Its counters.
    pub metrics: RouteMetrics,
}

/// What a route changes in messages.
#[derive(Debug)]
pub struct Filters {
    /// The path endpoints are asked for.
    pub rewrite: Option<Rewrite>,
    /// In the header of requests to endpoints.
    pub request: Option<HeaderChanges>,
    /// In the header of responses to clients.
    pub response: Option<HeaderChanges>,
    /// Whether some value of these differs from request to request.
    pub has_variables: bool,
}

impl Filters {
    /// Of a configured route; `None` where it changes nothing.
    fn of(route: &config::Route) -> Option<Box<Self>> {
        let (request, response) = (&route.request_headers, &route.response_headers);
        if route.rewrite.is_none() && request.is_none() && response.is_none() {
            return None;
        }
        let mut changes = request.iter().chain(response);
        Some(Box::new(Self {
            has_variables: changes.any(HeaderChanges::has_variables),
            rewrite: route.rewrite.clone(),
            request: request.clone(),
            response: response.clone(),
        }))
    }
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Asks an endpoint.
    Forward(Arc<Upstream>),
    /// Asks an endpoint of one of several upstreams.
    Split(Box<Split>),
    /// Asks an endpoint of one of two upstreams, by what a request may do.
    ReadsAndWrites(Box<ReadsAndWrites>),
    /// Sends the client elsewhere.
    Redirect(config::Redirect),
    /// Answers by itself.
    Respond(config::Respond),
    /// There is no route.
    NotFound,
}

impl Action {
    /// The upstream to ask; where there are several, the one at `member`.
    pub fn upstream(&self, member: u32) -> Option<&Arc<Upstream>> {
        match self {
            Self::Forward(upstream) => Some(upstream),
            Self::Split(split) => split.upstream(member),
            Self::ReadsAndWrites(both) => both.upstream(member),
            Self::Redirect(_) | Self::Respond(_) | Self::NotFound => None,
        }
    }

    /// Every upstream that may be asked.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        (0..).map_while(move |member| match self {
            Self::Forward(_) if member > 0 => None,
            action => action.upstream(member),
        })
    }

    /// Takes cookies out that say something to the balancer alone: who has written, and whom any of several upstreams has kept its
    /// client with. What the one is told is not for another's endpoints. A single upstream takes its own when it reads it.
    pub fn take_cookies(&self, headers: &mut HeaderMap) {
        match self {
            Self::ReadsAndWrites(both) => {
                if let Some(written) = both.written() {
                    written.take(headers);
                }
            }
            Self::Split(_) => {}
            Self::Forward(_) | Self::Redirect(_) | Self::Respond(_) | Self::NotFound => return,
        }
        for affinity in self.upstreams().filter_map(|it| it.affinity.as_ref()) {
            affinity.remove(headers);
        }
    }

    /// Every upstream that a request of this method may be asked of.
    fn reached(&self, method: &Method) -> impl Iterator<Item = &Arc<Upstream>> {
        let members = match self {
            Self::ReadsAndWrites(both) => both.members(method),
            Self::Forward(_)
            | Self::Split(_)
            | Self::Redirect(_)
            | Self::Respond(_)
            | Self::NotFound => 0..u32::MAX,
        };
        let upstreams = self.upstreams().zip(0..);
        upstreams
            .filter_map(move |(upstream, member)| members.contains(&member).then_some(upstream))
    }

    /// Whether a request of this method is asked of nobody here but whom `other` lets it ask as well: what only reads may go to
    /// all of `other`, the rest to nobody but where it writes.
    pub fn is_within(&self, other: &Self, method: &Method) -> bool {
        let is_known = |upstream: &Arc<Upstream>| {
            let is_same = |known: &Arc<Upstream>| Arc::ptr_eq(known, upstream);
            if method.is_safe() {
                other.upstreams().any(is_same)
            } else {
                other.reached(method).any(is_same)
            }
        };
        self.reached(method).all(is_known)
    }
}

/// What stays the same through all generations of one process.
#[derive(Debug)]
pub struct Instance {
    /// The `Via` entry of requests that came over HTTP/1 (RFC 9110 §7.6.3). The comment in it tells this process from
    /// other balancers in a chain, so that a chain is not taken for a loop.
    pub via_http1: HeaderValue,
    /// The same for HTTP/2.
    pub via_http2: HeaderValue,
    /// Client connections of all listeners together.
    pub open: AtomicUsize,
    /// Their limit. Beyond, they are closed at once.
    pub max_connections: usize,
    /// As many as file descriptors allow, each with a connection to an endpoint. Beyond, they wait to be accepted.
    pub descriptors_for: usize,
    /// Longest time over which idle connections are closed on shutdown.
    pub close_spread: Duration,
}

impl Instance {
    /// Whether file descriptors run short.
    pub fn is_full(&self) -> bool {
        self.open.load(std::sync::atomic::Ordering::Relaxed) >= self.descriptors_for
    }
}
