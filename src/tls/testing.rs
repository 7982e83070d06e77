//! Certificates, a client and a handshake in memory, for the tests of this folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::Acceptor;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::time::ASN1Time;

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
        params.not_before = ASN1Time::from_timestamp(seconds.0).unwrap().to_datetime();
        params.not_after = ASN1Time::from_timestamp(seconds.1).unwrap().to_datetime();
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
        let key = KeyPair::generate().unwrap();
        let certificate = params(&["client.example"])
            .signed_by(&key, &self.0)
            .unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }
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
