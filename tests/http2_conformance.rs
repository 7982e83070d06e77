//! HTTP/2 as RFC 9113 and RFC 7541 demand it of a server: one test per section, each a table of dialogues, frame by frame.
//!
//! A dialogue says what is sent and what must come, in order, after both sides' SETTINGS. A stream error may as well come
//! as a connection error (RFC 9113 §5.4.1); the code must be one that is allowed. Sections are numbered as in RFC 9113,
//! with the number of RFC 7540 beside it where that is better known.

mod exchanges;
mod frame_definitions;
mod frame_format;
mod frames;
mod hpack;
mod messages;
mod settings;
mod stream_states;

use std::fmt;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frame, Frames, header_block};
use crate::support::{Balancer, Origin};

use frames::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What the origin answers where the request gave it nothing to say back.
const ANSWER: &str = "conformance";

// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;
const PROTOCOL: &[u32] = &[1];
// PROTOCOL_ERROR is "for use when a more specific error code is not available": the h2 crate often has none when it
// cannot read a frame, and ends the connection with that one.
const FLOW_CONTROL: &[u32] = &[3, 1];
const STREAM_CLOSED: &[u32] = &[5, 1];
const FRAME_SIZE: &[u32] = &[6, 1];
const COMPRESSION: &[u32] = &[9, 1];
const REFUSED: &[u32] = &[7, 1];

/// One line of a dialogue: what is sent, or what must come next.
enum Step {
    Send(Vec<u8>),
    /// Our SETTINGS are acknowledged.
    Acknowledged,
    /// Our PING comes back.
    Pong,
    /// Our PING comes back, or the connection ends without an error.
    PongOrEnd,
    /// Stream 1 carries so many bytes in its next DATA frame.
    Data(usize),
    /// Stream 1 is answered with 200 and this body, whole.
    Answer(&'static str),
    /// This stream is reset with one of these codes and the connection lives on, or the connection ends with that code.
    StreamError(u32, &'static [u32]),
    /// GOAWAY with one of these codes, then the connection's end.
    ConnectionError(&'static [u32]),
}

/// A balancer in front of one origin, for all the dialogues of a section.
struct Judge {
    tls: Tls,
    balancer: Balancer,
    _origin: Origin,
}

impl Judge {
    fn start() -> Self {
        // Says back the body, else the last field `custom-key`, else what everyone is told.
        let origin = Origin::with("a", |exchange| {
            let body = exchange.body();
            let text = String::from_utf8_lossy(&body.bytes).into_owned();
            let fields = exchange.head.all("custom-key");
            let field = fields.last().copied().unwrap_or(ANSWER);
            let answer = if text.is_empty() { field } else { &text }.to_owned();
            exchange.respond(200, &[], &answer)
        });
        let authority = Authority::new("test");
        let balancer = Balancer::start_with(
            &format!(
                "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}] }}\n\
                 [upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nupstream = \"app\"\n",
                origin.address()
            ),
            |directory| authority.issue(&[HOST]).write(directory, "server"),
        );
        Self {
            tls: Tls::new(&authority, HOST),
            balancer,
            _origin: origin,
        }
    }

    /// A connection that begins with `first`; nothing has been read from it.
    fn open_with(&self, first: &[u8]) -> Dialogue {
        let address = self.balancer.address("https");
        Dialogue(Frames::open_with(address, &self.tls, first))
    }

    /// A connection on which both sides have said and acknowledged their settings; those of the balancer.
    fn open(&self) -> (Dialogue, Vec<(u16, u32)>) {
        let mut dialogue = self.open_with(PREFACE);
        dialogue.0.write_bytes(&bytes(settings(&[])));
        let first = dialogue.0.read().expect("settings"); // and they are acknowledged
        assert_eq!((first.kind, first.flags), (Frames::SETTINGS, 0));
        dialogue.meet(&Step::Acknowledged).expect("ours are taken");
        (dialogue, read_settings(&first))
    }

    /// Holds every dialogue, each on a connection of its own, and tells all that went wrong.
    #[track_caller]
    fn hold(&self, dialogues: &[(&str, &[Step])]) {
        let failures: Vec<String> = dialogues
            .iter()
            .filter_map(|(name, steps)| {
                let failure = self.open().0.hold(steps).err()?;
                Some(format!("{name}: {failure}"))
            })
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

/// Holds the dialogues of one section.
#[track_caller]
fn hold(dialogues: &[(&str, &[Step])]) {
    Judge::start().hold(dialogues);
}

/// One connection.
struct Dialogue(Frames);

impl Dialogue {
    fn hold(&mut self, steps: &[Step]) -> Result<(), String> {
        let mut unsent = Vec::new();
        for step in steps {
            // What stands together goes out together: the balancer reads it all before it can answer any of it.
            if let Step::Send(bytes) = step {
                unsent.extend(bytes);
                continue;
            }
            self.0.write_bytes(&std::mem::take(&mut unsent));
            self.meet(step)?;
        }
        assert!(unsent.is_empty(), "a dialogue ends with what must come");
        Ok(())
    }

    /// Reads up to what must come.
    fn meet(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(_) => unreachable!("sent by whoever holds the dialogue"),
            Step::Answer(body) => match self.0.ending(1) {
                Ending::Reply(200, came) if came == body.as_bytes() => Ok(()),
                other => Err(format!("{other:?} instead of 200 {body:?}")),
            },
            Step::StreamError(stream, codes) => self.meet_stream_error(*stream, codes),
            Step::ConnectionError(codes) => self.meet_connection_error(codes),
            Step::Acknowledged => {
                self.until(|frame| (frame.kind, frame.flags) == (Frames::SETTINGS, ACK))
            }
            Step::Pong => self.until(is_pong),
            Step::PongOrEnd => match self.read_to(is_pong) {
                Came::Wanted | Came::End(None | Some(NO_ERROR)) => Ok(()),
                other => Err(format!("{other} instead of a pong or the end")),
            },
            Step::Data(length) => {
                let mut came = 0;
                let read = self.read_to(|frame| {
                    came = frame.payload.len();
                    frame.kind == Frames::DATA
                });
                match read {
                    Came::Wanted if came == *length => Ok(()),
                    Came::Wanted => Err(format!("{came} bytes of data instead of {length}")),
                    other => Err(format!("{other} instead of {length} bytes of data")),
                }
            }
        }
    }

    fn meet_stream_error(&mut self, stream: u32, codes: &[u32]) -> Result<(), String> {
        let mut code = None;
        let read = self.read_to(|frame| {
            let is_reset = frame.kind == Frames::RST_STREAM && frame.stream == stream;
            if is_reset {
                code = Some(number(&frame.payload));
            }
            is_reset
        });
        match (read, code) {
            (Came::End(Some(code)), _) if codes.contains(&code) => Ok(()),
            (Came::Wanted, Some(code)) if codes.contains(&code) => {
                self.0.write_bytes(&bytes(ping()));
                self.until(is_pong)
                    .map_err(|problem| format!("after the stream's error: {problem}"))
            }
            (Came::Wanted, code) => Err(format!("reset with {code:?}, not one of {codes:?}")),
            (other, _) => Err(format!("{other} instead of an error of {codes:?}")),
        }
    }

    fn meet_connection_error(&mut self, codes: &[u32]) -> Result<(), String> {
        match self.read_to(|_| false) {
            Came::End(Some(code)) if codes.contains(&code) => Ok(()),
            other => Err(format!("{other} instead of GOAWAY with one of {codes:?}")),
        }
    }

    fn until(&mut self, is_wanted: impl FnMut(&Frame) -> bool) -> Result<(), String> {
        match self.read_to(is_wanted) {
            Came::Wanted => Ok(()),
            other => Err(other.to_string()),
        }
    }

    /// Reads up to a frame that is wanted, or the connection's end.
    fn read_to(&mut self, mut is_wanted: impl FnMut(&Frame) -> bool) -> Came {
        let (mut code, mut passed_over) = (None, Vec::new());
        loop {
            let frame = match self.0.read() {
                Ok(frame) => frame,
                Err(error) if is_timeout(&error) => return Came::Nothing(passed_over),
                Err(_) => return Came::End(code),
            };
            if is_wanted(&frame) {
                return Came::Wanted;
            }
            if frame.kind == Frames::GOAWAY {
                code = Some(number(&frame.payload[4..]));
            }
            passed_over.push((frame.kind, frame.flags, frame.stream));
        }
    }
}

/// What reading came to.
enum Came {
    Wanted,
    /// The connection's end, after GOAWAY with this code.
    End(Option<u32>),
    /// Nothing within the deadline but these frames.
    Nothing(Vec<(u8, u8, u32)>),
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("what was wanted"),
            Self::End(None) => f.write_str("the end without GOAWAY"),
            Self::End(Some(code)) => write!(f, "GOAWAY with {code} and the end"),
            Self::Nothing(frames) => write!(f, "nothing but {frames:?}"),
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

fn is_pong(frame: &Frame) -> bool {
    (frame.kind, frame.flags) == (Frames::PING, ACK) && frame.payload == PING
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

fn read_settings(frame: &Frame) -> Vec<(u16, u32)> {
    let setting = |it: &[u8]| (u16::from_be_bytes([it[0], it[1]]), number(&it[2..]));
    frame.payload.chunks(6).map(setting).collect()
}
