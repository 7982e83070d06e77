//! How many requests at once an endpoint answers in good time, found out by trying. Knows nothing of clocks.
//!
//! As TCP does with a window: while responses come in time and room is used, there is more room next time, twice as much until
//! the first that was too much, then one request more; when too many come late, there is a fifth less.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::config::Adaptive;
use crate::lock::lock;

/// What one endpoint's limit is found out from.
#[derive(Debug, Default)]
pub struct Adapting {
    /// What was found, and by which rule. The control thread's own.
    found: Mutex<Option<(Adaptation, Adaptive)>>,
    /// Attempts that came to something since they were last looked at, and those of them that were late. Written by all
    /// workers, taken by the control thread. Relaxed: numbers that guard nothing.
    attempts: AtomicU32,
    late: AtomicU32,
}

impl Adapting {
    /// The limit to begin or go on with, where `limit` is configured and `rule`, if any, says how to find a lower one. What was
    /// found so far is kept, within the new bounds.
    pub fn set(&self, limit: Option<NonZeroU32>, rule: Option<&Adaptive>) -> Option<NonZeroU32> {
        let mut found = lock(&self.found);
        *found = rule.map(|rule| {
            let most = limit.unwrap_or(rule.max);
            let rule = Adaptive {
                min: rule.min.min(most),
                max: rule.max.min(most),
                ..*rule
            };
            let adaptation = found.map_or_else(|| Adaptation::new(&rule), |(found, _)| found);
            (adaptation.within(&rule), rule)
        });
        match *found {
            Some((adaptation, _)) => NonZeroU32::new(adaptation.limit()),
            None => limit,
        }
    }

    /// An attempt came to something.
    pub fn note(&self, is_late: bool) {
        self.attempts.fetch_add(1, Relaxed);
        if is_late {
            self.late.fetch_add(1, Relaxed);
        }
    }

    /// The limit that follows from the attempts since the last time, of an endpoint that has so many requests now. `None`: they
    /// are too few to say, or nobody wants to know.
    pub fn next(&self, in_flight: u32) -> Option<NonZeroU32> {
        let mut found = lock(&self.found);
        let (adaptation, rule) = found.as_mut()?;
        if self.attempts.load(Relaxed) < ENOUGH {
            return None;
        }
        let seen = Seen {
            attempts: self.attempts.swap(0, Relaxed),
            late: self.late.swap(0, Relaxed),
            in_flight,
        };
        *adaptation = adaptation.next(rule, seen);
        NonZeroU32::new(adaptation.limit())
    }
}

/// What was seen of an endpoint since the last time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Attempts that came to something.
    pub attempts: u32,
    /// Those of them whose response came late or not at all.
    pub late: u32,
    /// Requests it has now.
    pub in_flight: u32,
}

/// The limit of one endpoint, and how it came about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adaptation {
    limit: u32,
    /// Nothing was too much yet.
    is_starting: bool,
}

impl Adaptation {
    /// Of an endpoint of which nothing is known.
    pub fn new(rule: &Adaptive) -> Self {
        Self {
            limit: START.clamp(rule.min.get(), rule.max.get()),
            is_starting: true,
        }
    }

    /// Requests at once.
    pub fn limit(self) -> u32 {
        self.limit
    }

    /// The same within the bounds of `rule`, which may be another one by now.
    pub fn within(self, rule: &Adaptive) -> Self {
        Self {
            limit: self.limit.clamp(rule.min.get(), rule.max.get()),
            ..self
        }
    }

    /// The same by `rule`, after what was `seen`.
    pub fn next(self, rule: &Adaptive, seen: Seen) -> Self {
        let Self { limit, is_starting } = self;
        let too_much = seen.late > 0 && seen.late.saturating_mul(LATE_SHARE) >= seen.attempts;
        let is_used = seen.attempts > 0 && seen.in_flight >= limit / 2;
        let limit = match (too_much, is_used) {
            (true, _) => limit - (limit / 5).max(1).min(limit),
            (false, true) if is_starting => limit.saturating_mul(2),
            (false, true) => limit.saturating_add(1),
            (false, false) => limit,
        };
        let is_starting = is_starting && !too_much;
        Self { limit, is_starting }.within(rule)
    }
}

/// Attempts that say something.
const ENOUGH: u32 = 10;

const START: u32 = 16; // what nearly any app server can do
const LATE_SHARE: u32 = 10; // one in ten: a few slow requests are no overload

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rule(min: u32, max: u32) -> Adaptive {
        Adaptive {
            latency: Duration::from_millis(100),
            min: NonZeroU32::new(min).unwrap(),
            max: NonZeroU32::new(max).unwrap(),
        }
    }

    /// What is seen of an endpoint that answers in time while it has no more than `capacity`, asked by `clients`.
    fn seen(limit: u32, capacity: u32, clients: u32) -> Seen {
        let in_flight = limit.min(clients);
        Seen {
            attempts: in_flight * 4,
            late: if in_flight > capacity {
                in_flight * 4
            } else {
                0
            },
            in_flight,
        }
    }

    fn settled(capacity: u32, clients: u32, from: Adaptation) -> Vec<Adaptation> {
        let rule = rule(1, 10_000);
        let mut all = vec![from];
        for _ in 0..3_000 {
            let last = all[all.len() - 1];
            all.push(last.next(&rule, seen(last.limit(), capacity, clients)));
        }
        all
    }

    proptest! {
        #[test]
        fn it_settles_near_what_can_be_done(capacity in 1_u32..2_000) {
            let all = settled(capacity, 100_000, Adaptation::new(&rule(1, 10_000)));
            for adaptation in &all[2_500..] {
                let limit = adaptation.limit();
                prop_assert!(limit <= capacity + 1, "{limit} of {capacity}");
                prop_assert!(limit + 1 >= capacity * 4 / 5, "{limit} of {capacity}");
            }
        }

        #[test]
        fn it_stays_within_its_bounds(
            steps in prop::collection::vec((0_u32..5_000, 0_u32..5_000, 0_u32..5_000), 1..100),
        ) {
            let rule = rule(3, 500);
            let mut adaptation = Adaptation::new(&rule);
            for (attempts, late, in_flight) in steps {
                adaptation = adaptation.next(&rule, Seen { attempts, late, in_flight });
                prop_assert!((3..=500).contains(&adaptation.limit()));
            }
        }
    }

    #[test]
    fn what_is_configured_is_never_passed_and_what_was_found_is_kept() {
        let adapting = Adapting::default();
        let number = NonZeroU32::new;
        let rule = rule(4, 100);
        assert_eq!(adapting.set(number(7), None), number(7));
        assert_eq!(adapting.next(50), None);
        assert_eq!(adapting.set(None, Some(&rule)), number(16));
        for _ in 0..ENOUGH - 1 {
            adapting.note(false);
        }
        assert_eq!(adapting.next(16), None, "too few to say");
        adapting.note(false);
        assert_eq!(adapting.next(16), number(32));
        assert_eq!(adapting.set(number(200), Some(&rule)), number(32));
        assert_eq!(adapting.set(number(3), Some(&rule)), number(3));
        for _ in 0..ENOUGH {
            adapting.note(false);
        }
        assert_eq!(adapting.next(3), number(3));
        assert_eq!(adapting.set(None, None), None);
    }

    #[test]
    fn room_that_nobody_uses_does_not_grow() {
        let first = Adaptation::new(&rule(1, 10_000));
        let last = *settled(1_000, 4, first).last().unwrap();
        assert_eq!(last, first);
    }

    #[test]
    fn a_few_late_ones_change_nothing() {
        let before = Adaptation::new(&rule(1, 10_000));
        let seen = Seen {
            attempts: 100,
            late: 9,
            in_flight: 1,
        };
        assert_eq!(before.next(&rule(1, 10_000), seen), before);
    }

    #[test]
    fn after_the_first_too_much_it_grows_by_one() {
        let rule = rule(1, 10_000);
        let start = Adaptation::new(&rule);
        let fine = |at: Adaptation| at.next(&rule, seen(at.limit(), 10_000, 10_000));
        let much = |at: Adaptation| at.next(&rule, seen(at.limit(), 0, 10_000));
        assert_eq!(fine(start).limit(), 32);
        assert_eq!(much(fine(start)).limit(), 26);
        assert_eq!(fine(much(fine(start))).limit(), 27);
    }
}
