//! How many wait, told so that no place is freed unseen. Has its atomics from the module around.

use super::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};

/// How many requests wait. Written under a lock, read by whoever frees a place or comes new.
///
/// Who waits says so ([`set`](Self::set)) before it looks for room, who frees a place frees it before it looks for those that
/// wait, and between the two stands a fence on either side: one of them sees the other. Relaxed beside the fences: a newcomer
/// that misses the latest one comes at the same moment.
#[derive(Debug)]
pub(crate) struct Waiting(AtomicUsize);

impl Waiting {
    /// None.
    pub(crate) fn none() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// So many do from now on.
    pub(crate) fn set(&self, count: usize) {
        self.0.store(count, Relaxed);
    }

    /// Somebody who said that it waits looks for room from now on.
    pub(crate) fn before_looking(&self) {
        fence(SeqCst);
    }

    /// A place was freed: whether somebody may have missed that.
    pub(crate) fn after_freeing(&self) -> bool {
        fence(SeqCst);
        self.count() > 0
    }
}
