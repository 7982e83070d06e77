//! Hides values of query parameters in what is written down: by the parameters' names, however these are spelled, and wherever
//! in a path or a URL parameters may stand. What is in doubt is hidden. Pure.

use std::borrow::Cow;

use super::hexadecimal;

/// What stands in the place of a value.
pub const HIDDEN: &str = "***";

/// Which values are not shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Secrets {
    /// Those of parameters with these names, which are in lower case: requests are looked through without regard to case.
    Named(Box<[Box<str>]>),
    /// Whole queries.
    All,
}

impl Secrets {
    /// `query`, which is what follows the question mark, without the values.
    pub fn query<'t>(&self, query: &'t str) -> Cow<'t, str> {
        match self {
            Self::All if query.is_empty() => Cow::Borrowed(query),
            Self::All => Cow::Borrowed(HIDDEN),
            Self::Named(names) => hide(query, Some('&'), names),
        }
    }

    /// `path` without them: parameters may stand there, too (RFC 3986 §3.3), and a question mark that is encoded begins a query
    /// for some servers. Where such a value ends is anybody's guess: what follows is hidden, too.
    pub fn path<'t>(&self, path: &'t str) -> Cow<'t, str> {
        match self {
            Self::All => Cow::Borrowed(path),
            Self::Named(names) => hide(path, None, names),
        }
    }

    /// `url`, or whatever may hold one, without them, and without the name and password of a user. A fragment is a query of
    /// its own: some servers send tokens in one.
    pub fn url<'t>(&self, url: &'t str) -> Cow<'t, str> {
        match without_userinfo(url) {
            Cow::Borrowed(url) => self.parts(url),
            Cow::Owned(url) => Cow::Owned(self.parts(&url).into_owned()),
        }
    }

    fn parts<'t>(&self, url: &'t str) -> Cow<'t, str> {
        let Some(at) = memchr::memchr2(b'?', b'#', url.as_bytes()) else {
            return self.path(url);
        };
        let (before, query) = (&url[..at], &url[at + 1..]);
        if let Cow::Owned(before) = self.path(before) {
            return Cow::Owned(before);
        }
        match self.query(query) {
            Cow::Borrowed(shown) if shown == query => Cow::Borrowed(url),
            shown => Cow::Owned(format!("{}{shown}", &url[..=at])),
        }
    }
}

/// `text`, in whose URLs nothing stands before the host (RFC 3986 §3.2.1).
fn without_userinfo(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(begin) = memchr::memmem::find(rest.as_bytes(), b"//") {
        let (before, authority) = rest.split_at(begin + 2);
        let end = authority.find(['/', '?', '#', ' ']);
        let (authority, after) = authority.split_at(end.unwrap_or(authority.len()));
        shown.push_str(before);
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend([HIDDEN, "@", host]),
            None => shown.push_str(authority),
        }
        rest = after;
    }
    shown.push_str(rest);
    if shown == text {
        return Cow::Borrowed(text);
    }
    Cow::Owned(shown)
}

/// `text`, of whose parts between `separator`s the values of parameters called `names` are hidden.
fn hide<'t>(text: &'t str, separator: Option<char>, names: &[Box<str>]) -> Cow<'t, str> {
    // Nothing has a name here.
    if memchr::memchr2(b'=', b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut shown: Option<String> = None;
    let mut done = 0;
    for part in text.split_inclusive(|character| Some(character) == separator) {
        let parameter = part.trim_end_matches(|character| Some(character) == separator);
        if let Some(begin) = secret_from(parameter, names) {
            let shown = shown.get_or_insert_with(|| text[..done].to_owned());
            shown.extend([&part[..begin], HIDDEN, &part[parameter.len()..]]);
        } else if let Some(shown) = &mut shown {
            shown.push_str(part);
        }
        done += part.len();
    }
    shown.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Where in `part` a value begins that is to be hidden, with all that follows: some servers end parameters with `;`, others have
/// it in values. A URL within a value has parameters of its own, as it is or encoded once more.
fn secret_from(part: &str, names: &[Box<str>]) -> Option<usize> {
    let mut first = secrets_name(part.as_bytes(), names).map(|at| at + 1);
    if memchr::memchr2(b'%', b'+', part.as_bytes()).is_none() {
        return first;
    }
    let mut inner = Decoded {
        text: part.as_bytes().to_vec(),
        ends: (1..=part.len()).collect(),
    };
    for _ in 0..MOST_DECODED {
        let Some(decoded) = inner.decode() else { break };
        inner = decoded;
        let found = secrets_name(&inner.text, names).map(|at| inner.ends[at]);
        // What is encoded more often may stand before what is not.
        first = first.into_iter().chain(found).min();
    }
    first
}

/// Where the name of the first secret in `text` ends, which is at its `=`.
fn secrets_name(text: &[u8], names: &[Box<str>]) -> Option<usize> {
    let mut begin = 0;
    for (at, byte) in text.iter().enumerate() {
        if !b"=&;?#/".contains(byte) {
            continue;
        }
        if *byte == b'=' && is_secret(&text[begin..at], names) {
            return Some(at);
        }
        begin = at + 1;
    }
    None
}

/// Whether one of `names` stands in `name` as a word of its own: `token[]`, `filter[token]` and `user.token` are `token`.
fn is_secret(name: &[u8], names: &[Box<str>]) -> bool {
    let is_end = |byte: Option<&u8>| {
        !byte.is_some_and(|byte| {
            byte.is_ascii_alphanumeric() || b"-_".contains(byte) || !byte.is_ascii()
        })
    };
    names.iter().any(|secret| {
        name.windows(secret.len().max(1))
            .enumerate()
            .any(|(at, word)| {
                word.eq_ignore_ascii_case(secret.as_bytes())
                    && is_end(at.checked_sub(1).and_then(|before| name.get(before)))
                    && is_end(name.get(at + secret.len()))
            })
    })
}

/// Text whose percent-encoding is undone.
struct Decoded {
    text: Vec<u8>,
    /// Where each of its bytes ends in the text as it came.
    ends: Vec<usize>,
}

impl Decoded {
    /// Once more; `None` where there is no more to undo.
    fn decode(&self) -> Option<Self> {
        let mut decoded = Self {
            text: Vec::with_capacity(self.text.len()),
            ends: Vec::with_capacity(self.text.len()),
        };
        let mut at = 0;
        while let [first, after @ ..] = &self.text[at..] {
            let (byte, length) = match (first, after) {
                (b'%', [high, low, ..]) => match hexadecimal::byte(*high, *low) {
                    Some(byte) => (byte, 3),
                    None => (b'%', 1),
                },
                (b'+', _) => (b' ', 1),
                (byte, _) => (*byte, 1),
            };
            at += length;
            decoded.text.push(byte);
            decoded.ends.push(self.ends[at - 1]);
        }
        (decoded.text != self.text).then_some(decoded)
    }
}

const MOST_DECODED: usize = 4; // more often than anything between here and an app does

#[cfg(test)]
mod tests;
