//! Draws candidates at random by weight, in constant time: an alias table (Walker, Vose), worked out once per refresh.

use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;

use super::chance::scaled;
use super::{Candidate, Chance, Cursor, next_eligible};

/// Draws candidates.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Written by the control thread, read by workers. Empty before the first refresh and while none is eligible.
    slots: ArcSwap<Box<[Slot]>>,
}

/// A candidate, and another that makes the slot full where the first has less than its share of slots.
#[derive(Clone, Copy, Debug)]
struct Slot {
    index: u32,
    other: u32,
    /// Of 2³² draws so many (and one) are `index`.
    keeps: u32,
}

impl Sampler {
    /// A candidate by chance. Whoever is not eligible is drawn again; when that has not helped, the next after some other
    /// one is taken.
    pub(super) fn one<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        Draw::begin(self, candidates, cursor).one(&eligible)
    }

    /// Two different candidates by chance; the same one twice where there is no second.
    pub(super) fn two<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<(usize, usize)> {
        let mut draw = Draw::begin(self, candidates, cursor);
        let first = draw.one(&eligible)?;
        let is_alone = draw.slots.len() == 1 && draw.slots[0].index as usize == first;
        if is_alone {
            return Some((first, first));
        }
        let is_first = &raw const candidates[first];
        let second =
            draw.one(&|candidate| !std::ptr::eq(candidate, is_first) && eligible(candidate));
        Some((first, second.unwrap_or(first)))
    }

    /// Takes note of who is eligible and of the weights.
    pub(super) fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        let shares = candidates
            .iter()
            .zip(0..)
            .filter(|(candidate, _)| candidate.weight() > 0 && eligible(candidate))
            .map(|(candidate, index)| (index, u64::from(candidate.weight())))
            .collect();
        self.slots.store(Arc::new(alias_table(shares)));
    }
}

/// What is drawn from, and the chance of this turn.
struct Draw<'a, C> {
    slots: Guard<Arc<Box<[Slot]>>>,
    candidates: &'a [C],
    chance: Chance,
}

impl<'a, C: Candidate> Draw<'a, C> {
    fn begin(sampler: &Sampler, candidates: &'a [C], cursor: &Cursor) -> Self {
        Self {
            slots: sampler.slots.load(),
            candidates,
            chance: cursor.chance(),
        }
    }

    fn one(&mut self, eligible: &impl Fn(&C) -> bool) -> Option<usize> {
        for _ in 0..TRIES {
            let number = self.chance.number();
            let Some(slot) = self.slots.get(scaled(number, self.slots.len())) else {
                break;
            };
            // The upper bits chose the slot, the lower ones are still free.
            let index = if number as u32 <= slot.keeps {
                slot.index
            } else {
                slot.other
            } as usize;
            if self.candidates.get(index).is_some_and(eligible) {
                return Some(index);
            }
        }
        let start = self.chance.below(self.candidates.len());
        next_eligible(self.candidates, start, eligible)
    }
}

/// One slot per share, each full: of all draws every index gets its part of the weights.
fn alias_table(shares: Vec<(u32, u64)>) -> Box<[Slot]> {
    let total: u64 = shares.iter().map(|(_, weight)| weight).sum();
    let count = shares.len() as u64;
    // In units of which `total` make a full slot.
    let mut rest: Vec<u64> = shares.iter().map(|(_, weight)| weight * count).collect();
    let mut slots: Vec<Slot> = shares
        .iter()
        .map(|(index, _)| Slot {
            index: *index,
            other: *index,
            keeps: u32::MAX,
        })
        .collect();
    let (mut less, mut more): (Vec<usize>, Vec<usize>) =
        (0..slots.len()).partition(|at| rest[*at] < total);
    while let (Some(poor), Some(rich)) = (less.pop(), more.last().copied()) {
        slots[poor].keeps = ((u128::from(rest[poor]) << 32) / u128::from(total)) as u32;
        slots[poor].other = slots[rich].index;
        rest[rich] -= total - rest[poor];
        if rest[rich] < total {
            less.extend(more.pop());
        }
    }
    slots.into()
}

/// More would cost more than looking for the next one.
const TRIES: usize = 8;

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

    fn sampler(weights: &[u32]) -> (Sampler, Vec<Endpoint>) {
        let endpoints: Vec<_> = weights.iter().map(|weight| Endpoint(*weight)).collect();
        let sampler = Sampler::default();
        sampler.refresh(&endpoints, |_| true);
        (sampler, endpoints)
    }

    #[test]
    fn heavier_ones_are_drawn_more_often() {
        let (sampler, endpoints) = sampler(&[1, 3, 0, 6]);
        let cursor = Cursor::new(0);
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            counts[sampler.one(&endpoints, &cursor, |_| true).unwrap()] += 1;
        }
        assert!((850..1150).contains(&counts[0]), "{counts:?}");
        assert!((2800..3200).contains(&counts[1]), "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    proptest! {
        #[test]
        fn table_holds_every_share_exactly(weights in prop::collection::vec(1_u32..=1000, 1..100)) {
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let shares = weights.iter().zip(0..).map(|(weight, index)| (index, u64::from(*weight))).collect();
            let table = alias_table(shares);
            let mut found = vec![0.0; weights.len()];
            for slot in &table {
                let keeps = f64::from(slot.keeps) / f64::from(u32::MAX);
                found[slot.index as usize] += keeps / weights.len() as f64;
                found[slot.other as usize] += (1.0 - keeps) / weights.len() as f64;
            }
            for (weight, found) in weights.iter().zip(found) {
                prop_assert!((f64::from(*weight) / total as f64 - found).abs() < 1e-6);
            }
        }

        #[test]
        fn two_are_different_where_two_are_eligible(
            weights in prop::collection::vec(0_u32..=1000, 1..20),
            eligible in prop::collection::vec(any::<bool>(), 20),
            turn in any::<usize>(),
        ) {
            let (sampler, endpoints) = sampler(&weights);
            let at = |endpoint: &Endpoint| endpoints.iter().position(|other| std::ptr::eq(other, endpoint)).unwrap();
            let eligible = |endpoint: &Endpoint| eligible[at(endpoint)];
            let count = endpoints.iter().filter(|endpoint| eligible(endpoint)).count();
            match sampler.two(&endpoints, &Cursor::new(turn), eligible) {
                None => prop_assert_eq!(count, 0),
                Some((first, second)) => {
                    prop_assert!(eligible(&endpoints[first]) && eligible(&endpoints[second]));
                    let one_known = weights.iter().filter(|weight| **weight > 0).count() == 1;
                    prop_assert!(first != second || count == 1 || one_known);
                }
            }
        }
    }
}
