//! Fields that concern one connection only and must not be passed on (RFC 9110 §7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::list;

/// A `Connection` field that names what must reach the other side: an attempt to strip it (RFC 9110 §7.6.1 lets only
/// hop-by-hop options be named).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Connection names an end-to-end field")]
pub struct NamesProtected;

const COUNT: usize = 6;

/// Fields that are hop-by-hop by their own name.
static HOP_BY_HOP: [HeaderName; COUNT] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Where a name stands in [`HOP_BY_HOP`].
fn position(name: &str) -> Option<usize> {
    Some(match name {
        "connection" => 0,
        "keep-alive" => 1,
        "proxy-connection" => 2,
        "te" => 3,
        "transfer-encoding" => 4,
        "upgrade" => 5,
        _ => return None,
    })
}

/// Whether a field is hop-by-hop by its own name.
pub fn is_hop_by_hop(name: &str) -> bool {
    position(name).is_some()
}

/// The fields that `Connection` of a request names.
pub fn named_by_connection(
    headers: &HeaderMap,
) -> Result<SmallVec<[HeaderName; 2]>, NamesProtected> {
    let checked = named(headers).map(|name| match is_protected(name.as_str()) {
        true => Err(NamesProtected),
        false => Ok(name),
    });
    checked.collect()
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let is_of_connections = |option: &[u8]| {
        let known: [&[u8]; 4] = [b"keep-alive", b"close", b"upgrade", b"te"];
        known.iter().any(|known| option.eq_ignore_ascii_case(known))
    };
    list::elements(headers, &header::CONNECTION)
        .filter(move |option| !is_of_connections(option))
        // Not a field name: nothing to remove.
        .filter_map(|option| HeaderName::from_bytes(option).ok())
}

/// Whether a request accepts trailers (RFC 9110 §10.1.4); the only part of `TE` that is said again to the endpoint.
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    list::has(headers, &header::TE, "trailers")
}

/// A response that states its length twice, or codes its body in a way we do not know: two readers could see two bodies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ambiguous length of a response")]
pub struct AmbiguousLength;

/// Removes hop-by-hop fields from a response. What `Connection` names goes too, unless it is protected.
///
/// Refuses one whose framing is in doubt (RFC 9112 §6.3), which the parser has settled silently.
pub fn strip_response(headers: &mut HeaderMap<HeaderValue>) -> Result<(), AmbiguousLength> {
    let (mut lengths, mut codings, mut names_others) = (0, 0, false);
    let mut found = [false; COUNT];
    // One pass: a look-up for each name would cost more than the few fields there are.
    for (name, value) in &*headers {
        if *name == header::CONTENT_LENGTH {
            lengths += 1;
            if !is_length(value) {
                return Err(AmbiguousLength);
            }
        } else if let Some(position) = position(name.as_str()) {
            found[position] = true;
            if *name == header::TRANSFER_ENCODING {
                codings += 1;
                if !value
                    .as_bytes()
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"chunked")
                {
                    return Err(AmbiguousLength);
                }
            }
            names_others |=
                *name == header::CONNECTION && value != "keep-alive" && value != "close";
        }
    }
    if lengths + codings > 1 {
        return Err(AmbiguousLength);
    }
    if names_others {
        let named: SmallVec<[HeaderName; 2]> = named(headers)
            .filter(|name| !is_protected(name.as_str()))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for (name, found) in HOP_BY_HOP.iter().zip(found) {
        if found {
            headers.remove(name);
        }
    }
    Ok(())
}

/// Whether the length is stated once, as a number, or not at all (RFC 9110 §8.6).
pub fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    lengths.next().is_none_or(is_length) && lengths.next().is_none()
}

fn is_length(value: &HeaderValue) -> bool {
    (1..20).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_digit)
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
    use crate::message::testing::headers;

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
    fn every_hop_by_hop_field_stands_where_it_is_looked_for() {
        for (expected, name) in HOP_BY_HOP.iter().enumerate() {
            assert_eq!(position(name.as_str()), Some(expected), "{name}");
        }
    }

    #[test]
    fn responses_lose_what_concerns_the_connection_only() {
        let mut response = headers(&[
            ("connection", "x-a"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("upgrade", "x"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(strip_response(&mut response), Ok(()));
        assert_eq!(response, headers(&[("x-b", "2")]));
    }

    #[test]
    fn responses_keep_protected_fields_and_nothing_else_that_is_named() {
        let mut response = headers(&[
            ("connection", "x-a, Set-Cookie, x-b"),
            ("x-a", "1"),
            ("set-cookie", "a=1"),
            ("x-b", "2"),
        ]);
        assert_eq!(strip_response(&mut response), Ok(()));
        assert_eq!(response, headers(&[("set-cookie", "a=1")]));
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
