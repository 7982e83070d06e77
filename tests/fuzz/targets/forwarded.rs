//! What stands in `Forwarded` is read to its end or refused.
#![no_main]

use balancer::message::forwarded_field::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    if let Ok(elements) = parse(value) {
        let separators = value.iter().filter(|byte| **byte == b',').count();
        assert!(elements.len() <= separators + 1);
    }
});
