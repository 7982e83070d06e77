//! The one place where the current snapshot lives. The control thread publishes; workers read.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::Snapshot;

/// Makes snapshots current. Held by the control thread.
#[derive(Clone, Debug)]
pub struct Publisher(Arc<ArcSwap<Snapshot>>);

impl Publisher {
    /// Begins with `first`.
    pub fn new(first: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// Makes `next` current with one store: requests see the one or the other, whole.
    pub fn publish(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// A reader for one worker.
    pub fn reader(&self) -> Reader {
        let current = Rc::new(self.0.load_full());
        Reader {
            cache: RefCell::new(Cache::new(Arc::clone(&self.0))),
            current: RefCell::new(current),
        }
    }
}

/// A snapshot as a worker holds it: the count that requests raise and lower is the worker's own, so that cores do not
/// fight over it.
pub type Held = Rc<Arc<Snapshot>>;

/// One worker's view of the current snapshot.
#[derive(Debug)]
pub struct Reader {
    cache: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    current: RefCell<Held>,
}

impl Reader {
    /// The current snapshot, to be kept for one request.
    pub fn load(&self) -> Held {
        let mut cache = self.cache.borrow_mut();
        let latest = cache.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(latest, &current) {
            *current = Rc::new(Arc::clone(latest));
        }
        Rc::clone(&current)
    }
}
