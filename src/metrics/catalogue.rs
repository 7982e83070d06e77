//! Every metric family there is: name, labels, help. One list; the README's table is checked against it.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::totals::Earlier;

/// Upper bounds of duration histograms in seconds: 14, from 1 ms to 60 s.
pub const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

macro_rules! families {
    ($($field:ident: $kind:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// All families, registered once.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            /// What processes before this one have measured.
            pub(super) earlier: Earlier,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            /// Registers every family.
            #[allow(clippy::new_without_default, reason = "made once, by the daemon")]
            pub fn new() -> Self {
                let registry = Registry::new();
                $(let $field = register(&registry, <$kind as Family>::make($name, $help, &[$($label),*]));)*
                // Not there on systems without /proc: then without it.
                let process = prometheus::process_collector::ProcessCollector::for_self();
                registry.register(Box::new(process)).expect("the process families are registered once");
                Self { registry, earlier: Earlier::default(), $($field,)* }
            }

            /// Counts `more` in the series of these labels, where `name` is a family of counters.
            pub(super) fn count(&self, name: &str, labels: &BTreeMap<String, String>, more: u64) {
                match name {
                    $($name => Family::count(&self.$field, &[$($label),*], labels, more),)*
                    _ => {}
                }
            }

            /// Where all families are registered.
            pub fn registry(&self) -> &Registry {
                &self.registry
            }
        }

        /// Name, labels and help of every family, as a reference.
        pub const FAMILIES: &[(&str, &[&str], &str)] = &[$(($name, &[$($label),*], $help),)*];
    };
}

families! {
    build_info: IntGaugeVec = "balancer_build_info" ["version"] "Version of the running binary; always 1.";
    config_generation: IntGauge = "balancer_config_generation" [] "Number of the configuration in use; 1 after the start.";
    config_last_reload_successful: IntGauge = "balancer_config_last_reload_successful" [] "Whether the last reload was accepted: 1 or 0.";
    config_last_reload_success_timestamp: IntGauge = "balancer_config_last_reload_success_timestamp_seconds" [] "When a configuration was last accepted, in Unix time.";
    config_reloads: IntCounterVec = "balancer_config_reloads_total" ["result"] "Reloads, accepted or rejected.";
    config_auto_rollbacks: IntCounter = "balancer_config_auto_rollbacks_total" [] "Reloads taken back because more requests failed than before.";
    certificate_reloads: IntCounterVec = "balancer_certificate_reloads_total" ["result"] "Changed files of TLS that were found by polling, accepted or rejected.";
    connections: IntGaugeVec = "balancer_connections" ["listener", "proto"] "Open client connections.";
    connections_total: IntCounterVec = "balancer_connections_total" ["listener", "proto"] "Client connections accepted.";
    connections_refused: IntCounterVec = "balancer_connections_refused_total" ["listener"] "Client connections closed at once because a limit was reached.";
    accept_pauses: IntCounterVec = "balancer_accept_pauses_total" ["listener"] "Times that accepting paused, out of file descriptors or memory.";
    proxy_protocol_rejected: IntCounterVec = "balancer_proxy_protocol_rejected_total" ["listener", "reason"] "Client connections closed for want of a PROXY protocol header that could be taken.";
    tls_handshakes: IntCounterVec = "balancer_tls_handshakes_total" ["listener", "result", "version"] "TLS handshakes with clients.";
    tls_certificate_not_after: IntGaugeVec = "balancer_tls_certificate_not_after_timestamp_seconds" ["listener", "certificate"] "When a certificate expires, in Unix time.";
    requests: IntCounterVec = "balancer_requests_total" ["listener", "route", "method", "code"] "Requests finished. Code 499: the client left.";
    request_duration: HistogramVec = "balancer_request_duration_seconds" ["route"] "From a request's head to the end of its response.";
    requests_in_flight: IntGaugeVec = "balancer_requests_in_flight" ["route"] "Requests being served.";
    request_bytes: IntCounterVec = "balancer_request_bytes_total" ["route"] "Bytes of request bodies passed on.";
    response_bytes: IntCounterVec = "balancer_response_bytes_total" ["route"] "Bytes of response bodies passed on or made here.";
    errors: IntCounterVec = "balancer_errors_total" ["route", "reason"] "Requests that the balancer itself answered with an error, or that were cut.";
    ambiguous_path: IntCounterVec = "balancer_ambiguous_path_total" ["route"] "Requests refused because another reading of their path falls under this exclusive route.";
    upstream_requests: IntCounterVec = "balancer_upstream_requests_total" ["upstream", "endpoint", "code"] "Responses received from an endpoint.";
    upstream_response: HistogramVec = "balancer_upstream_response_seconds" ["upstream", "endpoint"] "From sending a request to an endpoint to the head of its response.";
    upstream_connect: HistogramVec = "balancer_upstream_connect_seconds" ["upstream"] "Time to open a connection to an endpoint.";
    upstream_in_flight: IntGaugeVec = "balancer_upstream_in_flight" ["upstream", "endpoint"] "Requests assigned to an endpoint and not finished.";
    upstream_connections: IntGaugeVec = "balancer_upstream_connections" ["upstream", "endpoint", "state"] "Open connections to an endpoint: active or idle.";
    tunnels: IntGaugeVec = "balancer_tunnels" ["upstream", "endpoint"] "Connections that have changed their protocol, such as to WebSocket, and are open.";
    upstream_connection_reuse: IntCounterVec = "balancer_upstream_connection_reuse_total" ["upstream", "endpoint"] "Requests sent on a connection that was there already.";
    upstream_failures: IntCounterVec = "balancer_upstream_failures_total" ["upstream", "endpoint", "reason"] "Attempts that failed at an endpoint.";
    upstream_stale_connections: IntCounterVec = "balancer_upstream_stale_connection_total" ["upstream", "endpoint", "outcome"] "Idle connections found closed by the endpoint: avoided before use, retried unsent, or failed.";
    queue_length: IntGaugeVec = "balancer_queue_length" ["upstream"] "Requests that wait for an endpoint with room.";
    queue_seconds: HistogramVec = "balancer_queue_seconds" ["upstream"] "How long requests waited for an endpoint with room, those that waited.";
    queue_rejected: IntCounterVec = "balancer_queue_rejected_total" ["upstream", "why"] "Requests refused because every endpoint had as many as it may: the queue was full, or they had waited for too long.";
    retries: IntCounterVec = "balancer_retries_total" ["upstream", "reason"] "Further attempts, by what failed before.";
    hedges: IntCounterVec = "balancer_hedges_total" ["upstream", "result"] "Second attempts beside a first one that did not answer in time, by what became of them, and those that could not be made.";
    sticky_repins: IntCounterVec = "balancer_sticky_repins_total" ["upstream", "why"] "Clients with an affinity cookie that got another endpoint than it names.";
    mirrored_requests: IntCounterVec = "balancer_mirrored_requests_total" ["route", "result"] "Requests that were to be mirrored, by what became of the copy.";
    paused: IntGaugeVec = "balancer_paused" ["upstream"] "Whether an upstream is paused: 1 or 0.";
    held_requests: IntGaugeVec = "balancer_held_requests" ["upstream"] "Requests held because their upstream is paused, or was a moment ago.";
    retries_denied: IntCounterVec = "balancer_retries_denied_total" ["upstream", "why"] "Failed attempts that could have been followed by another, and were not.";
    endpoint_up: IntGaugeVec = "balancer_endpoint_up" ["upstream", "endpoint"] "Whether an endpoint may be picked now: 1 or 0.";
    endpoint_state: IntGaugeVec = "balancer_endpoint_state" ["upstream", "endpoint", "state"] "State of an endpoint; 1 for the one that holds.";
    endpoint_weight: IntGaugeVec = "balancer_endpoint_weight" ["upstream", "endpoint"] "Weight of an endpoint.";
    health_checks: IntCounterVec = "balancer_health_checks_total" ["upstream", "endpoint", "result"] "Health checks, passed or failed.";
    health_check: HistogramVec = "balancer_health_check_seconds" ["upstream", "endpoint"] "Duration of health checks.";
    health_transitions: IntCounterVec = "balancer_health_transitions_total" ["upstream", "endpoint", "to"] "Changes of an endpoint's health.";
    available_endpoints: IntGaugeVec = "balancer_upstream_available_endpoints" ["upstream"] "Endpoints of an upstream that may be picked now.";
    headroom_endpoints: IntGaugeVec = "balancer_upstream_headroom_endpoints" ["upstream"] "Endpoints of an upstream that could be lost, whichever they are, with its load still carried.";
    endpoint_ejections: IntCounterVec = "balancer_endpoint_ejections_total" ["upstream", "endpoint", "reason"] "Times that an endpoint was set aside for what clients' requests came to.";
    degraded_picks: IntCounterVec = "balancer_degraded_picks_total" ["upstream"] "Requests assigned to endpoints that seem unwell, for want of others.";
    access_log_dropped: IntCounter = "balancer_access_log_dropped_lines_total" [] "Access log lines dropped because they could not be written fast enough.";
    spans_exported: IntCounter = "balancer_spans_exported_total" [] "Spans that the collector of traces has taken.";
    spans_dropped: IntCounterVec = "balancer_spans_dropped_total" ["why"] "Spans that no collector has taken: there was no room for more, or it refused them.";
    panics: IntCounterVec = "balancer_panics_total" ["where"] "Panics survived: of a connection or of a whole worker.";
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> C {
    registry
        .register(Box::new(family.clone()))
        .expect("every name stands once in the list");
    family
}

/// What the list's entries can be.
trait Family {
    fn make(name: &str, help: &str, labels: &[&str]) -> Self;

    /// Counts `more`, where this counts: what is measured now has no total.
    fn count(&self, _: &[&str], _: &BTreeMap<String, String>, _: u64) {}
}

const VALID: &str = "names and labels in the list are valid";

impl Family for IntCounter {
    fn make(name: &str, help: &str, _: &[&str]) -> Self {
        Self::new(name, help).expect(VALID)
    }

    fn count(&self, _: &[&str], _: &BTreeMap<String, String>, more: u64) {
        self.inc_by(more);
    }
}

impl Family for IntGauge {
    fn make(name: &str, help: &str, _: &[&str]) -> Self {
        Self::new(name, help).expect(VALID)
    }
}

impl Family for IntCounterVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(VALID)
    }

    fn count(&self, names: &[&str], labels: &BTreeMap<String, String>, more: u64) {
        let values = names
            .iter()
            .map(|name| labels.get(*name).map(String::as_str));
        // Other labels are those of another version: there is no such series here.
        if let (Some(values), true) = (
            values.collect::<Option<Vec<_>>>(),
            names.len() == labels.len(),
        ) {
            self.with_label_values(&values).inc_by(more);
        }
    }
}

impl Family for IntGaugeVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(VALID)
    }
}

impl Family for HistogramVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(
            HistogramOpts::new(name, help).buckets(SECONDS.to_vec()),
            labels,
        )
        .expect(VALID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_registers_and_speaks_base_units() {
        let metrics = Metrics::new();
        metrics.build_info.with_label_values(&["1"]).set(1);
        let text = String::from_utf8(super::super::encode::text(&metrics).unwrap()).unwrap();
        assert!(
            text.contains("balancer_build_info{version=\"1\"} 1"),
            "{text}"
        );
        for (name, ..) in FAMILIES {
            assert!(name.starts_with("balancer_"), "{name}");
            assert!(!name.contains("_ms") && !name.contains("milli"), "{name}");
        }
    }
}
