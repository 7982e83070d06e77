//! Small values with a unit or a bound. Below every layer: knows nothing of the rest.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A configured name: of a listener, an upstream, an endpoint or a route. Cheap to clone.
pub type Name = Arc<str>;

/// An endpoint's relative share, 1 to 1000. Default 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Weight(NonZeroU16);

impl Weight {
    /// The default share.
    pub const ONE: Self = Self(NonZeroU16::MIN);
    /// The largest share.
    pub const MAX: u16 = 1000;

    /// The share as a number, 1 to 1000.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<i64> for Weight {
    type Error = OutOfRange;

    fn try_from(value: i64) -> Result<Self, OutOfRange> {
        u16::try_from(value)
            .ok()
            .filter(|value| *value <= Self::MAX)
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or_else(|| OutOfRange {
                value,
                low: 1,
                high: i64::from(Self::MAX),
            })
    }
}

/// A number outside of its bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be {low}–{high}, got {value}")]
pub struct OutOfRange {
    value: i64,
    low: i64,
    high: i64,
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `n` bytes.
    pub const fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// `n` × 1024 bytes.
    pub const fn kibibytes(n: u64) -> Self {
        Self(n * 1024)
    }

    /// The size in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The size in bytes, for lengths in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (unit, name) in UNITS {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Which version of its code an app server says it runs: 1 to 64 printable ASCII characters. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AppVersion(Arc<str>);

impl AppVersion {
    /// The longest, in bytes.
    pub const LONGEST: usize = 64;

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&[u8]> for AppVersion {
    type Error = &'static str;

    /// Of what was said, without white space around it; or why that is no version.
    fn try_from(said: &[u8]) -> Result<Self, Self::Error> {
        let said = said.trim_ascii();
        if said.is_empty() {
            return Err("empty");
        }
        if said.len() > Self::LONGEST {
            return Err("longer than 64 bytes");
        }
        let is_printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        match std::str::from_utf8(said) {
            Ok(text) if said.iter().all(is_printable) => Ok(Self(text.into())),
            Ok(_) | Err(_) => Err("not printable ASCII"),
        }
    }
}

impl fmt::Display for AppVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whole seconds from 1970 (UTC) to `time`; before that, none.
pub fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}

/// The same in milliseconds.
pub fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_is_one_to_a_thousand() {
        assert!(Weight::try_from(0).is_err());
        assert!(Weight::try_from(-1).is_err());
        assert!(Weight::try_from(1001).is_err());
        assert_eq!(Weight::try_from(1).map(Weight::get), Ok(1));
        assert_eq!(Weight::try_from(1000).map(Weight::get), Ok(1000));
        assert_eq!(
            Weight::try_from(0).unwrap_err().to_string(),
            "must be 1–1000, got 0"
        );
    }

    #[test]
    fn byte_size_prints_in_its_largest_whole_unit() {
        assert_eq!(ByteSize::bytes(100).to_string(), "100B");
        assert_eq!(ByteSize::kibibytes(64).to_string(), "64KiB");
        assert_eq!(ByteSize::kibibytes(2048).to_string(), "2MiB");
    }

    #[test]
    fn version_is_a_short_printable_text() {
        let read = |said: &[u8]| AppVersion::try_from(said).map(|it| it.to_string());
        assert_eq!(read(b" 42-rc.1 (main) \t"), Ok("42-rc.1 (main)".to_owned()));
        assert_eq!(read(&[b'x'; 64]), Ok("x".repeat(64)));
        assert_eq!(read(&[b'x'; 65]), Err("longer than 64 bytes"));
        assert_eq!(read(b"  "), Err("empty"));
        for odd in ["v\u{e9}".as_bytes(), b"a\tb", b"a\0", b"\xff", b"a\nb"] {
            assert_eq!(read(odd), Err("not printable ASCII"), "{odd:?}");
        }
    }
}
