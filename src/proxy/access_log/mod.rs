//! One line per finished request, on its way to a writer thread.
//!
//! Lines are gathered in the worker's own buffer and handed over in blocks through a bounded channel. A worker never
//! waits: a block that finds the channel full is dropped, its lines counted.

mod clock;
mod combined;
mod escape;
mod json;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use http::HeaderValue;
use prometheus::IntCounter;

use self::clock::Clock;
use super::record::FailedAttempt;
use crate::config::AccessLogFormat;
use crate::snapshot::AccessLogRule;

/// A block is handed over once it is this long.
const BLOCK: usize = 32 * 1024;
/// What a line is usually shorter than: room for the last one of a block.
const LINE: usize = 1024;

/// Whole lines on their way to be written.
#[derive(Debug, Default)]
pub struct Block {
    /// The lines, each with its end.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub lines: u64,
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub struct Outlet {
    blocks: SyncSender<Block>,
    lost: Lost,
}

/// Lines that were dropped, and those that may still be.
#[derive(Clone, Debug)]
pub struct Lost {
    metric: IntCounter,
    /// Lines handed over, and neither written nor lost so far. Relaxed, as the other one: the channel orders the two sides.
    waiting: Arc<AtomicU64>,
    /// The same, of this process only: added to by workers and the writer, read by the writer. A count, and nothing hangs on
    /// when it is seen: relaxed.
    count: Arc<AtomicU64>,
}

impl Lost {
    /// They are counted in `metric`, too.
    pub fn new(metric: IntCounter) -> Self {
        Self {
            metric,
            waiting: Arc::default(),
            count: Arc::default(),
        }
    }

    /// So many more.
    pub fn add(&self, lines: u64) {
        self.metric.inc_by(lines);
        self.count.fetch_add(lines, Relaxed);
    }

    /// So many are handed over: they wait from now on.
    fn wait(&self, lines: u64) {
        self.waiting.fetch_add(lines, Relaxed);
    }

    /// So many of those that waited do no longer, whatever has become of them.
    pub fn settle(&self, lines: u64) {
        self.waiting.fetch_sub(lines, Relaxed);
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// How many so far.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

impl Outlet {
    /// To who receives from the other end of `blocks`; what does not fit is `lost`.
    pub fn new(blocks: SyncSender<Block>, lost: Lost) -> Self {
        Self { blocks, lost }
    }

    /// Wakes the writer, unless it has something to do anyway.
    pub fn wake(&self) {
        let _ = self.blocks.try_send(Block::default());
    }

    /// Sends `block` to the writer, unless there is no room.
    pub fn hand_over(&self, block: Block) {
        // Before it is sent: it may be written before this goes on.
        self.lost.wait(block.lines);
        if let Err(TrySendError::Full(block) | TrySendError::Disconnected(block)) =
            self.blocks.try_send(block)
        {
            self.lost.settle(block.lines);
            self.lost.add(block.lines);
        }
    }
}

/// One worker's lines.
#[derive(Debug)]
pub struct AccessLog {
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    outlet: Outlet,
    clock: RefCell<Clock>,
}

impl AccessLog {
    /// Lines go out by `outlet`.
    pub fn new(outlet: Outlet) -> Self {
        Self {
            buffer: RefCell::default(),
            lines: Cell::new(0),
            outlet,
            clock: RefCell::default(),
        }
    }

    /// Adds a line, as `rule` says.
    pub fn write(&self, line: &Line<'_>, rule: &AccessLogRule) {
        let mut buffer = self.buffer.borrow_mut();
        let mut clock = self.clock.borrow_mut();
        match rule.format {
            AccessLogFormat::Json => json::write(&mut buffer, line, rule, &mut clock),
            AccessLogFormat::Combined => combined::write(&mut buffer, line, rule, &mut clock),
        }
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= BLOCK {
            let block = std::mem::replace(&mut *buffer, Vec::with_capacity(BLOCK + LINE));
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

    fn hand_over(&self, bytes: Vec<u8>) {
        let lines = self.lines.replace(0);
        self.outlet.hand_over(Block { bytes, lines });
    }
}

impl Drop for AccessLog {
    /// A worker that panics has no other chance.
    fn drop(&mut self) {
        self.flush();
    }
}

/// The facts of one request. A connection's, a route's or an endpoint's names are the configuration's; the rest is as hostile as
/// a client is.
#[derive(Debug)]
pub struct Line<'a> {
    /// As in `X-Request-Id`.
    pub request_id: &'a str,
    /// The trace it belongs to: 32 hexadecimal digits.
    pub trace_id: Option<&'a [u8; 32]>,
    /// The client's address, behind trusted proxies the one they name.
    pub client: &'a str,
    /// Where it came in.
    pub listener: &'a str,
    /// The server name it was asked for in TLS.
    pub sni: Option<&'a str>,
    /// `HTTP/1.1` and the like.
    pub protocol: &'static str,
    /// As sent.
    pub method: &'a str,
    /// As sent, without port.
    pub host: &'a [u8],
    /// Canonical, where it differs from what was sent.
    pub path: Option<&'a str>,
    /// As sent.
    pub raw_path: &'a str,
    /// As sent.
    pub query: Option<&'a str>,
    /// As sent.
    pub user_agent: Option<&'a HeaderValue>,
    /// As sent.
    pub referer: Option<&'a HeaderValue>,
    /// Fields that the rule asks for, each by its place there. Those of one name stand together.
    pub headers: &'a [(usize, HeaderValue)],
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
    /// How long the TLS handshake took, if this is the first request after it.
    pub tls: Option<Duration>,
    /// How long the request waited for an endpoint with room, if it did.
    pub queued: Option<Duration>,
    /// How long it took to open a connection to the endpoint that has answered, if one was opened.
    pub connect: Option<Duration>,
    /// Until the response's head.
    pub head: Option<Duration>,
    /// Until the end.
    pub total: Duration,
}

/// What is not longer than this of a field of a request is shown whole.
const LONGEST_VALUE: usize = 1024;

/// The value of a field as text, and no longer than is useful. What is no UTF-8 is replaced.
fn shown<'v>(value: &'v HeaderValue, rule: &AccessLogRule) -> Cow<'v, str> {
    let whole = String::from_utf8_lossy(value.as_bytes());
    let text = match (&rule.secrets, whole) {
        (None, whole) => whole,
        (Some(secrets), Cow::Borrowed(whole)) => secrets.url(whole),
        (Some(secrets), Cow::Owned(whole)) => Cow::Owned(secrets.url(&whole).into_owned()),
    };
    if text.len() <= LONGEST_VALUE {
        return text;
    }
    let mut cut = text.into_owned();
    cut.truncate(cut.floor_char_boundary(LONGEST_VALUE));
    cut.push('…');
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests;
