//! Who has done what, and what came of it: in the log, and in a file of its own where `admin.audit` names one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{error, info};

use crate::admin::command::Operator;

/// Where it is written.
#[derive(Debug)]
pub(super) struct Audit(Option<Writer>);

#[derive(Debug)]
struct Writer {
    lines: Sender<Vec<u8>>,
    thread: JoinHandle<()>,
}

/// Something an operator has done.
#[derive(Debug)]
pub(super) struct Action<'a> {
    /// What: `reload`, `drain`, …
    pub(super) action: &'static str,
    /// To which endpoint, or generation.
    pub(super) target: &'a str,
    /// The generation in use afterwards.
    pub(super) generation: u64,
    /// Why it was refused, if it was.
    pub(super) refused: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    /// `socket` or `token`.
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// Of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    action: &'a str,
    target: &'a str,
    generation: u64,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Audit {
    /// Appends to the file at `path`, if any. Written by a thread of its own: a disk that hangs holds nothing up.
    pub(super) fn start(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let path = path.to_owned();
        let (lines, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_all(&path, &receiver))?;
        Ok(Self(Some(Writer { lines, thread })))
    }

    /// Waits until everything noted so far is written, for `limit` at most: a disk that hangs keeps nobody.
    pub(super) fn finish_within(self, limit: Duration) {
        let Some(Writer { lines, thread }) = self.0 else {
            return;
        };
        drop(lines);
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes note of what `by` has done.
    pub(super) fn note(&self, by: Operator, done: &Action<'_>) {
        let Action {
            action,
            target,
            generation,
            refused,
        } = done;
        let result = if refused.is_some() { "refused" } else { "done" };
        let reason = refused.as_deref();
        info!(
            by = by.as_str(),
            uid = by.uid(),
            pid = by.pid(),
            client = by.client().map(|client| client.to_string()),
            action,
            target,
            generation,
            result,
            reason,
            "operator"
        );
        let Some(writer) = &self.0 else { return };
        let line = Line {
            time: OffsetDateTime::now_utc()
                .format(&Rfc3339)
                .unwrap_or_default(),
            by: by.as_str(),
            uid: by.uid(),
            pid: by.pid(),
            client: by.client(),
            action,
            target,
            generation: *generation,
            result,
            reason,
        };
        let Ok(mut line) = serde_json::to_vec(&line) else {
            return;
        };
        line.push(b'\n');
        // Without the thread, it was said why.
        let _ = writer.lines.send(line);
    }
}

/// For every line anew: there are few, and a file that was renamed is let go of.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn write_all(path: &Path, lines: &Receiver<Vec<u8>>) {
    for line in lines {
        if let Err(error) = open(path).and_then(|mut file| file.write_all(&line)) {
            let path = path.display();
            error!(%path, %error, "audit log cannot be written: a line is missing there, which stands in this log as `operator`; make room, or see whose the file is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_last_line_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::start(Some(&path)).unwrap();
        let by = Operator::User { uid: 7, pid: None };
        for generation in 1..=300 {
            let action = Action {
                action: "drain",
                target: "app/a",
                generation,
                refused: None,
            };
            audit.note(by, &action);
        }
        audit.finish_within(Duration::from_secs(60));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 300);
        assert!(text.ends_with("\"generation\":300,\"result\":\"done\"}\n"));
    }
}
