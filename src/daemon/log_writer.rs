//! The thread that writes the access log, so that no worker waits for a disk.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use rustix::fs::OFlags;
use tracing::{error, info};

use crate::config::{AccessLog, AccessLogTarget};
use crate::proxy::access_log::{Block, LogTarget};

/// Blocks of about 32 KiB that may wait to be written.
const BLOCKS: usize = 256;

/// The writer thread, as the control thread sees it.
#[derive(Debug)]
pub struct Handle {
    sender: SyncSender<Block>,
    target: Arc<Mutex<Target>>,
    thread: JoinHandle<()>,
}

/// Where to write next. Beside the channel, not in it: a reader that is stuck fills the channel, and the control thread
/// must not wait for that.
#[derive(Debug)]
enum Target {
    Same,
    New(Option<Box<dyn LogTarget>>),
}

/// Starts the thread, which writes where `log` says; lines it cannot write are counted in `dropped`. Fails where the
/// target cannot be opened.
pub fn start(log: &AccessLog, dropped: IntCounter) -> io::Result<Handle> {
    let first = open(log)?;
    let (sender, receiver) = sync_channel(BLOCKS);
    let target = Arc::new(Mutex::new(Target::New(first)));
    let next = Arc::clone(&target);
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_all(&receiver, &next, &dropped))?;
    Ok(Handle {
        sender,
        target,
        thread,
    })
}

impl Handle {
    /// Where workers send their lines.
    pub fn sender(&self) -> SyncSender<Block> {
        self.sender.clone()
    }

    /// Writes to `target` from the next block on.
    pub fn set_target(&self, target: Option<Box<dyn LogTarget>>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Target::New(target);
        // Lets go of a file that was renamed also when nobody sends lines; with a full channel somebody does.
        let _ = self.sender.try_send(Block::default());
    }

    /// Lets go of a file that was renamed, for a new one of the name in `log`. Where that cannot be opened, writing goes on
    /// in the old one.
    pub async fn reopen(&self, log: &AccessLog) {
        let log = log.clone();
        // Not here: a file system that hangs would hold everything else up.
        let opened = tokio::task::spawn_blocking(move || open(&log)).await;
        match opened.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(target) => {
                self.set_target(target);
                info!("access log reopened");
            }
            Err(error) => error!(%error, "access log cannot be reopened"),
        }
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
            // A pipe that nobody reads is an error, not a reason to wait.
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default())
                .open(path);
            Some(Box::new(file.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?))
        }
    })
}

fn write_all(receiver: &Receiver<Block>, next: &Mutex<Target>, dropped: &IntCounter) {
    let mut target = None;
    // Whether the last write failed: part of a line may stand at the end.
    let mut failing = false;
    for block in receiver {
        let changed = std::mem::replace(
            &mut *next.lock().unwrap_or_else(PoisonError::into_inner),
            Target::Same,
        );
        if let Target::New(new) = changed {
            (target, failing) = (new, false);
        }
        let Some(target) = &mut target else { continue };
        if block.lines == 0 {
            continue;
        }
        let rest = if failing {
            target.write_all(b"\n")
        } else {
            Ok(())
        };
        let written = rest
            .and_then(|()| target.write_all(&block.bytes))
            .and_then(|()| target.flush());
        if let Err(error) = &written {
            dropped.inc_by(block.lines);
            if !failing {
                error!(%error, "access log cannot be written");
            }
        }
        failing = written.is_err();
    }
}
