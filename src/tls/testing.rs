//! Certificates, a client and a handshake in memory, for the tests of this folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::Acceptor;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::suites::ByDevice;
use crate::config::{Certificate, Place};

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A temporary folder for chains and keys.
pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn entry(&self, chain: &str, key: &str) -> Certificate {
        Certificate {
            chain: self.path().join(format!("{chain}.pem")),
            key: self.path().join(format!("{key}.key")),
            place: place("listener.https.tls.certificates[0]"),
        }
    }
}

pub(super) fn place(key: &str) -> Place {
    Place {
        file: Path::new("balancer.toml").into(),
        line: 3,
        column: 5,
        key: key.into(),
    }
}

/// Signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// Writes `STEM.pem` and `STEM.key`, ECDSA P-256.
    pub(super) fn certificate(&self, folder: &Folder, stem: &str, names: &[&str]) -> Certificate {
        self.write(folder, stem, params(names), &KeyPair::generate().unwrap())
    }

    pub(super) fn rsa_certificate(
        &self,
        folder: &Folder,
        stem: &str,
        names: &[&str],
    ) -> Certificate {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        self.write(folder, stem, params(names), &key)
    }

    pub(super) fn certificate_valid(
        &self,
        folder: &Folder,
        stem: &str,
        names: &[&str],
        seconds: (i64, i64),
    ) -> Certificate {
        let mut params = params(names);
        params.not_before = moment(seconds.0);
        params.not_after = moment(seconds.1);
        self.write(folder, stem, params, &KeyPair::generate().unwrap())
    }

    fn write(
        &self,
        folder: &Folder,
        stem: &str,
        params: CertificateParams,
        key: &KeyPair,
    ) -> Certificate {
        let certificate = params.signed_by(key, &self.0).unwrap();
        let entry = folder.entry(stem, stem);
        fs::write(&entry.chain, certificate.pem()).unwrap();
        fs::write(&entry.key, key.serialize_pem()).unwrap();
        entry
    }

    /// A client certificate and its key.
    pub(super) fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        self.identity_until(4_000_000_000)
    }

    /// The same, ending at `seconds`.
    pub(super) fn identity_until(
        &self,
        seconds: i64,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&["client.example"]);
        params.not_after = moment(seconds);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// A revocation list in PEM, made one day before it ends.
    pub(super) fn revocation_list(&self, revoked: &[&CertificateDer<'_>], end: i64) -> String {
        let begin = moment(end - 24 * 60 * 60);
        let revoked_certs = revoked.iter().map(|certificate| {
            let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(certificate.raw_serial()),
                revocation_time: begin,
                reason_code: None,
                invalidity_date: None,
            }
        });
        let list = CertificateRevocationListParams {
            this_update: begin,
            next_update: moment(end),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

/// Settings of a client that trusts `authority`.
pub(super) fn client(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    client_of(provider(), authority, versions)
}

pub(super) fn client_of(
    provider: Arc<CryptoProvider>,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth()
}

/// Runs a whole handshake, and delivers the tickets that follow it.
pub(super) fn handshake(
    client: &Arc<ClientConfig>,
    server: &ByDevice,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name)?;
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut wire.as_slice()).unwrap();
    let hello = acceptor.accept().map_err(|(error, _)| error)?.unwrap();
    let config = Arc::clone(server.for_client(&hello.client_hello()));
    let mut server = hello.into_connection(config).map_err(|(error, _)| error)?;
    loop {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        if !wire.is_empty() {
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
        }
        let sent = !wire.is_empty();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        if !wire.is_empty() {
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        } else if !sent {
            return Ok((client, server));
        }
    }
}
