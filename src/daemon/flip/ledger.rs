//! What the endpoints of each set have answered, and had answered some minutes ago. Has no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::attempts::Answers;
use crate::units::Name;
use crate::upstream::{EndpointId, Upstream};

/// Of one upstream.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What was last read of each endpoint.
    read: HashMap<EndpointId, Answers>,
    /// How many requests had found no room by then.
    refused: Option<u64>,
    /// All that was counted for each set since this began.
    totals: HashMap<Name, Answers>,
    /// Totals of before, oldest first.
    past: VecDeque<(Instant, HashMap<Name, Answers>)>,
}

impl Ledger {
    /// Reads every endpoint of `upstream`. Whoever is new, or comes into another set, counts there from now on. Requests that
    /// found no room have failed, of the set that serves.
    pub(super) fn count(&mut self, upstream: &Upstream) {
        let mut before = std::mem::take(&mut self.read);
        for endpoint in &upstream.endpoints {
            let now = endpoint.metrics.attempts.read(&endpoint.metrics.response);
            let then = before.remove(&endpoint.id()).unwrap_or(now);
            if let Some(set) = upstream.set_of(endpoint) {
                self.totals.entry(set).or_default().add(&now.since(&then));
            }
            self.read.insert(endpoint.id(), now);
        }
        let Some(division) = &upstream.division else {
            return;
        };
        let refused = division.sets.refused();
        let before = self.refused.replace(refused).unwrap_or(refused);
        // Where two sets serve, who has no room sends to the other.
        if let (Some(set), None) = (upstream.active_set(), upstream.next_set()) {
            let total = self.totals.entry(set).or_default();
            total.requests += refused.saturating_sub(before);
            total.errors += refused.saturating_sub(before);
        }
    }

    /// Remembers how it is at `now`, for some minutes.
    pub(super) fn remember(&mut self, now: Instant) {
        self.past.push_back((now, self.totals.clone()));
        // The second is old enough to begin with.
        let is_old = |(at, _): &(Instant, _)| now.saturating_duration_since(*at) >= PAST;
        while self.past.get(1).is_some_and(is_old) {
            self.past.pop_front();
        }
    }

    /// All that was counted for `set`.
    pub(super) fn total(&self, set: &str) -> Answers {
        self.totals.get(set).copied().unwrap_or_default()
    }

    /// What was counted for `set` within the last minutes.
    pub(super) fn lately(&self, set: &str) -> Answers {
        let oldest = self.past.front();
        let before = oldest.and_then(|(_, totals)| totals.get(set));
        self.total(set).since(&before.copied().unwrap_or_default())
    }
}

/// So far back the old set is looked at: long enough for most to have had some thousand requests, and short enough for the day
/// not to have changed.
const PAST: Duration = Duration::from_secs(300);
/// So often it is remembered how it was.
pub(super) const PAGE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::snapshot::compile::{Compiler, apply};
    use crate::tls::Tickets;

    #[test]
    fn sets_are_counted_apart_and_the_long_past_is_forgotten() {
        let text = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nactive_set = \"blue\"\nendpoints = [{ address = \"127.0.0.1:2\", set = \"blue\" }, { address = \"127.0.0.1:3\", set = \"green\" }]\n[[route]]\nupstream = \"app\"\n";
        let config = config::parse(text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        apply(&snapshot, &config);
        let upstream = &snapshot.upstreams[0];
        let answer = |index: usize, count: u32| {
            let metrics = &upstream.endpoints[index].metrics;
            (0..count).for_each(|_| metrics.response.observe(0.001));
        };
        let (mut ledger, begun) = (Ledger::default(), Instant::now());
        answer(0, 7);
        ledger.count(upstream);
        ledger.remember(begun);
        assert_eq!(ledger.total("blue").requests, 0, "from now on");
        answer(0, 5);
        answer(1, 2);
        ledger.count(upstream);
        assert_eq!(ledger.lately("blue").requests, 5);
        assert_eq!(ledger.lately("green").requests, 2);
        ledger.remember(begun + PAGE);
        answer(0, 1);
        ledger.count(upstream);
        assert_eq!(ledger.lately("blue").requests, 6);
        ledger.remember(begun + PAGE + PAST);
        assert_eq!(ledger.lately("blue").requests, 1);
        assert_eq!(ledger.total("blue").requests, 6);
        (0..3).for_each(|_| upstream.note_refused());
        ledger.count(upstream);
        let blue = ledger.total("blue");
        assert_eq!((blue.requests, blue.errors), (9, 3));
        upstream.share("green", 50);
        upstream.note_refused();
        ledger.count(upstream);
        assert_eq!(ledger.total("blue"), blue, "it may have been either");
        upstream.switch("green");
        upstream.note_refused();
        ledger.count(upstream);
        assert_eq!(ledger.total("green").errors, 1);
    }
}
