//! Chooses cipher suites by what a client's device is quick at.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ClientHello;
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};

/// A listener's TLS settings, in the forms its clients need. Both offer the same suites.
#[derive(Clone, Debug)]
pub struct ByDevice {
    aes: Arc<ServerConfig>,
    chacha20: Arc<ServerConfig>,
}

/// In the order preferred. AES-128 before AES-256: it is quicker, and so are the handshakes of its suites, as SHA-256 is next
/// to SHA-384 (three in ten of the CPU time of one that resumes a session). OpenSSL's clients name AES-256 first whether they
/// need it or not; BoringSSL and Go choose as is done here.
const SUITES: &[SupportedCipherSuite] = {
    use aws_lc_rs::cipher_suite::*;
    &[
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ]
};

/// aws-lc-rs with the suites in the order preferred.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

/// SHA-256 of `content`.
pub(super) fn sha256(content: &[u8]) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite
        .tls13()
        .expect("it is a suite of TLS 1.3")
        .common
        .hash_provider;
    hash.hash(content)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

impl ByDevice {
    /// `config` was made with [`provider`].
    pub(super) fn new(mut config: ServerConfig) -> Self {
        config.ignore_client_order = false;
        let chacha20 = Arc::new(config.clone());
        config.ignore_client_order = true;
        Self {
            aes: Arc::new(config),
            chacha20,
        }
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> [&ServerConfig; 2] {
        [&self.aes, &self.chacha20]
    }

    /// The settings for the client that said `hello`. One that names ChaCha20 before AES has no instructions for AES, and gets
    /// what it names first; to others the order of the server applies.
    pub fn for_client(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        // Some clients name what nobody knows, to keep servers tolerant (RFC 8701).
        let first = hello
            .cipher_suites()
            .iter()
            .find(|offered| SUITES.iter().any(|suite| suite.suite() == **offered));
        match first {
            Some(
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ) => &self.chacha20,
            _ => &self.aes,
        }
    }
}
