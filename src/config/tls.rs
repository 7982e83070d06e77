//! `listener.tls`: certificates, versions, and what is asked of clients.

use std::path::{Path, PathBuf};

use http::HeaderName;

use super::Place;

/// `listener.tls`
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// `certificates`: chosen by server name; the first is the default. At least one.
    pub certificates: Vec<Certificate>,
    /// `min_version`. Default 1.2; 1.3 where `policy` is `"modern"`.
    pub min_version: TlsVersion,
    /// `client_auth`, with `client_ca`. Default off.
    pub client_auth: ClientAuth,
}

impl ListenerTls {
    /// Every file it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self
            .certificates
            .iter()
            .flat_map(|certificate| [&certificate.chain, &certificate.key]);
        let of_clients = self
            .client_auth
            .clients()
            .into_iter()
            .flat_map(|clients| [Some(&clients.ca), clients.crl.as_ref().map(|crl| &crl.path)])
            .flatten();
        own.chain(of_clients).map(PathBuf::as_path)
    }
}

/// One of `listener.tls.certificates`.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// `chain`: PEM, the server's certificate first.
    pub chain: PathBuf,
    /// `key`: PEM.
    pub key: PathBuf,
    /// Where the entry stands.
    pub place: Place,
}

/// `listener.tls.min_version`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsVersion {
    /// `"1.2"`
    Tls12,
    /// `"1.3"`
    Tls13,
}

/// `listener.tls.client_auth`: whether clients show a certificate signed by `client_ca`.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// `"off"`
    Off,
    /// `"optional"`: verified when shown.
    Optional(Clients),
    /// `"required"`: no handshake without one.
    Required(Clients),
}

impl ClientAuth {
    /// What is asked of certificates, where any are.
    pub fn clients(&self) -> Option<&Clients> {
        match self {
            Self::Off => None,
            Self::Optional(clients) | Self::Required(clients) => Some(clients),
        }
    }
}

/// How clients' certificates are verified, and who is told.
#[derive(Clone, Debug)]
pub struct Clients {
    /// `client_ca`: PEM.
    pub ca: PathBuf,
    /// Where `client_ca` stands.
    pub place: Place,
    /// `client_crl`. Default: nothing is known of revocation.
    pub crl: Option<ClientCrl>,
    /// `forward_identity`. Default: endpoints are told nothing.
    pub forward_identity: ForwardIdentity,
}

/// `listener.tls.client_crl`
#[derive(Clone, Debug)]
pub struct ClientCrl {
    /// Revocation lists of the authorities: PEM.
    pub path: PathBuf,
    /// Where `client_crl` stands.
    pub place: Place,
}

/// `listener.tls.forward_identity`: the fields in which endpoints are told who a client is. Each is off by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ForwardIdentity {
    /// `certificate`: the certificate itself (RFC 9440 §2.2).
    pub certificate: Option<HeaderName>,
    /// `subject`: its subject (RFC 4514).
    pub subject: Option<HeaderName>,
    /// `san`: its subject alternative names.
    pub san: Option<HeaderName>,
    /// `fingerprint`: its SHA-256 in hexadecimal.
    pub fingerprint: Option<HeaderName>,
}

impl ForwardIdentity {
    /// The names of all fields that are on.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        [
            &self.certificate,
            &self.subject,
            &self.san,
            &self.fingerprint,
        ]
        .into_iter()
        .flatten()
    }
}
