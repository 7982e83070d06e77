//! What is another for a request: the route, the upstream, or the class of the status. Against what the log says of it, or against
//! an earlier file. What is not known is not another.

use super::record::{Record, Text};
use super::ways::{Answer, Fate, Ways};
use crate::metrics::labels::NO_ROUTE;

/// What is another.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Differences {
    pub(super) route: bool,
    pub(super) upstream: bool,
    pub(super) status: bool,
    /// The upstream is another only because the line has none: a log without that field says nothing by it.
    pub(super) by_absence: bool,
}

impl Differences {
    /// Whether something is.
    pub(super) fn any(self) -> bool {
        self.route || self.upstream || self.status
    }
}

/// How `fate` under the file of `ways` differs from what `record` says.
pub(super) fn against_log(record: &Record<'_>, ways: &Ways, fate: &Fate) -> Differences {
    let route = fate.route.map_or(NO_ROUTE, |index| ways.route_name(index));
    let logged = record.route.as_ref().map(Text::as_str);
    let mut targets = ways.targets(fate);
    // Who was asked nothing of may be named although it has no share.
    let was_asked = record.endpoint.is_some();
    let (upstream, by_absence) = match &record.upstream {
        Some(upstream) => {
            let is_this =
                |(name, gets): (&str, bool)| name == upstream.as_str() && (gets || !was_asked);
            (!targets.any(is_this), false)
        }
        None => {
            let is_routed = logged.is_some() && targets.next().is_some();
            (is_routed, is_routed)
        }
    };
    let is_same_route = logged.is_none_or(|logged| logged == route);
    Differences {
        route: !is_same_route,
        upstream,
        status: status(record, is_same_route, ways, fate),
        by_absence,
    }
}

fn status(record: &Record<'_>, is_same_route: bool, ways: &Ways, fate: &Fate) -> bool {
    let route = fate.route.map(|index| &ways.config.routes[index]);
    // What a request gets that came too often, or left, is not known but for that: the same again, while there is such a limit.
    let is_by_chance = match record.reason() {
        Some("rate_limited") => route.is_some_and(|route| route.limits.rate.is_some()),
        Some("route_full") => route.is_some_and(|route| route.limits.in_flight.is_some()),
        Some("client_left") => true,
        Some(_) | None => false,
    };
    if is_by_chance && is_same_route {
        return false;
    }
    match &fate.answer {
        Some(Answer::NoListener) => true,
        Some(answer) => match record.status {
            // Nobody knows what a client that left would have got.
            Some(499) | None => false,
            Some(status) => class(Some(status)) != class(answer.status()),
        },
        None => is_by_file(record),
    }
}

/// Whether the log says that the balancer has answered by itself, as its file said.
fn is_by_file(record: &Record<'_>) -> bool {
    match record.reason() {
        None => {
            let who = record.who.as_ref().map(Text::as_str);
            let is_unrouted = record
                .route
                .as_ref()
                .is_some_and(|it| it.as_str() == NO_ROUTE);
            record.upstream.is_none() && (is_unrouted || who == Some("balancer"))
        }
        Some(
            "ambiguous_path" | "body_too_large" | "connect_method" | "misdirected" | "no_route"
            | "path" | "rate_limited" | "rewrite" | "route_full" | "target_too_long",
        ) => true,
        Some(_) => false,
    }
}

/// How `fate` under the file of `ways` differs from `before` under the file of `earlier`.
pub(super) fn against_file(
    (earlier, before): (&Ways, &Fate),
    (ways, fate): (&Ways, &Fate),
) -> Differences {
    let name = |ways: &Ways, fate: &Fate| fate.route.map(|index| ways.route_name(index).clone());
    let status = match (&before.answer, &fate.answer) {
        (None, None) => false,
        (Some(before), Some(after)) => class(before.status()) != class(after.status()),
        (Some(_), None) | (None, Some(_)) => true,
    };
    Differences {
        route: name(earlier, before) != name(ways, fate),
        upstream: upstreams(earlier, before) != upstreams(ways, fate),
        status,
        by_absence: false,
    }
}

/// Names of those who get requests, in order.
pub(super) fn upstreams<'w>(ways: &'w Ways, fate: &Fate) -> Vec<&'w str> {
    let mut names: Vec<_> = ways
        .targets(fate)
        .filter(|(_, gets)| *gets)
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names
}

/// 2 of 204.
pub(super) fn class(status: Option<u16>) -> Option<u16> {
    status.map(|status| status / 100)
}
