//! Reads `hedge` of a route.

use std::time::Duration;

use crate::config::value::Value;
use crate::config::{Hedge, MethodSet, Retry, RouteRetry, RouteTimeouts};

/// What else the route says, of which a hedge must not be the opposite.
pub(super) struct Beside<'a> {
    pub(super) methods: Option<&'a MethodSet>,
    pub(super) timeouts: &'a RouteTimeouts,
    pub(super) retry: &'a RouteRetry,
    /// Its upstreams' own words, and their `response_head`.
    pub(super) upstreams: Vec<&'a (Retry, Duration)>,
}

pub(super) fn hedge(value: &Value<'_>, beside: &Beside<'_>) -> Option<Hedge> {
    value.table(|table| {
        let value = table.required("after", "\"50ms\"")?;
        let after = value.duration()?;
        if let Some(longest) = longest(beside).filter(|(_, longest)| after >= *longest) {
            let (key, longest) = longest;
            value.report(format!(
                "must be shorter than {key}, {longest:?}, after which nobody waits for an answer"
            ));
        }
        let place = table.place();
        if let Some(MethodSet(methods)) = beside.methods
            && !methods.iter().any(Hedge::takes)
        {
            table.report("only requests that change nothing are sent twice at once: GET, HEAD, OPTIONS, TRACE, QUERY, and this route takes none of them; leave it out");
        }
        let attempts = |(upstream, _): &&(Retry, Duration)| beside.retry.over(upstream).attempts;
        if beside.upstreams.iter().map(attempts).any(|most| most < 2) {
            table.report("a hedge is a second attempt, and retry allows one (attempts = 1, or retry = false); let it allow two, or leave this out");
        }
        Some(Hedge { after, place })
    })?
}

/// What ends the first attempt soonest, and when.
fn longest(beside: &Beside<'_>) -> Option<(&'static str, Duration)> {
    let timeouts = beside.timeouts;
    let of_upstream = |(retry, response_head): &&(Retry, Duration)| {
        let retry = beside.retry.over(retry);
        let head = timeouts.response_head.unwrap_or(*response_head);
        [
            ("timeouts.response_head", head),
            (
                "retry.attempt_timeout",
                retry.attempt_timeout.unwrap_or(head),
            ),
        ]
    };
    let of_upstreams = beside.upstreams.iter().flat_map(of_upstream);
    of_upstreams
        .chain(
            timeouts
                .request
                .map(|request| ("timeouts.request", request)),
        )
        .min_by_key(|(_, longest)| *longest)
}
