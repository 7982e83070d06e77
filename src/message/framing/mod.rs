//! Follows the framing of HTTP/1 requests in the raw bytes of a connection, more strictly than the parser behind it.
//!
//! The parser (hyper) settles some ambiguities silently: it drops `Content-Length` where `Transfer-Encoding` is given and
//! takes a bare LF for a line end. Two servers that settle them differently can be made to see different requests, so here
//! they are refused. What the parser refuses itself (bytes that no name or value may hold) is left to it. Pure: no I/O, no clock.
//!
//! One file of more than 350 lines: a state machine is read from its first state to its last.

use memchr::{memchr, memchr_iter, memchr2};

/// Limits of a request's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub head: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// Number of header fields.
    pub fields: usize,
}

/// What is wrong with the bytes of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// RFC 9112 §2.2: lines end with CRLF. A recipient may take a lone LF; one that does not cannot be confused by it.
    #[error("line ends without CR")]
    BareLf,
    /// RFC 9112 §3: `method SP target SP version`.
    #[error("malformed request line")]
    RequestLine,
    /// RFC 9112 §2.3: only HTTP/1.0 and HTTP/1.1 are spoken here.
    #[error("not an HTTP/1 version")]
    Version,
    /// RFC 9112 §3.2: a fragment is not part of a request target.
    #[error("fragment in the request target")]
    Fragment,
    /// RFC 9112 §5.2: a folded field line.
    #[error("folded header field")]
    ObsFold,
    /// RFC 9112 §6.3: a length that is not one number, or stated twice.
    #[error("malformed or repeated Content-Length")]
    ContentLength,
    /// RFC 9112 §6.1: the only transfer coding taken is `chunked`, once.
    #[error("transfer coding other than chunked")]
    TransferEncoding,
    /// RFC 9112 §6.1: both lengths.
    #[error("Content-Length together with Transfer-Encoding")]
    BothLengths,
    /// RFC 9112 §6.1: HTTP/1.0 knows no transfer coding.
    #[error("Transfer-Encoding in HTTP/1.0")]
    OldTransferEncoding,
    /// RFC 9112 §7.1: a chunk that is not `size [;extension] CRLF data CRLF`.
    #[error("malformed chunk")]
    Chunk,
    /// The head is larger than [`HeadLimits::head`].
    #[error("head too large")]
    HeadTooLarge,
    /// The target is longer than [`HeadLimits::target`].
    #[error("request target too long")]
    TargetTooLong,
    /// More fields than [`HeadLimits::fields`].
    #[error("too many header fields")]
    TooManyFields,
}

/// What part of a request comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// No byte of the next head has come.
    Idle,
    /// Part of a head has come.
    Head,
    /// Part of a body is still to come.
    Body,
}

/// The framing of one connection, fed with everything that is read from it.
#[derive(Debug)]
pub struct Framing {
    limits: HeadLimits,
    state: State,
    /// A head of which only a part has come. Empty on the common path, where a head comes in one read.
    partial: Vec<u8>,
    /// What was found in `partial`.
    scan: HeadScan,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Length(u64),
    Chunk(ChunkState),
}

#[derive(Clone, Copy, Debug)]
enum ChunkState {
    /// In the size line; digits seen so far, whether an extension has begun, whether the last byte was CR.
    Size {
        size: u64,
        digits: u8,
        extension: u16,
        cr: bool,
    },
    Data(u64),
    /// CR or LF after the data.
    DataEnd {
        cr: bool,
    },
    /// In the trailer section: bytes of the line so far, all bytes so far, whether the last byte was CR.
    Trailer {
        line: u32,
        total: u32,
        cr: bool,
    },
}

const CHUNK_START: ChunkState = ChunkState::Size {
    size: 0,
    digits: 0,
    extension: 0,
    cr: false,
};
/// Longest chunk extension passed over. Nothing in use is longer; unbounded ones were an attack (CVE-2023-39326).
const EXTENSION_LIMIT: u16 = 256;

impl Framing {
    /// The framing of a new connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            state: State::Head,
            partial: Vec::new(),
            scan: HeadScan::default(),
        }
    }

    /// What comes next.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Head if self.partial.is_empty() => Phase::Idle,
            State::Head => Phase::Head,
            State::Length(_) | State::Chunk(_) => Phase::Body,
        }
    }

    /// Takes the next bytes. On a violation, tells how many of them belong to what came before the offending message or chunk and may be used.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            let begin = whole - bytes.len();
            bytes = match self.state {
                State::Head => self.feed_head(bytes),
                State::Length(left) => {
                    let taken =
                        usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let left = left - taken as u64;
                    self.state = if left == 0 {
                        State::Head
                    } else {
                        State::Length(left)
                    };
                    Ok(&bytes[taken..])
                }
                State::Chunk(chunk) => self.feed_chunk(chunk, bytes),
            }
            .map_err(|violation| (begin, violation))?;
        }
        Ok(())
    }

    fn feed_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        if self.partial.is_empty() {
            // RFC 9112 §2.2: empty lines before a request line are passed over, as the parser does.
            let empty = bytes
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            if empty == bytes.len() {
                return if empty > 4 {
                    Err(Violation::RequestLine)
                } else {
                    Ok(&[])
                };
            }
            let head = &bytes[empty..];
            let mut scan = HeadScan::default();
            return match scan.go_on(head, &self.limits)? {
                Some((length, state)) => {
                    self.state = state;
                    Ok(&head[length..])
                }
                None => {
                    self.partial.extend_from_slice(head);
                    self.scan = scan;
                    Ok(&[])
                }
            };
        }
        let before = self.partial.len();
        // No more than the limit is ever kept.
        let taken = bytes
            .len()
            .min(self.limits.head.saturating_sub(before).saturating_add(1));
        self.partial.extend_from_slice(&bytes[..taken]);
        match self.scan.go_on(&self.partial, &self.limits)? {
            Some((length, state)) => {
                self.state = state;
                self.partial = Vec::new();
                Ok(&bytes[length - before..])
            }
            None => Ok(&[]),
        }
    }

    fn feed_chunk<'a>(
        &mut self,
        mut chunk: ChunkState,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], Violation> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            chunk = match chunk {
                ChunkState::Data(left) => {
                    let taken =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    rest = &rest[taken..];
                    let left = left - taken as u64;
                    chunk = if left == 0 {
                        ChunkState::DataEnd { cr: false }
                    } else {
                        ChunkState::Data(left)
                    };
                    continue;
                }
                ChunkState::Size {
                    size,
                    digits,
                    extension,
                    cr,
                } => match byte {
                    b'\n' if cr && digits > 0 && size == 0 => ChunkState::Trailer {
                        line: 0,
                        total: 0,
                        cr: false,
                    },
                    b'\n' if cr && digits > 0 => ChunkState::Data(size),
                    _ if cr => return Err(Violation::Chunk),
                    b'\r' => ChunkState::Size {
                        size,
                        digits,
                        extension,
                        cr: true,
                    },
                    b';' | b' ' | b'\t' if digits > 0 && extension == 0 => ChunkState::Size {
                        size,
                        digits,
                        extension: 1,
                        cr,
                    },
                    b'\n' | 0 => return Err(Violation::Chunk),
                    _ if extension > 0 && extension < EXTENSION_LIMIT => ChunkState::Size {
                        size,
                        digits,
                        extension: extension + 1,
                        cr,
                    },
                    _ if extension == 0 && digits < 16 => {
                        let digit = char::from(byte).to_digit(16).ok_or(Violation::Chunk)?;
                        ChunkState::Size {
                            size: size << 4 | u64::from(digit),
                            digits: digits + 1,
                            extension,
                            cr,
                        }
                    }
                    _ => return Err(Violation::Chunk),
                },
                ChunkState::DataEnd { cr: false } if byte == b'\r' => {
                    ChunkState::DataEnd { cr: true }
                }
                ChunkState::DataEnd { cr: true } if byte == b'\n' => CHUNK_START,
                ChunkState::DataEnd { .. } => return Err(Violation::Chunk),
                ChunkState::Trailer { line, total, cr } => match byte {
                    b'\n' if cr && line == 0 => {
                        self.state = State::Head;
                        return Ok(after);
                    }
                    b'\n' if cr => ChunkState::Trailer {
                        line: 0,
                        total: total + 1,
                        cr: false,
                    },
                    b'\n' | 0 => return Err(Violation::Chunk),
                    _ if cr => return Err(Violation::Chunk),
                    b'\r' => ChunkState::Trailer {
                        line,
                        total: total + 1,
                        cr: true,
                    },
                    _ if total as usize >= self.limits.head => return Err(Violation::HeadTooLarge),
                    _ => ChunkState::Trailer {
                        line: line + 1,
                        total: total + 1,
                        cr: false,
                    },
                },
            };
            rest = after;
        }
        self.state = State::Chunk(chunk);
        Ok(&[])
    }
}

/// A first line that does not end in time: a long target, or no request line at all.
fn too_long_line(bytes: &[u8], limits: &HeadLimits) -> Violation {
    match memchr(b' ', bytes) {
        Some(space) if bytes.len() - space > limits.target => Violation::TargetTooLong,
        _ => Violation::HeadTooLarge,
    }
}

/// What was found in a head so far.
#[derive(Debug, Default)]
struct HeadScan {
    /// Where the line begins that has not ended.
    line: usize,
    /// Up to where the end of that line was looked for.
    searched: usize,
    fields: usize,
    old: bool,
    length: Option<u64>,
    chunked: bool,
}

impl HeadScan {
    /// Looks at what is new in the head that `bytes` begin with, from its first byte on. `None`: it is not complete. Else
    /// its length and what follows it.
    fn go_on(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(usize, State)>, Violation> {
        let begin = self.searched;
        self.searched = bytes.len();
        for at in memchr_iter(b'\n', &bytes[begin..]).map(|at| begin + at) {
            if at >= limits.head {
                return Err(if self.line == 0 {
                    too_long_line(bytes, limits)
                } else {
                    Violation::HeadTooLarge
                });
            }
            if at == self.line || bytes[at - 1] != b'\r' {
                return Err(Violation::BareLf);
            }
            let content = &bytes[self.line..at - 1];
            if self.line == 0 {
                self.request_line(content, limits)?;
            } else if content.is_empty() {
                return Ok(Some((at + 1, self.body()?)));
            } else {
                self.field(content, limits)?;
            }
            self.line = at + 1;
        }
        if self.line == 0 && bytes.len() > limits.target + 32 {
            return Err(too_long_line(bytes, limits));
        }
        if bytes.len() > limits.head {
            return Err(Violation::HeadTooLarge);
        }
        Ok(None)
    }

    fn request_line(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        let version = line.len().checked_sub(9).ok_or(Violation::RequestLine)?;
        self.old = match &line[version..] {
            b" HTTP/1.1" => false,
            b" HTTP/1.0" => true,
            other if other.starts_with(b" HTTP/") => return Err(Violation::Version),
            _ => return Err(Violation::RequestLine),
        };
        let space = memchr(b' ', &line[..version]).ok_or(Violation::RequestLine)?;
        let target = &line[space + 1..version];
        if target.len() > limits.target {
            return Err(Violation::TargetTooLong);
        }
        match memchr2(b'#', b' ', target) {
            Some(at) if target[at] == b'#' => Err(Violation::Fragment),
            Some(_) => Err(Violation::RequestLine),
            None if target.is_empty() => Err(Violation::RequestLine),
            None => Ok(()),
        }
    }

    fn field(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(Violation::TooManyFields);
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(Violation::ObsFold);
        }
        if let Some(value) = value_of(line, b"content-length") {
            if self.length.is_some()
                || value.is_empty()
                || value.len() > 19
                || !value.iter().all(u8::is_ascii_digit)
            {
                return Err(Violation::ContentLength);
            }
            self.length = Some(
                value
                    .iter()
                    .fold(0, |length, digit| length * 10 + u64::from(digit - b'0')),
            );
        } else if let Some(value) = value_of(line, b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::TransferEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn body(&self) -> Result<State, Violation> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Violation::BothLengths),
            (true, None) if self.old => Err(Violation::OldTransferEncoding),
            (true, None) => Ok(State::Chunk(CHUNK_START)),
            (false, None | Some(0)) => Ok(State::Head),
            (false, Some(length)) => Ok(State::Length(length)),
        }
    }
}

/// The value of the field `name`, if `line` is that. A space before the colon the parser refuses.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let is_it =
        line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
    is_it.then(|| line[name.len() + 1..].trim_ascii())
}

#[cfg(test)]
mod tests;
