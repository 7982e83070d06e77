//! Shares of requests, and how far they can be trusted: Wilson's interval of one, Newcombe's of the difference of two. Pure.

/// Requests, and how many of them failed, or were otherwise such as is asked about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

impl Counts {
    /// The share of them that was seen; 0 where there were none.
    pub(crate) fn share(self) -> f64 {
        // A cut response may be counted a moment before its request is.
        self.errors.min(self.requests) as f64 / (self.requests.max(1)) as f64
    }

    /// Between which shares the true one is, all but certainly: so many standard deviations (Wilson's interval). Of few
    /// requests it says little: it is wide.
    pub(crate) fn bounds(self, deviations: f64) -> (f64, f64) {
        if self.requests == 0 {
            return (0.0, 1.0);
        }
        let number = self.requests as f64;
        let share = self.share();
        let square = deviations * deviations;
        let middle = share + square / (2.0 * number);
        let spread =
            deviations * (share * (1.0 - share) / number + square / (4.0 * number * number)).sqrt();
        let whole = 1.0 + square / number;
        ((middle - spread) / whole, (middle + spread) / whole)
    }

    /// By how much its true share is above that of `before` at least, all but certainly; below 0 where it may be no higher.
    /// Newcombe's interval (1998, method 10): of the two Wilson intervals, and narrower than what lies between them, for both
    /// shares are hardly ever at their worst at once.
    pub(crate) fn rise_since(self, before: Self, deviations: f64) -> f64 {
        if self.requests == 0 || before.requests == 0 {
            return -1.0;
        }
        let (was, is) = (before.share(), self.share());
        let (at_most_before, at_least_now) =
            (before.bounds(deviations).1, self.bounds(deviations).0);
        is - was - ((is - at_least_now).powi(2) + (at_most_before - was).powi(2)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = Counts> {
        (1..100_000_u64).prop_flat_map(|requests| {
            (0..=requests).prop_map(move |errors| Counts { requests, errors })
        })
    }

    #[test]
    fn bounds_are_wilsons() {
        let ten = Counts {
            requests: 100,
            errors: 10,
        };
        let (low, high) = ten.bounds(3.0);
        assert!((low - 0.0407).abs() < 0.001, "{low}");
        assert!((high - 0.2253).abs() < 0.001, "{high}");
    }

    #[test]
    fn rise_is_newcombes() {
        // The published example (a): 56 of 70 and 48 of 80, at 95 %: 0.0524 to 0.3339.
        let (is, was) = (
            Counts {
                requests: 70,
                errors: 56,
            },
            Counts {
                requests: 80,
                errors: 48,
            },
        );
        assert!((is.rise_since(was, 1.959_964) - 0.0524).abs() < 0.0001);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn what_is_certain_is_never_more_than_what_was_seen(one in counts(), other in counts(), deviations in 0.5..5.0) {
            let rise = one.rise_since(other, deviations);
            prop_assert!(rise <= one.share() - other.share());
            // Intervals that do not even touch leave no doubt.
            let apart = one.bounds(deviations).0 - other.bounds(deviations).1;
            prop_assert!(apart <= 0.0 || rise > 0.0);
        }
    }
}
