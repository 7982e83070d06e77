//! Hashes.

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::hash;

/// SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> hash::Output {
    // The suite's own hash: no further library for it.
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    let suite = suite.expect("a suite of TLS 1.3");
    suite.common.hash_provider.hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha_256() {
        let digits: String = sha256(b"abc")
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            digits,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ); // FIPS 180-4
    }
}
