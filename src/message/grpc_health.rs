//! The two messages of gRPC's health protocol (`grpc.health.v1`), written and read by hand: a field each. Total: whatever bytes
//! come are an answer or are none.

use bytes::{BufMut, Bytes, BytesMut};

/// `grpc.health.v1.Health/Check`
pub const PATH: &str = "/grpc.health.v1.Health/Check";

/// `HealthCheckResponse.ServingStatus`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serving {
    /// `UNKNOWN`, or a number that nobody knows.
    Unknown,
    /// `SERVING`
    Serving,
    /// `NOT_SERVING`
    NotServing,
    /// `SERVICE_UNKNOWN`
    ServiceUnknown,
}

impl Serving {
    /// The protocol's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// A `HealthCheckRequest` about `service`, framed as gRPC wants it.
pub fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    // proto3: a field with its default value is left out.
    if !service.is_empty() {
        message.put_u8(SERVICE);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(UNCOMPRESSED);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// What a framed `HealthCheckResponse` says. `None`: it is none.
pub fn response(body: &[u8]) -> Option<Serving> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let (compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *compressed != UNCOMPRESSED || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            VARINT => {
                let value = varint(&mut rest)?;
                if key == STATUS {
                    // The last one counts.
                    status = value;
                }
            }
            FIXED64 => skip(&mut rest, 8)?,
            DELIMITED => {
                let length = varint(&mut rest)?;
                skip(&mut rest, length)?;
            }
            FIXED32 => skip(&mut rest, 4)?,
            // Groups are of proto2, and 6 and 7 of nobody.
            _ => return None,
        }
    }
    Some(match status {
        1 => Serving::Serving,
        2 => Serving::NotServing,
        3 => Serving::ServiceUnknown,
        _ => Serving::Unknown,
    })
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn skip(rest: &mut &[u8], length: u64) -> Option<()> {
    let (_, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(())
}

/// gRPC's `PROTOCOL-HTTP2.md`: a flag for compression and four bytes of length before each message.
const PREFIX: usize = 5;
const UNCOMPRESSED: u8 = 0;
/// Field 1, a string.
const SERVICE: u8 = 1 << 3 | DELIMITED as u8;
/// Field 1, an enum.
const STATUS: u64 = 1 << 3;
// Wire types of protobuf's encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_are_framed_as_a_server_reads_them() {
        assert_eq!(&*request(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*request("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "x".repeat(300);
        assert_eq!(request(&long)[..8], [0, 0, 0, 0x01, 0x2f, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn answers_are_told_apart() {
        let framed = |message: &[u8]| {
            let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            body.extend(message);
            body
        };
        for (message, expected) in [
            (&[][..], Some(Serving::Unknown)),
            (&[8, 0], Some(Serving::Unknown)),
            (&[8, 1], Some(Serving::Serving)),
            (&[8, 2], Some(Serving::NotServing)),
            (&[8, 3], Some(Serving::ServiceUnknown)),
            (&[8, 99], Some(Serving::Unknown)),
            (&[8, 2, 8, 1], Some(Serving::Serving)),
            // Fields of a later version are passed over.
            (
                &[0x12, 2, b'x', b'y', 0x1d, 1, 2, 3, 4, 8, 1],
                Some(Serving::Serving),
            ),
            (&[8], None),
            (&[8, 0x80], None),
            (&[0x12, 9, 1], None),
            (&[0x0b], None),
        ] {
            assert_eq!(response(&framed(message)), expected, "{message:?}");
        }
        assert_eq!(response(b""), None);
        assert_eq!(response(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed");
        assert_eq!(response(&[0, 0, 0, 0, 3, 8, 1]), None, "cut");
        assert_eq!(response(&[0, 0, 0, 0, 1, 8, 1]), None, "more than one");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_answer_or_none(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = response(&body);
        }

        #[test]
        fn every_status_is_read_as_it_is_written(status in any::<u64>()) {
            let mut message = BytesMut::new();
            message.put_u8(8);
            put_varint(&mut message, status);
            let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            body.extend(&message);
            let expected = match status {
                1 => Serving::Serving,
                2 => Serving::NotServing,
                3 => Serving::ServiceUnknown,
                _ => Serving::Unknown,
            };
            prop_assert_eq!(response(&body), Some(expected));
        }
    }
}
