//! The thread that writes the access log, so that no worker waits for a disk.

mod complaints;
mod datagram;
mod file;
mod journal;

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tracing::{error, info, warn};

use self::complaints::{Complaints, Say};
use self::datagram::{Datagrams, Protocol};
use self::file::Stream;
use crate::config::{AccessLog, AccessLogTarget};
use crate::lock::lock;
use crate::proxy::access_log::{Block, Lost, Outlet};

/// Blocks of about 32 KiB that may wait to be written.
const BLOCKS: usize = 256;
/// Who reads lines has so long to make room for more: after that they are dropped. Long enough for a daemon that is started anew,
/// short enough to be told of another target in time.
const PATIENCE: Duration = Duration::from_secs(1);

/// The writer thread, as the control thread sees it.
#[derive(Debug)]
pub struct Handle {
    outlet: Outlet,
    target: Arc<Mutex<Next>>,
    lost: Lost,
    thread: JoinHandle<()>,
}

/// Where to write next. Beside the channel, not in it: a reader that is stuck fills the channel, and the control thread
/// must not wait for that.
#[derive(Debug)]
enum Next {
    Same,
    New(Target),
}

/// Where lines go.
#[derive(Debug)]
pub enum Target {
    /// Nowhere.
    Off,
    /// One after the other.
    Stream(Stream),
    /// Each by itself.
    Datagrams(Datagrams),
}

/// Lines that were not written.
#[derive(Debug)]
struct Failed {
    lines: u64,
    error: io::Error,
}

impl Target {
    /// Opens what `log` names: anew each time, so that a reload lets go of a file that was renamed. A daemon need not be
    /// there yet.
    pub fn open(log: &AccessLog) -> io::Result<Self> {
        Ok(match &log.target {
            AccessLogTarget::Off => Self::Off,
            AccessLogTarget::Stdout => Self::Stream(Stream::stdout()?),
            AccessLogTarget::File(path) => Self::Stream(Stream::open(path)?),
            AccessLogTarget::Syslog(path) => Self::datagrams(path, Protocol::Syslog)?,
            AccessLogTarget::Journald(path) => Self::datagrams(path, Protocol::Journal)?,
        })
    }

    fn datagrams(path: &Path, protocol: Protocol) -> io::Result<Self> {
        let mut datagrams = Datagrams::new(path, protocol)?;
        if let Err(error) = datagrams.connect() {
            warn!(%error, "access log: nobody listens yet; lines are dropped until somebody does");
        }
        Ok(Self::Datagrams(datagrams))
    }

    /// Where that is, for people.
    fn name(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Stream(stream) => stream.name().to_owned(),
            Self::Datagrams(datagrams) => datagrams.path().display().to_string(),
        }
    }

    fn write(&mut self, block: &Block) -> Result<(), Failed> {
        match self {
            Self::Off => Ok(()),
            Self::Stream(stream) => stream.write(block),
            Self::Datagrams(datagrams) => datagrams.write(block),
        }
    }

    /// Lets go of it: lines of which only a part was written so far.
    fn leave(self) -> u64 {
        match self {
            Self::Off | Self::Datagrams(_) => 0,
            Self::Stream(stream) => u64::from(stream.is_within_line()),
        }
    }
}

/// Starts the thread, which writes where `log` says; lines it cannot write are counted in `dropped`. Fails where the
/// target cannot be opened.
pub fn start(log: &AccessLog, dropped: IntCounter) -> io::Result<Handle> {
    let first = Target::open(log)?;
    let (sender, receiver) = sync_channel(BLOCKS);
    let lost = Lost::new(dropped);
    let target = Arc::new(Mutex::new(Next::Same));
    let writer = Writer {
        receiver,
        target: first,
        next: Arc::clone(&target),
        lost: lost.clone(),
        complaints: Complaints::default(),
    };
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || writer.run())?;
    Ok(Handle {
        outlet: Outlet::new(sender, lost.clone()),
        target,
        lost,
        thread,
    })
}

impl Handle {
    /// Where workers send their lines.
    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// Writes to `target` from the next block on.
    pub fn set_target(&self, target: Target) {
        *lock(&self.target) = Next::New(target);
        // Lets go of a file that was renamed also when nobody sends lines; with a full channel somebody does.
        self.outlet.wake();
    }

    /// Lets go of a file that was renamed, for a new one of the name in `log`. Where that cannot be opened, writing goes on
    /// in the old one.
    pub async fn reopen(&self, log: &AccessLog) {
        let log = log.clone();
        // Not here: a file system that hangs would hold everything else up.
        let opened = tokio::task::spawn_blocking(move || Target::open(&log)).await;
        match opened.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(target) => {
                self.set_target(target);
                info!("access log reopened");
            }
            Err(error) => {
                error!(%error, "access log cannot be reopened; lines go on into the file that is open");
            }
        }
    }

    /// Waits until everything sent so far is written, for `limit` at most: a disk that hangs keeps nobody. What still waits then
    /// is lost.
    pub fn finish_within(self, limit: Duration) {
        drop(self.outlet);
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        let lines = self.lost.waiting();
        if lines > 0 {
            self.lost.add(lines);
            warn!(
                lines,
                "access log lines are lost: they could not be written in time"
            );
        }
    }
}

struct Writer {
    receiver: Receiver<Block>,
    target: Target,
    next: Arc<Mutex<Next>>,
    lost: Lost,
    complaints: Complaints,
}

impl Writer {
    fn run(mut self) {
        loop {
            let block = match self.complaints.due(Instant::now()) {
                None => self
                    .receiver
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => self.receiver.recv_timeout(wait),
            };
            match block {
                Ok(block) => self.write(&block),
                Err(RecvTimeoutError::Timeout) => self.say(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What was lost since it was last said is said before the end.
        self.complaints.hurry();
        self.say();
    }

    fn write(&mut self, block: &Block) {
        let next = std::mem::replace(&mut *lock(&self.next), Next::Same);
        if let Next::New(new) = next {
            let left = std::mem::replace(&mut self.target, new).leave();
            self.lost.add(left);
        }
        if block.lines > 0 {
            let written = self.target.write(block);
            self.lost.settle(block.lines);
            match written {
                Ok(()) => self.complaints.written(),
                Err(Failed { lines, error }) => {
                    self.lost.add(lines);
                    self.complaints.failed(&error);
                }
            }
        }
        self.say();
    }

    fn say(&mut self) {
        match self.complaints.say(self.lost.count(), Instant::now()) {
            Some(Say::Dropped { lines, why }) => {
                let to = self.target.name();
                warn!(lines, to, error = why, "access log lines were dropped");
            }
            Some(Say::Resumed { lines }) => {
                info!(dropped = lines, "access log is written again");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::config;

    /// A writer into a pipe, and what counts lines it has lost.
    fn into_pipe() -> (Handle, PipeReader, IntCounter) {
        let (reader, pipe) = io::pipe().unwrap();
        let text = format!(
            "[listener.a]\naddress = \"127.0.0.1:0\"\n[access_log]\ntarget = \"/proc/self/fd/{}\"\n",
            pipe.as_raw_fd()
        );
        let config = config::parse(&text, Path::new("f")).unwrap();
        let dropped = IntCounter::new("x", "x").unwrap();
        let handle = start(&config.access_log, dropped.clone()).unwrap();
        (handle, reader, dropped)
    }

    fn block(length: usize, lines: u64) -> Block {
        let mut bytes = vec![b'x'; length];
        bytes.push(b'\n');
        Block { bytes, lines }
    }

    #[test]
    fn regression_lines_that_wait_at_the_end_are_counted() {
        let (handle, _reader, dropped) = into_pipe();
        // More than a pipe holds that nobody reads.
        handle.outlet.hand_over(block(1 << 20, 1));
        handle.outlet.hand_over(block(1, 3));
        handle.finish_within(Duration::from_millis(20));
        assert_eq!(dropped.get(), 4);
    }

    #[test]
    fn what_is_written_by_the_end_is_not_lost() {
        let (handle, mut reader, dropped) = into_pipe();
        handle.outlet.hand_over(block(1, 1));
        handle.finish_within(Duration::from_secs(30));
        assert_eq!(dropped.get(), 0);
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        assert_eq!(line, "x\n");
    }
}
