//! How many requests a route takes, how long they may take, and where they wait.

use super::lines::{Lines, join};
use crate::config::{Adaptive, Config, Rate, RateKey, Route};

/// The route's limits and time limits, and its upstream's queue, where there are any.
pub(super) fn explain_limits(lines: &mut Lines, config: &Config, route: &Route) {
    let limits = &route.limits;
    let told = [
        limits.body_bytes.map(|bytes| format!("body {bytes}")),
        limits.in_flight.map(|count| format!("{count} in flight")),
        limits.rate.as_ref().map(rate),
    ];
    push(lines, "limits", told);
    let timeouts = &route.timeouts;
    let told = [
        ("request", timeouts.request),
        ("connect", timeouts.connect),
        ("response_head", timeouts.response_head),
        ("stream_idle", timeouts.stream_idle),
        ("tunnel_idle", timeouts.tunnel_idle),
    ];
    let told = told.map(|(name, limit)| limit.map(|limit| format!("{name} {limit:?}")));
    push(lines, "timeouts", told);
    if let Some(hedge) = &route.hedge {
        lines.push(
            "hedge",
            format!(
                "a second endpoint after {:?} without answer, for {SAFE} without a body",
                hedge.after
            ),
        );
    }
    for upstream in route.action.upstreams() {
        let upstream = &config.upstreams[upstream];
        if let Some(Adaptive { latency, min, max }) = &upstream.adaptive {
            lines.push(
                "adaptive",
                format!(
                    "{}: {min} to {max} in flight at an endpoint, for {latency:?}",
                    upstream.name
                ),
            );
        }
        if let Some(queue) = &upstream.queue {
            let order = queue.order.as_str();
            lines.push(
                "queue",
                format!(
                    "{}: {} wait for {:?}, {order}",
                    upstream.name, queue.length, queue.wait
                ),
            );
        }
    }
}

fn push<const N: usize>(lines: &mut Lines, label: &str, told: [Option<String>; N]) {
    let told: Vec<String> = told.into_iter().flatten().collect();
    if !told.is_empty() {
        lines.push(label, join(told, ", "));
    }
}

fn rate(rate: &Rate) -> String {
    let key = match &rate.key {
        RateKey::ClientAddress => "client address".to_owned(),
        RateKey::Route => "route".to_owned(),
        RateKey::Header(name) => format!("header {name}"),
    };
    let Rate {
        requests,
        per,
        burst,
        ..
    } = rate;
    format!("{requests} requests per {per:?} by {key}, {burst} at once")
}

/// Those that [`Hedge::takes`](crate::config::Hedge::takes).
const SAFE: &str = "GET, HEAD, OPTIONS, TRACE and QUERY";
