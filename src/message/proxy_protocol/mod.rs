//! PROXY protocol headers, versions 1 and 2: for whom a proxy in front has opened a connection. Read and written without I/O.
//!
//! Sections are those of HAProxy's `doc/proxy-protocol.txt`, which defines the protocol.

mod checksum;
mod encode;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use encode::encode;

/// No header that is taken is longer, in bytes.
pub const LONGEST: usize = v2::LONGEST;

/// How a header is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// A line of text (§2.1).
    V1,
    /// Binary (§2.2).
    V2,
}

/// Both ends of a connection that a proxy passes on, as they were at the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// Who connected.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

/// A whole, valid header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// What it says. `None`: the proxy speaks for itself (LOCAL) or of something other than TCP (UNKNOWN, UNSPEC, UDP, UNIX);
    /// then the connection is taken for what it is (§2.1, §2.2).
    pub addresses: Option<Addresses>,
    /// Its length in bytes. What follows is not its.
    pub length: usize,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// The beginning of a header: all of them belong to it, and at least one more.
    Incomplete,
    /// A header, and maybe more.
    Header(Header),
    /// No header, whatever follows.
    Invalid(Invalid),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Another protocol.
    #[error("no PROXY protocol header")]
    Signature,
    /// Version 1: not a line of `PROXY`, protocol, addresses and ports.
    #[error("malformed line")]
    Line,
    /// Version 1: more than 107 bytes. Version 2: more than [`LONGEST`].
    #[error("too long")]
    TooLong,
    /// The binary form, but not of version 2.
    #[error("unknown version")]
    Version,
    /// Neither LOCAL nor PROXY.
    #[error("unknown command")]
    Command,
    /// A family or protocol that is not defined.
    #[error("unknown address family or protocol")]
    Family,
    /// Shorter than its addresses.
    #[error("too short for its addresses")]
    Addresses,
    /// What follows the addresses is not a list of types, lengths and values.
    #[error("malformed type-length-value")]
    Values,
    /// Its CRC32C is another.
    #[error("wrong checksum")]
    Checksum,
}

/// Reads the header that `bytes`, the first of a connection, begin with.
///
/// The answer to more bytes differs only where the one to fewer was [`Parsed::Incomplete`], which it never is from
/// [`LONGEST`] bytes on.
pub fn parse(bytes: &[u8]) -> Parsed {
    let parsed = match bytes.first() {
        None => return Parsed::Incomplete,
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(_) => Err(Invalid::Signature),
    };
    match parsed {
        Ok(Some(header)) => Parsed::Header(header),
        Ok(None) => Parsed::Incomplete,
        Err(invalid) => Parsed::Invalid(invalid),
    }
}

/// Whether `bytes` begin with `prefix`, as far as they go.
fn begins_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .iter()
        .zip(prefix)
        .all(|(byte, expected)| byte == expected)
}
