//! RFC 9113 §5.1 and RFC 7540 §5.3.1: what a stream may be sent depends on what has gone over it before.

use super::Step::{Answer, ConnectionError, StreamError};
use super::*;

#[test]
fn section_5_1_idle_streams() {
    hold(&[
        (
            "DATA",
            &[data(END_STREAM, 1, b"test"), ConnectionError(STREAM_CLOSED)],
        ),
        ("RST_STREAM", &[reset(1, CANCEL), ConnectionError(PROTOCOL)]),
        (
            "WINDOW_UPDATE",
            &[window_update(1, 100), ConnectionError(PROTOCOL)],
        ),
        (
            "CONTINUATION",
            &[
                continuation(END_HEADERS, 1, &block("GET", &[])),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]);
}

#[test]
fn section_5_1_half_closed_streams() {
    hold(&[
        (
            "DATA",
            &[
                get(1),
                data(END_STREAM, 1, b"test"),
                StreamError(1, STREAM_CLOSED),
            ],
        ),
        ("HEADERS", &[get(1), get(1), StreamError(1, STREAM_CLOSED)]),
        (
            "CONTINUATION",
            &[
                get(1),
                continuation(END_HEADERS, 1, &block("GET", &[])),
                StreamError(1, STREAM_CLOSED),
            ],
        ),
    ]);
}

#[test]
fn section_5_1_closed_streams() {
    let more = header_block(&[("x-a", "a")]);
    hold(&[
        (
            "DATA after RST_STREAM",
            &[
                post(1),
                reset(1, CANCEL),
                data(END_STREAM, 1, b"test"),
                StreamError(1, STREAM_CLOSED),
            ],
        ),
        (
            "HEADERS after RST_STREAM",
            &[
                post(1),
                reset(1, CANCEL),
                get(1),
                StreamError(1, STREAM_CLOSED),
            ],
        ),
        (
            "CONTINUATION after RST_STREAM",
            &[
                post(1),
                reset(1, CANCEL),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(STREAM_CLOSED),
            ],
        ),
        (
            "DATA after the answer",
            &[
                get(1),
                Answer(ANSWER),
                data(END_STREAM, 1, b"test"),
                StreamError(1, STREAM_CLOSED),
            ],
        ),
        (
            "HEADERS after the answer",
            &[
                get(1),
                Answer(ANSWER),
                get(1),
                ConnectionError(STREAM_CLOSED),
            ],
        ),
        (
            "CONTINUATION after the answer",
            &[
                get(1),
                Answer(ANSWER),
                continuation(END_HEADERS, 1, &more),
                ConnectionError(STREAM_CLOSED),
            ],
        ),
    ]);
}

#[test]
fn section_5_1_1_stream_identifiers() {
    hold(&[
        ("an even number", &[get(2), ConnectionError(PROTOCOL)]),
        (
            "a number below one that was used",
            &[get(5), get(3), ConnectionError(PROTOCOL)],
        ),
    ]);
}

#[test]
fn section_5_1_2_concurrency() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut steps = vec![settings(&[(INITIAL_WINDOW_SIZE, 0)])]; // so that none of them ends
    steps.extend((0..=100).map(|stream| get(2 * stream + 1)));
    steps.push(StreamError(201, REFUSED));
    hold(&[("one stream more than is allowed", &steps)]);
}

#[test]
fn section_5_3_1_dependencies() {
    let on_itself = [&priority_of(1, 255)[..], &block("GET", &[])].concat();
    let flags = END_STREAM | END_HEADERS | PRIORITISED;
    hold(&[
        (
            "HEADERS of a stream that depends on itself",
            &[headers(flags, 1, &on_itself), StreamError(1, PROTOCOL)],
        ),
        (
            "PRIORITY of a stream that depends on itself",
            &[priority(1, 1, 255), StreamError(1, PROTOCOL)],
        ),
    ]);
}
