//! What a series measures with: counters, gauges, histograms of seconds.

use prometheus::core::Metric;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};

use super::encode::Page;
use super::family::Kind;
use super::totals::{Distribution, Total};
use super::vector::Cell;

/// Upper bounds of histograms in seconds: 14, from 1 ms to 60 s.
pub const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// The same as labels, the same in all formats; the last is for what is beyond.
pub(super) const BOUNDS: [&str; SECONDS.len() + 1] = [
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0",
    "15.0", "60.0", "+Inf",
];

/// The crate wants a name of each: what is written is that of the family.
const NAMELESS: &str = "x";

const VALID: &str = "the name is valid";

impl Cell for IntCounter {
    const KIND: Kind = Kind::Counter;
    type Earlier = ();

    fn new() -> Self {
        Self::new(NAMELESS, NAMELESS).expect(VALID)
    }

    fn write(&self, (): &(), labels: &str, page: &mut Page) {
        page.sample(labels, self.get());
    }

    fn total(&self, (): &()) -> Option<Total> {
        Some(Total::Count(self.get()))
    }

    fn go_on(&self, (): &mut (), total: Total) {
        if let Total::Count(count) = total {
            self.inc_by(count);
        }
    }
}

impl Cell for IntGauge {
    const KIND: Kind = Kind::Gauge;
    type Earlier = ();

    fn new() -> Self {
        Self::new(NAMELESS, NAMELESS).expect(VALID)
    }

    fn write(&self, (): &(), labels: &str, page: &mut Page) {
        page.sample(labels, self.get());
    }

    fn total(&self, (): &()) -> Option<Total> {
        None
    }

    fn go_on(&self, (): &mut (), _: Total) {}
}

impl Cell for Histogram {
    const KIND: Kind = Kind::Histogram;
    /// A histogram cannot be told what others have measured; who asks here how many there were means those of this process.
    type Earlier = Option<Box<Distribution>>;

    fn new() -> Self {
        let like = HistogramOpts::new(NAMELESS, NAMELESS).buckets(SECONDS.to_vec());
        Self::with_opts(like).expect(VALID)
    }

    fn write(&self, earlier: &Self::Earlier, labels: &str, page: &mut Page) {
        page.histogram(labels, &with(self, earlier));
    }

    fn total(&self, earlier: &Self::Earlier) -> Option<Total> {
        Some(Total::Distribution(with(self, earlier)))
    }

    fn go_on(&self, earlier: &mut Self::Earlier, total: Total) {
        if let Total::Distribution(more) = total {
            let sum = match earlier {
                Some(earlier) => earlier.and(&more),
                None => more,
            };
            *earlier = Some(Box::new(sum.over(SECONDS.len())));
        }
    }
}

fn with(histogram: &Histogram, earlier: &Option<Box<Distribution>>) -> Distribution {
    let own = Distribution::of(histogram.metric().get_histogram());
    match earlier {
        Some(earlier) => own.and(earlier),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_they_are() {
        for (bound, written) in SECONDS.iter().zip(BOUNDS) {
            assert_eq!(format!("{bound:?}"), written);
        }
    }
}
