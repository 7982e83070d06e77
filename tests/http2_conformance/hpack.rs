//! RFC 7541: a header block is read in each of its spellings, and one that cannot be read ends the connection.

use super::Step::{Answer, ConnectionError};
use super::*;

const UNREADABLE: Step = ConnectionError(COMPRESSION);

// RFC 7541 Appendix C.
const NAME: &[u8] = b"\x0acustom-key";
const NAME_IN_HUFFMAN: &[u8] = b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f";
const VALUE: &[u8] = b"\x0ccustom-value";
const VALUE_IN_HUFFMAN: &[u8] = b"\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
const OTHER: &[u8] = b"\x05other";
/// The newest field of the dynamic table.
const NEWEST: u8 = 62;
/// Its number where four bits are left to begin it in: these, and then the rest.
const IN_FOUR_BITS: [u8; 2] = [0x0f, NEWEST - 0x0f];

/// A request whose block ends with these bytes.
fn ending_in(pieces: &[&[u8]]) -> Step {
    let block = [&block("GET", &[])[..], &pieces.concat()].concat();
    headers(END_STREAM | END_HEADERS, 1, &block)
}

/// A request whose block begins with these bytes.
fn beginning_with(bytes: &[u8]) -> Step {
    let block = [bytes, &block("GET", &[])].concat();
    headers(END_STREAM | END_HEADERS, 1, &block)
}

/// RFC 7541 §6.1 to §6.3. The endpoint says back the last of the fields that it got.
#[test]
fn fields_are_read_in_every_representation() {
    const SAID: Step = Answer("custom-value");
    let after_another = |pieces: &[&[u8]]| {
        let another = [&[0x40][..], NAME, OTHER].concat();
        ending_in(&[&another, &pieces.concat()])
    };
    let never = [0x10 | IN_FOUR_BITS[0], IN_FOUR_BITS[1]];
    hold(&[
        (
            "indexed, from the static table",
            &[ending_in(&[&[0x80 | 58]]), Answer(ANSWER)],
        ),
        (
            "indexed, from the dynamic table",
            &[
                ending_in(&[&[0x40], NAME, VALUE, &[0], NAME, OTHER, &[0x80 | NEWEST]]),
                SAID,
            ],
        ),
        (
            "incremental indexing, indexed name",
            &[after_another(&[&[0x40 | NEWEST], VALUE]), SAID],
        ),
        (
            "incremental indexing, indexed name, in Huffman code",
            &[after_another(&[&[0x40 | NEWEST], VALUE_IN_HUFFMAN]), SAID],
        ),
        (
            "incremental indexing, new name",
            &[ending_in(&[&[0x40], NAME, VALUE]), SAID],
        ),
        (
            "incremental indexing, new name, in Huffman code",
            &[
                ending_in(&[&[0x40], NAME_IN_HUFFMAN, VALUE_IN_HUFFMAN]),
                SAID,
            ],
        ),
        (
            "without indexing, indexed name",
            &[after_another(&[&IN_FOUR_BITS, VALUE]), SAID],
        ),
        (
            "without indexing, indexed name, in Huffman code",
            &[after_another(&[&IN_FOUR_BITS, VALUE_IN_HUFFMAN]), SAID],
        ),
        (
            "without indexing, new name",
            &[ending_in(&[&[0], NAME, VALUE]), SAID],
        ),
        (
            "without indexing, new name, in Huffman code",
            &[ending_in(&[&[0], NAME_IN_HUFFMAN, VALUE_IN_HUFFMAN]), SAID],
        ),
        (
            "never indexed, indexed name",
            &[after_another(&[&never, VALUE]), SAID],
        ),
        (
            "never indexed, indexed name, in Huffman code",
            &[after_another(&[&never, VALUE_IN_HUFFMAN]), SAID],
        ),
        (
            "never indexed, new name",
            &[ending_in(&[&[0x10], NAME, VALUE]), SAID],
        ),
        (
            "never indexed, new name, in Huffman code",
            &[
                ending_in(&[&[0x10], NAME_IN_HUFFMAN, VALUE_IN_HUFFMAN]),
                SAID,
            ],
        ),
        (
            "a size update of the table: 128",
            &[beginning_with(b"\x3f\x61"), Answer(ANSWER)],
        ),
        (
            "several of them: 128, 4096",
            &[beginning_with(b"\x3f\x61\x3f\xe1\x1f"), Answer(ANSWER)],
        ),
    ]);
}

#[test]
fn section_2_3_3_index_address_space() {
    hold(&[
        (
            "a field beyond both tables",
            &[ending_in(&[&[0x80 | 70]]), UNREADABLE],
        ),
        (
            "a name beyond both tables",
            &[ending_in(&[&[0x7f, 70 - 63], VALUE]), UNREADABLE],
        ),
    ]);
}

#[test]
fn section_4_2_maximum_table_size() {
    hold(&[(
        "a size update at the end of a block",
        &[ending_in(&[&[0x21]]), UNREADABLE],
    )]);
}

#[test]
fn section_5_2_string_literals() {
    // `custom-value` leaves five bits of its last byte to the padding; `custom-key` leaves seven, of which five are a `0`.
    hold(&[
        (
            "padding longer than seven bits",
            &[
                ending_in(&[&[0], NAME, b"\x8a\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf\xff"]),
                UNREADABLE,
            ],
        ),
        (
            "padding of zeros",
            &[
                ending_in(&[&[0], NAME, b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x00"]),
                UNREADABLE,
            ],
        ),
        (
            "the end-of-string symbol",
            &[
                ending_in(&[&[0], NAME, b"\x84\xff\xff\xff\xff"]),
                UNREADABLE,
            ],
        ),
    ]);
}

#[test]
fn section_6_1_indexed_fields() {
    hold(&[("index 0", &[ending_in(&[&[0x80]]), UNREADABLE])]);
}

#[test]
fn section_6_3_table_size_update() {
    hold(&[(
        "larger than SETTINGS_HEADER_TABLE_SIZE",
        &[beginning_with(b"\x3f\xe2\x1f"), UNREADABLE], // 4097
    )]);
}
