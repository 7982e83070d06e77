//! Writes Protocol Buffers: fields of messages, one after the other. Knows no message.
//!
//! By hand, as the few messages of OTLP that are sent are written straight into the bytes that go out: the crate with their types
//! makes an owned string of every key and value, and brings a whole SDK.

/// Appends to a message. A field with its default value may be left out (proto3); that is the caller's choice.
pub trait Write {
    /// A number as a varint: `uint64`, `bool`, an enumeration.
    fn number(&mut self, field: u32, value: u64);
    /// `fixed64`
    fn fixed64(&mut self, field: u32, value: u64);
    /// `fixed32`
    fn fixed32(&mut self, field: u32, value: u32);
    /// `bytes`, a `string`, or a message that is written already.
    fn bytes(&mut self, field: u32, value: &[u8]);
    /// A message that `write` writes.
    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self));
}

impl Write for Vec<u8> {
    fn number(&mut self, field: u32, value: u64) {
        varint(self, u64::from(field << 3 | VARINT));
        varint(self, value);
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        varint(self, u64::from(field << 3 | FIXED64));
        self.extend(value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, value: u32) {
        varint(self, u64::from(field << 3 | FIXED32));
        self.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        varint(self, u64::from(field << 3 | LENGTH));
        varint(self, value.len() as u64);
        self.extend_from_slice(value);
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        varint(self, u64::from(field << 3 | LENGTH));
        // Nearly all are shorter than 128 bytes: one byte says how long they are.
        let at = self.len();
        self.push(0);
        write(self);
        let length = self.len() - at - 1;
        if let Ok(short @ 0..0x80) = u8::try_from(length) {
            self[at] = short;
            return;
        }
        let mut prefix = Self::with_capacity(MOST_OF_VARINT);
        varint(&mut prefix, length as u64);
        self.splice(at..=at, prefix);
    }
}

/// What stands in the field `field` of `message`, where it is a varint; the last one counts. Total: bytes that are no message
/// have no such field.
pub fn find_number(message: &[u8], field: u32) -> Option<u64> {
    let mut found = None;
    for_each(message, |number, value| {
        if let (Value::Number(value), true) = (value, number == u64::from(field)) {
            found = Some(value);
        }
    })?;
    found
}

/// The same where it is bytes, a string or a message.
pub fn find_bytes(message: &[u8], field: u32) -> Option<&[u8]> {
    let mut found = None;
    for_each(message, |number, value| {
        if let (Value::Bytes(value), true) = (value, number == u64::from(field)) {
            found = Some(value);
        }
    })?;
    found
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

fn for_each<'a>(message: &'a [u8], mut see: impl FnMut(u64, Value<'a>)) -> Option<()> {
    let mut rest = message;
    while !rest.is_empty() {
        let key = read_varint(&mut rest)?;
        let length = match (key & 7) as u32 {
            VARINT => {
                see(key >> 3, Value::Number(read_varint(&mut rest)?));
                continue;
            }
            FIXED64 => 8,
            FIXED32 => 4,
            LENGTH => usize::try_from(read_varint(&mut rest)?).ok()?,
            _ => return None,
        };
        let (bytes, after) = rest.split_at_checked(length)?;
        rest = after;
        let value = if (key & 7) as u32 == LENGTH {
            Value::Bytes(bytes)
        } else {
            Value::Other
        };
        see(key >> 3, value);
    }
    Some(())
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, byte) in rest.iter().enumerate().take(MOST_OF_VARINT) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;
const MOST_OF_VARINT: usize = 10; // 64 bits, seven at a time

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_found(number: u64, bytes in prop::collection::vec(any::<u8>(), 0..300), field in 1u32..500) {
            let mut message = Vec::new();
            message.fixed64(field, number);
            message.fixed32(field, 1);
            message.bytes(field, b"before");
            message.number(field, number);
            message.message(field, |inner| inner.bytes(3, &bytes));
            prop_assert_eq!(find_number(&message, field), Some(number));
            prop_assert_eq!(find_number(&message, field + 1), None);
            let inner = find_bytes(&message, field).unwrap();
            prop_assert_eq!(find_bytes(inner, 3), Some(&*bytes));
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), field: u32) {
            let _ = (find_number(&bytes, field), find_bytes(&bytes, field));
        }
    }
}
