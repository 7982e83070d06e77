//! The unix socket that takes commands. Who may open it may do everything: its file is its owner's alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that is open; its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    /// Device and number of the file: one that another process has put in its place is not removed.
    file: (u64, u64),
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
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        // Before it has a name: there is no moment in which others could open it.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let metadata = fs::symlink_metadata(path)?;
        let bound = Self {
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
        };
        Ok((
            bound,
            UnixListener::from(std::os::fd::OwnedFd::from(socket)),
        ))
    }

    /// The one at `path` that another process has opened and hands over: its file stays, and is this one's from now on.
    pub fn adopt(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    /// Leaves its file to the process that has adopted it.
    pub fn leave(mut self) {
        self.file = (0, 0); // no file has this number
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            // Who finds it left over replaces it.
            let _ = fs::remove_file(&self.path);
        }
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
    match UnixStream::connect(path) {
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
        let second = AdminSocket::adopt(&path).unwrap();
        first.leave();
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        drop(second);
        assert!(!path.exists());
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
