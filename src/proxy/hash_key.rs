//! What of a request decides to whom it goes, where the policy hashes.

use std::net::IpAddr;

use http::{HeaderMap, Request, header};

use crate::balance::stable_hash;
use crate::config::HashKey;

/// The hash of what `key` names in `request`; of the client's address where it is not there. `path` is the canonical one.
pub fn of<B>(key: &HashKey, request: &Request<B>, path: &str, client: IpAddr) -> u64 {
    let headers = request.headers();
    let found = match key {
        HashKey::ClientAddress => None,
        HashKey::Header(name) => headers.get(name).map(|value| value.as_bytes()),
        HashKey::Cookie(name) => cookie(headers, name),
        HashKey::Path => Some(path.as_bytes()),
        HashKey::Query(name) => request
            .uri()
            .query()
            .and_then(|query| parameter(query, name)),
    };
    match (found.filter(|found| !found.is_empty()), client) {
        (Some(found), _) => stable_hash(found),
        (None, IpAddr::V4(address)) => stable_hash(&address.octets()),
        // Whether a socket shows it as IPv4 or not.
        (None, IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => stable_hash(&address.octets()),
            None => stable_hash(&address.octets()),
        },
    }
}

/// The value of the first cookie `name` (RFC 6265 §4.2.1); over HTTP/2 each may have a field of its own.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| value(pair.trim_ascii(), name))
}

/// The value of the first parameter `name`, as it stands in the query.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    query
        .split('&')
        .find_map(|pair| value(pair.as_bytes(), name))
}

fn value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn request(target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let request = fields
            .iter()
            .fold(Request::get(target), |request, (name, value)| {
                request.header(*name, *value)
            });
        request.body(()).unwrap()
    }

    fn hash(key: HashKey, target: &str, fields: &[(&str, &str)]) -> u64 {
        of(&key, &request(target, fields), "/path", CLIENT)
    }

    #[test]
    fn each_key_finds_its_value() {
        let header = HashKey::Header("x-user".try_into().unwrap());
        assert_eq!(
            hash(header, "/", &[("X-User", "alice")]),
            stable_hash(b"alice")
        );
        let cookies = [("cookie", "sid2=no; sid=abc"), ("cookie", "sid=later")];
        assert_eq!(
            hash(HashKey::Cookie("sid".into()), "/", &cookies),
            stable_hash(b"abc")
        );
        assert_eq!(
            hash(
                HashKey::Query("user".into()),
                "/?users=a&user=b=c&user=d",
                &[]
            ),
            stable_hash(b"b=c")
        );
        assert_eq!(hash(HashKey::Path, "/Path", &[]), stable_hash(b"/path"));
    }

    #[test]
    fn without_the_value_the_client_decides() {
        let by_client = stable_hash(&[192, 0, 2, 1]);
        assert_eq!(hash(HashKey::ClientAddress, "/", &[]), by_client);
        assert_eq!(
            hash(
                HashKey::Cookie("sid".into()),
                "/",
                &[("cookie", "a=b; sid")]
            ),
            by_client
        );
        assert_eq!(
            hash(HashKey::Query("user".into()), "/?user=", &[]),
            by_client
        );
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(
            of(&HashKey::ClientAddress, &request("/", &[]), "/", mapped),
            by_client
        );
    }
}
