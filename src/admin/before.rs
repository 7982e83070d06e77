//! The process before this one, as long as it finishes what it has: what it has in flight at which endpoint, and whether it has
//! heard what operators want since. As long as it has not, something may be in flight there anywhere.

use std::collections::HashMap;
use std::sync::MutexGuard;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Admin;
use super::status::EndpointStatus;
use super::takeover::Neighbours;
use crate::lock::lock;

/// What it said last of itself.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) pid: u32,
    pub(super) left: Left,
}

/// What a process that finishes still has.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Left {
    /// Client connections.
    pub connections: usize,
    /// Endpoints that something is in flight at.
    #[serde(default)]
    pub busy: Vec<Busy>,
    /// The last word about modes that it has heard.
    #[serde(default)]
    pub heard: u64,
}

/// What is in flight at one endpoint.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Busy {
    /// The endpoint's, in the process where it was made.
    pub id: u64,
    /// Its upstream.
    pub upstream: String,
    /// Its name.
    pub endpoint: String,
    /// Its address, as configured.
    pub address: String,
    /// Requests, tunnels among them.
    pub in_flight: u32,
    /// Tunnels.
    pub tunnels: i64,
}

/// How endpoints of processes before are numbered here.
pub type Ids = HashMap<u64, u64>;

impl Neighbours {
    /// Whether the process before, if any, knows all that operators want.
    fn has_heard(&self) -> bool {
        let before = self.draining.as_ref();
        before.is_none_or(|before| before.left.heard >= self.told)
    }

    fn own_id(&self, id: u64) -> u64 {
        self.ids.get(&id).copied().unwrap_or(id)
    }

    fn busy(&self, id: u64) -> impl Iterator<Item = &Busy> {
        let busy = self.draining.iter().flat_map(|it| &it.left.busy);
        busy.filter(move |busy| self.own_id(busy.id) == id)
    }

    /// What is in flight there at the endpoint that is `id` here, and how much of that is tunnels.
    pub(super) fn in_flight(&self, id: u64) -> (u32, i64) {
        let (requests, tunnels) = self.busy(id).fold((0_u32, 0), |sum, busy| {
            (sum.0.saturating_add(busy.in_flight), sum.1 + busy.tunnels)
        });
        (requests.max(u32::from(!self.has_heard())), tunnels)
    }
}

impl Admin {
    /// The process `pid` was before this one, and goes on with what it has.
    pub fn begin_draining(&self, pid: u32) {
        let mut neighbours = self.neighbours();
        neighbours.draining = Some(Before {
            pid,
            left: Left::default(),
        });
        // There will be a first word, which it has not heard yet.
        neighbours.told += 1;
    }

    /// It has so much left.
    pub fn set_left(&self, left: Left) {
        if let Some(before) = &mut self.neighbours().draining {
            before.left = left;
        }
    }

    /// It has ended.
    pub fn end_draining(&self) {
        self.neighbours().draining = None;
    }

    /// The number of the next word to it about modes, while there is one.
    pub fn next_word(&self) -> Option<u64> {
        let mut neighbours = self.neighbours();
        neighbours.draining.as_ref()?;
        neighbours.told += 1;
        Some(neighbours.told)
    }

    /// Whether it, if there is one, knows all that operators want.
    pub fn before_has_heard(&self) -> bool {
        self.neighbours().has_heard()
    }

    /// What it has left, while there is one.
    pub fn left_before(&self) -> Option<Left> {
        let neighbours = self.neighbours();
        Some(neighbours.draining.as_ref()?.left.clone())
    }

    /// Waits until it knows what operators want; not for long: what it has in flight counts as unknown until then.
    pub(super) async fn heard_before(&self) {
        let until = Instant::now() + HEARD_WITHIN;
        while !self.before_has_heard() && Instant::now() < until {
            sleep(LOOK).await;
        }
    }

    /// How endpoints of processes before are numbered here.
    pub fn set_ids(&self, ids: Ids) {
        self.neighbours().ids = ids;
    }

    /// The same.
    pub fn ids(&self) -> Ids {
        self.neighbours().ids.clone()
    }

    /// How the endpoint is numbered here that was `id` for whoever asks.
    pub(super) fn own_id(&self, id: u64) -> u64 {
        self.neighbours().own_id(id)
    }

    /// The endpoint of these names that is `id`, where nothing of it is here and something is there.
    pub(super) fn only_before(&self, names: (&str, &str), id: u64) -> Option<EndpointStatus> {
        let neighbours = self.neighbours();
        let unheard = !neighbours.has_heard();
        let unknown = || Busy {
            id,
            upstream: names.0.to_owned(),
            endpoint: names.1.to_owned(),
            address: String::new(),
            in_flight: 1,
            tunnels: 0,
        };
        let mut busy = neighbours.busy(id);
        let found = busy.find(|it| (&*it.upstream, &*it.endpoint) == names);
        let found = found.cloned().or_else(|| unheard.then(unknown))?;
        Some(EndpointStatus::of_gone(&found))
    }

    pub(super) fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        lock(&self.neighbours)
    }
}

/// It is told on the same machine, and answers at its next turn.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(id: u64, in_flight: u32) -> Busy {
        Busy {
            id,
            upstream: "app".to_owned(),
            endpoint: "a".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            in_flight,
            tunnels: 1,
        }
    }

    #[test]
    fn what_is_in_flight_before_belongs_to_the_same_endpoint_and_is_unknown_until_it_has_heard() {
        let mut neighbours = Neighbours {
            ids: Ids::from([(1, 7), (2, 7)]),
            ..Neighbours::default()
        };
        assert_eq!(neighbours.in_flight(7), (0, 0), "nobody was before");
        neighbours.told = 1;
        neighbours.draining = Some(Before::default());
        assert_eq!(neighbours.in_flight(7), (1, 0), "nobody knows");
        neighbours.draining = Some(Before {
            pid: 1,
            left: Left {
                connections: 9,
                busy: vec![busy(1, 2), busy(2, 3), busy(3, 4)],
                heard: 1,
            },
        });
        assert_eq!(neighbours.in_flight(7), (5, 2));
        assert_eq!(neighbours.in_flight(8), (0, 0));
        assert_eq!(neighbours.in_flight(3), (4, 1), "gone before");
        neighbours.told = 2;
        assert_eq!(neighbours.in_flight(8), (1, 0));
    }
}
