//! Tells one task, from elsewhere on its thread, that it is to end.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// What a task looks at whenever it runs.
#[derive(Debug, Default)]
pub struct Cut {
    has_come: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Cut {
    /// Ends the task at its next turn, which comes at once.
    pub fn come(&self) {
        self.has_come.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready once it has come; else whoever `waker` wakes is woken then.
    pub fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.has_come.get() {
            return Poll::Ready(());
        }
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        Poll::Pending
    }
}
