//! RFC 9113 §6.1 to §6.4, §6.7, §6.8 and §6.10: every kind of frame is held to what its section says of it.

use super::Step::{Answer, ConnectionError, Pong, StreamError};
use super::*;

#[test]
fn section_6_1_data() {
    hold(&[
        (
            "of no stream",
            &[data(END_STREAM, 0, b"test"), ConnectionError(PROTOCOL)],
        ),
        (
            "on a stream whose body has ended",
            &[
                headers(END_STREAM | END_HEADERS, 1, &block("POST", &[])),
                data(END_STREAM, 1, b"test"),
                StreamError(1, STREAM_CLOSED),
            ],
        ),
        (
            "with more padding than there is frame",
            &[
                headers(END_HEADERS, 1, &block("POST", &[("content-length", "4")])),
                data(END_STREAM | PADDED, 1, b"\x06test"),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}

#[test]
fn section_6_2_headers() {
    let whole = block("GET", &[]);
    let more = header_block(&[("x-a", "a")]);
    let padded = [&[u8::try_from(whole.len() + 1).unwrap()][..], &whole].concat();
    hold(&[
        (
            "whose block PRIORITY interrupts",
            &[
                headers(0, 1, &whole),
                priority(1, 0, 255),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "whose block HEADERS of another stream interrupt",
            &[
                headers(0, 1, &whole),
                get(3),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        ("of no stream", &[get(0), ConnectionError(PROTOCOL)]),
        (
            "with more padding than there is frame",
            &[
                headers(END_STREAM | END_HEADERS | PADDED, 1, &padded),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}

#[test]
fn section_6_3_priority() {
    hold(&[
        (
            "of no stream",
            &[priority(0, 0, 255), ConnectionError(PROTOCOL)],
        ),
        (
            "with a length other than 5",
            &[
                get(1),
                frame(PRIORITY, 0, 1, &[0x80, 0, 0, 1]),
                StreamError(1, FRAME_SIZE),
            ],
        ),
    ]);
}

#[test]
fn section_6_4_rst_stream() {
    hold(&[
        (
            "of no stream",
            &[reset(0, CANCEL), ConnectionError(PROTOCOL)],
        ),
        (
            "of an idle stream",
            &[reset(1, CANCEL), ConnectionError(PROTOCOL)],
        ),
        (
            "with a length other than 4",
            &[
                get(1),
                frame(Frames::RST_STREAM, 0, 1, &[0; 3]),
                ConnectionError(FRAME_SIZE),
            ],
        ),
    ]);
}

#[test]
fn section_6_7_ping() {
    hold(&[
        ("is answered with what it carries", &[ping(), Pong]),
        (
            "that is an answer is not answered",
            &[frame(Frames::PING, ACK, 0, b"unasked!"), ping(), Pong],
        ),
        (
            "of a stream",
            &[frame(Frames::PING, 0, 1, PING), ConnectionError(PROTOCOL)],
        ),
        (
            "with a length other than 8",
            &[
                frame(Frames::PING, 0, 0, &PING[..6]),
                ConnectionError(FRAME_SIZE),
            ],
        ),
    ]);
}

#[test]
fn section_6_8_goaway() {
    hold(&[(
        "of a stream",
        &[go_away(1, NO_ERROR), ConnectionError(PROTOCOL)],
    )]);
}

#[test]
fn section_6_10_continuation() {
    let whole = block("GET", &[]);
    let more = header_block(&[("x-a", "a")]);
    let begun = || headers(END_STREAM, 1, &whole);
    hold(&[
        (
            "several after HEADERS",
            &[
                begun(),
                continuation(0, 1, &more),
                continuation(END_HEADERS, 1, &more),
                Answer(ANSWER),
            ],
        ),
        (
            "that another kind of frame follows before the block's end",
            &[
                headers(0, 1, &block("POST", &[])),
                continuation(0, 1, &more),
                data(END_STREAM, 1, b"test"),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "of no stream",
            &[
                begun(),
                continuation(END_HEADERS, 0, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "of another stream",
            &[
                begun(),
                continuation(END_HEADERS, 3, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "after HEADERS that ended the block",
            &[
                get(1),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "after CONTINUATION that ended the block",
            &[
                begun(),
                continuation(END_HEADERS, 1, &more),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "after DATA",
            &[
                headers(0, 1, &block("POST", &[])),
                data(END_STREAM, 1, b"test"),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}
