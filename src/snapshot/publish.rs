//! The one place where the current snapshot lives. The control thread publishes; workers read.

use std::cell::{OnceCell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::{Listener, Route, Snapshot};

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
        let current = Rc::new(View::new(self.0.load_full()));
        Reader {
            cache: RefCell::new(Cache::new(Arc::clone(&self.0))),
            current: RefCell::new(current),
        }
    }
}

/// A snapshot as one worker holds it: the counts that requests raise and lower are the worker's own, so that cores do not
/// fight over them.
pub type Held = Rc<View>;

/// Something that all workers share, with a count of one worker's own.
#[derive(Debug)]
#[allow(
    clippy::redundant_allocation,
    reason = "the outer count is what it is for"
)]
pub struct Own<T>(Rc<Arc<T>>);

impl<T> Own<T> {
    fn new(shared: &Arc<T>) -> Self {
        Self(Rc::new(Arc::clone(shared)))
    }
}

impl<T> Clone for Own<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// One worker's hold on a snapshot.
#[derive(Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    listeners: Box<[OnceCell<Own<Listener>>]>,
    routes: Box<[OnceCell<Own<Route>>]>,
    no_route: Own<Route>,
}

impl View {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            listeners: std::iter::repeat_with(OnceCell::new)
                .take(snapshot.listeners.len())
                .collect(),
            routes: std::iter::repeat_with(OnceCell::new)
                .take(snapshot.routes.len())
                .collect(),
            no_route: Own::new(&snapshot.no_route),
            snapshot,
        }
    }

    /// The listener at `index`. Unlike the snapshot itself it can be kept for long.
    pub fn listener(&self, index: usize) -> &Own<Listener> {
        self.listeners[index].get_or_init(|| Own::new(&self.snapshot.listeners[index]))
    }

    /// The route at `index`, likewise.
    pub fn route(&self, index: usize) -> &Own<Route> {
        self.routes[index].get_or_init(|| Own::new(&self.snapshot.routes[index]))
    }

    /// The route that stands for none, likewise.
    pub fn no_route(&self) -> &Own<Route> {
        &self.no_route
    }
}

impl Deref for View {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

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
        if !Arc::ptr_eq(latest, &current.snapshot) {
            *current = Rc::new(View::new(Arc::clone(latest)));
        }
        Rc::clone(&current)
    }
}
