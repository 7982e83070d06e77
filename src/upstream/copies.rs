//! Room for the copies of requests that an upstream gets as a mirror.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Copies at once, of all workers and routes, those that wait for the end of a body included. With the default of
/// `mirror.body_bytes` these are 32 MiB at most.
const AT_ONCE: usize = 512;

/// How many copies are under way. The same through all snapshots in which its upstream stays.
#[derive(Debug, Default)]
pub struct Copies {
    /// Written by all workers. Relaxed: the number alone matters, it guards nothing.
    taken: AtomicUsize,
}

impl Copies {
    /// A place for one more, if there is any.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let one_more = |taken| (taken < AT_ONCE).then_some(taken + 1);
        let taken = self.taken.fetch_update(Relaxed, Relaxed, one_more);
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// One of the places; free again when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Copies>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_each_can_be_had_again() {
        let copies = Arc::<Copies>::default();
        let mut places: Vec<_> = (0..AT_ONCE).map_while(|_| copies.take()).collect();
        assert_eq!(places.len(), AT_ONCE);
        assert!(copies.take().is_none());
        places.pop();
        assert!(copies.take().is_some());
    }
}
