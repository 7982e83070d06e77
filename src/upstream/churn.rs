//! Whether an endpoint says another version again and again, as one does whose header names the process and not its code. Has no
//! clock: it is told the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many other versions within [`WINDOW`] are too many to be told one by one.
const MANY: usize = 8;
/// After so long with the same version it is stable again.
const WINDOW: Duration = Duration::from_secs(600);

/// When an endpoint was last found to run another version.
#[derive(Clone, Debug, Default)]
pub struct Churn {
    /// The latest times, oldest first; no more than [`MANY`].
    times: VecDeque<Instant>,
    is_unstable: bool,
}

impl Churn {
    /// Whether its version changes so often that the changes are no news.
    pub fn is_unstable(&self) -> bool {
        self.is_unstable
    }

    /// Looked at `now`; `is_other`: it runs another version than before.
    pub(super) fn note(&mut self, is_other: bool, now: Instant) {
        let is_past = |time: &Instant| now.saturating_duration_since(*time) >= WINDOW;
        if self.times.back().is_some_and(is_past) {
            *self = Self::default();
        }
        if !is_other {
            return;
        }
        self.times.push_back(now);
        if self.times.len() > MANY {
            self.times.pop_front();
        }
        let is_full = self.times.len() == MANY;
        self.is_unstable |= is_full && !self.times.front().is_some_and(is_past);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_within_ten_minutes_are_too_many_until_ten_minutes_bring_none() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut churn = Churn::default();
        for second in 0..7 {
            churn.note(true, at(second));
            churn.note(false, at(second));
        }
        assert!(!churn.is_unstable());
        churn.note(true, at(599));
        assert!(churn.is_unstable());
        churn.note(true, at(1198));
        assert!(churn.is_unstable(), "it goes on");
        churn.note(false, at(1797));
        assert!(churn.is_unstable(), "not long enough");
        churn.note(false, at(1798));
        assert!(!churn.is_unstable());
        churn.note(true, at(1799));
        assert!(!churn.is_unstable(), "it counts from the beginning");
    }

    #[test]
    fn a_version_every_two_minutes_is_a_busy_day() {
        let begin = Instant::now();
        let mut churn = Churn::default();
        for number in 0..100 {
            churn.note(true, begin + Duration::from_secs(120) * number);
            assert!(!churn.is_unstable());
        }
    }
}
