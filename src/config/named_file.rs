//! Reads files that a configuration names: regular ones only, and none that is endless.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::units::ByteSize;

/// All of the file at `path`, which is no larger than `largest`. Waits for nobody: opening a pipe would wait for who writes it.
pub fn read_file(path: &Path, largest: ByteSize) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    let limit = largest.get() + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest.get() {
        let message = format!("it is larger than {largest}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let limit = ByteSize::kibibytes(1);
        fs::write(&path, [b'x'; 1024]).unwrap();
        assert_eq!(read_file(&path, limit).unwrap().len(), 1024);
        fs::write(&path, [b'x'; 1025]).unwrap();
        let error = read_file(&path, limit).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1KiB");
    }

    #[test]
    fn regression_what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        for path in [&*pipe, folder.path(), Path::new("/dev/zero")] {
            let error = read_file(path, ByteSize::kibibytes(1)).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file");
        }
    }
}
