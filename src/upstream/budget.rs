//! How many retries an upstream is worth: those that help cost nothing, those that fail too are limited.
//!
//! When everything fails, every retry is one request more for who cannot serve those there are. So a retry needs a token. Tokens
//! come with answers, a share of one for each, or a few every second where that is more; they are gone after ten seconds. A retry that is
//! answered gives its token back. A limit on retries at the same time would do less on both sides: with one request at a time
//! it would never bind, and when half of the endpoints end at once it would refuse most of what fails in that moment.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::config;

/// The tokens of one upstream; the same object through all snapshots.
///
/// Read and written by workers when an attempt has failed, and never otherwise. Relaxed: every number is changed in one step,
/// and nothing else is read by it.
#[derive(Debug)]
pub struct Budget {
    begun: Instant,
    /// Thousandths of a token.
    tokens: AtomicI64,
    /// Retries that were answered, well or not.
    repeated: AtomicU64,
    /// Requests that had been answered without a retry when it was last looked.
    answered: AtomicU64,
    /// When that was, in milliseconds since `begun`.
    looked: AtomicU64,
}

/// How long a token is good for.
const WINDOW: Duration = Duration::from_secs(10);
/// As if so much time had passed when it is first looked: more would be a tenth of the first requests of a busy upstream.
const FIRST: Duration = Duration::from_secs(1);
const TOKEN: i64 = 1000;

impl Default for Budget {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            tokens: AtomicI64::new(0),
            repeated: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            // Never: then there is something to begin with.
            looked: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// Takes a token `now`, if there is one; `answered` is how many responses the upstream's endpoints have given so far.
    pub fn take(&self, rule: &config::Budget, answered: u64, now: Instant) -> bool {
        self.earn(rule, answered, now);
        self.tokens
            .fetch_update(Relaxed, Relaxed, |tokens| {
                (tokens >= TOKEN).then_some(tokens - TOKEN)
            })
            .is_ok()
    }

    /// A retry was answered, and whether in a way that ends it.
    pub fn answered(&self, is_well: bool) {
        self.repeated.fetch_add(1, Relaxed);
        if is_well {
            self.tokens.fetch_add(TOKEN, Relaxed);
        }
    }

    /// Adds what came since the last look, and takes away what is too old.
    fn earn(&self, rule: &config::Budget, answered: u64, now: Instant) {
        let window = WINDOW.as_millis() as u64;
        // From one on, so that 0 is "never".
        let now = now.saturating_duration_since(self.begun).as_millis() as u64 + 1;
        let before = self.looked.swap(now, Relaxed);
        let elapsed = match before {
            0 => FIRST.as_millis() as u64,
            before => now.saturating_sub(before),
        };
        let first = answered.saturating_sub(self.repeated.load(Relaxed));
        let more = first.saturating_sub(self.answered.swap(first, Relaxed));
        // Of a longer time only the last part counts.
        let fresh = window.min(elapsed) as f64;
        let counts = if elapsed > window {
            fresh / elapsed as f64
        } else {
            1.0
        };
        let share = more as f64 * rule.share * counts;
        let earned = (share * TOKEN as f64).max(fresh * f64::from(rule.min));
        let stays = 1.0 - fresh / window as f64;
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| {
            Some((tokens as f64 * stays + earned) as i64)
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(share: f64, min: u32) -> config::Budget {
        config::Budget { share, min }
    }

    fn taken(budget: &Budget, rule: &config::Budget, answered: u64, now: Instant) -> usize {
        (0..100_000)
            .take_while(|_| budget.take(rule, answered, now))
            .count()
    }

    #[test]
    fn a_few_are_there_to_begin_with_and_come_every_second() {
        let (budget, rule) = (Budget::default(), rule(0.2, 3));
        let now = Instant::now();
        assert_eq!(taken(&budget, &rule, 0, now), 3);
        assert_eq!(taken(&budget, &rule, 0, now + Duration::from_secs(1)), 3);
        assert_eq!(taken(&budget, &rule, 0, now + Duration::from_secs(60)), 30);
    }

    #[test]
    fn a_share_of_what_was_answered_lately_may_fail_at_once() {
        let (budget, rule) = (Budget::default(), rule(0.2, 0));
        let now = Instant::now();
        assert_eq!(taken(&budget, &rule, 0, now), 0);
        let later = now + Duration::from_secs(5);
        assert_eq!(taken(&budget, &rule, 5_000, later), 1_000);
        assert_eq!(taken(&budget, &rule, 5_000, later), 0);
        // 100 a second for 100 seconds: those of the last ten count.
        let much_later = later + Duration::from_secs(100);
        assert_eq!(taken(&budget, &rule, 5_000 + 10_000, much_later), 200);
    }

    #[test]
    fn retries_that_help_cost_nothing() {
        let (budget, rule) = (Budget::default(), rule(0.2, 1));
        let now = Instant::now();
        for _ in 0..1_000 {
            assert!(budget.take(&rule, 0, now));
            budget.answered(true);
        }
        assert_eq!(taken(&budget, &rule, 0, now), 1);
        assert!(!budget.take(&rule, 0, now));
    }

    #[test]
    fn nothing_is_lost_or_found_between_threads() {
        let (budget, rule) = (Budget::default(), rule(0.2, 0));
        let now = Instant::now();
        assert!(!budget.take(&rule, 0, now));
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000)
                            .filter(|_| budget.take(&rule, 5_000, now))
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(total, 1_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_happens_failures_grow_by_no_more_than_the_share(
            rounds in prop::collection::vec((0_u64..500, 0_u64..2_000), 1..50),
        ) {
            let (budget, rule) = (Budget::default(), rule(0.2, 3));
            let (begin, mut now) = (Instant::now(), Instant::now());
            let (mut answered, mut retried) = (0_u64, 0_u64);
            for (requests, pause) in rounds {
                now += Duration::from_millis(pause);
                answered += requests;
                // Every one of them is answered with what may be retried, and so is every retry.
                for _ in 0..requests {
                    if budget.take(&rule, answered + retried, now) {
                        budget.answered(false);
                        retried += 1;
                    }
                }
            }
            let seconds = (now - begin).as_secs_f64() + 1.0;
            prop_assert!(retried as f64 <= answered as f64 * 0.2 + 3.0 * seconds + 1.0);
        }
    }
}
