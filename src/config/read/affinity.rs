//! Reads `upstream.affinity`.

use super::cookie;
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Affinity, KeptBy};

/// `says_version`: checks tell which version an endpoint runs.
pub(super) fn affinity(table: &mut Table<'_>, says_version: bool) -> Option<Affinity> {
    let by = table.get("by");
    let kept_by = by.as_ref().and_then(|value| {
        let words = [("endpoint", KeptBy::Endpoint), ("version", KeptBy::Version)];
        value.one_of(&words, &[])
    });
    let kept_by = kept_by.unwrap_or(KeptBy::Endpoint);
    if let Some(by) = by
        && kept_by == KeptBy::Version
        && !says_version
    {
        by.report("needs `version_header` or `version_pointer` in the upstream's `health`: otherwise no version is known");
    }
    let header = table.get("header");
    let cookie = table.get("cookie");
    if let Some(header) = header {
        let message = if cookie.is_some() {
            "has no effect beside `cookie`; leave one of them out"
        } else {
            "clients are kept by a header with policy = \"hash\" and hash = { key = \"header:NAME\" }; affinity is by `cookie`"
        };
        header.source.report(header.key_place(), message);
    } else if cookie.is_none() {
        table.report("needs `cookie`, such as cookie = \"balancer\"");
    }
    let name = cookie.as_ref().and_then(cookie::name);
    let key_file = table.get("key_file");
    if key_file.is_none() {
        table.report(
            "needs `key_file`, such as key_file = \"certs/affinity.key\"; make one: openssl rand -hex 32 > certs/affinity.key",
        );
    }
    let path = table.get("path").and_then(|value| cookie_path(&value));
    let max_age = table.get("max_age").and_then(|value| {
        let max_age = value.duration()?;
        if max_age.subsec_nanos() > 0 {
            return value.expected("whole seconds");
        }
        Some(max_age)
    });
    let key_file = key_file?;
    Some(Affinity {
        by: kept_by,
        cookie: name?,
        key_file: key_file.path()?,
        path: path.unwrap_or_else(|| "/".into()),
        max_age,
        place: key_file.place(),
    })
}

/// A cookie's `Path`.
pub(super) fn cookie_path(value: &Value<'_>) -> Option<Box<str>> {
    let what = "a path such as \"/\"";
    let path = value.string_such_as(what)?;
    let is_sound = path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b";,".contains(&byte));
    if is_sound {
        Some(path.into())
    } else {
        value.expected(what)
    }
}
