//! Least connections: fewest requests in flight per weight, over all workers. Blind to how long requests take.
//!
//! Looks at all of up to 64 candidates, and beyond at two at random: that costs the same whatever their number, and is
//! nearly as even.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::{Candidate, Cursor, TwoChoices};

/// Least connections: the smallest `(in_flight + 1) / weight`. The `+ 1` makes weights matter while all are idle. Those
/// that tie take turns.
#[derive(Debug, Default)]
pub struct LeastConnections {
    /// In use beyond [`MAX_SCANNED`] candidates.
    of_many: TwoChoices,
}

impl LeastConnections {
    /// See [`super::Policy::pick`]. Looks at every candidate once, so a load that changes meanwhile cannot confuse it.
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        if candidates.len() > MAX_SCANNED {
            return self.of_many.pick(candidates, cursor, eligible);
        }
        let mut least: Option<Load> = None;
        let mut tied: SmallVec<[u32; 32]> = SmallVec::new();
        for (candidate, index) in candidates.iter().zip(0..) {
            if !eligible(candidate) {
                continue;
            }
            let load = Load::of(candidate);
            match least.map_or(Ordering::Less, |least| load.cmp(least)) {
                Ordering::Greater => continue,
                Ordering::Equal => {}
                Ordering::Less => {
                    least = Some(load);
                    tied.clear();
                }
            }
            tied.push(index);
        }
        let turn = match tied.len() {
            0 => return None,
            1 => 0,
            count => cursor.advance() % count,
        };
        Some(tied[turn] as usize)
    }

    /// See [`super::Policy::refresh`].
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        if candidates.len() > MAX_SCANNED {
            self.of_many.refresh(candidates, eligible);
        }
    }
}

/// Their loads stand on as many cache lines, which other workers write to: about a microsecond to look at.
const MAX_SCANNED: usize = 64;

/// What a candidate bears, once it had this request too.
#[derive(Clone, Copy)]
pub(super) struct Load {
    requests: u64,
    weight: u64,
}

impl Load {
    pub(super) fn of(candidate: &impl Candidate) -> Self {
        let requests = candidate.in_flight().saturating_add(candidate.ballast());
        Self {
            requests: u64::from(requests) + 1,
            weight: u64::from(candidate.weight()),
        }
    }

    /// Compares `requests / weight` without dividing: 2³² × 2³² fits. Weight 0 bears infinitely much.
    pub(super) fn cmp(self, other: Self) -> Ordering {
        (self.requests * other.weight).cmp(&(other.requests * self.weight))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Endpoint {
        weight: u32,
        in_flight: Cell<u32>,
        ballast: u32,
        /// Shows another load whenever it is looked at.
        restless: bool,
    }

    impl Candidate for Endpoint {
        fn weight(&self) -> u32 {
            self.weight
        }

        fn in_flight(&self) -> u32 {
            let load = self.in_flight.get();
            if self.restless {
                self.in_flight
                    .set(load.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
            }
            load
        }

        fn ballast(&self) -> u32 {
            self.ballast
        }
    }

    fn endpoint((weight, in_flight): (u32, u32)) -> Endpoint {
        Endpoint {
            weight,
            in_flight: Cell::new(in_flight),
            ballast: 0,
            restless: false,
        }
    }

    fn pick(endpoints: &[Endpoint], cursor: &Cursor) -> usize {
        LeastConnections::default()
            .pick(endpoints, cursor, |_| true)
            .unwrap()
    }

    #[test]
    fn the_least_loaded_is_picked() {
        assert_eq!(
            pick(&[(1, 3), (1, 1), (1, 2)].map(endpoint), &Cursor::new(0)),
            1
        );
    }

    #[test]
    fn weights_matter_on_an_idle_upstream() {
        assert_eq!(pick(&[(1, 0), (5, 0)].map(endpoint), &Cursor::new(0)), 1);
        assert_eq!(pick(&[(1, 0), (5, 5)].map(endpoint), &Cursor::new(0)), 0);
    }

    #[test]
    fn what_failed_a_moment_ago_counts_as_load() {
        let mut endpoints = [(1, 0), (1, 2)].map(endpoint);
        endpoints[0].ballast = 3;
        assert_eq!(pick(&endpoints, &Cursor::new(0)), 1);
    }

    #[test]
    fn of_many_the_idle_ones_are_picked() {
        // One in twenty is busy: both of two are busy in one pick of 400.
        let endpoints: Vec<Endpoint> = (0..400)
            .map(|index| endpoint((1, u32::from(index % 20 == 0) * 9)))
            .collect();
        let policy = LeastConnections::default();
        policy.refresh(&endpoints, |_| true);
        let cursor = Cursor::new(0);
        let busy = (0..4000)
            .map(|_| policy.pick(&endpoints, &cursor, |_| true).unwrap())
            .filter(|index| index % 20 == 0);
        assert!(busy.count() < 40);
    }

    #[test]
    fn ties_take_turns() {
        let endpoints = [(1, 1), (2, 3), (1, 2), (3, 5)].map(endpoint);
        let cursor = Cursor::new(0);
        let picks: Vec<usize> = (0..6).map(|_| pick(&endpoints, &cursor)).collect();
        assert_eq!(picks, [0, 1, 3, 0, 1, 3]);
    }

    #[test]
    fn the_largest_loads_and_weights_do_not_overflow() {
        assert_eq!(
            pick(
                &[(u32::MAX, u32::MAX), (u32::MAX, u32::MAX - 1)].map(endpoint),
                &Cursor::new(0)
            ),
            1
        );
    }

    #[test]
    fn weight_zero_is_the_last_resort() {
        assert_eq!(pick(&[(0, 0), (1, 1000)].map(endpoint), &Cursor::new(0)), 1);
        assert_eq!(pick(&[(0, 0)].map(endpoint), &Cursor::new(0)), 0);
    }

    proptest! {
        #[test]
        fn no_eligible_candidate_would_bear_less(
            given in prop::collection::vec((1_u32..=1000, 0_u32..50, any::<bool>()), 1..20),
            start in any::<usize>(),
        ) {
            let endpoints: Vec<Endpoint> = given.iter().map(|(weight, load, _)| endpoint((*weight, *load))).collect();
            let eligible: Vec<usize> = (0..given.len()).filter(|index| given[*index].2).collect();
            let bears = |index: usize| f64::from(given[index].1 + 1) / f64::from(given[index].0);
            let found = LeastConnections::default().pick(&endpoints, &Cursor::new(start), |endpoint| {
                given[endpoints.iter().position(|other| std::ptr::eq(other, endpoint)).unwrap()].2
            });
            prop_assert_eq!(found.is_some(), !eligible.is_empty());
            if let Some(found) = found {
                prop_assert!(eligible.contains(&found));
                prop_assert!(eligible.iter().all(|index| bears(found) <= bears(*index)));
            }
        }

        #[test]
        fn unfinished_requests_spread_by_weight(weights in prop::collection::vec(1_u32..=10, 1..6)) {
            let endpoints: Vec<Endpoint> = weights.iter().map(|weight| endpoint((*weight, 0))).collect();
            let cursor = Cursor::new(0);
            let rounds = 20;
            for _ in 0..rounds * weights.iter().sum::<u32>() {
                let found = &endpoints[pick(&endpoints, &cursor)];
                found.in_flight.set(found.in_flight.get() + 1);
            }
            for endpoint in &endpoints {
                prop_assert_eq!(endpoint.in_flight.get(), rounds * endpoint.weight);
            }
        }

        #[test]
        fn someone_is_picked_though_loads_change_during_the_scan(
            loads in prop::collection::vec(any::<u32>(), 1..50),
            one in any::<prop::sample::Index>(),
        ) {
            let endpoints: Vec<Endpoint> =
                loads.iter().map(|load| Endpoint { restless: true, ..endpoint((1, *load)) }).collect();
            let one = &endpoints[one.index(endpoints.len())];
            let found = LeastConnections::default().pick(&endpoints, &Cursor::new(0), |endpoint| {
                endpoint.in_flight().is_multiple_of(2) || std::ptr::eq(endpoint, one)
            });
            prop_assert!(found.is_some());
        }
    }
}
