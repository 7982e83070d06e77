//! Judges whether one set of endpoints is worse than another: more of its requests fail, or more are slow. Pure: numbers in, an
//! answer out.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::wilson::Counts;
use crate::metrics::attempts::Answers;
use crate::metrics::cells::SECONDS;

/// What is asked for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(in crate::daemon) struct Limits {
    /// So many requests are needed of either set; 0: nothing is judged.
    pub(in crate::daemon) min_requests: u32,
    /// By how much the share of failures may rise, whatever is certain.
    pub(in crate::daemon) tolerance: f64,
    /// Whether slow answers count.
    pub(in crate::daemon) heeds_latency: bool,
}

/// What is wrong with the new set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// More fails.
    Errors {
        before: Counts,
        after: Counts,
        /// How many of them were given up after they had waited for longer than this.
        left: Option<(u64, Duration)>,
    },
    /// Hardly any is answered.
    Silent {
        answered: u64,
        in_flight: u64,
        age: Duration,
    },
    /// More than one in a hundred takes longer than this, which is more than twice what ninety-nine took before.
    Slow {
        limit: Duration,
        before: Duration,
        after: Counts,
    },
}

/// Standard deviations of what is taken to be certain. It is looked again and again, some forty times from a hundred requests to a
/// million; the simulation below says what that comes to: of equal sets less than one in a hundred is found worse.
const Z: f64 = 3.6;
/// So many that failed, or were slow, are no chance: of two or three in a hundred the intervals say more than they know.
const FEWEST: u64 = 10;
/// So many more requests than at the last look are worth another one.
pub(super) const GROWTH: f64 = 1.25;
/// The share that may take longer than the 99th percentile.
const SLOWEST: f64 = 0.01;

/// What is wrong `after`, if that is certain. `settled` are those of them that came after the first moments, in which nothing is
/// quick yet.
pub(super) fn fault(
    before: &Answers,
    (after, settled): (&Answers, &Answers),
    limits: &Limits,
) -> Option<Fault> {
    let (was, is) = (counts(before, before), counts(after, before));
    if !is_enough(was, limits) || !is_enough(is, limits) {
        return None;
    }
    if fails_more(was, is, limits) {
        return Some(Fault::Errors {
            before: was,
            after: is,
            left: left(after, before).filter(|(left, _)| *left > 0),
        });
    }
    if limits.heeds_latency && is_enough(counts(settled, before), limits) {
        slow(before, settled)
    } else {
        None
    }
}

/// Whether there were so many that something can be said of them.
pub(super) fn is_enough(counts: Counts, limits: &Limits) -> bool {
    limits.min_requests > 0 && counts.requests >= u64::from(limits.min_requests)
}

/// What `answers` come to beside those that are `usual`. What was given up counts where it had waited for longer than is usual:
/// whoever leaves earlier does as they like.
pub(super) fn counts(answers: &Answers, usual: &Answers) -> Counts {
    let left = left(answers, usual).map_or(0, |(left, _)| left);
    Counts {
        requests: answers.requests + left,
        errors: answers.errors + left,
    }
}

/// How many were given up after they had waited for longer than the time that follows.
fn left(answers: &Answers, usual: &Answers) -> Option<(u64, Duration)> {
    let limit = percentile(usual)? + 1;
    let seconds = SECONDS.get(limit)?;
    let left = answers.left[limit + 1..].iter().sum();
    Some((left, Duration::from_secs_f64(*seconds)))
}

/// Whether `after` would be worse if so many that have not ended should fail.
pub(super) fn may_fail(
    before: &Answers,
    (after, in_flight): (&Answers, u64),
    limits: &Limits,
) -> bool {
    let mut at_worst = counts(after, before);
    at_worst.requests += in_flight;
    at_worst.errors += in_flight;
    fails_more(counts(before, before), at_worst, limits)
}

fn fails_more(before: Counts, after: Counts, limits: &Limits) -> bool {
    after.errors >= FEWEST
        && after.share() - before.share() > limits.tolerance
        && after.rise_since(before, Z) > 0.0
}

/// Buckets are wide: what took up to one bound before may take up to the next. Beyond that it is no question of bounds, and of few
/// requests neither: it takes several slow ones of them.
fn slow(before: &Answers, after: &Answers) -> Option<Fault> {
    let usual = percentile(before)?;
    let limit = usual + 1;
    let seconds = SECONDS.get(limit).copied()?;
    let (was, is) = (slower(before, limit), slower(after, limit));
    let is_certain = is.errors >= FEWEST && is.bounds(Z).0 > SLOWEST && is.rise_since(was, Z) > 0.0;
    is_certain.then(|| Fault::Slow {
        limit: Duration::from_secs_f64(seconds),
        before: Duration::from_secs_f64(SECONDS[usual]),
        after: is,
    })
}

/// The place of the bound within which ninety-nine of a hundred answers came.
fn percentile(answers: &Answers) -> Option<usize> {
    (0..SECONDS.len()).find(|at| {
        let counts = slower(answers, *at);
        counts.requests > 0 && counts.share() <= SLOWEST
    })
}

/// The bound within which ninety-nine of a hundred answers came, where that can be told.
pub(super) fn p99(answers: &Answers) -> Option<Duration> {
    percentile(answers).map(|at| Duration::from_secs_f64(SECONDS[at]))
}

/// All answers, and those that took longer than the bound at `limit`.
fn slower(answers: &Answers, limit: usize) -> Counts {
    Counts {
        requests: answers.within.iter().sum(),
        errors: answers.within[limit + 1..].iter().sum(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors {
                before,
                after,
                left,
            } => {
                write!(
                    f,
                    "{} of {} requests failed ({:.1} %",
                    after.errors,
                    after.requests,
                    after.share() * 100.0
                )?;
                if let Some((left, limit)) = left {
                    write!(f, "; {left} were given up after more than {limit:?}")?;
                }
                write!(
                    f,
                    "); before it was {} of {} ({:.1} %)",
                    before.errors,
                    before.requests,
                    before.share() * 100.0
                )
            }
            Self::Silent {
                answered,
                in_flight,
                age,
            } => write!(
                f,
                "after {:.0} s {in_flight} requests wait, and {answered} were answered well",
                age.as_secs_f64()
            ),
            Self::Slow {
                limit,
                before,
                after,
            } => write!(
                f,
                "{} of {} answers took longer than {limit:?}; before 99 of 100 came within {before:?}",
                after.errors, after.requests
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws answers as a set gives them: so many fail, so many take long.
    struct Draw {
        random: fastrand::Rng,
        fails: f64,
        /// Shares of the buckets, the last one for the rest.
        times: Vec<f64>,
    }

    impl Draw {
        fn new(seed: u64, fails: f64, times: &[f64]) -> Self {
            Self {
                random: fastrand::Rng::with_seed(seed),
                fails,
                times: times.to_vec(),
            }
        }

        fn add(&mut self, answers: &mut Answers, count: u64) {
            for _ in 0..count {
                answers.requests += 1;
                answers.errors += u64::from(self.random.f64() < self.fails);
                let mut left = self.random.f64();
                let at = self.times.iter().position(|share| {
                    left -= share;
                    left < 0.0
                });
                answers.within[at.unwrap_or(self.times.len())] += 1;
            }
        }
    }

    /// Most within 5 ms, 2 % within 10 ms, and exactly one in a hundred takes up to 100 ms: the hardest case for the 99th
    /// percentile.
    const TIMES: [f64; 6] = [0.5, 0.3, 0.17, 0.01, 0.0, 0.01];
    const LIMITS: Limits = Limits {
        min_requests: 100,
        tolerance: 0.005,
        heeds_latency: true,
    };

    /// After how many requests of the new set something is found, looked for as a trial does.
    fn found(seed: u64, (was, is): (f64, f64), baseline: u64, most: u64) -> Option<(u64, Fault)> {
        let (mut before, mut after) = (Answers::default(), Answers::default());
        Draw::new(seed, was, &TIMES).add(&mut before, baseline);
        let mut draw = Draw::new(!seed, is, &TIMES);
        let mut next = u64::from(LIMITS.min_requests);
        while after.requests < most {
            let more = next.min(most) - after.requests;
            draw.add(&mut after, more);
            if let Some(fault) = fault(&before, (&after, &after), &LIMITS) {
                return Some((after.requests, fault));
            }
            next = ((after.requests as f64 * GROWTH) as u64).max(after.requests + 1);
        }
        None
    }

    fn share_found(runs: u64, shares: (f64, f64), baseline: u64, most: u64) -> f64 {
        let found = (0..runs).filter(|seed| found(seed * 7 + 1, shares, baseline, most).is_some());
        found.count() as f64 / runs as f64
    }

    #[test]
    fn equal_sets_are_hardly_ever_found_unequal() {
        for share in [0.0, 0.01, 0.05, 0.3] {
            for baseline in [300, 3000] {
                let false_alarms = share_found(300, (share, share), baseline, 5000);
                assert!(false_alarms <= 0.01, "{share} {baseline}: {false_alarms}");
            }
        }
    }

    #[test]
    fn doubled_share_of_failures_is_found_within_a_thousand_requests() {
        let detected = share_found(400, (0.05, 0.1), 5000, 1000);
        assert!(detected >= 0.95, "{detected}");
    }

    #[test]
    #[ignore = "minutes without optimisation: cargo test --release --lib flip::judge -- --ignored --nocapture"]
    fn table_of_what_is_found() {
        println!("equal sets, found worse within 50,000 requests:");
        for share in [0.0, 0.001, 0.005, 0.01, 0.05, 0.2, 0.5] {
            for baseline in [100, 300, 1000, 5000, 50_000] {
                let alarms = share_found(1000, (share, share), baseline, 50_000);
                println!("{share:6} of {baseline:6} before: {:.2} %", alarms * 100.0);
                assert!(alarms <= 0.01);
            }
        }
        println!("doubled share, found within 1,000 requests:");
        for share in [0.005, 0.01, 0.02, 0.05, 0.1, 0.2] {
            for baseline in [1000, 2000, 3000, 5000, 50_000] {
                let detected = share_found(1000, (share, 2.0 * share), baseline, 1000);
                println!(
                    "{share:6} of {baseline:6} before: {:.1} %",
                    detected * 100.0
                );
            }
        }
    }

    #[test]
    fn one_error_of_three_tells_nothing() {
        let answers = |requests, errors| Answers {
            requests,
            errors,
            ..Answers::default()
        };
        let none = answers(100_000, 0);
        let fault_of = |after: Answers| fault(&none, (&after, &after), &LIMITS);
        assert_eq!(fault_of(answers(3, 1)), None);
        assert_eq!(fault_of(answers(99, 99)), None);
        assert!(matches!(
            fault_of(answers(100, 100)),
            Some(Fault::Errors { .. })
        ));
        // Certain, and too little to matter.
        assert_eq!(fault_of(answers(1_000_000, 1000)), None);
        // Nothing is known of before.
        let few = answers(99, 0);
        assert_eq!(fault(&few, (&answers(1000, 1000), &none), &LIMITS), None);
    }

    #[test]
    fn requests_given_up_have_failed_where_they_had_waited_for_longer_than_is_usual() {
        let mut before = Answers::default();
        Draw::new(1, 0.0, &[0.0, 0.5, 0.5]).add(&mut before, 1000);
        let with = |at: usize, left: u64, answered: u64| {
            let mut answers = Answers::default();
            Draw::new(2, 0.0, &[0.0, 0.5, 0.5]).add(&mut answers, answered);
            answers.left[at] = left;
            answers
        };
        let of = |after: Answers| fault(&before, (&after, &after), &LIMITS);
        // Nearly all came within 5 ms, and these have waited for 5 to 10: clients leave when they like.
        assert_eq!(of(with(3, 500, 500)), None);
        let Some(found) = of(with(5, 50, 50)) else {
            panic!("not found");
        };
        let why = found.to_string();
        assert!(
            why.contains(
                "50 of 100 requests failed (50.0 %; 50 were given up after more than 10ms)"
            ),
            "{why}"
        );
        assert!(
            of(with(SECONDS.len(), 100, 0)).is_some(),
            "nobody is answered"
        );
        // They left as often before.
        before.left[5] = 1000;
        assert_eq!(fault(&before, (&with(5, 50, 50), &before), &LIMITS), None);
    }

    #[test]
    fn answers_that_take_more_than_twice_as_long_are_found_and_a_few_of_them_are_not() {
        let drawn = |seed, times: &[f64], count| {
            let mut answers = Answers::default();
            Draw::new(seed, 0.0, times).add(&mut answers, count);
            answers
        };
        let before = drawn(1, &[0.5, 0.3, 0.2], 3000);
        let of = |after: Answers| fault(&before, (&after, &after), &LIMITS);
        // Within the next bound: the same, or nearly so.
        assert_eq!(of(drawn(2, &[0.2, 0.2, 0.3, 0.3], 3000)), None);
        let slow = of(drawn(3, &[0.4, 0.3, 0.2, 0.0, 0.1], 500));
        let Some(Fault::Slow { limit, before, .. }) = slow else {
            panic!("{slow:?}");
        };
        assert_eq!(
            (limit, before),
            (Duration::from_millis(10), Duration::from_millis(5))
        );
        let mut few = drawn(4, &[0.5, 0.3, 0.2], 191);
        few.requests += 9;
        few.within[9] += 9;
        assert_eq!(of(few), None);
        // Only where that is asked about.
        let after = drawn(3, &[0.4, 0.3, 0.2, 0.0, 0.1], 500);
        let limits = Limits {
            heeds_latency: false,
            ..LIMITS
        };
        assert_eq!(
            fault(&drawn(1, &TIMES, 3000), (&after, &after), &limits),
            None
        );
    }

    #[test]
    fn what_has_not_ended_may_fail_yet() {
        let answers = |requests, errors| Answers {
            requests,
            errors,
            ..Answers::default()
        };
        let before = answers(1000, 0);
        assert!(!may_fail(&before, (&answers(1000, 0), 5), &LIMITS));
        assert!(may_fail(&before, (&answers(1000, 0), 500), &LIMITS));
        assert!(may_fail(&before, (&answers(0, 0), 50), &LIMITS));
    }
}
