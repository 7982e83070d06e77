//! A hash that is the same in every process, on every machine and in every version: balancers agree by it without
//! talking to each other. Not secret, and not meant to resist those who look for collisions.

use super::chance::mixed;

/// 64-bit FNV-1a of `bytes`, mixed once more, since FNV alone tells short texts of one length hardly apart in its upper
/// bits.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(fnv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_these_for_ever() {
        assert_eq!(stable_hash(b""), 17_665_956_581_633_026_203);
        assert_eq!(stable_hash(b"a"), 198_367_012_849_983_736);
        assert_eq!(stable_hash(b"127.0.0.1:9001"), 1_333_787_948_645_150_942);
        assert_eq!(stable_hash(&[0, 255, 128]), 16_406_652_873_166_731_227);
    }

    #[test]
    fn neighbours_differ_in_about_half_of_their_bits() {
        for number in 0..200_u32 {
            let (one, other) = (number.to_string(), (number + 1).to_string());
            let differ = stable_hash(one.as_bytes()) ^ stable_hash(other.as_bytes());
            assert!((12..=52).contains(&differ.count_ones()), "{number}");
        }
    }
}
