//! Text that clients have a say in, written so that it neither ends its line nor its quotes, and no terminal acts on it.

use crate::message::unfit::is_unfit;

/// RFC 8259 §7: quotes, backslashes and control characters are escaped; so is whatever else is unfit to be shown, such as what turns
/// the direction of writing.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    // Nearly always that is all.
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| SUSPECT[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..at]);
        rest = escape(out, &rest[at..]);
    }
    out.extend_from_slice(rest);
}

/// As nginx and Apache do: `\xHH` for whatever is not printable ASCII, and for quotes and backslashes.
pub(super) fn combined(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(
                    &[byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]),
                );
            }
            byte => out.push(*byte),
        }
    }
}

/// Whether all of `text` is printable ASCII without quotes and backslashes. Eight bytes at a time: this is most of what is done
/// for a line.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    if words.iter().any(|word| has_suspect(*word)) {
        return false;
    }
    match text.last_chunk::<8>() {
        // Those that were looked at before do no harm.
        Some(last) => !has_suspect(*last),
        None => !rest
            .iter()
            .any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..)),
    }
}

/// Whether one of eight bytes is not plain.
fn has_suspect(bytes: [u8; 8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    const HIGH: u64 = each(0x80);
    let word = u64::from_ne_bytes(bytes);
    // A byte below `limit` borrows from its highest bit, which it did not have itself.
    let below = |word: u64, limit: u8| word.wrapping_sub(each(limit)) & !word;
    let is = |byte: u8| below(word ^ each(byte), 1);
    (word | below(word, 0x20) | is(b'"') | is(b'\\') | is(0x7f)) & HIGH != 0
}

/// Bytes that are escaped in JSON, or begin characters of which some are.
static SUSPECT: [bool; 256] = {
    let mut suspect = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        suspect[byte] = matches!(
            byte as u8,
            b'"' | b'\\' | 0..0x20 | 0x7f | 0xc2 | 0xd8 | 0xe1 | 0xe2 | 0xef | 0xf3
        );
        byte += 1;
    }
    suspect
};

/// Writes the character that `rest` begins with, escaped if it has to be, and gives what follows it.
fn escape<'a>(out: &mut Vec<u8>, rest: &'a [u8]) -> &'a [u8] {
    let length = match rest {
        [byte @ (b'"' | b'\\'), ..] => {
            out.extend_from_slice(&[b'\\', *byte]);
            1
        }
        _ => match first(rest) {
            Some(character) if is_unfit(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    unicode(out, *unit);
                }
                character.len_utf8()
            }
            Some(_) | None => {
                out.extend(rest.first());
                1
            }
        },
    };
    &rest[length..]
}

/// The character that `rest` begins with, if it does.
fn first(rest: &[u8]) -> Option<char> {
    let longest = &rest[..rest.len().min(4)];
    longest.utf8_chunks().next()?.valid().chars().next()
}

fn unicode(out: &mut Vec<u8>, code: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(code >> shift & 15)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_safe(text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| !text.contains(is_unfit))
    }

    #[test]
    fn regression_what_turns_the_direction_of_writing_is_escaped() {
        let mut out = Vec::new();
        json(
            &mut out,
            "a\u{202e}b\u{200b}\u{61c}\u{2066}\u{feff}\u{e0041}é—♥".as_bytes(),
        );
        let expected = "a\\u202eb\\u200b\\u061c\\u2066\\ufeff\\udb40\\udc41é—♥";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn every_character_that_is_unfit_is_suspected_by_its_first_byte() {
        for character in ('\0'..=char::MAX).filter(|character| is_unfit(*character)) {
            let mut bytes = [0; 4];
            character.encode_utf8(&mut bytes);
            assert!(SUSPECT[usize::from(bytes[0])], "{character:?}");
        }
    }

    #[test]
    fn every_byte_is_told_from_plain_ones_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let plain = matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b'\\');
            for (length, at) in [(1, 0), (7, 6), (8, 0), (8, 7), (13, 8), (13, 12), (16, 9)] {
                for fill in [b' ', b'!', b'#', b'~', b'[', b']'] {
                    let mut text = vec![fill; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), plain, "{text:?}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    proptest! {
        #[test]
        fn json_is_read_back_as_it_was(text in "\\PC{0,20}[\u{0}-\u{ad}\u{2000}-\u{2070}\u{feff}\"\\\\]{0,20}.{0,9}") {
            let mut out = b"\"".to_vec();
            json(&mut out, text.as_bytes());
            out.push(b'"');
            prop_assert!(is_safe(&out));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn combined_is_printable_ascii_without_quotes(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            combined(&mut out, &text);
            prop_assert!(out.iter().all(|byte| matches!(byte, 0x20..0x7f) && *byte != b'"'));
        }
    }
}
