//! The field `traceparent` (W3C Trace Context, level 1): whether one can be passed on, and what it says.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::hexadecimal;

/// `traceparent`: which trace a request belongs to, and what asked.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`: what tracing systems add to it. Means nothing without it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A trace's id: not all zeros.
pub type TraceId = [u8; 16];
/// The id of a span of it: not all zeros.
pub type SpanId = [u8; 8];

/// What a valid `traceparent` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// What asked.
    pub span: SpanId,
    /// Whether who asked keeps its own span (§3.2.2.5.1).
    pub is_sampled: bool,
}

impl Parent {
    /// As a field's value, in the one version there is.
    pub fn to_value(self) -> HeaderValue {
        let mut value = [b'-'; LENGTH];
        value[..2].copy_from_slice(b"00");
        hexadecimal::write(&self.trace, &mut value[TRACE]);
        hexadecimal::write(&self.span, &mut value[SPAN]);
        hexadecimal::write(&[u8::from(self.is_sampled)], &mut value[FLAGS]);
        HeaderValue::from_bytes(&value).expect("hexadecimal digits are valid in a field")
    }
}

/// Whether `headers` hold exactly one `traceparent`, and a valid one (§3.2).
pub fn has_valid_parent(headers: &HeaderMap) -> bool {
    valid(headers).is_some()
}

/// What that says.
pub fn parent(headers: &HeaderMap) -> Option<Parent> {
    let value = valid(headers)?;
    let mut parent = Parent {
        trace: [0; 16],
        span: [0; 8],
        is_sampled: false,
    };
    let mut flags = [0];
    read_hexadecimal(&value[TRACE], &mut parent.trace);
    read_hexadecimal(&value[SPAN], &mut parent.span);
    read_hexadecimal(&value[FLAGS], &mut flags);
    parent.is_sampled = flags[0] & 1 == 1;
    Some(parent)
}

fn valid(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.as_bytes();
    (is_valid(value) && values.next().is_none()).then_some(value)
}

/// Which trace a request belongs to, where it has a valid `traceparent`: 32 hexadecimal digits.
pub fn trace_id(headers: &HeaderMap) -> Option<[u8; 32]> {
    valid(headers)?[TRACE].try_into().ok()
}

/// A trace's id as 32 hexadecimal digits.
pub fn in_digits(trace: TraceId) -> [u8; 32] {
    let mut digits = [0; 32];
    hexadecimal::write(&trace, &mut digits);
    digits
}

/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`: version, trace, parent, flags. A later version may go on
/// after a further `-` (§3.2.4).
fn is_valid(value: &[u8]) -> bool {
    let Some((known, later)) = value.split_at_checked(LENGTH) else {
        return false;
    };
    let mut parts = known.split(|byte| *byte == b'-');
    let (Some([v, w]), Some(trace), Some(parent), Some(flags), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return false;
    };
    let version = [*v, *w];
    let is_id = |id: &[u8], length| {
        id.len() == length && is_hexadecimal(id) && id.iter().any(|byte| *byte != b'0')
    };
    is_hexadecimal(&version)
        && version != *b"ff"
        && is_id(trace, 32)
        && is_id(parent, 16)
        && flags.len() == 2
        && is_hexadecimal(flags)
        && (later.is_empty() || version != *b"00" && later[0] == b'-')
}

/// In lower case only (§3.2.1).
fn is_hexadecimal(digits: &[u8]) -> bool {
    digits
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn read_hexadecimal(digits: &[u8], bytes: &mut [u8]) {
    let value = |digit: u8| match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit & 15,
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0]) << 4 | value(pair[1]);
    }
}

const TRACE: Range<usize> = 3..35;
const SPAN: Range<usize> = 36..52;
const FLAGS: Range<usize> = 53..55;
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn valid_parents_are_told_from_others() {
        for (value, expected) in [
            (format!("00-{TRACE}-{PARENT}-01"), true),
            (format!("00-{TRACE}-{PARENT}-ff"), true),
            (format!("cc-{TRACE}-{PARENT}-01"), true),
            (
                format!("cc-{TRACE}-{PARENT}-01-what.the.future.brings"),
                true,
            ),
            (format!("cc-{TRACE}-{PARENT}-01.what"), false),
            (format!("00-{TRACE}-{PARENT}-01-"), false),
            (format!("ff-{TRACE}-{PARENT}-01"), false),
            (format!("0-{TRACE}-{PARENT}-01"), false),
            (format!("00-{TRACE}-{PARENT}-1"), false),
            (format!("00-{TRACE}-{PARENT}"), false),
            (format!("00-{TRACE}-{PARENT}-0g"), false),
            (format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}0-{}-01", &PARENT[1..]), false),
            (format!("00_{TRACE}_{PARENT}_01"), false),
            (String::new(), false),
        ] {
            let headers = [(TRACEPARENT, HeaderValue::from_str(&value).unwrap())];
            let headers = headers.into_iter().collect();
            assert_eq!(has_valid_parent(&headers), expected, "{value}");
        }
        assert!(!has_valid_parent(&HeaderMap::new()));
    }

    #[test]
    fn trace_is_named_by_a_valid_parent_only() {
        let headers = |value: &str| -> HeaderMap {
            [(TRACEPARENT, HeaderValue::from_str(value).unwrap())]
                .into_iter()
                .collect()
        };
        let valid = headers(&format!("00-{TRACE}-{PARENT}-01"));
        assert_eq!(
            trace_id(&valid).as_ref().map(|id| &id[..]),
            Some(TRACE.as_bytes())
        );
        assert_eq!(trace_id(&headers(&format!("00-{TRACE}-{PARENT}"))), None);
        assert_eq!(trace_id(&HeaderMap::new()), None);
    }

    #[test]
    fn parent_is_read_as_it_is_written() {
        for (flags, is_sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let value = HeaderValue::from_str(&format!("00-{TRACE}-{PARENT}-{flags}")).unwrap();
            let parent = parent(&[(TRACEPARENT, value)].into_iter().collect()).unwrap();
            assert_eq!(parent.is_sampled, is_sampled);
            let written = format!("00-{TRACE}-{PARENT}-0{}", u8::from(is_sampled));
            assert_eq!(parent.to_value(), written);
        }
    }

    #[test]
    fn two_parents_are_none() {
        let value = HeaderValue::from_str(&format!("00-{TRACE}-{PARENT}-01")).unwrap();
        let headers = [(TRACEPARENT, value.clone()), (TRACEPARENT, value)];
        assert!(!has_valid_parent(&headers.into_iter().collect()));
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = is_valid(&bytes);
        }

        #[test]
        fn validity_is_what_the_grammar_says(value in "(00|01|ff|0)-[0-9a-f]{31,32}-[0-9a-f]{15,16}-[0-9a-g]{2}(-x|x)?") {
            let grammar = regex::Regex::new("^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|01-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?)$").unwrap();
            prop_assert_eq!(is_valid(value.as_bytes()), grammar.is_match(&value));
        }
    }
}
