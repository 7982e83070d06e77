//! The most that was seen of a number lately. Has no clock: it is told the time.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// The highest of the numbers seen within the last minute, and the last day. Written by the control thread at ticks, read for
/// the status: nothing that requests do waits for it.
#[derive(Debug)]
pub struct Peaks {
    begun: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    minute: Window<6>,
    day: Window<24>,
}

impl Default for Peaks {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            seen: Mutex::default(),
        }
    }
}

impl Peaks {
    /// `number` is how it is at `now`.
    pub(super) fn note(&self, now: Instant, number: u32) {
        let passed = now.saturating_duration_since(self.begun);
        let mut seen = self.seen();
        seen.minute.note(passed, SPAN_OF_MINUTE, number);
        seen.day.note(passed, SPAN_OF_DAY, number);
    }

    /// Another process saw these within the last minute and the last day: they count from `now`.
    pub fn recall(&self, now: Instant, (minute, day): (u32, u32)) {
        let passed = now.saturating_duration_since(self.begun);
        let mut seen = self.seen();
        seen.minute.note(passed, SPAN_OF_MINUTE, minute);
        seen.day.note(passed, SPAN_OF_DAY, day);
    }

    /// What was seen within the last minute and the last day.
    pub fn remember(&self) -> (u32, u32) {
        (self.last_minute(), self.last_day())
    }

    /// The highest of the last minute, within ten seconds.
    pub(super) fn last_minute(&self) -> u32 {
        self.seen().minute.highest()
    }

    /// The highest of the last day, within an hour.
    pub(super) fn last_day(&self) -> u32 {
        self.seen().day.highest()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

const SPAN_OF_MINUTE: Duration = Duration::from_secs(10);
const SPAN_OF_DAY: Duration = Duration::from_secs(3600);

/// The highest numbers of the last `N` spans of time.
#[derive(Debug)]
struct Window<const N: usize> {
    highest: [u32; N],
    /// The span that runs, counted from the first.
    span: u64,
}

impl<const N: usize> Default for Window<N> {
    fn default() -> Self {
        Self {
            highest: [0; N],
            span: 0,
        }
    }
}

impl<const N: usize> Window<N> {
    fn note(&mut self, passed: Duration, width: Duration, number: u32) {
        let span = passed.as_secs() / width.as_secs();
        // Every place at most once, however long nobody noted anything.
        for span in (self.span + 1..=span).take(N) {
            self.highest[(span % N as u64) as usize] = 0;
        }
        self.span = span.max(self.span);
        let highest = &mut self.highest[(self.span % N as u64) as usize];
        *highest = number.max(*highest);
    }

    fn highest(&self) -> u32 {
        self.highest.into_iter().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_what_another_process_saw_counts_from_now() {
        let (before, peaks) = (Peaks::default(), Peaks::default());
        before.note(before.begun, 40);
        before.note(before.begun + Duration::from_secs(600), 7);
        let at = |seconds| peaks.begun + Duration::from_secs(seconds);
        peaks.note(at(1), 3);
        peaks.recall(at(1), before.remember());
        assert_eq!(peaks.remember(), (7, 40));
        peaks.note(at(61), 0);
        assert_eq!(peaks.remember(), (0, 40));
        peaks.note(at(25 * 3600), 0);
        assert_eq!(peaks.remember(), (0, 0));
    }

    #[test]
    fn peaks_are_forgotten_after_their_time() {
        let peaks = Peaks::default();
        let at = |seconds| peaks.begun + Duration::from_secs(seconds);
        peaks.note(at(5), 40);
        peaks.note(at(30), 7);
        assert_eq!((peaks.last_minute(), peaks.last_day()), (40, 40));
        peaks.note(at(59), 1);
        assert_eq!(peaks.last_minute(), 40);
        peaks.note(at(60), 1);
        assert_eq!((peaks.last_minute(), peaks.last_day()), (7, 40));
        peaks.note(at(24 * 3600 - 1), 0);
        assert_eq!((peaks.last_minute(), peaks.last_day()), (0, 40));
        peaks.note(at(24 * 3600), 2);
        assert_eq!(peaks.last_day(), 2);
        // Long gone, and out of order.
        peaks.note(at(90 * 24 * 3600), 3);
        peaks.note(at(9), 1);
        assert_eq!((peaks.last_minute(), peaks.last_day()), (3, 3));
    }
}
