//! The one spelling of a path, and its loosest reading.
//!
//! [`canonicalize`] gives the spelling that is matched, logged and forwarded; [`loosest`] gives what the most lenient
//! server could make of a path, so that a route can be guarded against it. Takes paths only: the caller cuts the query
//! and the authority. Knows nothing of routes.
//!
//! One file of more than 350 lines: that no reading escapes the other is seen only where both stand together.

use std::borrow::Cow;

use super::hexadecimal;

/// Why a path is refused. Each is the client's fault and a 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// The path does not begin with `/`.
    #[error("path does not begin with /")]
    NotRooted,
    /// A byte that may not stand in a path: a control byte, a space, `#`, `\`, or one outside of ASCII.
    #[error("path holds the byte {0:#04x}, which must be percent-encoded")]
    ForbiddenByte(u8),
    /// A `%` without two hexadecimal digits.
    #[error("path holds a % without two hexadecimal digits")]
    BadEscape,
    /// An encoded control byte, `%00` to `%1F` or `%7F`, in this path or below further layers of encoding.
    #[error("path holds the encoded control byte {0:#04x}")]
    EncodedControl(u8),
    /// More `..` than there are segments before them.
    #[error("path climbs above its root")]
    ClimbsAboveRoot,
    /// A byte that no UTF-8 has: an overlong spelling of something else, to a server that takes it.
    #[error("path holds the encoded byte {0:#04x}, which no UTF-8 has")]
    NotUtf8(u8),
    /// Still encoded after as many decodings as the most lenient server is thought to do.
    #[error("path is percent-encoded more than {MAX_DECODINGS} times")]
    TooDeeplyEncoded,
}

/// What the most lenient server could make of a path. Bytes, because decoding may leave UTF-8.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loosest {
    /// The reading: begins with `/`, ASCII lower case, without dot segments, parameters or repeated `/`.
    pub path: Vec<u8>,
    /// A segment was read as `..` on the way. In a canonical path such a segment was hidden, and servers that see
    /// through the disguise disagree with those that do not about everything before it.
    pub climbs: bool,
}

/// The canonical spelling of `raw_path`; borrowed when it already is.
///
/// Unreserved characters are decoded and other escapes upper-cased (RFC 3986 §6.2.2), repeated `/` merged, dot segments
/// removed (§5.2.4). `%2F` and `%5C` stay encoded.
pub fn canonicalize(raw_path: &str) -> Result<Cow<'_, str>, PathError> {
    let raw = raw_path.as_bytes();
    if raw.first() != Some(&b'/') {
        return Err(PathError::NotRooted);
    }
    if is_canonical(raw) {
        return Ok(Cow::Borrowed(raw_path));
    }
    let mut spelling = Spelling {
        out: String::with_capacity(raw.len()),
        segment: 1,
    };
    spelling.out.push('/');
    let mut at = 1;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        match CLASS[usize::from(byte)] {
            Class::Forbidden => return Err(PathError::ForbiddenByte(byte)),
            Class::Slash => spelling.end_segment(true)?,
            Class::Percent => {
                let decoded = escaped(raw, at).ok_or(PathError::BadEscape)?;
                at += 2;
                if decoded.is_ascii_control() {
                    return Err(PathError::EncodedControl(decoded));
                }
                if is_unreserved(decoded) {
                    spelling.out.push(char::from(decoded));
                } else {
                    spelling.out.push('%');
                    spelling
                        .out
                        .push(char::from(HEX[usize::from(decoded >> 4)]));
                    spelling
                        .out
                        .push(char::from(HEX[usize::from(decoded & 15)]));
                }
            }
            Class::Dot | Class::Upper | Class::Semicolon | Class::Plain => {
                spelling.out.push(char::from(byte))
            }
        }
    }
    spelling.end_segment(false)?;
    Ok(Cow::Owned(spelling.out))
}

/// Whether a canonical path holds `%2F` or `%5C`: separators to some servers and not to others.
pub fn has_encoded_separator(canonical: &str) -> bool {
    let mut rest = canonical;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        if rest.starts_with("2F") || rest.starts_with("5C") {
            return true;
        }
    }
    false
}

/// The loosest reading of `path`, or `None` where that is the path itself (found out without allocation).
///
/// Decodes up to three times, takes `\` for `/`, drops parameters (`;…`, and a decoded `?…` or `#…`) of every segment,
/// merges `/`, resolves dot segments (the root is its own parent), takes for ASCII what folds to it, lower-cases ASCII
/// and cuts spaces from both ends and `.` from the end of every segment. Segments of nothing but dots and spaces are read
/// as `..` when they hold two dots.
pub fn loosest(path: &str) -> Result<Option<Loosest>, PathError> {
    if is_own_loosest(path.as_bytes()) {
        return Ok(None);
    }
    let decoded = decode_and_fold(path.as_bytes())?;
    let mut reading = Loosest {
        path: Vec::with_capacity(decoded.len() + 1),
        climbs: false,
    };
    let mut ends_in_slash = false;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let end = segment
            .iter()
            .position(|byte| matches!(byte, b';' | b'?' | b'#'))
            .unwrap_or(segment.len());
        let begin = segment[..end]
            .iter()
            .take_while(|byte| **byte == b' ')
            .count();
        let segment = &segment[begin..end];
        let kept = segment
            .iter()
            .rposition(|byte| !matches!(byte, b'.' | b' '))
            .map_or(0, |last| last + 1);
        ends_in_slash = kept == 0;
        if kept > 0 {
            reading.path.push(b'/');
            reading
                .path
                .extend(segment[..kept].iter().map(u8::to_ascii_lowercase));
        } else if segment.iter().filter(|byte| **byte == b'.').count() >= 2 {
            reading.climbs = true;
            let parent = reading
                .path
                .iter()
                .rposition(|byte| *byte == b'/')
                .unwrap_or(0);
            reading.path.truncate(parent);
        }
    }
    if ends_in_slash || reading.path.is_empty() {
        reading.path.push(b'/');
    }
    Ok(Some(reading))
}

/// The path without escapes, with ASCII for what folds to it. A folded `%` (full-width) may begin further escapes.
fn decode_and_fold(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    let mut decoded = decode_repeatedly(path)?;
    for _ in 0..=MAX_DECODINGS {
        if decoded.is_ascii() {
            return Ok(decoded);
        }
        let folded = fold(&decoded)?;
        decoded = match decode_repeatedly(&folded)? {
            Cow::Borrowed(_) => return Ok(Cow::Owned(folded)),
            Cow::Owned(again) => Cow::Owned(again),
        };
    }
    Err(PathError::TooDeeplyEncoded)
}

/// Takes for ASCII what lenient servers take for ASCII: letters whose lower or upper case is an ASCII letter, full-width
/// forms, and white space, that of Latin-1 too. Bytes that no UTF-8 has are an overlong spelling of something, or nothing.
fn fold(decoded: &[u8]) -> Result<Vec<u8>, PathError> {
    if let Some(overlong) = overlong(decoded) {
        return Err(PathError::NotUtf8(overlong));
    }
    let mut folded = Vec::with_capacity(decoded.len());
    for chunk in decoded.utf8_chunks() {
        for character in chunk.valid().chars() {
            let ascii = match character {
                '\u{130}' | '\u{131}' => 'i',
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                '\u{ff01}'..='\u{ff5e}' => {
                    char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character)
                }
                _ if character.is_whitespace() => ' ',
                _ => character,
            };
            folded.extend_from_slice(ascii.encode_utf8(&mut [0; 4]).as_bytes());
        }
        folded.extend(chunk.invalid().iter().map(|byte| match byte {
            0x85 | 0xa0 => b' ',
            _ => *byte,
        }));
    }
    Ok(folded)
}

/// A byte that begins no UTF-8, by itself or before the byte that follows it (RFC 3629 §3).
fn overlong(decoded: &[u8]) -> Option<u8> {
    let never = |byte: &u8| matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff);
    decoded.iter().copied().find(never).or_else(|| {
        decoded
            .windows(2)
            .find(|pair| matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
            .map(|pair| pair[0])
    })
}

/// The canonical path under construction; `out` begins and, between segments, ends with `/`.
struct Spelling {
    out: String,
    /// Where the current segment begins.
    segment: usize,
}

impl Spelling {
    fn end_segment(&mut self, slash: bool) -> Result<(), PathError> {
        match &self.out[self.segment..] {
            "" => {}
            "." => self.out.truncate(self.segment),
            ".." => {
                self.out.truncate(self.segment - 1);
                let parent = self.out.rfind('/').ok_or(PathError::ClimbsAboveRoot)?;
                self.out.truncate(parent + 1);
            }
            _ if slash => self.out.push('/'),
            _ => {}
        }
        self.segment = self.out.len();
        Ok(())
    }
}

/// Whether a path that begins with `/` is canonical. May say no where [`canonicalize`] will report an error.
fn is_canonical(path: &[u8]) -> bool {
    let mut before = b' ';
    for (at, &byte) in path.iter().enumerate() {
        let fine = match CLASS[usize::from(byte)] {
            Class::Plain | Class::Upper | Class::Semicolon => true,
            Class::Slash => before != b'/',
            Class::Dot => before != b'/' || !is_dot_segment(&path[at..]),
            Class::Percent => is_canonical_escape(path, at + 1),
            Class::Forbidden => false,
        };
        if !fine {
            return false;
        }
        before = byte;
    }
    true
}

/// Whether the segment that `rest` begins with is `.` or `..`.
fn is_dot_segment(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..]
    )
}

fn is_canonical_escape(path: &[u8], at: usize) -> bool {
    escaped(path, at).is_some_and(|decoded| {
        !decoded.is_ascii_control()
            && !is_unreserved(decoded)
            && !path[at..at + 2].iter().any(u8::is_ascii_lowercase)
    })
}

/// The byte that the two hexadecimal digits at `at` stand for.
fn escaped(path: &[u8], at: usize) -> Option<u8> {
    hexadecimal::byte(*path.get(at)?, *path.get(at + 1)?)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether [`loosest`] cannot change the path: no escape, parameter, `\`, `//` or upper case, and no segment ends in `.`.
fn is_own_loosest(path: &[u8]) -> bool {
    let mut before = b' ';
    for &byte in path {
        let fine = match CLASS[usize::from(byte)] {
            Class::Plain | Class::Dot => true,
            Class::Slash => !matches!(before, b'/' | b'.'),
            Class::Upper | Class::Semicolon | Class::Percent | Class::Forbidden => false,
        };
        if !fine {
            return false;
        }
        before = byte;
    }
    path.first() == Some(&b'/') && before != b'.'
}

fn decode_repeatedly(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    let mut path = Cow::Borrowed(path);
    for _ in 0..MAX_DECODINGS {
        let Some(decoded) = decode_once(&path)? else {
            return Ok(path);
        };
        path = Cow::Owned(decoded);
    }
    match decode_once(&path)? {
        None => Ok(path),
        Some(_) => Err(PathError::TooDeeplyEncoded),
    }
}

/// Decodes every escape; `None` where there is none. A `%` without two digits stays.
fn decode_once(path: &[u8]) -> Result<Option<Vec<u8>>, PathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut changed = false;
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += 1;
        let hidden = if byte == b'%' {
            escaped(path, at)
        } else {
            None
        };
        if let Some(hidden) = hidden {
            // Servers cut, drop or keep a hidden control byte; there is no loosest among these.
            if hidden.is_ascii_control() {
                return Err(PathError::EncodedControl(hidden));
            }
            at += 2;
            changed = true;
        }
        decoded.push(hidden.unwrap_or(byte));
    }
    Ok(changed.then_some(decoded))
}

/// What a byte of a path asks for.
#[derive(Clone, Copy)]
enum Class {
    /// May not stand in a path.
    Forbidden,
    Slash,
    Dot,
    Percent,
    /// Of no concern to the canonical spelling, but to the loosest reading.
    Upper,
    Semicolon,
    Plain,
}

const CLASS: [Class; 256] = {
    let mut class = [Class::Forbidden; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        class[byte] = match byte as u8 {
            b'#' | b'\\' => Class::Forbidden,
            b'/' => Class::Slash,
            b'.' => Class::Dot,
            b'%' => Class::Percent,
            b';' => Class::Semicolon,
            b'A'..=b'Z' => Class::Upper,
            _ => Class::Plain,
        };
        byte += 1;
    }
    class
};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// More than any server seen in the field does; attacks use two.
const MAX_DECODINGS: usize = 3;

#[cfg(test)]
mod tests;
