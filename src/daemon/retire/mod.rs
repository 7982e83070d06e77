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
mod tests;
