//! One rolling restart per upstream at a time: a lock beside the socket, which the system takes back from whoever ends, however
//! that happens. Holds for those that ask over the same socket.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::running::encoded;

/// As long as it is there nobody else has the same.
#[derive(Debug)]
pub(super) struct Alone {
    path: PathBuf,
    /// Held for its lock.
    _file: File,
}

/// Why it is not to be had.
#[derive(Debug)]
pub(super) enum Taken {
    /// Somebody has it.
    Held,
    Io(PathBuf, io::Error),
}

impl Alone {
    /// For `upstream` of the balancer that has `socket`.
    pub(super) fn with(socket: &Path, upstream: &str) -> Result<Self, Taken> {
        // However it is named.
        let socket = fs::canonicalize(socket).unwrap_or_else(|_| socket.to_owned());
        let mut path = socket.into_os_string();
        path.push(format!(".roll-{}", encoded(upstream)));
        let path = PathBuf::from(path);
        let failed = |error| Taken::Io(path.clone(), error);
        loop {
            let file = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Taken::Held),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Who had it before may have removed the file between the two steps: then the lock is one that nobody else sees.
            let here = file.metadata().map_err(failed)?;
            match fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => {
                    return Ok(Self { path, _file: file });
                }
                _ => {}
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_links)
        .open(path)
}

impl Drop for Alone {
    fn drop(&mut self) {
        // One that stays is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_one_is_refused_until_the_first_has_ended_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let first = Alone::with(&socket, "a/b").unwrap();
        assert!(matches!(Alone::with(&socket, "a/b"), Err(Taken::Held)));
        let _other = Alone::with(&socket, "other").unwrap();
        drop(first);
        drop(Alone::with(&socket, "a/b").unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let nowhere = directory.path().join("nowhere/admin.sock");
        assert!(matches!(Alone::with(&nowhere, "a"), Err(Taken::Io(..))));
    }
}
