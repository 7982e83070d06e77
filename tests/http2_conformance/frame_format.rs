//! RFC 9113 §3.4, §4, §5.4.1, §5.5 and §7: how a connection begins, what a frame looks like, and what is passed over.

use super::Step::{Answer, ConnectionError, Pong, PongOrEnd, Send, StreamError};
use super::*;

/// A kind of frame, and a setting, that nobody has defined.
const UNKNOWN: u8 = 0x16;
/// What either side may send without being told (RFC 9113 §4.2).
const FRAME: usize = 1 << 14;

#[test]
fn section_3_4_preface() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const MAX_FRAME_SIZE: u16 = 5;
    let judge = Judge::start();
    let (_, offered) = judge.open(); // the first frame is SETTINGS, and not an acknowledgement
    let value = |name| offered.iter().find(|it| it.0 == name).map(|it| it.1);
    assert_eq!(value(MAX_CONCURRENT_STREAMS), Some(100), "see §5.1.2");
    let largest = value(MAX_FRAME_SIZE).map_or(FRAME, |size| size as usize);
    assert_eq!(largest, FRAME, "see §4.2");

    for first in [
        &b"INVALID CONNECTION PREFACE\r\n\r\n"[..],
        &[&PREFACE[..14], &[b'x'; 10]].concat(),
    ] {
        match judge.open_with(first).read_to(|_| false) {
            // GOAWAY may be left out, since the peer may not be using HTTP/2.
            Came::End(code) if code.is_none_or(|code| PROTOCOL.contains(&code)) => {}
            other => panic!("{other} after {first:?}"),
        }
    }
}

#[test]
fn section_4_1_frame_format() {
    let marked = Frame::bytes((Frames::PING, UNKNOWN & !ACK, 1 << 31), PING);
    hold(&[
        (
            "a frame of an unknown kind",
            &[frame(UNKNOWN, 0, 0, &[0; 8]), ping(), Pong],
        ),
        (
            "flags nobody has defined",
            &[frame(Frames::PING, UNKNOWN & !ACK, 0, PING), Pong],
        ),
        (
            "the reserved bit of a stream's number",
            &[Send(marked), Pong],
        ),
    ]);
}

#[test]
fn section_4_2_frame_size() {
    let large = [b'x'; FRAME + 1];
    let much = "x".repeat(FRAME);
    hold(&[
        (
            "DATA as large as every side must take",
            &[
                post(1),
                data(0, 1, &large[..FRAME]),
                reset(1, CANCEL),
                ping(),
                Pong,
            ],
        ),
        (
            "DATA one byte larger",
            &[
                post(1),
                data(END_STREAM, 1, &large),
                StreamError(1, FRAME_SIZE),
            ],
        ),
        (
            "HEADERS that are larger",
            &[
                headers(
                    END_STREAM | END_HEADERS,
                    1,
                    &block("GET", &[("x-a", &much)]),
                ),
                ConnectionError(FRAME_SIZE),
            ],
        ),
    ]);
}

#[test]
fn section_4_3_header_compression() {
    let whole = block("GET", &[]);
    let more = header_block(&[("x-a", "a")]);
    hold(&[
        (
            "a block that ends within a field",
            &[
                headers(END_STREAM | END_HEADERS, 1, &[0x40]),
                ConnectionError(COMPRESSION),
            ],
        ),
        (
            "PRIORITY within a block",
            &[
                headers(0, 1, &whole),
                priority(1, 0, 255),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "HEADERS of another stream within a block",
            &[
                headers(0, 1, &whole),
                get(3),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}

#[test]
fn section_5_4_1_connection_errors() {
    hold(&[
        (
            "GOAWAY is sent, and the connection closed",
            &[frame(Frames::PING, 0, 3, PING), ConnectionError(PROTOCOL)],
        ),
        (
            "what came before the error is no reason to keep the connection",
            &[
                post(1),
                data(0, 1, b"test"),
                frame(Frames::PING, 0, 3, PING),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}

#[test]
fn section_5_5_extensions() {
    hold(&[
        (
            "a frame of an unknown kind",
            &[frame(UNKNOWN, 0, 0, &[0; 8]), ping(), Pong],
        ),
        (
            "one on a stream that is open",
            &[
                post(1),
                frame(UNKNOWN, 0, 1, &[0; 8]),
                data(END_STREAM, 1, b"test"),
                Answer("test"),
            ],
        ),
        (
            "one within a header block",
            &[
                headers(END_STREAM, 1, &block("GET", &[])),
                frame(UNKNOWN, 0, 0, &[0; 8]),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}

#[test]
fn section_7_error_codes() {
    const UNKNOWN_CODE: u32 = 0xff;
    hold(&[
        (
            "GOAWAY with an unknown code",
            &[go_away(0, UNKNOWN_CODE), ping(), PongOrEnd],
        ),
        (
            "RST_STREAM with an unknown code",
            &[post(1), reset(1, UNKNOWN_CODE), ping(), Pong],
        ),
    ]);
}
