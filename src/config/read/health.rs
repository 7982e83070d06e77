//! Reads `upstream.health`.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{header, role};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Health, Probe, StatusRange, VersionSource};
use crate::units::AppVersion;

pub(super) fn health(table: &mut Table<'_>, http2: bool) -> Health {
    let probe = probe(table, http2);
    let (version, live_version, expect_version) = version(table, &probe);
    let says_role = role::keys(table);
    let interval_value = table.get("interval");
    let timeout_value = table.get("timeout");
    let interval = interval_value.as_ref().and_then(pause).unwrap_or(INTERVAL);
    let timeout = timeout_value
        .as_ref()
        .and_then(Value::duration)
        .unwrap_or(TIMEOUT);
    if timeout > interval
        && let Some(value) = timeout_value.or(interval_value)
    {
        value.report(format!(
            "timeout ({timeout:?}) must not be longer than interval ({interval:?})"
        ));
    }
    let busy_interval = table.get("busy_interval").and_then(|value| {
        let busy = value.duration()?;
        if busy < interval {
            value.report(format!(
                "busy_interval ({busy:?}) must not be shorter than interval ({interval:?})"
            ));
        } else if busy > LONGEST_BUSY {
            return value.expected("at most \"1h\"");
        }
        Some(busy)
    });
    let fast_interval = table.get("fast_interval").and_then(|value| {
        let fast = pause(&value)?;
        if fast > interval {
            value.report(format!(
                "fast_interval ({fast:?}) must not be longer than interval ({interval:?})"
            ));
        }
        Some(fast)
    });
    let mut threshold = |key, default| {
        let threshold = table.get(key).and_then(|value| value.integer(1..=MOST));
        threshold
            .and_then(|threshold| u32::try_from(threshold).ok())
            .unwrap_or(default)
    };
    let (fall, rise) = (threshold("fall", 3), threshold("rise", 2));
    let role = says_role.source(&probe, (interval, timeout, fall));
    if let Some(busy) = busy_interval.filter(|busy| role.is_some() && *busy > interval) {
        table.report(format!(
            "busy_interval ({busy:?}) with role_header: who is the authority would be known too late; leave one of them out"
        ));
    }
    Health {
        probe,
        interval,
        busy_interval: busy_interval.unwrap_or(interval),
        timeout,
        fall,
        rise,
        fast_interval: fast_interval.unwrap_or_else(|| FAST_INTERVAL.min(interval)),
        version,
        live_version,
        expect_version,
        role,
    }
}

/// `version_header` or `version_pointer`, `live_version` and `expect_version`.
fn version(
    table: &mut Table<'_>,
    probe: &Probe,
) -> (Option<VersionSource>, bool, Option<AppVersion>) {
    let header = table.get("version_header");
    let pointer = table.get("version_pointer");
    let live = table.get("live_version");
    let expected = table.get("expect_version");
    let refuse = |value: &Value<'_>, message: &str| {
        value.source.report(value.key_place(), message);
    };
    let has_source = header.is_some() || pointer.is_some();
    for value in header.iter().chain(&pointer) {
        if *probe == Probe::Tcp {
            refuse(value, "not for kind = \"tcp\": such a probe just connects");
        }
    }
    if let Some(pointer) = &pointer {
        if header.is_some() {
            refuse(
                pointer,
                "has no effect beside `version_header`; leave one of them out",
            );
        } else if matches!(probe, Probe::Grpc { .. }) {
            refuse(
                pointer,
                "only for kind = \"http\"; set version_header instead",
            );
        }
    }
    let is_live = live.as_ref().and_then(Value::bool).unwrap_or(false);
    if let Some(live) = live.filter(|_| is_live && header.is_none()) {
        refuse(
            &live,
            "needs `version_header`: that is the field looked for in answers to clients",
        );
    }
    if let Some(expected) = expected.as_ref().filter(|_| !has_source) {
        refuse(
            expected,
            "needs `version_header` or `version_pointer`: while no endpoint says its version, all are held out",
        );
    }
    let source = match (&header, &pointer) {
        (Some(header), _) => version_header(header).map(VersionSource::Header),
        (None, Some(pointer)) => version_pointer(pointer).map(VersionSource::Pointer),
        (None, None) => None,
    };
    (source, is_live, expected.as_ref().and_then(app_version))
}

fn version_header(value: &Value<'_>) -> Option<HeaderName> {
    let what = "the name of a header field such as \"X-App-Version\"";
    let name = HeaderName::from_bytes(value.string_such_as(what)?.as_bytes());
    name.ok().or_else(|| value.expected(what))
}

/// RFC 6901 §3.
fn version_pointer(value: &Value<'_>) -> Option<Box<str>> {
    let what = "a JSON pointer such as \"/build/version\"";
    let text = value.string_such_as(what)?;
    let is_escape = |rest: &str| rest.starts_with(['0', '1']);
    let is_pointer = (text.is_empty() || text.starts_with('/'))
        && text.len() <= MOST_OF_BODY
        && text.split('~').skip(1).all(is_escape);
    if is_pointer {
        Some(text.into())
    } else {
        value.expected(what)
    }
}

fn app_version(value: &Value<'_>) -> Option<AppVersion> {
    let text = value.string_such_as("a version such as \"42\"")?;
    let version = AppVersion::try_from(text.as_bytes());
    value.noted(version.map_err(|why| format!("is no version: {why}")))
}

/// A time between checks.
fn pause(value: &Value<'_>) -> Option<Duration> {
    let pause = value.duration()?;
    if pause < SHORTEST {
        return value.expected("at least \"10ms\"");
    }
    Some(pause)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Http,
    Tcp,
    Grpc,
}

/// `kind`, and what belongs to it.
fn probe(table: &mut Table<'_>, http2: bool) -> Probe {
    let kinds = [
        ("http", Kind::Http),
        ("tcp", Kind::Tcp),
        ("grpc", Kind::Grpc),
    ];
    let kind_value = table.get("kind");
    let kind = kind_value
        .as_ref()
        .and_then(|value| value.one_of(&kinds, &[]))
        .unwrap_or(Kind::Http);
    if kind == Kind::Grpc
        && !http2
        && let Some(value) = &kind_value
    {
        value.report("gRPC needs HTTP/2: set protocol = \"h2\" on the upstream");
    }
    let path = table.get("path");
    let host = table.get("host");
    let headers = table.get("headers");
    let expect_status = table.get("expect_status");
    let expect_header = table.get("expect_header");
    let expect_body = table.get("expect_body");
    let service = table.get("service");
    let refuse = |values: &[&Option<Value<'_>>], message: &str| {
        for value in values.iter().copied().flatten() {
            value.source.report(value.key_place(), message);
        }
    };
    let to_host = host.as_ref();
    let to_headers = |value: &Option<Value<'_>>| value.as_ref().map(header::to_send);
    match kind {
        Kind::Http => {
            refuse(&[&service], "only for kind = \"grpc\"");
            Probe::Http {
                path: path.as_ref().and_then(probe_path).unwrap_or("/").into(),
                host: to_host.and_then(probe_host),
                headers: to_headers(&headers).unwrap_or_default(),
                expect_status: expect_status
                    .as_ref()
                    .and_then(statuses)
                    .unwrap_or_else(|| {
                        vec![StatusRange {
                            low: 200,
                            high: 299,
                        }]
                    }),
                expect_header: expect_header
                    .as_ref()
                    .map(header::to_expect)
                    .unwrap_or_default(),
                expect_body: expect_body.as_ref().and_then(part_of_body),
            }
        }
        Kind::Tcp => {
            let of_others = [
                &path,
                &host,
                &headers,
                &expect_status,
                &expect_header,
                &expect_body,
                &service,
            ];
            refuse(
                &of_others,
                "not for kind = \"tcp\": such a probe just connects",
            );
            Probe::Tcp
        }
        Kind::Grpc => {
            let of_http = [&path, &expect_status, &expect_header, &expect_body];
            refuse(&of_http, "only for kind = \"http\"");
            Probe::Grpc {
                service: service
                    .as_ref()
                    .and_then(service_name)
                    .unwrap_or_default()
                    .into(),
                host: to_host.and_then(probe_host),
                headers: to_headers(&headers).unwrap_or_default(),
            }
        }
    }
}

fn part_of_body(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.string_such_as("text such as \"ready\"")?;
    if text.is_empty() {
        value.report("must not be empty: every body has that");
        return None;
    }
    if text.len() > MOST_OF_BODY {
        value.report("must be at most 1024 bytes long");
        return None;
    }
    Some(text.into())
}

/// The name of a gRPC service; `""` is the server as a whole.
fn service_name<'a>(value: &Value<'a>) -> Option<&'a str> {
    let what = "a service such as \"shop.v1.Basket\", or \"\" for the whole server";
    let name = value.string_such_as(what)?;
    if name.len() <= MOST_OF_BODY && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some(name)
    } else {
        value.expected(what)
    }
}

fn probe_path<'a>(value: &Value<'a>) -> Option<&'a str> {
    let what = "a path such as \"/healthz\"";
    let path = value.string_such_as(what)?;
    let is_sound = path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_sound && path.parse::<http::uri::PathAndQuery>().is_ok() {
        Some(path)
    } else {
        value.expected(what)
    }
}

fn probe_host(value: &Value<'_>) -> Option<HeaderValue> {
    let what = "a host such as \"app.example.com\"";
    let text = value.string_such_as(what)?;
    let is_host = text.parse::<http::uri::Authority>().is_ok() && !text.contains('@');
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| is_host)
        .or_else(|| value.expected(what))
}

/// `200-299`, `204`, `200-299,401`
fn statuses(value: &Value<'_>) -> Option<Vec<StatusRange>> {
    let what = "statuses such as \"200-299\" or \"200,204,301-308\"";
    let text = value.string_such_as(what)?;
    let status = |text: &str| {
        let is_plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|status| is_plain && (100..=599).contains(status))
    };
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let range = StatusRange {
            low: status(low.trim())?,
            high: status(high.trim())?,
        };
        (range.low <= range.high).then_some(range)
    };
    text.split(',')
        .map(|part| range(part.trim()))
        .collect::<Option<Vec<_>>>()
        .or_else(|| value.expected(what))
}

const INTERVAL: Duration = Duration::from_secs(5);
const FAST_INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_millis(10); // faster checks are a load of their own
const LONGEST_BUSY: Duration = Duration::from_secs(3600); // beyond that an endpoint is as good as unchecked
const MOST_OF_BODY: usize = 1024; // more than that says no more
const MOST: i64 = 1000; // beyond that a check never changes its mind
