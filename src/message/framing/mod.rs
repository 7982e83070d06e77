//! Follows the framing of HTTP/1 requests in the raw bytes of a connection, more strictly than the parser behind it.
//!
//! The parser (hyper) settles some ambiguities silently: it drops `Content-Length` where `Transfer-Encoding` is given and
//! takes a bare LF for a line end. Two servers that settle them differently can be made to see different requests, so here
//! they are refused. What the parser refuses itself (bytes that no name or value may hold) is left to it. Pure: no I/O, no clock.

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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        head: 1024,
        target: 100,
        fields: 10,
    };

    fn feed(bytes: &[u8]) -> Result<Phase, (usize, Violation)> {
        let mut framing = Framing::new(LIMITS);
        framing.feed(bytes).map(|()| framing.phase())
    }

    fn violation(bytes: &[u8]) -> Violation {
        feed(bytes).expect_err("refused").1
    }

    #[test]
    fn whole_requests_leave_the_connection_idle() {
        for request in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(feed(request), Ok(Phase::Idle), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn parts_of_requests_are_told_apart() {
        assert_eq!(feed(b""), Ok(Phase::Idle));
        assert_eq!(feed(b"\r\n"), Ok(Phase::Idle));
        assert_eq!(feed(b"G"), Ok(Phase::Head));
        assert_eq!(feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(Phase::Head));
        assert_eq!(
            feed(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"),
            Ok(Phase::Body)
        );
        assert_eq!(
            feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
            Ok(Phase::Body)
        );
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        use Violation::*;
        for (head, expected) in [
            (&b"GET / HTTP/1.1\nHost: a\n\n"[..], BareLf),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
            (b"GET  / HTTP/1.1\r\n\r\n", RequestLine),
            (b"GET /a b HTTP/1.1\r\n\r\n", RequestLine),
            (b"GET /\r\n\r\n", RequestLine),
            (b"PRI * HTTP/2.0\r\n\r\n", Version),
            (b"GET / HTTP/1.2\r\n\r\n", Version),
            (b"GET /a#b HTTP/1.1\r\n\r\n", Fragment),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", ObsFold),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", ContentLength),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", ContentLength),
            (b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", ContentLength),
            (b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc", ContentLength),
            (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", ContentLength),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", ContentLength),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", TransferEncoding),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", TransferEncoding),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\ntransfer-encoding:\tchunked\r\n\r\n", BothLengths),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", OldTransferEncoding),
        ] {
            assert_eq!(violation(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn limits_hold_for_whole_and_for_endless_heads() {
        let long = "a".repeat(200);
        assert_eq!(
            violation(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()),
            Violation::TargetTooLong
        );
        assert_eq!(
            violation(format!("GET /{long}").as_bytes()),
            Violation::TargetTooLong
        );
        assert_eq!(violation(&[b'a'; 2000]), Violation::HeadTooLarge);
        assert_eq!(
            violation(format!("GET / HTTP/1.1\r\nA: {}", long.repeat(10)).as_bytes()),
            Violation::HeadTooLarge
        );
        assert_eq!(
            violation(format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(11)).as_bytes()),
            Violation::TooManyFields
        );
        assert_eq!(
            feed(format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10)).as_bytes()),
            Ok(Phase::Idle)
        );
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
        let mut framing = Framing::new(HeadLimits {
            head: 64 * 1024,
            target: 8 * 1024,
            fields: 100_000,
        });
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        while head.len() < 60 * 1024 {
            head.extend_from_slice(b"a:\r\n");
        }
        for (fed, byte) in head.iter().enumerate() {
            framing.feed(std::slice::from_ref(byte)).unwrap();
            assert_eq!(framing.scan.searched, fed + 1);
            // Only the line that has not ended may be looked at again.
            assert!(framing.scan.searched - framing.scan.line <= 16);
        }
        assert_eq!(framing.scan.fields, (head.len() - 16) / 4);
        framing.feed(b"\r\n").unwrap();
        assert_eq!(framing.phase(), Phase::Idle);
        // The next head is looked at from its own beginning.
        framing.feed(b"G").unwrap();
        assert_eq!((framing.scan.searched, framing.scan.fields), (1, 0));
    }

    #[test]
    fn an_endless_line_is_refused_at_the_first_byte_too_many() {
        let endless = |begin: &[u8]| {
            let mut framing = Framing::new(LIMITS);
            framing.feed(begin).unwrap();
            (begin.len()..10_000)
                .find_map(|fed| {
                    framing
                        .feed(b"a")
                        .err()
                        .map(|(_, violation)| (fed + 1, violation))
                })
                .expect("refused")
        };
        assert_eq!(
            endless(b"GET /"),
            (LIMITS.target + 33, Violation::TargetTooLong)
        );
        assert_eq!(
            endless(b"GET / HTTP/1.1\r\nA: "),
            (LIMITS.head + 1, Violation::HeadTooLarge)
        );
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for chunks in [
            "x\r\n",
            "\r\n",
            "3\nabc",
            "3\r\nabcd",
            "3\r\nabc\n",
            "-1\r\n",
            "0x3\r\n",
            "11111111111111111\r\n",
            "3;\nabc",
            "0\r\nA: b\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert_eq!(
                violation(request.as_bytes()),
                Violation::Chunk,
                "{chunks:?}"
            );
        }
    }

    #[test]
    fn what_came_before_the_offending_request_may_be_used() {
        let good = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let both = [&good[..], b"GET / HTTP/1.1\nHost: a\n\n"].concat();
        assert_eq!(feed(&both), Err((good.len(), Violation::BareLf)));
    }

    proptest! {
        #[test]
        fn pieces_are_read_like_the_whole(cuts in proptest::collection::vec(1_usize..40, 1..30), which in 0_usize..4) {
            let source: &[u8] = [
                &b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;q=\"x\"\r\n01234\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
                b"POST /a HTTP/1.1\r\nContent-Length: 30\r\n\r\n012345678901234567890123456789GET / HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n",
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd",
            ][which];
            let mut pieces = Framing::new(LIMITS);
            let mut result = Ok(());
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < source.len() && result.is_ok() {
                let end = (at + cuts.next().copied().unwrap_or(1)).min(source.len());
                result = pieces.feed(&source[at..end]).map_err(|(_, violation)| violation);
                at = end;
            }
            let mut whole = Framing::new(LIMITS);
            let expected = whole.feed(source).map_err(|(_, violation)| violation);
            prop_assert_eq!(result, expected);
            if expected.is_ok() {
                prop_assert_eq!(pieces.phase(), whole.phase());
            }
        }

        #[test]
        fn any_bytes_are_safe(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..10)) {
            let mut framing = Framing::new(LIMITS);
            for piece in pieces {
                if let Err((usable, _)) = framing.feed(&piece) {
                    prop_assert!(usable <= piece.len());
                    break;
                }
            }
        }
    }
}
