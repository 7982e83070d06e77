//! Which share of a whole a client falls into: always the same one, on every balancer.

use std::net::IpAddr;

/// The index of the weight that `client` falls under. `None` where all are 0.
///
/// Clients stand on a line in an order that looks random and never changes, and each weight takes its part of the line, one
/// after the other: where a weight grows it gets clients of its neighbours and gives none away.
pub fn of_client(client: IpAddr, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let sum: u64 = weights.clone().map(u64::from).sum();
    let point = (u128::from(place(client)) * u128::from(sum)) >> 64;
    let mut end = 0;
    weights
        .map(|weight| {
            end += u128::from(weight);
            end
        })
        .position(|end| point < end)
}

/// Where `client` stands, as a part of 2^64.
fn place(client: IpAddr) -> u64 {
    // The same client, whichever way a listener sees it.
    match client.to_canonical() {
        IpAddr::V4(address) => mix(u64::from(address.to_bits())),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            mix(mix((bits >> 64) as u64) ^ bits as u64)
        }
    }
}

/// The finalizer of splitmix64: neighbours end up far apart, and no two in one place.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn of(number: u32, weights: &[u32]) -> Option<usize> {
        of_client(Ipv4Addr::from(number).into(), weights.iter().copied())
    }

    #[test]
    fn where_a_client_falls_is_a_promise() {
        // Written down: another version, or another balancer, must not shuffle clients.
        let fallen: Vec<_> = (1..=8)
            .filter_map(|number| of(number, &[1, 1, 1]))
            .collect();
        assert_eq!(fallen, [1, 1, 0, 1, 1, 2, 1, 1]);
        // The first number of splitmix64 from 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(place(mapped), place(plain));
    }

    #[test]
    fn neighbours_share_by_weight() {
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let canary = (first..first + 20_000)
            .filter(|number| of(*number, &[95, 5]) == Some(1))
            .count();
        assert!((900..1100).contains(&canary), "{canary} of 20,000 are 5 %");
    }

    #[test]
    fn nothing_falls_to_nobody() {
        for number in 0..1000 {
            assert_ne!(of(number, &[1, 0, 1]), Some(1));
            assert_eq!(of(number, &[0, 0]), None);
        }
    }

    proptest! {
        #[test]
        fn a_growing_share_gives_no_client_away(
            client in any::<u32>(),
            (before, after) in (0_u32..=100, 0_u32..=100).prop_map(|(a, b)| (a.min(b), a.max(b))),
        ) {
            let canary = |percent| of(client, &[100 - percent, percent]) == Some(1);
            prop_assert!(!canary(before) || canary(after));
        }
    }
}
