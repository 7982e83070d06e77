//! RFC 9113 §6.5 and §6.9: what the sides tell each other about the connection, and how much may be sent over it.

use super::Step::{Acknowledged, Answer, ConnectionError, Data, Pong, StreamError};
use super::*;

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

#[test]
fn section_6_5_settings() {
    hold(&[
        (
            "an acknowledgement with a payload",
            &[
                frame(Frames::SETTINGS, ACK, 0, &[0]),
                ConnectionError(FRAME_SIZE),
            ],
        ),
        (
            "settings of a stream",
            &[
                frame(Frames::SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100]),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "half a setting",
            &[
                frame(Frames::SETTINGS, 0, 0, &[0, 3, 0]),
                ConnectionError(FRAME_SIZE),
            ],
        ),
    ]);
}

#[test]
fn section_6_5_2_defined_settings() {
    let wrong = |name, value| settings(&[(name, value)]);
    hold(&[
        (
            "ENABLE_PUSH is neither 0 nor 1",
            &[wrong(ENABLE_PUSH, 2), ConnectionError(PROTOCOL)],
        ),
        (
            "INITIAL_WINDOW_SIZE above the largest window",
            &[
                wrong(INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1),
                ConnectionError(FLOW_CONTROL),
            ],
        ),
        (
            "MAX_FRAME_SIZE below its first value",
            &[
                wrong(MAX_FRAME_SIZE, (1 << 14) - 1),
                ConnectionError(PROTOCOL),
            ],
        ),
        (
            "MAX_FRAME_SIZE above the largest frame",
            &[wrong(MAX_FRAME_SIZE, 1 << 24), ConnectionError(PROTOCOL)],
        ),
        (
            "a setting nobody has defined",
            &[settings(&[(0xff, 1)]), ping(), Pong],
        ),
    ]);
}

#[test]
fn section_6_5_3_synchronization() {
    hold(&[
        (
            "the last value of several counts",
            &[
                settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]),
                Acknowledged,
                get(1),
                Data(1),
            ],
        ),
        (
            "settings are acknowledged",
            &[settings(&[(ENABLE_PUSH, 0)]), Acknowledged],
        ),
    ]);
}

#[test]
fn section_6_9_window_update() {
    hold(&[
        (
            "an increment of 0 on the connection",
            &[window_update(0, 0), ConnectionError(PROTOCOL)],
        ),
        (
            "an increment of 0 on a stream",
            &[post(1), window_update(1, 0), StreamError(1, PROTOCOL)],
        ),
        (
            "a length other than 4",
            &[
                frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
                ConnectionError(FRAME_SIZE),
            ],
        ),
    ]);
}

#[test]
fn section_6_9_1_flow_control_window() {
    hold(&[
        (
            "no more is sent than the window allows",
            &[
                settings(&[(INITIAL_WINDOW_SIZE, 1)]),
                Acknowledged,
                get(1),
                Data(1),
            ],
        ),
        (
            "a window of the connection above the largest",
            &[
                window_update(0, LARGEST_WINDOW),
                window_update(0, LARGEST_WINDOW),
                ConnectionError(FLOW_CONTROL),
            ],
        ),
        (
            "a window of a stream above the largest",
            &[
                post(1),
                window_update(1, LARGEST_WINDOW),
                window_update(1, LARGEST_WINDOW),
                StreamError(1, FLOW_CONTROL),
            ],
        ),
    ]);
}

#[test]
fn section_6_9_2_initial_window_size() {
    let size = |size| settings(&[(INITIAL_WINDOW_SIZE, size)]);
    hold(&[
        (
            "it changes the window of a stream that is there",
            &[size(0), Acknowledged, get(1), size(1), Data(1)],
        ),
        (
            "a window may become negative",
            &[
                size(3),
                Acknowledged,
                get(1),
                Data(3),
                size(2), // now it is -1
                Acknowledged,
                window_update(1, 2),
                Data(1),
            ],
        ),
        (
            "all of an answer comes, window by window",
            &[
                size(0),
                Acknowledged,
                get(1),
                window_update(1, 5),
                Data(5),
                window_update(1, 6),
                Data(6),
            ],
        ),
        (
            "a size above the largest window",
            &[size(LARGEST_WINDOW + 1), ConnectionError(FLOW_CONTROL)],
        ),
        (
            "a change that lifts a stream's window above the largest",
            &[
                post(1),
                window_update(1, LARGEST_WINDOW - 65535),
                size(65536),
                ConnectionError(FLOW_CONTROL),
            ],
        ),
        (
            "the largest there is",
            &[size(LARGEST_WINDOW), Acknowledged, get(1), Answer(ANSWER)],
        ),
    ]);
}
