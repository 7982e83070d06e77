//! Counts the connections of each worker, and chooses who gets the next. Has its atomics from the module around.

use super::atomic::{AtomicUsize, Ordering::Relaxed};

/// A worker that has not taken over so many gets no more: it is busy or stuck.
pub(crate) const WAITING_LIMIT: usize = 32;

/// Connections of all workers.
#[derive(Debug)]
pub(crate) struct Loads(Box<[Load]>);

/// Connections of one worker. Written by the worker that accepts and the one that serves, once for each connection.
/// Relaxed: a choice that misses the latest change is a choice a moment earlier. On cache lines of its own, as workers
/// look at it often.
#[derive(Debug)]
#[repr(align(128))]
struct Load {
    /// All, those on their way included.
    connections: AtomicUsize,
    /// Those on their way.
    waiting: AtomicUsize,
}

impl Loads {
    /// Of so many workers, none of which has any.
    pub(crate) fn new(workers: usize) -> Self {
        let load = |_| Load {
            connections: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        };
        Self((0..workers).map(load).collect())
    }

    /// The worker for a connection that worker `own` has accepted: `own`, unless it has clearly more than another.
    pub(crate) fn choose(&self, own: usize) -> usize {
        let loads = self.0.iter().enumerate().map(|(worker, load)| {
            let takes = worker == own || load.waiting.load(Relaxed) < WAITING_LIMIT;
            takes.then(|| load.connections.load(Relaxed))
        });
        choose(own, loads)
    }

    /// One more at `worker`.
    pub(crate) fn begin(&self, worker: usize) {
        self.0[worker].connections.fetch_add(1, Relaxed);
    }

    /// One less.
    pub(crate) fn end(&self, worker: usize) {
        self.0[worker].connections.fetch_sub(1, Relaxed);
    }

    /// One of those at `worker` is on its way to it.
    pub(crate) fn send(&self, worker: usize) {
        self.0[worker].waiting.fetch_add(1, Relaxed);
    }

    /// It is so no longer.
    pub(crate) fn arrive(&self, worker: usize) {
        self.0[worker].waiting.fetch_sub(1, Relaxed);
    }
}

/// The worker for a new connection, of those that have a load. A difference of an eighth is let be: handing over costs
/// more than it would gain.
fn choose(own: usize, loads: impl Iterator<Item = Option<usize>> + Clone) -> usize {
    let own_load = loads.clone().nth(own).flatten().unwrap_or_default();
    let least = loads
        .enumerate()
        .filter_map(|(worker, load)| Some((load?, worker)))
        .min();
    match least {
        Some((load, worker)) if own_load > load + own_load / 8 => worker,
        _ => own,
    }
}
