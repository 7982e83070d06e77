//! RFC 9113 §8: a request that is malformed ends as a stream error, and reaches no endpoint.

use super::Step::{ConnectionError, StreamError};
use super::*;

const MALFORMED: Step = StreamError(1, PROTOCOL);

/// A request with `more` after what every request has.
fn with(more: &[(&str, &str)]) -> Step {
    headers(END_STREAM | END_HEADERS, 1, &block("GET", more))
}

/// A request without one of its pseudo-header fields.
fn without(name: &str) -> Step {
    let mut kept = pseudo("GET").to_vec();
    kept.retain(|(other, _)| *other != name);
    fields(&kept)
}

/// A request with one of its pseudo-header fields twice.
fn twice(name: &str) -> Step {
    let mut all = pseudo("GET").to_vec();
    all.extend(pseudo("GET").iter().filter(|(other, _)| *other == name));
    fields(&all)
}

#[test]
fn section_8_1_exchange() {
    let trailers = header_block(&[("x-test", "ok")]);
    hold(&[(
        "a second HEADERS that does not end the stream",
        &[
            post(1),
            data(0, 1, b"test"),
            headers(END_HEADERS, 1, &trailers),
            MALFORMED,
        ],
    )]);
}

/// RFC 7540 §8.1.2.
#[test]
fn section_8_2_fields() {
    hold(&[
        (
            "a name in upper case",
            &[with(&[("X-TEST", "ok")]), MALFORMED],
        ),
        ("a name that is empty", &[with(&[("", "ok")]), MALFORMED]),
        (
            "a line break in a value",
            &[with(&[("x-test", "a\r\nb: c")]), MALFORMED],
        ),
    ]);
}

/// RFC 7540 §8.1.2.2.
#[test]
fn section_8_2_2_connection_specific_fields() {
    hold(&[
        (
            "connection",
            &[with(&[("connection", "keep-alive")]), MALFORMED],
        ),
        (
            "transfer-encoding",
            &[with(&[("transfer-encoding", "chunked")]), MALFORMED],
        ),
        (
            "te with anything but trailers",
            &[with(&[("te", "trailers, deflate")]), MALFORMED],
        ),
    ]);
}

/// RFC 7540 §8.1.2.1.
#[test]
fn section_8_3_pseudo_header_fields() {
    let late = [&[("x-test", "ok")][..], &pseudo("GET")].concat();
    let trailers = header_block(&[(":method", "POST")]);
    hold(&[
        (
            "one that nobody has defined",
            &[with(&[(":test", "ok")]), MALFORMED],
        ),
        (
            "one of responses",
            &[with(&[(":status", "200")]), MALFORMED],
        ),
        (
            "one in trailers",
            &[
                post(1),
                data(0, 1, b"test"),
                headers(END_HEADERS, 1, &trailers),
                MALFORMED,
            ],
        ),
        ("after a field that is none", &[fields(&late), MALFORMED]),
    ]);
}

/// RFC 7540 §8.1.2.3.
#[test]
fn section_8_3_1_request_pseudo_header_fields() {
    let mut empty = pseudo("GET");
    empty[2].1 = "";
    hold(&[
        (":path is empty", &[fields(&empty), MALFORMED]),
        ("no :method", &[without(":method"), MALFORMED]),
        ("no :scheme", &[without(":scheme"), MALFORMED]),
        ("no :path", &[without(":path"), MALFORMED]),
        ("two :method", &[twice(":method"), MALFORMED]),
        ("two :scheme", &[twice(":scheme"), MALFORMED]),
        ("two :path", &[twice(":path"), MALFORMED]),
        ("two :authority", &[twice(":authority"), MALFORMED]),
    ]);
}

/// RFC 7540 §8.1.2.6.
#[test]
fn section_8_1_1_malformed_messages() {
    let counted = |length| {
        let fields = block("POST", &[("content-length", length)]);
        headers(END_HEADERS, 1, &fields)
    };
    hold(&[
        (
            "more data than content-length says",
            &[counted("1"), data(END_STREAM, 1, b"test"), MALFORMED],
        ),
        (
            "more data than content-length says, in several frames",
            &[
                counted("1"),
                data(0, 1, b"test"),
                data(END_STREAM, 1, b"test"),
                MALFORMED,
            ],
        ),
        (
            "less data than content-length says",
            &[counted("5"), data(END_STREAM, 1, b"test"), MALFORMED],
        ),
    ]);
}

/// RFC 7540 §8.2.
#[test]
fn section_8_4_server_push() {
    let promise = [&3_u32.to_be_bytes()[..], &block("GET", &[])].concat();
    hold(&[(
        "PUSH_PROMISE from a client",
        &[
            frame(PUSH_PROMISE, END_HEADERS, 1, &promise),
            ConnectionError(PROTOCOL),
        ],
    )]);
}
