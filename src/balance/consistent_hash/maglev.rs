//! Maglev's table: which slot belongs to whom. Follows from identities and weights alone.

use std::sync::Arc;

use crate::balance::Candidate;
use crate::balance::chance::mixed;

/// The order counts: slots hold indices.
pub(super) fn fingerprint<C: Candidate>(candidates: &[C]) -> u64 {
    candidates.iter().fold(0, |hash, candidate| {
        mixed(mixed(hash ^ candidate.identity()).wrapping_add(u64::from(candidate.weight()) + 1))
    })
}

/// Every candidate goes through the slots in an order of its own and takes, in turn, the next that is free; the heavier the
/// more often (Eisenbud et al., "Maglev", NSDI 2016, §3.4; weights as Envoy does).
pub(super) fn maglev<C: Candidate>(candidates: &[C]) -> Arc<[u32]> {
    let mut members: Vec<Member> = candidates
        .iter()
        .zip(0..)
        .filter(|(candidate, _)| candidate.weight() > 0)
        .map(|(candidate, index)| Member::new(candidate, index))
        .collect();
    let Some(heaviest) = members.iter().map(|member| member.weight).max() else {
        return Arc::default();
    };
    // Whatever order a file lists them in.
    members.sort_by_key(|member| (member.identity, member.index));
    let mut slots = vec![FREE; SLOTS as usize];
    let mut taken = 0;
    for round in 1.. {
        for member in &mut members {
            if round * member.weight < member.due {
                continue;
            }
            member.due += heaviest;
            while slots[member.at as usize] != FREE {
                member.advance();
            }
            slots[member.at as usize] = member.index;
            taken += 1;
            if taken == SLOTS {
                return slots.into();
            }
        }
    }
    slots.into()
}

struct Member {
    identity: u64,
    index: u32,
    weight: u64,
    at: u64,
    step: u64,
    /// Takes a slot in the first round in which its weight, once for each round, has grown to this.
    due: u64,
}

impl Member {
    fn new(candidate: &impl Candidate, index: u32) -> Self {
        let identity = candidate.identity();
        Self {
            identity,
            index,
            weight: u64::from(candidate.weight()),
            at: identity % SLOTS,
            step: 1 + mixed(identity) % (SLOTS - 1),
            due: 0,
        }
    }

    fn advance(&mut self) {
        self.at = (self.at + self.step) % SLOTS;
    }
}

const SLOTS: u64 = 65_537; // prime, so that every step visits every slot; 100 times the members for shares within 1 %
const FREE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::stable_hash;
    use proptest::prelude::*;

    struct Endpoint(u64, u32);

    impl Candidate for Endpoint {
        fn weight(&self) -> u32 {
            self.1
        }

        fn in_flight(&self) -> u32 {
            0
        }

        fn identity(&self) -> u64 {
            stable_hash(&self.0.to_le_bytes())
        }
    }

    fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
        (0..)
            .zip(weights)
            .map(|(number, weight)| Endpoint(number, *weight))
            .collect()
    }

    #[test]
    fn members_or_weights_that_change_are_noticed() {
        let print = |weights: &[u32]| fingerprint(&endpoints(weights));
        assert_eq!(print(&[1, 2]), print(&[1, 2]));
        assert_ne!(print(&[1, 2]), print(&[1, 3]));
        assert_ne!(print(&[1, 2]), print(&[1, 2, 1]));
        let mut swapped = endpoints(&[1, 1]);
        swapped.swap(0, 1);
        assert_ne!(print(&[1, 1]), fingerprint(&swapped));
    }

    #[test]
    fn nobody_has_no_table() {
        assert!(maglev::<Endpoint>(&[]).is_empty());
        assert!(maglev(&endpoints(&[0])).is_empty());
    }

    #[test]
    fn thousands_of_members_all_have_slots() {
        let slots = maglev(&endpoints(&[1; 10_000]));
        let mut counts = vec![0; 10_000];
        slots.iter().for_each(|slot| counts[*slot as usize] += 1);
        assert!(counts.iter().all(|count| (6..=7).contains(count)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn slots_are_shared_by_weight(weights in prop::collection::vec(1_u32..=20, 1..20)) {
            let slots = maglev(&endpoints(&weights));
            prop_assert_eq!(slots.len() as u64, SLOTS);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0_u32; weights.len()];
            slots.iter().for_each(|slot| counts[*slot as usize] += 1);
            for (weight, count) in weights.iter().zip(counts) {
                let share = f64::from(*weight) / f64::from(total) * SLOTS as f64;
                // The first round gives everyone a slot, and the last one may be cut.
                let mean = weights.len() as f64 * f64::from(*weight) / f64::from(total);
                prop_assert!((f64::from(count) - share).abs() <= 2.0 + mean, "{count} for {share}");
            }
        }
    }
}
