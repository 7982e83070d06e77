//! Whether an endpoint answers about as quickly as it is used to: what it has in flight while it does not has piled up, and is no
//! sign of what it can carry. Has no clock.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// How quickly an endpoint answers, and how quickly it is used to. Written by the control thread at ticks, read for the status.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Course>);

#[derive(Debug, Default)]
struct Course {
    /// When the span began that runs, and what had been answered by then.
    begun: Option<(Instant, Answered)>,
    /// Seconds that answers take usually; a mean of the last minutes. `None`: nothing is known.
    usual: Option<f64>,
    is_slow: bool,
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
    /// Takes note of what was answered by `now`, when so many are in flight.
    pub(super) fn note(&self, now: Instant, answered: Answered, in_flight: u32) {
        self.course().note(now, answered, in_flight);
    }

    /// Whether it takes much longer than usual.
    pub(super) fn is_slow(&self) -> bool {
        self.course().is_slow
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        lock(&self.0)
    }
}

impl Course {
    fn note(&mut self, now: Instant, answered: Answered, in_flight: u32) {
        let (begun, before) = *self.begun.get_or_insert((now, answered));
        let is_over = now.saturating_duration_since(begun) >= SPAN;
        let count = answered.count.saturating_sub(before.count);
        if count == 0 {
            // Nothing is asked, or it hangs.
            self.is_slow = in_flight > 0 && (self.is_slow || is_over && self.usual.is_some());
            if in_flight == 0 {
                self.begun = Some((now, answered));
            }
            return;
        }
        let mean = (answered.seconds - before.seconds).max(0.0) / count as f64;
        if is_over || count >= ENOUGH {
            self.is_slow = self
                .usual
                .is_some_and(|usual| mean > usual * MUCH && mean > usual + NOISE);
        }
        if is_over {
            // One that has become slower for good is believed to be so in the end.
            let heed = if self.is_slow { LITTLE } else { SOME };
            let usual = self.usual.unwrap_or(mean);
            self.usual = Some(usual + (mean - usual) * heed);
            self.begun = Some((now, answered));
        }
    }
}

const SPAN: Duration = Duration::from_secs(10);
/// So many answers tell before the span is over.
const ENOUGH: u64 = 20;
/// So many times what is usual is much.
const MUCH: f64 = 2.0;
/// Seconds that are no difference.
const NOISE: f64 = 0.010;
/// What a span weighs in what is usual; one that is slow.
const SOME: f64 = 0.2;
const LITTLE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as many each half second, each of which takes so long.
    struct Played {
        pace: Pace,
        now: Instant,
        answered: Answered,
    }

    impl Played {
        fn new() -> Self {
            Self {
                pace: Pace::default(),
                now: Instant::now(),
                answered: Answered::default(),
            }
        }

        fn play(&mut self, seconds: u64, (count, took): (u64, f64), in_flight: u32) -> bool {
            for _ in 0..2 * seconds {
                self.now += Duration::from_millis(500);
                self.answered.count += count;
                self.answered.seconds += took * count as f64;
                self.pace.note(self.now, self.answered, in_flight);
            }
            self.pace.is_slow()
        }
    }

    #[test]
    fn answers_that_take_more_than_twice_as_long_as_usual_are_slow_until_they_are_not() {
        let mut played = Played::new();
        assert!(!played.play(60, (50, 0.050), 10));
        assert!(!played.play(30, (50, 0.090), 10));
        assert!(played.play(1, (50, 0.400), 90), "within a second");
        assert!(played.play(30, (50, 0.400), 90));
        assert!(!played.play(15, (50, 0.060), 90));
        // A few milliseconds more are nothing, however many times as long.
        let mut quick = Played::new();
        quick.play(30, (50, 0.001), 10);
        assert!(!quick.play(30, (50, 0.008), 10));
    }

    #[test]
    fn one_that_hangs_is_slow_and_one_that_nobody_asks_is_not() {
        let mut played = Played::new();
        played.play(30, (5, 0.050), 3);
        assert!(!played.play(5, (0, 0.0), 40), "an answer may take a while");
        assert!(played.play(20, (0, 0.0), 40));
        assert!(!played.play(1, (0, 0.0), 0));
        assert!(!played.play(3600, (0, 0.0), 0));
    }

    #[test]
    fn nothing_is_slow_before_anything_is_known_and_what_lasts_becomes_usual() {
        let mut played = Played::new();
        assert!(!played.play(20, (1, 5.0), 10));
        assert!(played.play(60, (30, 20.0), 600));
        assert!(!played.play(3600, (30, 20.0), 600));
    }
}
