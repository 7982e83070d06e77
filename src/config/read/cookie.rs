//! Reads names of cookies, and tables of those to look for.

use crate::config::value::Value;

/// The name of a cookie.
pub(super) fn name(value: &Value<'_>) -> Option<Box<str>> {
    let what = "the name of a cookie such as \"balancer\"";
    let name = value.string_such_as(what)?;
    if is_token(name) {
        Some(name.into())
    } else {
        value.expected(what)
    }
}

/// Cookies a request must have. Problems do not show values, which may be secrets.
pub(super) fn to_match(value: &Value<'_>) -> Vec<(Box<str>, Box<str>)> {
    let mut cookies = Vec::new();
    for entry in value.entries("a table such as { beta = \"1\" }") {
        if !is_token(entry.name) {
            let name = entry.name;
            entry.source.report(
                entry.key_place(),
                format!("{name:?} is not a cookie's name"),
            );
            continue;
        }
        let Some(text) = entry.string() else { continue };
        // RFC 6265 §4.1.1. Requests are compared without the quotes that may stand around a value.
        let may_stand = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if text.bytes().all(may_stand) {
            cookies.push((entry.name.into(), text.into()));
        } else {
            entry
                .report("must be visible ASCII without quotes, commas, semicolons and backslashes");
        }
    }
    cookies
}

/// Whether `text` is a token (RFC 9110 §5.6.2), as names of cookies are (RFC 6265 §4.1.1).
fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}
