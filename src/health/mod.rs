//! Asks every endpoint regularly whether it is well, and sets those aside that fail clients' requests. Runs on the control thread;
//! workers only see the outcome.

mod check;
pub mod ejector;
pub mod exchange;
pub mod probe;
pub mod role;
pub mod threshold;
pub mod version;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use self::check::Check;
use crate::config;
use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::{Endpoint, EndpointId, Health};

/// Longest wait before the first probe: they are spread, but nobody shall wait long for a new endpoint.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// What of that each endpoint takes where nobody was checked before, as at the start: all wait for those that wait longest.
const FIRST_EACH: Duration = Duration::from_micros(250);

/// One task per checked endpoint; follows the snapshots.
#[derive(Debug)]
pub struct Checker {
    publisher: Publisher,
    tasks: HashMap<EndpointId, Task>,
}

#[derive(Debug)]
struct Task {
    health: config::Health,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Checker {
    /// Checks nobody yet.
    pub fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            tasks: HashMap::new(),
        }
    }

    /// Checks the endpoints of `snapshot`, and no others. A check that has not changed goes on undisturbed.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.tasks);
        let first_within = if before.is_empty() {
            first_within(checked(snapshot).count())
        } else {
            FIRST_WITHIN
        };
        for (endpoint, health) in checked(snapshot) {
            let task = match before.remove(&endpoint.id()) {
                Some(task) if task.health == *health => task,
                _ => self.start(endpoint, health, first_within),
            };
            self.tasks.insert(endpoint.id(), task);
        }
    }

    fn start(
        &self,
        endpoint: &Arc<Endpoint>,
        health: &config::Health,
        first_within: Duration,
    ) -> Task {
        let check = Check::new(endpoint, health, &self.publisher);
        Task {
            health: health.clone(),
            handle: tokio::spawn(check.run(first_within)).abort_handle(),
        }
    }
}

/// The endpoints of `snapshot` that are to be checked, and how.
fn checked(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Endpoint>, &config::Health)> {
    let upstreams = snapshot.upstreams.iter();
    let upstreams = upstreams.filter_map(|upstream| Some((upstream, upstream.health.as_ref()?)));
    upstreams.flat_map(|(upstream, health)| {
        let endpoints = upstream.endpoints.iter();
        let checked = endpoints.filter(|endpoint| endpoint.state().mode != config::Mode::Disabled);
        checked.map(move |endpoint| (endpoint, health))
    })
}

/// Over how long the first probes of so many endpoints are spread, where nobody was checked before.
fn first_within(endpoints: usize) -> Duration {
    let endpoints = u32::try_from(endpoints).unwrap_or(u32::MAX);
    FIRST_EACH.saturating_mul(endpoints).min(FIRST_WITHIN)
}

/// Whether every checked endpoint of `snapshot` has been probed once.
pub fn is_settled(snapshot: &Snapshot) -> bool {
    snapshot
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.endpoints)
        .all(|endpoint| {
            let state = endpoint.state();
            state.health != Health::Unknown
                || state.mode == config::Mode::Disabled
                || endpoint.metrics.check.get_sample_count() > 0
        })
}
