//! What attempts at one endpoint have come to, for whoever holds one set of endpoints against another. Of this process alone:
//! series go on from those of a process before, and jump when they do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus::Histogram;
use prometheus::core::Metric;
use serde::{Deserialize, Serialize};

use super::cells::SECONDS;

/// Attempts that went wrong. Written by workers when one does, read by the control thread; relaxed: the numbers alone matter.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Not answered at all, through the endpoint's fault, or before the client had waited long enough to leave.
    unanswered: AtomicU64,
    /// These, those answered with status 500 and above, and those whose response was cut.
    failed: AtomicU64,
}

/// All attempts at an endpoint so far, or at several, or between two moments.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Answers {
    /// How many.
    pub requests: u64,
    /// How many of them went wrong.
    pub errors: u64,
    /// How many were answered within each of [`SECONDS`] and not before; then those that took longer.
    pub within: [u64; SECONDS.len() + 1],
}

impl Attempts {
    /// One was not answered.
    pub fn count_unanswered(&self) {
        self.unanswered.fetch_add(1, Relaxed);
        self.failed.fetch_add(1, Relaxed);
    }

    /// One was answered, and not well.
    pub fn count_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// All so far, where `answered` has the times of the answers.
    pub fn read(&self, answered: &Histogram) -> Answers {
        let mut answers = Answers::default();
        let metric = answered.metric();
        let histogram = metric.get_histogram();
        let mut before = 0;
        for (within, bucket) in answers.within.iter_mut().zip(histogram.get_bucket()) {
            *within = bucket.cumulative_count().saturating_sub(before);
            before = bucket.cumulative_count();
        }
        let all = histogram.get_sample_count();
        answers.within[SECONDS.len()] = all.saturating_sub(before);
        answers.requests = all + self.unanswered.load(Relaxed);
        // A response may be counted a moment before its time is.
        answers.errors = self.failed.load(Relaxed).min(answers.requests);
        answers
    }
}

impl Answers {
    /// What has come since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            within: self.within,
        };
        for (within, earlier) in since.within.iter_mut().zip(earlier.within) {
            *within = within.saturating_sub(earlier);
        }
        since
    }

    /// And these.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        for (within, more) in self.within.iter_mut().zip(more.within) {
            *within += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn answers_are_counted_by_the_time_they_took() {
        let metrics = Metrics::new();
        let times = metrics.upstream_response.with_label_values(&["app", "a"]);
        let attempts = Attempts::default();
        let begun = attempts.read(&times);
        assert_eq!(begun, Answers::default());
        for seconds in [0.0005, 0.002, 0.002, 70.0] {
            times.observe(seconds);
        }
        attempts.count_failed();
        attempts.count_unanswered();
        let first = attempts.read(&times);
        assert_eq!((first.requests, first.errors), (5, 2));
        assert_eq!(first.within[..3], [1, 2, 0]);
        assert_eq!(first.within[SECONDS.len()], 1);
        times.observe(0.002);
        let since = attempts.read(&times).since(&first);
        assert_eq!((since.requests, since.errors), (1, 0));
        assert_eq!(since.within.iter().sum::<u64>(), 1);
        let mut sum = first;
        sum.add(&since);
        assert_eq!(sum, attempts.read(&times));
    }
}
