//! The host a request is for (RFC 9110 §7.2, RFC 9112 §3.2).

use std::borrow::Cow;

use memchr::memchr;

/// The host of an authority or `Host` field: lower case, without port and trailing dot. `None` where it is malformed.
pub fn host(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = split_port(authority)?;
    if !is_port(port) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    let mut has_upper_case = false;
    if host.starts_with('[') {
        has_upper_case = host.bytes().any(|byte| byte.is_ascii_uppercase());
    } else {
        for byte in host.bytes() {
            match BYTES[usize::from(byte)] {
                Byte::Other => return None,
                Byte::UpperCase => has_upper_case = true,
                Byte::Plain => {}
            }
        }
    }
    Some(if has_upper_case {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Whether `port` is the number of one, or empty (RFC 3986 §3.2.3).
fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.len() < 5 || (port.len() == 5 && port <= "65535"))
}

/// Host and port; the port empty where there is none.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let (host, rest) = authority.split_at(end);
        host[1..end - 1].parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, port)),
            None if rest.is_empty() => Some((host, "")),
            None => None,
        };
    }
    Some(match memchr(b':', authority.as_bytes()) {
        Some(colon) => (&authority[..colon], &authority[colon + 1..]),
        None => (authority, ""),
    })
}

/// What a byte is in a host.
#[derive(Clone, Copy)]
enum Byte {
    Plain,
    UpperCase,
    /// It has no place there.
    Other,
}

/// RFC 3986 §3.2.2 `reg-name`, without percent-escapes, which no host in use has.
static BYTES: [Byte; 256] = {
    let mut bytes = [Byte::Other; 256];
    let mut at = 0;
    while at < 128 {
        let byte = at as u8;
        if byte.is_ascii_uppercase() {
            bytes[at] = Byte::UpperCase;
        } else if byte.is_ascii_alphanumeric() || is_mark(byte) {
            bytes[at] = Byte::Plain;
        }
        at += 1;
    }
    bytes
};

const fn is_mark(byte: u8) -> bool {
    matches!(
        byte,
        b'-' | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_what_routes_are_matched_with() {
        for (authority, expected) in [
            ("example.com", "example.com"),
            ("Example.COM:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("example.com:", "example.com"),
        ] {
            assert_eq!(host(authority).as_deref(), Some(expected), "{authority}");
        }
    }

    #[test]
    fn malformed_hosts_are_refused() {
        for authority in [
            "",
            ":80",
            ".",
            "a b",
            "a/b",
            "a@b",
            "user@host",
            "[::1",
            "[::1]x",
            "[x]",
            "a:b",
            "a:80:90",
            "a:123456",
            "ü",
            "a%41",
        ] {
            assert_eq!(host(authority), None, "{authority}");
        }
    }
}
