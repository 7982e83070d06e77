//! Takes the gauges of what is gone away before its counters. When that is, others know.

use super::Metrics;
use super::measured::Measured;
use super::owners::Owners;

impl Metrics {
    /// Takes away what would go on saying how those that are `gone` are, except for what is in flight.
    pub fn retire_gauges(&self, gone: &Owners<'_>) {
        for family in [
            &self.endpoint_state,
            &self.endpoint_up,
            &self.endpoint_weight,
            &self.available_endpoints,
            &self.headroom_endpoints,
            &self.active_set,
            &self.set_differs,
            &self.queue_length,
            &self.paused,
        ] {
            family.retire(gone);
        }
    }

    /// Takes the series of the mirror of `route` away: the route may be there.
    pub fn retire_mirror(&self, route: &str) {
        let family = &self.mirrored_requests;
        family.remove_where(|values| values.contains(&route));
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::metrics::encode::{Format, text};
    use crate::metrics::{EndpointMetrics, RouteMetrics};

    /// Things named `gone` and `here`, with series of every family.
    fn all(metrics: &Metrics) {
        for name in ["gone", "here"] {
            metrics.show_all(name);
        }
    }

    #[test]
    fn series_of_what_is_gone_are_gone_in_every_family() {
        let metrics = Metrics::new();
        all(&metrics);
        let gone = Owners {
            listeners: ["gone"].into(),
            routes: ["gone"].into(),
            upstreams: ["gone"].into(),
            endpoints: [("gone", "gone")].into(),
        };
        let lines = |name: &str| {
            let text = text(&metrics, Format::Text);
            text.lines().filter(|line| line.contains(name)).count()
        };
        let before = lines("\"here\"");
        assert!(lines("\"gone\"") == before && before > 100, "{before}");
        metrics.retire(&gone);
        assert_eq!((lines("\"gone\""), lines("\"here\"")), (0, before));
    }

    #[test]
    fn each_of_them_goes_alone() {
        let owners: [(Owners<'_>, &[&str]); 4] = [
            (
                Owners {
                    listeners: ["gone"].into(),
                    ..Owners::default()
                },
                &["listener"],
            ),
            (
                Owners {
                    routes: ["gone"].into(),
                    ..Owners::default()
                },
                &["route"],
            ),
            (
                Owners {
                    upstreams: ["gone"].into(),
                    ..Owners::default()
                },
                &["upstream"],
            ),
            (
                Owners {
                    endpoints: [("gone", "gone")].into(),
                    ..Owners::default()
                },
                &["endpoint"],
            ),
        ];
        for (gone, labels) in owners {
            let metrics = Metrics::new();
            all(&metrics);
            metrics.retire(&gone);
            let text = text(&metrics, Format::Text);
            for line in text.lines().filter(|line| line.contains("\"gone\"")) {
                let has = |label: &&str| line.contains(&format!("{label}=\"gone\""));
                assert!(!labels.iter().any(has), "{line} is left of {labels:?}");
            }
            assert!(text.contains("\"gone\""), "{labels:?}: the others stay");
        }
    }

    #[test]
    fn regression_series_that_only_an_earlier_handle_has_counted_are_retired_too() {
        let metrics = Metrics::new();
        let series = |label: &str| {
            let text = text(&metrics, Format::Text);
            text.lines().filter(|line| line.contains(label)).count()
        };
        let route = |name, listener| RouteMetrics::new(&metrics, name, [listener].into_iter());
        for (listener, code) in [("gone", 200), ("old", 404), ("new", 503)] {
            // As a reload makes them.
            route("app", listener).count(0, &Method::GET, code);
            route("app2", listener).count(0, &Method::PUT, code);
            let endpoint = EndpointMetrics::new(&metrics, "app", "a");
            endpoint.count(code);
            EndpointMetrics::new(&metrics, "app", "b").count(code);
        }

        metrics.retire(&Owners {
            listeners: ["gone"].into(),
            ..Owners::default()
        });
        assert_eq!(series("listener=\"gone\""), 0);
        assert_eq!(series("balancer_requests_total{"), 4);
        metrics.retire(&Owners {
            routes: ["app"].into(),
            ..Owners::default()
        });
        assert_eq!(series("route=\"app\""), 0);
        assert_eq!(series("balancer_requests_total{"), 2, "those of app2");
        metrics.retire(&Owners {
            endpoints: [("app", "a")].into(),
            ..Owners::default()
        });
        assert_eq!(series("endpoint=\"a\""), 0);
        assert_eq!(series("balancer_upstream_requests_total{"), 3, "those of b");
    }
}
