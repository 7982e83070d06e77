//! A new set is on trial, share by share: what the old one's requests came to is held against what its own come to. Pure: the
//! time and the counts are handed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::wilson::Counts;
use super::judge::{Fault, GROWTH, Limits, counts, fault, is_enough, may_fail, p99};
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
    /// In flight at the new set when this step began.
    #[serde(default)]
    carried: u64,
}

/// What has come since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    pub(super) old: Answers,
    pub(super) new: Answers,
    /// In flight at the new set, of those that may not have been answered.
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
            carried: 0,
        }
    }

    /// The new set gets its first share from now on, with so many in flight there; `before` is what the old set's requests came
    /// to.
    pub(super) fn begin(&mut self, before: Answers, in_flight: u64) {
        self.before = before;
        self.carried = in_flight;
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

    /// What these come to.
    pub(super) fn counts(&self) -> (Counts, Counts) {
        let usual = self.measure();
        (counts(usual, usual), counts(&self.after, usual))
    }

    /// What the new set is held against: what befalls both at once is no fault of it.
    fn measure(&self) -> &Answers {
        let is_shared = self.percent() < 100;
        if is_shared && is_enough(counts(&self.beside, &self.beside), &self.limits) {
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
        let (_, so_far) = self.counts();
        let is_worth_it = so_far.requests as f64 >= self.judged as f64 * GROWTH;
        if is_over || is_worth_it {
            if is_enough(so_far, &self.limits) {
                self.judged = so_far.requests;
            }
            let after = (&self.after, &self.settled);
            if let Some(fault) = fault(self.measure(), after, &self.limits) {
                return Look::Worse(fault);
            }
        }
        if let Some(silent) = self.silent(age, news.in_flight) {
            return Look::Worse(silent);
        }
        if !is_over {
            return Look::Open;
        }
        match self.doubt(news.in_flight) {
            Some(Doubt { soon: true, .. }) if age < self.window + patience => Look::Open,
            Some(doubt) => Look::Unclear(doubt.why),
            None if is_shared => {
                self.step += 1;
                self.beside = Answers::default();
                self.after = Answers::default();
                self.settled = Answers::default();
                self.judged = 0;
                self.carried = news.in_flight;
                Look::Widen(self.percent())
            }
            None => Look::Kept,
        }
    }

    /// Whether hardly any of the requests of this step has got a good answer, by a time at which nearly all have one usually. Who
    /// stays for long once it has its answer was answered.
    fn silent(&self, age: Duration, in_flight: u64) -> Option<Fault> {
        let least = u64::from(self.limits.min_requests);
        let usual = p99(self.measure())?;
        if least == 0 || age < (usual * FEW_OF).max(PATIENCE) {
            return None;
        }
        let waiting = in_flight.saturating_sub(self.carried);
        let answered = self.after.requests.saturating_sub(self.after.errors);
        let is_silent = waiting >= least && answered < waiting / u64::from(FEW_OF);
        is_silent.then_some(Fault::Silent {
            answered,
            in_flight: waiting,
            age,
        })
    }

    /// Why nothing can be said.
    fn doubt(&self, in_flight: u64) -> Option<Doubt> {
        let (limits, least) = (&self.limits, self.limits.min_requests);
        if least == 0 || self.window.is_zero() {
            return None;
        }
        let (before, after) = self.counts();
        if !is_enough(before, limits) {
            let few = counts(&self.before, &self.before).requests;
            return Some(Doubt {
                why: format!(
                    "the old set had {few} requests to compare with, and {least} are needed"
                ),
                soon: false,
            });
        }
        if !is_enough(after, limits) {
            let few = after.requests;
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
/// One in so many answered is hardly any, and so many times what is usual is late.
const FEW_OF: u32 = 10;
/// So long nobody is called silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Within a window.
const LOOKS: u32 = 60;
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1); // a bad set shall not serve for long

#[cfg(test)]
mod tests;
