//! HTTP/1.1 as bytes, read without mercy and without repair: what a strict peer would see.

use std::io::{self, BufRead};

/// A message's head, as it was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Every byte up to and including the empty line.
    pub(crate) raw: Vec<u8>,
    /// The request line or status line.
    pub(crate) start: String,
    /// The fields in order, names as written.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self { raw, start, fields }
    }

    /// The value of the only field of that name; panics if there are several.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "several {name} fields: {all:?}");
        all.first().copied()
    }

    /// The values of all fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// How far a body reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    pub(crate) fn of_request(head: &Head) -> Self {
        Self::declared(head).unwrap_or(Self::Empty)
    }

    pub(crate) fn of_response(head: &Head, status: u16, method: &str) -> Self {
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Self::Empty;
        }
        Self::declared(head).unwrap_or(Self::UntilClose)
    }

    fn declared(head: &Head) -> Option<Self> {
        if head.has("transfer-encoding") {
            return Some(Self::Chunked);
        }
        head.field("content-length")
            .map(|length| Self::Length(length.parse().expect("a length")))
    }
}

/// A body, and whether it ended as it should.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// False if the connection ended, was reset or fell silent before the framing said so.
    pub(crate) complete: bool,
}

/// Reads a head; `None` where the connection ended before its first byte.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut raw = Vec::new();
    loop {
        let before = raw.len();
        reader.read_until(b'\n', &mut raw)?;
        if raw.len() == before || raw.last() != Some(&b'\n') {
            if raw.is_empty() {
                return Ok(None);
            }
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("half a head: {:?}", String::from_utf8_lossy(&raw)),
            ));
        }
        if raw.ends_with(b"\r\n\r\n") {
            return Ok(Some(Head::parse(raw)));
        }
    }
}

/// Reads a body to its end, or as far as it goes, handing every piece to `sink`. True if it was complete.
pub(crate) fn read_body(
    reader: &mut impl BufRead,
    framing: Framing,
    mut sink: impl FnMut(&[u8]),
) -> bool {
    read_pieces(reader, framing, &mut sink).unwrap_or(false)
}

/// Reads a whole body into memory.
pub(crate) fn collect_body(reader: &mut impl BufRead, framing: Framing) -> Body {
    let mut bytes = Vec::new();
    let complete = read_body(reader, framing, |piece| bytes.extend_from_slice(piece));
    Body { bytes, complete }
}

fn read_pieces(
    reader: &mut impl BufRead,
    framing: Framing,
    sink: &mut impl FnMut(&[u8]),
) -> io::Result<bool> {
    match framing {
        Framing::Empty => Ok(true),
        Framing::Length(length) => read_exactly(reader, length, sink),
        Framing::UntilClose => {
            read_exactly(reader, u64::MAX, sink)?;
            Ok(true)
        }
        Framing::Chunked => loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some(digits) = line.strip_suffix("\r\n") else {
                return Ok(false);
            };
            let digits = digits.split(';').next().unwrap_or_default();
            let Ok(length) = u64::from_str_radix(digits, 16) else {
                return Ok(false);
            };
            if length == 0 {
                return skip_trailers(reader);
            }
            if !read_exactly(reader, length, sink)? {
                return Ok(false);
            }
            let mut end = [0; 2];
            reader.read_exact(&mut end)?;
            if &end != b"\r\n" {
                return Ok(false);
            }
        },
    }
}

fn skip_trailers(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.as_str() {
            "\r\n" => return Ok(true),
            "" => return Ok(false),
            _ => {}
        }
    }
}

fn read_exactly(
    reader: &mut impl BufRead,
    length: u64,
    sink: &mut impl FnMut(&[u8]),
) -> io::Result<bool> {
    let mut left = length;
    while left > 0 {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(false);
        }
        let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink(&piece[..take]);
        reader.consume(take);
        left -= take as u64;
    }
    Ok(true)
}
