//! What a family of metrics is: its name, what it measures in which unit, and by which labels.

use super::labels::Label;

/// A family of metrics.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// How it is measured.
    pub kind: Kind,
    /// What its values are.
    pub unit: Unit,
    /// Which labels its series have, in the order in which values are given.
    pub labels: &'static [Label],
    /// What it says, in one line.
    pub help: &'static str,
}

/// How something is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// As it is now.
    Gauge,
    /// How values are distributed.
    Histogram,
}

/// What a value is a number of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Nothing: a fact, a number of a generation, a weight.
    None,
    /// Seconds; of a `_timestamp_`, since 1970.
    Seconds,
    /// Bytes.
    Bytes,
    /// Requests; of an endpoint, attempts.
    Requests,
    /// Responses.
    Responses,
    /// Connections.
    Connections,
    /// Handshakes.
    Handshakes,
    /// Endpoints.
    Endpoints,
    /// Checks.
    Checks,
    /// Lines.
    Lines,
    /// Spans of traces.
    Spans,
    /// Versions of code.
    Versions,
    /// Times that something happened.
    Times,
}

impl Kind {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// In one word; none is none.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Requests => "requests",
            Self::Responses => "responses",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::Endpoints => "endpoints",
            Self::Checks => "checks",
            Self::Lines => "lines",
            Self::Spans => "spans",
            Self::Versions => "versions",
            Self::Times => "times",
        }
    }
}
