//! What an endpoint counts.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::codes::CodeCounters;
use crate::metrics::Metrics;
use crate::metrics::attempts::Attempts;
use crate::metrics::labels::STATES;
use crate::metrics::vector::IntCounterVec;

/// Counters of one endpoint.
#[derive(Debug)]
pub struct EndpointMetrics {
    upstream: Box<str>,
    endpoint: Box<str>,
    codes: CodeCounters,
    requests: IntCounterVec,
    failures: IntCounterVec,
    /// Attempts that went wrong.
    pub attempts: Attempts,
    /// Seconds to the head of a response.
    pub response: Histogram,
    /// Connections in use.
    pub connections_active: IntGauge,
    /// Connections waiting for use.
    pub connections_idle: IntGauge,
    /// Tunnels open.
    pub tunnels: IntGauge,
    /// Requests on a connection that was there already.
    pub reuse: IntCounter,
    /// Connections found closed before use.
    pub stale_avoided: IntCounter,
    /// Connections found closed on use, the request unsent and sent again.
    pub stale_retried: IntCounter,
    /// Connections closed on use, the request lost.
    pub stale_failed: IntCounter,
    /// Health checks passed.
    pub checks_passed: IntCounter,
    /// Health checks failed.
    pub checks_failed: IntCounter,
    /// Duration of health checks in seconds.
    pub check: Histogram,
    /// Changes to up.
    pub to_up: IntCounter,
    /// Changes to down.
    pub to_down: IntCounter,
    /// Changes to draining, by its own wish.
    pub to_draining: IntCounter,
    /// Ejections for so many failures in a row.
    pub ejected_consecutive: IntCounter,
    /// Ejections for such a share of failures.
    pub ejected_ratio: IntCounter,
    shown: OnceLock<Box<Shown>>,
}

impl EndpointMetrics {
    /// Of `endpoint` in `upstream`.
    pub fn new(metrics: &Metrics, upstream: &str, endpoint: &str) -> Self {
        let name = [upstream, endpoint];
        let with = |last| [upstream, endpoint, last];
        Self {
            upstream: upstream.into(),
            endpoint: endpoint.into(),
            codes: CodeCounters::new(),
            requests: metrics.upstream_requests.clone(),
            failures: metrics.upstream_failures.clone(),
            attempts: Attempts::default(),
            response: metrics.upstream_response.with_label_values(&name),
            connections_active: metrics
                .upstream_connections
                .with_label_values(&with("active")),
            connections_idle: metrics
                .upstream_connections
                .with_label_values(&with("idle")),
            tunnels: metrics.tunnels.with_label_values(&name),
            reuse: metrics.upstream_connection_reuse.with_label_values(&name),
            stale_avoided: metrics
                .upstream_stale_connections
                .with_label_values(&with("avoided")),
            stale_retried: metrics
                .upstream_stale_connections
                .with_label_values(&with("retried")),
            stale_failed: metrics
                .upstream_stale_connections
                .with_label_values(&with("failed")),
            checks_passed: metrics.health_checks.with_label_values(&with("passed")),
            checks_failed: metrics.health_checks.with_label_values(&with("failed")),
            check: metrics.health_check.with_label_values(&name),
            to_up: metrics.health_transitions.with_label_values(&with("up")),
            to_down: metrics.health_transitions.with_label_values(&with("down")),
            to_draining: metrics
                .health_transitions
                .with_label_values(&with("draining")),
            ejected_consecutive: metrics
                .endpoint_ejections
                .with_label_values(&with("consecutive")),
            ejected_ratio: metrics.endpoint_ejections.with_label_values(&with("ratio")),
            shown: OnceLock::new(),
        }
    }

    /// How it is, to be set before somebody sees it. Not there until somebody looks: a snapshot that is only being made says
    /// nothing of its endpoints.
    pub fn shown(&self, metrics: &Metrics) -> &Shown {
        self.shown.get_or_init(|| {
            let name = [&*self.upstream, &*self.endpoint];
            Box::new(Shown {
                up: metrics.endpoint_up.with_label_values(&name),
                weight: metrics.endpoint_weight.with_label_values(&name),
                in_flight: metrics.upstream_in_flight.with_label_values(&name),
                states: STATES.map(|state| {
                    let name = [name[0], name[1], state];
                    (state, metrics.endpoint_state.with_label_values(&name))
                }),
            })
        })
    }

    /// Counts a response.
    pub fn count(&self, code: u16) {
        // 501 and 505 are for methods and versions, which clients choose.
        if code >= 500 && code != 501 && code != 505 {
            self.attempts.count_failed();
        }
        self.codes.count(code, |code| {
            self.requests
                .with_label_values(&[&self.upstream, &self.endpoint, code])
        });
    }

    /// Responses below 500 so far.
    pub fn answered_well(&self) -> u64 {
        self.codes.sum_below(500)
    }

    /// Counts a failed attempt. Not for the common path: the series is looked up.
    pub fn count_failure(&self, reason: &str) {
        self.failures
            .with_label_values(&[&*self.upstream, &*self.endpoint, reason])
            .inc();
    }
}

/// How an endpoint is.
#[derive(Debug)]
pub struct Shown {
    /// Whether it may be picked now.
    pub up: IntGauge,
    /// Its weight.
    pub weight: IntGauge,
    /// Requests assigned to it and not finished.
    pub in_flight: IntGauge,
    states: [(&'static str, IntGauge); STATES.len()],
}

impl Shown {
    /// It is in `state`, and in no other.
    pub fn set_state(&self, state: &str) {
        for (word, gauge) in &self.states {
            gauge.set(i64::from(*word == state));
        }
    }
}
