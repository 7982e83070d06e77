//! Chooses an endpoint among candidates. Pure: knows nothing of sockets, clocks, health or configuration.
//!
//! A [`Policy`] is asked by every worker at once and holds no lock. Whoever changes which candidates are eligible, or
//! their weights, calls [`Policy::refresh`] afterwards; between the change and the refresh picks are still right, only
//! a little less even.

mod least_connections;
mod round_robin;
pub mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use least_connections::LeastConnections;
pub use round_robin::RoundRobin;

/// What a policy sees of an endpoint.
pub trait Candidate {
    /// Its relative share. A candidate of weight 0 is picked only when no other is eligible.
    fn weight(&self) -> u32;
    /// Requests assigned to it and not finished, of all workers.
    fn in_flight(&self) -> u32;
}

impl<T: Candidate + ?Sized> Candidate for Arc<T> {
    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn in_flight(&self) -> u32 {
        (**self).in_flight()
    }
}

impl<T: Candidate + ?Sized> Candidate for &T {
    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn in_flight(&self) -> u32 {
        (**self).in_flight()
    }
}

/// How an endpoint is chosen.
#[derive(Debug)]
pub enum Policy {
    /// Weighted, smooth.
    RoundRobin(RoundRobin),
    /// Fewest requests in flight per weight.
    LeastConnections(LeastConnections),
}

impl Policy {
    /// The index of the candidate to take, `None` only when none was eligible while it looked.
    ///
    /// `candidates` must be the list given to the last [`Self::refresh`].
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.pick(candidates, cursor, eligible),
            Self::LeastConnections(policy) => policy.pick(candidates, cursor, eligible),
        }
    }

    /// The word in the file and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RoundRobin(_) => "round-robin",
            Self::LeastConnections(_) => "least-connections",
        }
    }

    /// Takes note of who is eligible and of the weights. For the control thread: takes tens of milliseconds with a
    /// thousand endpoints of unlike weights.
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        match self {
            Self::RoundRobin(policy) => policy.refresh(candidates, eligible),
            Self::LeastConnections(_) => {}
        }
    }
}

/// Where a rotation stands. Belongs to the upstream and outlives the policy, so that a reload keeps the turn.
///
/// Written and read by every worker. Relaxed: the number alone matters, it guards nothing. Alone on its cache lines
/// (two of them, as processors fetch pairs), for every request moves it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cursor(AtomicUsize);

impl Cursor {
    /// A rotation that begins at `start`: a random number, so that several balancers do not begin in step.
    pub const fn new(start: usize) -> Self {
        Self(AtomicUsize::new(start))
    }

    /// The current position; the next call gives the one after it.
    fn advance(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Idle;

    impl Candidate for Idle {
        fn weight(&self) -> u32 {
            1
        }

        fn in_flight(&self) -> u32 {
            0
        }
    }

    #[test]
    fn a_cursor_does_not_share_its_cache_lines() {
        assert_eq!(align_of::<Cursor>(), 128);
        assert_eq!(size_of::<Cursor>(), 128);
    }

    #[test]
    fn nobody_is_picked_when_nobody_is_eligible() {
        let candidates = [Arc::new(Idle), Arc::new(Idle)];
        for policy in [
            Policy::RoundRobin(RoundRobin::default()),
            Policy::LeastConnections(LeastConnections::default()),
        ] {
            let cursor = Cursor::new(7);
            policy.refresh(&candidates, |_| true);
            assert_eq!(policy.pick(&candidates, &cursor, |_| false), None);
            policy.refresh(&candidates, |_| false);
            assert_eq!(policy.pick(&candidates, &cursor, |_| false), None);
            assert_eq!(policy.pick::<Idle>(&[], &cursor, |_| true), None);
        }
    }
}
