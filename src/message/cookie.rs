//! Cookies of a request (RFC 6265 §4.2): found by name, and taken out. Values are bytes and mean nothing here.

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// The values of all cookies called `name`, in order. A client may send several, for other paths and domains.
pub fn values<'h>(headers: &'h HeaderMap, name: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|field| pairs(field.as_bytes()))
        .filter_map(move |pair| value_of(pair, name))
}

/// Takes out every cookie called `name`; all else stays as it was written.
pub fn remove(headers: &mut HeaderMap, name: &[u8]) {
    if values(headers, name).next().is_none() {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|field| without(field.as_bytes(), name))
        .collect();
    headers.remove(COOKIE);
    for field in kept {
        headers.append(COOKIE, field);
    }
}

/// `field` without cookies called `name`; `None` where nothing is left.
fn without(field: &[u8], name: &[u8]) -> Option<HeaderValue> {
    let mut kept = Vec::with_capacity(field.len());
    for pair in pairs(field).filter(|pair| value_of(pair, name).is_none()) {
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(pair);
    }
    if kept.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&kept).ok()
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pairs = field.split(|byte| *byte == b';');
    pairs
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

/// Names are compared with case (RFC 6265 §5.3), values are taken without the quotes that some clients send.
fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let value = pair
        .strip_prefix(name)?
        .trim_ascii_start()
        .strip_prefix(b"=")?
        .trim_ascii_start();
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[&str]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|field| (COOKIE, HeaderValue::from_str(field).unwrap()));
        fields.collect()
    }

    #[test]
    fn cookies_are_found_by_name_wherever_they_stand() {
        for (fields, expected) in [
            (&[][..], &[][..]),
            (&["a=1"], &["1"]),
            (&["b=2; a=1"], &["1"]),
            (&["b=2;a=1;c"], &["1"]),
            (&["a=1; a=2", "a=3"], &["1", "2", "3"]),
            (&["a=\"1\""], &["1"]),
            (&["a = 1"], &["1"]),
            (&["a="], &[""]),
            (&["a=b=c"], &["b=c"]),
            (&["A=1; aa=1; a; b=a=1"], &[]),
        ] {
            let headers = headers(fields);
            let found: Vec<_> = values(&headers, b"a").collect();
            let expected: Vec<_> = expected.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(found, expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_as_they_were() {
        for (fields, expected) in [
            (&["a=1"][..], &[][..]),
            (&["b=2; a=1; c=\"3\""], &["b=2; c=\"3\""]),
            (&["a=1;b=2", "a=3", "c"], &["b=2", "c"]),
            // Nothing to take out: not even rewritten.
            (&["b=2;c=3 "], &["b=2;c=3 "]),
        ] {
            let mut headers = headers(fields);
            remove(&mut headers, b"a");
            let left: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(left, expected, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn after_removal_none_is_left_and_the_others_are(
            pairs in prop::collection::vec("[ab]{1,2}(=[a-c\"= ]{0,3})?", 0..8),
            spaces in "[ ;]{1,3}",
        ) {
            let mut headers = headers(&[&pairs.join(&format!(";{spaces}"))]);
            let others = |headers: &HeaderMap| -> Vec<Vec<u8>> {
                [&b"b"[..], b"ab", b"aa", b"ba", b"bb"]
                    .iter()
                    .flat_map(|name| values(headers, name).map(<[u8]>::to_vec).collect::<Vec<_>>())
                    .collect()
            };
            let before = others(&headers);
            remove(&mut headers, b"a");
            prop_assert_eq!(values(&headers, b"a").count(), 0);
            prop_assert_eq!(others(&headers), before);
        }
    }
}
