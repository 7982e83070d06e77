//! Reads tables of header fields: those to look for and those to send.

use http::{HeaderName, HeaderValue};

use crate::config::value::Value;
use crate::message::{forwarded, hop_by_hop};

/// Fields a request must have.
pub(super) fn to_match(value: &Value<'_>) -> Vec<(HeaderName, HeaderValue)> {
    fields(value, |name| match name {
        "host" => Some("is matched by `hosts`"),
        _ => None,
    })
}

/// Fields a response must have.
pub(super) fn to_expect(value: &Value<'_>) -> Vec<(HeaderName, HeaderValue)> {
    fields(value, |_| None)
}

/// Fields we add to a message of ours. Those that frame it are set by what it holds.
pub(super) fn to_send(value: &Value<'_>) -> Vec<(HeaderName, HeaderValue)> {
    fields(value, |name| match name {
        "connection" | "content-length" | "keep-alive" | "te" | "trailer" | "transfer-encoding"
        | "upgrade" => Some("is set by the balancer; leave it out"),
        "host" => Some("is set by `host`"),
        _ => None,
    })
}

/// The name of a field that endpoints are told something in, and that only the balancer may set.
pub(super) fn name_to_set(value: &Value<'_>) -> Option<HeaderName> {
    let what = "the name of a header field such as \"Client-Cert\"";
    let Ok(name) = HeaderName::from_bytes(value.string_such_as(what)?.as_bytes()) else {
        return value.expected(what);
    };
    let text = name.as_str();
    if forwarded::is_never_passed(text) {
        value.report(format!(
            "{name} never reaches an endpoint; names with `_` do not either"
        ));
    } else if hop_by_hop::is_hop_by_hop(text) || hop_by_hop::is_protected(text) {
        value.report(format!(
            "{name} has a meaning of its own; choose another name"
        ));
    } else {
        return Some(name);
    }
    None
}

fn fields(
    value: &Value<'_>,
    refusal: impl Fn(&str) -> Option<&'static str>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for entry in value.entries("a table such as { x-name = \"value\" }") {
        let name = match field_name(entry.name) {
            Ok(name) => name,
            Err(message) => {
                entry.source.report(entry.key_place(), message);
                continue;
            }
        };
        if let Some(refusal) = refusal(name.as_str()) {
            entry
                .source
                .report(entry.key_place(), format!("{name} {refusal}"));
        } else if fields.iter().any(|(other, _)| *other == name) {
            entry.source.report(
                entry.key_place(),
                format!("{name} is there twice; header names do not differ by case"),
            );
        } else if let Some(value) = field_value(&entry) {
            fields.push((name, value));
        }
    }
    fields
}

/// The name `text`, if it is one.
pub(super) fn field_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a header name"))
}

/// The value of a field. Problems do not show it: it may be a secret.
pub(super) fn field_value(value: &Value<'_>) -> Option<HeaderValue> {
    HeaderValue::from_str(field_text(value)?).ok()
}

/// Text that can be the value of a field, or a part of it. Problems do not show it, either.
pub(super) fn field_text<'a>(value: &Value<'a>) -> Option<&'a str> {
    let text = value.string()?;
    // RFC 9110 §5.5: white space around a value is not part of it.
    if text.trim_matches([' ', '\t']) != text {
        value.report("must not begin or end with a space");
        return None;
    }
    let parsed = HeaderValue::from_str(text);
    value.noted(parsed.map_err(|_| "must be printable ASCII".to_owned()))?;
    Some(text)
}
