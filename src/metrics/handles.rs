//! Resolved counters of listeners, routes, upstreams and endpoints: what a request touches is one atomic each.
//!
//! Series that depend on what a request turns out to be (method, status code, reason) are resolved when they are first
//! needed and kept. Handles made again for the same names count on where the earlier ones were.

use std::collections::HashMap;
use std::sync::OnceLock;

use http::Method;
use prometheus::core::Collector as _;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::Metrics;
use super::attempts::Attempts;

/// The label of a route where there is none: requests refused before routing, or that no route takes.
pub const NO_ROUTE: &str = "(none)";

/// One counter per status code.
#[derive(Debug)]
pub struct CodeCounters {
    codes: OnceLock<Box<[OnceLock<IntCounter>]>>,
}

const LOWEST_CODE: u16 = 100;
const HIGHEST_CODE: u16 = 599;

impl CodeCounters {
    fn new() -> Self {
        Self {
            codes: OnceLock::new(),
        }
    }

    /// Counts one `code`; `resolve` makes its counter the first time.
    fn count(&self, code: u16, resolve: impl FnOnce(&str) -> IntCounter) {
        let codes = self.codes.get_or_init(|| {
            (LOWEST_CODE..=HIGHEST_CODE)
                .map(|_| OnceLock::new())
                .collect()
        });
        let code = code.clamp(LOWEST_CODE, HIGHEST_CODE);
        codes[usize::from(code - LOWEST_CODE)]
            .get_or_init(|| resolve(itoa::Buffer::new().format(code)))
            .inc();
    }

    fn sum_below(&self, code: u16) -> u64 {
        let codes = self.codes.get().map_or(&[][..], |codes| &**codes);
        let below = codes.iter().take(usize::from(code - LOWEST_CODE));
        below
            .filter_map(OnceLock::get)
            .map(prometheus::core::GenericCounter::get)
            .sum()
    }
}

/// A method as a label; the standard ones only, so that no client makes series.
fn method_index(method: &Method) -> usize {
    METHODS
        .iter()
        .position(|name| *name == method.as_str())
        .unwrap_or(METHODS.len() - 1)
}

const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "other",
];

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

impl ListenerMetrics {
    /// Takes the series of the listener `name` away, all but those of [`RouteMetrics::retire_requests`]: it is gone.
    pub fn retire(metrics: &Metrics, name: &str) {
        for proto in ["http/1.1", "h2"] {
            let _ = metrics.connections.remove_label_values(&[name, proto]);
            let _ = metrics
                .connections_total
                .remove_label_values(&[name, proto]);
        }
        for (result, version) in [
            ("failed", "none"),
            ("timeout", "none"),
            ("ok", "1.2"),
            ("ok", "1.3"),
        ] {
            let _ = metrics
                .tls_handshakes
                .remove_label_values(&[name, result, version]);
        }
        for reason in ["source", "malformed", "timeout"] {
            let _ = metrics
                .proxy_protocol_rejected
                .remove_label_values(&[name, reason]);
        }
        let _ = metrics.connections_refused.remove_label_values(&[name]);
        let _ = metrics.accept_pauses.remove_label_values(&[name]);
    }
}

/// Counters of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Box<str>,
    listeners: Box<[(Box<str>, [CodeCounters; METHODS.len()])]>,
    requests: IntCounterVec,
    errors: IntCounterVec,
    /// Requests being served.
    pub in_flight: IntGauge,
    /// Durations in seconds.
    pub duration: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: IntCounter,
    /// Bytes of response bodies.
    pub response_bytes: IntCounter,
    /// Requests refused because of this exclusive route.
    pub ambiguous: IntCounter,
}

impl RouteMetrics {
    /// Of the route `name`, which requests reach through `listeners`, in the snapshot's order.
    pub fn new<'a>(
        metrics: &Metrics,
        name: &str,
        listeners: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self {
            name: name.into(),
            listeners: listeners
                .map(|listener| {
                    (
                        listener.into(),
                        std::array::from_fn(|_| CodeCounters::new()),
                    )
                })
                .collect(),
            requests: metrics.requests.clone(),
            errors: metrics.errors.clone(),
            in_flight: metrics.requests_in_flight.with_label_values(&[name]),
            duration: metrics.request_duration.with_label_values(&[name]),
            request_bytes: metrics.request_bytes.with_label_values(&[name]),
            response_bytes: metrics.response_bytes.with_label_values(&[name]),
            ambiguous: metrics.ambiguous_path.with_label_values(&[name]),
        }
    }

    /// Counts a finished request that came through the listener at `listener`.
    pub fn count(&self, listener: usize, method: &Method, code: u16) {
        let Some((listener, methods)) = self.listeners.get(listener) else {
            return;
        };
        let index = method_index(method);
        methods[index].count(code, |code| {
            self.requests
                .with_label_values(&[listener, &self.name, METHODS[index], code])
        });
    }

    /// Counts an error. Not for the common path: the series is looked up.
    pub fn count_error(&self, reason: &str) {
        self.errors.with_label_values(&[&self.name, reason]).inc();
    }

    /// Takes the series of requests away whose listener or route is gone. For the control side: it goes through all of them,
    /// once for however many are gone.
    pub fn retire_requests(metrics: &Metrics, is_gone: impl Fn(&str, &str) -> bool) {
        remove_where(&metrics.requests, ["listener", "route"], is_gone);
    }

    /// Takes the other series of the route `name` away: it is gone.
    pub fn retire(metrics: &Metrics, name: &str, reasons: &[&str]) {
        for reason in reasons {
            let _ = metrics.errors.remove_label_values(&[name, *reason]);
        }
        MirrorMetrics::retire(metrics, name);
        let name = [name];
        let _ = metrics.requests_in_flight.remove_label_values(&name);
        let _ = metrics.request_duration.remove_label_values(&name);
        let _ = metrics.request_bytes.remove_label_values(&name);
        let _ = metrics.response_bytes.remove_label_values(&name);
        let _ = metrics.ambiguous_path.remove_label_values(&name);
    }
}

/// Counters of a route's mirror.
#[derive(Debug)]
pub struct MirrorMetrics {
    /// Copies that were answered, whatever the status.
    pub answered: IntCounter,
    /// Copies that were not, or not in time.
    pub failed: IntCounter,
    /// Not copied: the body is too large.
    pub too_large: IntCounter,
    /// Not sent: the request itself did not come whole.
    pub incomplete: IntCounter,
    /// Not copied: there are too many at once, or the mirror is paused.
    pub dropped: IntCounter,
}

const MIRRORED: [&str; 5] = ["answered", "failed", "too_large", "incomplete", "dropped"];

impl MirrorMetrics {
    /// Of the route `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        let [answered, failed, too_large, incomplete, dropped] =
            MIRRORED.map(|result| metrics.mirrored_requests.with_label_values(&[name, result]));
        Self {
            answered,
            failed,
            too_large,
            incomplete,
            dropped,
        }
    }

    /// Takes the series of the route `name` away: it is mirrored no more.
    pub fn retire(metrics: &Metrics, name: &str) {
        for result in MIRRORED {
            // A series that is not there is as good as removed.
            let _ = metrics
                .mirrored_requests
                .remove_label_values(&[name, result]);
        }
    }
}

/// Counters of one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    name: Box<str>,
    sticky_repins: IntCounterVec,
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
    /// Further attempts, by [`RETRIES`].
    retries: [IntCounter; RETRIES.len()],
    /// Attempts after which there was none, by [`DENIED`].
    denied: [IntCounter; DENIED.len()],
    /// Attempts beside others, by [`HEDGES`].
    hedges: [IntCounter; HEDGES.len()],
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

const RETRIES: [(RetryReason, &str); 7] = [
    (RetryReason::Connect, "connect"),
    (RetryReason::Unsent, "unsent"),
    (RetryReason::Refused, "refused"),
    (RetryReason::Closed, "closed"),
    (RetryReason::Timeout, "timeout"),
    (RetryReason::Status, "status"),
    (RetryReason::TooEarly, "too_early"),
];

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

const DENIED: [(RetryDenied, &str); 4] = [
    (RetryDenied::Attempts, "attempts"),
    (RetryDenied::Body, "body"),
    (RetryDenied::Budget, "budget"),
    (RetryDenied::Unsafe, "unsafe"),
];

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

const HEDGES: [(HedgeResult, &str); 5] = [
    (HedgeResult::Won, "won"),
    (HedgeResult::Outrun, "outrun"),
    (HedgeResult::Failed, "failed"),
    (HedgeResult::Budget, "budget"),
    (HedgeResult::NoEndpoint, "no_endpoint"),
];

/// What can come of a flip.
pub const FLIPS: [&str; 7] = [
    "kept",
    "unclear",
    "flipped-back",
    "aborted",
    "refused",
    "stranded",
    "overtaken",
];

impl UpstreamMetrics {
    /// Of the upstream `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        Self {
            name: name.into(),
            sticky_repins: metrics.sticky_repins.clone(),
            connect: metrics.upstream_connect.with_label_values(&[name]),
            available: metrics.available_endpoints.with_label_values(&[name]),
            queue_seconds: metrics.queue_seconds.with_label_values(&[name]),
            queue_full: metrics.queue_rejected.with_label_values(&[name, "full"]),
            queue_late: metrics.queue_rejected.with_label_values(&[name, "timeout"]),
            retries: RETRIES.map(|(_, reason)| metrics.retries.with_label_values(&[name, reason])),
            denied: DENIED.map(|(_, why)| metrics.retries_denied.with_label_values(&[name, why])),
            hedges: HEDGES.map(|(_, result)| metrics.hedges.with_label_values(&[name, result])),
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

    /// Counts a client that got another endpoint than it wanted. Not for the common path: the series is looked up.
    pub fn count_repin(&self, why: &str) {
        self.sticky_repins
            .with_label_values(&[&*self.name, why])
            .inc();
    }

    /// Takes the series of sets away that are gone, told by their upstream's name and their own.
    pub fn retire_sets(metrics: &Metrics, is_gone: impl Fn(&str, &str) -> bool) {
        for metric in metrics
            .active_set
            .collect()
            .iter()
            .flat_map(|it| it.get_metric())
        {
            let value = |label| {
                let mut all = metric.get_label().iter();
                all.find(|pair| pair.name() == label)
                    .map_or("", |pair| pair.value())
            };
            let (upstream, set) = (value("upstream"), value("set"));
            if is_gone(upstream, set) {
                // One that is not there any more is as good as removed.
                let _ = metrics.active_set.remove_label_values(&[upstream, set]);
            }
        }
    }

    /// Takes the series of the upstream `name` away; `repins` are the reasons for which its clients may have been sent
    /// elsewhere.
    pub fn retire(metrics: &Metrics, name: &str, repins: &[&str]) {
        let _ = metrics.paused.remove_label_values(&[name]);
        let _ = metrics.held_requests.remove_label_values(&[name]);
        for why in repins {
            let _ = metrics.sticky_repins.remove_label_values(&[name, *why]);
        }
        let _ = metrics.upstream_connect.remove_label_values(&[name]);
        let _ = metrics.available_endpoints.remove_label_values(&[name]);
        let _ = metrics.degraded_picks.remove_label_values(&[name]);
        let _ = metrics.headroom_endpoints.remove_label_values(&[name]);
        Self::retire_sets(metrics, |upstream, _| upstream == name);
        for result in FLIPS {
            let _ = metrics.flips.remove_label_values(&[name, result]);
        }
        let _ = metrics.queue_length.remove_label_values(&[name]);
        let _ = metrics.queue_seconds.remove_label_values(&[name]);
        for why in ["full", "timeout"] {
            let _ = metrics.queue_rejected.remove_label_values(&[name, why]);
        }
        for (_, reason) in RETRIES {
            let _ = metrics.retries.remove_label_values(&[name, reason]);
        }
        for (_, why) in DENIED {
            let _ = metrics.retries_denied.remove_label_values(&[name, why]);
        }
        for (_, result) in HEDGES {
            let _ = metrics.hedges.remove_label_values(&[name, result]);
        }
    }
}

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
        }
    }

    /// Counts a response.
    pub fn count(&self, code: u16) {
        if code >= 500 {
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

    /// Takes away what says how the endpoint of these names, its upstream's and its own, is now, except for what is in flight.
    pub fn retire_gauges(metrics: &Metrics, name: (&str, &str), states: &[&'static str]) {
        let name = [name.0, name.1];
        for state in states {
            let _ = metrics
                .endpoint_state
                .remove_label_values(&[name[0], name[1], *state]);
        }
        for family in [&metrics.endpoint_up, &metrics.endpoint_weight] {
            let _ = family.remove_label_values(&name);
        }
    }

    /// Takes the series of responses away whose endpoint, told by its upstream's name and its own, is gone. For the control
    /// side: it goes through all of them, once for however many are gone.
    pub fn retire_requests(metrics: &Metrics, is_gone: impl Fn(&str, &str) -> bool) {
        remove_where(
            &metrics.upstream_requests,
            ["upstream", "endpoint"],
            is_gone,
        );
    }

    /// Takes the other series of the endpoint of these names away, except for those of
    /// [`retire_gauges`](Self::retire_gauges): it is gone.
    pub fn retire(metrics: &Metrics, name: (&str, &str), reasons: &[&'static str]) {
        let name = [name.0, name.1];
        let with = |last: &'static str| [name[0], name[1], last];
        for reason in reasons {
            let _ = metrics.upstream_failures.remove_label_values(&with(reason));
        }
        let _ = metrics.upstream_in_flight.remove_label_values(&name);
        for state in ["active", "idle"] {
            let _ = metrics
                .upstream_connections
                .remove_label_values(&with(state));
        }
        for (family, values) in [
            (
                &metrics.upstream_stale_connections,
                &["avoided", "retried", "failed"][..],
            ),
            (&metrics.health_checks, &["passed", "failed"]),
            (&metrics.health_transitions, &["up", "down", "draining"]),
            (&metrics.endpoint_ejections, &["consecutive", "ratio"]),
        ] {
            for value in values {
                let _ = family.remove_label_values(&with(value));
            }
        }
        let _ = metrics.upstream_response.remove_label_values(&name);
        let _ = metrics.health_check.remove_label_values(&name);
        let _ = metrics.upstream_connection_reuse.remove_label_values(&name);
        let _ = metrics.tunnels.remove_label_values(&name);
    }
}

/// Takes away every series of `family` for whose values of these labels `is_gone` holds, whatever the others are and whichever
/// handle made it: by a status code or a method there may be one that only an earlier handle has seen.
fn remove_where(family: &IntCounterVec, labels: [&str; 2], is_gone: impl Fn(&str, &str) -> bool) {
    for collected in family.collect() {
        for metric in collected.get_metric() {
            let all = metric.get_label();
            let value = |label| {
                let found = all.iter().find(|pair| pair.name() == label);
                found.map_or("", |pair| pair.value())
            };
            if is_gone(value(labels[0]), value(labels[1])) {
                let all: HashMap<&str, &str> =
                    all.iter().map(|pair| (pair.name(), pair.value())).collect();
                // One that is not there any more is as good as removed.
                let _ = family.remove(&all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_made_again_count_on() {
        let metrics = Metrics::new();
        for _ in 0..2 {
            let route = RouteMetrics::new(&metrics, "app", ["http"].into_iter());
            route.count(0, &Method::GET, 200);
            route.count(0, &Method::from_bytes(b"BREW").unwrap(), 418);
        }
        assert_eq!(
            metrics
                .requests
                .with_label_values(&["http", "app", "GET", "200"])
                .get(),
            2
        );
        assert_eq!(
            metrics
                .requests
                .with_label_values(&["http", "app", "other", "418"])
                .get(),
            2
        );
    }

    #[test]
    fn lists_of_words_are_in_the_order_of_their_enums() {
        assert!(
            (0..)
                .zip(RETRIES)
                .all(|(index, (reason, _))| reason as usize == index)
        );
        assert!(
            (0..)
                .zip(DENIED)
                .all(|(index, (why, _))| why as usize == index)
        );
        assert!(
            (0..)
                .zip(HEDGES)
                .all(|(index, (result, _))| result as usize == index)
        );
    }

    #[test]
    fn retired_series_are_gone() {
        let metrics = Metrics::new();
        let endpoint = EndpointMetrics::new(&metrics, "app", "a");
        endpoint.count(200);
        endpoint.count_failure("reset");
        let route = RouteMetrics::new(&metrics, "app", ["http"].into_iter());
        route.count(0, &Method::GET, 999);
        route.count_error("x");
        EndpointMetrics::retire_requests(&metrics, |upstream, name| {
            (upstream, name) == ("app", "a")
        });
        EndpointMetrics::retire_gauges(&metrics, ("app", "a"), &[]);
        EndpointMetrics::retire(&metrics, ("app", "a"), &["reset"]);
        RouteMetrics::retire_requests(&metrics, |_, route| route == "app");
        RouteMetrics::retire(&metrics, "app", &["x"]);
        let text = String::from_utf8(super::super::encode::text(&metrics).unwrap()).unwrap();
        assert!(!text.contains("app"), "{text}");
    }

    #[test]
    fn regression_series_that_only_an_earlier_handle_has_counted_are_retired_too() {
        let metrics = Metrics::new();
        let series = |label: &str| {
            let text = String::from_utf8(super::super::encode::text(&metrics).unwrap()).unwrap();
            text.lines().filter(|line| line.contains(label)).count()
        };
        let route = |name, listener| RouteMetrics::new(&metrics, name, [listener].into_iter());
        for (listener, code) in [("gone", 200), ("old", 404), ("new", 503)] {
            // As a reload makes them.
            route("app", listener).count(0, &Method::GET, code);
            route("app2", listener).count(0, &Method::PUT, code);
            let endpoint = EndpointMetrics::new(&metrics, "app", "a");
            endpoint.count(code);
            EndpointMetrics::new(&metrics, "app", "b").count(code);
        }

        RouteMetrics::retire_requests(&metrics, |listener, _| listener == "gone");
        assert_eq!(series("listener=\"gone\""), 0);
        assert_eq!(series("balancer_requests_total{"), 4);
        RouteMetrics::retire_requests(&metrics, |_, route| route == "app");
        RouteMetrics::retire(&metrics, "app", &[]);
        assert_eq!(series("route=\"app\""), 0);
        assert_eq!(series("balancer_requests_total{"), 2, "those of app2");
        EndpointMetrics::retire_requests(&metrics, |upstream, name| {
            (upstream, name) == ("app", "a")
        });
        EndpointMetrics::retire(&metrics, ("app", "a"), &[]);
        assert_eq!(series("endpoint=\"a\""), 0);
        assert_eq!(series("balancer_upstream_requests_total{"), 3, "those of b");
    }
}
