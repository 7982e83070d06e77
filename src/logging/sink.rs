//! Events on their way to standard error, by a thread of its own: a pipe that nobody reads must not stop who has something to
//! say. What comes when too much waits already is dropped, and how much that was is said.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Events that may wait.
const EVENTS: usize = 4096;

/// How events are written, and with them what is said of those that were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Text,
    Json,
}

/// Where events are put. Never waits, never fails.
#[derive(Debug)]
pub(super) struct Sink {
    events: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

/// Both are rare enough for the strictest order: whoever sees that nothing waits sees what was written.
#[derive(Debug, Default)]
struct State {
    /// Events dropped and not told of: raised by who has something to say, set back by the thread.
    dropped: AtomicU64,
    /// Events put and not written: raised by who has something to say, lowered by the thread, read by who ends the process.
    waiting: AtomicUsize,
}

impl Sink {
    /// Starts the thread, which writes to `target`.
    pub(super) fn start(target: impl Write + Send + 'static, format: Format) -> io::Result<Self> {
        let (events, receiver) = sync_channel(EVENTS);
        let state = Arc::<State>::default();
        let of_thread = Arc::clone(&state);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&receiver, target, &of_thread, format))?;
        Ok(Self { events, state })
    }

    /// Waits until everything put so far is written, for `limit` at most.
    pub(super) fn finish_within(&self, limit: Duration) {
        let begun = Instant::now();
        while self.state.waiting.load(SeqCst) > 0 && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whole events: who formats them writes each at once.
impl Write for &Sink {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.state.waiting.fetch_add(1, SeqCst);
        if self.events.try_send(event.to_vec()).is_err() {
            self.state.dropped.fetch_add(1, SeqCst);
            self.state.waiting.fetch_sub(1, SeqCst);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(events: &Receiver<Vec<u8>>, mut target: impl Write, state: &State, format: Format) {
    for event in events {
        // Where it cannot be written, there is nowhere to say so.
        let _ = target.write_all(&event);
        let dropped = state.dropped.swap(0, SeqCst);
        if dropped > 0 {
            let _ = target.write_all(notice(dropped, format).as_bytes());
        }
        state.waiting.fetch_sub(1, SeqCst);
    }
}

/// An event that tells of others.
fn notice(dropped: u64, format: Format) -> String {
    let now = OffsetDateTime::now_utc();
    let time = now.format(&Rfc3339).unwrap_or_default();
    let message = "events of this log were dropped: nobody took them";
    match format {
        Format::Text => format!("{time}  WARN {message} dropped={dropped}\n"),
        Format::Json => format!(
            "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{message}\",\"dropped\":{dropped}}}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_stops_nobody_and_is_told_what_it_missed() {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::start(writer, Format::Json).unwrap();
        // Far more than a pipe holds, and than may wait.
        let event = format!("{{\"message\":\"{}\"}}\n", "x".repeat(1000));
        for _ in 0..2 * EVENTS {
            assert_eq!((&sink).write(event.as_bytes()).unwrap(), event.len());
        }
        drop(sink);
        // How soon the thread begins to write, and how often it tells, is not known; only that nothing is missing.
        let (mut taken, mut told) = (0, 0);
        for line in BufReader::new(reader).lines() {
            let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            match event["dropped"].as_u64() {
                Some(dropped) => told += dropped,
                None => taken += 1,
            }
        }
        assert!(told > 0);
        assert_eq!(taken + told, 2 * EVENTS as u64);
    }

    #[test]
    fn a_closed_target_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = Sink::start(writer, Format::Text).unwrap();
        assert_eq!((&sink).write(b"event\n").unwrap(), 6);
        sink.finish_within(Duration::from_secs(60));
        assert_eq!(sink.state.waiting.load(SeqCst), 0);
    }

    #[test]
    fn what_was_dropped_is_told_in_the_format_of_the_log() {
        assert!(notice(3, Format::Text).ends_with(" dropped=3\n"));
        let event: serde_json::Value = serde_json::from_str(&notice(3, Format::Json)).unwrap();
        assert_eq!(
            (&event["level"], &event["dropped"]),
            (&"WARN".into(), &3.into())
        );
    }
}
