//! Writes all families as text: in the Prometheus format 0.0.4, or in OpenMetrics 1.0 for those who ask for it.
//!
//! Exemplars are not written: each would have to be kept by a request, and costs more than all of its counters.

use std::fmt::Write;

use prometheus::core::Collector;
use prometheus::proto::MetricType;

use super::Metrics;
use super::catalogue::FAMILIES;
use super::cells::BOUNDS;
use super::family::{Family, Kind};
use super::totals::Distribution;
use crate::message::negotiate::quality;

/// A form in which metrics can be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Prometheus text.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The one that a client with this `Accept` likes better; text where it has no wish.
    pub fn preferred(accept: &[u8]) -> Self {
        let open = quality(accept, ("application", "openmetrics-text"));
        if open > quality(accept, ("text", "plain")) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// What `Content-Type` says of it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All families that have series.
pub fn text(metrics: &Metrics, format: Format) -> String {
    let mut page = Page::new(format);
    metrics.write(&mut page);
    page.process(metrics);
    page.end()
}

/// A text that is being written.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
    /// Of the family that is being written.
    name: &'static str,
}

/// What stands above the samples of a family.
struct Head<'a> {
    name: &'a str,
    kind: Kind,
    unit: &'a str,
    help: &'a str,
}

impl From<&'static Family> for Head<'static> {
    fn from(family: &'static Family) -> Self {
        Self {
            name: family.name,
            kind: family.kind,
            unit: family.unit.as_str(),
            help: family.help,
        }
    }
}

impl Page {
    fn new(format: Format) -> Self {
        Self {
            text: String::with_capacity(64 << 10),
            format,
            name: "",
        }
    }

    /// Begins a family.
    pub(super) fn begin(&mut self, family: &'static Family) {
        self.head(&family.into());
        self.name = family.name;
    }

    /// Writes a sample of the family. `labels` come without braces; none is empty.
    pub(super) fn sample(&mut self, labels: &str, value: impl itoa::Integer) {
        self.series("", labels, "");
        self.value(value);
    }

    /// Writes a histogram of the family.
    pub(super) fn histogram(&mut self, labels: &str, measured: &Distribution) {
        let buckets = measured.buckets.iter().copied();
        for (bound, count) in BOUNDS.into_iter().zip(buckets.chain([measured.count])) {
            self.series("_bucket", labels, bound);
            self.value(count);
        }
        self.series("_sum", labels, "");
        // Writing to a string does not fail.
        let _ = writeln!(self.text, " {}", measured.sum);
        self.series("_count", labels, "");
        self.value(measured.count);
    }

    fn head(&mut self, head: &Head<'_>) {
        let (name, kind) = match self.format {
            Format::Text => (head.name, head.kind.as_str()),
            Format::OpenMetrics => open_metrics(head),
        };
        let _ = writeln!(self.text, "# HELP {name} {}", head.help);
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        let has_unit = name
            .strip_suffix(head.unit)
            .is_some_and(|base| !head.unit.is_empty() && base.ends_with('_'));
        if has_unit && self.format == Format::OpenMetrics {
            let _ = writeln!(self.text, "# UNIT {name} {}", head.unit);
        }
    }

    /// Up to the value. `le` is empty where there is no such label.
    fn series(&mut self, suffix: &str, labels: &str, le: &str) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        if labels.is_empty() && le.is_empty() {
            return;
        }
        self.text.push('{');
        self.text.push_str(labels);
        if !le.is_empty() {
            if !labels.is_empty() {
                self.text.push(',');
            }
            self.text.push_str("le=\"");
            self.text.push_str(le);
            self.text.push('"');
        }
        self.text.push('}');
    }

    fn value(&mut self, value: impl itoa::Integer) {
        self.text.push(' ');
        self.text.push_str(itoa::Buffer::new().format(value));
        self.text.push('\n');
    }

    /// Writes what the system says of the process.
    fn process(&mut self, metrics: &Metrics) {
        for family in metrics.process.collect() {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => Kind::Counter,
                _ => Kind::Gauge,
            };
            for metric in family.get_metric() {
                let value = match kind {
                    Kind::Counter => metric.get_counter().get_value(),
                    Kind::Gauge | Kind::Histogram => metric.get_gauge().get_value(),
                };
                let base = family.name().trim_end_matches("_total");
                let mut units = ["seconds", "bytes"].into_iter();
                let unit = units.find(|unit| base.ends_with(unit));
                self.head(&Head {
                    name: family.name(),
                    kind,
                    unit: unit.unwrap_or_default(),
                    help: family.help(),
                });
                let _ = writeln!(self.text, "{} {value}", family.name());
            }
        }
    }

    fn end(mut self) -> String {
        match self.format {
            Format::Text => {}
            Format::OpenMetrics => self.text.push_str("# EOF\n"),
        }
        self.text
    }
}

/// Name and type as OpenMetrics has them. There a counter's `_total` is not of its name; without it the name may be that of another
/// family, and names must be unique: then its type is not said.
fn open_metrics<'a>(head: &Head<'a>) -> (&'a str, &'static str) {
    match head.name.strip_suffix("_total") {
        Some(base) if head.kind == Kind::Counter => {
            if FAMILIES.iter().any(|family| family.name == base) {
                (head.name, "unknown")
            } else {
                (base, head.kind.as_str())
            }
        }
        _ => (head.name, head.kind.as_str()),
    }
}
