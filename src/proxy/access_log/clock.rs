//! What time it is, as text. What stays the same for a second is made once a second.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The second it was when it was last asked, as text.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    rfc3339: String,
    common: String,
}

impl Clock {
    /// `2026-11-21T12:34:56.789Z`
    pub(super) fn rfc3339(&mut self, out: &mut Vec<u8>) {
        let millisecond = self.look();
        out.extend_from_slice(self.rfc3339.as_bytes());
        out.push(b'.');
        thousandths(out, millisecond);
        out.push(b'Z');
    }

    /// `21/Nov/2026:12:34:56 +0000`, as in the common log format.
    pub(super) fn common(&mut self, out: &mut Vec<u8>) {
        self.look();
        out.extend_from_slice(self.common.as_bytes());
    }

    /// Brings the texts up to date; the millisecond of the second.
    fn look(&mut self) -> u32 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if self.second != now.as_secs() || self.rfc3339.is_empty() {
            self.set(now.as_secs());
        }
        now.subsec_millis()
    }

    #[cold]
    fn set(&mut self, second: u64) {
        let time = i64::try_from(second)
            .ok()
            .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let text = time.format(&Rfc3339).unwrap_or_default();
        self.rfc3339 = text.trim_end_matches('Z').to_owned();
        self.common = format!(
            "{:02}/{}/{}:{:02}:{:02}:{:02} +0000",
            time.day(),
            &time.month().to_string()[..3],
            time.year(),
            time.hour(),
            time.minute(),
            time.second(),
        );
        self.second = second;
    }
}

/// Three digits.
pub(super) fn thousandths(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(
        &[value / 100, value / 10 % 10, value % 10].map(|digit| b'0' + digit as u8),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_written_as_each_format_wants_it() {
        let mut clock = Clock::default();
        clock.set(1_767_225_599);
        assert_eq!(clock.rfc3339, "2025-12-31T23:59:59");
        assert_eq!(clock.common, "31/Dec/2025:23:59:59 +0000");
        let mut out = Vec::new();
        thousandths(&mut out, 7);
        assert_eq!(out, b"007");
    }
}
