//! Limits of routes and queues of upstreams: how much at once, how often, and who waits.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::HeaderName;

use super::UpstreamTimeouts;
use crate::units::ByteSize;

/// `upstream.queue`: requests that wait while every endpoint has as many as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Queue {
    /// `length`: most requests that wait. Beyond: 503.
    pub length: NonZeroUsize,
    /// `wait`: for how long. Default 1 s. Beyond: 503.
    pub wait: Duration,
    /// `order`. Default first come, first served.
    pub order: QueueOrder,
}

/// `queue.order`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueOrder {
    /// `"fifo"`: who came first. A queue that is full takes nobody.
    Fifo,
    /// `"newest-first"`: who came last. One that is full gives up who came first.
    NewestFirst,
}

impl QueueOrder {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::NewestFirst => "newest-first",
        }
    }
}

/// `upstream.adaptive`: each endpoint's limit of requests at once is found out by trying.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adaptive {
    /// `latency`: nine of ten responses begin within this.
    pub latency: Duration,
    /// `min`: the limit is never lower. Default 1.
    pub min: NonZeroU32,
    /// `max`: nor higher. Default 1000.
    pub max: NonZeroU32,
}

/// `route.limits`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteLimits {
    /// `body_bytes`: a request's body, in the place of the listener's limit. Default: that. Beyond: 413.
    pub body_bytes: Option<ByteSize>,
    /// `in_flight`: requests being served, of all workers. Default: no limit. Beyond: 503.
    pub in_flight: Option<NonZeroU32>,
    /// `rate`. Default: no limit. Beyond: 429.
    pub rate: Option<Rate>,
}

/// `route.limits.rate`: so many requests in so long a time, for each key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rate {
    /// `requests`: how many.
    pub requests: NonZeroU32,
    /// `per`: in how long. Default 1 s.
    pub per: Duration,
    /// `burst`: how many at once after a pause. Default `requests`.
    pub burst: NonZeroU32,
    /// `key`. Default the client's address.
    pub key: RateKey,
}

/// `rate.key`: whose requests are counted together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RateKey {
    /// `"client-address"`: one client's; behind trusted proxies the one they name. IPv6 clients by /64.
    ClientAddress,
    /// `"route"`: all.
    Route,
    /// `"header:NAME"`: those with the same value; without one, by the client's address.
    Header(HeaderName),
}

/// `route.timeouts`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RouteTimeouts {
    /// `request`: from a request's head to the end of its response. Default: no limit. On expiry: 504, or the response is cut.
    pub request: Option<Duration>,
    /// `connect`, in the place of the upstream's.
    pub connect: Option<Duration>,
    /// `response_head`, likewise.
    pub response_head: Option<Duration>,
    /// `stream_idle`, likewise.
    pub stream_idle: Option<Duration>,
    /// `tunnel_idle`, likewise.
    pub tunnel_idle: Option<Duration>,
}

impl RouteTimeouts {
    /// Those of an upstream, with what the route says otherwise.
    pub fn over(&self, upstream: &UpstreamTimeouts) -> UpstreamTimeouts {
        UpstreamTimeouts {
            connect: self.connect.unwrap_or(upstream.connect),
            response_head: self.response_head.unwrap_or(upstream.response_head),
            stream_idle: self.stream_idle.unwrap_or(upstream.stream_idle),
            tunnel_idle: self.tunnel_idle.unwrap_or(upstream.tunnel_idle),
            ..*upstream
        }
    }
}
