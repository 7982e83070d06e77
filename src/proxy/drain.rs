//! Tells connections of one worker that they are to end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

use crate::snapshot::Held;

/// Asks the connections of one listener to end: when it is removed, or when the process shuts down.
#[derive(Debug)]
pub struct Drain {
    /// The listener's.
    slot: u32,
    begun: Cell<bool>,
    latest: RefCell<Held>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl Drain {
    /// For the listener in `slot`, which `snapshot` has.
    pub fn new(slot: u32, snapshot: Held) -> Self {
        Self {
            slot,
            begun: Cell::default(),
            latest: RefCell::new(snapshot),
            next: Cell::default(),
            wakers: RefCell::default(),
        }
    }

    /// The snapshot connections of the listener go by, and the listener's index in it: `current`, or the latest that has the
    /// listener once it is removed. One for all of them, so that an idle connection keeps no old snapshot alive. No index where
    /// no snapshot had it.
    pub fn snapshot(&self, current: Held) -> (Held, Option<usize>) {
        if let Some(index) = current.listener_index(self.slot) {
            return (current, Some(index));
        }
        let latest = Rc::clone(&self.latest.borrow());
        let index = latest.listener_index(self.slot);
        (latest, index)
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
