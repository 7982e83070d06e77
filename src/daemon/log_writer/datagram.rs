//! Lines to a log daemon of this machine, each in a datagram of its own. A daemon that is away or does not read is not waited
//! for: it is looked for again with the next lines.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;

use time::OffsetDateTime;

use super::journal;
use super::{Failed, PATIENCE};
use crate::proxy::access_log::Block;

/// How a daemon wants to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    /// As syslog(3) does (RFC 3164 §4.1, without the host: the daemon knows where it runs).
    Syslog,
    /// As sd_journal_send(3) does: "Native Journal Protocol".
    Journal,
}

/// A log daemon's socket.
#[derive(Debug)]
pub struct Datagrams {
    path: PathBuf,
    protocol: Protocol,
    socket: UnixDatagram,
    is_connected: bool,
    /// What is sent.
    message: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(path: &Path, protocol: Protocol) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            protocol,
            socket: socket()?,
            is_connected: false,
            message: Vec::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks for the daemon.
    pub(super) fn connect(&mut self) -> io::Result<()> {
        self.socket.connect(&self.path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })?;
        self.is_connected = true;
        Ok(())
    }

    /// Sends the lines of `block` up to the first that cannot be sent.
    pub(super) fn write(&mut self, block: &Block) -> Result<(), Failed> {
        let lines = block.bytes.split(|byte| *byte == b'\n');
        let mut left = block.lines;
        let mut too_long = Ok(());
        for line in lines.filter(|line| !line.is_empty()) {
            match self.send(line) {
                Ok(()) => left -= 1,
                // No other line suffers from that.
                Err(error) if is_too_long(&error) => too_long = Err(error),
                Err(error) => return Err(Failed { lines: left, error }),
            }
        }
        too_long.map_err(|error| Failed { lines: left, error })
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        match self.protocol {
            Protocol::Syslog => syslog(&mut message, line, OffsetDateTime::now_utc())?,
            Protocol::Journal => journal::entry(&mut message, line),
        }
        let sent = self.send_whole(&message);
        self.message = message;
        sent
    }

    fn send_whole(&mut self, message: &[u8]) -> io::Result<()> {
        if !self.is_connected {
            self.connect()?;
        }
        match self.socket.send(message) {
            Ok(_) => Ok(()),
            // Another one may be there by now.
            Err(error) if is_gone(&error) => {
                self.is_connected = false;
                self.socket = socket()?;
                self.connect()?;
                self.socket.send(message).map(|_| ())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{}: nobody reads what is sent", self.path.display()),
            )),
            Err(error) => Err(error),
        }
    }
}

fn socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe
    )
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// `<134>Nov 21 12:34:56 balancer[7]: LINE`
fn syslog(out: &mut Vec<u8>, line: &[u8], now: OffsetDateTime) -> io::Result<()> {
    write!(
        out,
        "<{PRIORITY}>{} {:2} {:02}:{:02}:{:02} balancer[{}]: ",
        &now.month().to_string()[..3],
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        process::id(),
    )?;
    out.extend_from_slice(line);
    Ok(())
}

const PRIORITY: u8 = 16 * 8 + 6; // local0.info: where HAProxy's guides, too, put requests

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_syslog_sends() {
        let mut out = Vec::new();
        let now = OffsetDateTime::from_unix_timestamp(1_767_225_599).unwrap();
        syslog(&mut out, b"{}", now).unwrap();
        let expected = format!("<134>Dec 31 23:59:59 balancer[{}]: {{}}", process::id());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    fn block(lines: &[&str]) -> Block {
        Block {
            bytes: lines
                .iter()
                .flat_map(|line| [line, "\n"])
                .collect::<String>()
                .into_bytes(),
            lines: lines.len() as u64,
        }
    }

    fn received(daemon: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = daemon.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_daemon_that_comes_later_and_again_gets_what_is_sent_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut datagrams = Datagrams::new(&path, Protocol::Syslog).unwrap();
        let failed = datagrams.write(&block(&["a", "b"])).unwrap_err();
        assert_eq!(failed.lines, 2);
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            datagrams.write(&block(&["c", "d"])).unwrap();
            assert!(received(&daemon).ends_with("]: c"));
            assert!(received(&daemon).ends_with("]: d"));
            drop(daemon);
            let failed = datagrams.write(&block(&["e"])).unwrap_err();
            assert_eq!(failed.lines, 1);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_daemon_that_does_not_read_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut datagrams = Datagrams::new(&path, Protocol::Syslog).unwrap();
        // More than any queue or buffer takes.
        let long = "x".repeat(1000);
        let failed = datagrams.write(&block(&vec![&*long; 4000])).unwrap_err();
        assert_eq!(failed.error.kind(), io::ErrorKind::TimedOut);
        let sent = 4000 - failed.lines;
        for _ in 0..sent {
            received(&daemon);
        }
        datagrams.write(&block(&["a"])).unwrap();
        assert!(received(&daemon).ends_with("]: a"));
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut datagrams = Datagrams::new(&path, Protocol::Syslog).unwrap();
        let failed = datagrams
            .write(&block(&["a", &"x".repeat(8 << 20), "b"]))
            .unwrap_err();
        assert_eq!(failed.lines, 1);
        assert!(received(&daemon).ends_with("]: a"));
        assert!(received(&daemon).ends_with("]: b"));
    }
}
