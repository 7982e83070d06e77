//! Chooses a certificate by the server name a client asks for. Does no I/O: a handshake waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::Loaded;

/// The certificates of one listener, by name.
#[derive(Debug)]
pub(super) struct Resolver {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// Without the first label: `*.example.com` stands under `example.com`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// In file order; the first is the default.
    all: Vec<Arc<CertifiedKey>>,
}

impl Resolver {
    pub(super) fn new(certificates: &[Loaded]) -> Self {
        let mut resolver = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            all: Vec::new(),
        };
        for certificate in certificates {
            resolver.all.push(certificate.key.clone());
            for name in &certificate.dns_names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut resolver.wildcard, parent),
                    None => (&mut resolver.exact, name.as_str()),
                };
                names
                    .entry(name.to_owned())
                    .or_default()
                    .push(certificate.key.clone());
            }
        }
        resolver
    }

    /// Whether a client that asked for `asked` was shown a certificate that stands for `host` as well: one that both lead
    /// to. A name that no certificate has leads to the first. Both are in lower case.
    pub(super) fn share_a_certificate(&self, asked: &str, host: &str) -> bool {
        let (asked, host) = (self.standing_for(asked), self.standing_for(host));
        asked
            .iter()
            .any(|one| host.iter().any(|other| Arc::ptr_eq(one, other)))
    }

    fn standing_for(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let candidates = self.candidates(Some(name));
        if std::ptr::eq(candidates, self.all.as_slice()) {
            &self.all[..self.all.len().min(1)]
        } else {
            candidates
        }
    }

    /// Whether any two names can lead to different certificates.
    pub(super) fn distinguishes(&self) -> bool {
        self.all.len() > 1
    }

    /// Certificates for a lower-case name, best first: exact, else wildcard (RFC 6125 §6.4.3: for one label), else all.
    fn candidates(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name.map(|name| name.strip_suffix('.').unwrap_or(name)) else {
            return &self.all;
        };
        let wildcard = || {
            name.split_once('.')
                .and_then(|(_, parent)| self.wildcard.get(parent))
        };
        self.exact.get(name).or_else(wildcard).unwrap_or(&self.all)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(client.server_name());
        let supported =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(client.signature_schemes()).is_some();
        candidates
            .iter()
            .find(supported)
            .or_else(|| candidates.first())
            .cloned()
    }
}
