//! Counts failures of the last moments. Has no clock, and its atomics from the module around.

use super::atomic::{AtomicU32, Ordering::Relaxed};

/// Failures of the last moments, each counted for half a second to a whole one.
///
/// Added to by workers, faded by the control thread, read by policies. Relaxed: a pick that misses the latest is a pick a
/// moment earlier. One number, so that nothing is lost between adding and fading.
#[derive(Debug)]
pub(crate) struct Ghosts(AtomicU32);

impl Ghosts {
    /// None.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// One more. Beyond sixty thousand within half a second nobody counts.
    pub(crate) fn add(&self) {
        if self.0.load(Relaxed) & RECENT < MOST {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        let both = self.0.load(Relaxed);
        (both & RECENT) + (both >> BITS)
    }

    /// Lets those from before the last call go. For the control thread, every half second.
    pub(crate) fn fade(&self) {
        // Nothing is written where there is nothing: the line stays with the workers.
        let _ = self
            .0
            .fetch_update(Relaxed, Relaxed, |both| (both != 0).then_some(both << BITS));
    }
}

/// The lower half are those since the last fading, the upper half those before.
const BITS: u32 = 16;
const RECENT: u32 = (1 << BITS) - 1;
const MOST: u32 = 60_000; // thousands of threads may still be between looking and adding
