//! The field `Forwarded` (RFC 7239): reads what other proxies say in it, and writes an element of our own.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What one proxy says of the request it got.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Element<'a> {
    /// `for`: who it came from. `None` where that is left out, `unknown`, obfuscated (`_x`) or no address.
    pub address: Option<IpAddr>,
    /// `proto`: how it came.
    pub proto: Option<Cow<'a, str>>,
    /// `host`: what for.
    pub host: Option<Cow<'a, str>>,
}

/// Not what RFC 7239 §4 allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed Forwarded field")]
pub struct Malformed;

/// The elements of one field's value, in its order; the nearest proxy's is last. Total: no input ends in a panic.
///
/// More is taken than the grammar has: spaces around `;`, and addresses that should have been quoted. Not taken: a
/// parameter that stands twice in an element, since nobody could tell which one holds.
pub fn parse(value: &[u8]) -> Result<Vec<Element<'_>>, Malformed> {
    let mut rest = std::str::from_utf8(value).map_err(|_| Malformed)?;
    let mut elements = Vec::new();
    let mut pairs = Pairs::default();
    loop {
        rest = rest.trim_start_matches(SPACE);
        match rest.as_bytes().first() {
            None => {
                elements.extend(pairs.finish());
                return Ok(elements);
            }
            Some(b',') => {
                elements.extend(pairs.finish());
                pairs = Pairs::default();
                rest = &rest[1..];
            }
            Some(b';') => rest = &rest[1..],
            Some(_) => {
                let (name, value, after) = pair(rest)?;
                pairs.take(name, value)?;
                rest = after.trim_start_matches(SPACE);
                if !(rest.is_empty() || rest.starts_with([',', ';'])) {
                    return Err(Malformed);
                }
            }
        }
    }
}

/// The parameters of an element so far.
#[derive(Default)]
struct Pairs<'a> {
    any: bool,
    by: Option<Cow<'a, str>>,
    node: Option<Cow<'a, str>>,
    proto: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
}

impl<'a> Pairs<'a> {
    fn take(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Malformed> {
        self.any = true;
        let place = match name {
            name if name.eq_ignore_ascii_case("for") => &mut self.node,
            name if name.eq_ignore_ascii_case("by") => &mut self.by,
            name if name.eq_ignore_ascii_case("proto") => &mut self.proto,
            name if name.eq_ignore_ascii_case("host") => &mut self.host,
            // An extension: it says nothing to us.
            _ => return Ok(()),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }

    /// The element, unless it is empty, which means nothing (RFC 9110 §5.6.1.2).
    fn finish(self) -> Option<Element<'a>> {
        self.any.then(|| Element {
            address: self.node.as_deref().and_then(address),
            proto: self.proto,
            host: self.host,
        })
    }
}

/// `name=value` at the begin of `text`, and what follows it.
fn pair(text: &str) -> Result<(&str, Cow<'_, str>, &str), Malformed> {
    let (name, rest) = text.split_once('=').ok_or(Malformed)?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Malformed);
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, rest) = unquoted(quoted)?;
        return Ok((name, value, rest));
    }
    let is_value = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '"');
    let (value, rest) = rest.split_at(rest.find(|c| !is_value(c)).unwrap_or(rest.len()));
    match value {
        "" => Err(Malformed),
        value => Ok((name, Cow::Borrowed(value), rest)),
    }
}

/// The content of a quoted string whose first quote is cut, and what follows its last (RFC 9110 §5.6.4).
fn unquoted(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
    let mut content = Cow::Borrowed("");
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let character = match character {
            '"' => return Ok((content, &text[at + 1..])),
            '\\' => {
                let (_, escaped) = characters.next().ok_or(Malformed)?;
                content.to_mut().push(escaped);
                escaped
            }
            character => {
                match &mut content {
                    Cow::Borrowed(borrowed) => *borrowed = &text[..at + character.len_utf8()],
                    Cow::Owned(owned) => owned.push(character),
                }
                character
            }
        };
        if character.is_control() && character != '\t' {
            return Err(Malformed);
        }
    }
    Err(Malformed)
}

/// RFC 7239 §6: an IPv4 address, or an IPv6 address in brackets; with or without a port.
fn address(node: &str) -> Option<IpAddr> {
    let (address, port): (IpAddr, _) = match node.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':')?),
            };
            (address.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => {
            let (address, port) = match node.split_once(':') {
                Some((address, port)) => (address, Some(port)),
                None => (node, None),
            };
            (address.parse::<Ipv4Addr>().ok()?.into(), port)
        }
    };
    port.is_none_or(is_port).then_some(address)
}

/// One to five digits, or obfuscated.
fn is_port(port: &str) -> bool {
    let is_obfuscated = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
        || port.strip_prefix('_').is_some_and(is_obfuscated)
}

/// Writes `for=` with an address.
pub fn push_for(out: &mut Vec<u8>, address: &str) {
    out.extend_from_slice(b"for=");
    if address.contains(':') {
        // §6: brackets, and since these are not of a token, quotes.
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(address.as_bytes());
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(address.as_bytes());
    }
}

/// Writes `;NAME=` with a value, quoted where it is no token: a host with a port is none.
pub fn push_pair(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(b';');
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    if !value.is_empty() && value.iter().copied().all(is_token) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const SPACE: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
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
        let as_socket =
            |port: &str| format!("{}:{port}", node.rsplit_once(':').map_or("", |it| it.0));
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
}
