//! How many requests a route takes, and how long they may take.

use super::lines::{Lines, join};
use crate::config::{Rate, RateKey, Route};

/// The route's own limits, where there are any.
pub(super) fn explain_limits(lines: &mut Lines, route: &Route) {
    let limits = &route.limits;
    let told = [
        limits.body_bytes.map(|bytes| format!("body {bytes}")),
        limits.in_flight.map(|count| format!("{count} in flight")),
        limits.rate.as_ref().map(rate),
    ];
    push(lines, "limits", told);
    let request = route.timeouts.request;
    push(
        lines,
        "timeouts",
        [request.map(|limit| format!("request {limit:?}"))],
    );
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
