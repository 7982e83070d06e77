//! The unix socket that takes commands. Who may open it may do everything: its file is its owner's alone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// Longest wait for others who start or end: each takes no time.
const TURN: Duration = Duration::from_secs(2);

/// A socket that is open; its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    file: Identity,
}

/// Device and number of a file, and when it was last changed, since numbers are used again: one that another process has put in
/// its place is not removed. One that was given another mode is not either; who finds it left over replaces it.
#[derive(Debug, Eq, PartialEq)]
struct Identity(u64, u64, i64, i64);

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let (seconds, nanos) = (found.ctime(), found.ctime_nsec());
        Ok(Self(found.dev(), found.ino(), seconds, nanos))
    }
}

impl AdminSocket {
    /// Listens at `path`. A file that a process has left there which is gone by now is replaced.
    pub fn bind(path: &Path) -> io::Result<(Self, UnixListener)> {
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let _turn = Turn::take(path)?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        // Before it has a name: there is no moment in which others could open it.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let bound = Self {
            path: path.to_owned(),
            file: Identity::of(path)?,
        };
        Ok((
            bound,
            UnixListener::from(std::os::fd::OwnedFd::from(socket)),
        ))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Who finds it left over replaces it.
        let Ok(_turn) = Turn::take(&self.path) else {
            return;
        };
        if Identity::of(&self.path).is_ok_and(|found| found == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The right to put a socket into a folder or take one out, until it is dropped: two balancers that start at once would each
/// find the file of one that is gone, and the second remove what the first has put in its place.
struct Turn {
    /// The folder, locked; `None` where it may not be read, so that nobody can have a turn.
    _folder: Option<File>,
}

impl Turn {
    fn take(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let Ok(folder) = File::open(folder.unwrap_or_else(|| Path::new("."))) else {
            return Ok(Self { _folder: None });
        };
        let begun = Instant::now();
        while let Err(error) = flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK || begun.elapsed() > TURN {
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("another process keeps its folder locked: {error}"),
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self {
            _folder: Some(folder),
        })
    }
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there; remove it, or choose another path",
        ));
    }
    // Not to wait where the queue of whoever has it is full.
    let asking = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match asking.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue is somebody's, too.
        Ok(_) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers there, or it is not ours to open: a balancer runs already with this file, or give each its own admin.socket",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn socket_is_its_owners_alone_and_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/b.sock");
        let (socket, _listener) = AdminSocket::bind(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("run")), 0o700);
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_what_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        // A listener that is dropped leaves its file.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (first, _listening) = AdminSocket::bind(&path).unwrap();
        let error = AdminSocket::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "the first goes on");
        // Put aside by hand and taken by another: not the first one's to remove.
        fs::remove_file(&path).unwrap();
        let (_second, _listening) = AdminSocket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn regression_of_those_that_start_at_once_one_has_the_socket_and_answers_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        for _ in 0..20 {
            drop(UnixListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(8);
            let bound: Vec<_> = std::thread::scope(|scope| {
                let bind = || {
                    start.wait();
                    AdminSocket::bind(&path)
                };
                let starting: Vec<_> = (0..8).map(|_| scope.spawn(bind)).collect();
                let ended = starting.into_iter().map(|it| it.join().unwrap());
                ended.filter_map(Result::ok).collect()
            });
            assert_eq!(bound.len(), 1);
            assert!(UnixStream::connect(&path).is_ok(), "it is the one's");
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[test]
    fn regression_one_with_a_full_queue_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        let address = SockAddr::unix(&path).unwrap();
        let socket = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        let busy = socket();
        busy.bind(&address).unwrap();
        busy.listen(1).unwrap();
        let mut waiting = Vec::new();
        loop {
            let next = socket();
            if next.connect(&address).is_err() {
                break;
            }
            waiting.push(next);
        }
        let error = AdminSocket::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[test]
    fn other_files_are_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "text").unwrap();
        assert!(AdminSocket::bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    }
}
