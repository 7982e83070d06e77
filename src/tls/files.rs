//! Tells whether files hold what they held, by their contents: modification times and inodes tell neither of a rewrite with
//! the same text nor of a link that leads elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::hash::{self, Hash};

/// Read at once: pages of a file that is large for one.
const PIECE: usize = 64 * 1024;

/// What a set of files held at one moment: a hash of each.
#[derive(serde::Deserialize, serde::Serialize, Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents(BTreeMap<PathBuf, [u8; 32]>);

impl Contents {
    /// Of `files`. Reads them; what cannot be read counts as other contents than any file's.
    pub fn of<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        Self(
            files
                .map(|path| (path.to_owned(), content(path).unwrap_or_default()))
                .collect(),
        )
    }

    /// The same, as if the file at `path` held `text`.
    pub fn with(mut self, path: &Path, text: &str) -> Self {
        let hash = sha256(text.as_bytes()).as_ref().try_into();
        self.0.insert(path.to_owned(), hash.unwrap_or_default());
        self
    }

    /// The same, and those of `other` that are not here.
    pub fn and(mut self, other: &Self) -> Self {
        for (path, hash) in &other.0 {
            self.0.entry(path.clone()).or_insert(*hash);
        }
        self
    }

    /// The same files, read again.
    pub fn again(&self) -> Self {
        Self::of(self.0.keys().map(PathBuf::as_path))
    }

    /// The files that are here and in `other`, and hold something else there.
    pub fn changed<'a>(&'a self, other: &Self) -> impl Iterator<Item = &'a Path> {
        let files = self.0.iter();
        files
            .filter(|(path, hash)| other.0.get(*path).is_some_and(|other| other != *hash))
            .map(|(path, _)| path.as_path())
    }
}

fn content(path: &Path) -> Option<[u8; 32]> {
    // Opening a pipe waits for a writer.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let mut hash = provider().start();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).ok()? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    hash.finish().as_ref().try_into().ok()
}

/// SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> hash::Output {
    provider().hash(bytes)
}

/// The suite's own hash: no further library for it.
fn provider() -> &'static dyn Hash {
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    suite.expect("a suite of TLS 1.3").common.hash_provider
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::message::hexadecimal;
    use crate::tls::testing::Folder;

    #[test]
    fn hash_is_sha_256() {
        assert_eq!(
            hexadecimal::digits(sha256(b"abc").as_ref()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ); // FIPS 180-4
    }

    #[test]
    fn contents_count_and_not_the_files_that_hold_them() {
        let folder = Folder::new();
        let link = folder.entry("a", "a").chain;
        let contents = || Contents::of([&*link].into_iter());
        let missing = contents();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "1").unwrap();
        symlink(&one, &link).unwrap();
        let first = contents();
        assert_ne!(missing, first);
        fs::remove_file(&link).unwrap();
        symlink(&two, &link).unwrap();
        assert_eq!(first, contents(), "a link to the same text");
        fs::write(&two, "2").unwrap();
        assert_ne!(first, contents(), "another text behind the link");
        assert_eq!(first.changed(&contents()).collect::<Vec<_>>(), [&*link]);
        assert_eq!(
            first.changed(&Contents::default()).count(),
            0,
            "no such file there"
        );
        fs::write(&two, "1").unwrap();
        assert_eq!(first, contents(), "the first text again");
    }
}
