//! Whatever stands in a file, it is understood or every problem has a place in it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if let Err(errors) = balancer::config::parse(source, Path::new("fuzz.toml")) {
        assert!(!errors.0.is_empty());
        let lines = u32::try_from(source.lines().count()).unwrap_or(u32::MAX);
        for problem in &errors.0 {
            assert!(problem.place.line <= lines.max(1) + 1, "{problem}");
        }
    }
});
