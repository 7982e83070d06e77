//! Reads what a route does: forward, split, redirect or respond.

use http::StatusCode;

use super::{Declared, header, reference, split, writes};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Action, Redirect, Respond};

/// The one action of a route.
pub(super) fn action(table: &mut Table<'_>, declared: &Declared) -> Option<Action> {
    let upstream = table.get("upstream");
    let redirect = table.get("redirect");
    let respond = table.get("respond");
    let split = table.get("split");
    let by = table.get("split_by");
    let writes = table.get("writes");
    let read_your_writes = table.get("read_your_writes");

    let has_upstream = upstream.is_some();
    let mut given: Vec<_> = [&upstream, &split, &redirect, &respond]
        .into_iter()
        .flatten()
        .collect();
    given.sort_by_key(|value| value.key_offset);
    if given.is_empty() {
        table.report("needs one action: `upstream`, `split`, `redirect` or `respond`");
    }
    if let [first, others @ ..] = given.as_slice() {
        for other in others {
            other.source.report(
                other.key_place(),
                format!("a route has one action, and this one has `{}`", first.name),
            );
        }
    }

    let upstream = upstream.and_then(|value| reference(&value, "upstream", &declared.upstreams));
    if let Some(value) = writes.as_ref().filter(|_| !has_upstream) {
        value.source.report(
            value.key_place(),
            "only with `upstream`, which gets what only reads",
        );
    }
    let apart = writes::writes(
        (writes.as_ref(), read_your_writes.as_ref()),
        upstream,
        declared,
    );
    let upstream = apart
        .map(Action::ReadsAndWrites)
        .or(upstream.map(Action::Forward));
    let split = split::split(split.as_ref(), by.as_ref(), declared).map(Action::Split);
    let redirect = redirect
        .and_then(|value| value.table(self::redirect)?)
        .map(Action::Redirect);
    let respond = respond
        .and_then(|value| value.table(self::respond))
        .map(Action::Respond);
    upstream.or(split).or(redirect).or(respond)
}

fn redirect(table: &mut Table<'_>) -> Option<Redirect> {
    let to = table
        .required("to", "\"https://{host}{path}{query}\"")
        .and_then(|value| redirect_to(&value));
    let status = table.get("status").and_then(|value| {
        let status = value.integer(100..=599)?;
        if [301, 302, 303, 307, 308].contains(&status) {
            status_code(status)
        } else {
            value.expected("301, 302, 303, 307 or 308")
        }
    });
    Some(Redirect {
        to: to?.into(),
        status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT),
    })
}

/// An absolute URL or a path, in which `{host}`, `{path}` and `{query}` may stand.
fn redirect_to<'a>(value: &Value<'a>) -> Option<&'a str> {
    let what = "an absolute URL or a path, such as \"https://{host}{path}{query}\" or \"/new\"";
    let to = value.string_such_as(what)?;
    let filled = value.noted(fill(to))?;
    // A path that begins with two slashes is a URL of another host: RFC 3986 §4.2.
    if filled.starts_with("//") {
        value.report(format!(
            "must not begin with two slashes ({{path}} brings its own), got {value}"
        ));
        return None;
    }
    let is_printable = filled
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`".contains(&byte));
    let without_fragment = filled.split('#').next().unwrap_or_default();
    let is_url = without_fragment
        .parse::<http::Uri>()
        .is_ok_and(|url| match url.scheme_str() {
            Some(scheme) => {
                matches!(scheme, "http" | "https")
                    && url.host().is_some_and(|host| !host.is_empty())
            }
            None => without_fragment.starts_with('/'),
        });
    if is_printable && is_url {
        Some(to)
    } else {
        value.expected(what)
    }
}

/// `to` as it could come out, if it holds no other placeholder than it may.
fn fill(to: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = to;
    while let Some(index) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(index);
        let end = from.find('}').map(|end| end + 1);
        let (placeholder, after) = from.split_at(end.unwrap_or(from.len()));
        filled.push_str(before);
        filled.push_str(match placeholder {
            "{host}" => "host",
            "{path}" => "/path",
            "{query}" => "?query",
            _ => {
                return Err(format!(
                    "knows only {{host}}, {{path}} and {{query}}, not {placeholder:?}"
                ));
            }
        });
        rest = after;
    }
    Ok(filled + rest)
}

fn respond(table: &mut Table<'_>) -> Respond {
    let status = table
        .get("status")
        .and_then(|value| value.integer(200..=599))
        .unwrap_or(200);
    let body_value = table.get("body");
    let body = body_value
        .as_ref()
        .and_then(Value::string)
        .unwrap_or_default();
    // RFC 9110 §15: these have no content.
    if let Some(value) = body_value
        && matches!(status, 204 | 205 | 304)
        && !body.is_empty()
    {
        value.report(format!("must be empty: a {status} has no body"));
    }
    let headers = table
        .get("headers")
        .map(|value| header::to_send(&value))
        .unwrap_or_default();
    Respond {
        status: status_code(status).unwrap_or(StatusCode::OK),
        body: body.into(),
        headers,
    }
}

fn status_code(status: i64) -> Option<StatusCode> {
    u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
}
