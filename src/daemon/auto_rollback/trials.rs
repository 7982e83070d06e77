//! A reload is on trial for a while: what failed before it is held against what fails after. Pure: the time and the counts are
//! handed in.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::wilson::Counts;
use super::judge::is_worse;
use super::tally::Tally;
use crate::admin::history::Accepted;
use crate::config::AutoRollback;

/// What is known of the time before, and the trial that is on.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Trials {
    /// Counts of a window and a half at most, oldest first.
    past: VecDeque<(Instant, Tally)>,
    trial: Option<Trial>,
}

#[derive(Debug)]
struct Trial {
    since: Instant,
    /// All counts when it began.
    then: Tally,
    /// What came in the window before.
    before: Tally,
    /// The last file that is beyond doubt.
    back_to: Accepted,
}

/// What a look has come to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes on.
    Open,
    /// Its time is over, and nothing is worse: all requests together, before the reload and since.
    Kept(Counts, Counts),
    /// Its time is over, and there were too few requests to tell, or too many that have not ended; likewise.
    Unclear(Counts, Counts),
    /// The reload is to be taken back.
    Worse(Verdict),
}

/// A reload that made things worse.
#[derive(Debug)]
pub(in crate::daemon) struct Verdict {
    /// Where; nowhere in particular: all requests together.
    route: Option<String>,
    before: Counts,
    after: Counts,
    took: Duration,
    /// The file to go back to.
    pub(in crate::daemon) back_to: Accepted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(route) => write!(f, "of route {route:?} ")?,
            None => f.write_str("of all routes ")?,
        }
        let (before, after) = (self.before, self.after);
        write!(
            f,
            "{} of {} requests failed within {:.1?}; before the reload it was {} of {}",
            after.errors, after.requests, self.took, before.errors, before.requests
        )
    }
}

impl Trials {
    /// When it is to be counted again; the last time was at `last`.
    pub(in crate::daemon) fn next(&self, last: Instant, limits: &AutoRollback) -> Instant {
        let pause = match &self.trial {
            Some(_) => (limits.window / LOOKS).clamp(SHORTEST, LONGEST),
            None if self.past.is_empty() => Duration::ZERO,
            None => limits.window / 2,
        };
        last + pause
    }

    /// The file that took the place of `from` at `now` is on trial. Where that one was on trial still, the one before it is what
    /// it is held against.
    pub(super) fn begin(&mut self, now: Instant, then: Tally, from: Accepted, text: &Arc<str>) {
        let (before, back_to) = match self.trial.take() {
            Some(trial) => (trial.before, trial.back_to),
            None => {
                let oldest = self.past.front();
                let before = oldest.map(|(_, oldest)| then.since(oldest));
                (before.unwrap_or_default(), from)
            }
        };
        self.past.clear();
        if back_to.text != *text {
            self.trial = Some(Trial {
                since: now,
                then,
                before,
                back_to,
            });
        }
    }

    /// Nothing is on trial, and what was so far says nothing of what comes.
    pub(in crate::daemon) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Looks at the counts of `now`, whether or not something is on trial. A verdict ends the trial, as the window's end does;
    /// where that is too early to tell it goes on for as long as a request may wait for its response, `patience`.
    pub(super) fn look(
        &mut self,
        now: Instant,
        tally: Tally,
        (limits, patience): (&AutoRollback, Duration),
    ) -> Outcome {
        let mut outcome = Outcome::Open;
        if let Some(trial) = self.trial.take() {
            if let Some(verdict) = trial.worst(now, &tally, limits) {
                return Outcome::Worse(verdict);
            }
            let age = now.saturating_duration_since(trial.since);
            let is_early = trial.is_early(&tally, limits);
            if age < limits.window || (is_early && age < limits.window + patience) {
                self.trial = Some(trial);
                return outcome;
            }
            let before = trial.before.total(limits.errors);
            let after = tally.since(&trial.then).total(limits.errors);
            outcome = if is_early || before.requests < u64::from(limits.min_requests) {
                Outcome::Unclear(before, after)
            } else {
                Outcome::Kept(before, after)
            };
        }
        self.past.push_back((now, tally));
        // The second is old enough to begin with.
        while self
            .past
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= limits.window)
        {
            self.past.pop_front();
        }
        outcome
    }
}

impl Trial {
    /// Whether what is yet to come, or has not ended, may show that something is worse: requests that hang have failed nowhere.
    fn is_early(&self, tally: &Tally, limits: &AutoRollback) -> bool {
        let (errors, least) = (limits.errors, u64::from(limits.min_requests));
        let after = tally.since(&self.then);
        let at_worst = after.at_worst();
        let is_early = |before: Counts, after: Counts, at_worst: Counts| {
            let is_known = before.requests >= least;
            is_known && (after.requests < least || is_worse(before, at_worst, limits))
        };
        let total = |tally: &Tally| tally.total(errors);
        is_early(total(&self.before), total(&after), total(&at_worst))
            || after.routes(errors).any(|(name, after)| {
                let (before, at_worst) = (&self.before, &at_worst);
                is_early(
                    before.route(name, errors),
                    after,
                    at_worst.route(name, errors),
                )
            })
    }

    fn worst(&self, now: Instant, tally: &Tally, limits: &AutoRollback) -> Option<Verdict> {
        let errors = limits.errors;
        let after = tally.since(&self.then);
        let routes = after.routes(errors).map(|(name, after)| {
            let before = self.before.route(name, errors);
            (Some(name), before, after)
        });
        let worst = routes
            .filter(|(_, before, after)| is_worse(*before, *after, limits))
            .max_by_key(|(_, _, after)| after.errors);
        let total = (None, self.before.total(errors), after.total(errors));
        let worst = worst.or_else(|| is_worse(total.1, total.2, limits).then_some(total));
        worst.map(|(route, before, after)| Verdict {
            route: route.map(str::to_owned),
            before,
            after,
            took: now.saturating_duration_since(self.since),
            back_to: self.back_to.clone(),
        })
    }
}

/// Within a window.
const LOOKS: u32 = 20;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1); // a bad reload shall not last

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::Method;

    use super::*;
    use crate::admin::history::By;
    use crate::config::CountedErrors;
    use crate::metrics::{Metrics, RouteMetrics};
    use crate::tls::Contents;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(60);

    fn limits() -> AutoRollback {
        AutoRollback {
            ratio: 0.05,
            min_requests: 100,
            window: 30 * SECOND,
            errors: CountedErrors::All,
        }
    }

    /// A balancer of two routes, its trials and its clock.
    struct World {
        metrics: Metrics,
        trials: Trials,
        now: Instant,
        /// What has become of a trial that no verdict has ended.
        end: Option<&'static str>,
    }

    impl World {
        fn new() -> Self {
            Self {
                metrics: Metrics::new(),
                trials: Trials::default(),
                now: Instant::now(),
                end: None,
            }
        }

        fn ask(&self, route: &str, requests: u64, errors: u64) {
            let route = RouteMetrics::new(&self.metrics, route, ["l"].into_iter());
            for number in 0..requests {
                let code = if number < errors { 502 } else { 200 };
                route.count(0, &Method::GET, code);
            }
        }

        /// So many more, or fewer, that have not ended.
        fn hang(&self, route: &str, requests: i64) {
            let route = RouteMetrics::new(&self.metrics, route, ["l"].into_iter());
            route.in_flight.add(requests);
        }

        /// Lets time pass, with looks as often as they are due.
        fn wait(&mut self, time: Duration) -> Option<Verdict> {
            let (mut last, end) = (self.now, self.now + time);
            loop {
                let next = self.trials.next(last, &limits());
                if next > end {
                    self.now = end;
                    return None;
                }
                last = next;
                self.now = next;
                let tally = Tally::take(&self.metrics);
                match self.trials.look(next, tally, (&limits(), PATIENCE)) {
                    Outcome::Worse(verdict) => return Some(verdict),
                    Outcome::Kept(..) => self.end = Some("kept"),
                    Outcome::Unclear(..) => self.end = Some("unclear"),
                    Outcome::Open => {}
                }
            }
        }

        fn reload(&mut self, generation: u64, from: &str, to: &str) {
            let from = Accepted {
                generation: generation - 1,
                origin: generation - 1,
                text: from.into(),
                files: Contents::default(),
                at: SystemTime::UNIX_EPOCH,
                by: By::Signal,
            };
            let then = Tally::take(&self.metrics);
            self.trials.begin(self.now, then, from, &to.into());
        }
    }

    #[test]
    fn route_that_fails_since_the_reload_leads_back_and_is_named() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 10_000, 10);
        world.ask("b", 200, 0);
        world.wait(40 * SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 10_000, 10);
        world.ask("b", 120, 110);
        let verdict = world.wait(2 * SECOND).expect("it is seen");
        assert_eq!(verdict.back_to.generation, 1);
        assert_eq!(&*verdict.back_to.text, "old");
        assert_eq!(
            verdict.to_string(),
            "of route \"b\" 110 of 120 requests failed within 1.0s; before the reload it was 0 of 200"
        );
        // Once.
        world.ask("b", 1000, 1000);
        assert!(world.wait(100 * SECOND).is_none());
    }

    #[test]
    fn after_the_window_a_reload_is_beyond_doubt() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 1000, 0);
        assert!(world.wait(31 * SECOND).is_none());
        world.ask("a", 1000, 1000);
        assert!(world.wait(100 * SECOND).is_none());
    }

    #[test]
    fn regression_reload_under_which_every_request_hangs_is_not_kept() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 0);
        world.ask("b", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "old", "new");
        // Of another route all is well.
        world.ask("b", 1000, 0);
        world.hang("a", 300);
        assert!(world.wait(PATIENCE).is_none());
        assert_eq!(world.end, None);
        world.hang("a", -300);
        world.ask("a", 300, 300);
        let verdict = world.wait(2 * SECOND).expect("they have timed out");
        assert_eq!(&*verdict.back_to.text, "old");
    }

    #[test]
    fn regression_reload_under_which_some_requests_hang_is_not_kept() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 1000, 0);
        world.hang("a", 300);
        assert!(world.wait(PATIENCE).is_none());
        assert_eq!(world.end, None);
        world.hang("a", -300);
        world.ask("a", 300, 300);
        assert!(world.wait(2 * SECOND).is_some());
    }

    #[test]
    fn regression_too_few_requests_are_no_reason_to_keep_and_are_waited_for_so_long_only() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 99, 0);
        assert!(world.wait(80 * SECOND).is_none());
        assert_eq!(world.end, None);
        assert!(world.wait(12 * SECOND).is_none());
        assert_eq!(world.end, Some("unclear"));
    }

    #[test]
    fn few_that_have_not_ended_do_not_prolong_a_trial() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 10_000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 10_000, 0);
        world.hang("a", 200);
        assert!(world.wait(31 * SECOND).is_none());
        assert_eq!(world.end, Some("kept"));
    }

    #[test]
    fn long_past_does_not_count() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 1000);
        world.wait(60 * SECOND);
        world.ask("a", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 1000, 1000);
        assert!(world.wait(2 * SECOND).is_some());
    }

    #[test]
    fn of_two_reloads_in_a_row_the_file_before_both_comes_back() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "good", "bad");
        world.ask("a", 90, 90);
        assert!(world.wait(SECOND).is_none(), "too few as yet");
        world.reload(3, "bad", "worse");
        world.ask("a", 500, 500);
        let verdict = world.wait(SECOND).expect("it is seen");
        assert_eq!(&*verdict.back_to.text, "good");
    }

    #[test]
    fn who_went_back_by_hand_is_not_on_trial() {
        let mut world = World::new();
        world.wait(SECOND);
        world.ask("a", 1000, 0);
        world.wait(20 * SECOND);
        world.reload(2, "good", "bad");
        world.ask("a", 90, 90);
        world.wait(SECOND);
        world.reload(3, "bad", "good");
        world.ask("a", 500, 500);
        assert!(world.wait(40 * SECOND).is_none());
    }

    #[test]
    fn without_requests_before_nothing_can_be_told() {
        let mut world = World::new();
        world.wait(SECOND);
        world.reload(2, "old", "new");
        world.ask("a", 5000, 5000);
        assert!(world.wait(40 * SECOND).is_none());
        assert_eq!(world.end, Some("unclear"));
    }
}
