//! Weighted round-robin: every candidate its share, spread as evenly as can be. Blind to load.
//!
//! The order is nginx's smooth one: each turn every candidate gains its weight, the one that has gained most is taken
//! and pays the sum of all weights back; 5, 1, 1 gives a a b a c a a. It is worked out once per [`RoundRobin::refresh`];
//! a pick then takes the next slot of that table.

use arc_swap::ArcSwap;

use super::{Candidate, Cursor, next_eligible};

/// Weighted round-robin.
///
/// The table holds the total of the weights, divided by their greatest common divisor, in slots: of so many picks in a
/// row every candidate gets exactly its share. Beyond 65,536 slots the shares are scaled down to about that number; each
/// candidate keeps at least one slot.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// Indices of candidates, in turn. Written by the control thread, read by workers. Empty before the first refresh
    /// and while none is eligible.
    slots: ArcSwap<Box<[u32]>>,
}

impl RoundRobin {
    /// See [`super::Policy::pick`].
    ///
    /// A slot whose candidate is not eligible passes the turn on. When the table yields nothing, the turn goes through
    /// all candidates, whatever their weight.
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        let slots = self.slots.load();
        // Bounded by the candidates, not by the slots: with most of a long table gone it is cheaper to ask them all.
        for _ in 0..slots.len().min(2 * candidates.len()) {
            let index = slots[cursor.advance() % slots.len()] as usize;
            if candidates.get(index).is_some_and(&eligible) {
                return Some(index);
            }
        }
        let start = cursor.advance() % candidates.len().max(1);
        next_eligible(candidates, start, eligible)
    }

    /// See [`super::Policy::refresh`].
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        let shares = candidates
            .iter()
            .zip(0..)
            .filter(|(candidate, _)| candidate.weight() > 0 && eligible(candidate))
            .map(|(candidate, index)| Share {
                index,
                weight: u64::from(candidate.weight()),
            })
            .collect();
        self.slots.store(smooth_order(reduce(shares)).into());
    }
}

/// What an eligible candidate may claim.
struct Share {
    index: u32,
    weight: u64,
}

/// The smallest whole weights in the same proportion, or nearly so where these would be too many slots.
fn reduce(mut shares: Vec<Share>) -> Vec<Share> {
    let divisor = shares
        .iter()
        .map(|share| share.weight)
        .fold(0, greatest_common_divisor)
        .max(1);
    let total: u64 = shares.iter().map(|share| share.weight / divisor).sum();
    for share in &mut shares {
        share.weight /= divisor;
        if total > MAX_SLOTS {
            share.weight = (share.weight * MAX_SLOTS / total).max(1);
        }
    }
    shares
}

fn smooth_order(shares: Vec<Share>) -> Box<[u32]> {
    if shares.iter().all(|share| share.weight == 1) {
        return shares.iter().map(|share| share.index).collect();
    }
    let total: u64 = shares.iter().map(|share| share.weight).sum();
    if total * shares.len() as u64 > MAX_STEPS {
        return even_order(&shares);
    }
    let mut gained = vec![0_i64; shares.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for (at, share) in shares.iter().enumerate() {
                gained[at] += share.weight.cast_signed();
                if gained[at] > gained[best] {
                    best = at;
                }
            }
            gained[best] -= total.cast_signed();
            shares[best].index
        })
        .collect()
}

/// Every share spread evenly over the table by itself, which needs no look at all others for each slot.
fn even_order(shares: &[Share]) -> Box<[u32]> {
    let mut turns: Vec<(u64, u32)> = shares
        .iter()
        .flat_map(|share| {
            let turn = move |nth| {
                (
                    (2 * nth + 1) * u64::from(u32::MAX) / share.weight,
                    share.index,
                )
            };
            (0..share.weight).map(turn)
        })
        .collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, index)| index).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// 256 KiB of table: 65 endpoints of weights near 1000 without a common divisor.
const MAX_SLOTS: u64 = 65_536;

/// Some milliseconds of work: 200 endpoints of weights near 100 without a common divisor.
const MAX_STEPS: u64 = 4_000_000;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use proptest::prelude::*;

    struct Endpoint {
        weight: u32,
        eligible: Cell<bool>,
    }

    impl Candidate for Endpoint {
        fn weight(&self) -> u32 {
            self.weight
        }

        fn in_flight(&self) -> u32 {
            0
        }
    }

    fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
        weights
            .iter()
            .map(|&weight| Endpoint {
                weight,
                eligible: Cell::new(true),
            })
            .collect()
    }

    fn eligible(endpoint: &Endpoint) -> bool {
        endpoint.eligible.get()
    }

    fn picks(
        policy: &RoundRobin,
        endpoints: &[Endpoint],
        cursor: &Cursor,
        count: usize,
    ) -> Vec<usize> {
        (0..count)
            .map(|_| policy.pick(endpoints, cursor, eligible).unwrap())
            .collect()
    }

    fn refreshed(endpoints: &[Endpoint]) -> RoundRobin {
        let policy = RoundRobin::default();
        policy.refresh(endpoints, eligible);
        policy
    }

    fn share(picks: &[usize], index: usize) -> usize {
        picks.iter().filter(|pick| **pick == index).count()
    }

    #[test]
    fn heavy_and_light_are_interleaved_as_nginx_does() {
        let endpoints = endpoints(&[5, 1, 1]);
        let policy = refreshed(&endpoints);
        assert_eq!(
            picks(&policy, &endpoints, &Cursor::new(0), 8),
            [0, 0, 1, 0, 2, 0, 0, 0]
        );
        assert_eq!(
            picks(&policy, &endpoints, &Cursor::new(2), 7),
            [1, 0, 2, 0, 0, 0, 0]
        );
    }

    #[test]
    fn equal_weights_alternate_strictly_in_file_order() {
        let endpoints = endpoints(&[300, 300, 300]);
        let policy = refreshed(&endpoints);
        assert_eq!(
            picks(&policy, &endpoints, &Cursor::new(1), 7),
            [1, 2, 0, 1, 2, 0, 1]
        );
    }

    #[test]
    fn a_turn_that_cannot_be_taken_passes_to_the_next() {
        let endpoints = endpoints(&[1, 1, 1]);
        let policy = refreshed(&endpoints);
        endpoints[1].eligible.set(false);
        assert_eq!(
            picks(&policy, &endpoints, &Cursor::new(0), 6),
            [0, 2, 0, 2, 0, 2]
        );
    }

    #[test]
    fn without_a_table_the_turn_goes_through_all() {
        let endpoints = endpoints(&[5, 1, 1]);
        assert_eq!(
            picks(&RoundRobin::default(), &endpoints, &Cursor::new(0), 4),
            [0, 1, 2, 0]
        );
    }

    #[test]
    fn a_recovery_is_seen_before_the_table_knows() {
        let endpoints = endpoints(&[1, 1]);
        endpoints[0].eligible.set(false);
        endpoints[1].eligible.set(false);
        let policy = refreshed(&endpoints);
        endpoints[1].eligible.set(true);
        assert_eq!(picks(&policy, &endpoints, &Cursor::new(0), 2), [1, 1]);
    }

    #[test]
    fn many_unlike_weights_stay_within_the_cap_and_lose_nobody() {
        let weights: Vec<u32> = (0..300)
            .map(|index| if index % 3 == 0 { 1 } else { 701 + index })
            .collect();
        let policy = refreshed(&endpoints(&weights));
        let slots = policy.slots.load();
        assert!(slots.len() <= 65_536 + weights.len(), "{}", slots.len());
        assert!((0..300).all(|index| slots.contains(&index)));
    }

    #[test]
    fn large_table_gives_exact_shares_evenly_spread() {
        let weights: Vec<u32> = (0..1000).map(|index| 5 + index % 7).collect();
        let endpoints = endpoints(&weights);
        let policy = refreshed(&endpoints);
        let total: u32 = weights.iter().sum();
        let picks = picks(&policy, &endpoints, &Cursor::new(0), total as usize);
        for (index, weight) in weights.iter().enumerate() {
            let turns: Vec<usize> = (0..picks.len()).filter(|at| picks[*at] == index).collect();
            assert_eq!(turns.len(), *weight as usize);
            let even = total as usize / *weight as usize;
            let gaps = turns.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.max() <= Some(even + weights.len()));
        }
    }

    #[test]
    fn weight_zero_is_the_last_resort() {
        let endpoints = endpoints(&[0, 1]);
        let policy = refreshed(&endpoints);
        assert_eq!(picks(&policy, &endpoints, &Cursor::new(0), 3), [1, 1, 1]);
        endpoints[1].eligible.set(false);
        assert_eq!(picks(&policy, &endpoints, &Cursor::new(0), 2), [0, 0]);
    }

    proptest! {
        #[test]
        fn everyone_gets_exactly_its_share_of_every_round(
            weights in prop::collection::vec(1_u32..=20, 1..8),
            start in 0_usize..1000,
        ) {
            let endpoints = endpoints(&weights);
            let policy = refreshed(&endpoints);
            let divisor = weights.iter().map(|weight| u64::from(*weight)).fold(0, greatest_common_divisor) as u32;
            let round: u32 = weights.iter().map(|weight| weight / divisor).sum();
            let picks = picks(&policy, &endpoints, &Cursor::new(start), 3 * round as usize);
            for window in picks.windows(round as usize) {
                for (index, weight) in weights.iter().enumerate() {
                    prop_assert_eq!(share(window, index), (weight / divisor) as usize);
                }
            }
        }

        #[test]
        fn leaving_and_returning_neither_bursts_nor_starves(
            weights in prop::collection::vec(1_u32..=10, 2..6),
            leaver in any::<prop::sample::Index>(),
            before in 0_usize..100,
            absent in 1_usize..100,
        ) {
            let endpoints = endpoints(&weights);
            let leaver = leaver.index(weights.len());
            let policy = refreshed(&endpoints);
            let cursor = Cursor::new(0);
            picks(&policy, &endpoints, &cursor, before);

            endpoints[leaver].eligible.set(false);
            policy.refresh(&endpoints, eligible);
            prop_assert_eq!(share(&picks(&policy, &endpoints, &cursor, absent), leaver), 0);

            endpoints[leaver].eligible.set(true);
            policy.refresh(&endpoints, eligible);
            let round: u32 = weights.iter().sum();
            let after = picks(&policy, &endpoints, &cursor, round as usize);
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(share(&after, index), *weight as usize);
            }
        }

        #[test]
        fn someone_is_picked_while_one_is_eligible(
            weights in prop::collection::vec(0_u32..=1000, 1..20),
            known in prop::collection::vec(any::<bool>(), 20),
            one in any::<prop::sample::Index>(),
            start in any::<usize>(),
        ) {
            let endpoints = endpoints(&weights);
            for (endpoint, known) in endpoints.iter().zip(known) {
                endpoint.eligible.set(known);
            }
            let policy = refreshed(&endpoints);
            let one = one.index(endpoints.len());
            for (index, endpoint) in endpoints.iter().enumerate() {
                endpoint.eligible.set(index == one);
            }
            prop_assert_eq!(policy.pick(&endpoints, &Cursor::new(start), eligible), Some(one));
        }
    }
}
