//! A canonical path stays what it is, and no reading of it climbs out.
#![no_main]

use balancer::message::canonical_path::{canonicalize, loosest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let Ok(canonical) = canonicalize(path) else {
        return;
    };
    assert!(canonical.starts_with('/'));
    assert_eq!(
        canonicalize(&canonical).as_deref(),
        Ok(&*canonical),
        "canonical is canonical"
    );
    assert!(
        !canonical.contains("//") && !canonical.split('/').any(|segment| matches!(segment, "." | "..")),
        "{canonical}"
    );
    if let Ok(Some(loosest)) = loosest(&canonical) {
        assert!(loosest.path.starts_with(b"/"));
    }
});
