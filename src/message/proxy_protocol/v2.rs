//! Version 2: binary, with a length, and with values of any type behind the addresses (§2.2).

use std::net::{IpAddr, SocketAddr};

use super::checksum::Crc32c;
use super::{Addresses, Header, Invalid, begins_with};

/// Room for values: clients' certificates are the largest that are sent. The protocol would allow 64 KiB.
const LONGEST_BLOCK: usize = 4096;
pub(super) const LONGEST: usize = FIXED + LONGEST_BLOCK;

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version with command, family with protocol, length.
const FIXED: usize = 16;

/// `None`: incomplete. Nothing is looked at before what stands in front of it, so that it makes no difference how many
/// bytes come at once.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Invalid> {
    if !begins_with(bytes, SIGNATURE) {
        return Err(Invalid::Signature);
    }
    let Some(&version_and_command) = bytes.get(12) else {
        return Ok(None);
    };
    if version_and_command >> 4 != 2 {
        return Err(Invalid::Version);
    }
    let is_local = match version_and_command & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(Invalid::Command),
    };
    let Some(&family_and_protocol) = bytes.get(13) else {
        return Ok(None);
    };
    let family = match family_and_protocol {
        // §2.2: of a LOCAL header everything but its length is ignored.
        _ if is_local => Family::Other,
        0x11 => Family::Tcp4,
        0x21 => Family::Tcp6,
        // Unspecified, UDP and UNIX sockets: defined, of no use here, and so as if unspecified.
        other if other >> 4 <= 3 && other & 0x0f <= 2 => Family::Other,
        _ => return Err(Invalid::Family),
    };
    let Some(&[high, low]) = bytes.get(14..).and_then(|rest| rest.first_chunk::<2>()) else {
        return Ok(None);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Invalid::TooLong);
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(None);
    };
    let addresses = match family {
        Family::Tcp4 => Some(addresses::<4>(header)?),
        Family::Tcp6 => Some(addresses::<16>(header)?),
        // Where its values begin is not known.
        Family::Other => None,
    };
    Ok(Some(Header { addresses, length }))
}

enum Family {
    Tcp4,
    Tcp6,
    Other,
}

/// The addresses, of `N` bytes each, of a header whose values are sound.
fn addresses<const N: usize>(header: &[u8]) -> Result<Addresses, Invalid>
where
    IpAddr: From<[u8; N]>,
{
    let block = header.get(FIXED..).unwrap_or_default();
    let read = || {
        let (source, rest) = block.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (source_port, rest) = rest.split_first_chunk()?;
        let (destination_port, values) = rest.split_first_chunk()?;
        let end = |ip: &[u8; N], port: &[u8; 2]| {
            SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port))
        };
        let addresses = Addresses {
            source: end(source, source_port),
            destination: end(destination, destination_port),
        };
        Some((addresses, values))
    };
    let (addresses, values) = read().ok_or(Invalid::Addresses)?;
    verify(header, values)?;
    Ok(addresses)
}

/// Goes through the `values`, which end the `header`, and checks it against the checksum among them, if there is one (§2.2.3).
/// All others are none of our business.
fn verify(header: &[u8], values: &[u8]) -> Result<(), Invalid> {
    let (mut rest, mut checksum) = (values, None);
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk().ok_or(Invalid::Values)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or(Invalid::Values)?;
        if *kind == CRC32C {
            let value: [u8; 4] = value.try_into().map_err(|_| Invalid::Values)?;
            let at = header.len() - after.len() - value.len();
            if checksum.replace((at, u32::from_be_bytes(value))).is_some() {
                return Err(Invalid::Values);
            }
        }
        rest = after;
    }
    let Some((at, expected)) = checksum else {
        return Ok(());
    };
    let (before, after) = (&header[..at], &header[at + 4..]);
    let found = Crc32c::new().over(before).over(&[0; 4]).over(after);
    if found.value() == expected {
        Ok(())
    } else {
        Err(Invalid::Checksum)
    }
}

const CRC32C: u8 = 3;
