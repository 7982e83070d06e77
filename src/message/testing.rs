//! Header fields for tests.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields of these names and values, in this order.
pub(crate) fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}
