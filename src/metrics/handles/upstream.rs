//! What an upstream counts.

use prometheus::{Histogram, IntCounter, IntGauge};

use crate::metrics::Metrics;
use crate::metrics::labels::{DENIALS, HEDGES, RETRIES};
use crate::metrics::vector::IntCounterVec;

/// Counters of one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    name: Box<str>,
    sticky_repins: IntCounterVec,
    authority_changes: IntCounterVec,
    /// Time to open a connection, in seconds.
    pub connect: Histogram,
    /// Endpoints that may be picked.
    pub available: IntGauge,
    /// Seconds that requests waited for an endpoint with room.
    pub queue_seconds: Histogram,
    /// Requests refused because nobody more may wait.
    pub queue_full: IntCounter,
    /// Requests refused because they had waited for too long.
    pub queue_late: IntCounter,
    /// Picks of endpoints that stay in use although they seem unwell.
    pub degraded_picks: IntCounter,
    /// Further attempts, by [`RetryReason`].
    retries: [IntCounter; RETRIES.len()],
    /// Attempts after which there was none, by [`RetryDenied`].
    denied: [IntCounter; DENIALS.len()],
    /// Attempts beside others, by [`HedgeResult`].
    hedges: [IntCounter; HEDGES.len()],
}

impl UpstreamMetrics {
    /// Of the upstream `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        Self {
            name: name.into(),
            sticky_repins: metrics.sticky_repins.clone(),
            authority_changes: metrics.authority_changes.clone(),
            connect: metrics.upstream_connect.with_label_values(&[name]),
            available: metrics.available_endpoints.with_label_values(&[name]),
            queue_seconds: metrics.queue_seconds.with_label_values(&[name]),
            queue_full: metrics.queue_rejected.with_label_values(&[name, "full"]),
            queue_late: metrics.queue_rejected.with_label_values(&[name, "timeout"]),
            retries: RETRIES.map(|reason| metrics.retries.with_label_values(&[name, reason])),
            denied: DENIALS.map(|why| metrics.retries_denied.with_label_values(&[name, why])),
            hedges: HEDGES.map(|result| metrics.hedges.with_label_values(&[name, result])),
            degraded_picks: metrics.degraded_picks.with_label_values(&[name]),
        }
    }

    /// Further attempts after `reason`.
    pub fn retries(&self, reason: RetryReason) -> &IntCounter {
        &self.retries[reason as usize]
    }

    /// Attempts after which there was none, and why.
    pub fn retries_denied(&self, why: RetryDenied) -> &IntCounter {
        &self.denied[why as usize]
    }

    /// Attempts beside others, and what became of them.
    pub fn hedges(&self, result: HedgeResult) -> &IntCounter {
        &self.hedges[result as usize]
    }

    /// Counts that another endpoint is the authority, or none.
    pub fn count_authority_change(&self) {
        self.authority_changes
            .with_label_values(&[&*self.name])
            .inc();
    }

    /// Counts a client that got another endpoint than it wanted. Not for the common path: the series is looked up.
    pub fn count_repin(&self, why: &str) {
        self.sticky_repins
            .with_label_values(&[&*self.name, why])
            .inc();
    }
}

/// What failed before a further attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryReason {
    /// The connection could not be opened.
    Connect,
    /// It turned out to be closed.
    Unsent,
    /// The endpoint said that it had not processed the request.
    Refused,
    /// The connection was closed after something had been sent.
    Closed,
    /// There was no response in time.
    Timeout,
    /// The response had a status that is listed.
    Status,
    /// The response was 425.
    TooEarly,
}

/// Why there was no further attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryDenied {
    /// There were as many as there may be.
    Attempts,
    /// Too much of the body had been sent to send it again.
    Body,
    /// Too many others had failed.
    Budget,
    /// The endpoint may have acted on it, and doing so twice is not the same as once.
    Unsafe,
}

/// What became of an attempt beside another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HedgeResult {
    /// Its answer was passed on.
    Won,
    /// The other one was answered before, or the client had left.
    Outrun,
    /// It failed.
    Failed,
    /// There was none: too many others had been made.
    Budget,
    /// There was none: no other endpoint was free.
    NoEndpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_the_order_of_their_enums() {
        assert_eq!(RETRIES[RetryReason::Connect as usize], "connect");
        assert_eq!(RETRIES[RetryReason::Unsent as usize], "unsent");
        assert_eq!(RETRIES[RetryReason::Refused as usize], "refused");
        assert_eq!(RETRIES[RetryReason::Closed as usize], "closed");
        assert_eq!(RETRIES[RetryReason::Timeout as usize], "timeout");
        assert_eq!(RETRIES[RetryReason::Status as usize], "status");
        assert_eq!(RETRIES[RetryReason::TooEarly as usize], "too_early");
        assert_eq!(DENIALS[RetryDenied::Attempts as usize], "attempts");
        assert_eq!(DENIALS[RetryDenied::Body as usize], "body");
        assert_eq!(DENIALS[RetryDenied::Budget as usize], "budget");
        assert_eq!(DENIALS[RetryDenied::Unsafe as usize], "unsafe");
        assert_eq!(HEDGES[HedgeResult::Won as usize], "won");
        assert_eq!(HEDGES[HedgeResult::Outrun as usize], "outrun");
        assert_eq!(HEDGES[HedgeResult::Failed as usize], "failed");
        assert_eq!(HEDGES[HedgeResult::Budget as usize], "budget");
        assert_eq!(HEDGES[HedgeResult::NoEndpoint as usize], "no_endpoint");
    }
}
