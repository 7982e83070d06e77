//! All that a request may consult: compiled, immutable, numbered. Replaced as a whole, never changed.

pub mod compile;
mod contacts;
pub mod publish;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;

pub use publish::{Held, Own, Publisher, Reader, View};

use crate::config;
use crate::metrics::{ListenerMetrics, RouteMetrics};
use crate::route::Router;
use crate::tls::{ByDevice, CertificateInfo};
use crate::units::Name;
use crate::upstream::Upstream;

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
    /// Which requests are logged.
    pub access_log: AccessLogRule,
}

impl Snapshot {
    /// The index of the listener that holds `slot`.
    pub fn listener_index(&self, slot: u32) -> Option<usize> {
        self.listeners
            .iter()
            .position(|listener| listener.slot == slot)
    }
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccessLogRule {
    /// Whether there is an access log at all.
    pub on: bool,
    /// Only those that failed.
    pub only_errors: bool,
    /// Share of the others.
    pub sample: f64,
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
    /// Its certificates.
    pub certificates: Vec<CertificateInfo>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The port of the TLS listener to send clients to, where every request is redirected.
    pub redirect_to_https: Option<u16>,
    /// Its time limits.
    pub timeouts: config::ListenerTimeouts,
    /// Its other limits.
    pub limits: config::ListenerLimits,
    /// Its open connections, of all workers and generations.
    pub open: Arc<AtomicUsize>,
    /// Its counters.
    pub metrics: ListenerMetrics,
}

/// A route's name, action and counters. Its matchers are the router's.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// What it does.
    pub action: Action,
    /// Its counters.
    pub metrics: RouteMetrics,
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Asks an endpoint.
    Forward(Arc<Upstream>),
    /// Sends the client elsewhere.
    Redirect(config::Redirect),
    /// Answers by itself.
    Respond(config::Respond),
    /// There is no route.
    NotFound,
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
