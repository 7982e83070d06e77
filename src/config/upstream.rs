//! `[upstream.NAME]`: a named group of endpoints.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::{
    Adaptive, Affinity, Budget, Certificate, Hash, Health, Passive, Pause, Place, Queue, Retry,
};
use crate::message::proxy_protocol::Version;
use crate::units::{Name, Weight};

/// `[upstream.NAME]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The table's name.
    pub name: Name,
    /// `policy`. Default round-robin.
    pub policy: Policy,
    /// `hash`: what policy hash picks by.
    pub hash: Hash,
    /// `slow_start`: how long an endpoint that was added or is back takes to come to its full share. Default 30 s; zero: none.
    pub slow_start: Duration,
    /// `spill_below`: backups join below this share of eligible primaries. Default: only with none.
    pub spill_below: Option<f64>,
    /// `endpoints`, in file order; at least one; names are unique within the upstream.
    pub endpoints: Vec<Endpoint>,
    /// `role` is `"authoritative"`, not `"clones"`: one endpoint serves, and no other. Default false.
    pub authoritative: bool,
    /// `active_set`: which set of endpoints serves. `None`: they are in no sets.
    pub active_set: Option<Name>,
    /// `protocol` is `"h2"`, not `"http/1.1"`. Default false. Without `tls` by prior knowledge (RFC 9113 §3.3).
    pub http2: bool,
    /// `tls`. Default: plain.
    pub tls: Option<UpstreamTls>,
    /// `health`. Default: no checks, every endpoint is taken to be up.
    pub health: Option<Health>,
    /// `passive`. Default: on. `None`: `"off"`.
    pub passive: Option<Passive>,
    /// `min_available`: share of the endpoints that stay in use, whatever soft evidence says. Default 0.5.
    pub min_available: f64,
    /// `timeouts`
    pub timeouts: UpstreamTimeouts,
    /// `adaptive`: how many requests at once each endpoint has is found out. Default: no limit but `max_in_flight`.
    pub adaptive: Option<Adaptive>,
    /// `queue`: requests that wait for an endpoint with room. Only with `max_in_flight` or `adaptive`. Default: nobody waits.
    pub queue: Option<Queue>,
    /// `retry`, but for its budget.
    pub retry: Retry,
    /// `retry.budget` and `retry.budget_min`
    pub budget: Budget,
    /// `proxy_protocol`: what goes first on every connection to an endpoint. Default: off.
    pub proxy_protocol: Option<Version>,
    /// `affinity`. Default: none, clients are kept with no endpoint.
    pub affinity: Option<Affinity>,
    /// `state` is `"paused"`, not `"active"`: requests are held. Default false.
    pub paused: bool,
    /// `pause`: how many are held, and for how long.
    pub pause: Pause,
    /// Where the table stands.
    pub place: Place,
}

/// `upstream.policy`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// `"round-robin"`: weighted, smooth.
    RoundRobin,
    /// `"least-connections"`: fewest requests in flight per weight.
    LeastConnections,
    /// `"two-choices"`: the less loaded of two at random.
    TwoChoices,
    /// `"peak-ewma"`: the sooner done of two at random.
    PeakEwma,
    /// `"hash"`: the same endpoint for the same key.
    Hash,
    /// `"random"`: by weight.
    Random,
}

impl Policy {
    /// Every policy and its word in the file.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("round-robin", Self::RoundRobin),
        ("least-connections", Self::LeastConnections),
        ("two-choices", Self::TwoChoices),
        ("peak-ewma", Self::PeakEwma),
        ("hash", Self::Hash),
        ("random", Self::Random),
    ];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::TwoChoices => "two-choices",
            Self::PeakEwma => "peak-ewma",
            Self::Hash => "hash",
            Self::Random => "random",
        }
    }
}

/// One of `upstream.endpoints`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `name`. Default: the address as written.
    pub name: Name,
    /// `address`
    pub address: Address,
    /// `weight`. Default 1.
    pub weight: Weight,
    /// `max_in_flight`: requests it has at once, of all workers. Default: no limit.
    pub max_in_flight: Option<NonZeroU32>,
    /// `backup`: for when primaries are out. Default false.
    pub backup: bool,
    /// `set`: one of several sets of which one serves. Default: none; then no other endpoint of the upstream has one.
    pub set: Option<Name>,
    /// `state`. Default active. `None` where the file does not set it: a mode set by the operator then survives a reload.
    pub mode: Option<Mode>,
    /// Where the entry stands.
    pub place: Place,
}

/// Where an endpoint is reached.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A host name, resolved when the file is loaded and now and then after, and a port.
    Name(Name, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// `endpoint.state`: what the operator wants of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// `"active"`: takes requests.
    Active,
    /// `"draining"`: finishes what it has, gets nothing new; is still checked.
    Draining,
    /// `"disabled"`: gets nothing and is not checked.
    Disabled,
}

impl Mode {
    /// The word in the file, in logs and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// `upstream.tls`
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Whom endpoints' certificates must be signed by.
    pub trust: Trust,
    /// `server_name`: the name endpoints are asked for and must prove. Default: each endpoint's own host.
    pub server_name: Option<ServerName<'static>>,
    /// `client_certificate`: shown to endpoints that ask. Default: none.
    pub client_certificate: Option<Certificate>,
    /// Where the table stands.
    pub place: Place,
}

impl UpstreamTls {
    /// Every file it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let ca = match &self.trust {
            Trust::Authorities { ca, place: _ } => Some(ca),
            Trust::System | Trust::Anyone => None,
        };
        let own = self.client_certificate.iter();
        let own = own.flat_map(|certificate| [&certificate.chain, &certificate.key]);
        ca.into_iter().chain(own).map(PathBuf::as_path)
    }
}

/// `upstream.tls.ca` and `verify`
#[derive(Clone, Debug)]
pub enum Trust {
    /// Neither: the authorities this system trusts.
    System,
    /// `ca`: PEM.
    Authorities {
        /// The file.
        ca: PathBuf,
        /// Where `ca` stands.
        place: Place,
    },
    /// `verify = false`: any certificate is taken.
    Anyone,
}

/// `upstream.timeouts`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UpstreamTimeouts {
    /// `connect`, TLS handshake included. Default 2 s. On expiry: 504, always tried on another endpoint.
    pub connect: Duration,
    /// `response_head`: from the request's head being sent to the response's head. Default 60 s. On expiry: 504.
    pub response_head: Duration,
    /// `stream_idle`: longest pause in a response body. Default 60 s. On expiry the response is cut.
    pub stream_idle: Duration,
    /// `tunnel_idle`: how long nothing may be said over a connection that has changed its protocol. Default 1 h.
    pub tunnel_idle: Duration,
    /// `pool_idle`: how long an unused connection is kept. Default 4 s, below the 5 s after which Node.js closes.
    pub pool_idle: Duration,
    /// `max_age`: how long a connection is used at all. Default 1 h.
    pub max_age: Duration,
}
