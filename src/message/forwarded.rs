//! Fields that tell an endpoint who asked and how: removed when a stranger sends them, set by us.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::forwarded_field::{parse, push_for, push_pair};

/// `X-Forwarded-For`: the clients' addresses, nearest last.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`: `http` or `https`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`: the host as asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Port`: the port asked at.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `X-Request-Id`: one request, in all logs.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Marks copies of requests for a mirror.
pub const X_MIRRORED: HeaderName = HeaderName::from_static("x-mirrored");

/// Whether only a trusted proxy may send this field: endpoints act on it.
pub fn is_for_trusted(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "forwarded"
                | "x-real-ip"
                | "x-original-url"
                | "x-rewrite-url"
                | "x-request-id"
                | "x-original-uri"
                | "x-original-host"
                | "x-client-ip"
                | "true-client-ip"
                | "client-ip"
                | "x-cluster-client-ip"
                | "x-script-name"
                | "x-host"
                | "x-mirrored"
                | "client-cert"
                | "client-cert-chain"
        )
}

/// Whether no client may send this field through us, trusted or not: `Proxy` becomes `HTTP_PROXY` in CGI
/// (CVE-2016-5385), `Proxy-Authorization` was meant for us, and `a_b` and `a-b` are one name to CGI.
pub fn is_never_passed(name: &str) -> bool {
    matches!(name, "proxy" | "proxy-authorization") || name.as_bytes().contains(&b'_')
}

/// The chain with `peer` at its end: what to send as `X-Forwarded-For` when the chain so far is believed. Where it was told
/// in `Forwarded` only, its addresses are carried over.
pub fn append(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    let mut chain = Vec::new();
    for value in headers.get_all(&X_FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    if chain.is_empty() && headers.contains_key(header::FORWARDED) {
        for address in hops(headers).into_iter().rev() {
            match address {
                Some(address) => chain.extend_from_slice(address.to_string().as_bytes()),
                None => chain.extend_from_slice(b"unknown"),
            }
            chain.extend_from_slice(b", ");
        }
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).unwrap_or_else(|_| peer.clone())
}

/// What an endpoint is told of the client's connection in `Forwarded` (RFC 7239).
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The peer's address.
    pub peer: &'a str,
    /// The `Host` that was asked for.
    pub host: Option<&'a HeaderValue>,
    /// `http` or `https`.
    pub scheme: &'a HeaderValue,
}

/// `hop` as an element of `Forwarded`, behind those of proxies where the chain so far is believed. A chain that was told in
/// `X-Forwarded-For` is carried over (RFC 7239 §7.4), whatever `Forwarded` says: a proxy that knows one of the two fields passes
/// on what its client says in the other, `host` and `proto` included.
pub fn append_element(headers: &HeaderMap, believed: bool, hop: Hop<'_>) -> HeaderValue {
    let mut chain = Vec::new();
    if believed {
        let x_hops: Vec<_> = x_hops(headers).collect();
        if x_hops.is_empty() {
            for value in headers.get_all(header::FORWARDED) {
                // Behind what is malformed our element could be read as a part of it.
                chain.extend_from_slice(match parse(value.as_bytes()) {
                    Ok(_) => value.as_bytes(),
                    Err(_) => b"for=unknown",
                });
                chain.extend_from_slice(b", ");
            }
        } else {
            for address in x_hops.into_iter().rev() {
                match address {
                    Some(address) => push_for(&mut chain, &address.to_string()),
                    None => chain.extend_from_slice(b"for=unknown"),
                }
                chain.extend_from_slice(b", ");
            }
        }
    }
    let own = chain.len();
    push_for(&mut chain, hop.peer);
    if let Some(host) = hop.host {
        push_pair(&mut chain, "host", host.as_bytes());
    }
    push_pair(&mut chain, "proto", hop.scheme.as_bytes());
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes);
    value(&chain)
        .or_else(|_| value(&chain[own..]))
        .unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}

/// The client's address: the right-most in the chain that is not a trusted proxy's; `peer` where there is none. The chain
/// is that of `X-Forwarded-For`, or where that is missing the one of `Forwarded`.
pub fn client_address(headers: &HeaderMap, peer: SocketAddr, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer.ip(), trusted) {
        peer.ip()
    } else if headers.contains_key(&X_FORWARDED_FOR) {
        nearest_stranger(peer.ip(), x_hops(headers), trusted)
    } else {
        nearest_stranger(peer.ip(), hops(headers).into_iter(), trusted)
    }
}

/// The first of `hops` that is not a trusted proxy's; `client`, or the last of them, where there is none.
fn nearest_stranger(
    mut client: IpAddr,
    hops: impl Iterator<Item = Option<IpAddr>>,
    trusted: &[IpNet],
) -> IpAddr {
    for address in hops {
        // What cannot be read ends the chain: beyond it nothing is vouched for.
        let Some(address) = address else { break };
        client = address;
        if !is_trusted(client, trusted) {
            break;
        }
    }
    client
}

/// The addresses in `X-Forwarded-For`, nearest first; `None` for what is no address.
fn x_hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values: SmallVec<[&HeaderValue; 2]> = headers.get_all(&X_FORWARDED_FOR).iter().collect();
    values.into_iter().rev().flat_map(|value| {
        let entries = value.as_bytes().rsplit(|byte| *byte == b',');
        entries.map(|entry| read_address(std::str::from_utf8(entry).ok()?.trim()))
    })
}

/// The addresses in `Forwarded`, nearest first; `None` for one that hides, and for a whole field that is malformed.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let values: SmallVec<[&HeaderValue; 2]> = headers.get_all(header::FORWARDED).iter().collect();
    let mut hops = Vec::new();
    for value in values.into_iter().rev() {
        match parse(value.as_bytes()) {
            Ok(elements) => hops.extend(elements.iter().rev().map(|element| element.address)),
            Err(_) => hops.push(None),
        }
    }
    hops
}

/// Whether `address` belongs to one of the networks.
pub fn is_trusted(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`
fn read_address(entry: &str) -> Option<IpAddr> {
    let unquoted = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    unquoted
        .parse()
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (X_FORWARDED_FOR, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn client_is_the_last_address_that_is_not_a_trusted_proxys() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer = "10.0.0.1:1234".parse().unwrap();
        for (values, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["6.6.6.6, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
            (&["6.6.6.6", "203.0.113.9:99, 10.1.2.3"], "203.0.113.9"),
            (&["[2001:db8::1]:99"], "2001:db8::1"),
            (&["203.0.113.9, junk, 10.1.2.3"], "10.1.2.3"),
            (&["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(
                client_address(&chain(values), peer, &trusted).to_string(),
                expected,
                "{values:?}"
            );
        }
        let stranger = "192.0.2.1:1".parse().unwrap();
        assert_eq!(
            client_address(&chain(&["203.0.113.9"]), stranger, &trusted).to_string(),
            "192.0.2.1"
        );
    }

    fn forwarded(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (header::FORWARDED, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn chain_of_forwarded_counts_where_there_is_no_other() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer = "10.0.0.1:1234".parse().unwrap();
        for (values, expected) in [
            (&["for=203.0.113.9"][..], "203.0.113.9"),
            (
                &["for=6.6.6.6, for=203.0.113.9, for=10.1.2.3"],
                "203.0.113.9",
            ),
            (
                &["for=6.6.6.6", "for=\"203.0.113.9:99\", for=10.1.2.3"],
                "203.0.113.9",
            ),
            (&["for=\"[2001:db8::1]:99\";proto=https"], "2001:db8::1"),
            (&["for=203.0.113.9, for=unknown, for=10.1.2.3"], "10.1.2.3"),
            (&["for=203.0.113.9, for=_hidden"], "10.0.0.1"),
            (&["for=203.0.113.9, proto=http, for=10.1.2.3"], "10.1.2.3"),
            (
                &["for=203.0.113.9", "for=\"broken", "for=10.1.2.3"],
                "10.1.2.3",
            ),
            (&["for=10.9.9.9"], "10.9.9.9"),
        ] {
            assert_eq!(
                client_address(&forwarded(values), peer, &trusted).to_string(),
                expected,
                "{values:?}"
            );
        }
        let mut both = forwarded(&["for=6.6.6.6"]);
        both.insert(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"));
        assert_eq!(
            client_address(&both, peer, &trusted).to_string(),
            "203.0.113.9",
            "X-Forwarded-For comes first"
        );
        let stranger = "192.0.2.1:1".parse().unwrap();
        assert_eq!(
            client_address(&forwarded(&["for=203.0.113.9"]), stranger, &trusted).to_string(),
            "192.0.2.1"
        );
    }

    #[test]
    fn chain_is_carried_over_from_one_field_to_the_other() {
        let peer = HeaderValue::from_static("10.0.0.1");
        assert_eq!(
            append(
                &forwarded(&["for=6.6.6.6, for=_x", "for=\"[::1]:80\""]),
                &peer
            ),
            "6.6.6.6, unknown, ::1, 10.0.0.1"
        );
        let scheme = HeaderValue::from_static("https");
        let host = HeaderValue::from_static("app.test:8443");
        let hop = Hop {
            peer: "::1",
            host: Some(&host),
            scheme: &scheme,
        };
        let own = "for=\"[::1]\";host=\"app.test:8443\";proto=https";
        let element = |headers: &HeaderMap, believed| append_element(headers, believed, hop);
        assert_eq!(element(&chain(&[]), true), own);
        assert_eq!(
            element(&chain(&["6.6.6.6, junk", "::2"]), true),
            format!("for=6.6.6.6, for=unknown, for=\"[::2]\", {own}")
        );
        assert_eq!(
            element(&forwarded(&["for=a", "for=\"b", "for=c"]), true),
            format!("for=a, for=unknown, for=c, {own}")
        );
        let mut both = forwarded(&["for=6.6.6.6;proto=https"]);
        both.insert(X_FORWARDED_FOR, HeaderValue::from_static("6.6.6.6"));
        assert_eq!(element(&both, true), format!("for=6.6.6.6, {own}"));
        both.insert(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"));
        assert_eq!(element(&both, true), format!("for=203.0.113.9, {own}"));
        assert_eq!(element(&forwarded(&["for=a"]), false), own);
        assert_eq!(element(&chain(&["6.6.6.6"]), false), own);
    }

    #[test]
    fn mapped_addresses_are_taken_for_what_they_are() {
        assert!(is_trusted(
            "::ffff:10.0.0.1".parse().unwrap(),
            &["10.0.0.0/8".parse().unwrap()]
        ));
    }

    #[test]
    fn chain_grows_at_its_end() {
        let peer = HeaderValue::from_static("10.0.0.1");
        assert_eq!(append(&chain(&["a", "b, c"]), &peer), "a, b, c, 10.0.0.1");
        assert_eq!(append(&chain(&[]), &peer), "10.0.0.1");
    }

    #[test]
    fn fields_that_endpoints_act_on_are_not_taken_from_strangers() {
        for name in [
            "x-forwarded-for",
            "x-forwarded-anything",
            "forwarded",
            "x-real-ip",
            "x-original-url",
            "x-original-uri",
            "x-original-host",
            "x-client-ip",
            "true-client-ip",
            "client-ip",
            "x-cluster-client-ip",
            "x-script-name",
            "x-host",
            "x-request-id",
            "client-cert",
            "client-cert-chain",
            "x-mirrored",
        ] {
            assert!(is_for_trusted(name), "{name}");
        }
        assert!(!is_for_trusted("x-forward"));
        for name in ["proxy", "proxy-authorization", "x_forwarded_for"] {
            assert!(is_never_passed(name), "{name}");
        }
    }
}
