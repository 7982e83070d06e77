//! What has been counted, apart from who counts: totals go on in the process that takes the place of this one. What is
//! measured at the moment (gauges) is nobody's heritage.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use prometheus::proto::{Histogram, Metric, MetricFamily, MetricType};
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

/// A histogram's content.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Distribution {
    count: u64,
    sum: f64,
    /// Up to each bound, as in the exposition.
    buckets: Vec<u64>,
}

/// What processes before this one have measured: histograms cannot be told, only asked. Written when a process is taken over
/// from, read when somebody scrapes.
#[derive(Debug, Default)]
pub(super) struct Earlier(Mutex<HashMap<(String, Labels), Distribution>>);

impl Totals {
    /// All of `metrics`.
    pub fn of(metrics: &Metrics) -> Self {
        let mut totals = Self::default();
        for family in metrics.gather() {
            for metric in family.get_metric() {
                let (name, labels) = (family.name().to_owned(), labels(metric));
                match family.get_field_type() {
                    MetricType::COUNTER => {
                        totals.counters.push((
                            name,
                            labels,
                            metric.get_counter().get_value() as u64,
                        ));
                    }
                    MetricType::HISTOGRAM => {
                        let distribution = Distribution::of(metric.get_histogram());
                        totals.distributions.push((name, labels, distribution));
                    }
                    MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {}
                }
            }
        }
        totals
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
    /// Every family as it is now, with what processes before this one have measured.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry().gather();
        let Earlier(earlier) = &self.earlier;
        let earlier = earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if earlier.is_empty() {
            return families;
        }
        for family in &mut families {
            if family.get_field_type() != MetricType::HISTOGRAM {
                continue;
            }
            let name = family.name().to_owned();
            for metric in family.mut_metric() {
                if let Some(before) = earlier.get(&(name.clone(), labels(metric))) {
                    let sum = Distribution::of(metric.get_histogram()).and(before);
                    metric.set_histogram(sum.over(metric.get_histogram()));
                }
            }
        }
        families
    }

    /// Lets go of what processes before this one have measured in the series whose labels `is_gone`: one that comes back begins
    /// anew, as its counters do.
    pub fn forget_earlier(&self, is_gone: impl Fn(&Labels) -> bool) {
        let Earlier(earlier) = &self.earlier;
        let mut earlier = earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.retain(|(_, labels), _| !is_gone(labels));
    }

    /// Goes on counting where another process has got to, in the series whose labels `is_known`: of what this one has not,
    /// nothing would ever take the series away.
    pub fn go_on_from(&self, totals: Totals, is_known: impl Fn(&Labels) -> bool) {
        for (name, labels, value) in totals.counters {
            if is_known(&labels) {
                self.count(&name, &labels, value);
            }
        }
        let Earlier(earlier) = &self.earlier;
        let mut earlier = earlier.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, labels, distribution) in totals.distributions {
            if is_known(&labels) {
                let before = earlier.entry((name, labels)).or_default();
                *before = distribution.and(before);
            }
        }
    }
}

impl Distribution {
    fn of(histogram: &Histogram) -> Self {
        Self {
            count: histogram.get_sample_count(),
            sum: histogram.get_sample_sum(),
            buckets: histogram
                .get_bucket()
                .iter()
                .map(prometheus::proto::Bucket::cumulative_count)
                .collect(),
        }
    }

    /// The same with the bounds of `like`. With others, as of another version, only count and sum go on.
    fn over(&self, like: &Histogram) -> Histogram {
        let mut histogram = like.clone();
        histogram.set_sample_count(self.count);
        histogram.set_sample_sum(self.sum);
        let mut buckets = like.get_bucket().to_vec();
        for (bucket, count) in buckets.iter_mut().zip(&self.buckets) {
            bucket.set_cumulative_count(*count);
        }
        histogram.set_bucket(buckets);
        histogram
    }

    fn and(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add, |a, b| a + b)
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

fn labels(metric: &Metric) -> Labels {
    metric
        .get_label()
        .iter()
        .map(|pair| (pair.name().to_owned(), pair.value().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::encode;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(encode::text(metrics).unwrap()).unwrap()
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
        let process = |name: &str| name.starts_with("process_");
        let mut since = Totals::of(&metrics).since(&totals);
        since.counters.retain(|(name, ..)| !process(name));
        assert_eq!(since, Totals::default());
    }
}
