//! The authorities that sign certificates of servers: those this system trusts, or those of a file.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::certificates;
use super::pem::read_chain;
use crate::config::{Place, Problem};

/// Where systems keep the authorities they trust, in one PEM file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",   // RHEL before 7
    "/etc/ssl/ca-bundle.pem",             // openSUSE
    "/etc/ssl/cert.pem",                  // FreeBSD, macOS
];

/// Names another file, as it does for OpenSSL, curl and others.
const VARIABLE: &str = "SSL_CERT_FILE";

/// The authorities of the PEM file `ca`.
pub(super) fn of_file(ca: &Path, place: &Place) -> Result<RootCertStore, Vec<Problem>> {
    Ok(certificates::load_authorities(ca, place)?.roots)
}

/// The authorities that this system trusts. `place` is where they are asked for.
pub(super) fn of_system(place: &Place) -> Result<RootCertStore, Vec<Problem>> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let found = named.or_else(|| {
        let bundles = BUNDLES.iter().map(PathBuf::from);
        bundles.into_iter().find(|bundle| bundle.is_file())
    });
    let Some(bundle) = found else {
        return Err(vec![place.problem(format!(
            "this system's trusted authorities are in none of {}: install them (Debian: ca-certificates), or name a file of your own as `ca`",
            BUNDLES.join(", ")
        ))]);
    };
    let chain = read_chain(&bundle, place).map_err(|problem| vec![problem])?;
    of_bundle(chain).ok_or_else(|| {
        vec![place.problem(format!(
            "{} has no certificate of an authority: name a file of your own as `ca`",
            bundle.display()
        ))]
    })
}

/// Those that can be used: in such a bundle there are always a few that are older than the rules.
fn of_bundle(chain: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(chain);
    (usable > 0).then_some(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    #[test]
    fn what_cannot_be_used_in_a_bundle_is_passed_over() {
        let broken = CertificateDer::from(vec![1, 2, 3]);
        assert!(of_bundle(vec![broken.clone()]).is_none());
        let sound = Authority::new("ca").der();
        let roots = of_bundle(vec![broken, sound]).expect("one is usable");
        assert_eq!(roots.len(), 1);
    }
}
