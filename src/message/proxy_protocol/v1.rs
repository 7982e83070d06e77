//! Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, CR, LF (§2.1). Read as strictly as it is specified.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, Invalid, begins_with};

/// §2.1: `PROXY UNKNOWN` with two of the longest addresses and ports, CR and LF included.
const LONGEST: usize = 107;
const PREFIX: &[u8] = b"PROXY ";

/// `None`: incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Invalid> {
    if !begins_with(bytes, PREFIX) {
        return Err(Invalid::Signature);
    }
    let within = bytes.get(..LONGEST).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if within.len() < LONGEST {
            Ok(None)
        } else {
            Err(Invalid::TooLong)
        };
    };
    let addresses = line(&within[..end])?;
    let length = end + 2;
    Ok(Some(Header { addresses, length }))
}

fn line(line: &[u8]) -> Result<Option<Addresses>, Invalid> {
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let address: fn(&str) -> Option<IpAddr> = match words.next() {
        Some(b"TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some(b"TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        // §2.1: whatever else the line says is ignored.
        Some(b"UNKNOWN") => return Ok(None),
        Some(_) | None => return Err(Invalid::Line),
    };
    let mut word = || {
        let word = words.next().ok_or(Invalid::Line)?;
        str::from_utf8(word).map_err(|_| Invalid::Line)
    };
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if word().is_ok() {
        return Err(Invalid::Line);
    }
    let end = |ip: &str, at: &str| {
        let end = address(ip).zip(port(at)).map(SocketAddr::from);
        end.ok_or(Invalid::Line)
    };
    Ok(Some(Addresses {
        source: end(source, source_port)?,
        destination: end(destination, destination_port)?,
    }))
}

/// Decimal digits only, and no zero before others: nobody shall read it as octal.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeroes = text.len() > 1 && text.starts_with('0');
    (is_plain && !has_zeroes)
        .then(|| text.parse().ok())
        .flatten()
}
