//! One JSON line per finished request, on its way to a writer thread.
//!
//! Lines are gathered in the worker's own buffer and handed over in blocks through a bounded channel. A worker never
//! waits: a block that finds the channel full is dropped, its lines counted.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::IntCounter;
use time::format_description::well_known::Rfc3339;

use super::record::FailedAttempt;

/// A block is handed over once it is this long.
const BLOCK: usize = 32 * 1024;

/// Whole lines on their way to be written.
#[derive(Debug, Default)]
pub struct Block {
    /// The lines, each with its end.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub lines: u64,
}

/// How a member of a line begins.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}

/// Where lines go.
pub trait LogTarget: std::io::Write + Send + std::fmt::Debug {}

impl<T: std::io::Write + Send + std::fmt::Debug> LogTarget for T {}

/// One worker's lines.
#[derive(Debug)]
pub struct AccessLog {
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    writer: SyncSender<Block>,
    dropped: IntCounter,
    second: RefCell<(u64, String)>,
}

impl AccessLog {
    /// Lines go to `writer`; those that do not fit are counted in `dropped`.
    pub fn new(writer: SyncSender<Block>, dropped: IntCounter) -> Self {
        Self {
            buffer: RefCell::default(),
            lines: Cell::new(0),
            writer,
            dropped,
            second: RefCell::default(),
        }
    }

    /// Adds a line.
    pub fn write(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        self.format(&mut buffer, line);
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= BLOCK {
            let block = std::mem::replace(&mut *buffer, Vec::with_capacity(BLOCK + 1024));
            drop(buffer);
            self.hand_over(block);
        }
    }

    /// Hands over what there is. The worker calls it five times a second, so that lines do not wait for others.
    pub fn flush(&self) {
        let block = self.buffer.take();
        if !block.is_empty() {
            self.hand_over(block);
        }
    }

    fn hand_over(&self, block: Vec<u8>) {
        let lines = self.lines.replace(0);
        let block = Block {
            bytes: block,
            lines,
        };
        if self.writer.try_send(block).is_err() {
            self.dropped.inc_by(lines);
        }
    }

    fn format(&self, out: &mut Vec<u8>, line: &Line<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out);
        out.push(b'"');
        number(out, key!("generation"), line.generation);
        plain(out, key!("request_id"), line.request_id);
        plain(out, key!("client"), line.client);
        text(out, key!("listener"), line.listener);
        plain(out, key!("protocol"), line.protocol);
        text(out, key!("method"), line.method);
        text(out, key!("host"), line.host);
        text(out, key!("path"), line.path);
        optional(out, key!("raw_path"), line.raw_path);
        optional(out, key!("query"), line.query);
        text(out, key!("route"), line.route);
        optional(out, key!("upstream"), line.upstream);
        optional(out, key!("endpoint"), line.endpoint);
        optional(out, key!("endpoint_version"), line.endpoint_version);
        number(out, key!("attempts"), line.attempts);
        failed_attempts(out, line.failed);
        number(out, key!("status"), u64::from(line.status));
        plain(out, key!("who"), line.who);
        optional(out, key!("reason"), line.reason);
        number(out, key!("request_bytes"), line.request_bytes);
        number(out, key!("response_bytes"), line.response_bytes);
        if let Some(queued) = line.queued {
            milliseconds(out, key!("queued_ms"), queued);
        }
        if let Some(head) = line.head {
            milliseconds(out, key!("head_ms"), head);
        }
        milliseconds(out, key!("total_ms"), line.total);
        out.extend_from_slice(b"}\n");
    }

    /// `2026-11-21T12:34:56.789Z`; up to the second it is made once a second.
    fn time(&self, out: &mut Vec<u8>) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut second = self.second.borrow_mut();
        if second.0 != now.as_secs() || second.1.is_empty() {
            let text = i64::try_from(now.as_secs())
                .ok()
                .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
                .and_then(|time| time.format(&Rfc3339).ok())
                .unwrap_or_default();
            *second = (now.as_secs(), text.trim_end_matches('Z').to_owned());
        }
        out.extend_from_slice(second.1.as_bytes());
        out.push(b'.');
        thousandths(out, now.subsec_millis());
        out.push(b'Z');
    }
}

/// The facts of one request.
#[derive(Debug)]
pub struct Line<'a> {
    /// Number of the snapshot that served it.
    pub generation: u64,
    /// As in `X-Request-Id`.
    pub request_id: &'a str,
    /// The client's address, behind trusted proxies the one they name.
    pub client: &'a str,
    /// Where it came in.
    pub listener: &'a str,
    /// `HTTP/1.1` and the like.
    pub protocol: &'a str,
    /// As sent.
    pub method: &'a str,
    /// As sent, without port.
    pub host: &'a str,
    /// Canonical; as sent where it has no canonical form.
    pub path: &'a str,
    /// As sent, where it differs.
    pub raw_path: Option<&'a str>,
    /// As sent.
    pub query: Option<&'a str>,
    /// Its route.
    pub route: &'a str,
    /// Its upstream, if it came that far.
    pub upstream: Option<&'a str>,
    /// The endpoint asked last.
    pub endpoint: Option<&'a str>,
    /// Which version of its code that runs, where it says so.
    pub endpoint_version: Option<&'a str>,
    /// Endpoints asked.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: &'a [FailedAttempt],
    /// What the client got; 499 where it left.
    pub status: u16,
    /// Who made the response: `upstream` or `balancer`.
    pub who: &'static str,
    /// Why it failed.
    pub reason: Option<&'static str>,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// How long the request waited for an endpoint with room, if it did.
    pub queued: Option<Duration>,
    /// Until the response's head.
    pub head: Option<Duration>,
    /// Until the end.
    pub total: Duration,
}

fn failed_attempts(out: &mut Vec<u8>, attempts: &[FailedAttempt]) {
    for (index, attempt) in attempts.iter().enumerate() {
        if index == 0 {
            out.extend_from_slice(key!("failed_attempts"));
        }
        // `text` and the others write a comma before the key: here the first one opens the object.
        let begin = out.len();
        text(out, key!("endpoint"), attempt.endpoint.name());
        let opened = if index == 0 { &b"[{"[..] } else { &b",{"[..] };
        out.splice(begin..=begin, opened.iter().copied());
        if let Some(is_reused) = attempt.is_reused {
            out.extend_from_slice(key!("reused"));
            out.extend_from_slice(if is_reused { b"true" } else { b"false" });
        }
        plain(out, key!("error"), attempt.error);
        milliseconds(out, key!("ms"), attempt.after);
        out.push(b'}');
    }
    if !attempts.is_empty() {
        out.push(b']');
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn milliseconds(out: &mut Vec<u8>, key: &[u8], value: Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(out, key, micros / 1000);
    out.push(b'.');
    thousandths(out, (micros % 1000) as u32);
}

/// Three digits.
fn thousandths(out: &mut Vec<u8>, value: u32) {
    out.extend([value / 100, value / 10 % 10, value % 10].map(|digit| b'0' + digit as u8));
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

/// A value of our own making, in which nothing is to be escaped.
fn plain(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// RFC 8259 §7: quotes, backslashes and control characters are escaped; DEL and those of Latin-1 too, which terminals act
/// on, and U+2028 and U+2029, which some readers take for the end of a line.
fn text(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.push(b'"');
    let mut rest = value.as_bytes();
    // What needs no look goes over in one piece: nearly always that is all.
    while let Some(at) = rest.iter().position(|byte| SUSPECT[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..at]);
        rest = escape(out, &rest[at..]);
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Bytes that are escaped, or begin characters of which some are.
static SUSPECT: [bool; 256] = {
    let mut suspect = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        suspect[byte] = matches!(byte as u8, b'"' | b'\\' | 0..0x20 | 0x7f | 0xc2 | 0xe2);
        byte += 1;
    }
    suspect
};

/// Writes the character that `rest` begins with, escaped if it has to be, and gives what follows it.
fn escape<'a>(out: &mut Vec<u8>, rest: &'a [u8]) -> &'a [u8] {
    let length = match rest {
        [byte @ (b'"' | b'\\'), ..] => {
            out.extend_from_slice(&[b'\\', *byte]);
            1
        }
        [byte @ (0..0x20 | 0x7f), ..] => {
            unicode(out, u16::from(*byte));
            1
        }
        // U+0080 to U+009F, the second set of control characters.
        [0xc2, next @ 0x80..0xa0, ..] => {
            unicode(out, u16::from(*next));
            2
        }
        [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
            unicode(out, 0x2000 | u16::from(*last - 0x80));
            3
        }
        [byte, ..] => {
            out.push(*byte);
            1
        }
        [] => 0,
    };
    &rest[length..]
}

fn unicode(out: &mut Vec<u8>, code: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(code >> shift & 15)]));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn line(path: &str) -> Line<'_> {
        Line {
            generation: 3,
            request_id: "00ff",
            client: "192.0.2.1",
            listener: "https",
            protocol: "HTTP/2",
            method: "GET",
            host: "example.com",
            path,
            raw_path: None,
            query: Some("a=\"b\""),
            route: "/",
            upstream: Some("app"),
            endpoint: Some("127.0.0.1:9001"),
            endpoint_version: None,
            attempts: 1,
            failed: &[],
            status: 200,
            who: "upstream",
            reason: None,
            request_bytes: 0,
            response_bytes: 12,
            queued: None,
            head: Some(Duration::from_micros(1500)),
            total: Duration::from_micros(2005),
        }
    }

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLog::new(sender, IntCounter::new("x", "x").unwrap());
        let hostile =
            "/\"\\\n\u{7f}\u{1b}[31m\u{80}\u{9b}\u{9f}\u{2028}\u{2029}\u{2027}\u{a0}é中\u{e2}";
        log.write(&line(hostile));
        log.flush();
        let block = receiver.try_recv().expect("lines").bytes;
        assert_eq!(block.iter().filter(|byte| **byte == b'\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_slice(&block).unwrap();
        assert_eq!(parsed["path"], hostile);
        let written = std::str::from_utf8(&block).unwrap();
        assert!(!written.trim_end_matches('\n').contains(|character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
        }));
        assert!(written.contains(r"\u0080\u009b\u009f\u2028\u2029"));
        assert_eq!(parsed["total_ms"], 2.005);
        assert_eq!(parsed["status"], 200);
        assert!(parsed["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn full_channel_drops_lines_and_counts_them() {
        let (sender, _receiver) = sync_channel(1);
        let dropped = IntCounter::new("x", "x").unwrap();
        let log = AccessLog::new(sender, dropped.clone());
        for _ in 0..3 {
            log.write(&line("/"));
            log.write(&line("/"));
            log.flush();
        }
        assert_eq!(dropped.get(), 4);
    }
}
