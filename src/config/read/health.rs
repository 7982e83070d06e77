//! Reads `upstream.health`.

use std::time::Duration;

use http::HeaderValue;

use super::header;
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Health, Probe, StatusRange};

pub(super) fn health(table: &mut Table<'_>) -> Health {
    let kinds = [("http", true), ("tcp", false)];
    let is_http = table
        .get("kind")
        .and_then(|value| value.one_of(&kinds, &["grpc"]));
    let path = table.get("path");
    let host = table.get("host");
    let headers = table.get("headers");
    let expect_status = table.get("expect_status");
    let probe = if is_http.unwrap_or(true) {
        Probe::Http {
            path: path.as_ref().and_then(probe_path).unwrap_or("/").into(),
            host: host.as_ref().and_then(probe_host),
            headers: headers.as_ref().map(header::to_send).unwrap_or_default(),
            expect_status: expect_status
                .as_ref()
                .and_then(statuses)
                .unwrap_or_else(|| {
                    vec![StatusRange {
                        low: 200,
                        high: 299,
                    }]
                }),
        }
    } else {
        for value in [path, host, headers, expect_status].into_iter().flatten() {
            value.source.report(
                value.key_place(),
                "only for kind = \"http\"; a \"tcp\" probe just connects",
            );
        }
        Probe::Tcp
    };

    let interval_value = table.get("interval");
    let timeout_value = table.get("timeout");
    let interval = interval_value
        .as_ref()
        .and_then(Value::duration)
        .unwrap_or(INTERVAL);
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
    let mut threshold = |key, default| {
        let threshold = table.get(key).and_then(|value| value.integer(1..=MOST));
        threshold
            .and_then(|threshold| u32::try_from(threshold).ok())
            .unwrap_or(default)
    };
    Health {
        probe,
        interval,
        timeout,
        fall: threshold("fall", 3),
        rise: threshold("rise", 2),
        fast_interval: table
            .get("fast_interval")
            .and_then(|value| value.duration())
            .unwrap_or(FAST_INTERVAL),
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
const MOST: i64 = 1000; // beyond that a check never changes its mind
