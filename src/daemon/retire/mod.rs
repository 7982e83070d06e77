//! Takes away the metrics of what a reload has removed, once it is finished and has been scraped a last time.

mod names;

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::mpsc;
use tokio::time::sleep;

use self::names::Names;
use super::owners::endpoints as all_endpoints;
use crate::metrics::Metrics;
use crate::metrics::owners::Owners;
use crate::snapshot::{Publisher, Snapshot};
use crate::units::Name;
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
    finished: mpsc::UnboundedSender<Due>,
) {
    // Whether any are says nothing yet: there may be workers with the snapshot before.
    gone.clone().tell_in_flight(&metrics, &publisher.current());
    // A large snapshot takes milliseconds to drop: here, where nobody waits, not on a worker.
    sleep(LET_GO).await;
    drop(previous);
    if gone.is_empty() {
        return;
    }
    // A scrape that had the snapshot before in its hands has let go of it as well, and may have brought gauges back.
    let _ = finished.send(Due::Gauges(gone.without_endpoints()));
    while gone.tell_in_flight(&metrics, &publisher.current()) {
        sleep(LOOK).await;
    }
    sleep(LAST_SCRAPE).await;
    // At shutdown nobody is interested any more.
    let _ = finished.send(Due::Series(gone));
}

/// What it is time to take away of something that is gone.
#[derive(Debug)]
pub enum Due {
    /// Once more what says how it is.
    Gauges(Gone),
    /// All of it.
    Series(Gone),
}

/// What reloads have removed and nobody has taken the series of yet, by the generation that had it no more. Names and counts
/// only: it frees what is freed.
#[derive(Clone, Debug, Default)]
pub struct Pending(BTreeMap<u64, Arc<Gone>>);

impl Pending {
    /// Takes note of what is `gone` since `generation`.
    pub fn add(&mut self, gone: &Gone) {
        if !gone.is_empty() {
            self.0
                .insert(gone.generation, Arc::new(gone.without_endpoints()));
        }
    }

    /// What is left to be done for others when `gone` is finished.
    pub fn remove(&mut self, gone: &Gone) -> Vec<Arc<Gone>> {
        self.0.remove(&gone.generation);
        self.0.values().cloned().collect()
    }

    /// Takes away at once what compiling `rejected` has made series of, where `current` has none of it and nothing of it is
    /// pending: it never was.
    pub fn undo(&self, rejected: &Snapshot, current: &Snapshot, metrics: &Metrics) {
        let gone = Gone::between(rejected, current);
        // Those that say how it is now: of what is pending they were taken before.
        gone.retire_gauges(metrics);
        gone.retire(metrics, current, self.0.values());
    }
}

/// What a reload has removed.
#[derive(Clone, Debug)]
pub struct Gone {
    /// The first that had none of it.
    generation: u64,
    listeners: Vec<Closed>,
    endpoints: Vec<Departed>,
    upstreams: Vec<Name>,
    routes: Vec<Dropped>,
    /// Routes.
    mirrors: Vec<Name>,
    /// Listener and label.
    certificates: Vec<(Name, String)>,
}

/// A listener that was removed.
#[derive(Clone, Debug)]
struct Closed {
    name: Name,
    /// Its open connections.
    open: Arc<AtomicUsize>,
}

/// A route that was removed.
#[derive(Clone, Debug)]
struct Dropped {
    name: Name,
    /// Requests being served.
    in_flight: IntGauge,
}

/// An endpoint that was removed.
#[derive(Clone, Debug)]
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
        let (names, before) = (Names::of(current), Names::of(previous));
        let missing = |before: &HashSet<&str>, now: &HashSet<&str>| -> Vec<Name> {
            before.difference(now).map(|name| (*name).into()).collect()
        };
        let listeners = previous.listeners.iter();
        let routes = previous.routes.iter();
        let certificates = before.certificates.difference(&names.certificates);
        Self {
            generation: current.generation,
            listeners: listeners
                .filter(|listener| !names.owners.listeners.contains(&*listener.name))
                .map(|listener| Closed {
                    name: Arc::clone(&listener.name),
                    open: Arc::clone(&listener.open),
                })
                .collect(),
            endpoints: all_endpoints(previous)
                .map(Departed::of)
                .filter(|departed| !names.owners.endpoints.contains(&departed.names()))
                .collect(),
            upstreams: missing(&before.owners.upstreams, &names.owners.upstreams),
            routes: routes
                .filter(|route| !names.owners.routes.contains(&*route.name))
                .map(|route| Dropped {
                    name: Arc::clone(&route.name),
                    in_flight: route.metrics.in_flight.clone(),
                })
                .collect(),
            mirrors: missing(&before.mirrors, &names.mirrors),
            certificates: certificates
                .map(|(listener, label)| ((*listener).into(), (*label).to_owned()))
                .collect(),
        }
    }

    /// Whose series are to go.
    fn owners(&self) -> Owners<'_> {
        Owners {
            listeners: self.listeners.iter().map(|it| &*it.name).collect(),
            routes: self.routes.iter().map(|it| &*it.name).collect(),
            upstreams: self.upstreams.iter().map(|it| &**it).collect(),
            endpoints: self.endpoints.iter().map(Departed::names).collect(),
        }
    }

    fn without_endpoints(&self) -> Self {
        let mut gone = self.clone();
        for departed in &mut gone.endpoints {
            departed.endpoint = None;
        }
        gone
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

    /// Whether anybody is still served by what is gone and `current` has not again. Tells how many requests are in flight on
    /// endpoints: whoever reads of those in use says nothing of them. Lets go of those that have none.
    fn tell_in_flight(&mut self, metrics: &Metrics, current: &Snapshot) -> bool {
        let back = Names::of(current);
        let is_open = |listener: &Closed| {
            let open = listener.open.load(Ordering::Relaxed);
            open > 0 && !back.owners.listeners.contains(&*listener.name)
        };
        let is_served = |route: &Dropped| {
            route.in_flight.get() > 0 && !back.owners.routes.contains(&*route.name)
        };
        let mut any = self.listeners.iter().any(is_open) || self.routes.iter().any(is_served);
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
            if !back.owners.endpoints.contains(&(upstream, name)) {
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
        metrics.retire_gauges(&self.owners());
    }

    /// The same once more, where `current` has not got it again. Not while a snapshot is compiled, as below.
    pub fn retire_gauges_again(&self, metrics: &Metrics, current: &Snapshot) {
        let kept = Names::of(current);
        let owners = self.owners();
        metrics.retire_gauges(&Owners {
            listeners: left(owners.listeners, &kept.owners.listeners),
            routes: left(owners.routes, &kept.owners.routes),
            upstreams: left(owners.upstreams, &kept.owners.upstreams),
            endpoints: left(owners.endpoints, &kept.owners.endpoints),
        });
    }

    /// Removes the series of all that `current` has not got again, and that is not `pending` after it was removed once more. Not
    /// while a snapshot is compiled: what that has again could still lose its series.
    pub fn retire<'a>(
        &self,
        metrics: &Metrics,
        current: &Snapshot,
        pending: impl IntoIterator<Item = &'a Arc<Self>>,
    ) {
        let mut kept = Names::of(current);
        for gone in pending {
            kept.add(gone);
        }
        let Owners {
            listeners,
            routes,
            upstreams,
            endpoints,
        } = self.owners();
        metrics.retire(&Owners {
            listeners: left(listeners, &kept.owners.listeners),
            routes: left(routes, &kept.owners.routes),
            upstreams: left(upstreams, &kept.owners.upstreams),
            endpoints: left(endpoints, &kept.owners.endpoints),
        });
        for route in left(self.mirrors.iter().map(|it| &**it), &kept.mirrors) {
            metrics.retire_mirror(route);
        }
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|(listener, label)| (&**listener, &**label));
        for (listener, label) in left(certificates, &kept.certificates) {
            let family = &metrics.tls_certificate_not_after;
            family.remove_label_values(&[listener, label]);
        }
    }
}

/// Those of `gone` that are not `kept`.
fn left<T: Eq + Hash>(gone: impl IntoIterator<Item = T>, kept: &HashSet<T>) -> HashSet<T> {
    let gone = gone.into_iter();
    gone.filter(|name| !kept.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::Method;

    use super::*;
    use crate::admin::status::refresh_gauges;
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
        let text = || encode::text(&metrics, encode::Format::Text);
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
        gone.retire(&metrics, &before, []);
        for name in names {
            assert!(text().contains(name), "{name}");
        }

        gone.retire(&metrics, &after, []);
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
            let text = encode::text(&metrics, encode::Format::Text);
            let labelled = text.lines().filter(|line| line.contains('{'));
            labelled.map(str::to_owned).collect::<HashSet<String>>()
        };
        let running = series();
        let candidate = config::parse(BEFORE, Path::new("balancer.toml")).unwrap();
        let candidate = compiler.compile(&candidate, Some(&before)).unwrap();
        assert_ne!(series(), running);
        Pending::default().undo(&candidate.snapshot, &before, &metrics);
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
    fn regression_rejected_configuration_leaves_alone_what_is_not_finished() {
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let mut compile = |source: &str, previous: Option<&Snapshot>| {
            let config = config::parse(source, Path::new("balancer.toml")).unwrap();
            compiler.compile(&config, previous).unwrap().snapshot
        };
        let series = || {
            let text = encode::text(&metrics, encode::Format::Text);
            let labelled = text.lines().filter(|line| line.contains('{'));
            labelled.map(str::to_owned).collect::<HashSet<String>>()
        };
        let before = compile(BEFORE, None);
        let after = compile(AFTER, Some(&before));
        count(&before);
        let mut pending = Pending::default();
        let gone = Gone::between(&before, &after);
        gone.retire_gauges(&metrics);
        pending.add(&gone);
        let running = series();
        let rejected = compile(BEFORE, Some(&after));
        pending.undo(&rejected, &after, &metrics);
        assert_eq!(series(), running);

        // Back, and removed again: the first to be finished takes nothing from the second.
        let back = compile(BEFORE, Some(&after));
        let again = compile(AFTER, Some(&back));
        let second = Gone::between(&back, &again);
        second.retire_gauges(&metrics);
        pending.add(&second);
        gone.retire(&metrics, &again, &pending.remove(&gone));
        assert_eq!(series(), running);
        second.retire(&metrics, &again, &pending.remove(&second));
        assert!(!series().iter().any(|line| line.contains("\"dropped\"")));
    }

    #[tokio::test(start_paused = true)]
    async fn regression_route_and_listener_keep_their_series_until_the_last_request_has_ended() {
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let mut compile = |source: &str, previous: Option<&Snapshot>| {
            let config = config::parse(source, Path::new("balancer.toml")).unwrap();
            compiler.compile(&config, previous).unwrap().snapshot
        };
        let before = Arc::new(compile(BEFORE, None));
        let publisher = Publisher::new(compile(AFTER, Some(&before)));
        let served = before.routes[1].metrics.in_flight.clone();
        let goes = before.listeners.iter().find(|it| &*it.name == "goes");
        let open = Arc::clone(&goes.unwrap().open);
        served.inc();
        open.store(1, Ordering::Relaxed);

        let gone = Gone::between(&before, &publisher.current());
        let (finished, mut received) = mpsc::unbounded_channel();
        let with = (Arc::clone(&metrics), publisher.clone());
        let freed = Arc::downgrade(&before.routes[1]);
        tokio::spawn(wait(gone, before, with, finished));
        sleep(Duration::from_secs(3600)).await;
        assert!(matches!(received.try_recv(), Ok(Due::Gauges(_))));
        assert!(freed.upgrade().is_none(), "its memory is kept");
        assert!(received.try_recv().is_err(), "both are at work");
        served.dec();
        sleep(LAST_SCRAPE * 2).await;
        assert!(received.try_recv().is_err(), "a connection is open");
        open.store(0, Ordering::Relaxed);
        sleep(LAST_SCRAPE / 2).await;
        assert!(received.try_recv().is_err(), "not scraped yet");
        sleep(LAST_SCRAPE).await;
        assert!(matches!(received.try_recv(), Ok(Due::Series(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn regression_scrape_that_meets_a_reload_brings_nothing_back_for_long() {
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let mut compile = |source: &str, previous: Option<&Snapshot>| {
            let config = config::parse(source, Path::new("balancer.toml")).unwrap();
            compiler.compile(&config, previous).unwrap().snapshot
        };
        let before = Arc::new(compile(BEFORE, None));
        let publisher = Publisher::new(compile(AFTER, Some(&before)));
        let said = || {
            let text = encode::text(&metrics, encode::Format::Text);
            let gauges = [
                "balancer_upstream_headroom_endpoints{",
                "balancer_queue_length{",
                "balancer_endpoint_up{",
            ];
            let says = |line: &&str| gauges.iter().any(|gauge| line.starts_with(gauge));
            let dropped = text.lines().filter(says);
            dropped.filter(|line| line.contains("\"dropped\"")).count()
        };
        let gone = Gone::between(&before, &publisher.current());
        gone.retire_gauges(&metrics);
        // It has begun before the reload, and comes to its end after it.
        refresh_gauges(&before, &metrics);
        assert_eq!(said(), 3);
        let (finished, mut received) = mpsc::unbounded_channel();
        let with = (Arc::clone(&metrics), publisher.clone());
        tokio::spawn(wait(gone, Arc::clone(&before), with, finished));
        sleep(LET_GO * 2).await;
        let Ok(Due::Gauges(gone)) = received.try_recv() else {
            panic!("nobody looks once more");
        };
        // What is back by then keeps them.
        gone.retire_gauges_again(&metrics, &before);
        assert_eq!(said(), 3);
        gone.retire_gauges_again(&metrics, &publisher.current());
        assert_eq!(said(), 0);
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
            let text = encode::text(&metrics, encode::Format::Text);
            let line = format!("balancer_request_duration_seconds_count{{route=\"{route}\"}} ");
            let found = text.lines().find_map(|found| found.strip_prefix(&line));
            found.map(str::to_owned)
        };
        assert_eq!(counted("side").as_deref(), Some("1"));
        let after = compiled(&metrics, AFTER, Some(&before));
        Gone::between(&before, &after).retire(&metrics, &after, []);
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
            let text = encode::text(&metrics, encode::Format::Text);
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
        assert!(matches!(received.try_recv(), Ok(Due::Gauges(_))));
        assert!(received.try_recv().is_err(), "a request is in flight");
        let endpoint = Arc::downgrade(&dropped.endpoints[0]);
        drop((lease, before));
        sleep(LOOK * 2).await;
        assert_eq!(shown().as_deref(), Some("0"), "until the last scrape");
        assert!(endpoint.upgrade().is_none(), "its memory is kept");
        let Some(Due::Series(gone)) = received.recv().await else {
            panic!("its series are for ever");
        };
        assert_eq!(
            shown().as_deref(),
            Some("0"),
            "nobody but who reloads removes it"
        );
        gone.retire(&metrics, &publisher.current(), []);
        assert_eq!(shown(), None);
    }
}
