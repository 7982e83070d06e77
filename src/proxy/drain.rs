//! Tells connections of one worker that they are to end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

use crate::snapshot::Held;

/// Asks the connections of one listener to end: when it is removed, or when the process shuts down.
#[derive(Debug)]
pub struct Drain {
    begun: Cell<bool>,
    latest: RefCell<Held>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl Drain {
    /// For a listener that `snapshot` has.
    pub fn new(snapshot: Held) -> Self {
        Self {
            begun: Cell::default(),
            latest: RefCell::new(snapshot),
            next: Cell::default(),
            wakers: RefCell::default(),
        }
    }

    /// The latest snapshot that has the listener: connections go on with it once the listener is removed. One for all of
    /// them, so that an idle connection keeps no old snapshot alive.
    pub fn latest(&self) -> Held {
        Rc::clone(&self.latest.borrow())
    }

    /// The listener is in `snapshot` as well.
    pub fn follow(&self, snapshot: Held) {
        self.latest.replace(snapshot);
    }

    /// Asks all that listen to end.
    pub fn begin(&self) {
        self.begun.set(true);
        for (_, waker) in self.wakers.take() {
            waker.wake();
        }
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Wakes the task of `waker` when it begins; until the guard is dropped.
    pub fn listen(self: &Rc<Self>, waker: &Waker) -> DrainGuard {
        let id = self.next.get();
        self.next.set(id + 1);
        self.wakers.borrow_mut().insert(id, waker.clone());
        DrainGuard {
            drain: Rc::clone(self),
            id,
        }
    }
}

/// Ends the listening when dropped.
#[derive(Debug)]
pub struct DrainGuard {
    drain: Rc<Drain>,
    id: u64,
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        self.drain.wakers.borrow_mut().remove(&self.id);
    }
}
