//! Other people's programs the tests stand beside: found, or missed by the name of their Debian package.

use std::path::PathBuf;

/// Finds a program. Missing: fails with the name of its package, or, where `BALANCER_TESTS_SKIP_PEERS` is set, says
/// that the test is skipped.
#[track_caller]
pub(crate) fn peer(program: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("BALANCER_TESTS_SKIP_PEERS").is_some(),
            "{program} is missing: install the Debian package {package}, or set BALANCER_TESTS_SKIP_PEERS=1 to go without"
        );
        eprintln!("SKIPPED: {program} (Debian package {package}) is missing");
    }
    found
}
