//! What the balancer says of itself: events with fields, on standard error. Nobody waits for who reads it.

mod sink;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use self::sink::{Format, Sink};
use crate::config::{Log, LogFormat, LogLevel};

/// The process's own, once it has begun.
static SINK: OnceLock<Sink> = OnceLock::new();
/// What was said last is waited for so long, where nobody reads it.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// Starts logging as `log` says. Later calls change nothing: the first one holds for the process.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let format = match log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let sink = match Sink::start(io::stderr(), format) {
        Ok(sink) => SINK.get_or_init(|| sink),
        Err(error) => {
            // Standard error may be closed: then nothing can be said.
            let _ = writeln!(io::stderr(), "balancer: no thread for the log: {error}");
            return;
        }
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(move || sink);
    // A second start is a test's; it keeps what the first one said.
    let _ = match log.format {
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_target(false)
            .try_init(),
    };
}

/// Waits until everything said so far is written, or nobody takes it. Before the process ends.
pub fn finish() {
    if let Some(sink) = SINK.get() {
        sink.finish_within(FINISH_WITHIN);
    }
}
