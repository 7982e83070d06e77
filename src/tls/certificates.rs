//! Reads certificate chains and their keys, and says what is wrong with them.
//!
//! Names come from the subject alternative names of the server's own certificate; a common name is ignored, as every
//! client does. Does not verify that a chain leads to an authority some client trusts.
//!
//! Half of this file are tests: one for each thing that can be wrong with a file.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::expiry::{self, lasting};
use super::pem::{read_chain, read_key};
use crate::config::{Certificate, Place, Problem};
use crate::units::unix_seconds;

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

/// Authorities that sign certificates.
pub(super) struct Authorities {
    /// As they are in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// As what verifies others.
    pub(super) roots: RootCertStore,
}

/// Reads the certificates of authorities.
pub(super) fn load_authorities(path: &Path, place: &Place) -> Result<Authorities, Vec<Problem>> {
    let certificates = read_chain(path, place).map_err(|problem| vec![problem])?;
    let mut roots = RootCertStore::empty();
    let mut problems = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        if let Err(error) = roots.add(certificate.clone()) {
            problems.push(place.problem(format!(
                "certificate {} in {} cannot be an authority: {error}",
                index + 1,
                path.display()
            )));
        }
    }
    if problems.is_empty() {
        Ok(Authorities {
            certificates,
            roots,
        })
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
        } else if expiry::urgency(self.not_after, now).is_some() {
            doubts.push(format!(
                "ends in {}, on {}: renew it and reload",
                lasting(self.not_after - now),
                expiry::date(self.not_after)
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

/// The IP address in a subject alternative name (RFC 5280 §4.2.1.6).
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
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

fn keep<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// By the clock now.
pub fn seconds_since_1970() -> i64 {
    i64::try_from(unix_seconds(SystemTime::now())).unwrap_or(i64::MAX)
}

pub(super) fn ago(seconds: i64) -> String {
    format!("{} ago", lasting(seconds))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::testing::{Authority, Folder, provider};

    const NOW: i64 = 1_800_000_000; // 2027-01-15

    fn problems(certificate: &Certificate) -> Vec<String> {
        let problems = load(certificate, &provider(), NOW).expect_err("should be refused");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn names_are_lower_case_and_come_from_the_alternative_names_only() {
        let folder = Folder::new();
        let certificate = Authority::new("ca").certificate(
            &folder,
            "a",
            &[
                "WWW.Example.com",
                "*.Example.com",
                "192.0.2.7",
                "2001:db8::1",
            ],
        );
        let loaded = load(&certificate, &provider(), NOW).unwrap();
        assert_eq!(loaded.dns_names, ["www.example.com", "*.example.com"]);
        assert_eq!(
            loaded.info.names,
            [
                "www.example.com",
                "*.example.com",
                "192.0.2.7",
                "2001:db8::1"
            ]
        );
        assert!(loaded.info.label.ends_with("/a.pem"));
        assert_eq!(loaded.warnings, []);
    }

    #[test]
    fn everything_wrong_with_an_entry_is_reported() {
        let folder = Folder::new();
        let certificate = folder.entry("missing", "missing-too");
        assert_eq!(
            problems(&certificate),
            [
                format!(
                    "balancer.toml:3:5: listener.https.tls.certificates[0]: certificate chain {} does not exist; `balancer certs` makes certificates for development",
                    certificate.chain.display()
                ),
                format!(
                    "balancer.toml:3:5: listener.https.tls.certificates[0]: key {} does not exist; `balancer certs` makes certificates for development",
                    certificate.key.display()
                ),
            ]
        );
    }

    #[test]
    fn swapped_files_are_recognised() {
        let folder = Folder::new();
        let right = Authority::new("ca").certificate(&folder, "a", &["a.example"]);
        let swapped = Certificate {
            chain: right.key.clone(),
            key: right.chain.clone(),
            ..right
        };
        let problems = problems(&swapped);
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].contains("no certificate in ")
                && problems[0].ends_with("it holds a private key: are `chain` and `key` swapped?")
        );
        assert!(
            problems[1].contains("no private key in ")
                && problems[1].ends_with("it holds a certificate: are `chain` and `key` swapped?")
        );
    }

    #[test]
    fn files_that_hold_neither_are_refused() {
        let folder = Folder::new();
        let certificate = folder.entry("a", "a");
        fs::write(&certificate.chain, "hello").unwrap();
        fs::write(
            &certificate.key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        let found = problems(&certificate);
        assert!(
            found[0].ends_with("expected PEM text with `-----BEGIN CERTIFICATE-----`"),
            "{found:?}"
        );
        assert!(
            found[1].contains("it is encrypted: decrypt it with"),
            "{found:?}"
        );

        fs::write(&certificate.chain, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        fs::write(
            &certificate.key,
            "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let found = problems(&certificate);
        assert!(
            found
                .iter()
                .all(|problem| problem.contains("is not valid PEM: ")),
            "{found:?}"
        );

        fs::write(
            &certificate.chain,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        fs::write(
            &certificate.key,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let found = problems(&certificate);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("certificate 1 in ") && found[0].contains("cannot be understood"),
            "{found:?}"
        );
    }

    #[test]
    fn a_folder_in_place_of_a_file_is_a_problem() {
        let folder = Folder::new();
        let certificate = folder.entry("a", "a");
        fs::create_dir(&certificate.chain).unwrap();
        fs::create_dir(&certificate.key).unwrap();
        assert!(
            problems(&certificate)
                .iter()
                .all(|problem| problem.contains("cannot be read: "))
        );
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = Folder::new();
        let authority = Authority::new("ca");
        let a = authority.certificate(&folder, "a", &["a.example"]);
        let b = authority.certificate(&folder, "b", &["b.example"]);
        let mixed = Certificate { key: b.key, ..a };
        let found = problems(&mixed);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("b.key does not match the first certificate in "),
            "{found:?}"
        );
        assert!(
            found[0].ends_with("a.pem: use the key the certificate was requested with"),
            "{found:?}"
        );
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_told_from_a_wrong_key() {
        let folder = Folder::new();
        let authority = Authority::new("ca");
        let certificate = authority.certificate(&folder, "a", &["a.example"]);
        let leaf = fs::read_to_string(&certificate.chain).unwrap();
        fs::write(&certificate.chain, format!("{}{leaf}", authority.pem())).unwrap();
        let found = problems(&certificate);
        assert!(
            found[0]
                .ends_with("it belongs to certificate 2: put the server's own certificate first"),
            "{found:?}"
        );
    }

    #[test]
    fn an_expired_certificate_is_a_warning() {
        let folder = Folder::new();
        let authority = Authority::new("ca");
        let certificate = authority.certificate_valid(
            &folder,
            "a",
            &["a.example"],
            (NOW - 1000, NOW - 3 * 24 * 3600),
        );
        let loaded = load(&certificate, &provider(), NOW).unwrap();
        assert_eq!(loaded.info.not_after, NOW - 3 * 24 * 3600);
        assert_eq!(loaded.warnings.len(), 1);
        assert!(
            loaded.warnings[0]
                .message
                .ends_with("a.pem expired 3 days ago: clients will refuse it; renew it and reload"),
            "{}",
            loaded.warnings[0]
        );
    }

    #[test]
    fn a_certificate_that_ends_within_two_weeks_is_a_warning() {
        let folder = Folder::new();
        let authority = Authority::new("ca");
        let warnings = |left| {
            let validity = (NOW - 1000, NOW + left);
            let certificate = authority.certificate_valid(&folder, "a", &["a.example"], validity);
            let loaded = load(&certificate, &provider(), NOW).unwrap();
            let messages = loaded.warnings.into_iter().map(|warning| warning.message);
            messages.collect::<Vec<_>>()
        };
        assert_eq!(warnings(14 * 24 * 3600), [""; 0]);
        let found = warnings(3 * 24 * 3600);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .ends_with("a.pem ends in 3 days, on 2027-01-18T08:00:00Z: renew it and reload"),
            "{found:?}"
        );
    }

    #[test]
    fn a_certificate_from_the_future_or_without_names_is_a_warning() {
        let folder = Folder::new();
        let authority = Authority::new("ca");
        let certificate =
            authority.certificate_valid(&folder, "a", &[], (NOW + 7200, NOW + 15 * 24 * 3600));
        let loaded = load(&certificate, &provider(), NOW).unwrap();
        let warnings: Vec<_> = loaded
            .warnings
            .iter()
            .map(|warning| warning.message.as_str())
            .collect();
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0]
                .ends_with("is not valid before 2 hours from now: check the clock of this machine")
        );
        assert!(warnings[1].contains("has no subject alternative name"));
    }

    #[test]
    fn authorities_are_read_all_or_refused() {
        let folder = Folder::new();
        let path = folder.path().join("ca.pem");
        fs::write(
            &path,
            Authority::new("one").pem() + &Authority::new("two").pem(),
        )
        .unwrap();
        let place = folder.entry("a", "a").place;
        assert_eq!(load_authorities(&path, &place).unwrap().roots.len(), 2);
        let refused = |path: &Path| load_authorities(path, &place).err().unwrap();
        fs::write(&path, "").unwrap();
        assert!(refused(&path)[0].message.starts_with("no certificate in "));
        fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(refused(&path)[0].message.contains("cannot be an authority"));
    }
}
