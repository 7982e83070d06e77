//! Takes away the metrics of what a reload has removed, once it is finished and has been scraped a last time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::metrics::{
    EndpointMetrics, ListenerMetrics, Metrics, MirrorMetrics, RouteMetrics, UpstreamMetrics,
};
use crate::proxy::error::REASONS;
use crate::snapshot::{Publisher, Snapshot};
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
    mut gone: Gone,
    previous: Arc<Snapshot>,
    (metrics, publisher): (Arc<Metrics>, Publisher),
    finished: mpsc::UnboundedSender<Gone>,
) {
    // Whether any are says nothing yet: there may be workers with the snapshot before.
    gone.clone().tell_in_flight(&metrics, &publisher.current());
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
#[derive(Clone)]
pub struct Gone {
    listeners: Vec<Name>,
    endpoints: Vec<Departed>,
    upstreams: Vec<Name>,
    routes: Vec<Name>,
    /// Routes.
    mirrors: Vec<Name>,
    /// Listener and label.
    certificates: Vec<(Name, String)>,
}

/// An endpoint that was removed.
#[derive(Clone)]
struct Departed {
    upstream: Name,
    name: Name,
    /// While requests may be in flight on it. Memory of what is gone is not kept for the sake of its series.
    endpoint: Option<Arc<Endpoint>>,
}

impl Departed {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            upstream: Arc::clone(endpoint.upstream()),
            name: Arc::clone(endpoint.name()),
            endpoint: Some(Arc::clone(endpoint)),
        }
    }

    fn names(&self) -> (&str, &str) {
        (&self.upstream, &self.name)
    }
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
                .map(Departed::of)
                .collect(),
            upstreams: upstream_names(previous)
                .difference(&upstreams)
                .map(|name| (*name).into())
                .collect(),
            routes: previous
                .routes
                .iter()
                .map(|route| &route.name)
                .filter(|name| !routes.contains(&***name))
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
    /// `current` has again is told of there. Lets go of those that have none. Whether any have.
    fn tell_in_flight(&mut self, metrics: &Metrics, current: &Snapshot) -> bool {
        let back = endpoint_names(current);
        let mut any = false;
        for departed in &mut self.endpoints {
            let Some(endpoint) = &departed.endpoint else {
                continue;
            };
            let in_flight = endpoint.in_flight();
            if in_flight == 0 {
                departed.endpoint = None;
            }
            any |= in_flight > 0;
            let (upstream, name) = departed.names();
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
        for departed in &self.endpoints {
            EndpointMetrics::retire_gauges(metrics, departed.names(), &WORDS);
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
        let back = listener_names(current);
        let listeners = left(&self.listeners, &back);
        for listener in &listeners {
            ListenerMetrics::retire(metrics, listener);
        }
        let back = endpoint_names(current);
        let endpoints: HashSet<(&str, &str)> = self
            .endpoints
            .iter()
            .map(Departed::names)
            .filter(|names| !back.contains(names))
            .collect();
        for names in &endpoints {
            EndpointMetrics::retire_gauges(metrics, *names, &WORDS);
            EndpointMetrics::retire(metrics, *names, REASONS);
        }
        let back = upstream_names(current);
        let upstreams = left(&self.upstreams, &back);
        for upstream in &upstreams {
            UpstreamMetrics::retire(metrics, upstream, &[&WORDS[..], &REPINS].concat());
        }
        let back = route_names(current);
        let routes = left(&self.routes, &back);
        for route in &routes {
            RouteMetrics::retire(metrics, route, REASONS);
        }
        if !(listeners.is_empty() && routes.is_empty()) {
            RouteMetrics::retire_requests(metrics, |listener, route| {
                listeners.contains(listener) || routes.contains(route)
            });
        }
        if !endpoints.is_empty() {
            EndpointMetrics::retire_requests(metrics, |upstream, name| {
                endpoints.contains(&(upstream, name))
            });
        }
        metrics.forget_earlier(|labels| {
            let of = |label| labels.get(label).map(String::as_str);
            let is_in = |gone: &HashSet<&str>, label| of(label).is_some_and(|it| gone.contains(it));
            let endpoint = of("upstream").zip(of("endpoint"));
            is_in(&listeners, "listener")
                || is_in(&routes, "route")
                || is_in(&upstreams, "upstream")
                || endpoint.is_some_and(|names| endpoints.contains(&names))
        });
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

/// Those of `gone` that are not `back`.
fn left<'a>(gone: &'a [Name], back: &HashSet<&str>) -> HashSet<&'a str> {
    gone.iter()
        .map(|name| &**name)
        .filter(|name| !back.contains(name))
        .collect()
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
    use crate::metrics::totals::Totals;
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

    #[test]
    fn regression_route_that_comes_back_has_nothing_of_what_a_process_before_has_measured_for_it() {
        let of_before = Arc::new(Metrics::new());
        let config = |source| config::parse(source, Path::new("balancer.toml")).unwrap();
        let compiled = |metrics: &Arc<Metrics>, source, previous: Option<&Snapshot>| {
            let mut compiler = Compiler::new(Arc::clone(metrics), Tickets::new().unwrap(), 0);
            compiler
                .compile(&config(source), previous)
                .unwrap()
                .snapshot
        };
        compiled(&of_before, BEFORE, None);
        for route in ["main", "side"] {
            let of_route = of_before.request_duration.with_label_values(&[route]);
            of_route.observe(0.02);
        }
        let metrics = Arc::new(Metrics::new());
        let before = compiled(&metrics, BEFORE, None);
        metrics.go_on_from(Totals::of(&of_before), |_| true);
        let counted = |route: &str| {
            let text = String::from_utf8(encode::text(&metrics).unwrap()).unwrap();
            let line = format!("balancer_request_duration_seconds_count{{route=\"{route}\"}} ");
            let found = text.lines().find_map(|found| found.strip_prefix(&line));
            found.map(str::to_owned)
        };
        assert_eq!(counted("side").as_deref(), Some("1"));
        let after = compiled(&metrics, AFTER, Some(&before));
        Gone::between(&before, &after).retire(&metrics, &after);
        assert_eq!(counted("side"), None);
        compiled(&metrics, BEFORE, Some(&after));
        assert_eq!(counted("side").as_deref(), Some("0"));
        assert_eq!(counted("main").as_deref(), Some("1"));
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
        let endpoint = Arc::downgrade(&dropped.endpoints[0]);
        drop((lease, before));
        sleep(LOOK * 2).await;
        assert_eq!(shown().as_deref(), Some("0"), "until the last scrape");
        assert!(endpoint.upgrade().is_none(), "its memory is kept");
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
