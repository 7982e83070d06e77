//! CRC32C (Castagnoli), as RFC 4960 Appendix B defines it. A table will do: it is rare and short.

/// The checksum of some bytes, of which more may follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    /// Of no bytes.
    pub(super) fn new() -> Self {
        Self(!0)
    }

    /// With `bytes` after those so far.
    pub(super) fn over(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |crc, byte| {
            TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
        }))
    }

    /// The checksum.
    pub(super) fn value(self) -> u32 {
        !self.0
    }
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x82f6_3b78; // bits reversed
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(Crc32c::new().value(), 0);
        assert_eq!(Crc32c::new().over(b"123456789").value(), 0xe306_9283);
        // RFC 3720 Appendix B.4.
        assert_eq!(Crc32c::new().over(&[0; 32]).value(), 0x8a91_36aa);
        assert_eq!(Crc32c::new().over(&[0xff; 32]).value(), 0x62a8_ab43);
        let counted: Vec<u8> = (0..32).collect();
        assert_eq!(Crc32c::new().over(&counted).value(), 0x46dd_794e);
    }

    #[test]
    fn pieces_make_a_whole() {
        let whole = Crc32c::new().over(b"123456789").value();
        let pieces = Crc32c::new().over(b"1234").over(b"").over(b"56789");
        assert_eq!(pieces.value(), whole);
    }
}
