//! Hides values of query parameters in what is written down: by the parameters' names, however these are spelled. What is in
//! doubt is hidden. Pure.

use std::borrow::Cow;

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
            Self::Named(names) => hide(query, '&', names),
        }
    }

    /// `path` without them: parameters may stand there, too (RFC 3986 §3.3), and a question mark that is encoded begins a query
    /// for some servers.
    pub fn path<'t>(&self, path: &'t str) -> Cow<'t, str> {
        match self {
            Self::All => Cow::Borrowed(path),
            Self::Named(names) => hide(path, '/', names),
        }
    }

    /// `url`, or whatever may hold one, without them.
    pub fn url<'t>(&self, url: &'t str) -> Cow<'t, str> {
        let Some((before, query)) = url.split_once('?') else {
            return self.path(url);
        };
        match (self.path(before), self.query(query)) {
            (Cow::Borrowed(_), Cow::Borrowed(shown)) if shown == query => Cow::Borrowed(url),
            (before, query) => Cow::Owned(format!("{before}?{query}")),
        }
    }
}

/// `text`, of whose parts between `separator`s the values of parameters called `names` are hidden.
fn hide<'t>(text: &'t str, separator: char, names: &[Box<str>]) -> Cow<'t, str> {
    // Nothing has a name here.
    if memchr::memchr2(b'=', b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut shown: Option<String> = None;
    let mut done = 0;
    for part in text.split(separator) {
        let end = done + part.len();
        let hidden = secret_from(part, names);
        if let Some(begin) = hidden {
            let shown = shown.get_or_insert_with(|| text[..done].to_owned());
            shown.push_str(&part[..begin]);
            shown.push_str(HIDDEN);
        } else if let Some(shown) = &mut shown {
            shown.push_str(part);
        }
        done = end + separator.len_utf8();
        if let Some(shown) = &mut shown
            && end < text.len()
        {
            shown.push(separator);
        }
    }
    shown.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Where in `part` a value begins that is to be hidden, with all that follows.
fn secret_from(part: &str, names: &[Box<str>]) -> Option<usize> {
    let mut begin = 0;
    // Some servers end parameters with `;`, others have it in values: whatever follows the first secret is hidden.
    for piece in part.split(';') {
        if let Some((name, _)) = piece.split_once('=')
            && is_secret(name.as_bytes(), names)
        {
            return Some(begin + name.len() + 1);
        }
        begin += piece.len() + 1;
    }
    // A URL within a value has parameters of its own, encoded once more.
    let mut inner = part.as_bytes().to_vec();
    for _ in 0..MOST_DECODED {
        let Some(decoded) = decode(&inner) else { break };
        inner = decoded;
        let pieces = inner.split(|byte| b"&;?#/ \t".contains(byte));
        for piece in pieces {
            let name = piece.iter().position(|byte| *byte == b'=');
            if name.is_some_and(|end| is_secret(&piece[..end], names)) {
                return Some(part.find('=').map_or(0, |at| at + 1));
            }
        }
    }
    None
}

/// Whether a parameter is called one of `names`, here in its spelling in a request. `token[]` and `token[a]` are `token`.
fn is_secret(spelled: &[u8], names: &[Box<str>]) -> bool {
    let is_one = |name: &[u8]| {
        let name = name.split(|byte| *byte == b'[').next().unwrap_or_default();
        let name = name.trim_ascii();
        names
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
    };
    if is_one(spelled) {
        return true;
    }
    let mut name = spelled.to_vec();
    for _ in 0..MOST_DECODED {
        let Some(decoded) = decode(&name) else { break };
        name = decoded;
        if is_one(&name) {
            return true;
        }
    }
    false
}

/// `text` with its percent-encoding undone once; `None` where there is none.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'%', [high, low, behind @ ..]) if hexadecimal(*high, *low).is_some() => {
                rest = behind;
                hexadecimal(*high, *low).unwrap_or_default()
            }
            (b'+', _) => b' ',
            (byte, _) => *byte,
        });
    }
    (decoded != text).then_some(decoded)
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

const MOST_DECODED: usize = 4; // more often than anything between here and an app does

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(names: &[&str]) -> Secrets {
        Secrets::Named(names.iter().map(|name| Box::from(*name)).collect())
    }

    #[test]
    fn values_of_secrets_are_hidden_and_others_stay() {
        let secrets = named(&["token", "password"]);
        for (query, shown) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("token", "token"),
            ("token=", "token=***"),
            ("token=s&b=2", "token=***&b=2"),
            ("a=1&token=s", "a=1&token=***"),
            ("a=1&&token=s=t&", "a=1&&token=***&"),
            ("TOKEN=s&Password=s", "TOKEN=***&Password=***"),
            ("%74oke%6E=s", "%74oke%6E=***"),
            ("%2574oken=s", "%2574oken=***"),
            ("+token+=s", "+token+=***"),
            ("token[]=s&token%5B0%5D=s", "token[]=***&token%5B0%5D=***"),
            ("a=1;token=s;t=u&b=2", "a=1;token=***&b=2"),
            ("next=%2Flogin%3Ftoken%3Ds&b=2", "next=***&b=2"),
            ("next=/login?a=1%26token=s", "next=***"),
            ("a%3D1%26token%3Ds", "***"),
            ("mytoken=1&tokens=2", "mytoken=1&tokens=2"),
            ("a=token", "a=token"),
            ("%zz=1&%=2&a=%", "%zz=1&%=2&a=%"),
        ] {
            assert_eq!(secrets.query(query), shown, "{query}");
        }
    }

    #[test]
    fn paths_and_urls_may_hold_parameters_too() {
        let secrets = named(&["token"]);
        for (path, shown) in [
            ("/a/b", "/a/b"),
            ("/a;token=s/b", "/a;token=***/b"),
            ("/a%3Ftoken=s", "/a%3Ftoken=***"),
            ("/a;x=1/b", "/a;x=1/b"),
        ] {
            assert_eq!(secrets.path(path), shown, "{path}");
        }
        let url = "https://example.com/a;token=s?b=1&token=s#token=s";
        let shown = "https://example.com/a;token=***?b=1&token=***";
        assert_eq!(secrets.url(url), shown);
        assert_eq!(secrets.url("/a?b=1#token=s"), "/a?b=1#token=s");
        assert_eq!(Secrets::All.url("/a?b=1"), "/a?***");
        assert_eq!(Secrets::All.query("b"), "***");
        assert_eq!(Secrets::All.url("/a"), "/a");
    }

    /// `name` as somebody spells it who wants it not to be seen.
    fn spelled(name: &str, choices: &[u8]) -> String {
        let mut text = String::new();
        for (byte, choice) in name.bytes().zip(choices) {
            match choice % 5 {
                0 => text.push(char::from(byte)),
                1 => text.push(char::from(byte.to_ascii_uppercase())),
                2 => text += &format!("%{byte:02x}"),
                3 => text += &format!("%{:02X}", byte.to_ascii_uppercase()),
                _ => text += &format!("%25{byte:02x}"),
            }
        }
        text
    }

    proptest! {
        #[test]
        fn secrets_never_stand_in_what_is_shown(
            before in prop::collection::vec("[a-z0-9%;=+]{0,8}", 0..4),
            choices in prop::collection::vec(any::<u8>(), 5),
            index in prop::option::of("\\[[a-z0-9]{0,3}\\]"),
            secret in "S[A-Z]{6}[;/=+%A-Z]{0,6}S[A-Z]{6}",
            after in prop::collection::vec("[a-z0-9%;=+]{0,8}", 0..4),
            separator in prop::sample::select(vec!["&", ";"]),
        ) {
            let name = spelled("token", &choices) + index.as_deref().unwrap_or_default();
            let query = [before.join("&"), format!("{name}={secret}"), after.join("&")];
            let query = [query[..2].join(separator), query[2].clone()].join("&");
            for text in [
                named(&["token"]).query(&query),
                Secrets::All.query(&query),
                named(&["token"]).url(&format!("/x?{query}")),
            ] {
                prop_assert!(!text.contains(&secret[..7]), "{query} {text}");
                prop_assert!(!text.contains(&secret[secret.len() - 7..]), "{query} {text}");
            }
        }

        #[test]
        fn what_holds_no_secret_stays_as_it_is(query in "[a-n0-9%&;=+/?#]{0,40}") {
            prop_assert_eq!(named(&["token"]).query(&query), query.as_str());
        }

        #[test]
        fn no_text_ends_in_a_panic(text in ".{0,40}") {
            let secrets = named(&["token", "ü"]);
            let _ = (secrets.query(&text), secrets.path(&text), secrets.url(&text));
        }
    }
}
