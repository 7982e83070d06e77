//! Every metric family there is: name, unit, labels, help. One list; the README's table is written from it.
//!
//! An entry reads `field: kind = "name" Unit [LABELS] "help"`; what its labels may say stands in [`labels`]. With its names there
//! it vanishes with what is named, is counted for `balancer check`, and goes on in the process after this one.

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntCounter, IntGauge};

use super::encode::Page;
use super::family::{Family, Unit};
use super::labels;
use super::measured::Measured;
use super::owners::Owners;
use super::totals::{Labels, Total, Totals};
use super::vector::{HistogramVec, IntCounterVec, IntGaugeVec};

macro_rules! families {
    ($($field:ident: $kind:ident = $name:literal $unit:ident [$($label:ident),*] $help:literal;)*) => {
        /// All families, made once.
        #[derive(Debug)]
        pub struct Metrics {
            /// Of the process itself; says nothing on systems without /proc.
            pub(super) process: ProcessCollector,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            /// Makes every family.
            #[allow(clippy::new_without_default, reason = "made once, by the daemon")]
            pub fn new() -> Self {
                let mut families = FAMILIES.iter();
                $(let $field = <$kind as Measured>::of(families.next().expect(ONE_EACH));)*
                Self { process: ProcessCollector::for_self(), $($field,)* }
            }

            /// Writes every family that has series.
            pub(super) fn write(&self, page: &mut Page) {
                let mut families = FAMILIES.iter();
                $(self.$field.write(families.next().expect(ONE_EACH), page);)*
            }

            /// Tells all that was ever counted.
            pub(super) fn tell(&self, totals: &mut Totals) {
                let mut families = FAMILIES.iter();
                $(self.$field.tell(families.next().expect(ONE_EACH), totals);)*
            }

            /// Goes on from `total` in the series of these labels, where the family `name` has such.
            pub(super) fn go_on(&self, name: &str, labels: &Labels, total: Total) {
                match name {
                    $($name => self.$field.go_on(labels, total),)*
                    _ => {}
                }
            }

            /// Takes every series away of those that are `gone`, whoever made it. For the control side: it goes through all of
            /// them, once for however many are gone.
            pub fn retire(&self, gone: &Owners<'_>) {
                $(self.$field.retire(gone);)*
            }

            /// Has a series in every family, of things of this name.
            #[cfg(test)]
            pub(super) fn show_all(&self, name: &str) {
                $(self.$field.show(name);)*
            }
        }

        /// Every metric family.
        pub static FAMILIES: &[Family] = &[$(Family {
            name: $name,
            kind: <$kind as Measured>::KIND,
            unit: Unit::$unit,
            labels: &[$(labels::$label),*],
            help: $help,
        },)*];
    };
}

/// One list makes both.
const ONE_EACH: &str = "a field and a family for each entry of the list";

families! {
    build_info: IntGaugeVec = "balancer_build_info" None [VERSION, RUSTC] "Version of the running binary, and of the compiler that made it; always 1.";
    config_generation: IntGauge = "balancer_config_generation" None [] "Number of the configuration in use; 1 after the start.";
    config_hash: IntGaugeVec = "balancer_config_hash_info" None [HASH] "SHA-256 of the configuration file in use, as `sha256sum` says it; always 1.";
    config_last_reload_successful: IntGauge = "balancer_config_last_reload_successful" None [] "Whether the last reload was accepted: 1 or 0.";
    config_last_reload_success_timestamp: IntGauge = "balancer_config_last_reload_success_timestamp_seconds" Seconds [] "When a configuration was last accepted, in Unix time.";
    config_reloads: IntCounterVec = "balancer_config_reloads_total" Times [RELOAD] "Reloads, accepted or rejected.";
    config_auto_rollbacks: IntCounter = "balancer_config_auto_rollbacks_total" Times [] "Reloads taken back because more requests failed than before.";
    certificate_reloads: IntCounterVec = "balancer_certificate_reloads_total" Times [RELOAD] "Changed files of TLS that were found by polling, accepted or rejected.";
    connections: IntGaugeVec = "balancer_connections" Connections [LISTENER, PROTO] "Open client connections.";
    connections_total: IntCounterVec = "balancer_connections_total" Connections [LISTENER, PROTO] "Client connections accepted.";
    connections_refused: IntCounterVec = "balancer_connections_refused_total" Connections [LISTENER] "Client connections closed at once because a limit was reached.";
    accept_pauses: IntCounterVec = "balancer_accept_pauses_total" Times [LISTENER] "Times that accepting paused, out of file descriptors or memory.";
    proxy_protocol_rejected: IntCounterVec = "balancer_proxy_protocol_rejected_total" Connections [LISTENER, HEADER] "Client connections closed for want of a PROXY protocol header that could be taken.";
    tls_handshakes: IntCounterVec = "balancer_tls_handshakes_total" Handshakes [LISTENER, HANDSHAKE, TLS] "TLS handshakes with clients.";
    tls_certificate_not_after: IntGaugeVec = "balancer_tls_certificate_not_after_timestamp_seconds" Seconds [LISTENER, CERTIFICATE] "When a certificate expires, in Unix time.";
    requests: IntCounterVec = "balancer_requests_total" Requests [LISTENER, ROUTE, METHOD, CODE] "Requests finished. Code 499: the client left.";
    request_duration: HistogramVec = "balancer_request_duration_seconds" Seconds [ROUTE] "From a request's head to the end of its response.";
    requests_in_flight: IntGaugeVec = "balancer_requests_in_flight" Requests [ROUTE] "Requests being served.";
    request_bytes: IntCounterVec = "balancer_request_bytes_total" Bytes [ROUTE] "Bytes of request bodies passed on.";
    response_bytes: IntCounterVec = "balancer_response_bytes_total" Bytes [ROUTE] "Bytes of response bodies passed on or made here.";
    errors: IntCounterVec = "balancer_errors_total" Requests [ROUTE, REASON] "Requests that the balancer itself answered with an error, or that were cut.";
    ambiguous_path: IntCounterVec = "balancer_ambiguous_path_total" Requests [ROUTE] "Requests refused because another reading of their path falls under this exclusive route.";
    upstream_requests: IntCounterVec = "balancer_upstream_requests_total" Responses [UPSTREAM, ENDPOINT, CODE] "Responses received from an endpoint.";
    upstream_response: HistogramVec = "balancer_upstream_response_seconds" Seconds [UPSTREAM, ENDPOINT] "From sending a request to an endpoint to the head of its response.";
    upstream_connect: HistogramVec = "balancer_upstream_connect_seconds" Seconds [UPSTREAM] "Time to open a connection to an endpoint.";
    upstream_in_flight: IntGaugeVec = "balancer_upstream_in_flight" Requests [UPSTREAM, ENDPOINT] "Requests assigned to an endpoint and not finished.";
    upstream_connections: IntGaugeVec = "balancer_upstream_connections" Connections [UPSTREAM, ENDPOINT, CONNECTION] "Open connections to an endpoint: active or idle.";
    tunnels: IntGaugeVec = "balancer_tunnels" Connections [UPSTREAM, ENDPOINT] "Connections that have changed their protocol, such as to WebSocket, and are open.";
    upstream_connection_reuse: IntCounterVec = "balancer_upstream_connection_reuse_total" Requests [UPSTREAM, ENDPOINT] "Requests sent on a connection that was there already.";
    upstream_failures: IntCounterVec = "balancer_upstream_failures_total" Requests [UPSTREAM, ENDPOINT, REASON] "Attempts that failed at an endpoint.";
    upstream_stale_connections: IntCounterVec = "balancer_upstream_stale_connection_total" Connections [UPSTREAM, ENDPOINT, STALE] "Idle connections found closed by the endpoint: avoided before use, retried unsent, or failed.";
    queue_length: IntGaugeVec = "balancer_queue_length" Requests [UPSTREAM] "Requests that wait for an endpoint with room.";
    queue_seconds: HistogramVec = "balancer_queue_seconds" Seconds [UPSTREAM] "How long requests waited for an endpoint with room, those that waited.";
    queue_rejected: IntCounterVec = "balancer_queue_rejected_total" Requests [UPSTREAM, QUEUE] "Requests refused because every endpoint had as many as it may: the queue was full, or they had waited for too long.";
    retries: IntCounterVec = "balancer_retries_total" Requests [UPSTREAM, RETRY] "Further attempts, by what failed before.";
    hedges: IntCounterVec = "balancer_hedges_total" Requests [UPSTREAM, HEDGE] "Second attempts beside a first one that did not answer in time, by what became of them, and those that could not be made.";
    sticky_repins: IntCounterVec = "balancer_sticky_repins_total" Requests [UPSTREAM, REPIN] "Clients with an affinity cookie that got another endpoint than it names.";
    affinity_audit: IntCounterVec = "balancer_affinity_audit_total" Responses [UPSTREAM, PIN, AUDIT] "Answers to safe requests of clients with an affinity cookie, while that is audited: of the endpoint it names, or of another one for the audit's sake.";
    mirrored_requests: IntCounterVec = "balancer_mirrored_requests_total" Requests [MIRROR, COPY] "Requests that were to be mirrored, by what became of the copy.";
    paused: IntGaugeVec = "balancer_paused" None [UPSTREAM] "Whether an upstream is paused: 1 or 0.";
    held_requests: IntGaugeVec = "balancer_held_requests" Requests [UPSTREAM] "Requests held because their upstream is paused, or was a moment ago.";
    retries_denied: IntCounterVec = "balancer_retries_denied_total" Requests [UPSTREAM, DENIED] "Failed attempts that could have been followed by another, and were not.";
    endpoint_up: IntGaugeVec = "balancer_endpoint_up" None [UPSTREAM, ENDPOINT] "Whether an endpoint may be picked now: 1 or 0.";
    endpoint_state: IntGaugeVec = "balancer_endpoint_state" None [UPSTREAM, ENDPOINT, STATE] "State of an endpoint; 1 for the one that holds.";
    endpoint_weight: IntGaugeVec = "balancer_endpoint_weight" None [UPSTREAM, ENDPOINT] "Weight of an endpoint.";
    endpoint_version_info: IntGaugeVec = "balancer_endpoint_version_info" None [UPSTREAM, ENDPOINT, VERSION] "Version of its code that an endpoint runs, where it says so; always 1. Of many versions of an upstream the ninth and later are `other`, and so are those of an endpoint that changes its version all the time.";
    upstream_authorities: IntGaugeVec = "balancer_upstream_authorities" Endpoints [UPSTREAM] "Endpoints of an upstream with role authoritative that claim to be the authority: 1 where all is well, and while that one may not be asked.";
    authority_changes: IntCounterVec = "balancer_authority_changes_total" Times [UPSTREAM] "How often another endpoint has become the authority, or nobody.";
    upstream_versions: IntGaugeVec = "balancer_upstream_versions" Versions [UPSTREAM] "Versions of their code that those endpoints run that may be picked now.";
    upstream_skew_seconds: IntGaugeVec = "balancer_upstream_skew_seconds" Seconds [UPSTREAM] "For how long endpoints of more than one version have been picked; 0 while they are not.";
    health_checks: IntCounterVec = "balancer_health_checks_total" Checks [UPSTREAM, ENDPOINT, CHECK] "Health checks, passed or failed.";
    health_check: HistogramVec = "balancer_health_check_seconds" Seconds [UPSTREAM, ENDPOINT] "Duration of health checks.";
    health_transitions: IntCounterVec = "balancer_health_transitions_total" Times [UPSTREAM, ENDPOINT, TO] "Changes of an endpoint's health.";
    available_endpoints: IntGaugeVec = "balancer_upstream_available_endpoints" Endpoints [UPSTREAM] "Endpoints of an upstream that may be picked now.";
    headroom_endpoints: IntGaugeVec = "balancer_upstream_headroom_endpoints" Endpoints [UPSTREAM] "Endpoints of an upstream that could be lost, whichever they are, with its load still carried.";
    active_set: IntGaugeVec = "balancer_upstream_active_set" None [UPSTREAM, SET] "Whether requests go to a set of endpoints: 1 or 0.";
    set_differs: IntGaugeVec = "balancer_upstream_set_differs" None [UPSTREAM] "Whether another set of endpoints serves than the file in use names, which a restart lets serve: 1 or 0.";
    flips: IntCounterVec = "balancer_flips_total" Times [UPSTREAM, FLIP] "Flips from one set of endpoints to another, by what came of them.";
    endpoint_ejections: IntCounterVec = "balancer_endpoint_ejections_total" Times [UPSTREAM, ENDPOINT, EJECTION] "Times that an endpoint was set aside for what clients' requests came to.";
    degraded_picks: IntCounterVec = "balancer_degraded_picks_total" Requests [UPSTREAM] "Requests assigned to endpoints that seem unwell, for want of others.";
    access_log_dropped: IntCounter = "balancer_access_log_dropped_lines_total" Lines [] "Access log lines dropped because they could not be written, or not fast enough.";
    spans_exported: IntCounter = "balancer_spans_exported_total" Spans [] "Spans that the collector of traces has taken.";
    spans_dropped: IntCounterVec = "balancer_spans_dropped_total" Spans [SPAN] "Spans that no collector has taken: there was no room for more, it refused them, or the balancer ended first.";
    admin_wrong_tokens: IntCounter = "balancer_admin_wrong_tokens_total" Requests [] "Requests to the admin address with a token that is not that of admin.token_file.";
    panics: IntCounterVec = "balancer_panics_total" Times [THREAD] "Panics survived: of a connection or of a whole worker.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::family::Kind;
    use super::super::labels::Values;
    use super::*;

    #[test]
    fn names_say_what_is_measured() {
        let mut names = HashSet::new();
        for family in FAMILIES {
            let name = family.name;
            assert!(
                names.insert(name) && name.starts_with("balancer_"),
                "{name}"
            );
            assert!(!name.contains("_ms") && !name.contains("milli"), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{name}"
            );
            let base = name.trim_end_matches("_total");
            for (unit, suffix) in [(Unit::Seconds, "_seconds"), (Unit::Bytes, "_bytes")] {
                assert_eq!(base.ends_with(suffix), family.unit == unit, "{name}");
            }
            assert!(
                family.kind != Kind::Histogram || family.unit == Unit::Seconds,
                "{name}"
            );
            assert!(
                family.help.ends_with('.') && !family.help.contains(['"', '\\', '\n']),
                "{name}"
            );
        }
    }

    #[test]
    fn labels_that_belong_together_stand_together() {
        for family in FAMILIES {
            let has = |wanted: fn(&Values) -> bool| {
                family.labels.iter().any(|label| wanted(&label.values))
            };
            let (upstream, listener) = (
                has(|it| matches!(it, Values::Upstreams)),
                has(|it| matches!(it, Values::Listeners)),
            );
            assert!(
                upstream || !has(|it| matches!(it, Values::Endpoints | Values::Sets)),
                "{}",
                family.name
            );
            assert!(
                listener || !has(|it| matches!(it, Values::Certificates)),
                "{}",
                family.name
            );
            let at = |wanted: fn(&Values) -> bool| {
                family.labels.iter().position(|label| wanted(&label.values))
            };
            assert!(
                at(|it| matches!(it, Values::Endpoints | Values::Sets)).is_none_or(|at| at == 1),
                "{}",
                family.name
            );
            let names: HashSet<_> = family.labels.iter().map(|label| label.name).collect();
            assert_eq!(names.len(), family.labels.len(), "{}", family.name);
        }
    }
}
