//! What a route counts, and its mirror.

use http::Method;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::codes::CodeCounters;
use crate::metrics::Metrics;
use crate::metrics::labels::{COPIES, METHODS};
use crate::metrics::vector::IntCounterVec;

/// Counters of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Box<str>,
    listeners: Box<[(Box<str>, [CodeCounters; METHODS.len()])]>,
    requests: IntCounterVec,
    errors: IntCounterVec,
    /// Requests being served.
    pub in_flight: IntGauge,
    /// Durations in seconds.
    pub duration: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: IntCounter,
    /// Bytes of response bodies.
    pub response_bytes: IntCounter,
    /// Requests refused because of this exclusive route.
    pub ambiguous: IntCounter,
}

impl RouteMetrics {
    /// Of the route `name`, which requests reach through `listeners`, in the snapshot's order.
    pub fn new<'a>(
        metrics: &Metrics,
        name: &str,
        listeners: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self {
            name: name.into(),
            listeners: listeners
                .map(|listener| {
                    (
                        listener.into(),
                        std::array::from_fn(|_| CodeCounters::new()),
                    )
                })
                .collect(),
            requests: metrics.requests.clone(),
            errors: metrics.errors.clone(),
            in_flight: metrics.requests_in_flight.with_label_values(&[name]),
            duration: metrics.request_duration.with_label_values(&[name]),
            request_bytes: metrics.request_bytes.with_label_values(&[name]),
            response_bytes: metrics.response_bytes.with_label_values(&[name]),
            ambiguous: metrics.ambiguous_path.with_label_values(&[name]),
        }
    }

    /// Counts a finished request that came through the listener at `listener`.
    pub fn count(&self, listener: usize, method: &Method, code: u16) {
        let Some((listener, methods)) = self.listeners.get(listener) else {
            return;
        };
        let index = method_index(method);
        methods[index].count(code, |code| {
            self.requests
                .with_label_values(&[listener, &self.name, METHODS[index], code])
        });
    }

    /// Counts an error. Not for the common path: the series is looked up.
    pub fn count_error(&self, reason: &str) {
        self.errors.with_label_values(&[&self.name, reason]).inc();
    }
}

/// A method as a label; the standard ones only, so that no client makes series.
fn method_index(method: &Method) -> usize {
    METHODS
        .iter()
        .position(|name| *name == method.as_str())
        .unwrap_or(METHODS.len() - 1)
}

/// Counters of a route's mirror.
#[derive(Debug)]
pub struct MirrorMetrics {
    /// Copies that were answered, whatever the status.
    pub answered: IntCounter,
    /// Copies that were not, or not in time.
    pub failed: IntCounter,
    /// Not copied: the body is too large.
    pub too_large: IntCounter,
    /// Not sent: the request itself did not come whole.
    pub incomplete: IntCounter,
    /// Not copied: there are too many at once, or the mirror is paused.
    pub dropped: IntCounter,
}

impl MirrorMetrics {
    /// Of the route `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        let [answered, failed, too_large, incomplete, dropped] =
            COPIES.map(|result| metrics.mirrored_requests.with_label_values(&[name, result]));
        Self {
            answered,
            failed,
            too_large,
            incomplete,
            dropped,
        }
    }
}
