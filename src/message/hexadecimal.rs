//! Bytes as hexadecimal digits, and back.

/// `bytes` as text, in lower case.
pub fn digits(bytes: &[u8]) -> String {
    let pairs = bytes.iter().flat_map(|byte| pair(*byte));
    pairs.map(char::from).collect()
}

/// The same into `digits`, which is twice as long.
pub fn write(bytes: &[u8], digits: &mut [u8]) {
    for (digits, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(&pair(*byte));
    }
}

/// The byte that two digits of either case stand for.
pub fn byte(high: u8, low: u8) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(high)? << 4 | value(low)?).ok()
}

fn pair(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_as_it_is_written() {
        for value in 0..=255_u8 {
            let text = digits(&[value]);
            assert_eq!(text, format!("{value:02x}"));
            let mut written = [0; 2];
            write(&[value], &mut written);
            assert_eq!(written, text.as_bytes());
            for [high, low] in [written, written.map(|digit| digit.to_ascii_uppercase())] {
                assert_eq!(byte(high, low), Some(value));
            }
        }
        for (high, low) in [(b'g', b'0'), (b'0', b'+'), (b' ', b'1'), (0xff, b'0')] {
            assert_eq!(byte(high, low), None);
        }
    }
}
