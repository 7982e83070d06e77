//! Two choices: of two candidates at random the less loaded. Nearly as even as least-connections, costs the same among any
//! number, and several balancers do not all choose the same idle one.

use std::cmp::Ordering;

use super::least_connections::Load;
use super::sampler::Sampler;
use super::{Candidate, Cursor};

/// Two candidates are drawn by weight; of these the smaller `(in_flight + 1) / weight`. Where they tie, the one drawn first.
#[derive(Debug, Default)]
pub struct TwoChoices {
    sampler: Sampler,
}

impl TwoChoices {
    /// See [`super::Policy::pick`].
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        let (first, second) = self.sampler.two(candidates, cursor, eligible)?;
        let (load, other) = (Load::of(&candidates[first]), Load::of(&candidates[second]));
        Some(match other.cmp(load) {
            Ordering::Less => second,
            Ordering::Equal | Ordering::Greater => first,
        })
    }

    /// See [`super::Policy::refresh`].
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        self.sampler.refresh(candidates, eligible);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Endpoint {
        weight: u32,
        in_flight: Cell<u32>,
    }

    impl Candidate for Endpoint {
        fn weight(&self) -> u32 {
            self.weight
        }

        fn in_flight(&self) -> u32 {
            self.in_flight.get()
        }
    }

    fn endpoints(count: usize, weight: impl Fn(usize) -> u32) -> (TwoChoices, Vec<Endpoint>) {
        let endpoints: Vec<_> = (0..count)
            .map(|index| Endpoint {
                weight: weight(index),
                in_flight: Cell::new(0),
            })
            .collect();
        let policy = TwoChoices::default();
        policy.refresh(&endpoints, |_| true);
        (policy, endpoints)
    }

    fn fill(policy: &TwoChoices, endpoints: &[Endpoint], requests: u32) {
        let cursor = Cursor::new(0);
        for _ in 0..requests {
            let found = &endpoints[policy.pick(endpoints, &cursor, |_| true).unwrap()];
            found.in_flight.set(found.in_flight.get() + 1);
        }
    }

    #[test]
    fn of_two_the_less_loaded_is_picked() {
        let (policy, endpoints) = endpoints(2, |_| 1);
        fill(&policy, &endpoints, 101);
        let loads: Vec<u32> = endpoints
            .iter()
            .map(|endpoint| endpoint.in_flight.get())
            .collect();
        assert!(loads[0].abs_diff(loads[1]) == 1, "{loads:?}");
    }

    #[test]
    fn unfinished_requests_spread_almost_evenly() {
        let (policy, endpoints) = endpoints(100, |_| 1);
        fill(&policy, &endpoints, 1000);
        let loads = endpoints.iter().map(|endpoint| endpoint.in_flight.get());
        // The most loaded of a hundred drawn blindly would have about 18.
        assert!(loads.clone().max() <= Some(13) && loads.min() >= Some(6));
    }

    #[test]
    fn unfinished_requests_spread_by_weight() {
        let (policy, endpoints) = endpoints(30, |index| 1 + 2 * (index as u32 % 2));
        fill(&policy, &endpoints, 1200);
        let heavy = endpoints.iter().filter(|endpoint| endpoint.weight == 3);
        let share: u32 = heavy.map(|endpoint| endpoint.in_flight.get()).sum();
        assert!((870..=930).contains(&share), "{share}");
    }

    #[test]
    fn idle_ones_of_equal_weight_are_all_used() {
        let (policy, endpoints) = endpoints(5, |_| 1);
        let cursor = Cursor::new(0);
        let mut counts = [0_u32; 5];
        for _ in 0..1000 {
            counts[policy.pick(&endpoints, &cursor, |_| true).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (150..250).contains(count)),
            "{counts:?}"
        );
    }
}
