//! Text from elsewhere, made fit for a terminal: nothing in it moves the cursor, changes colours, or hides or turns round what stands
//! beside it. Whatever is drawn of what was asked for comes through here.

use std::fmt;

use serde::Deserialize;

use crate::message::unfit::is_unfit;

/// A text without control characters, no longer than [`LONGEST`].
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(from = "String")]
pub(super) struct Plain(String);

/// A name, as it is asked for and as it is shown.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
pub(super) struct Name {
    /// Never drawn.
    pub(super) raw: String,
    plain: Plain,
}

impl Plain {
    /// Of any text.
    pub(super) fn of(text: &str) -> Self {
        let unfit = |c: char| if is_unfit(c) { REPLACEMENT } else { c };
        let mut plain: String = text.chars().take(LONGEST).map(unfit).collect();
        if text.chars().nth(LONGEST).is_some() {
            plain.push('…');
        }
        Self(plain)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name {
    /// Of any text.
    pub(super) fn of(text: &str) -> Self {
        Self {
            raw: text.to_owned(),
            plain: Plain::of(text),
        }
    }

    /// As it may be drawn.
    pub(super) fn shown(&self) -> &str {
        &self.plain.0
    }
}

impl From<String> for Plain {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

const REPLACEMENT: char = '\u{fffd}'; // that something was there is worth seeing
const LONGEST: usize = 256; // wider than a screen, and no load for it

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_replaced() {
        for (text, shown) in [
            ("app", "app"),
            ("端点 é ♥", "端点 é ♥"),
            ("\x1b[2Jgone", "\u{fffd}[2Jgone"),
            (
                "a\rb\nc\td\x07\x7f",
                "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}",
            ),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("\u{202e}nwod\u{2066}x", "\u{fffd}nwod\u{fffd}x"),
            ("a\u{200b}b\u{feff}", "a\u{fffd}b\u{fffd}"),
        ] {
            assert_eq!(Plain::of(text).as_str(), shown, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_and_a_name_is_asked_for_as_it_is() {
        let long = "x".repeat(LONGEST + 1);
        let name = Name::of(&long);
        assert_eq!(name.shown().chars().count(), LONGEST + 1);
        assert!(name.shown().ends_with('…'));
        assert_eq!(name.raw, long);
        assert_eq!(Name::of("a\x1bb").raw, "a\x1bb");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn nothing_a_terminal_would_act_upon_is_ever_left(text in any::<String>()) {
            prop_assert!(!Plain::of(&text).as_str().chars().any(is_unfit));
        }
    }
}
