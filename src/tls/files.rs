//! Tells whether the files of TLS hold what they held, by their contents: modification times and inodes tell neither of a
//! rewrite with the same text nor of a link that leads elsewhere.

use std::fs;
use std::path::Path;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::hash;

use crate::config::ListenerTls;

/// What a list of files held at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contents(Vec<[u8; 32]>);

impl Contents {
    /// Of every file that `listeners` name. Reads them; what cannot be read counts as other contents than any file's.
    pub fn of<'a>(listeners: impl Iterator<Item = &'a ListenerTls>) -> Self {
        Self::of_files(listeners.flat_map(ListenerTls::files))
    }

    /// Of `files`, likewise.
    pub fn of_files<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        Self(files.map(content).collect())
    }

    /// As if a single file held `text`.
    pub fn of_text(text: &str) -> Self {
        Self(vec![digest(text.as_bytes())])
    }
}

fn content(path: &Path) -> [u8; 32] {
    // Reading a pipe would wait for whoever writes it.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return [0; 32];
    }
    fs::read(path).map_or([0; 32], |bytes| digest(&bytes))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(sha256(bytes).as_ref());
    digest
}

/// SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> hash::Output {
    // The suite's own hash: no further library for it.
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    let suite = suite.expect("a suite of TLS 1.3");
    suite.common.hash_provider.hash(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::{ClientAuth, TlsVersion};
    use crate::tls::testing::Folder;

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

    #[test]
    fn contents_count_and_not_the_files_that_hold_them() {
        let folder = Folder::new();
        let tls = ListenerTls {
            certificates: vec![folder.entry("a", "a")],
            min_version: TlsVersion::Tls12,
            client_auth: ClientAuth::Off,
        };
        let contents = || Contents::of([&tls].into_iter());
        let missing = contents();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "1").unwrap();
        let link = &tls.certificates[0].chain;
        symlink(&one, link).unwrap();
        let first = contents();
        assert_ne!(missing, first);
        fs::remove_file(link).unwrap();
        symlink(&two, link).unwrap();
        assert_eq!(first, contents(), "a link to the same text");
        fs::write(&two, "2").unwrap();
        assert_ne!(first, contents(), "another text behind the link");
        fs::write(&two, "1").unwrap();
        assert_eq!(first, contents(), "the first text again");
    }
}
