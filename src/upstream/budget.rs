//! How many retries an upstream is worth: those that help cost nothing, those that fail too are limited.
//!
//! When everything fails, every retry is one request more for who cannot serve those there are. So a retry needs a token. Tokens
//! come with answers, a share of one for each, or a few every second where that is more; they are gone after ten seconds. A retry that is
//! answered gives its token back. A limit on retries at the same time would do less on both sides: with one request at a time
//! it would never bind, and when half of the endpoints end at once it would refuse most of what fails in that moment.

use std::sync::Arc;
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
    /// Retries that were answered, well or not, and not yet taken off from the answers that tokens come with.
    repeated: AtomicU64,
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
            // Never: then there is something to begin with.
            looked: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// Takes a token `now`, if there is one; `answered` is how many responses the upstream's endpoints have given that no one
    /// has [claimed](Claimed) before.
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
        let more = answered - self.settle(answered);
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

    /// How many of as many answers were to retries: each is taken off once.
    fn settle(&self, answered: u64) -> u64 {
        let rest = |repeated: u64| Some(repeated.saturating_sub(answered));
        let repeated = self.repeated.fetch_update(Relaxed, Relaxed, rest);
        // It is never refused.
        repeated.unwrap_or_default().min(answered)
    }
}

/// How many answers of an endpoint a budget had tokens for. By endpoint, for endpoints come and go and their counters are
/// older: those of a name that comes again go on where they were.
///
/// Clones are one and the same. Read and written by workers when an attempt has failed. Relaxed: every answer is claimed in
/// one step, and nothing else is read by it.
#[derive(Clone, Debug)]
pub struct Claimed(Arc<AtomicU64>);

impl Claimed {
    /// As if the `answered` so far were claimed.
    pub fn up_to(answered: u64) -> Self {
        Self(Arc::new(AtomicU64::new(answered)))
    }

    /// Those of the `answered` so far that were not claimed before.
    pub fn claim(&self, answered: u64) -> u64 {
        answered.saturating_sub(self.0.fetch_max(answered, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Metrics;
    use crate::snapshot::Snapshot;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;

    fn rule(share: f64, min: u32) -> config::Budget {
        config::Budget { share, min }
    }

    /// After `answered` more.
    fn taken(budget: &Budget, rule: &config::Budget, answered: u64, now: Instant) -> usize {
        let claimed = Claimed::up_to(0);
        (0..100_000)
            .take_while(|_| budget.take(rule, claimed.claim(answered), now))
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
        assert_eq!(taken(&budget, &rule, 0, later), 0);
        // 100 a second for 100 seconds: those of the last ten count.
        let much_later = later + Duration::from_secs(100);
        assert_eq!(taken(&budget, &rule, 10_000, much_later), 200);
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
    fn answers_to_retries_bring_no_tokens_even_if_they_are_seen_later() {
        let (budget, rule) = (Budget::default(), rule(0.5, 0));
        let now = Instant::now();
        for _ in 0..6 {
            budget.answered(false);
        }
        assert_eq!(taken(&budget, &rule, 4, now), 0);
        assert_eq!(taken(&budget, &rule, 6, now), 2);
        assert_eq!(taken(&budget, &rule, 4, now), 2);
    }

    /// The upstream `app`, compiled over and over with other endpoints.
    fn compiled(compiler: &mut Compiler, endpoints: &str, previous: Option<&Snapshot>) -> Snapshot {
        let source = format!(
            r#"
            [listener.http]
            address = "127.0.0.1:1"
            [upstream.app]
            endpoints = {endpoints}
            retry = {{ budget = 0.2, budget_min = 0 }}
            [[route]]
            upstream = "app"
            "#
        );
        let config = config::parse(&source, Path::new("balancer.toml")).unwrap();
        compiler.compile(&config, previous).unwrap().snapshot
    }

    fn answer(snapshot: &Snapshot, endpoint: usize, count: usize) {
        let endpoint = &snapshot.upstreams[0].endpoints[endpoint];
        (0..count).for_each(|_| endpoint.metrics.response.observe(0.0));
    }

    fn granted(snapshot: &Snapshot, now: Instant) -> usize {
        let upstream = &snapshot.upstreams[0];
        (0..1_000)
            .take_while(|_| upstream.may_retry(now))
            .inspect(|_| upstream.budget.answered(false))
            .count()
    }

    #[test]
    fn regression_endpoints_that_a_reload_replaces_or_brings_back_neither_starve_nor_flood_it() {
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        // Nothing is too old.
        let now = Instant::now();
        let granted = |snapshot: &Snapshot| granted(snapshot, now);
        let both = "[\"127.0.0.1:10\", \"127.0.0.1:11\"]";
        let before = compiled(&mut compiler, both, None);
        answer(&before, 0, 1_000);
        answer(&before, 1, 1_000);
        assert_eq!(granted(&before), 400);

        let replaced = compiled(&mut compiler, "[\"127.0.0.1:12\"]", Some(&before));
        // The answers to the 400 retries, and as many more as make 5 tokens.
        answer(&replaced, 0, 400 + 25);
        assert_eq!(granted(&replaced), 5, "those that are new earn their own");

        answer(&replaced, 0, 5);
        assert_eq!(granted(&replaced), 0);
        let back = compiled(&mut compiler, both, Some(&replaced));
        assert_eq!(granted(&back), 0, "what they answered long ago was counted");
        answer(&back, 1, 50);
        assert_eq!(granted(&back), 10);

        // One that is reached in another way is another object with the same counters.
        let other = format!("{both}\nproxy_protocol = \"v2\"");
        let moved = compiled(&mut compiler, &other, Some(&back));
        answer(&moved, 0, 10 + 25);
        assert_eq!(granted(&moved) + granted(&back), 5, "counted once");
    }

    #[test]
    fn nothing_is_lost_or_found_between_threads() {
        let (budget, rule) = (Budget::default(), rule(0.2, 0));
        let now = Instant::now();
        assert!(!budget.take(&rule, 0, now));
        let claimed = Claimed::up_to(0);
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000)
                            .filter(|_| budget.take(&rule, claimed.claim(5_000), now))
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
            let claimed = Claimed::up_to(0);
            for (requests, pause) in rounds {
                now += Duration::from_millis(pause);
                answered += requests;
                // Every one of them is answered with what may be retried, and so is every retry.
                for _ in 0..requests {
                    if budget.take(&rule, claimed.claim(answered + retried), now) {
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
