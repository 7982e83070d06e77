//! Host names: those a route takes and those an endpoint is reached by. Resolves nothing.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Address, HostPattern};

/// `app.example.com` or `*.example.com`, in lower case and without the trailing dot.
pub(super) fn pattern(text: &str) -> Result<HostPattern, String> {
    let wrong = |advice: &str| {
        Err(format!(
            "must be a host such as \"app.example.com\" or \"*.example.com\"{advice}, got {text:?}"
        ))
    };
    if text.contains("://") || text.contains('/') {
        return wrong(", without scheme and path");
    }
    if text == "*" {
        return wrong("; leave `hosts` out to take any");
    }
    if !text.is_ascii() {
        return wrong(", in its ASCII form (\"xn--…\")");
    }
    let lower = text.to_ascii_lowercase();
    if let Some(inner) = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(HostPattern::Exact(format!("[{address}]").into())),
            Err(_) => wrong(""),
        };
    }
    if lower.contains(':') {
        return wrong(", without port");
    }
    let host = lower.strip_suffix('.').unwrap_or(&lower);
    let (is_wildcard, domain) = host
        .strip_prefix("*.")
        .map_or((false, host), |domain| (true, domain));
    if !is_domain(domain) {
        return wrong("");
    }
    Ok(if is_wildcard {
        HostPattern::Wildcard(domain.into())
    } else {
        HostPattern::Exact(domain.into())
    })
}

/// `host:port`, with IPv6 addresses in brackets.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let wrong = |advice: &str| {
        Err(format!(
            "must be host:port such as \"127.0.0.1:8080\"{advice}, got {text:?}"
        ))
    };
    if text.contains("://") || text.contains('/') {
        return wrong(", without scheme and path");
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return wrong(", an IPv6 address in brackets: \"[::1]:8080\"");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong(", with a port");
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let Some(port) = port
        .parse::<u16>()
        .ok()
        .filter(|port| is_number && *port > 0)
    else {
        return wrong(", with a port of 1–65535");
    };
    if host.starts_with('[') {
        return match text.parse::<SocketAddr>() {
            Ok(address) => Ok(Address::Socket(address)),
            Err(_) => wrong(", an IPv6 address in brackets: \"[::1]:8080\""),
        };
    }
    if host.contains(':') {
        return wrong(", an IPv6 address in brackets: \"[::1]:8080\"");
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Address::Socket(SocketAddr::new(address.into(), port)));
    }
    let host = host.to_ascii_lowercase();
    let domain = host.strip_suffix('.').unwrap_or(&host);
    let is_number = domain
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if is_number || !is_domain(domain) {
        return wrong("");
    }
    Ok(Address::Name(host.as_str().into(), port))
}

/// RFC 1123 §2.1, and `_`, which names of services use.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_exact_or_a_wildcard() {
        let exact = |text: &str| Ok(HostPattern::Exact(text.into()));
        assert_eq!(pattern("app.example.com"), exact("app.example.com"));
        assert_eq!(pattern("App.Example.COM."), exact("app.example.com"));
        assert_eq!(pattern("localhost"), exact("localhost"));
        assert_eq!(pattern("10.0.0.1"), exact("10.0.0.1"));
        assert_eq!(pattern("[::1]"), exact("[::1]"));
        assert_eq!(
            pattern("*.Example.com"),
            Ok(HostPattern::Wildcard("example.com".into()))
        );
    }

    #[test]
    fn what_is_no_host_is_told_why() {
        for (text, advice) in [
            ("", "\"*.example.com\", got"),
            ("a b", "\"*.example.com\", got"),
            ("a..b", "\"*.example.com\", got"),
            (".a", "\"*.example.com\", got"),
            ("-a.com", "\"*.example.com\", got"),
            ("a.*.com", "\"*.example.com\", got"),
            ("*.*.com", "\"*.example.com\", got"),
            ("[::g]", "\"*.example.com\", got"),
            ("*", "leave `hosts` out"),
            ("a.com:8080", "without port"),
            ("https://a.com", "without scheme and path"),
            ("a.com/x", "without scheme and path"),
            ("é.com", "xn--"),
        ] {
            let message = pattern(text).unwrap_err();
            assert!(message.contains(advice), "{text}: {message}");
        }
        assert!(pattern(&"a.".repeat(127)).is_ok());
        assert!(pattern(&"a.".repeat(128)).is_err());
        assert!(pattern(&"a".repeat(64)).is_err());
    }

    #[test]
    fn an_address_is_a_socket_or_a_name() {
        assert_eq!(
            address("127.0.0.1:80"),
            Ok(Address::Socket(([127, 0, 0, 1], 80).into()))
        );
        assert_eq!(address("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(
            address("App_1.internal:8080"),
            Ok(Address::Name("app_1.internal".into(), 8080))
        );
        assert_eq!(
            address("app.internal.:8080"),
            Ok(Address::Name("app.internal.".into(), 8080))
        );
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, advice) in [
            ("", "with a port"),
            ("app", "with a port"),
            ("app:", "1–65535"),
            ("app:0", "1–65535"),
            ("app:65536", "1–65535"),
            ("app:+1", "1–65535"),
            ("app:http", "1–65535"),
            ("http://app:80", "without scheme"),
            ("app:80/x", "without scheme and path"),
            ("::1", "in brackets"),
            ("fe80::1:x:80", "in brackets"),
            ("[app]:80", "in brackets"),
            ("[::1]", "1–65535"),
            (":80", "such as \"127.0.0.1:8080\", got"),
            ("1.2.3:80", "such as \"127.0.0.1:8080\", got"),
            ("256.0.0.1:80", "such as \"127.0.0.1:8080\", got"),
            ("a b:80", "such as \"127.0.0.1:8080\", got"),
            ("é:80", "such as \"127.0.0.1:8080\", got"),
        ] {
            let message = address(text).unwrap_err();
            assert!(message.contains(advice), "{text}: {message}");
        }
    }
}
