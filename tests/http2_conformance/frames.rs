//! What a client may say, frame by frame, proper or not.

use super::Step;
use crate::support::client::HOST;
use crate::support::h2::{Frame, Frames, header_block};

pub(super) const PING: &[u8; 8] = b"balancer";

// Kinds and flags of frames that the other tests do without.
pub(super) const PRIORITY: u8 = 2;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = Frames::END_STREAM;
pub(super) const END_HEADERS: u8 = Frames::END_HEADERS;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITISED: u8 = 0x20;

pub(super) fn bytes(step: Step) -> Vec<u8> {
    match step {
        Step::Send(bytes) => bytes,
        _ => unreachable!("made by the functions below"),
    }
}

/// Any frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Step {
    Step::Send(Frame::bytes((kind, flags, stream), payload))
}

/// A whole request without a body.
pub(super) fn get(stream: u32) -> Step {
    headers(END_STREAM | END_HEADERS, stream, &block("GET", &[]))
}

/// A request whose body follows.
pub(super) fn post(stream: u32) -> Step {
    headers(END_HEADERS, stream, &block("POST", &[]))
}

pub(super) fn headers(flags: u8, stream: u32, block: &[u8]) -> Step {
    frame(Frames::HEADERS, flags, stream, block)
}

/// A whole request that stream 1 opens with, its fields exactly as given.
pub(super) fn fields(fields: &[(&str, &str)]) -> Step {
    headers(END_STREAM | END_HEADERS, 1, &header_block(fields))
}

pub(super) fn continuation(flags: u8, stream: u32, block: &[u8]) -> Step {
    frame(CONTINUATION, flags, stream, block)
}

pub(super) fn data(flags: u8, stream: u32, payload: &[u8]) -> Step {
    frame(Frames::DATA, flags, stream, payload)
}

/// PRIORITY; `weight` is as on the wire, one less than is meant.
pub(super) fn priority(stream: u32, dependency: u32, weight: u8) -> Step {
    frame(PRIORITY, 0, stream, &priority_of(dependency, weight))
}

pub(super) fn priority_of(dependency: u32, weight: u8) -> Vec<u8> {
    [&dependency.to_be_bytes()[..], &[weight]].concat()
}

pub(super) fn reset(stream: u32, code: u32) -> Step {
    frame(Frames::RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Step {
    let one = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload: Vec<u8> = settings.iter().flat_map(one).collect();
    frame(Frames::SETTINGS, 0, 0, &payload)
}

pub(super) fn ping() -> Step {
    frame(Frames::PING, 0, 0, PING)
}

pub(super) fn go_away(stream: u32, code: u32) -> Step {
    let payload = [0_u32.to_be_bytes(), code.to_be_bytes()].concat();
    frame(Frames::GOAWAY, 0, stream, &payload)
}

pub(super) fn window_update(stream: u32, increment: u32) -> Step {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// The header block of a proper request, `more` at its end.
pub(super) fn block(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = pseudo(method).to_vec();
    fields.extend(more);
    header_block(&fields)
}

pub(super) fn pseudo(method: &str) -> [(&str, &str); 4] {
    [
        (":method", method),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", HOST),
    ]
}
