//! Counts requests and failures by route, from what the metrics hold. Goes through whole families: not for every second.

use std::collections::HashMap;

use super::super::wilson::Counts;
use crate::config::CountedErrors;
use crate::metrics::Metrics;

/// All there were since the process began, or between two moments.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Tally(HashMap<String, Route>);

#[derive(Clone, Copy, Debug, Default)]
struct Route {
    requests: u64,
    /// Answered by the balancer itself, or cut.
    own: u64,
    /// With status 500 and above.
    all: u64,
    /// Not finished yet.
    in_flight: u64,
}

impl Tally {
    /// Of now.
    pub(super) fn take(metrics: &Metrics) -> Self {
        let mut routes: HashMap<String, Route> = HashMap::new();
        let mut route = |name: &str, add: &mut dyn FnMut(&mut Route)| {
            if !routes.contains_key(name) {
                routes.insert(name.to_owned(), Route::default());
            }
            routes.get_mut(name).map(add);
        };
        metrics.requests.each(|values, count| {
            let [_listener, name, _method, code] = values else {
                return;
            };
            route(name, &mut |route| {
                route.requests += count.get();
                if *code >= "500" {
                    route.all += count.get();
                }
            });
        });
        metrics.errors.each(|values, count| {
            let [name, reason] = values else {
                return;
            };
            if OWN.contains(reason) {
                route(name, &mut |route| route.own += count.get());
            }
        });
        metrics.requests_in_flight.each(|values, gauge| {
            let in_flight = u64::try_from(gauge.get()).unwrap_or_default();
            route(values[0], &mut |route| route.in_flight = in_flight);
        });
        Self(routes)
    }

    /// The same, if all that is in flight should fail.
    pub(super) fn at_worst(&self) -> Self {
        let routes = self.0.iter().map(|(name, route)| {
            let route = Route {
                requests: route.requests + route.in_flight,
                own: route.own + route.in_flight,
                all: route.all + route.in_flight,
                in_flight: 0,
            };
            (name.clone(), route)
        });
        Self(routes.collect())
    }

    /// What has come since `earlier`, and what is in flight. Series that were retired meanwhile count as nothing.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let routes = self.0.iter().map(|(name, now)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            let route = Route {
                requests: now.requests.saturating_sub(before.requests),
                own: now.own.saturating_sub(before.own),
                all: now.all.saturating_sub(before.all),
                in_flight: now.in_flight,
            };
            (name.clone(), route)
        });
        Self(routes.collect())
    }

    /// By route.
    pub(super) fn routes(&self, errors: CountedErrors) -> impl Iterator<Item = (&str, Counts)> {
        let routes = self.0.iter();
        routes.map(move |(name, route)| (name.as_str(), route.counts(errors)))
    }

    /// Of one route.
    pub(super) fn route(&self, name: &str, errors: CountedErrors) -> Counts {
        let route = self.0.get(name).copied().unwrap_or_default();
        route.counts(errors)
    }

    /// Of all together.
    pub(super) fn total(&self, errors: CountedErrors) -> Counts {
        let mut total = Counts::default();
        for (_, counts) in self.routes(errors) {
            total.requests += counts.requests;
            total.errors += counts.errors;
        }
        total
    }
}

impl Route {
    fn counts(self, errors: CountedErrors) -> Counts {
        Counts {
            requests: self.requests,
            errors: match errors {
                CountedErrors::Own => self.own,
                CountedErrors::All => self.all,
            },
        }
    }
}

/// Reasons of errors with status 500 and above that are no client's doing, and not what a configuration asks for as `paused` is.
const OWN: &[&str] = &[
    "closed",
    "connect_failed",
    "connect_refused",
    "connect_timeout",
    "exhausted",
    "garbage",
    "no_authority",
    "no_endpoint",
    "not_switched",
    "queue_full",
    "queue_timeout",
    "request_timeout",
    "response_cut",
    "response_idle",
    "response_timeout",
    "rewrite",
    "route_full",
    "stream_refused",
    "tls_certificate",
    "tls_failed",
    "two_authorities",
    "unasked_101",
    "wrong_protocol",
];

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::metrics::RouteMetrics;
    use crate::metrics::labels::REASONS;

    /// Clients make these come up, or the end of a tunnel that nobody uses, or who pauses an upstream.
    const OTHERS: &[&str] = &[
        "ambiguous_path",
        "body_broken",
        "body_timeout",
        "body_too_large",
        "client_left",
        "conflicting_framing",
        "connect_method",
        "connection_names",
        "expectation",
        "head_timeout",
        "head_too_large",
        "host",
        "loop",
        "malformed",
        "misdirected",
        "no_route",
        "path",
        "paused",
        "rate_limited",
        "target_too_long",
        "too_many_fields",
        "tunnel_idle",
        "upgrade",
        "version",
    ];

    #[test]
    fn every_reason_is_either_counted_or_not() {
        let mut all: Vec<_> = OWN.iter().chain(OTHERS).collect();
        all.sort_unstable();
        assert_eq!(all, REASONS.iter().collect::<Vec<_>>());
    }

    #[test]
    fn routes_are_counted_apart_and_from_a_moment_on() {
        let metrics = Metrics::new();
        let routes = ["a", "b"].map(|name| RouteMetrics::new(&metrics, name, ["l"].into_iter()));
        let ask = |route: &RouteMetrics, code, reason: Option<&str>| {
            route.count(0, &Method::GET, code);
            if let Some(reason) = reason {
                route.count_error(reason);
            }
        };
        ask(&routes[0], 503, Some("no_endpoint"));
        let earlier = Tally::take(&metrics);
        for (code, reason) in [
            (200, None),
            (502, Some("connect_refused")),
            (500, None),
            (400, Some("malformed")),
            (503, Some("paused")),
        ] {
            ask(&routes[0], code, reason);
        }
        ask(&routes[1], 200, None);
        let since = Tally::take(&metrics).since(&earlier);
        let counts = |requests, errors| Counts { requests, errors };
        assert_eq!(since.route("a", CountedErrors::Own), counts(5, 1));
        assert_eq!(since.route("a", CountedErrors::All), counts(5, 3));
        assert_eq!(since.route("b", CountedErrors::All), counts(1, 0));
        assert_eq!(since.route("c", CountedErrors::All), counts(0, 0));
        assert_eq!(since.total(CountedErrors::Own), counts(6, 1));
        assert_eq!(
            earlier
                .since(&Tally::take(&metrics))
                .total(CountedErrors::All),
            counts(0, 0)
        );
    }
}
