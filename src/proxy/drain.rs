//! Tells connections of one worker that they are to end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

/// Asks connections to end: when their listener is removed, or when the process shuts down.
#[derive(Debug, Default)]
pub struct Drain {
    begun: Cell<bool>,
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

impl Drain {
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
