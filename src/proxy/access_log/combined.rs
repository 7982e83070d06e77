//! The combined log format, as Apache defined it and nginx writes it: what every log reader understands.

use super::clock::Clock;
use super::{Line, escape, shown};
use crate::snapshot::AccessLogRule;

/// `192.0.2.1 - - [21/Nov/2026:12:34:56 +0000] "GET /x?y HTTP/1.1" 200 12 "https://example.com/" "curl/8"`
pub(super) fn write(out: &mut Vec<u8>, line: &Line<'_>, rule: &AccessLogRule, clock: &mut Clock) {
    out.extend_from_slice(line.client.as_bytes());
    // Neither identd nor a user: no one is authenticated here.
    out.extend_from_slice(b" - - [");
    clock.common(out);
    out.extend_from_slice(b"] \"");
    request(out, line, rule);
    out.extend_from_slice(b"\" ");
    number(out, u64::from(line.status));
    out.push(b' ');
    number(out, line.response_bytes);
    let fields = [
        (line.referer, rule.hides_referer),
        (line.user_agent, rule.hides_user_agent),
    ];
    for (value, is_hidden) in fields {
        out.extend_from_slice(b" \"");
        match value {
            None => out.push(b'-'),
            Some(_) if is_hidden => out.extend_from_slice(b"***"),
            Some(value) => escape::combined(out, shown(value, rule).as_bytes()),
        }
        out.push(b'"');
    }
    out.push(b'\n');
}

fn request(out: &mut Vec<u8>, line: &Line<'_>, rule: &AccessLogRule) {
    if line.method == "-" {
        return out.push(b'-');
    }
    escape::combined(out, line.method.as_bytes());
    out.push(b' ');
    match &rule.secrets {
        None => escape::combined(out, line.raw_path.as_bytes()),
        Some(secrets) => escape::combined(out, secrets.path(line.raw_path).as_bytes()),
    }
    if let Some(query) = line.query {
        out.push(b'?');
        match &rule.secrets {
            None => escape::combined(out, query.as_bytes()),
            Some(secrets) => escape::combined(out, secrets.query(query).as_bytes()),
        }
    }
    out.push(b' ');
    let protocol = match line.protocol {
        // As others spell it.
        "HTTP/2" => "HTTP/2.0",
        other => other,
    };
    out.extend_from_slice(protocol.as_bytes());
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
