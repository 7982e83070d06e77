//! What a listener counts.

use prometheus::{IntCounter, IntGauge};

use crate::metrics::Metrics;

/// Counters of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// Open connections over HTTP/1.
    pub open_http1: IntGauge,
    /// Open connections over HTTP/2.
    pub open_http2: IntGauge,
    /// Connections over HTTP/1.
    pub http1: IntCounter,
    /// Connections over HTTP/2.
    pub http2: IntCounter,
    /// Connections refused by a limit.
    pub refused: IntCounter,
    /// Pauses of accepting.
    pub accept_pauses: IntCounter,
    /// Connections from someone of whom no PROXY protocol header is taken.
    pub proxy_protocol_source: IntCounter,
    /// Connections that began with something else than a PROXY protocol header.
    pub proxy_protocol_malformed: IntCounter,
    /// Connections on which no whole PROXY protocol header came in time.
    pub proxy_protocol_timeout: IntCounter,
    /// Handshakes that failed.
    pub handshakes_failed: IntCounter,
    /// Handshakes not finished in time.
    pub handshakes_timed_out: IntCounter,
    /// TLS 1.2 handshakes.
    pub handshakes_tls12: IntCounter,
    /// TLS 1.3 handshakes.
    pub handshakes_tls13: IntCounter,
}

impl ListenerMetrics {
    /// Of the listener `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        let handshakes = |result, version| {
            metrics
                .tls_handshakes
                .with_label_values(&[name, result, version])
        };
        let rejected = |reason| {
            metrics
                .proxy_protocol_rejected
                .with_label_values(&[name, reason])
        };
        Self {
            open_http1: metrics.connections.with_label_values(&[name, "http/1.1"]),
            open_http2: metrics.connections.with_label_values(&[name, "h2"]),
            http1: metrics
                .connections_total
                .with_label_values(&[name, "http/1.1"]),
            http2: metrics.connections_total.with_label_values(&[name, "h2"]),
            refused: metrics.connections_refused.with_label_values(&[name]),
            accept_pauses: metrics.accept_pauses.with_label_values(&[name]),
            proxy_protocol_source: rejected("source"),
            proxy_protocol_malformed: rejected("malformed"),
            proxy_protocol_timeout: rejected("timeout"),
            handshakes_failed: handshakes("failed", "none"),
            handshakes_timed_out: handshakes("timeout", "none"),
            handshakes_tls12: handshakes("ok", "1.2"),
            handshakes_tls13: handshakes("ok", "1.3"),
        }
    }
}
