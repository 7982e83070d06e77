//! The unix socket that takes commands. Who may open it may do everything: its file is its owner's alone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, open};
use rustix::io::Errno;
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// Longest wait for others who start or end: each takes no time.
const TURN: Duration = Duration::from_secs(2);

/// A socket that is open; its file goes when this is dropped, where it is this one's.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    file: Identity,
    is_own: bool,
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
            is_own: true,
        };
        Ok((
            bound,
            UnixListener::from(std::os::fd::OwnedFd::from(socket)),
        ))
    }

    /// The one at `path` that another process has opened and is about to hand over: its file is that one's until this is
    /// [`own`](Self::own)ed.
    pub fn adopt(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Identity::of(path)?,
            is_own: false,
        })
    }

    /// The other process leaves its file, which is this one's from now on.
    pub fn own(&mut self) {
        self.is_own = true;
    }

    /// Leaves its file to the process that has adopted it.
    pub fn leave(mut self) {
        self.is_own = false;
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if !self.is_own {
            return;
        }
        // Who finds it left over replaces it.
        let Ok(_turn) = Turn::take(&self.path) else {
            return;
        };
        if Identity::of(&self.path).is_ok_and(|found| found == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The right to put a socket at a path or take it away, until it is dropped: two balancers that start at once would each
/// find the file of one that is gone, and the second remove what the first has put in its place.
///
/// Locks a file of its own beside the socket, which is there for as long. Others may be able to open the folder, and to lock
/// whatever they can open.
struct Turn {
    /// `None` where there can be no such file: then nobody has a turn.
    lock: Option<PathBuf>,
    _locked: Option<File>,
}

impl Turn {
    fn take(path: &Path) -> io::Result<Self> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        let begun = Instant::now();
        loop {
            let Some(file) = own_file(&lock) else {
                return Ok(Self {
                    lock: None,
                    _locked: None,
                });
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it before may have taken it away since it was opened.
                Ok(()) if file.metadata()?.nlink() > 0 => {
                    return Ok(Self {
                        lock: Some(lock),
                        _locked: Some(file),
                    });
                }
                Ok(()) => continue,
                Err(Errno::WOULDBLOCK) if begun.elapsed() <= TURN => {}
                Err(error) => {
                    return Err(io::Error::new(
                        io::Error::from(error).kind(),
                        format!("another process keeps {} locked: {error}", lock.display()),
                    ));
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            // Still locked: the next one makes its own. One that stays does no harm.
            let _ = fs::remove_file(lock);
        }
    }
}

/// Opens the file at `path`, which nobody else may open, and makes it where there is none. `None` where it is somebody else's,
/// or a link.
fn own_file(path: &Path) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::RUSR | Mode::WUSR).ok()?);
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.uid() == geteuid().as_raw()).then_some(file)
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
    fn socket_that_another_process_has_adopted_goes_with_that_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        let (first, listener) = AdminSocket::bind(&path).unwrap();
        drop(AdminSocket::adopt(&path).unwrap());
        assert!(path.exists(), "nothing was handed over");
        let mut second = AdminSocket::adopt(&path).unwrap();
        second.own();
        first.leave();
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        drop(second);
        assert!(!path.exists());
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
    fn regression_who_locks_the_folder_keeps_nobody_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        let locked = File::open(folder.path()).unwrap();
        flock(&locked, FlockOperation::NonBlockingLockExclusive).unwrap();
        let (socket, _listener) = AdminSocket::bind(&path).unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(), 1, "nothing else stays");
        drop(socket);
        assert_eq!(names(), 0);
        // A link that somebody has put there is not followed.
        let precious = folder.path().join("precious");
        fs::write(&precious, "text").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("b.sock.lock")).unwrap();
        let (_socket, _listener) = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "text");
    }

    #[test]
    fn only_one_at_a_time_has_a_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        let turn = Turn::take(&path).unwrap();
        let lock = folder.path().join("b.sock.lock");
        let mode = fs::metadata(&lock).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| Turn::take(&path).map(|_| Instant::now()));
            std::thread::sleep(Duration::from_millis(20));
            let end = Instant::now();
            drop(turn);
            assert!(next.join().unwrap().unwrap() >= end);
        });
        assert!(!lock.exists());
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
