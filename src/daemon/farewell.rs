//! When the tunnels of an endpoint that drains or is disabled are to end.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::Mode;
use crate::snapshot::Snapshot;
use crate::upstream::EndpointId;

/// Since when endpoints get nothing new.
#[derive(Debug, Default)]
pub(super) struct Farewells(HashMap<EndpointId, Farewell>);

#[derive(Clone, Copy, Debug)]
struct Farewell {
    since: Instant,
    is_over: bool,
}

impl Farewells {
    /// Takes note of the modes of the endpoints in `snapshot`, at `now`. One that is active has all its time again.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for endpoint in snapshot.upstreams.iter().flat_map(|it| &it.endpoints) {
            if endpoint.state().mode == Mode::Active {
                continue;
            }
            let begun = Farewell {
                since: now,
                is_over: false,
            };
            let farewell = before.remove(&endpoint.id()).unwrap_or(begun);
            self.0.insert(endpoint.id(), farewell);
        }
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
        let waiting = self.0.values().filter(|farewell| !farewell.is_over);
        waiting.map(|farewell| farewell.since + long).min()
    }

    /// Those that are over by `now` and were not before.
    pub(super) fn take_over(&mut self, now: Instant, long: Duration) -> Vec<EndpointId> {
        let mut over = Vec::new();
        for (endpoint, farewell) in &mut self.0 {
            if !farewell.is_over && farewell.since + long <= now {
                farewell.is_over = true;
                over.push(*endpoint);
            }
        }
        over
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

    #[test]
    fn farewell_lasts_its_time_through_reloads_and_begins_anew_after_a_return() {
        let text = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [\"127.0.0.1:2\", \"127.0.0.1:3\"]\n[[route]]\nupstream = \"app\"\n";
        let config = config::parse(text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        let endpoint = &snapshot.upstreams[0].endpoints[0];
        let (begin, long) = (Instant::now(), Duration::from_secs(600));
        let at = |seconds| begin + Duration::from_secs(seconds);

        let mut farewells = Farewells::default();
        farewells.follow(&snapshot, begin);
        assert_eq!(farewells.next(long), None);
        endpoint.set_mode(Mode::Draining);
        farewells.follow(&snapshot, begin);
        let next = compiler.compile(&config, Some(&snapshot)).unwrap().snapshot;
        farewells.follow(&next, at(300));
        assert_eq!(farewells.next(long), Some(at(600)));
        assert!(farewells.take_over(at(599), long).is_empty());
        assert_eq!(farewells.take_over(at(600), long), [endpoint.id()]);
        assert!(farewells.take_over(at(700), long).is_empty(), "once");
        assert_eq!(farewells.next(long), None);

        endpoint.set_mode(Mode::Active);
        farewells.follow(&next, at(800));
        endpoint.set_mode(Mode::Disabled);
        farewells.follow(&next, at(900));
        assert_eq!(farewells.next(long), Some(at(1500)));
    }
}
