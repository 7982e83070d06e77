//! Reads certificate chains and their keys, and says what is wrong with them.
//!
//! Names come from the subject alternative names of the server's own certificate; a common name is ignored, as every
//! client does. Does not verify that a chain leads to an authority some client trusts.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::{Certificate, Place, Problem};

/// What an operator wants to know of a certificate in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateInfo {
    /// The chain's path as configured.
    pub label: String,
    /// DNS names (lower case, wildcards as `*.example.com`), then IP addresses, each group in certificate order.
    pub names: Vec<String>,
    /// End of validity, in seconds since 1970-01-01 UTC.
    pub not_after: i64,
}

/// A certificate ready to be served.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Chain and key.
    pub(super) key: Arc<CertifiedKey>,
    /// Its DNS names, lower case. A wildcard is `*.example.com`.
    pub(super) dns_names: Vec<String>,
    /// For people.
    pub(super) info: CertificateInfo,
    /// What is doubtful about it.
    pub(super) warnings: Vec<Problem>,
}

/// Reads a chain and its key. `now` is in seconds since 1970-01-01 UTC. Reports everything that is wrong, not the first thing.
pub(super) fn load(
    certificate: &Certificate,
    provider: &CryptoProvider,
    now: i64,
) -> Result<Loaded, Vec<Problem>> {
    let Certificate {
        chain: chain_path,
        key: key_path,
        place,
    } = certificate;
    let mut problems = Vec::new();
    let chain = keep(read_chain(chain_path, place), &mut problems);
    let facts = match &chain {
        Some(chain) => keep(read_facts(&chain[0], chain_path, place), &mut problems),
        None => None,
    };
    let key = keep(read_key(key_path, place), &mut problems);
    let (Some(chain), Some(facts), Some(key)) = (chain, facts, key) else {
        return Err(problems);
    };
    let key = join(chain, key, certificate, provider).map_err(|problem| vec![problem])?;

    let warnings = facts
        .doubts(now)
        .into_iter()
        .map(|doubt| place.problem(format!("certificate {} {doubt}", chain_path.display())))
        .collect();
    let names = facts
        .dns_names
        .iter()
        .cloned()
        .chain(facts.addresses.iter().map(IpAddr::to_string))
        .collect();
    let info = CertificateInfo {
        label: chain_path.display().to_string(),
        names,
        not_after: facts.not_after,
    };
    Ok(Loaded {
        key: Arc::new(key),
        dns_names: facts.dns_names,
        info,
        warnings,
    })
}

/// Reads the certificates of the authorities that sign client certificates.
pub(super) fn load_authorities(path: &Path, place: &Place) -> Result<RootCertStore, Vec<Problem>> {
    let chain = read_chain(path, place).map_err(|problem| vec![problem])?;
    let mut authorities = RootCertStore::empty();
    let mut problems = Vec::new();
    for (index, certificate) in chain.into_iter().enumerate() {
        if let Err(error) = authorities.add(certificate) {
            problems.push(place.problem(format!(
                "certificate {} in {} cannot be an authority: {error}",
                index + 1,
                path.display()
            )));
        }
    }
    if problems.is_empty() {
        Ok(authorities)
    } else {
        Err(problems)
    }
}

/// What the server's own certificate says of itself.
struct Facts {
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before: i64,
    not_after: i64,
}

impl Facts {
    fn doubts(&self, now: i64) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.not_after < now {
            doubts.push(format!(
                "expired {}: clients will refuse it; renew it and reload",
                ago(now - self.not_after)
            ));
        }
        if self.not_before > now {
            doubts.push(format!(
                "is not valid before {} from now: check the clock of this machine",
                lasting(self.not_before - now)
            ));
        }
        if self.dns_names.is_empty() && self.addresses.is_empty() {
            doubts.push("has no subject alternative name: clients will refuse it, they ignore the common name".to_owned());
        }
        doubts
    }
}

fn read_facts(leaf: &CertificateDer<'_>, path: &Path, place: &Place) -> Result<Facts, Problem> {
    let unclear = |reason: String| {
        place.problem(format!(
            "certificate 1 in {} cannot be understood: {reason}",
            path.display()
        ))
    };
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| unclear(error.to_string()))?;
    let mut facts = Facts {
        dns_names: Vec::new(),
        addresses: Vec::new(),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    };
    let names = leaf
        .subject_alternative_name()
        .map_err(|error| unclear(error.to_string()))?;
    for name in names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(name) => facts.dns_names.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => facts.addresses.extend(address(octets)),
            // Mail addresses, URIs and the like name no server.
            _ => {}
        }
    }
    Ok(facts)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

fn read_chain(path: &Path, place: &Place) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = read("certificate chain", path, place)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken_pem(path, place, &error))?;
    if chain.is_empty() {
        let hint = if PrivateKeyDer::from_pem_slice(&text).is_ok() {
            "; it holds a private key: are `chain` and `key` swapped?"
        } else {
            ""
        };
        return Err(place.problem(format!(
            "no certificate in {}: expected PEM text with `-----BEGIN CERTIFICATE-----`{hint}",
            path.display()
        )));
    }
    Ok(chain)
}

fn read_key(path: &Path, place: &Place) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = read("key", path, place)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let hint = if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") {
                "; it is encrypted: decrypt it with `openssl pkey -in FILE -out FILE` and protect it by file permissions"
            } else if CertificateDer::from_pem_slice(&text).is_ok() {
                "; it holds a certificate: are `chain` and `key` swapped?"
            } else {
                ""
            };
            Err(place.problem(format!(
                "no private key in {}: expected PEM text with `-----BEGIN PRIVATE KEY-----`{hint}",
                path.display()
            )))
        }
        Err(error) => Err(broken_pem(path, place, &error)),
    }
}

/// Joins a chain with its key, or says why they do not belong together.
fn join(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Problem> {
    let (chain_path, key_path) = (certificate.chain.display(), certificate.key.display());
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        certificate.place.problem(format!("key in {key_path} cannot be used: ECDSA (P-256, P-384, P-521), RSA (2048 to 8192 bits) and Ed25519 keys can"))
    })?;
    let belongs_to = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], key.clone()).keys_match()
    };
    match belongs_to(&chain[0]) {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(CertifiedKey::new(chain, key))
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            let reason = match chain
                .iter()
                .position(|certificate| belongs_to(certificate).is_ok())
            {
                Some(index) => format!(
                    "it belongs to certificate {}: put the server's own certificate first",
                    index + 1
                ),
                None => "use the key the certificate was requested with".to_owned(),
            };
            Err(certificate.place.problem(format!(
                "key {key_path} does not match the first certificate in {chain_path}: {reason}"
            )))
        }
        Err(error) => Err(certificate.place.problem(format!(
            "certificate 1 in {chain_path} cannot be used: {error}"
        ))),
    }
}

fn read(what: &str, path: &Path, place: &Place) -> Result<Vec<u8>, Problem> {
    fs::read(path).map_err(|error| {
        let path = path.display();
        place.problem(match error.kind() {
            io::ErrorKind::NotFound => format!("{what} {path} does not exist; `balancer certs` makes certificates for development"),
            io::ErrorKind::PermissionDenied => format!("{what} {path} may not be read by this user: check its owner and mode, and those of its folders"),
            _ => format!("{what} {path} cannot be read: {error}"),
        })
    })
}

fn broken_pem(path: &Path, place: &Place, error: &pem::Error) -> Problem {
    place.problem(format!(
        "{} is not valid PEM: {}",
        path.display(),
        error.to_string().to_lowercase()
    ))
}

fn keep<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn ago(seconds: i64) -> String {
    format!("{} ago", lasting(seconds))
}

/// A length of time, as a person says it: in days, or in hours below one day.
fn lasting(seconds: i64) -> String {
    const HOUR: i64 = 60 * 60;
    const DAY: i64 = 24 * HOUR;
    let (count, unit) = if seconds >= DAY {
        (seconds / DAY, "day")
    } else {
        (seconds / HOUR, "hour")
    };
    match count {
        0 => "less than an hour".to_owned(),
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}
