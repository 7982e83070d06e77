//! Random by weight. Blind to load; balancers that share endpoints cannot fall into step.

use super::sampler::Sampler;
use super::{Candidate, Cursor};

/// Every candidate with the chance of its weight.
#[derive(Debug, Default)]
pub struct Random {
    sampler: Sampler,
}

impl Random {
    /// See [`super::Policy::pick`].
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        self.sampler.one(candidates, cursor, eligible)
    }

    /// See [`super::Policy::refresh`].
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        self.sampler.refresh(candidates, eligible);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Endpoint(u32);

    impl Candidate for Endpoint {
        fn weight(&self) -> u32 {
            self.0
        }

        fn in_flight(&self) -> u32 {
            0
        }
    }

    fn shares(weights: &[u32], picks: u32) -> Vec<u32> {
        let endpoints: Vec<_> = weights.iter().map(|weight| Endpoint(*weight)).collect();
        let policy = Random::default();
        policy.refresh(&endpoints, |_| true);
        let cursor = Cursor::new(0);
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[policy.pick(&endpoints, &cursor, |_| true).unwrap()] += 1;
        }
        counts
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn everyone_gets_about_its_share(weights in prop::collection::vec(1_u32..=10, 2..8)) {
            let total: u32 = weights.iter().sum();
            for (weight, found) in weights.iter().zip(shares(&weights, 20_000)) {
                let share = f64::from(*weight) / f64::from(total);
                // Six standard deviations, of a sequence that is the same in every run.
                let bound = 6.0 * (20_000.0 * share * (1.0 - share)).sqrt();
                prop_assert!((f64::from(found) - 20_000.0 * share).abs() < bound);
            }
        }
    }
}
