//! The lines of files, one after the other, in bounded memory. Tells somebody at a terminal how far it is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::told::counted;

/// A line of a balancer has the head of a request in it, and that is limited: beyond this it is none.
const LONGEST: usize = 4 << 20;
/// Read at once.
const BUFFER: usize = 256 << 10;
/// So many lines are read between two looks at the clock.
const STRIDE: u64 = 4096;
/// How often somebody is told.
const EVERY: Duration = Duration::from_millis(250);

/// A line, and where it stands.
pub(super) struct Line<'l> {
    /// The file's, as it was given; `-` is standard input.
    pub(super) file: &'l Path,
    /// From 1.
    pub(super) number: u64,
    /// Without its end. `None`: it is longer than any.
    pub(super) bytes: Option<&'l [u8]>,
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{} cannot be read: {error}", .file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("{file} is compressed: zcat {file} | balancer replay -", file = .0.display())]
    Compressed(PathBuf),
}

/// Gives every line of `files` that is not empty to `take`.
pub(super) fn each(files: &[PathBuf], mut take: impl FnMut(Line<'_>)) -> Result<(), ReadError> {
    let mut progress = Progress::new();
    let result = files
        .iter()
        .try_for_each(|file| each_of(file, &mut progress, &mut take));
    progress.end();
    result
}

fn each_of(
    file: &Path,
    progress: &mut Progress,
    take: &mut impl FnMut(Line<'_>),
) -> Result<(), ReadError> {
    let failed = |error| ReadError::Io {
        file: file.to_owned(),
        error,
    };
    let source: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).map_err(failed)?),
    };
    let mut reader = BufReader::with_capacity(BUFFER, source);
    if reader.fill_buf().map_err(failed)?.starts_with(GZIP) {
        return Err(ReadError::Compressed(file.to_owned()));
    }
    let mut buffer = Vec::new();
    for number in 1.. {
        let Some(is_whole) = next(&mut reader, &mut buffer).map_err(failed)? else {
            break;
        };
        let line = buffer.trim_ascii();
        if !line.is_empty() {
            take(Line {
                file,
                number,
                bytes: is_whole.then_some(line),
            });
        }
        progress.count();
    }
    Ok(())
}

/// RFC 1952 §2.3.1.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Reads the next line into `buffer`, and whether it is whole; what of it is too long is passed over. `None` at the end.
fn next(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Option<bool>> {
    buffer.clear();
    let longest = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    if reader.by_ref().take(longest).read_until(b'\n', buffer)? == 0 {
        return Ok(None);
    }
    if buffer.len() < LONGEST || buffer.ends_with(b"\n") {
        return Ok(Some(true));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(false))
}

/// What somebody at a terminal sees meanwhile.
struct Progress {
    is_shown: bool,
    lines: u64,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            lines: 0,
            last: Instant::now(),
        }
    }

    fn count(&mut self) {
        self.lines += 1;
        if self.is_shown && self.lines.is_multiple_of(STRIDE) && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            self.write(&counted(self.lines, "line"));
        }
    }

    fn end(&self) {
        if self.is_shown && self.lines >= STRIDE {
            self.write("");
        }
    }

    /// In the place of what stood there.
    fn write(&self, text: &str) {
        let _ = io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_passed_over() {
        let mut text = b"a\n\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', LONGEST + 5));
        text.extend_from_slice(b"\nlast");
        let mut reader = BufReader::new(&*text);
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        while let Some(is_whole) = next(&mut reader, &mut buffer).unwrap() {
            found.push((is_whole, buffer.len()));
        }
        assert_eq!(found, [(true, 2), (true, 1), (false, LONGEST), (true, 4)]);
        assert_eq!(buffer, b"");
    }
}
