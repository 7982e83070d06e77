//! A new set is on trial, share by share: what the old one's requests came to is held against what its own come to. Pure: the
//! time and the counts are handed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::{Fault, GROWTH, Limits, fault, is_enough, may_fail};
use crate::metrics::attempts::Answers;

/// A trial, as one process can tell it to another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::daemon) struct Trial {
    /// Shares of a hundred that the new set gets one after the other; the last is all.
    steps: Vec<u8>,
    step: usize,
    /// How long each is looked at.
    window: Duration,
    limits: Limits,
    /// Of the old set, for some minutes before and as long as it gets requests.
    before: Answers,
    /// Those of them that came since this step began.
    #[serde(default)]
    beside: Answers,
    /// Of the new one, since this step began.
    after: Answers,
    /// Those of them that came after its first moments.
    settled: Answers,
    /// So many there were when they were last judged.
    judged: u64,
}

/// What has come since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    pub(super) old: Answers,
    pub(super) new: Answers,
    /// In flight at the new set.
    pub(super) in_flight: u64,
}

/// What a look has come to.
#[derive(Debug, PartialEq)]
pub(super) enum Look {
    /// It goes on.
    Open,
    /// The new set is to get a larger share: this.
    Widen(u8),
    /// It was looked at for long enough, and nothing is worse.
    Kept,
    /// Likewise, but there were too few requests to tell.
    Unclear(String),
    /// Likewise, because hardly any of them are answered.
    Hangs(String),
    /// It is worse.
    Worse(Fault),
}

impl Trial {
    /// One that begins with the first of `steps`.
    pub(super) fn new(steps: Vec<u8>, window: Duration, limits: Limits) -> Self {
        Self {
            steps,
            step: 0,
            window,
            limits,
            before: Answers::default(),
            beside: Answers::default(),
            after: Answers::default(),
            settled: Answers::default(),
            judged: 0,
        }
    }

    /// The new set gets its first share from now on; `before` is what the old set's requests came to.
    pub(super) fn begin(&mut self, before: Answers) {
        self.before = before;
    }

    /// The share that the new set gets now.
    pub(super) fn percent(&self) -> u8 {
        self.steps.get(self.step).copied().unwrap_or(100)
    }

    /// How long each share is looked at.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Of the old set, and of the new one.
    pub(super) fn answers(&self) -> (&Answers, &Answers) {
        (self.measure(), &self.after)
    }

    /// What the new set is held against: what befalls both at once is no fault of it.
    fn measure(&self) -> &Answers {
        let is_shared = self.percent() < 100;
        if is_shared && is_enough(&self.beside, &self.limits) {
            &self.beside
        } else {
            &self.before
        }
    }

    /// How often it is worth a look.
    pub(super) fn pause(&self) -> Duration {
        (self.window / LOOKS).clamp(SHORTEST, LONGEST)
    }

    /// Looks at what has come, `age` after the new set got its share; requests may wait for their responses for as long as
    /// `patience`.
    pub(super) fn look(&mut self, (age, patience): (Duration, Duration), news: &News) -> Look {
        let is_shared = self.percent() < 100;
        if is_shared {
            // It goes on, and under the same conditions.
            self.before.add(&news.old);
            self.beside.add(&news.old);
        }
        self.after.add(&news.new);
        if age >= self.window.mul_f64(FIRST_MOMENTS) {
            self.settled.add(&news.new);
        }
        let is_over = age >= self.window;
        let is_worth_it = self.after.requests as f64 >= self.judged as f64 * GROWTH;
        if is_over || is_worth_it {
            if is_enough(&self.after, &self.limits) {
                self.judged = self.after.requests;
            }
            let after = (&self.after, &self.settled);
            if let Some(fault) = fault(self.measure(), after, &self.limits) {
                return Look::Worse(fault);
            }
        }
        if !is_over {
            return Look::Open;
        }
        match self.doubt(news.in_flight) {
            Some(Doubt { soon: true, .. }) if age < self.window + patience => Look::Open,
            Some(doubt) if doubt.soon && self.hangs(news.in_flight) => Look::Hangs(doubt.why),
            Some(doubt) => Look::Unclear(doubt.why),
            None if is_shared => {
                self.step += 1;
                self.beside = Answers::default();
                self.after = Answers::default();
                self.settled = Answers::default();
                self.judged = 0;
                Look::Widen(self.percent())
            }
            None => Look::Kept,
        }
    }

    /// Whether there are enough requests to tell, and hardly any of them has got a good answer.
    fn hangs(&self, in_flight: u64) -> bool {
        let answered = self.after.requests.saturating_sub(self.after.errors);
        in_flight >= u64::from(self.limits.min_requests) && answered < in_flight / FEW_OF
    }

    /// Why nothing can be said.
    fn doubt(&self, in_flight: u64) -> Option<Doubt> {
        let (limits, least) = (&self.limits, self.limits.min_requests);
        if least == 0 || self.window.is_zero() {
            return None;
        }
        if !is_enough(self.measure(), limits) {
            let few = self.before.requests;
            return Some(Doubt {
                why: format!(
                    "the old set had {few} requests to compare with, and {least} are needed"
                ),
                soon: false,
            });
        }
        if !is_enough(&self.after, limits) {
            let few = self.after.requests;
            return Some(Doubt {
                why: format!("{few} requests to the new set have ended, and {least} are needed"),
                soon: true,
            });
        }
        may_fail(self.measure(), (&self.after, in_flight), limits).then(|| Doubt {
            why: format!("{in_flight} requests to the new set have not ended"),
            soon: true,
        })
    }
}

struct Doubt {
    why: String,
    /// Whether that may change while it is waited for.
    soon: bool,
}

/// The share of a window in which answers may be slow: connections are opened, and nothing is in any cache.
const FIRST_MOMENTS: f64 = 0.25;
/// One in so many answered is hardly any.
const FEW_OF: u64 = 10;
/// Within a window.
const LOOKS: u32 = 60;
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1); // a bad set shall not serve for long

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits {
        min_requests: 100,
        tolerance: 0.005,
        heeds_latency: true,
    };

    fn answers(requests: u64, errors: u64) -> Answers {
        let mut answers = Answers {
            requests,
            errors,
            ..Answers::default()
        };
        answers.within[2] = requests;
        answers
    }

    fn trial(steps: &[u8], before: u64) -> Trial {
        let mut trial = Trial::new(steps.to_vec(), 60 * SECOND, LIMITS);
        trial.begin(answers(before, 0));
        trial
    }

    fn look(trial: &mut Trial, seconds: u32, new: Answers, in_flight: u64) -> Look {
        let news = News {
            new,
            in_flight,
            ..News::default()
        };
        trial.look((seconds * SECOND, 30 * SECOND), &news)
    }

    #[test]
    fn good_set_is_kept_when_its_time_is_over() {
        let mut trial = trial(&[100], 1000);
        assert_eq!(look(&mut trial, 1, answers(500, 0), 3), Look::Open);
        assert_eq!(look(&mut trial, 59, answers(500, 1), 3), Look::Open);
        assert_eq!(look(&mut trial, 60, answers(0, 0), 3), Look::Kept);
    }

    #[test]
    fn bad_set_is_found_before() {
        let mut trial = trial(&[100], 1000);
        assert_eq!(look(&mut trial, 1, answers(99, 99), 0), Look::Open);
        let found = look(&mut trial, 2, answers(1, 1), 0);
        assert!(
            matches!(found, Look::Worse(Fault::Errors { .. })),
            "{found:?}"
        );
    }

    #[test]
    fn slow_first_moments_are_forgiven_and_slow_ones_after_are_not() {
        let mut slow = answers(500, 0);
        slow.within = [0; 15];
        slow.within[9] = 500;
        let mut trial = trial(&[100], 1000);
        assert_eq!(look(&mut trial, 14, slow, 0), Look::Open);
        assert_eq!(look(&mut trial, 20, answers(200, 0), 0), Look::Open);
        let found = look(&mut trial, 30, slow, 0);
        assert!(
            matches!(found, Look::Worse(Fault::Slow { .. })),
            "{found:?}"
        );
    }

    #[test]
    fn requests_that_hang_are_waited_for() {
        let mut trial = trial(&[100], 1000);
        assert_eq!(look(&mut trial, 60, answers(0, 0), 500), Look::Open);
        assert_eq!(look(&mut trial, 70, answers(150, 0), 500), Look::Open);
        let found = look(&mut trial, 80, answers(500, 500), 0);
        assert!(matches!(found, Look::Worse(_)), "{found:?}");
    }

    #[test]
    fn too_few_requests_tell_nothing() {
        let mut few = trial(&[100], 1000);
        assert_eq!(look(&mut few, 60, answers(99, 0), 0), Look::Open);
        assert!(matches!(
            look(&mut few, 90, answers(0, 0), 0),
            Look::Unclear(_)
        ));
        // Nothing that comes changes what was before.
        let mut nothing_before = trial(&[100], 99);
        let found = look(&mut nothing_before, 60, answers(500, 500), 0);
        assert!(matches!(found, Look::Unclear(_)), "{found:?}");
    }

    #[test]
    fn shares_are_widened_one_after_the_other_and_each_is_judged_by_itself() {
        let mut trial = trial(&[10, 50, 100], 1000);
        assert_eq!(trial.percent(), 10);
        assert_eq!(look(&mut trial, 60, answers(900, 0), 0), Look::Widen(50));
        assert_eq!(look(&mut trial, 1, answers(50, 0), 0), Look::Open);
        assert_eq!(look(&mut trial, 60, answers(900, 0), 0), Look::Widen(100));
        // Of eighteen hundred good ones before nothing is left.
        let found = look(&mut trial, 2, answers(200, 30), 0);
        assert!(matches!(found, Look::Worse(_)), "{found:?}");
    }

    #[test]
    fn regression_old_set_is_what_it_is_held_against_as_long_as_it_gets_requests() {
        // Both fail since: it is not the new set.
        let mut shared = trial(&[50, 100], 100_000);
        let mut at_second = |second, old, new| {
            let news = News {
                old,
                new,
                ..News::default()
            };
            shared.look((second * SECOND, SECOND), &news)
        };
        for second in 1..60 {
            let found = at_second(second, answers(100, 10), answers(100, 10));
            assert_eq!(found, Look::Open, "{second}");
        }
        let found = at_second(60, answers(100, 10), answers(100, 10));
        assert_eq!(found, Look::Widen(100));
        // The new one alone fails.
        let mut alone = trial(&[50, 100], 1000);
        let news = News {
            old: answers(1000, 0),
            new: answers(200, 20),
            ..News::default()
        };
        let found = alone.look((SECOND, SECOND), &news);
        assert!(matches!(found, Look::Worse(_)), "{found:?}");
    }

    #[test]
    fn regression_set_that_hardly_answers_is_told_from_one_that_nobody_asks() {
        for (answered, in_flight, hangs) in [
            (0, 100, true),
            (9, 100, true),
            (10, 100, false),
            (0, 99, false),
        ] {
            let mut trial = trial(&[100], 1000);
            assert_eq!(
                look(&mut trial, 60, answers(answered, 0), in_flight),
                Look::Open
            );
            let found = look(&mut trial, 90, answers(0, 0), in_flight);
            assert_eq!(matches!(found, Look::Hangs(_)), hangs, "{found:?}");
            assert_eq!(matches!(found, Look::Unclear(_)), !hangs, "{found:?}");
        }
    }

    #[test]
    fn without_requests_asked_for_time_alone_decides() {
        let limits = Limits {
            min_requests: 0,
            ..LIMITS
        };
        let mut trial = Trial::new(vec![10, 100], SECOND, limits);
        assert_eq!(look(&mut trial, 1, answers(0, 0), 9), Look::Widen(100));
        assert_eq!(look(&mut trial, 1, answers(5, 5), 9), Look::Kept);
        let mut unwatched = Trial::new(vec![100], Duration::ZERO, LIMITS);
        assert_eq!(look(&mut unwatched, 0, answers(0, 0), 0), Look::Kept);
    }
}
