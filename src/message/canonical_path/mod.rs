//! The one spelling of a path, and its loosest reading.
//!
//! [`canonicalize`] gives the spelling that is matched, logged and forwarded; [`loosest`] gives what the most lenient
//! server could make of a path, so that a route can be guarded against it. Takes paths only: the caller cuts the query
//! and the authority. Knows nothing of routes.

use std::borrow::Cow;

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
    let digit = |at| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(raw: &str) -> String {
        canonicalize(raw).unwrap().into_owned()
    }

    fn reading(path: &str) -> String {
        loosest(path).unwrap().map_or_else(
            || path.to_owned(),
            |reading| String::from_utf8(reading.path).unwrap(),
        )
    }

    #[test]
    fn canonical_paths_are_borrowed() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/A/b.c/..d/.e/f..",
            "/.well-known/x",
            "/a%20b%2Fc%5C",
            "/a;b=c",
            "/...",
            "/~!$&'()*+,=:@|",
        ] {
            assert!(
                matches!(canonicalize(path), Ok(Cow::Borrowed(same)) if same == path),
                "{path}"
            );
        }
    }

    #[test]
    fn unreserved_characters_are_decoded_and_other_escapes_upper_cased() {
        assert_eq!(canonical("/%61%2d%2E%5f%7e%41%30"), "/a-._~A0");
        assert_eq!(canonical("/%2f%5c%e2%3b%25"), "/%2F%5C%E2%3B%25");
        assert_eq!(canonical("/%2561"), "/%2561");
    }

    #[test]
    fn slashes_merge_and_dot_segments_go_after_decoding() {
        for (raw, path) in [
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/../c", "/a/c"),
            ("/a//../b", "/b"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/%2e/a", "/a"),
            ("/.", "/"),
            ("/a/b/../..", "/"),
            ("/a/b/..", "/a/"),
        ] {
            assert_eq!(canonical(raw), path, "{raw}");
        }
    }

    #[test]
    fn what_may_not_stand_in_a_path_is_refused() {
        for (raw, error) in [
            ("", PathError::NotRooted),
            ("*", PathError::NotRooted),
            ("a/b", PathError::NotRooted),
            ("/a b", PathError::ForbiddenByte(b' ')),
            ("/a#b", PathError::ForbiddenByte(b'#')),
            ("/a\\b", PathError::ForbiddenByte(b'\\')),
            ("/a\tb", PathError::ForbiddenByte(b'\t')),
            ("/a\u{7f}", PathError::ForbiddenByte(0x7f)),
            ("/é", PathError::ForbiddenByte(0xc3)),
            ("/%", PathError::BadEscape),
            ("/%4", PathError::BadEscape),
            ("/%4g", PathError::BadEscape),
            ("/%+1", PathError::BadEscape),
            ("/%00", PathError::EncodedControl(0)),
            ("/%1f", PathError::EncodedControl(0x1f)),
            ("/%0A", PathError::EncodedControl(b'\n')),
            ("/%7F", PathError::EncodedControl(0x7f)),
            ("/..", PathError::ClimbsAboveRoot),
            ("/a/../..", PathError::ClimbsAboveRoot),
            ("/a/%2e%2e/../b", PathError::ClimbsAboveRoot),
        ] {
            assert_eq!(canonicalize(raw), Err(error), "{raw:?}");
        }
        assert_eq!(
            PathError::ForbiddenByte(b' ').to_string(),
            "path holds the byte 0x20, which must be percent-encoded"
        );
    }

    #[test]
    fn encoded_separators_are_found() {
        assert!(has_encoded_separator("/a%2Fb"));
        assert!(has_encoded_separator("/%20%5C"));
        assert!(!has_encoded_separator("/a%20b/%252F"));
    }

    #[test]
    fn the_loosest_reading_sees_through_every_disguise() {
        for (path, loose) in [
            ("/ADMIN", "/admin"),
            ("/admin;x/y;z=1", "/admin/y"),
            ("/x/..;/admin", "/admin"),
            ("/..;/admin", "/admin"),
            ("/%2561dmin", "/admin"),
            ("/%252561dmin", "/admin"),
            ("/x%2F..%2Fadmin", "/admin"),
            ("/x%5C..%5Cadmin", "/admin"),
            ("/admin./x", "/admin/x"),
            ("/admin%20/x", "/admin/x"),
            ("/admin%20.%2520", "/admin"),
            ("/;a/admin", "/admin"),
            ("/admin%3Fx", "/admin"),
            ("/.;/admin", "/admin"),
            ("/x/..%20/admin", "/admin"),
            ("/a/;", "/a/"),
            ("/;", "/"),
            ("/100%25zz", "/100%zz"),
        ] {
            assert_eq!(reading(path), loose, "{path}");
        }
        assert_eq!(loosest("/%E9x").unwrap().unwrap().path, b"/\xe9x");
        assert_eq!(loosest("/%FFx"), Err(PathError::NotUtf8(0xff)));
    }

    #[test]
    fn what_folds_to_ascii_is_taken_for_it() {
        for (path, loose) in [
            ("/adm%C4%B1n", "/admin"),
            ("/adm%C4%B0n", "/admin"),
            ("/u%C5%BFer", "/user"),
            ("/%E2%84%AAey", "/key"),
            ("/%EF%BD%81dmin", "/admin"),
            ("/%EF%BC%A1DMIN", "/admin"),
            ("/x%EF%BC%8Fadmin", "/x/admin"),
            ("/x/%EF%BC%8E%EF%BC%8E/admin", "/admin"),
            ("/admin%EF%BC%9Bx", "/admin"),
            ("/%EF%BC%8561dmin", "/admin"),
            ("/%EF%BC%852561dmin", "/admin"),
            ("/adm%25C4%B1n", "/admin"),
            ("/%20admin", "/admin"),
            ("/%20admin%20/%2520x", "/admin/x"),
            ("/admin%C2%A0", "/admin"),
            ("/admin%C2%85", "/admin"),
            ("/admin%A0", "/admin"),
            ("/admin%85", "/admin"),
            ("/%E3%80%80admin%E2%80%A8", "/admin"),
            ("/caf%C3%A9", "/caf\u{e9}"),
            (
                "/%E4%B8%AD%E6%96%87/%F0%9F%A6%80",
                "/\u{4e2d}\u{6587}/\u{1f980}",
            ),
        ] {
            assert_eq!(reading(path), loose, "{path}");
        }
    }

    #[test]
    fn bytes_that_no_utf8_has_leave_no_reading() {
        for (path, byte) in [
            ("/x%C0%AFadmin", 0xc0),
            ("/x%C1%9Cadmin", 0xc1),
            ("/x%E0%80%AFadmin", 0xe0),
            ("/x%F0%80%80%AFadmin", 0xf0),
            ("/x%25C0%25AFadmin", 0xc0),
            ("/x%F5", 0xf5),
            ("/x%FF", 0xff),
        ] {
            assert_eq!(loosest(path), Err(PathError::NotUtf8(byte)), "{path}");
        }
    }

    #[test]
    fn folding_comes_to_an_end() {
        // Each layer is a full-width `%` whose last byte is escaped by the next.
        let mut percent = "%EF%BC%85".to_owned();
        for _ in 0..500 {
            percent = format!("%EF%BC{percent}85");
        }
        assert_eq!(
            loosest(&format!("/{percent}61dmin")),
            Err(PathError::TooDeeplyEncoded)
        );
    }

    #[test]
    fn a_path_without_disguise_is_its_own_loosest_reading() {
        for path in ["/", "/a/b/", "/.well-known/x", "/a.b/c", "/a..b", "/..a"] {
            assert_eq!(loosest(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn hidden_climbing_is_told() {
        assert!(loosest("/ADMIN/..;/x").unwrap().unwrap().climbs);
        assert!(!loosest("/ADMIN/.;/x").unwrap().unwrap().climbs);
    }

    #[test]
    fn what_no_reading_can_settle_is_refused() {
        assert_eq!(loosest("/%25252561"), Err(PathError::TooDeeplyEncoded));
        assert_eq!(loosest("/admin%2500"), Err(PathError::EncodedControl(0)));
    }

    fn path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-cA-C]{1,2}",
            4 => Just("/".to_owned()),
            2 => Just(".".to_owned()),
            1 => Just("..".to_owned()),
            1 => "%[0-9a-fA-F]{2}",
            1 => "%25[0-9a-fA-F]{2}",
            1 => "%(C4%B1|C2%A0|85|EF%BC%8[5EF]|EF%BD%81|C3%A9)",
            1 => "%(2[eEfF]|5[cC]|3[bB]|20)",
            1 => "[;~%_!]",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// As naively as it can be said: escapes first, then segments. `None` for what is refused.
    fn model(raw: &str) -> Option<String> {
        let mut rest = raw.chars();
        let mut decoded = String::new();
        while let Some(character) = rest.next() {
            match character {
                '%' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    if digits.len() != 2 || !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    let byte = u8::from_str_radix(&digits, 16).ok()?;
                    match char::from(byte) {
                        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => {
                            decoded.push(char::from(byte));
                        }
                        '\0'..='\x1f' | '\x7f' => return None,
                        _ => decoded.push_str(&format!("%{byte:02X}")),
                    }
                }
                '#' | '\\' => return None,
                '!'..='~' => decoded.push(character),
                _ => return None,
            }
        }
        let segments: Vec<&str> = decoded.strip_prefix('/')?.split('/').collect();
        let mut kept = Vec::new();
        for segment in &segments {
            match *segment {
                "" | "." => {}
                ".." => {
                    kept.pop()?;
                }
                segment => kept.push(segment),
            }
        }
        let is_folder = matches!(segments.last(), Some(&("" | "." | "..")));
        let end = if is_folder && !kept.is_empty() {
            "/"
        } else {
            ""
        };
        Some(format!("/{}{end}", kept.join("/")))
    }

    proptest! {
        #[test]
        fn canonical_paths_agree_with_a_naive_model(raw in prop_oneof![path(), "[/.a-c%0-9#\\\\é ]{0,8}"]) {
            prop_assert_eq!(canonicalize(&raw).ok().map(Cow::into_owned), model(&raw));
        }

        #[test]
        fn canonicalize_takes_anything(raw in ".*") {
            let _ = canonicalize(&raw);
            let _ = loosest(&raw);
        }

        #[test]
        fn a_canonical_path_is_canonical(raw in path()) {
            if let Ok(path) = canonicalize(&raw) {
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(path.starts_with('/') && !path.contains("//"));
                prop_assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")));
                let again = canonicalize(&path);
                prop_assert!(matches!(&again, Ok(Cow::Borrowed(same)) if *same == path), "{again:?}");
                if let Cow::Owned(path) = path {
                    prop_assert_ne!(path, raw);
                }
            }
        }

        #[test]
        fn the_loosest_reading_is_final(raw in path()) {
            if let Ok(Some(reading)) = loosest(&raw) {
                prop_assert_eq!(reading.path[0], b'/');
                if let Ok(text) = String::from_utf8(reading.path)
                    && !text.contains('%')
                {
                    let again = loosest(&text).unwrap();
                    prop_assert!(again.is_none_or(|again| again.path == text.as_bytes() && !again.climbs));
                    prop_assert_ne!(text, raw);
                }
            }
        }
    }
}
