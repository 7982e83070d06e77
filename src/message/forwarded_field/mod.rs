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
mod tests;
