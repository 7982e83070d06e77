//! Fields whose value is a list (RFC 9110 §5.6.1), over all their lines. Knows no quoted strings: the lists read with it have
//! none that matter.

use http::header::{HeaderMap, HeaderName};

/// The elements of the list under `name`, without those that are empty.
pub fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether `option` is listed under `name`, in any case.
pub fn has(headers: &HeaderMap, name: &HeaderName, option: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(option.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::header::CONNECTION;

    use super::*;
    use crate::message::testing::headers;

    #[test]
    fn elements_are_those_of_all_lines_without_spaces_and_empty_ones() {
        let headers = headers(&[
            ("connection", "a, B\t,,"),
            ("upgrade", "x"),
            ("connection", ""),
            ("connection", ",c"),
        ]);
        let found: Vec<_> = elements(&headers, &CONNECTION).collect();
        assert_eq!(found, [b"a", b"B", b"c"]);
        assert!(has(&headers, &CONNECTION, "b"));
        assert!(!has(&headers, &CONNECTION, "x"));
    }
}
