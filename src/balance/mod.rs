//! Chooses an endpoint among candidates. Pure: knows nothing of sockets, clocks, health or configuration.
//!
//! A [`Policy`] is asked by every worker at once and holds no lock. Whoever changes which candidates are eligible, or
//! their weights, calls [`Policy::refresh`] afterwards; between the change and the refresh picks are still right, only
//! a little less even.

mod chance;
mod consistent_hash;
mod least_connections;
mod peak_ewma;
mod random;
mod round_robin;
mod sampler;
pub mod share;
mod stable_hash;
mod two_choices;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use consistent_hash::{Bound, ConsistentHash, InFlight};
pub use least_connections::LeastConnections;
pub use peak_ewma::PeakEwma;
pub use random::Random;
pub use round_robin::RoundRobin;
pub use stable_hash::stable_hash;
pub use two_choices::TwoChoices;

use chance::Chance;

/// What a policy sees of an endpoint.
pub trait Candidate {
    /// Its relative share. A candidate of weight 0 is picked only when no other is eligible.
    fn weight(&self) -> u32;
    /// Requests assigned to it and not finished, of all workers.
    fn in_flight(&self) -> u32;

    /// What it bears beside these, in requests: those that failed a moment ago, and what is held against a newcomer.
    fn ballast(&self) -> u32 {
        0
    }

    /// How long it takes to answer, in microseconds; 0 while nobody knows.
    fn latency(&self) -> f32 {
        0.0
    }

    /// Who it is, on every balancer the same: [`stable_hash`] of its name.
    fn identity(&self) -> u64 {
        0
    }
}

impl<T: Candidate + ?Sized> Candidate for Arc<T> {
    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn in_flight(&self) -> u32 {
        (**self).in_flight()
    }

    fn ballast(&self) -> u32 {
        (**self).ballast()
    }

    fn latency(&self) -> f32 {
        (**self).latency()
    }

    fn identity(&self) -> u64 {
        (**self).identity()
    }
}

impl<T: Candidate + ?Sized> Candidate for &T {
    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn in_flight(&self) -> u32 {
        (**self).in_flight()
    }

    fn ballast(&self) -> u32 {
        (**self).ballast()
    }

    fn latency(&self) -> f32 {
        (**self).latency()
    }

    fn identity(&self) -> u64 {
        (**self).identity()
    }
}

/// How an endpoint is chosen.
#[derive(Debug)]
pub enum Policy {
    /// Weighted, smooth.
    RoundRobin(RoundRobin),
    /// Fewest requests in flight per weight.
    LeastConnections(LeastConnections),
    /// The less loaded of two at random.
    TwoChoices(TwoChoices),
    /// The sooner done of two at random.
    PeakEwma(PeakEwma),
    /// Always the same for the same key, while it is not overloaded.
    ConsistentHash(ConsistentHash),
    /// At random, by weight.
    Random(Random),
}

/// How a policy eases a newcomer in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlowStart {
    /// By [`Candidate::weight`], which grows.
    Weight,
    /// By [`Candidate::ballast`], which fades: it looks at loads, and would fill an empty newcomer up at once.
    Ballast,
    /// Not at all: keys would move with every step.
    Never,
}

impl Policy {
    /// One of the same kind, for a part of the same candidates.
    pub fn another(&self) -> Self {
        match self {
            Self::RoundRobin(_) => Self::RoundRobin(RoundRobin::default()),
            Self::LeastConnections(_) => Self::LeastConnections(LeastConnections::default()),
            Self::TwoChoices(_) => Self::TwoChoices(TwoChoices::default()),
            Self::PeakEwma(_) => Self::PeakEwma(PeakEwma::default()),
            Self::ConsistentHash(policy) => Self::ConsistentHash(policy.another()),
            Self::Random(_) => Self::Random(Random::default()),
        }
    }

    /// The index of the candidate to take, `None` only when none was eligible while it looked.
    ///
    /// `candidates` must be the list given to the last [`Self::refresh`]. `key` is for consistent hashing: the
    /// [`stable_hash`] of what shall always come to the same candidate.
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        key: Option<u64>,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.pick(candidates, cursor, eligible),
            Self::LeastConnections(policy) => policy.pick(candidates, cursor, eligible),
            Self::TwoChoices(policy) => policy.pick(candidates, cursor, eligible),
            Self::PeakEwma(policy) => policy.pick(candidates, cursor, eligible),
            Self::ConsistentHash(policy) => {
                let key = key.unwrap_or_else(|| cursor.chance().number());
                policy.pick(candidates, key, eligible)
            }
            Self::Random(policy) => policy.pick(candidates, cursor, eligible),
        }
    }

    /// The word in the file and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RoundRobin(_) => "round-robin",
            Self::LeastConnections(_) => "least-connections",
            Self::TwoChoices(_) => "two-choices",
            Self::PeakEwma(_) => "peak-ewma",
            Self::ConsistentHash(_) => "hash",
            Self::Random(_) => "random",
        }
    }

    /// Takes note of who is eligible and of the weights. For the control thread: takes milliseconds with a thousand
    /// endpoints of unlike weights, or where the members of consistent hashing have changed.
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        match self {
            Self::RoundRobin(policy) => policy.refresh(candidates, eligible),
            Self::LeastConnections(policy) => policy.refresh(candidates, eligible),
            Self::TwoChoices(policy) => policy.refresh(candidates, eligible),
            Self::PeakEwma(policy) => policy.refresh(candidates, eligible),
            Self::ConsistentHash(policy) => policy.refresh(candidates, eligible),
            Self::Random(policy) => policy.refresh(candidates, eligible),
        }
    }

    /// How it eases a newcomer in.
    pub fn slow_start(&self) -> SlowStart {
        match self {
            Self::RoundRobin(_) | Self::Random(_) | Self::PeakEwma(_) => SlowStart::Weight,
            Self::LeastConnections(_) | Self::TwoChoices(_) => SlowStart::Ballast,
            Self::ConsistentHash(_) => SlowStart::Never,
        }
    }

    /// Whether it looks at [`Candidate::ballast`].
    pub fn heeds_ballast(&self) -> bool {
        match self {
            Self::LeastConnections(_)
            | Self::TwoChoices(_)
            | Self::PeakEwma(_)
            | Self::ConsistentHash(_) => true,
            Self::RoundRobin(_) | Self::Random(_) => false,
        }
    }

    /// Whether it looks at [`Candidate::latency`].
    pub fn heeds_latency(&self) -> bool {
        match self {
            Self::PeakEwma(_) => true,
            Self::RoundRobin(_)
            | Self::LeastConnections(_)
            | Self::TwoChoices(_)
            | Self::ConsistentHash(_)
            | Self::Random(_) => false,
        }
    }

    /// Where it wants the requests of all candidates counted together.
    pub fn in_flight(&self) -> Option<&Arc<InFlight>> {
        match self {
            Self::ConsistentHash(policy) => policy.in_flight(),
            Self::RoundRobin(_)
            | Self::LeastConnections(_)
            | Self::TwoChoices(_)
            | Self::PeakEwma(_)
            | Self::Random(_) => None,
        }
    }
}

/// The first eligible candidate from `start` on, in a circle.
fn next_eligible<C>(
    candidates: &[C],
    start: usize,
    eligible: impl Fn(&C) -> bool,
) -> Option<usize> {
    (start..candidates.len())
        .chain(0..start.min(candidates.len()))
        .find(|index| eligible(&candidates[*index]))
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
    pub fn advance(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The position as it stands: who picks by it gets whom the next one gets, and takes no turn.
    pub fn peek(&self) -> Self {
        Self::new(self.0.load(Ordering::Relaxed))
    }

    /// Another position, by chance, for who comes out of turn: an attempt after one that failed takes no turn of others, or
    /// every first attempt could hit the same bad one of two.
    pub fn aside(&self) -> Self {
        let position = self.0.load(Ordering::Relaxed) as u64;
        // Fibonacci hashing: its upper bits are as good as random.
        Self::new((position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize)
    }

    /// The chance of this turn: others at other positions, the same at the same.
    fn chance(&self) -> Chance {
        Chance::of(self.advance() as u64)
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

    fn policies() -> [Policy; 6] {
        [
            Policy::RoundRobin(RoundRobin::default()),
            Policy::LeastConnections(LeastConnections::default()),
            Policy::TwoChoices(TwoChoices::default()),
            Policy::PeakEwma(PeakEwma::default()),
            Policy::ConsistentHash(ConsistentHash::new(None)),
            Policy::Random(Random::default()),
        ]
    }

    #[test]
    fn who_comes_out_of_turn_takes_no_turn() {
        let candidates = [Arc::new(Idle), Arc::new(Idle)];
        let policy = Policy::RoundRobin(RoundRobin::default());
        policy.refresh(&candidates, |_| true);
        let cursor = Cursor::new(7);
        let pick = |cursor: &Cursor| policy.pick(&candidates, cursor, None, |_| true).unwrap();
        let first = pick(&cursor);
        let out_of_turn: Vec<usize> = (0..4).map(|_| pick(&cursor.aside())).collect();
        assert_eq!(pick(&cursor), 1 - first, "after {out_of_turn:?}");
    }

    #[test]
    fn a_cursor_does_not_share_its_cache_lines() {
        assert_eq!(align_of::<Cursor>(), 128);
        assert_eq!(size_of::<Cursor>(), 128);
    }

    #[test]
    fn nobody_is_picked_when_nobody_is_eligible() {
        let candidates = [Arc::new(Idle), Arc::new(Idle)];
        for policy in policies() {
            let cursor = Cursor::new(7);
            policy.refresh(&candidates, |_| true);
            assert_eq!(policy.pick(&candidates, &cursor, None, |_| false), None);
            policy.refresh(&candidates, |_| false);
            assert_eq!(policy.pick(&candidates, &cursor, None, |_| false), None);
            assert_eq!(policy.pick::<Idle>(&[], &cursor, None, |_| true), None);
        }
    }

    #[test]
    fn every_policy_finds_the_only_one_left_before_it_was_told() {
        for count in [1_usize, 2, 3, 70] {
            let candidates: Vec<_> = (0..count).map(|_| Arc::new(Idle)).collect();
            for policy in policies() {
                let cursor = Cursor::new(3);
                for one in 0..count {
                    let only = |candidate: &Arc<Idle>| Arc::ptr_eq(candidate, &candidates[one]);
                    policy.refresh(&candidates, |candidate| !only(candidate));
                    let found = policy.pick(&candidates, &cursor, Some(5), only);
                    assert_eq!(found, Some(one), "{} of {count}", policy.name());
                }
            }
        }
    }
}
