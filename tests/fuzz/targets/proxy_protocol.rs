//! A header is read the same whether it comes at once or in pieces, and what is read can be said again.
#![no_main]

use balancer::message::proxy_protocol::{Parsed, Version, encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    for length in 0..bytes.len().min(300) {
        let part = parse(&bytes[..length]);
        if !matches!(part, Parsed::Incomplete) {
            assert_eq!(part, whole, "after {length} bytes");
            break;
        }
    }
    if let Parsed::Header(header) = whole {
        assert!(header.length <= bytes.len());
        for version in [Version::V1, Version::V2] {
            let said = encode(version, header.addresses);
            let Parsed::Header(again) = parse(&said) else {
                panic!("{said:?} of our own is no header");
            };
            assert_eq!(again.length, said.len());
        }
    }
});
