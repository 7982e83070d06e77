//! PROXY protocol headers: who a client is when a proxy in front says so, and who it is told to endpoints.

mod inbound;
mod outbound;
mod programs;

use std::net::{IpAddr, SocketAddr};

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// A header of version 1.
fn v1(source: &str, destination: &str) -> Vec<u8> {
    let ends = [source, destination].map(|end| end.parse::<SocketAddr>().unwrap());
    let protocol = if ends[0].is_ipv4() { "TCP4" } else { "TCP6" };
    let ([from, to], [from_port, to_port]) = (ends.map(|it| it.ip()), ends.map(|it| it.port()));
    format!("PROXY {protocol} {from} {to} {from_port} {to_port}\r\n").into_bytes()
}

/// A header of version 2.
fn v2(source: &str, destination: &str) -> Vec<u8> {
    let ends = [source, destination].map(|end| end.parse::<SocketAddr>().unwrap());
    let mut block = Vec::new();
    for end in ends {
        match end.ip() {
            IpAddr::V4(ip) => block.extend(ip.octets()),
            IpAddr::V6(ip) => block.extend(ip.octets()),
        }
    }
    for end in ends {
        block.extend(end.port().to_be_bytes());
    }
    v2_of(if ends[0].is_ipv4() { 0x11 } else { 0x21 }, &block)
}

/// A header of version 2 of this family and protocol, and of this block.
fn v2_of(family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = LOCAL.to_vec();
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    header[12..].copy_from_slice(&[0x21, family, length[0], length[1]]);
    header.extend(block);
    header
}
