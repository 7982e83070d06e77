//! The request that a line of a log tells of, as far as it says and as far as it matters for where that goes. Knows no file.

use std::borrow::Cow;

use http::Method;

use super::record::{Record, Text};
use super::unknown::Unknown;
use crate::message::authority;
use crate::message::canonical_path::{PathError, canonicalize};
use crate::metrics::labels::NO_ROUTE;

/// What is taken for granted of lines that do not say it.
#[derive(Clone, Debug, Default)]
pub(super) struct Assumed {
    pub(super) listener: Option<String>,
    pub(super) host: Option<String>,
}

/// A request.
pub(super) struct Asked<'l> {
    pub(super) listener: Option<&'l str>,
    /// As routes are matched with it. `None`: the log does not say.
    pub(super) host: Option<Cow<'l, str>>,
    pub(super) server_name: Option<Cow<'l, str>>,
    pub(super) method: Option<Method>,
    /// A tunnel over HTTP/2 (RFC 8441): `CONNECT` with a path.
    pub(super) is_extended: bool,
    pub(super) raw_path: &'l str,
    /// In canonical spelling, if it has one.
    pub(super) path: Result<Cow<'l, str>, PathError>,
    /// Of path and query, as far as they were logged.
    pub(super) target_bytes: usize,
    /// It was refused for its length, and not all of that is known.
    pub(super) was_longer: bool,
    /// Of its body; of a tunnel nothing, for that has none.
    pub(super) body_bytes: u64,
    /// Its body was refused for its length.
    pub(super) had_long_body: bool,
}

/// What is to be done with a line.
pub(super) enum Standing<'l> {
    /// To be asked where it goes.
    Routed(Asked<'l>),
    /// It was refused before anything in a file mattered, and would be again.
    Refused,
}

/// What `record` says of its request.
pub(super) fn asked<'l>(
    record: &'l Record<'_>,
    assumed: &'l Assumed,
) -> Result<Standing<'l>, Unknown> {
    let method = match record.method.as_ref().map(Text::as_str) {
        // Its head was refused, and nothing of it is known but why.
        Some("-") => return refused(record),
        Some(method) => Method::from_bytes(method.as_bytes()).ok(),
        None => None,
    };
    let is_unrouted = record
        .route
        .as_ref()
        .is_none_or(|it| it.as_str() == NO_ROUTE);
    if is_unrouted && record.reason().is_some_and(|it| EARLY.contains(&it)) {
        return Ok(Standing::Refused);
    }
    if is_unrouted && record.reason() == Some("too_many_fields") {
        return Err(Unknown::Head);
    }
    let Some(spelled) = record.spelled() else {
        return Err(Unknown::NotLogged("path"));
    };
    if spelled.is_hidden() {
        return Err(Unknown::HiddenPath);
    }
    let raw_path = spelled.as_str();
    let query = record.query.as_ref();
    let is_extended = method == Some(Method::CONNECT) && raw_path.starts_with('/');
    let is_tunnel = is_extended || record.status == Some(101);
    let host = record.host.as_ref().map(Text::as_str);
    let host = host.or(assumed.host.as_deref());
    let known = |name: &'l str| authority::host(name).unwrap_or(Cow::Borrowed(name));
    Ok(Standing::Routed(Asked {
        listener: record.listener.as_ref().map(Text::as_str),
        host: host.map(known),
        server_name: record.sni.as_ref().map(|name| known(name.as_str())),
        method,
        is_extended,
        raw_path,
        path: canonicalize(raw_path),
        target_bytes: raw_path.len() + query.map_or(0, |query| query.as_str().len() + 1),
        was_longer: record.reason() == Some("target_too_long") && query.is_none_or(Text::is_hidden),
        body_bytes: record.request_bytes.filter(|_| !is_tunnel).unwrap_or(0),
        had_long_body: record.reason() == Some("body_too_large"),
    }))
}

/// Reasons that hold under any file, of requests whose route was not looked for.
const EARLY: &[&str] = &[
    "body_broken",
    "conflicting_framing",
    "head_timeout",
    "host",
    "malformed",
    "version",
];

fn refused<'l>(record: &Record<'_>) -> Result<Standing<'l>, Unknown> {
    match record.reason() {
        // By limits that a file sets.
        Some("head_too_large" | "target_too_long" | "too_many_fields") => Err(Unknown::Head),
        Some(_) | None => Ok(Standing::Refused),
    }
}
