//! Chances that follow from a number: small, fast, the same in every run. Not secret.

/// A sequence of chances (splitmix64).
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// The sequence that belongs to `number`; sequences of neighbours have nothing in common.
    pub(super) fn of(number: u64) -> Self {
        Self(number.wrapping_mul(APART))
    }

    /// The next number, any of 2⁶⁴.
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// The next number below `limit`; 0 where that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        scaled(self.number(), limit)
    }
}

/// `number`, any of 2⁶⁴, as one below `limit`.
pub(super) fn scaled(number: u64, limit: usize) -> usize {
    ((u128::from(number) * limit as u128) >> 64) as usize
}

/// Every bit of the result depends on every bit of `number`; no two numbers have the same.
pub(super) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15; // 2⁶⁴ by the golden ratio
const APART: u64 = 0xd134_2543_de82_ef95; // another odd number, so that sequences do not run into each other

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut chance = Chance(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([(); 3].map(|()| chance.number()), expected);
    }

    #[test]
    fn every_number_below_the_limit_comes_about_as_often() {
        let mut counts = [0_u32; 7];
        for number in 0..7000 {
            counts[Chance::of(number).below(7)] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
        assert_eq!(Chance::of(1).below(0), 0);
    }
}
