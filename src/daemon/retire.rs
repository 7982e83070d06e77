//! Takes away the metrics of what a reload has removed, once it is finished and has been scraped a last time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::metrics::{ListenerMetrics, Metrics, MirrorMetrics, UpstreamMetrics};
use crate::proxy::error::REASONS;
use crate::snapshot::{Publisher, Route, Snapshot};
use crate::units::Name;
use crate::upstream::affinity::REPINS;
use crate::upstream::state::WORDS;
use crate::upstream::{Endpoint, Upstream};

/// A scrape interval in use: until then the last counts can still be seen.
const LAST_SCRAPE: Duration = Duration::from_secs(60);

/// Until then every worker has let go of the snapshot before.
const LET_GO: Duration = Duration::from_secs(2);

/// So often it is looked whether requests are still in flight.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until what is `gone` is finished and was scraped a last time, then says so to `finished`: who reloads takes the series
/// away, because a reload under way may have them in its hands again. `previous` is the snapshot that had it.
pub async fn wait(
    gone: Gone,
    previous: Arc<Snapshot>,
    (metrics, publisher): (Arc<Metrics>, Publisher),
    finished: mpsc::UnboundedSender<Gone>,
) {
    gone.tell_in_flight(&metrics, &publisher.current());
    // A large snapshot takes milliseconds to drop: here, where nobody waits, not on a worker.
    sleep(LET_GO).await;
    drop(previous);
    if gone.is_empty() {
        return;
    }
    while gone.tell_in_flight(&metrics, &publisher.current()) {
        sleep(LOOK).await;
    }
    sleep(LAST_SCRAPE).await;
    // At shutdown nobody is interested any more.
    let _ = finished.send(gone);
}

/// Takes away at once what compiling `rejected` has made series of, where `current` has none of it: it never was.
pub fn undo(rejected: &Snapshot, current: &Snapshot, metrics: &Metrics) {
    Gone::between(rejected, current).retire(metrics, current);
}

/// What a reload has removed.
pub struct Gone {
    listeners: Vec<Name>,
    endpoints: Vec<Arc<Endpoint>>,
    upstreams: Vec<Name>,
    routes: Vec<Arc<Route>>,
    /// Routes.
    mirrors: Vec<Name>,
    /// Listener and label.
    certificates: Vec<(Name, String)>,
}

impl Gone {
    /// What `previous` had and `current` has not.
    pub fn between(previous: &Snapshot, current: &Snapshot) -> Self {
        let endpoints = endpoint_names(current);
        let upstreams = upstream_names(current);
        let routes = route_names(current);
        let certificates = certificate_names(current);
        let listeners: Vec<Name> = listener_names(previous)
            .difference(&listener_names(current))
            .map(|name| (*name).into())
            .collect();
        Self {
            listeners,
            endpoints: all_endpoints(previous)
                .filter(|endpoint| !endpoints.contains(&name(endpoint)))
                .cloned()
                .collect(),
            upstreams: upstream_names(previous)
                .difference(&upstreams)
                .map(|name| (*name).into())
                .collect(),
            routes: previous
                .routes
                .iter()
                .filter(|route| !routes.contains(&*route.name))
                .cloned()
                .collect(),
            mirrors: mirrored_names(previous)
                .difference(&mirrored_names(current))
                .map(|name| (*name).into())
                .collect(),
            certificates: certificate_names(previous)
                .difference(&certificates)
                .map(|(listener, label)| ((*listener).into(), (*label).to_owned()))
                .collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.listeners.is_empty()
            && self.endpoints.is_empty()
            && self.upstreams.is_empty()
            && self.routes.is_empty()
            && self.mirrors.is_empty()
            && self.certificates.is_empty()
    }

    /// Lets go of requests that are held for upstreams that nobody can resume any more.
    pub fn resume(&self, previous: &Snapshot) {
        let is_gone = |upstream: &&Arc<Upstream>| self.upstreams.contains(&upstream.name);
        for upstream in previous.upstreams.iter().filter(is_gone) {
            upstream.set_paused(false);
        }
    }

    /// Tells how many requests are in flight on endpoints that are gone: whoever reads of those in use says nothing of them. What
    /// `current` has again is told of there. Whether there are any.
    fn tell_in_flight(&self, metrics: &Metrics, current: &Snapshot) -> bool {
        let back = endpoint_names(current);
        let mut any = false;
        for endpoint in &self.endpoints {
            let in_flight = endpoint.in_flight();
            any |= in_flight > 0;
            let (upstream, name) = name(endpoint);
            if !back.contains(&(upstream, name)) {
                metrics
                    .upstream_in_flight
                    .with_label_values(&[upstream, name])
                    .set(i64::from(in_flight));
            }
        }
        any
    }

    /// Removes at once what would go on saying that what is gone is there.
    pub fn retire_gauges(&self, metrics: &Metrics) {
        for endpoint in &self.endpoints {
            endpoint.metrics.retire_gauges(metrics, &WORDS);
        }
        for upstream in &self.upstreams {
            // A series that is not there is as good as removed.
            for family in [
                &metrics.available_endpoints,
                &metrics.headroom_endpoints,
                &metrics.queue_length,
                &metrics.paused,
            ] {
                let _ = family.remove_label_values(&[&**upstream]);
            }
        }
    }

    /// Removes the series of all that `current` has not got again. Not while a snapshot is compiled: what that has again could
    /// still lose its series.
    pub fn retire(&self, metrics: &Metrics, current: &Snapshot) {
        let listeners = listener_names(current);
        for listener in self
            .listeners
            .iter()
            .filter(|listener| !listeners.contains(&***listener))
        {
            ListenerMetrics::retire(metrics, listener);
        }
        let endpoints = endpoint_names(current);
        for endpoint in self
            .endpoints
            .iter()
            .filter(|endpoint| !endpoints.contains(&name(endpoint)))
        {
            endpoint.metrics.retire(metrics, REASONS, &WORDS);
        }
        let upstreams = upstream_names(current);
        for upstream in self
            .upstreams
            .iter()
            .filter(|upstream| !upstreams.contains(&***upstream))
        {
            UpstreamMetrics::retire(metrics, upstream, &[&WORDS[..], &REPINS].concat());
        }
        let routes = route_names(current);
        for route in self
            .routes
            .iter()
            .filter(|route| !routes.contains(&*route.name))
        {
            route.metrics.retire(metrics, REASONS);
        }
        let mirrored = mirrored_names(current);
        for route in self
            .mirrors
            .iter()
            .filter(|route| !mirrored.contains(&***route))
        {
            MirrorMetrics::retire(metrics, route);
        }
        let certificates = certificate_names(current);
        for (listener, label) in &self.certificates {
            if !certificates.contains(&(&**listener, label)) {
                // A series that is not there is as good as removed.
                let _ = metrics
                    .tls_certificate_not_after
                    .remove_label_values(&[&**listener, label]);
            }
        }
    }
}

fn all_endpoints(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    snapshot
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.endpoints.iter())
}

fn endpoint_names(snapshot: &Snapshot) -> HashSet<(&str, &str)> {
    all_endpoints(snapshot)
        .map(|endpoint| name(endpoint))
        .collect()
}

fn listener_names(snapshot: &Snapshot) -> HashSet<&str> {
    snapshot
        .listeners
        .iter()
        .map(|listener| &*listener.name)
        .collect()
}

fn upstream_names(snapshot: &Snapshot) -> HashSet<&str> {
    snapshot
        .upstreams
        .iter()
        .map(|upstream| &*upstream.name)
        .collect()
}

fn route_names(snapshot: &Snapshot) -> HashSet<&str> {
    snapshot.routes.iter().map(|route| &*route.name).collect()
}

fn mirrored_names(snapshot: &Snapshot) -> HashSet<&str> {
    let mirrored = snapshot.routes.iter().filter(|it| it.mirror.is_some());
    mirrored.map(|route| &*route.name).collect()
}

fn certificate_names(snapshot: &Snapshot) -> HashSet<(&str, &str)> {
    let listeners = snapshot.listeners.iter();
    listeners
        .flat_map(|listener| {
            listener
                .certificates
                .iter()
                .map(|certificate| (&*listener.name, &*certificate.label))
        })
        .collect()
}

fn name(endpoint: &Endpoint) -> (&str, &str) {
    (endpoint.upstream(), endpoint.name())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::Method;

    use super::*;
    use crate::config;
    use crate::metrics::encode;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;
    use crate::upstream::Wish;

    const BEFORE: &str = r#"
        [listener.stays]
        address = "127.0.0.1:1"
        [listener.goes]
        address = "127.0.0.1:2"
        [upstream.kept]
        endpoints = ["127.0.0.1:10", "127.0.0.1:11"]
        [upstream.dropped]
        endpoints = ["127.0.0.1:12"]
        [[route]]
        name = "main"
        upstream = "kept"
        mirror = { upstream = "dropped" }
        [[route]]
        name = "side"
        path = "/side"
        upstream = "dropped"
    "#;
    const AFTER: &str = r#"
        [listener.stays]
        address = "127.0.0.1:1"
        [upstream.kept]
        endpoints = ["127.0.0.1:10"]
        [[route]]
        name = "main"
        upstream = "kept"
    "#;

    fn count(snapshot: &Snapshot) {
        for listener in 0..snapshot.listeners.len() {
            for route in &snapshot.routes {
                route.metrics.count(listener, &Method::GET, 200);
                route.metrics.count_error("closed");
            }
        }
        for endpoint in all_endpoints(snapshot) {
            endpoint.metrics.count(200);
            endpoint.metrics.count_failure("closed");
        }
    }

    #[test]
    fn series_of_what_is_gone_vanish_and_those_of_what_stays_do_not() {
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let mut compile = |source: &str, previous: Option<&Snapshot>| {
            let config = config::parse(source, Path::new("balancer.toml")).unwrap();
            compiler.compile(&config, previous).unwrap().snapshot
        };
        let before = compile(BEFORE, None);
        let after = compile(AFTER, Some(&before));
        count(&before);
        let text = || String::from_utf8(encode::text(&metrics).unwrap()).unwrap();
        let names = [
            "\"goes\"",
            "\"dropped\"",
            "\"side\"",
            ":11\"",
            ":12\"",
            "mirrored_requests_total{",
        ];
        for name in names {
            assert!(text().contains(name), "{name}");
        }

        let gone = Gone::between(&before, &after);
        gone.retire_gauges(&metrics);
        // What is back by then keeps its series.
        gone.retire(&metrics, &before);
        for name in names {
            assert!(text().contains(name), "{name}");
        }

        gone.retire(&metrics, &after);
        for name in names {
            assert!(!text().contains(name), "{name} in {}", text());
        }
        for name in ["\"stays\"", "\"kept\"", "\"main\"", ":10\""] {
            assert!(text().contains(name), "{name}");
        }
    }

    #[test]
    fn regression_a_rejected_configuration_leaves_no_series() {
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let before = config::parse(AFTER, Path::new("balancer.toml")).unwrap();
        let before = compiler.compile(&before, None).unwrap().snapshot;
        count(&before);
        let series = || {
            let text = String::from_utf8(encode::text(&metrics).unwrap()).unwrap();
            let labelled = text.lines().filter(|line| line.contains('{'));
            labelled.map(str::to_owned).collect::<HashSet<String>>()
        };
        let running = series();
        let candidate = config::parse(BEFORE, Path::new("balancer.toml")).unwrap();
        let candidate = compiler.compile(&candidate, Some(&before)).unwrap();
        assert_ne!(series(), running);
        undo(&candidate.snapshot, &before, &metrics);
        assert_eq!(series(), running);

        // One that cannot even be compiled.
        let missing = BEFORE.replace(
            "[listener.stays]",
            "[listener.never]\naddress = \"127.0.0.1:3\"\ntls = { certificates = [{ chain = \"no.pem\", key = \"no.key\" }] }\n[listener.stays]",
        );
        let missing = config::parse(&missing, Path::new("balancer.toml")).unwrap();
        assert!(compiler.compile(&missing, Some(&before)).is_err());
        assert_eq!(series(), running);
    }

    #[tokio::test(start_paused = true)]
    async fn endpoint_that_is_gone_counts_what_is_in_flight_until_the_last_has_ended() {
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let mut compile = |source: &str, previous: Option<&Snapshot>| {
            let config = config::parse(source, Path::new("balancer.toml")).unwrap();
            compiler.compile(&config, previous).unwrap().snapshot
        };
        let before = Arc::new(compile(BEFORE, None));
        let publisher = Publisher::new(compile(AFTER, Some(&before)));
        let dropped = &before.upstreams[1];
        let lease = dropped.pick(Wish::default()).unwrap();
        let shown = || {
            let text = String::from_utf8(encode::text(&metrics).unwrap()).unwrap();
            let line =
                "balancer_upstream_in_flight{endpoint=\"127.0.0.1:12\",upstream=\"dropped\"} ";
            let found = text.lines().find_map(|found| found.strip_prefix(line));
            found.map(str::to_owned)
        };

        let gone = Gone::between(&before, &publisher.current());
        gone.retire_gauges(&metrics);
        let (finished, mut received) = mpsc::unbounded_channel();
        let with = (Arc::clone(&metrics), publisher.clone());
        tokio::spawn(wait(gone, Arc::clone(&before), with, finished));
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(shown().as_deref(), Some("1"));
        assert!(received.try_recv().is_err(), "a request is in flight");
        drop(lease);
        sleep(LOOK * 2).await;
        assert_eq!(shown().as_deref(), Some("0"), "until the last scrape");
        let gone = received.recv().await.unwrap();
        assert_eq!(
            shown().as_deref(),
            Some("0"),
            "nobody but who reloads removes it"
        );
        gone.retire(&metrics, &publisher.current());
        assert_eq!(shown(), None);
    }
}
