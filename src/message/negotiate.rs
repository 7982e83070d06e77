//! Which of the forms a short message can have a client likes best (RFC 9110 §12.5.1). Pure.

use http::HeaderValue;

/// A form of a short message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `text/plain`
    Text,
    /// `text/html`
    Html,
    /// `application/problem+json` (RFC 9457)
    Problem,
    /// `application/json`
    Json,
}

impl Format {
    /// All of them; of those a client likes equally, the first is taken.
    const ALL: [Self; 4] = [Self::Text, Self::Html, Self::Problem, Self::Json];

    /// The media type, without parameters.
    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain"),
            Self::Html => ("text", "html"),
            Self::Problem => ("application", "problem+json"),
            Self::Json => ("application", "json"),
        }
    }

    /// What `Content-Type` says of it.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Problem => "application/problem+json",
            Self::Json => "application/json",
        })
    }
}

/// The form that a client with this `Accept` likes best; text where it likes none.
///
/// Of the ranges that take a form the most specific one counts. Parameters other than `q` are not looked at; a range that
/// cannot be read is passed over.
pub fn preferred(accept: &[u8]) -> Format {
    if accept == b"*/*" {
        return Format::Text; // what tools say that do not care
    }
    let mut best = (Format::Text, 0);
    for format in Format::ALL {
        let quality = quality(accept, format.media_type());
        if quality > best.1 {
            best = (format, quality);
        }
    }
    best.0
}

/// How well a client with this `Accept` likes a media type, in thousandths.
pub fn quality(accept: &[u8], media_type: (&str, &str)) -> u16 {
    let Ok(accept) = std::str::from_utf8(accept) else {
        return 0;
    };
    let mut liked = (Specificity::None, 0);
    for (kind, subkind, quality) in accept.split(',').filter_map(range) {
        let specificity = specificity((kind, subkind), media_type);
        if specificity > liked.0 {
            liked = (specificity, quality);
        }
    }
    liked.1
}

/// How exactly a range names a media type.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Specificity {
    None,
    Anything,
    Kind,
    Exact,
}

fn specificity((kind, subkind): (&str, &str), media_type: (&str, &str)) -> Specificity {
    if (kind, subkind) == ("*", "*") {
        Specificity::Anything
    } else if !kind.eq_ignore_ascii_case(media_type.0) {
        Specificity::None
    } else if subkind == "*" {
        Specificity::Kind
    } else if subkind.eq_ignore_ascii_case(media_type.1) {
        Specificity::Exact
    } else {
        Specificity::None
    }
}

/// `type/subtype;q=0.5` in its parts, the quality in thousandths.
fn range(text: &str) -> Option<(&str, &str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subkind) = parts.next()?.split_once('/')?;
    let mut quality = 1000;
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.eq_ignore_ascii_case("q")
        {
            quality = thousandths(value)?;
        }
    }
    Some((kind, subkind, quality))
}

/// RFC 9110 §12.4.2: `0`, `0.8`, `0.875`, `1`, `1.000`.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_get_what_they_like_best() {
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("text/html", Format::Html),
            ("TEXT/HTML", Format::Html),
            ("application/json", Format::Json),
            ("application/problem+json", Format::Problem),
            (
                "application/problem+json, application/json",
                Format::Problem,
            ),
            (
                "application/json, application/problem+json;q=0.9",
                Format::Json,
            ),
            ("application/*", Format::Problem),
            ("text/*", Format::Text),
            ("image/png", Format::Text),
            // Browsers, then tools and libraries.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
                Format::Html,
            ),
            ("application/json, */*;q=0.5", Format::Json),
            ("application/json, text/plain, */*", Format::Text),
            ("application/json;charset=utf-8", Format::Json),
        ] {
            assert_eq!(preferred(accept.as_bytes()), expected, "{accept}");
        }
        assert_eq!(preferred(b"\xff"), Format::Text);
    }

    #[test]
    fn qualities_order_what_is_liked() {
        for (accept, expected) in [
            ("text/plain;q=0.5, text/html", Format::Html),
            ("text/plain;q=0.5, text/html;q=0.4", Format::Text),
            ("text/html;q=0.001", Format::Html),
            ("text/html;q=0", Format::Text),
            ("text/html;q=0, */*", Format::Text),
            ("*/*, text/plain;q=0", Format::Html),
            ("*/*;q=0.1, application/*;q=0.2", Format::Problem),
            ("text/*;q=0.3, text/html;q=0.7, */*;q=0.5", Format::Html),
            (
                "application/json ; Q=0.9 , text/html ; q=0.91",
                Format::Html,
            ),
            (
                "text/html;level=1;q=0.2, application/json;q=0.3",
                Format::Json,
            ),
            // What cannot be read is passed over.
            ("text/html;q=2, application/json;q=0.1", Format::Json),
            ("text/html;q=0.1234, application/json;q=0.1", Format::Json),
            ("text/html;q=, application/json;q=0.1", Format::Json),
            ("html, application/json;q=0.1", Format::Json),
            (";;,/,*,application/json", Format::Json),
        ] {
            assert_eq!(preferred(accept.as_bytes()), expected, "{accept}");
        }
    }

    #[test]
    fn qualities_have_three_digits_at_most() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.8", Some(800)),
            ("0.08", Some(80)),
            ("0.875", Some(875)),
            ("1", Some(1000)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("2", None),
            ("-1", None),
            ("0.1234", None),
            ("0.+1", None),
            (".5", None),
            ("", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_accept_ends_in_a_panic(accept in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = preferred(&accept);
        }

        /// The same with ranges that take the four forms only, sorted by nothing but their quality.
        #[test]
        fn the_highest_quality_wins(qualities in prop::collection::vec(0_u16..=1000, 4)) {
            let text = |(format, quality): (&Format, &u16)| {
                let (kind, subkind) = format.media_type();
                format!("{kind}/{subkind};q={}.{:03}", quality / 1000, quality % 1000)
            };
            let accept: Vec<_> = Format::ALL.iter().zip(&qualities).map(text).collect();
            let highest = qualities.iter().max().unwrap();
            let first = qualities.iter().position(|quality| quality == highest).unwrap();
            prop_assert_eq!(preferred(accept.join(",").as_bytes()), Format::ALL[first]);
        }
    }
}
