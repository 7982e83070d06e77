//! One JSON object per line. Its members are those of [`Field`], in that order.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;

use super::clock::{Clock, thousandths};
use super::{FailedAttempt, Line, escape, shown};
use crate::config::Field;
use crate::message::redact::{HIDDEN, Secrets};
use crate::snapshot::AccessLogRule;

/// How a member begins. Constants are copied where they stand: a call for each would be most of what a line costs.
macro_rules! key {
    ($out:expr, $name:literal) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":").as_bytes())
    };
}

/// A member that is text, and has to be looked through.
macro_rules! text {
    ($out:expr, $name:literal, $value:expr) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        escape::json($out, $value.as_ref());
        $out.push(b'"');
    };
}

/// A member that is text without anything to escape: of our own making, or a token.
macro_rules! plain {
    ($out:expr, $name:literal, $value:expr) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        $out.extend_from_slice($value);
        $out.push(b'"');
    };
}

pub(super) fn write(out: &mut Vec<u8>, line: &Line<'_>, rule: &AccessLogRule, clock: &mut Clock) {
    let begin = out.len();
    let fields = rule.fields;
    if fields.has(Field::Time) {
        out.extend_from_slice(b",\"time\":\"");
        clock.rfc3339(out);
        out.push(b'"');
    }
    if fields.has(Field::Generation) {
        key!(out, "generation");
        number(out, rule.generation);
    }
    if fields.has(Field::RequestId) {
        plain!(out, "request_id", line.request_id.as_bytes());
    }
    if let Some(trace_id) = line.trace_id
        && fields.has(Field::TraceId)
    {
        plain!(out, "trace_id", trace_id);
    }
    if fields.has(Field::Client) {
        plain!(out, "client", line.client.as_bytes());
    }
    // A name of the configuration has nothing to escape.
    if fields.has(Field::Listener) {
        plain!(out, "listener", line.listener.as_bytes());
    }
    if let Some(sni) = line.sni
        && fields.has(Field::Sni)
    {
        text!(out, "sni", sni);
    }
    if fields.has(Field::Protocol) {
        plain!(out, "protocol", line.protocol.as_bytes());
    }
    if fields.has(Field::Method) {
        plain!(out, "method", line.method.as_bytes());
    }
    if fields.has(Field::Host) {
        text!(out, "host", line.host);
    }
    target(out, line, rule);
    if let Some(value) = line.user_agent
        && fields.has(Field::UserAgent)
    {
        key!(out, "user_agent");
        header(out, value, rule.hides_user_agent, rule);
    }
    if let Some(value) = line.referer
        && fields.has(Field::Referer)
    {
        key!(out, "referer");
        header(out, value, rule.hides_referer, rule);
    }
    if !line.headers.is_empty() {
        headers(out, line, rule);
    }
    if fields.has(Field::Route) {
        text!(out, "route", line.route);
    }
    if let Some(upstream) = line.upstream
        && fields.has(Field::Upstream)
    {
        plain!(out, "upstream", upstream.as_bytes());
    }
    if let Some(endpoint) = line.endpoint
        && fields.has(Field::Endpoint)
    {
        text!(out, "endpoint", endpoint);
    }
    if let Some(version) = line.endpoint_version
        && fields.has(Field::EndpointVersion)
    {
        text!(out, "endpoint_version", version);
    }
    if fields.has(Field::Attempts) {
        key!(out, "attempts");
        number(out, line.attempts);
    }
    if !line.failed.is_empty() && fields.has(Field::FailedAttempts) {
        failed_attempts(out, line.failed);
    }
    if fields.has(Field::Status) {
        key!(out, "status");
        number(out, u64::from(line.status));
    }
    if fields.has(Field::Who) {
        plain!(out, "who", line.who.as_bytes());
    }
    if let Some(reason) = line.reason
        && fields.has(Field::Reason)
    {
        plain!(out, "reason", reason.as_bytes());
    }
    if fields.has(Field::RequestBytes) {
        key!(out, "request_bytes");
        number(out, line.request_bytes);
    }
    if fields.has(Field::ResponseBytes) {
        key!(out, "response_bytes");
        number(out, line.response_bytes);
    }
    durations(out, line, rule);
    match out.get_mut(begin) {
        // Every member writes a comma first.
        Some(first) => *first = b'{',
        None => out.push(b'{'),
    }
    out.extend_from_slice(b"}\n");
}

/// What was asked for.
fn target(out: &mut Vec<u8>, line: &Line<'_>, rule: &AccessLogRule) {
    let fields = rule.fields;
    let without = |path| {
        rule.secrets
            .as_ref()
            .map_or(Cow::Borrowed(path), |secrets: &Secrets| secrets.path(path))
    };
    if fields.has(Field::Path) {
        text!(
            out,
            "path",
            without(line.path.unwrap_or(line.raw_path)).as_bytes()
        );
    }
    if line.path.is_some() && fields.has(Field::RawPath) {
        text!(out, "raw_path", without(line.raw_path).as_bytes());
    }
    if let Some(query) = line.query
        && fields.has(Field::Query)
    {
        match &rule.secrets {
            None => {
                text!(out, "query", query);
            }
            Some(secrets) => {
                text!(out, "query", secrets.query(query).as_bytes());
            }
        }
    }
}

/// How long what took.
fn durations(out: &mut Vec<u8>, line: &Line<'_>, rule: &AccessLogRule) {
    let fields = rule.fields;
    if let Some(tls) = line.tls
        && fields.has(Field::TlsMs)
    {
        key!(out, "tls_ms");
        milliseconds(out, tls);
    }
    if let Some(queued) = line.queued
        && fields.has(Field::QueuedMs)
    {
        key!(out, "queued_ms");
        milliseconds(out, queued);
    }
    if let Some(connect) = line.connect
        && fields.has(Field::ConnectMs)
    {
        key!(out, "connect_ms");
        milliseconds(out, connect);
    }
    if let Some(head) = line.head
        && fields.has(Field::HeadMs)
    {
        key!(out, "head_ms");
        milliseconds(out, head);
    }
    if fields.has(Field::TotalMs) {
        key!(out, "total_ms");
        milliseconds(out, line.total);
    }
}

/// The value of a field.
fn header(out: &mut Vec<u8>, value: &HeaderValue, is_hidden: bool, rule: &AccessLogRule) {
    out.push(b'"');
    if is_hidden {
        out.extend_from_slice(HIDDEN.as_bytes());
    } else {
        escape::json(out, shown(value, rule).as_bytes());
    }
    out.push(b'"');
}

/// Fields that are asked for, by their names.
fn headers(out: &mut Vec<u8>, line: &Line<'_>, rule: &AccessLogRule) {
    key!(out, "headers");
    let mut before = None;
    for (index, value) in line.headers {
        let (name, is_hidden) = &rule.headers[*index];
        if before == Some(index) {
            // One more of the same name: into the same string, as lists are joined (RFC 9110 §5.3).
            out.pop();
            out.extend_from_slice(b", ");
        } else {
            out.push(if before.is_none() { b'{' } else { b',' });
            out.push(b'"');
            escape::json(out, name.as_str().as_bytes());
            out.extend_from_slice(b"\":\"");
        }
        let shown = if *is_hidden {
            Cow::Borrowed(HIDDEN)
        } else {
            shown(value, rule)
        };
        escape::json(out, shown.as_bytes());
        out.push(b'"');
        before = Some(index);
    }
    out.push(b'}');
}

fn failed_attempts(out: &mut Vec<u8>, attempts: &[FailedAttempt]) {
    key!(out, "failed_attempts");
    out.push(b'[');
    for attempt in attempts {
        let begin = out.len();
        text!(out, "endpoint", attempt.endpoint.name().as_bytes());
        out[begin] = b'{';
        if let Some(is_reused) = attempt.is_reused {
            key!(out, "reused");
            out.extend_from_slice(if is_reused { b"true" } else { b"false" });
        }
        plain!(out, "error", attempt.error.as_bytes());
        key!(out, "ms");
        milliseconds(out, attempt.after);
        out.extend_from_slice(b"},");
    }
    out.pop();
    out.push(b']');
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// With a fraction of three digits.
fn milliseconds(out: &mut Vec<u8>, value: Duration) {
    let whole = value.as_secs().saturating_mul(1000) + u64::from(value.subsec_millis());
    number(out, whole);
    out.push(b'.');
    thousandths(out, value.subsec_micros() % 1000);
}
