//! What has been counted, apart from who counts: totals go on in the process that takes the place of this one. What is
//! measured at the moment (gauges) is nobody's heritage.

use std::collections::{BTreeMap, HashMap};

use prometheus::proto::{Bucket, Histogram};
use serde::{Deserialize, Serialize};

use super::Metrics;

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

/// Everything that was ever counted, or what has come since.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Totals {
    counters: Vec<(String, Labels, u64)>,
    distributions: Vec<(String, Labels, Distribution)>,
}

/// What was counted in one series.
#[derive(Clone, Debug)]
pub enum Total {
    /// By a counter.
    Count(u64),
    /// By a histogram.
    Distribution(Distribution),
}

/// A histogram's content.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Distribution {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Up to each bound, as in the exposition.
    pub(super) buckets: Vec<u64>,
}

impl Totals {
    /// All of `metrics`.
    pub fn of(metrics: &Metrics) -> Self {
        let mut totals = Self::default();
        metrics.tell(&mut totals);
        totals
    }

    /// Takes note of what was counted in one series.
    pub(super) fn push(&mut self, name: &str, labels: Labels, total: Total) {
        let name = name.to_owned();
        match total {
            Total::Count(count) => self.counters.push((name, labels, count)),
            Total::Distribution(measured) => self.distributions.push((name, labels, measured)),
        }
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counted: HashMap<_, _> = earlier
            .counters
            .iter()
            .map(|(name, labels, value)| ((name, labels), *value))
            .collect();
        let measured: HashMap<_, _> = earlier
            .distributions
            .iter()
            .map(|(name, labels, distribution)| ((name, labels), distribution))
            .collect();
        let counters = self.counters.iter().filter_map(|(name, labels, value)| {
            let before = counted.get(&(name, labels)).copied().unwrap_or_default();
            let more = value.saturating_sub(before);
            (more > 0).then(|| (name.clone(), labels.clone(), more))
        });
        let distributions = self.distributions.iter();
        let distributions = distributions.filter_map(|(name, labels, distribution)| {
            let more = match measured.get(&(name, labels)) {
                Some(before) => distribution.less(before),
                None => distribution.clone(),
            };
            (more.count > 0).then(|| (name.clone(), labels.clone(), more))
        });
        Self {
            counters: counters.collect(),
            distributions: distributions.collect(),
        }
    }
}

impl Metrics {
    /// Goes on counting where another process has got to, in the series whose labels `is_known`: of what this one has not,
    /// nothing would ever take the series away.
    pub fn go_on_from(&self, totals: Totals, is_known: impl Fn(&Labels) -> bool) {
        for (name, labels, count) in totals.counters {
            if is_known(&labels) {
                self.go_on(&name, &labels, Total::Count(count));
            }
        }
        for (name, labels, measured) in totals.distributions {
            if is_known(&labels) {
                self.go_on(&name, &labels, Total::Distribution(measured));
            }
        }
    }
}

impl Distribution {
    /// What the crate has collected.
    pub(super) fn of(histogram: &Histogram) -> Self {
        let buckets = histogram.get_bucket().iter();
        Self {
            count: histogram.get_sample_count(),
            sum: histogram.get_sample_sum(),
            buckets: buckets.map(Bucket::cumulative_count).collect(),
        }
    }

    /// Both together.
    pub(super) fn and(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add, |a, b| a + b)
    }

    /// The same with so many buckets: of another version, which has others, only count and sum go on.
    pub(super) fn over(mut self, buckets: usize) -> Self {
        if self.buckets.len() != buckets {
            self.buckets = vec![0; buckets];
        }
        self
    }

    fn less(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_sub, |a, b| a - b)
    }

    fn with(&self, other: &Self, count: fn(u64, u64) -> u64, sum: fn(f64, f64) -> f64) -> Self {
        let others = other.buckets.iter().copied().chain(std::iter::repeat(0));
        Self {
            count: count(self.count, other.count),
            sum: sum(self.sum, other.sum),
            buckets: self
                .buckets
                .iter()
                .zip(others)
                .map(|(a, b)| count(*a, b))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::encode::{self, Format};

    fn text(metrics: &Metrics) -> String {
        encode::text(metrics, Format::Text)
    }

    fn count(metrics: &Metrics, more: u64) {
        let requests = ["l", "r", "GET", "200"];
        metrics.requests.with_label_values(&requests).inc_by(more);
        metrics.access_log_dropped.inc_by(more);
        for _ in 0..more {
            metrics
                .request_duration
                .with_label_values(&["r"])
                .observe(0.02);
        }
    }

    #[test]
    fn totals_go_on_and_gauges_do_not() {
        let before = Metrics::new();
        count(&before, 3);
        before.config_generation.set(7);
        let first = Totals::of(&before);
        let passed = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        let after = Metrics::new();
        // Histograms go on where there is one.
        after.request_duration.with_label_values(&["r"]);
        after.go_on_from(passed, |_| true);
        count(&after, 2);
        // What the one before has finished meanwhile.
        count(&before, 1);
        after.go_on_from(Totals::of(&before).since(&first), |_| true);
        let text = text(&after);
        for line in [
            "balancer_requests_total{code=\"200\",listener=\"l\",method=\"GET\",route=\"r\"} 6",
            "balancer_access_log_dropped_lines_total 6",
            "balancer_request_duration_seconds_count{route=\"r\"} 6",
            "balancer_request_duration_seconds_bucket{route=\"r\",le=\"0.01\"} 0",
            "balancer_request_duration_seconds_bucket{route=\"r\",le=\"0.025\"} 6",
            "balancer_config_generation 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        // And once more to the next.
        let next = Metrics::new();
        next.request_duration.with_label_values(&["r"]);
        next.go_on_from(Totals::of(&after), |_| true);
        assert_eq!(Totals::of(&next), Totals::of(&after));
    }

    #[test]
    fn what_is_not_known_any_more_is_left_behind() {
        let (before, after) = (Metrics::new(), Metrics::new());
        count(&before, 1);
        let is_known = |labels: &Labels| labels.get("route").is_none_or(|route| route != "r");
        after.go_on_from(Totals::of(&before), is_known);
        assert!(!text(&after).contains("\"r\""));
        assert!(text(&after).contains("dropped_lines_total 1"));
    }

    #[test]
    fn nothing_new_is_nothing() {
        let metrics = Metrics::new();
        count(&metrics, 5);
        let totals = Totals::of(&metrics);
        assert_eq!(Totals::of(&metrics).since(&totals), Totals::default());
    }
}
