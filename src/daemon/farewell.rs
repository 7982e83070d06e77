//! When the tunnels of an endpoint that drains, is disabled, is gone or is the authority no more are to end.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::Mode;
use crate::snapshot::Snapshot;
use crate::upstream::state::State;
use crate::upstream::{Endpoint, EndpointId};

/// Since when endpoints get nothing new.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    known: HashMap<EndpointId, Farewell>,
    /// Endpoints of the snapshot that was followed last: who is missing in the next one is gone.
    last: Vec<Weak<Endpoint>>,
}

#[derive(Debug)]
struct Farewell {
    /// Dead once it is gone and nothing of it is left.
    endpoint: Weak<Endpoint>,
    since: Instant,
    is_over: bool,
}

impl Farewells {
    /// Takes note of the modes of the endpoints in `snapshot`, at `now`, of those that another one serves instead of, and of those
    /// that it has no more. One that is active and serves has all its time again.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut before = std::mem::take(&mut self.known);
        let mut last = std::mem::take(&mut self.last);
        for endpoint in snapshot.upstreams.iter().flat_map(|it| &it.endpoints) {
            self.last.push(Arc::downgrade(endpoint));
            // One that was the authority again meanwhile has its time anew.
            let known = before.remove(&endpoint.id());
            let known = known.filter(|it| !it.is_over || endpoint.ends_tunnels());
            let stays =
                |state: &State| state.mode == Mode::Active && state.part.passed_over.is_none();
            if endpoint.look(stays) {
                endpoint.set_ends_tunnels(false);
            } else {
                let farewell = known.unwrap_or_else(|| Farewell::begin(endpoint, now));
                self.known.insert(endpoint.id(), farewell);
            }
        }
        let current: HashSet<_> = self.last.iter().map(Weak::as_ptr).collect();
        last.retain(|endpoint| !current.contains(&endpoint.as_ptr()));
        // Those that are gone since, and those that were gone already.
        for endpoint in last.iter().filter_map(Weak::upgrade) {
            before
                .entry(endpoint.id())
                .or_insert_with(|| Farewell::begin(&endpoint, now));
        }
        before.retain(|_, farewell| farewell.endpoint.strong_count() > 0);
        self.known.extend(before);
    }

    /// Waits until the next one is over, where each lasts `long`; for ever where there is none.
    pub(super) async fn wait(&self, long: Duration) {
        match self.next(long) {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// When the next one is over, where each lasts `long`.
    fn next(&self, long: Duration) -> Option<Instant> {
        let waiting = self.known.values().filter(|farewell| !farewell.is_over);
        waiting.map(|farewell| farewell.since + long).min()
    }

    /// Those that are over by `now` and were not before. From then on they have no tunnels: one that begins late ends at once.
    pub(super) fn take_over(&mut self, now: Instant, long: Duration) -> Vec<EndpointId> {
        let mut over = Vec::new();
        for (id, farewell) in &mut self.known {
            if farewell.is_over || farewell.since + long > now {
                continue;
            }
            farewell.is_over = true;
            if let Some(endpoint) = farewell.endpoint.upgrade() {
                endpoint.set_ends_tunnels(true);
                over.push(*id);
            }
        }
        over
    }
}

impl Farewell {
    fn begin(endpoint: &Arc<Endpoint>, now: Instant) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            since: now,
            is_over: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;

    const TEXT: &str = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [\"127.0.0.1:2\", \"127.0.0.1:3\"]\n[[route]]\nupstream = \"app\"\n";

    fn compile(compiler: &mut Compiler, text: &str, previous: Option<&Snapshot>) -> Snapshot {
        let config = config::parse(text, Path::new("f")).unwrap();
        compiler.compile(&config, previous).unwrap().snapshot
    }

    fn compiler() -> Compiler {
        Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0)
    }

    #[test]
    fn farewell_lasts_its_time_through_reloads_and_begins_anew_after_a_return() {
        let mut compiler = compiler();
        let snapshot = compile(&mut compiler, TEXT, None);
        let endpoint = &snapshot.upstreams[0].endpoints[0];
        let (begin, long) = (Instant::now(), Duration::from_secs(600));
        let at = |seconds| begin + Duration::from_secs(seconds);

        let mut farewells = Farewells::default();
        farewells.follow(&snapshot, begin);
        assert_eq!(farewells.next(long), None);
        endpoint.set_mode(Mode::Draining);
        farewells.follow(&snapshot, begin);
        let next = compile(&mut compiler, TEXT, Some(&snapshot));
        farewells.follow(&next, at(300));
        assert_eq!(farewells.next(long), Some(at(600)));
        assert!(farewells.take_over(at(599), long).is_empty());
        assert_eq!(farewells.take_over(at(600), long), [endpoint.id()]);
        assert!(farewells.take_over(at(700), long).is_empty(), "once");
        assert_eq!(farewells.next(long), None);
        assert!(endpoint.ends_tunnels(), "those that begin late, too");

        endpoint.set_mode(Mode::Active);
        farewells.follow(&next, at(800));
        assert!(!endpoint.ends_tunnels());
        endpoint.set_mode(Mode::Disabled);
        farewells.follow(&next, at(900));
        assert_eq!(farewells.next(long), Some(at(1500)));
    }

    #[test]
    fn regression_endpoint_that_a_reload_removes_has_its_farewell_too_until_nothing_of_it_is_left()
    {
        let mut compiler = compiler();
        let snapshot = compile(&mut compiler, TEXT, None);
        let (begin, long) = (Instant::now(), Duration::from_secs(600));
        let at = |seconds| begin + Duration::from_secs(seconds);
        let [stays, goes] = [0, 1].map(|index| Arc::clone(&snapshot.upstreams[0].endpoints[index]));
        let mut farewells = Farewells::default();
        farewells.follow(&snapshot, begin);
        // Another address is another endpoint.
        let next = compile(&mut compiler, &TEXT.replace(":3", ":4"), Some(&snapshot));
        drop(snapshot);
        farewells.follow(&next, at(100));
        assert_eq!(farewells.next(long), Some(at(700)));
        farewells.follow(&next, at(200));
        assert_eq!(farewells.take_over(at(700), long), [goes.id()]);
        assert!(goes.ends_tunnels() && !stays.ends_tunnels());
        drop(goes);
        farewells.follow(&next, at(800));
        assert!(farewells.known.is_empty());
    }
}
