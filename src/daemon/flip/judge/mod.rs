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
/// million; the simulation in the tests says what that comes to: of equal sets less than one in a hundred is found worse.
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
    let (limit, time) = late(usual)?;
    Some((answers.left[limit + 1..].iter().sum(), time))
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

/// A few requests say nothing of that: it takes several slow ones of them.
fn slow(before: &Answers, after: &Answers) -> Option<Fault> {
    let (limit, time) = late(before)?;
    let (was, is) = (slower(before, limit), slower(after, limit));
    let is_certain = is.errors >= FEWEST && is.bounds(Z).0 > SLOWEST && is.rise_since(was, Z) > 0.0;
    if !is_certain {
        return None;
    }
    Some(Fault::Slow {
        limit: time,
        before: p99(before)?,
        after: is,
    })
}

/// The place of the bound beyond which it is late where these are `usual`, and that bound. Buckets are wide: what took up to one
/// bound before may take up to the next.
fn late(usual: &Answers) -> Option<(usize, Duration)> {
    let limit = percentile(usual)? + 1;
    let seconds = SECONDS.get(limit)?;
    Some((limit, Duration::from_secs_f64(*seconds)))
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
mod tests;
