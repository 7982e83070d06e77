//! Fields that concern one connection only and must not be passed on (RFC 9110 §7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// A `Connection` field that names what must reach the other side: an attempt to strip it (RFC 9110 §7.6.1 lets only
/// hop-by-hop options be named).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Connection names an end-to-end field")]
pub struct NamesProtected;

/// Whether a field is hop-by-hop by its own name.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

/// The fields that `Connection` names.
pub fn named_by_connection(
    headers: &HeaderMap,
) -> Result<SmallVec<[HeaderName; 2]>, NamesProtected> {
    let mut names = SmallVec::new();
    for value in headers.get_all(header::CONNECTION) {
        if value == "keep-alive" {
            // What servers say that say anything.
            continue;
        }
        for option in value.as_bytes().split(|byte| *byte == b',') {
            // Not a field name: nothing to remove.
            let Ok(name) = HeaderName::from_bytes(option.trim_ascii()) else {
                continue;
            };
            match name.as_str() {
                "close" | "keep-alive" | "upgrade" | "te" => {}
                name if is_protected(name) => return Err(NamesProtected),
                _ => names.push(name),
            }
        }
    }
    Ok(names)
}

/// Whether a request accepts trailers (RFC 9110 §10.1.4); the only part of `TE` that is said again to the endpoint.
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// A response that states its length twice, or codes its body in a way we do not know: two readers could see two bodies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ambiguous length of a response")]
pub struct AmbiguousLength;

/// Removes hop-by-hop fields from a response. What `Connection` names goes too, unless it is protected.
///
/// Refuses one whose framing is in doubt (RFC 9112 §6.3), which the parser has settled silently.
pub fn strip_response(headers: &mut HeaderMap<HeaderValue>) -> Result<(), AmbiguousLength> {
    let mut names: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()))
        .cloned()
        .collect();
    if !has_plain_length(headers) {
        return Err(AmbiguousLength);
    }
    if names.is_empty() {
        return Ok(());
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() || headers.contains_key(header::CONTENT_LENGTH) {
            return Err(AmbiguousLength);
        }
    }
    if let Ok(named) = named_by_connection(headers) {
        names.extend(named);
    }
    for name in names {
        headers.remove(name);
    }
    Ok(())
}

/// Whether the length is stated once, as a number, or not at all (RFC 9110 §8.6).
pub fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        (1..20).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_digit)
    };
    lengths.next().is_none_or(is_number) && lengths.next().is_none()
}

/// Whether a field is end-to-end and acted on: `Connection` may not name it, and it has no place among trailers.
pub fn is_protected(name: &str) -> bool {
    name.starts_with("content-")
        || name.starts_with("x-forwarded-")
        || matches!(
            name,
            "host"
                | "authorization"
                | "cookie"
                | "set-cookie"
                | "forwarded"
                | "x-real-ip"
                | "x-request-id"
                | "via"
                | "trailer"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
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

    #[test]
    fn connection_names_what_goes() {
        let named = named_by_connection(&headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other,,@"),
        ]))
        .unwrap();
        assert_eq!(
            named.as_slice(),
            [
                HeaderName::from_static("x-secret"),
                HeaderName::from_static("x-other")
            ]
        );
    }

    #[test]
    fn connection_may_not_name_end_to_end_fields() {
        for option in [
            "host",
            "Content-Type",
            "authorization",
            "X-Forwarded-For",
            "close, cookie",
        ] {
            assert_eq!(
                named_by_connection(&headers(&[("connection", option)])),
                Err(NamesProtected),
                "{option}"
            );
        }
    }

    #[test]
    fn responses_lose_what_concerns_the_connection_only() {
        let mut response = headers(&[
            ("connection", "x-a"),
            ("keep-alive", "timeout=5"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(strip_response(&mut response), Ok(()));
        assert_eq!(response, headers(&[("x-b", "2")]));
    }

    #[test]
    fn responses_of_ambiguous_length_are_refused() {
        for fields in [
            &[("content-length", "5"), ("content-length", "5")][..],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            &[("transfer-encoding", "gzip, chunked")],
            &[("content-length", "5, 5")],
            &[("content-length", "")],
            &[("content-length", "+5")],
        ] {
            assert_eq!(
                strip_response(&mut headers(fields)),
                Err(AmbiguousLength),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn trailers_are_found_among_codings() {
        assert!(accepts_trailers(&headers(&[("te", "gzip;q=1, Trailers")])));
        assert!(!accepts_trailers(&headers(&[("te", "gzip")])));
    }
}
