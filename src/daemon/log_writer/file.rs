//! Lines into a file, a pipe or a terminal. What is written is whole lines: one that was cut when there was no more room is
//! finished before the next one begins.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::{Failed, PATIENCE};
use crate::proxy::access_log::Block;

/// Somewhere to write one line after the other.
#[derive(Debug)]
pub struct Stream {
    file: File,
    /// Where that is, for people.
    name: String,
    /// Somebody has to read what is written: without that it is not waited for.
    is_read: bool,
    /// What is left of a line that could not be written whole.
    rest: Vec<u8>,
}

impl Stream {
    /// Standard output.
    pub(super) fn stdout() -> io::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Self::new(file, "standard output".to_owned())
    }

    /// The file at `path`, which is made where there is none: not for everybody to read, what people ask for is their own affair.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A pipe that nobody reads is an error, not a reason to wait.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(MODE)
            .custom_flags(nonblocking)
            .open(path)
            .and_then(|file| Self::new(file, path.display().to_string()))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn new(file: File, name: String) -> io::Result<Self> {
        Ok(Self {
            is_read: !file.metadata()?.is_file(),
            file,
            name,
            rest: Vec::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the last line is not whole.
    pub(super) fn is_within_line(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Writes the lines of `block`, or as many as it can. One that is begun is not lost: the rest of it comes first next time.
    pub(super) fn write(&mut self, block: &Block) -> Result<(), Failed> {
        let rest = std::mem::take(&mut self.rest);
        if let Err((written, error)) = self.write_all(&rest) {
            self.rest = rest[written..].to_vec();
            return Err(Failed {
                lines: block.lines,
                error,
            });
        }
        let bytes = &block.bytes;
        let Err((written, error)) = self.write_all(bytes) else {
            return Ok(());
        };
        let (done, left) = bytes.split_at(written);
        let ends = memchr::memchr_iter(b'\n', done).count() as u64;
        let is_cut = done.last().is_some_and(|last| *last != b'\n');
        if is_cut {
            let end = memchr::memchr(b'\n', left).map_or(left.len(), |end| end + 1);
            self.rest = left[..end].to_vec();
        }
        Err(Failed {
            lines: block.lines - ends - u64::from(is_cut),
            error,
        })
    }

    /// Writes `bytes`, or as many as can be told.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            let next = &bytes[written..];
            let piece = if self.is_read { piece(next) } else { next };
            match self.await_reader().and_then(|()| self.file.write(piece)) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Waits until there is room for a piece, but not for long.
    fn await_reader(&self) -> io::Result<()> {
        if !self.is_read {
            return Ok(());
        }
        let limit = Timespec {
            tv_sec: PATIENCE.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut room = [PollFd::new(&self.file, PollFlags::OUT)];
        match poll(&mut room, Some(&limit))? {
            0 => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nobody reads what is written",
            )),
            _ => Ok(()),
        }
    }
}

/// What may be written of `bytes` without waiting. Whole lines where they are short, so that those of another process, which writes
/// to the same pipe, do not come within them.
fn piece(bytes: &[u8]) -> &[u8] {
    let most = &bytes[..bytes.len().min(PIECE)];
    match memchr::memrchr(b'\n', most) {
        Some(end) => &most[..=end],
        None => most,
    }
}

const PIECE: usize = 4096; // PIPE_BUF: where there is room at all, there is for so many (pipe(7))
const MODE: u32 = 0o640; // a group such as adm may be given logs to read

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pipe() -> (io::PipeReader, Stream) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        (reader, Stream::new(file, "a pipe".to_owned()).unwrap())
    }

    fn block(lines: u64, length: usize) -> Block {
        let line = |number| format!("{number:0width$}\n", width = length - 1);
        Block {
            bytes: (0..lines).map(line).collect::<String>().into_bytes(),
            lines,
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_left_and_its_lines_are_whole_when_somebody_does() {
        let (mut reader, mut stream) = pipe();
        // A pipe holds 16 pieces, and each of these lines is three.
        let all = block(40, 9000);
        let failed = stream.write(&all).unwrap_err();
        assert_eq!(failed.error.kind(), io::ErrorKind::TimedOut);
        assert!(stream.is_within_line());
        let kept = 40 - failed.lines;
        let mut taken = vec![0; 40 * 1024];
        reader.read_exact(&mut taken).unwrap();
        stream.write(&block(2, 9000)).unwrap();
        drop(stream);
        reader.read_to_end(&mut taken).unwrap();
        let lines: Vec<_> = taken.split_inclusive(|byte| *byte == b'\n').collect();
        assert!(lines.iter().all(|line| line.len() == 9000));
        assert_eq!(lines.len() as u64, kept + 2);
    }

    #[test]
    fn regression_a_new_file_is_not_for_everybody_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        Stream::open(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        // One that is there keeps what its owner chose.
        let chosen = std::fs::Permissions::from_mode(0o604);
        std::fs::set_permissions(&path, chosen).unwrap();
        Stream::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o604);
    }

    #[test]
    fn a_pipe_that_was_closed_is_an_error() {
        let (reader, mut stream) = pipe();
        drop(reader);
        let failed = stream.write(&block(3, 10)).unwrap_err();
        assert_eq!(failed.lines, 3);
        assert_eq!(failed.error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut stream = Stream::open(Path::new("/dev/full")).unwrap();
        let failed = stream.write(&block(3, 10)).unwrap_err();
        assert_eq!(failed.lines, 3);
        assert_eq!(failed.error.kind(), io::ErrorKind::StorageFull);
        assert!(!stream.is_within_line());
    }
}
