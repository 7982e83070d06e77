//! What is read of the field `Forwarded`, and what is written into it.

use proptest::prelude::*;

use super::*;

fn addresses(value: &str) -> Result<Vec<Option<String>>, Malformed> {
    let elements = parse(value.as_bytes())?;
    let text = |element: Element<'_>| element.address.map(|address| address.to_string());
    Ok(elements.into_iter().map(text).collect())
}

#[test]
fn addresses_are_read_in_each_of_their_spellings() {
    let one = |address: &str| Ok(vec![Some(address.to_owned())]);
    for (value, expected) in [
        ("for=192.0.2.43", one("192.0.2.43")),
        ("For=\"192.0.2.43\"", one("192.0.2.43")),
        ("for=\"192.0.2.43:47011\"", one("192.0.2.43")),
        ("for=192.0.2.43:47011", one("192.0.2.43")),
        ("for=\"192.0.2.43:_port\"", one("192.0.2.43")),
        ("for=\"[2001:db8:cafe::17]\"", one("2001:db8:cafe::17")),
        ("for=\"[2001:db8:cafe::17]:4711\"", one("2001:db8:cafe::17")),
        ("for=[2001:db8::1]", one("2001:db8::1")),
        ("for=\"\\1\\9\\2.0.2.43\"", one("192.0.2.43")),
        (
            "for=192.0.2.43;proto=http;by=203.0.113.43",
            one("192.0.2.43"),
        ),
        (" ; proto=http ;; FOR=192.0.2.43 ", one("192.0.2.43")),
    ] {
        assert_eq!(addresses(value), expected, "{value}");
    }
    assert_eq!(
        addresses("for=192.0.2.43, ,for=198.51.100.17;x=\"a,b;c\""),
        Ok(vec![
            Some("192.0.2.43".to_owned()),
            Some("198.51.100.17".to_owned())
        ])
    );
    assert_eq!(addresses(""), Ok(vec![]));
}

#[test]
fn who_hides_is_nobody() {
    for value in [
        "for=unknown",
        "for=_hidden",
        "for=\"_SEVKISEK\"",
        "for=\"unknown:80\"",
        "proto=http",
        "for=\"2001:db8::1\"",
        "for=\"[2001:db8::1]80\"",
        "for=\"[192.0.2.1]\"",
        "for=\"192.0.2.1:\"",
        "for=\"192.0.2.1:123456\"",
        "for=\"192.0.2.1:x\"",
        "for=\"192.0.2.1:_\"",
        "for=\"192.0.2.1 \"",
        "for=\"\"",
        "for=example.com",
    ] {
        assert_eq!(addresses(value), Ok(vec![None]), "{value}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_not_read() {
    for value in [
        "for",
        "for=",
        "=a",
        "for =192.0.2.1",
        "for= 192.0.2.1",
        "for=192.0.2.1 proto=http",
        "for=\"192.0.2.1",
        "for=\"192.0.2.1\\",
        "for=\"192.0.2.1\"x",
        "for=192.0.2.1\"x\"",
        "for=192.0.2.1;for=192.0.2.2",
        "for=192.0.2.1;FOR=192.0.2.2",
        "f(r=192.0.2.1",
        "for=é",
        "for=\"a\u{7f}\"",
    ] {
        assert_eq!(addresses(value), Err(Malformed), "{value}");
    }
    assert_eq!(parse(b"for=\xff"), Err(Malformed));
}

#[test]
fn own_element_is_quoted_where_it_has_to_be() {
    let written = |address: &str, host: &str| {
        let mut out = Vec::new();
        push_for(&mut out, address);
        push_pair(&mut out, "host", host.as_bytes());
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written("192.0.2.1", "app.test"),
        "for=192.0.2.1;host=app.test"
    );
    assert_eq!(
        written("2001:db8::1", "app.test:8080"),
        "for=\"[2001:db8::1]\";host=\"app.test:8080\""
    );
    assert_eq!(
        written("192.0.2.1", "a\"b\\c"),
        "for=192.0.2.1;host=\"a\\\"b\\\\c\""
    );
    assert_eq!(written("192.0.2.1", ""), "for=192.0.2.1;host=\"\"");
}

/// A parameter as it is written, and what it says.
#[derive(Clone, Debug)]
struct Written {
    name: &'static str,
    value: String,
    quoted: bool,
}

fn written() -> impl Strategy<Value = Written> {
    let value = prop_oneof![
        "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]\\.[0-9](:[0-9]{1,6})?",
        "\\[[0-9a-f:]{2,8}\\](:[0-9]{0,3})?",
        "_?[a-z]{1,8}",
        "[ -~]{0,6}",
    ];
    let name = prop::sample::select(vec!["for", "For", "by", "proto", "HOST", "x-y"]);
    (name, value, any::<bool>()).prop_map(|(name, value, quoted)| Written {
        name,
        quoted: quoted || value.is_empty() || !value.bytes().all(is_token),
        value,
    })
}

/// As naively as it can be said: `None` for what does not parse.
fn model(elements: &[Vec<Written>]) -> Option<Vec<Option<IpAddr>>> {
    let mut addresses = Vec::new();
    for element in elements.iter().filter(|element| !element.is_empty()) {
        for name in ["for", "by", "proto", "host"] {
            let same = |pair: &&Written| pair.name.to_lowercase() == name;
            if element.iter().filter(same).count() > 1 {
                return None;
            }
        }
        let node = element
            .iter()
            .find(|pair| pair.name.to_lowercase() == "for");
        addresses.push(node.and_then(|pair| naive_address(&pair.value)));
    }
    Some(addresses)
}

fn naive_address(node: &str) -> Option<IpAddr> {
    let as_socket = |port: &str| format!("{}:{port}", node.rsplit_once(':').map_or("", |it| it.0));
    if let Ok(address) = node.parse::<Ipv4Addr>() {
        return Some(address.into());
    }
    if let Some(inner) = node.strip_prefix('[').and_then(|it| it.strip_suffix(']'))
        && let Ok(address) = inner.parse::<Ipv6Addr>()
    {
        return Some(address.into());
    }
    let (_, port) = node.rsplit_once(':')?;
    if port.is_empty() || port.len() > 5 || !port.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let socket: std::net::SocketAddr = as_socket("1").parse().ok()?;
    Some(socket.ip())
}

proptest! {
    #[test]
    fn parser_agrees_with_a_naive_model(elements in prop::collection::vec(prop::collection::vec(written(), 0..4), 0..4)) {
        let show = |pair: &Written| match pair.quoted {
            true => format!("{}=\"{}\"", pair.name, pair.value.replace('\\', "\\\\").replace('"', "\\\"")),
            false => format!("{}={}", pair.name, pair.value),
        };
        let element = |pairs: &Vec<Written>| pairs.iter().map(show).collect::<Vec<_>>().join("; ");
        let text = elements.iter().map(element).collect::<Vec<_>>().join(" ,");
        let parsed = parse(text.as_bytes()).ok();
        let addresses = parsed.map(|elements| elements.iter().map(|element| element.address).collect::<Vec<_>>());
        prop_assert_eq!(addresses, model(&elements), "{}", text);
    }

    #[test]
    fn no_bytes_end_in_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_text_ends_in_a_panic(text in "[a-f:=\",;\\\\ \\[\\]0-9é_.]{0,40}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn what_is_written_is_read(address in any::<IpAddr>(), host in "[a-z0-9.:\\[\\]\"\\\\]{0,12}") {
        let mut out = Vec::new();
        push_for(&mut out, &address.to_string());
        push_pair(&mut out, "host", host.as_bytes());
        let elements = parse(&out).unwrap();
        prop_assert_eq!(elements[0].address, Some(address));
        prop_assert_eq!(elements[0].host.as_deref(), Some(&*host));
    }
}
