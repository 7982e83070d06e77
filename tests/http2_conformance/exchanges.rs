//! What a proper client may send is taken: every kind of frame, in every state that allows it.

use super::Step::{Acknowledged, Answer, Data, Pong, PongOrEnd};
use super::*;

const INITIAL_WINDOW_SIZE: u16 = 4;
/// The first bit of a dependency: nobody else depends on that stream.
const EXCLUSIVE: u32 = 1 << 31;

#[test]
fn frames_are_taken_in_every_state_that_allows_them() {
    hold(&[
        (
            "PRIORITY on an idle stream",
            &[priority(1, 0, 255), ping(), Pong],
        ),
        (
            "WINDOW_UPDATE on a half-closed (remote) stream",
            &[
                settings(&[(INITIAL_WINDOW_SIZE, 0)]),
                Acknowledged,
                get(1),
                window_update(1, 1),
                Data(1),
            ],
        ),
        (
            "PRIORITY on a half-closed (remote) stream",
            &[
                settings(&[(INITIAL_WINDOW_SIZE, 0)]),
                Acknowledged,
                get(1),
                priority(1, 0, 255),
                window_update(1, 1),
                Data(1),
            ],
        ),
        (
            "RST_STREAM on a half-closed (remote) stream",
            &[get(1), reset(1, CANCEL), ping(), Pong],
        ),
        (
            "PRIORITY on a closed stream",
            &[get(1), Answer(ANSWER), priority(1, 0, 255), ping(), Pong],
        ),
    ]);
}

#[test]
fn every_kind_of_frame_is_understood() {
    let whole = block("GET", &[]);
    let padded = [&[8][..], &whole, &[0; 8]].concat();
    let prioritised = [&priority_of(0, 255)[..], &whole].concat();
    let both = [&[8][..], &priority_of(0, 255), &whole, &[0; 8]].concat();
    let last = END_STREAM | END_HEADERS;
    hold(&[
        (
            "DATA",
            &[post(1), data(END_STREAM, 1, b"test"), Answer("test")],
        ),
        (
            "several DATA",
            &[
                post(1),
                data(0, 1, b"test"),
                data(END_STREAM, 1, b"test"),
                Answer("testtest"),
            ],
        ),
        (
            "DATA with padding",
            &[
                post(1),
                data(END_STREAM | PADDED, 1, b"\x05test\0\0\0\0\0"),
                Answer("test"),
            ],
        ),
        (
            "DATA without a byte",
            &[
                post(1),
                data(0, 1, b"test"),
                data(END_STREAM, 1, b""),
                Answer("test"),
            ],
        ),
        ("HEADERS", &[get(1), Answer(ANSWER)]),
        (
            "HEADERS with padding",
            &[headers(last | PADDED, 1, &padded), Answer(ANSWER)],
        ),
        (
            "HEADERS with priority",
            &[headers(last | PRIORITISED, 1, &prioritised), Answer(ANSWER)],
        ),
        (
            "HEADERS with padding and priority",
            &[
                headers(last | PADDED | PRIORITISED, 1, &both),
                Answer(ANSWER),
            ],
        ),
        (
            "PRIORITY with weight 1",
            &[priority(1, 0, 0), get(1), Answer(ANSWER)],
        ),
        (
            "PRIORITY with weight 256",
            &[priority(1, 0, 255), get(1), Answer(ANSWER)],
        ),
        (
            "PRIORITY with a dependency",
            &[priority(3, 1, 0), get(1), Answer(ANSWER)],
        ),
        (
            "PRIORITY that is exclusive",
            &[priority(1, EXCLUSIVE, 0), get(1), Answer(ANSWER)],
        ),
        (
            "PRIORITY on an idle stream, then HEADERS on a lower one",
            &[priority(3, 0, 255), get(1), Answer(ANSWER)],
        ),
        ("RST_STREAM", &[post(1), reset(1, CANCEL), ping(), Pong]),
        (
            "SETTINGS with everything in it",
            &[
                settings(&[
                    (1, 4096),
                    (2, 1),
                    (3, 100),
                    (4, 65535),
                    (5, 16384),
                    (6, 100),
                ]),
                Acknowledged,
            ],
        ),
        ("PING", &[ping(), Pong]),
        ("GOAWAY", &[go_away(0, NO_ERROR), ping(), PongOrEnd]),
        (
            "GOAWAY while a request is under way",
            &[get(1), go_away(0, NO_ERROR), Answer(ANSWER)],
        ),
        (
            "WINDOW_UPDATE of the connection",
            &[window_update(0, 1), ping(), Pong],
        ),
        (
            "WINDOW_UPDATE of a stream",
            &[get(1), window_update(1, 1), Answer(ANSWER)],
        ),
        (
            "CONTINUATION",
            &[
                headers(END_STREAM, 1, &whole[..5]),
                continuation(END_HEADERS, 1, &whole[5..]),
                Answer(ANSWER),
            ],
        ),
        (
            "several CONTINUATION",
            &[
                headers(END_STREAM, 1, &whole[..5]),
                continuation(0, 1, &whole[5..10]),
                continuation(END_HEADERS, 1, &whole[10..]),
                Answer(ANSWER),
            ],
        ),
    ]);
}

#[test]
fn requests_of_every_shape_are_answered() {
    let last = END_STREAM | END_HEADERS;
    let announced = block("POST", &[("trailer", "x-test")]);
    hold(&[
        ("GET", &[get(1), Answer(ANSWER)]),
        ("HEAD", &[headers(last, 1, &block("HEAD", &[])), Answer("")]),
        (
            "POST",
            &[post(1), data(END_STREAM, 1, b"test"), Answer("test")],
        ),
        (
            "POST with trailers",
            &[
                headers(END_HEADERS, 1, &announced),
                data(0, 1, b"test"),
                headers(last, 1, &header_block(&[("x-test", "ok")])),
                Answer("test"),
            ],
        ),
    ]);
}
