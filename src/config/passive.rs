//! `upstream.passive`: when endpoints are set aside for what clients' requests came to.

use std::time::Duration;

/// `upstream.passive`
#[derive(Clone, Debug, PartialEq)]
pub struct Passive {
    /// `consecutive`: failures in a row that eject an endpoint. Default 5, at least 1.
    pub consecutive: u32,
    /// `ratio`: share of the requests in the window that eject it by failing, above 0, at most 1. Default 0.5.
    pub ratio: f64,
    /// `min_requests`: how many requests in the window that takes at least. Default 20, at least 1.
    pub min_requests: u32,
    /// `window`: how far back that looks, in whole seconds, 1 to 60. Default 10 s.
    pub window: Duration,
    /// `eject`: for how long; each time again for longer by as much. Default 10 s.
    pub eject: Duration,
    /// `eject_limit`: the longest. Default 5 min, not below `eject`.
    pub eject_limit: Duration,
    /// `max_ejected`: share of the endpoints that may be ejected at once, above 0, at most 1; of two or more always one. Default 0.5.
    pub max_ejected: f64,
    /// `statuses` that are failures, 500 to 599. Default 502, 503, 504.
    pub statuses: Vec<u16>,
}
