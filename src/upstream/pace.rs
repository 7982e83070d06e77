//! What an endpoint was seen to carry: as many requests as it had in flight at once and then answered about as quickly as it is
//! used to. What hangs, or waits, has piled up, and is no sign of what it can carry. Has no clock.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// How quickly an endpoint answers usually, and what it has in flight. Written by the control thread at ticks.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Course>);

#[derive(Debug, Default)]
struct Course {
    /// Seconds that answers take usually; a mean of the last minutes. `None`: nothing is known, and nothing is believed.
    usual: Option<f64>,
    /// When the span began that runs, and what had been answered by then.
    span: Option<(Instant, Answered)>,
    claim: Option<Claim>,
    /// Whether the last claim was not confirmed.
    is_doubted: bool,
}

/// So many were in flight before: what is answered since tells whether they were carried.
#[derive(Debug)]
struct Claim {
    begun: Instant,
    answered: Answered,
    in_flight: u32,
    /// Most that were in flight since, which is the next claim.
    since: u32,
}

/// All answers so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answered {
    /// How many.
    pub(super) count: u64,
    /// How many seconds they took, all together.
    pub(super) seconds: f64,
}

impl Pace {
    /// Takes note of what was answered by `now`, when so many are in flight, and so many of them have a tunnel. How many it is
    /// known by now to have carried a little before: those at least.
    pub(super) fn note(&self, now: Instant, answered: Answered, busy: (u32, u32)) -> u32 {
        self.course().note(now, answered, busy)
    }

    /// How many may be carried now, `in_flight` among them: it is not known yet, and nothing speaks against it.
    pub(super) fn claimed(&self, in_flight: u32) -> u32 {
        let course = self.course();
        let claim = course.claim.as_ref().filter(|_| !course.is_doubted);
        claim.map_or(0, |claim| in_flight.max(claim.in_flight).max(claim.since))
    }

    /// How many seconds its answers take usually, where that is known.
    pub(super) fn usual(&self) -> Option<f64> {
        self.course().usual
    }

    /// Another process knows that.
    pub(super) fn recall(&self, usual: Option<f64>) {
        self.course().usual = usual.filter(|usual| usual.is_finite() && *usual >= 0.0);
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        lock(&self.0)
    }
}

impl Course {
    fn note(&mut self, now: Instant, answered: Answered, (in_flight, tunnels): (u32, u32)) -> u32 {
        self.learn(now, answered);
        let usual = self.usual;
        let claim = self.claim.get_or_insert(Claim {
            begun: now,
            answered,
            in_flight,
            since: 0,
        });
        claim.since = claim.since.max(in_flight);
        // Nearly all who were in flight then are answered by now, if they are answered as usually.
        let wait = Duration::from_secs_f64((usual.unwrap_or(0.0) * LONG).clamp(1.0, 60.0));
        if now.saturating_duration_since(claim.begun) < wait {
            return tunnels;
        }
        let mean = answered.mean_since(claim.answered);
        let is_carried = mean
            .zip(usual)
            .is_some_and(|(mean, usual)| !is_late(mean, usual));
        let carried = if is_carried { claim.in_flight } else { 0 };
        self.is_doubted = !is_carried && claim.in_flight > tunnels;
        let in_flight = claim.since;
        self.claim = Some(Claim {
            begun: now,
            answered,
            in_flight,
            since: 0,
        });
        carried.max(tunnels)
    }

    /// Finds out what is usual.
    fn learn(&mut self, now: Instant, answered: Answered) {
        let (begun, before) = *self.span.get_or_insert((now, answered));
        let is_over = now.saturating_duration_since(begun) >= SPAN;
        let is_enough = self.usual.is_none() && answered.count >= before.count + ENOUGH;
        if !is_over && !is_enough {
            return;
        }
        self.span = Some((now, answered));
        let Some(mean) = answered.mean_since(before) else {
            return;
        };
        let usual = self.usual.unwrap_or(mean);
        // One that has become slower for good is believed to be so in the end, and one that is quicker at once.
        let heed = match mean {
            _ if is_late(mean, usual) => LITTLE,
            _ if mean > usual => SOME,
            _ => MUCH,
        };
        self.usual = Some(usual + (mean - usual) * heed);
    }
}

impl Answered {
    /// How many seconds an answer took since `before`; `None` where none came.
    fn mean_since(self, before: Self) -> Option<f64> {
        let count = self.count.saturating_sub(before.count);
        (count > 0).then(|| (self.seconds - before.seconds).max(0.0) / count as f64)
    }
}

fn is_late(mean: f64, usual: f64) -> bool {
    mean > usual * LATE && mean > usual + NOISE
}

const SPAN: Duration = Duration::from_secs(10);
/// So many answers tell before the first span is over.
const ENOUGH: u64 = 20;
/// So many times what is usual is late.
const LATE: f64 = 2.0;
/// So many times what is usual is long enough for nearly all.
const LONG: f64 = 4.0;
/// Seconds that are no difference.
const NOISE: f64 = 0.010;
/// What a span weighs in what is usual.
const LITTLE: f64 = 0.02;
const SOME: f64 = 0.2;
const MUCH: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint that is asked so often and lets everybody wait for so long.
    struct Played {
        pace: Pace,
        now: Instant,
        answered: Answered,
        /// When each of those in flight was asked, in ticks.
        waiting: Vec<u64>,
        tick: u64,
    }

    const TICK: Duration = Duration::from_millis(500);

    impl Played {
        fn new() -> Self {
            Self {
                pace: Pace::default(),
                now: Instant::now(),
                answered: Answered::default(),
                waiting: Vec::new(),
                tick: 0,
            }
        }

        /// Plays so many seconds with so many requests a second, each answered after so many seconds. The most that was carried
        /// meanwhile.
        fn play(&mut self, seconds: u64, rate: u64, takes: f64) -> u32 {
            let mut carried = 0;
            for _ in 0..2 * seconds {
                self.tick += 1;
                self.now += TICK;
                let ticks = (takes / TICK.as_secs_f64()) as u64;
                self.waiting.extend((0..rate / 2).map(|_| self.tick));
                let tick = self.tick;
                self.waiting.retain(|asked| {
                    let is_waiting = tick - asked < ticks.max(1);
                    if !is_waiting {
                        self.answered.count += 1;
                        let waited = (tick - asked) as f64 * TICK.as_secs_f64();
                        self.answered.seconds += if tick - asked > 1 { waited } else { takes };
                    }
                    is_waiting
                });
                let in_flight = u32::try_from(self.waiting.len()).unwrap();
                carried = carried.max(self.pace.note(self.now, self.answered, (in_flight, 0)));
            }
            carried
        }
    }

    #[test]
    fn what_is_answered_as_usual_is_carried_and_more_as_soon_as_it_is() {
        let mut played = Played::new();
        assert_eq!(played.play(20, 20, 0.05), 10);
        assert_eq!(played.play(3, 60, 0.05), 30);
        assert_eq!(played.play(3, 60, 0.08), 30, "a little slower");
        // A few milliseconds are nothing, however many times as long.
        let mut quick = Played::new();
        quick.play(20, 20, 0.001);
        assert_eq!(quick.play(5, 100, 0.008), 50);
    }

    #[test]
    fn regression_nothing_that_piles_up_is_carried_however_suddenly_it_does() {
        for takes in [1.0, 5.0, 30.0, 3600.0] {
            let mut played = Played::new();
            assert_eq!(played.play(60, 20, 0.05), 10);
            let carried = played.play(120, 200, takes);
            assert!(carried <= 10, "{takes}: {carried}");
            assert_eq!(played.pace.claimed(9000), 0);
        }
        // And is once it is answered in time again.
        let mut played = Played::new();
        played.play(60, 20, 0.05);
        assert!(played.play(30, 200, 5.0) <= 10);
        played.play(10, 200, 0.05);
        assert_eq!(played.play(10, 200, 0.05), 100);
    }

    #[test]
    fn regression_nothing_is_carried_before_it_is_known_what_is_usual() {
        let mut hangs = Played::new();
        assert_eq!(hangs.play(120, 20, 3600.0), 0);
        let mut after = Played::new();
        after.pace.recall(Some(0.05));
        assert_eq!(after.play(60, 20, 5.0), 0, "another process knew");
        assert_eq!(after.play(60, 20, 0.05), 10);
    }

    #[test]
    fn tunnels_are_carried_though_nothing_is_answered_any_more() {
        let (pace, begun) = (Pace::default(), Instant::now());
        for second in 0..60 {
            let now = begun + Duration::from_secs(second);
            assert_eq!(pace.note(now, Answered::default(), (7, 7)), 7);
            assert_eq!(pace.claimed(7), 7);
        }
    }

    #[test]
    fn what_lasts_becomes_usual() {
        let mut played = Played::new();
        played.play(60, 20, 0.05);
        assert_eq!(played.play(60, 20, 2.0), 10);
        assert!(played.play(7200, 20, 2.0) >= 30);
    }
}
