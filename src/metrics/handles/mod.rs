//! Resolved counters of listeners, routes, upstreams and endpoints: what a request touches is one atomic each.
//!
//! Series that depend on what a request turns out to be (method, status code, reason) are resolved when they are first
//! needed and kept. Handles made again for the same names count on where the earlier ones were.

mod audit;
mod codes;
mod endpoint;
mod listener;
mod route;
mod upstream;

pub use audit::{AuditMetrics, Audited, Pinned};
pub use codes::CodeCounters;
pub use endpoint::{EndpointMetrics, Shown};
pub use listener::ListenerMetrics;
pub use route::{MirrorMetrics, RouteMetrics};
pub use upstream::{HedgeResult, RetryDenied, RetryReason, UpstreamMetrics};

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn handles_made_again_count_on() {
        let metrics = Metrics::new();
        for _ in 0..2 {
            let route = RouteMetrics::new(&metrics, "app", ["http"].into_iter());
            route.count(0, &Method::GET, 200);
            route.count(0, &Method::from_bytes(b"BREW").unwrap(), 418);
        }
        assert_eq!(
            metrics
                .requests
                .with_label_values(&["http", "app", "GET", "200"])
                .get(),
            2
        );
        assert_eq!(
            metrics
                .requests
                .with_label_values(&["http", "app", "other", "418"])
                .get(),
            2
        );
    }
}
