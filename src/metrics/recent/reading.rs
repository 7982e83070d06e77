//! What the metrics have counted by now, of each route and endpoint. Knows nothing of what was before.

use std::collections::HashMap;

use prometheus::Histogram;
use prometheus::core::Metric;

use crate::metrics::Metrics;
use crate::metrics::totals::Distribution;

/// What has been counted of everything by now.
#[derive(Debug, Default)]
pub struct Reading {
    pub(super) routes: HashMap<String, Counted>,
    /// By the names of upstream and endpoint.
    pub(super) endpoints: HashMap<String, HashMap<String, Counted>>,
    /// Of routes.
    pub(super) in_flight: HashMap<String, u32>,
}

/// Counted since the process began, or between two points.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) requests: u64,
    /// Of these, answered with 5xx, or not at all.
    pub(super) errors: u64,
    /// Of these, those that have a duration.
    pub(super) timed: u64,
    /// Requests that took no longer than each bound of a histogram.
    pub(super) buckets: Vec<u64>,
}

impl Reading {
    /// What `metrics` say now. With thousands of endpoints it takes milliseconds.
    pub fn of(metrics: &Metrics) -> Self {
        let mut reading = Self::default();
        reading.read_routes(metrics);
        reading.read_endpoints(metrics);
        reading
    }

    fn read_routes(&mut self, metrics: &Metrics) {
        metrics.request_duration.each(|values, durations| {
            if let [route] = values {
                let counted = Counted::of(durations);
                self.routes.insert((*route).to_owned(), counted);
            }
        });
        metrics.requests.each(|values, count| {
            if let [_, route, _, code] = values
                && code.starts_with('5')
                && let Some(counted) = self.routes.get_mut(*route)
            {
                counted.errors += count.get();
            }
        });
        metrics.requests_in_flight.each(|values, gauge| {
            if let [route] = values {
                let in_flight = u32::try_from(gauge.get().max(0)).unwrap_or(u32::MAX);
                self.in_flight.insert((*route).to_owned(), in_flight);
            }
        });
    }

    fn read_endpoints(&mut self, metrics: &Metrics) {
        metrics.upstream_response.each(|values, durations| {
            if let [upstream, endpoint] = values {
                let endpoints = self.endpoints.entry((*upstream).to_owned()).or_default();
                endpoints.insert((*endpoint).to_owned(), Counted::of(durations));
            }
        });
        metrics.upstream_requests.each(|values, count| {
            if let [upstream, endpoint, code] = values
                && code.starts_with('5')
                && let Some(counted) = self.endpoint(upstream, endpoint)
            {
                counted.errors += count.get();
            }
        });
        // Attempts that were not answered. One whose answer was cut is among both: that is rare.
        metrics.upstream_failures.each(|values, count| {
            if let [upstream, endpoint, _] = values
                && let Some(counted) = self.endpoint(upstream, endpoint)
            {
                counted.requests += count.get();
                counted.errors += count.get();
            }
        });
    }

    fn endpoint(&mut self, upstream: &str, endpoint: &str) -> Option<&mut Counted> {
        self.endpoints.get_mut(upstream)?.get_mut(endpoint)
    }
}

impl Counted {
    fn of(durations: &Histogram) -> Self {
        let measured = Distribution::of(durations.metric().get_histogram());
        Self {
            requests: measured.count,
            errors: 0,
            timed: measured.count,
            buckets: measured.buckets,
        }
    }

    /// What is more in this than in `last`.
    pub(super) fn since(&self, last: &Self) -> Self {
        // A counter that begins anew has counted what it says.
        let more = |now: u64, before: u64| if now < before { now } else { now - before };
        let before = last.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets = self.buckets.iter().zip(before);
        Self {
            requests: more(self.requests, last.requests),
            errors: more(self.errors, last.errors),
            timed: more(self.timed, last.timed),
            buckets: buckets.map(|(now, before)| more(*now, before)).collect(),
        }
    }

    /// Adds another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.timed += other.timed;
        self.buckets.resize(other.buckets.len(), 0);
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
    }
}
