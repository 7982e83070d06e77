//! How soon a certificate or a revocation list ends. Knows no clock: takes the time as an argument.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How soon something ends that was not renewed in time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Urgency {
    /// Within two weeks.
    Soon,
    /// Within a day, or it has ended.
    Now,
}

/// What is not worth a word yet: who renews does so before a third of the time is left, which of 90 days are 30.
const SOON: i64 = 14 * DAY;
const DAY: i64 = 24 * HOUR;
const HOUR: i64 = 60 * 60;

/// How urgent it is that `end` comes, if it is. Both in seconds since 1970-01-01 UTC.
pub fn urgency(end: i64, now: i64) -> Option<Urgency> {
    match end.saturating_sub(now) {
        ..DAY => Some(Urgency::Now),
        DAY..SOON => Some(Urgency::Soon),
        _ => None,
    }
}

/// A time in seconds since 1970-01-01 UTC as a date (RFC 3339).
pub fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

/// A length of time, as a person says it: in days, or in hours below one day.
pub(super) fn lasting(seconds: i64) -> String {
    let (count, unit) = if seconds >= DAY {
        (seconds / DAY, "day")
    } else {
        (seconds / HOUR, "hour")
    };
    match count {
        0 => "less than an hour".to_owned(),
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_are_soon_and_one_day_is_now() {
        let now = 1_800_000_000;
        for (left, expected) in [
            (SOON, None),
            (SOON - 1, Some(Urgency::Soon)),
            (DAY, Some(Urgency::Soon)),
            (DAY - 1, Some(Urgency::Now)),
            (0, Some(Urgency::Now)),
            (-SOON, Some(Urgency::Now)),
        ] {
            assert_eq!(urgency(now + left, now), expected, "{left}");
        }
        assert_eq!(urgency(i64::MAX, i64::MIN), None);
    }

    #[test]
    fn dates_are_those_of_utc() {
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(date(i64::MAX), "9223372036854775807");
    }
}
