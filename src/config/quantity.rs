//! Durations and sizes as they are written: `"250ms"`, `"64KiB"`. Knows no key.

use std::time::Duration;

use crate::units::ByteSize;

/// Understands `250ms`, `2s`, `1m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be a duration such as \"5s\" (units: ms, s, m, h), got {text:?}");
    let (count, unit) = split(text).ok_or_else(wrong)?;
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    match count.checked_mul(unit).map(Duration::from_millis) {
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(format!("must be at most \"8760h\" (a year), got {text:?}")),
    }
}

/// Understands `512B`, `64KiB`, `1MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    let wrong =
        || format!("must be a size such as \"64KiB\" (units: B, KiB, MiB, GiB), got {text:?}");
    let (count, unit) = split(text).ok_or_else(wrong)?;
    let unit: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    match count.checked_mul(unit) {
        Some(bytes) if bytes <= LARGEST => Ok(ByteSize::bytes(bytes)),
        _ => Err(format!("must be at most \"1048576GiB\", got {text:?}")),
    }
}

/// A count and its unit, if the text is one directly followed by the other. A count too large for any unit is the largest.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let (count, unit) = text.split_at(digits);
    Some((count.parse().unwrap_or(u64::MAX), unit))
}

const LONGEST: Duration = Duration::from_secs(8760 * 3600); // so that no moment in time plus a duration overflows
const LARGEST: u64 = 1 << 50; // so that sums of sizes never overflow

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_four_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("8760h"), Ok(LONGEST));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_wrong_duration_is_told_the_right_form() {
        for text in [
            "", "5", "s", "-5s", "1.5s", "5 s", "5S", "1h30m", "5sec", "5µs", " 5s",
        ] {
            let message = duration(text).unwrap_err();
            assert!(
                message.starts_with("must be a duration such as \"5s\""),
                "{message}"
            );
        }
        for text in ["8761h", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(
                duration(text),
                Err(format!("must be at most \"8760h\" (a year), got {text:?}"))
            );
        }
    }

    #[test]
    fn sizes_have_four_units() {
        assert_eq!(size("512B"), Ok(ByteSize::bytes(512)));
        assert_eq!(size("64KiB"), Ok(ByteSize::kibibytes(64)));
        assert_eq!(size("1MiB"), Ok(ByteSize::kibibytes(1024)));
        assert_eq!(size("1GiB"), Ok(ByteSize::bytes(1 << 30)));
    }

    #[test]
    fn a_wrong_size_is_told_the_right_form() {
        for text in ["", "64", "64kb", "64KB", "64K", "1.5MiB", "-1B", "64 KiB"] {
            let message = size(text).unwrap_err();
            assert!(
                message.starts_with("must be a size such as \"64KiB\""),
                "{message}"
            );
        }
        assert!(
            size("99999999999999999999GiB")
                .unwrap_err()
                .starts_with("must be at most")
        );
    }
}
