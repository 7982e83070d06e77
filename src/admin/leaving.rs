//! Endpoints that reloads have removed, as long as anything of them is left: whoever waits for one to be done asks for that one,
//! and not for another that has got its name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, Weak};

use crate::lock::lock;
use crate::snapshot::Snapshot;
use crate::upstream::{Endpoint, EndpointId};

/// All of them.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<Vec<Weak<Endpoint>>>);

impl Leaving {
    /// Takes note of what `previous` had and `current` has not.
    pub fn follow(&self, previous: &Snapshot, current: &Snapshot) {
        let stays: HashSet<EndpointId> = all(current).map(|endpoint| endpoint.id()).collect();
        let mut leaving = lock(&self.0);
        leaving.retain(|endpoint| endpoint.strong_count() > 0);
        let gone = all(previous).filter(|endpoint| !stays.contains(&endpoint.id()));
        leaving.extend(gone.map(Arc::downgrade));
    }

    /// All that something is left of.
    pub fn all(&self) -> Vec<Arc<Endpoint>> {
        let leaving = lock(&self.0);
        leaving.iter().filter_map(Weak::upgrade).collect()
    }

    /// The one with `id`, if anything of it is left.
    pub fn find(&self, id: u64) -> Option<Arc<Endpoint>> {
        let leaving = lock(&self.0);
        let mut alive = leaving.iter().filter_map(Weak::upgrade);
        alive.find(|endpoint| endpoint.id().get() == id)
    }
}

fn all(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let upstreams = snapshot.upstreams.iter();
    upstreams.flat_map(|upstream| &upstream.endpoints)
}
