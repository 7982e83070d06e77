//! What is a header and what is not; that any bytes are one or the other; and that another implementation agrees.

use proptest::prelude::*;

use super::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A version 2 header of these bytes 13 and 14, and of this block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&v2::SIGNATURE[..], &[command, family], &length, block].concat()
}

fn tcp4() -> Vec<u8> {
    vec![192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb]
}

/// A block of TCP over IPv4 with `values` after the addresses.
fn tcp4_with(values: &[u8]) -> Vec<u8> {
    [&tcp4(), values].concat()
}

/// The same with a checksum at its end, which makes it a whole header.
fn checked(values: &[u8]) -> Vec<u8> {
    let mut header = v2(
        0x21,
        0x11,
        &tcp4_with(&[values, &[3, 0, 4, 0, 0, 0, 0]].concat()),
    );
    let checksum = checksum::Crc32c::new().over(&header).value();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn header(addresses: Option<Addresses>, length: usize) -> Parsed {
    Parsed::Header(Header { addresses, length })
}

#[test]
fn lines_of_version_1() {
    let four = addresses("192.0.2.1:56324", "198.51.100.2:443");
    let six = addresses("[2001:db8::1]:0", "[2001:db8::2]:65535");
    for (line, expected) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            Some(four),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 0 65535\r\n",
            Some(six),
        ),
        ("PROXY UNKNOWN\r\n", None),
        (
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            None,
        ),
        ("PROXY UNKNOWN anything \r at all \n\r\n", None),
    ] {
        let whole = [line.as_bytes(), b"\r\nGET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&whole), header(expected, line.len()), "{line:?}");
        for length in 0..line.len() {
            assert_eq!(
                parse(&whole[..length]),
                Parsed::Incomplete,
                "{line:?} {length}"
            );
        }
    }
}

#[test]
fn lines_that_are_not_of_version_1() {
    for line in [
        "PROXY\r\n",
        "PROXY TCP\r\n",
        "PROXY TCP4\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\t2\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 2001:db8::1%eth0 2001:db8::2 1 2\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2  2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n\r\n",
        "PROXY TCP4 192.0.2.\u{661} 198.51.100.2 1 2\r\n",
    ] {
        let expected = if line.starts_with("PROXY ") {
            Invalid::Line
        } else {
            Invalid::Signature
        };
        assert_eq!(
            parse(line.as_bytes()),
            Parsed::Invalid(expected),
            "{line:?}"
        );
    }
    let mut endless = b"PROXY UNKNOWN ".to_vec();
    endless.resize(106, b'x');
    assert_eq!(parse(&endless), Parsed::Incomplete);
    endless.push(b'\r');
    assert_eq!(parse(&endless), Parsed::Invalid(Invalid::TooLong));
    endless.push(b'\n');
    assert_eq!(parse(&endless), Parsed::Invalid(Invalid::TooLong));
}

#[test]
fn other_protocols_are_told_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"G",
        b"POST / HTTP/1.1\r\n",
        b"PO",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\nGET",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"proxy TCP4",
        b" PROXY",
        b"\0",
    ] {
        assert_eq!(
            parse(bytes),
            Parsed::Invalid(Invalid::Signature),
            "{bytes:?}"
        );
    }
    assert_eq!(parse(b""), Parsed::Incomplete);
}

#[test]
fn headers_of_version_2() {
    let four = addresses("192.0.2.1:56324", "198.51.100.2:443");
    let six = addresses("[2001:db8::1]:1", "[2001:db8::2]:65535");
    let mut block6 = "2001:db8::1"
        .parse::<std::net::Ipv6Addr>()
        .unwrap()
        .octets()
        .to_vec();
    block6.extend(
        "2001:db8::2"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    block6.extend([0, 1, 0xff, 0xff]);
    let values = [4, 0, 2, 9, 9, 0xe0, 0, 0];
    for (bytes, expected) in [
        (v2(0x21, 0x11, &tcp4()), Some(four)),
        (v2(0x21, 0x21, &block6), Some(six)),
        (v2(0x21, 0x11, &tcp4_with(&values)), Some(four)),
        (checked(&[]), Some(four)),
        (checked(&values), Some(four)),
        // Everything but the length of a LOCAL header is ignored.
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, &tcp4()), None),
        (v2(0x20, 0xff, b"anything"), None),
        // As if unspecified.
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, b"anything"), None),
        (v2(0x21, 0x12, &tcp4()), None),
        (v2(0x21, 0x22, &block6), None),
        (v2(0x21, 0x31, &[0; 216]), None),
        (v2(0x21, 0x32, &[0; 216]), None),
    ] {
        let whole = [&bytes[..], b"\r\n\r\n\0\r\n"].concat();
        assert_eq!(parse(&whole), header(expected, bytes.len()), "{bytes:?}");
        for length in 0..bytes.len() {
            assert_eq!(
                parse(&whole[..length]),
                Parsed::Incomplete,
                "{bytes:?} {length}"
            );
        }
    }
}

#[test]
fn headers_that_are_not_of_version_2() {
    let mut damaged = checked(&[4, 0, 1, 0]);
    damaged[16] ^= 1;
    let twice = [3, 0, 4, 0, 0, 0, 0].repeat(2);
    for (bytes, expected) in [
        (v2(0x11, 0x11, &tcp4()), Invalid::Version),
        (v2(0x31, 0x11, &tcp4()), Invalid::Version),
        (v2(0x22, 0x11, &tcp4()), Invalid::Command),
        (v2(0x21, 0x41, &tcp4()), Invalid::Family),
        (v2(0x21, 0x13, &tcp4()), Invalid::Family),
        (v2(0x21, 0x11, &tcp4()[..11]), Invalid::Addresses),
        (v2(0x21, 0x11, &[]), Invalid::Addresses),
        (v2(0x21, 0x21, &[0; 35]), Invalid::Addresses),
        (v2(0x21, 0x11, &tcp4_with(&[4])), Invalid::Values),
        (v2(0x21, 0x11, &tcp4_with(&[4, 0])), Invalid::Values),
        (v2(0x21, 0x11, &tcp4_with(&[4, 0, 1])), Invalid::Values),
        (
            v2(0x21, 0x11, &tcp4_with(&[4, 0xff, 0xff, 1])),
            Invalid::Values,
        ),
        (
            v2(0x21, 0x11, &tcp4_with(&[3, 0, 3, 0, 0, 0])),
            Invalid::Values,
        ),
        (v2(0x21, 0x11, &tcp4_with(&twice)), Invalid::Values),
        (
            v2(0x21, 0x11, &tcp4_with(&[3, 0, 4, 0, 0, 0, 0])),
            Invalid::Checksum,
        ),
        (damaged, Invalid::Checksum),
        (v2(0x21, 0x11, &[0; 4097]), Invalid::TooLong),
    ] {
        assert_eq!(parse(&bytes), Parsed::Invalid(expected), "{bytes:?}");
    }
    // Told before the rest has come.
    let long = v2(0x20, 0, &[0; 4097]);
    assert_eq!(parse(&long[..16]), Parsed::Invalid(Invalid::TooLong));
    assert_eq!(parse(&v2(0x20, 0, &[0; 4096])), header(None, LONGEST));
}

#[test]
fn written_headers() {
    let four = Some(addresses("192.0.2.1:56324", "198.51.100.2:443"));
    let six = Some(addresses("[2001:db8::1]:1", "[::1]:65535"));
    let mapped = Some(addresses("[::ffff:192.0.2.1]:1", "[::ffff:198.51.100.2]:2"));
    let mixed = Some(addresses("192.0.2.1:1", "[2001:db8::2]:2"));
    for (addresses, line) in [
        (four, "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
        (six, "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"),
        (mapped, "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n"),
        (mixed, "PROXY TCP6 ::ffff:c000:201 2001:db8::2 1 2\r\n"),
        (None, "PROXY UNKNOWN\r\n"),
    ] {
        let written = encode(Version::V1, addresses);
        assert_eq!(String::from_utf8(written).unwrap(), line);
    }
    assert_eq!(encode(Version::V2, four), v2(0x21, 0x11, &tcp4()));
    assert_eq!(encode(Version::V2, None), v2(0x20, 0x00, &[]));
    let mixed = encode(Version::V2, mixed);
    assert_eq!(mixed[12..16], [0x21, 0x21, 0, 36]);
    assert_eq!(mixed[26..32], [0xff, 0xff, 192, 0, 2, 1]);
}

/// Bytes that are nearly headers, of one version or the other.
fn nearly_headers() -> impl Strategy<Value = Vec<u8>> {
    let v4 = any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string());
    let v6 = any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string());
    let address = prop_oneof![v4.clone(), v6.clone(), "[0-9a-f:.]{0,20}"];
    let protocol = prop::sample::select(vec!["TCP4", "TCP6", "UNKNOWN", "TCP", ""]);
    let ends = prop_oneof![
        (Just("TCP4"), [v4.clone(), v4]),
        (Just("TCP6"), [v6.clone(), v6]),
        (protocol, [address.clone(), address]),
    ];
    let port = prop_oneof![
        4 => any::<u16>().prop_map(|port| port.to_string()),
        1 => "[+0-9]{0,6}",
    ];
    let line = (ends, [port.clone(), port]).prop_map(|((protocol, [from, to]), ports)| {
        format!("PROXY {protocol} {from} {to} {} {}\r\n", ports[0], ports[1]).into_bytes()
    });
    let value = (0_u8..6, prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(kind, value)| {
        [&[kind, 0, u8::try_from(value.len()).unwrap()][..], &value].concat()
    });
    let values = prop::collection::vec(value, 0..4).prop_map(|values| values.concat());
    let command = prop_oneof![4 => Just(0x21), 1 => Just(0x20), 1 => any::<u8>()];
    let family =
        prop_oneof![4 => Just((0x11, 12)), 2 => Just((0x21, 36)), 1 => (any::<u8>(), 0_usize..220)];
    let binary = (command, family, values).prop_flat_map(|(command, (family, length), values)| {
        prop::collection::vec(any::<u8>(), length)
            .prop_map(move |block| v2(command, family, &[&block[..], &values].concat()))
    });
    let whole = prop_oneof![
        line,
        binary,
        any::<bool>().prop_map(|_| checked(&[4, 0, 1, 7]))
    ];
    let rest = prop::collection::vec(any::<u8>(), 0..40);
    let damage = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (whole, rest, damage, cut).prop_map(|(mut bytes, rest, damage, cut)| {
        bytes.extend(rest);
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

/// What another implementation makes of `bytes`: addresses, if they are of TCP, and length.
fn oracle(bytes: &[u8]) -> Option<(Option<Addresses>, usize)> {
    if bytes.first() == Some(&b'P') {
        let header = ppp::v1::Header::try_from(bytes).ok()?;
        let addresses = match header.addresses {
            ppp::v1::Addresses::Tcp4(it) => Some(Addresses {
                source: (it.source_address, it.source_port).into(),
                destination: (it.destination_address, it.destination_port).into(),
            }),
            ppp::v1::Addresses::Tcp6(it) => Some(Addresses {
                source: (it.source_address, it.source_port).into(),
                destination: (it.destination_address, it.destination_port).into(),
            }),
            ppp::v1::Addresses::Unknown => None,
        };
        return Some((addresses, header.header.len()));
    }
    let header = ppp::v2::Header::try_from(bytes).ok()?;
    let is_tcp =
        header.command == ppp::v2::Command::Proxy && header.protocol == ppp::v2::Protocol::Stream;
    let addresses = match header.addresses {
        ppp::v2::Addresses::IPv4(it) if is_tcp => Some(Addresses {
            source: (it.source_address, it.source_port).into(),
            destination: (it.destination_address, it.destination_port).into(),
        }),
        ppp::v2::Addresses::IPv6(it) if is_tcp => Some(Addresses {
            source: (it.source_address, it.source_port).into(),
            destination: (it.destination_address, it.destination_port).into(),
        }),
        _ => None,
    };
    Some((addresses, header.len()))
}

/// What follows from the two answers to the same bytes. Where they may differ, the specification is on our side.
fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let other = oracle(bytes);
    match parse(bytes) {
        // It takes no UNKNOWN that is not UTF-8, and looks at the family even where that says nothing.
        Parsed::Header(Header {
            addresses: None,
            length,
        }) => {
            if let Some((addresses, other)) = other {
                prop_assert_eq!((addresses, other), (None, length));
            }
        }
        Parsed::Header(header) => {
            prop_assert_eq!(other, Some((header.addresses, header.length)));
        }
        Parsed::Incomplete => prop_assert_eq!(other, None),
        // It does not look at values or checksums unless asked, takes 64 KiB, and ports with a sign.
        Parsed::Invalid(Invalid::Values | Invalid::Checksum | Invalid::TooLong) => {}
        Parsed::Invalid(Invalid::Line) if bytes.contains(&b'+') => {}
        Parsed::Invalid(_) => prop_assert_eq!(other, None),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        if let Parsed::Header(header) = parse(&bytes) {
            prop_assert!(header.length <= bytes.len());
        }
    }

    #[test]
    fn beyond_the_longest_nothing_is_incomplete(bytes in nearly_headers(), more in any::<u8>()) {
        let mut bytes = bytes;
        bytes.resize(LONGEST, more);
        prop_assert_ne!(parse(&bytes), Parsed::Incomplete);
    }

    #[test]
    fn it_makes_no_difference_how_many_bytes_come_at_once(bytes in nearly_headers()) {
        let first = (0..=bytes.len())
            .map(|length| (length, parse(&bytes[..length])))
            .find(|(_, parsed)| *parsed != Parsed::Incomplete);
        let whole = parse(&bytes);
        prop_assert_eq!(first.map_or(Parsed::Incomplete, |(_, parsed)| parsed), whole);
        if let (Some((seen, _)), Parsed::Header(header)) = (first, whole) {
            prop_assert_eq!(seen, header.length, "known at its last byte, not before and not after");
        }
    }

    #[test]
    fn another_implementation_agrees(bytes in nearly_headers()) {
        agrees(&bytes)?;
    }

    #[test]
    fn what_is_written_can_be_read(
        source in any::<SocketAddr>(),
        destination in any::<SocketAddr>(),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        for version in [Version::V1, Version::V2] {
            let written = encode(version, Some(Addresses { source, destination }));
            let bytes = [&written[..], &rest].concat();
            agrees(&bytes)?;
            let Parsed::Header(Header { addresses: Some(read), length }) = parse(&bytes) else {
                return Err(TestCaseError::fail(format!("not read: {written:?}")));
            };
            prop_assert_eq!(length, written.len());
            prop_assert_eq!(canonical(read.source), canonical(source));
            prop_assert_eq!(canonical(read.destination), canonical(destination));
            prop_assert_eq!(read.source.is_ipv4(), read.destination.is_ipv4());
        }
    }
}
