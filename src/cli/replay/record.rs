//! A line of an access log, read again: JSON as this balancer writes it, or the combined format as nginx and Apache do too. What
//! does not stand in it is not known.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::message::redact::HIDDEN;

/// What a line says of a request. Fields that the log does not have are missing, as are those that did not apply.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record<'l> {
    #[serde(borrow)]
    pub(super) listener: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) sni: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) method: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) host: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) path: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) raw_path: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) query: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) user_agent: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) referer: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) headers: BTreeMap<Text<'l>, Text<'l>>,
    #[serde(borrow)]
    pub(super) route: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) upstream: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) endpoint: Option<Text<'l>>,
    pub(super) status: Option<u16>,
    #[serde(borrow)]
    pub(super) who: Option<Text<'l>>,
    #[serde(borrow)]
    pub(super) reason: Option<Text<'l>>,
    pub(super) request_bytes: Option<u64>,
}

/// Text of a line, copied only where something in it was escaped.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether something of it may have been left out by `redact`.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.contains(HIDDEN)
    }
}

impl<'l> Record<'l> {
    /// Reads a line, or says why it is none.
    pub(super) fn read(line: &'l [u8]) -> Result<Self, String> {
        if line.first() == Some(&b'{') {
            return serde_json::from_slice(line).map_err(|error| {
                // Every line is the first of its own.
                error.to_string().replace(" at line 1 column", " at column")
            });
        }
        let line = str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
        combined(line).ok_or_else(|| "neither JSON nor the combined format".to_owned())
    }

    /// The path as the client spelled it.
    pub(super) fn spelled(&self) -> Option<&Text<'l>> {
        self.raw_path.as_ref().or(self.path.as_ref())
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_ref().map(Text::as_str)
    }
}

/// `192.0.2.1 - - [21/Nov/2026:12:34:56 +0000] "GET /x?y HTTP/1.1" 200 12 "https://example.com/" "curl/8"`
fn combined(line: &str) -> Option<Record<'_>> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = quoted(rest)?;
    let mut numbers = rest.split_ascii_whitespace();
    let status: u16 = numbers.next()?.parse().ok()?;
    let mut record = Record {
        status: Some(status).filter(|status| (100..1000).contains(status)),
        ..Record::default()
    };
    record.status?;
    if let Some((_, fields)) = rest.split_once(" \"")
        && let Some((referer, fields)) = quoted(fields)
    {
        record.referer = given(referer);
        let agent = fields.strip_prefix(" \"").and_then(quoted);
        record.user_agent = agent.and_then(|(agent, _)| given(agent));
    }
    let mut words = request.splitn(2, ' ');
    record.method = Some(unescaped(words.next()?));
    let Some((target, _protocol)) = words.next().and_then(|rest| rest.rsplit_once(' ')) else {
        // What was sent was no request line: nobody has looked for a route.
        record.method = Some(Text(Cow::Borrowed("-")));
        return Some(record);
    };
    let (authority, target) = split_authority(target);
    record.host = authority.map(unescaped);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    record.path = Some(unescaped(path));
    record.query = query.map(unescaped);
    Some(record)
}

/// The authority of a target in absolute form (RFC 9112 §3.2.2), and what is left of it.
fn split_authority(target: &str) -> (Option<&str>, &str) {
    if target.starts_with('/') {
        return (None, target);
    }
    let Some((_, rest)) = target.split_once("://") else {
        return (None, target);
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (Some(authority), if rest.is_empty() { "/" } else { rest })
}

/// What stands before the next quote that is not escaped, and what behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

fn given(text: &str) -> Option<Text<'_>> {
    (text != "-").then(|| unescaped(text))
}

/// Without `\xHH`, and `\"` and the like, as Apache writes them.
fn unescaped(text: &str) -> Text<'_> {
    if !text.contains('\\') {
        return Text(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.strip_prefix(b"x").and_then(|tail| tail.get(..2));
        let code = digits.and_then(|digits| str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        (bytes, rest) = match (first, code, tail) {
            (b'\\', Some(code), _) => (with(bytes, code), &tail[3..]),
            (b'\\', None, [escaped, tail @ ..]) => (with(bytes, *escaped), tail),
            _ => (with(bytes, *first), tail),
        };
    }
    Text(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

fn with(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'t>(text: &'t Option<Text<'_>>) -> Option<&'t str> {
        text.as_ref().map(Text::as_str)
    }

    #[test]
    fn a_line_of_json_says_what_its_fields_say_and_nothing_else() {
        let line = br#"{"time":"x","generation":1,"method":"GET","host":"h","path":"/a\u202eb","route":"/","status":200,"headers":{"x-beta":"1"},"who":"upstream","failed_attempts":[{"endpoint":"e","error":"closed","ms":0.1}]}"#;
        let record = Record::read(line).unwrap();
        assert_eq!(text(&record.method), Some("GET"));
        assert_eq!(text(&record.path), Some("/a\u{202e}b"));
        assert_eq!((record.status, text(&record.upstream)), (Some(200), None));
        assert_eq!(record.headers.len(), 1);
        assert!(matches!(record.host, Some(Text(Cow::Borrowed("h")))));
    }

    #[test]
    fn combined_lines_of_other_programs_are_read() {
        for (line, method, host, path, query) in [
            (
                r#"127.0.0.1 - - [21/Nov/2026:12:34:56 +0000] "GET /x?y=\x22 HTTP/1.1" 200 12 "-" "curl/8""#,
                "GET",
                None,
                Some("/x"),
                Some("y=\""),
            ),
            // Apache: a user, a quote as it escapes it, no length.
            (
                r#"::1 - ann [21/Nov/2026:12:34:56 +0000] "POST /\"x HTTP/2.0" 304 - "http://a/\"b" "a \"b\"""#,
                "POST",
                None,
                Some("/\"x"),
                None,
            ),
            // The common format ends with the length.
            (
                r#"h - - [21/Nov/2026:12:34:56 +0000] "GET http://Ex.am:80 HTTP/1.0" 404 0"#,
                "GET",
                Some("Ex.am:80"),
                Some("/"),
                None,
            ),
            (
                r#"h - - [21/Nov/2026:12:34:56 +0000] "\x16\x03\x01" 400 150 "-" "-""#,
                "-",
                None,
                None,
                None,
            ),
            (
                r#"h - - [21/Nov/2026:12:34:56 +0000] "" 400 0 "-" "-""#,
                "-",
                None,
                None,
                None,
            ),
        ] {
            let record = Record::read(line.as_bytes()).unwrap();
            assert_eq!(text(&record.method), Some(method), "{line}");
            assert_eq!(text(&record.host), host, "{line}");
            assert_eq!(text(&record.path), path, "{line}");
            assert_eq!(text(&record.query), query, "{line}");
            assert!(record.status.is_some(), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_told_why() {
        for (line, why) in [
            (&b"{\"path\":1}"[..], "invalid type: integer `1`"),
            (b"{\"path\":\"/\"", "at column 11"),
            (b"hello", "neither JSON nor the combined format"),
            (b"\xff", "is not UTF-8"),
            (b"h - - [x] \"GET / HTTP/1.1\" two 1", "neither JSON"),
            (b"h - - [x] \"GET / HTTP/1.1", "neither JSON"),
        ] {
            let error = Record::read(line).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
