//! The thread that writes the access log, so that no worker waits for a disk.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::error;

use crate::config::{AccessLog, AccessLogTarget};
use crate::proxy::access_log::{LogMessage, LogTarget};

/// Blocks of about 32 KiB that may wait to be written.
const BLOCKS: usize = 256;

/// The writer thread, as the control thread sees it.
#[derive(Debug)]
pub struct Handle {
    sender: SyncSender<LogMessage>,
    thread: JoinHandle<()>,
}

/// Starts the thread, which writes where `log` says. Fails where that cannot be opened.
pub fn start(log: &AccessLog) -> io::Result<Handle> {
    let target = open(log)?;
    let (sender, receiver) = sync_channel(BLOCKS);
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_all(&receiver, target))?;
    Ok(Handle { sender, thread })
}

impl Handle {
    /// Where workers send their lines.
    pub fn sender(&self) -> SyncSender<LogMessage> {
        self.sender.clone()
    }

    /// Writes to `target` from now on.
    pub fn set_target(&self, target: Option<Box<dyn LogTarget>>) {
        let _ = self.sender.send(LogMessage::Target(target));
    }

    /// Waits until everything sent so far is written, for `limit` at most: a disk that hangs keeps nobody.
    pub fn finish_within(self, limit: Duration) {
        drop(self.sender);
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Opens what `log` names: anew each time, so that a reload lets go of a file that was renamed.
pub fn open(log: &AccessLog) -> io::Result<Option<Box<dyn LogTarget>>> {
    Ok(match &log.target {
        AccessLogTarget::Off => None,
        AccessLogTarget::Stdout => Some(Box::new(io::stdout())),
        AccessLogTarget::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Some(Box::new(file.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?))
        }
    })
}

fn write_all(receiver: &Receiver<LogMessage>, mut target: Option<Box<dyn LogTarget>>) {
    let mut failing = false;
    for message in receiver {
        match message {
            LogMessage::Target(next) => (target, failing) = (next, false),
            LogMessage::Lines(block) => {
                let Some(target) = &mut target else { continue };
                let written = target.write_all(&block).and_then(|()| target.flush());
                if let Err(error) = &written
                    && !failing
                {
                    error!(%error, "access log cannot be written");
                }
                failing = written.is_err();
            }
        }
    }
}
