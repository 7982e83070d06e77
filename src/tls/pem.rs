//! Reads PEM files (RFC 7468), and says in an operator's words what is wrong with one.

use std::io;
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::config::{Place, Problem, read_file};
use crate::units::ByteSize;

/// The certificates of a file, in its order. At least one.
pub(super) fn read_chain(
    path: &Path,
    place: &Place,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
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

/// The revocation lists of a file, in its order. At least one.
pub(super) fn read_lists(
    path: &Path,
    place: &Place,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    let text = read(REVOCATION_LIST, path, place)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken_pem(path, place, &error))?;
    if lists.is_empty() {
        return Err(place.problem(format!(
            "no revocation list in {}: expected PEM text with `-----BEGIN X509 CRL-----`; `openssl crl -inform DER -in FILE -out FILE` makes it of a binary one",
            path.display()
        )));
    }
    Ok(lists)
}

/// The first private key of a file.
pub(super) fn read_key(path: &Path, place: &Place) -> Result<PrivateKeyDer<'static>, Problem> {
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

const REVOCATION_LIST: &str = "revocation list";
/// A large authority's revocation list has 10 MiB and more.
const LARGEST: ByteSize = ByteSize::kibibytes(64 * 1024);

fn read(what: &str, path: &Path, place: &Place) -> Result<Vec<u8>, Problem> {
    read_file(path, LARGEST).map_err(|error| {
        let path = path.display();
        place.problem(match error.kind() {
            io::ErrorKind::NotFound if what == REVOCATION_LIST => format!("{what} {path} does not exist"),
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

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
