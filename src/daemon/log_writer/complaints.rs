//! What is said when lines are lost: at once that it happens, then once a minute how many more were, and that it is over. Pure.

use std::io;
use std::time::{Duration, Instant};

/// Between two warnings.
const PAUSE: Duration = Duration::from_secs(60);

/// What was said, and what was not yet.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Lines that were lost when it was last said.
    told: u64,
    /// When that was, within the last minute.
    warned: Option<Instant>,
    /// Why writing failed, if it did since.
    why: Option<String>,
    is_failing: bool,
    /// That writing goes on again was not said since the last warning.
    owes_good_news: bool,
}

/// What is to be said.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Say {
    /// So many lines were dropped since it was last said.
    Dropped { lines: u64, why: String },
    /// Lines are written again; so many were dropped since it was last said.
    Resumed { lines: u64 },
}

impl Complaints {
    /// Lines could not be written.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.is_failing = true;
        self.why = Some(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("{error}; make room there, and it goes on by itself")
            }
            _ => error.to_string(),
        });
    }

    /// Lines were written.
    pub(super) fn written(&mut self) {
        self.is_failing = false;
    }

    /// What there is to say now, when `lost` lines were dropped so far.
    pub(super) fn say(&mut self, lost: u64, now: Instant) -> Option<Say> {
        if self.due(now).is_some_and(|wait| wait.is_zero()) {
            self.warned = None;
        }
        let lines = lost - self.told;
        if lines > 0 && self.warned.is_none() {
            (self.told, self.warned, self.owes_good_news) = (lost, Some(now), true);
            let why = self.why.take();
            let why = why.unwrap_or_else(|| "they come faster than they can be written".to_owned());
            return Some(Say::Dropped { lines, why });
        }
        let is_over = !self.is_failing && (self.why.is_some() || lines == 0);
        if self.owes_good_news && is_over {
            (self.told, self.owes_good_news, self.why) = (lost, false, None);
            return Some(Say::Resumed { lines });
        }
        None
    }

    /// How long until there may be more to say; `None`: nothing before something happens.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        let warned = self.warned?;
        Some(PAUSE.saturating_sub(now.saturating_duration_since(warned)))
    }

    /// What there is to say is said now.
    pub(super) fn hurry(&mut self) {
        self.warned = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(lines: u64, why: &str) -> Option<Say> {
        Some(Say::Dropped {
            lines,
            why: why.to_owned(),
        })
    }

    #[test]
    fn what_to_do_about_a_full_disk_is_told() {
        let mut complaints = Complaints::default();
        complaints.failed(&io::Error::from_raw_os_error(28));
        let why =
            "No space left on device (os error 28); make room there, and it goes on by itself";
        assert_eq!(complaints.say(1, Instant::now()), dropped(1, why));
    }

    #[test]
    fn a_disk_that_is_full_is_told_of_once_a_minute() {
        let (begun, full) = (Instant::now(), io::Error::other("full"));
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut complaints = Complaints::default();
        assert_eq!(complaints.say(0, begun), None);
        assert_eq!(complaints.due(begun), None);
        complaints.failed(&full);
        assert_eq!(complaints.say(3, begun), dropped(3, "full"));
        for second in 1..60 {
            complaints.failed(&full);
            assert_eq!(complaints.say(3 + second, after(second)), None);
        }
        assert_eq!(complaints.due(after(59)), Some(Duration::from_secs(1)));
        assert_eq!(complaints.say(62, after(60)), dropped(59, "full"));
        complaints.failed(&full);
        assert_eq!(complaints.say(70, after(61)), None);
        complaints.written();
        assert_eq!(
            complaints.say(70, after(62)),
            Some(Say::Resumed { lines: 8 })
        );
        assert_eq!(complaints.say(70, after(200)), None);
        assert_eq!(complaints.due(after(200)), None);
    }

    #[test]
    fn a_reader_that_comes_and_goes_is_told_of_twice_a_minute_at_most() {
        let (begun, slow) = (Instant::now(), io::Error::other("slow"));
        let mut complaints = Complaints::default();
        let mut said = 0;
        for tenth in 0..600_u64 {
            if tenth % 2 == 0 {
                complaints.failed(&slow);
            } else {
                complaints.written();
            }
            let now = begun + Duration::from_millis(100 * tenth);
            said += usize::from(complaints.say(tenth / 2 + 1, now).is_some());
        }
        assert_eq!(said, 2);
    }

    #[test]
    fn lines_that_workers_drop_are_told_of_too() {
        let begun = Instant::now();
        let mut complaints = Complaints::default();
        complaints.written();
        let why = "they come faster than they can be written";
        assert_eq!(complaints.say(5, begun), dropped(5, why));
        let minute = begun + PAUSE;
        assert_eq!(complaints.say(9, minute), dropped(4, why));
    }

    #[test]
    fn what_was_not_said_is_said_before_the_end() {
        let begun = Instant::now();
        let mut complaints = Complaints::default();
        complaints.failed(&io::Error::other("full"));
        assert!(complaints.say(1, begun).is_some());
        complaints.failed(&io::Error::other("full"));
        assert_eq!(complaints.say(2, begun), None);
        complaints.hurry();
        assert_eq!(complaints.say(2, begun), dropped(1, "full"));
    }
}
