//! What routes do by their upstreams.

use crate::config::{self, Config};

/// Protocols that clients of `route` may change to. None where endpoints speak HTTP/2: a tunnel to them would be another kind
/// of request (RFC 8441), which is not made yet.
pub(super) fn upgrades<'a>(config: &Config, route: &'a config::Route) -> &'a [Box<str>] {
    let mut upstreams = route.action.upstreams();
    if upstreams.any(|upstream| config.upstreams[upstream].http2) {
        return &[];
    }
    &route.upgrades
}

/// When requests of `route` are sent once more, for each of its upstreams, where it says so itself.
pub(super) fn retry(config: &Config, route: &config::Route) -> Box<[config::Retry]> {
    let Some(said) = &route.retry else {
        return Box::default();
    };
    let upstreams = route.action.upstreams();
    upstreams
        .map(|upstream| said.over(&config.upstreams[upstream].retry))
        .collect()
}
