//! Reads `upstream.hash`.

use http::HeaderName;

use crate::config::suggest::hint;
use crate::config::value::Value;
use crate::config::{Hash, HashKey};

/// What is picked by. `None` where there is a problem.
pub(super) fn hash(value: &Value<'_>) -> Option<Hash> {
    value.table(|table| {
        let key = match table.get("key") {
            Some(value) => key(&value),
            None => Some(DEFAULT.key),
        };
        let bounded_load = match table.get("bounded_load") {
            Some(value) => bounded_load(&value),
            None => Some(DEFAULT.bounded_load),
        };
        Some(Hash {
            key: key?,
            bounded_load: bounded_load?,
        })
    })?
}

fn key(value: &Value<'_>) -> Option<HashKey> {
    let text = value.string_such_as(KEYS)?;
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("client-address", None) => Some(HashKey::ClientAddress),
        ("path", None) => Some(HashKey::Path),
        ("header", Some(name)) => match HeaderName::try_from(name) {
            Ok(name) => Some(HashKey::Header(name)),
            Err(_) => value.expected("\"header:\" and the name of a header"),
        },
        ("cookie", Some(name)) if is_cookie_name(name) => Some(HashKey::Cookie(name.into())),
        ("cookie", Some(_)) => value.expected("\"cookie:\" and the name of a cookie"),
        ("query", Some(name)) if is_parameter_name(name) => Some(HashKey::Query(name.into())),
        ("query", Some(_)) => {
            value.expected("\"query:\" and the name of a parameter, as it stands in URLs")
        }
        ("header" | "cookie" | "query", None) => value.expected(format_args!(
            "\"{kind}:NAME\", with the name of the {}",
            named(kind)
        )),
        _ => {
            let hint = hint(
                kind,
                ["client-address", "header", "cookie", "path", "query"],
            );
            value.report(format!("must be {KEYS}, got {value}{hint}"));
            None
        }
    }
}

fn named(kind: &str) -> &'static str {
    match kind {
        "header" => "header",
        "cookie" => "cookie",
        _ => "parameter",
    }
}

/// RFC 6265 §4.1.1: a token.
fn is_cookie_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn is_parameter_name(name: &str) -> bool {
    let ends = |byte: u8| b"&=#".contains(&byte);
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !ends(byte))
}

/// In thousandths; `None` for `"off"`.
fn bounded_load(value: &Value<'_>) -> Option<Option<u32>> {
    if value.value.as_str() == Some("off") {
        return Some(None);
    }
    if value.value.is_str() {
        return value.expected(BOUNDS);
    }
    let number = value.number()?;
    if (1.05..=10.0).contains(&number) {
        Some(Some((number * 1000.0).round() as u32))
    } else {
        value.expected(BOUNDS)
    }
}

const KEYS: &str =
    "\"client-address\", \"header:NAME\", \"cookie:NAME\", \"path\" or \"query:NAME\"";
const BOUNDS: &str = "1.05–10, as a multiple of the mean load, or \"off\"";

pub(super) const DEFAULT: Hash = Hash {
    key: HashKey::ClientAddress,
    bounded_load: Some(1250),
};
