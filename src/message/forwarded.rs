//! Fields that tell an endpoint who asked and how: removed when a stranger sends them, set by us.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

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
                | "client-cert"
                | "client-cert-chain"
        )
}

/// Whether no client may send this field through us, trusted or not: `Proxy` becomes `HTTP_PROXY` in CGI
/// (CVE-2016-5385), `Proxy-Authorization` was meant for us, and `a_b` and `a-b` are one name to CGI.
pub fn is_never_passed(name: &str) -> bool {
    matches!(name, "proxy" | "proxy-authorization") || name.as_bytes().contains(&b'_')
}

/// The chain with `peer` at its end: what to send as `X-Forwarded-For` when the chain so far is believed.
pub fn append(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    let mut chain = Vec::new();
    for value in headers.get_all(&X_FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).unwrap_or_else(|_| peer.clone())
}

/// The client's address: the right-most in the chain that is not a trusted proxy's; `peer` where there is none.
pub fn client_address(headers: &HeaderMap, peer: SocketAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.ip();
    if !is_trusted(client, trusted) {
        return client;
    }
    let values: smallvec::SmallVec<[&HeaderValue; 2]> =
        headers.get_all(&X_FORWARDED_FOR).iter().collect();
    for value in values.iter().rev() {
        for entry in value.as_bytes().rsplit(|byte| *byte == b',') {
            // What cannot be read ends the chain: beyond it nothing is vouched for.
            let Some(address) = std::str::from_utf8(entry)
                .ok()
                .and_then(|entry| read_address(entry.trim()))
            else {
                return client;
            };
            client = address;
            if !is_trusted(client, trusted) {
                return client;
            }
        }
    }
    client
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
        ] {
            assert!(is_for_trusted(name), "{name}");
        }
        assert!(!is_for_trusted("x-forward"));
        for name in ["proxy", "proxy-authorization", "x_forwarded_for"] {
            assert!(is_never_passed(name), "{name}");
        }
    }
}
