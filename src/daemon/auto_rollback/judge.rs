//! Judges whether failures have become more, or only seem to have. Pure: numbers in, an answer out.

use super::super::wilson::Counts;
use crate::config::AutoRollback;

/// Standard deviations: one judgement in a thousand is mistaken, and to be acted on it takes two of them. It is looked again
/// and again, at every route.
const Z: f64 = 3.0;

/// Whether more fails `after` than may, and than did `before`; never where there were too few requests to tell.
pub(super) fn is_worse(before: Counts, after: Counts, limits: &AutoRollback) -> bool {
    let least = u64::from(limits.min_requests);
    if before.requests < least || after.requests < least {
        return false;
    }
    let (at_most_before, at_least_after) = (before.bounds(Z).1, after.bounds(Z).0);
    at_least_after > limits.ratio && at_least_after > at_most_before
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::CountedErrors;

    fn limits(ratio: f64, min_requests: u32) -> AutoRollback {
        AutoRollback {
            ratio,
            min_requests,
            window: Duration::from_secs(30),
            errors: CountedErrors::Own,
        }
    }

    fn counts() -> impl Strategy<Value = Counts> {
        (1..100_000_u64).prop_flat_map(|requests| {
            (0..=requests).prop_map(move |errors| Counts { requests, errors })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn too_few_requests_never_tell(before in counts(), after in counts(), least in 10..200_000_u32, ratio in 0.001..0.999) {
            let is_few = before.requests < u64::from(least) || after.requests < u64::from(least);
            prop_assert!(!is_few || !is_worse(before, after, &limits(ratio, least)));
        }

        #[test]
        fn what_was_as_bad_before_is_never_blamed_on_the_reload(one in counts(), other in counts(), ratio in 0.001..0.999) {
            let share = |of: Counts| of.errors as f64 / of.requests as f64;
            let (before, after) = if share(one) >= share(other) { (one, other) } else { (other, one) };
            prop_assert!(!is_worse(before, after, &limits(ratio, 10)));
        }

        #[test]
        fn within_the_limit_nothing_is_rolled_back(before in counts(), requests in 1..100_000_u64, part in 0.0..=1.0, ratio in 0.001..0.999) {
            let errors = (requests as f64 * ratio * part) as u64;
            let after = Counts { requests, errors };
            prop_assert!(!is_worse(before, after, &limits(ratio, 10)));
        }

        #[test]
        fn more_failures_never_look_better(before in counts(), after in counts(), ratio in 0.001..0.999) {
            let more = Counts { errors: after.requests.min(after.errors + 1), ..after };
            let limits = limits(ratio, 10);
            prop_assert!(!is_worse(before, after, &limits) || is_worse(before, more, &limits));
        }

        #[test]
        fn all_that_fails_where_nothing_did_is_seen(before in 100..100_000_u64, after in 100..100_000_u64, ratio in 0.001..0.9) {
            let before = Counts { requests: before, errors: 0 };
            let after = Counts { requests: after, errors: after };
            prop_assert!(is_worse(before, after, &limits(ratio, 100)));
        }
    }

    #[test]
    fn chance_alone_rolls_nothing_back() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut drawn = |requests: u64, share: f64| Counts {
            requests,
            errors: (0..requests).filter(|_| random.f64() < share).count() as u64,
        };
        let limits = limits(0.05, 100);
        for _ in 0..3000 {
            // Twice the limit, but before as well.
            let (before, after) = (drawn(150, 0.1), drawn(150, 0.1));
            assert!(!is_worse(before, after, &limits), "{before:?} {after:?}");
        }
    }
}
