//! What attempts at one endpoint have come to, for whoever holds one set of endpoints against another. Of this process alone:
//! series go on from those of a process before, and jump when they do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::Histogram;
use prometheus::core::Metric;
use serde::{Deserialize, Serialize};

use super::cells::SECONDS;

/// Attempts that went wrong. Written by workers when one does, read by the control thread; relaxed: the numbers alone matter.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Not answered at all, through the endpoint's fault.
    unanswered: AtomicU64,
    /// These, those answered with status 500 and above, and those whose response was cut.
    failed: AtomicU64,
    /// Given up before they were answered, by how long that took, as in [`Answers::left`].
    left: [AtomicU64; SECONDS.len() + 1],
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
    /// Those that were given up before they were answered, such as by clients that left: how many had waited as long as each of
    /// [`SECONDS`] and not as the next; first those that had not waited as long as the first. None of them is a request above.
    #[serde(default)]
    pub left: [u64; SECONDS.len() + 1],
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

    /// One was given up after it had waited for so long.
    pub fn count_left(&self, waited: Duration) {
        let waited = waited.as_secs_f64();
        let at = SECONDS.iter().take_while(|bound| waited >= **bound).count();
        if let Some(left) = self.left.get(at) {
            left.fetch_add(1, Relaxed);
        }
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
        for (left, counted) in answers.left.iter_mut().zip(&self.left) {
            *left = counted.load(Relaxed);
        }
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
            left: self.left,
        };
        let counts = since.within.iter_mut().chain(&mut since.left);
        for (count, earlier) in counts.zip(earlier.within.iter().chain(&earlier.left)) {
            *count = count.saturating_sub(*earlier);
        }
        since
    }

    /// And these.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        let counts = self.within.iter_mut().chain(&mut self.left);
        for (count, more) in counts.zip(more.within.iter().chain(&more.left)) {
            *count += more;
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
        for millis in [0, 1, 2, 3, 60_000, 70_000] {
            attempts.count_left(Duration::from_millis(millis));
        }
        let since = attempts.read(&times).since(&first);
        assert_eq!((since.requests, since.errors), (1, 0));
        assert_eq!(since.within.iter().sum::<u64>(), 1);
        assert_eq!(since.left[..3], [1, 2, 1]);
        assert_eq!(since.left[SECONDS.len()], 2);
        let mut sum = first;
        sum.add(&since);
        assert_eq!(sum, attempts.read(&times));
    }
}
