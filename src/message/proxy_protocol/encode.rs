//! Writes headers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::{Addresses, Version, v2};

/// The header that goes first on a connection. Without addresses it says that the sender speaks for itself: LOCAL, or in
/// version 1 UNKNOWN.
pub fn encode(version: Version, addresses: Option<Addresses>) -> Vec<u8> {
    let ends = addresses.map(Ends::from);
    match version {
        Version::V1 => v1(ends),
        Version::V2 => v2(ends),
    }
}

/// Two addresses of one family, which is all a header can hold.
struct Ends {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

impl From<Addresses> for Ends {
    fn from(addresses: Addresses) -> Self {
        let canonical = [addresses.source, addresses.destination]
            .map(|end| (end.ip().to_canonical(), end.port()));
        let is_mixed = canonical[0].0.is_ipv4() != canonical[1].0.is_ipv4();
        let [source, destination] = canonical.map(|(ip, port)| match ip {
            IpAddr::V4(ip) if is_mixed => (IpAddr::V6(ip.to_ipv6_mapped()), port),
            ip => (ip, port),
        });
        Self {
            source,
            destination,
        }
    }
}

fn v1(ends: Option<Ends>) -> Vec<u8> {
    let Some(Ends {
        source,
        destination,
    }) = ends
    else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let protocol = if source.0.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (Plain(source.0), Plain(destination.0));
    format!(
        "PROXY {protocol} {from} {to} {} {}\r\n",
        source.1, destination.1
    )
    .into_bytes()
}

/// An address in the one form that every receiver reads: IPv6 has no dots (§2.1).
struct Plain(IpAddr);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                let [.., high, low] = ip.segments();
                write!(f, "::ffff:{high:x}:{low:x}")
            }
            ip => ip.fmt(f),
        }
    }
}

fn v2(ends: Option<Ends>) -> Vec<u8> {
    let mut header = v2::SIGNATURE.to_vec();
    let Some(Ends {
        source,
        destination,
    }) = ends
    else {
        header.extend(LOCAL);
        return header;
    };
    match (source.0, destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend(PROXY_TCP4);
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        (source, destination) => {
            header.extend(PROXY_TCP6);
            header.extend(ipv6(source).octets());
            header.extend(ipv6(destination).octets());
        }
    }
    header.extend(source.1.to_be_bytes());
    header.extend(destination.1.to_be_bytes());
    header
}

fn ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Version with command, family with protocol, length of what follows.
const LOCAL: [u8; 4] = [0x20, 0x00, 0, 0];
const PROXY_TCP4: [u8; 4] = [0x21, 0x11, 0, 12];
const PROXY_TCP6: [u8; 4] = [0x21, 0x21, 0, 36];
