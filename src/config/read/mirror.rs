//! Reads `mirror` of a route.

use std::time::Duration;

use super::{Declared, reference, route};
use crate::config::Mirror;
use crate::config::file::Table;
use crate::units::ByteSize;

pub(super) fn mirror(table: &mut Table<'_>, declared: &Declared) -> Option<Mirror> {
    let upstream = table
        .required("upstream", "\"shadow\"")
        .and_then(|value| reference(&value, "upstream", &declared.upstreams));
    let percent = table.get("percent").and_then(|value| {
        let percent = value.number()?;
        if percent > 0.0 && percent <= 100.0 {
            Some(percent)
        } else {
            value.expected("above 0 and at most 100")
        }
    });
    let body_bytes = table.get("body_bytes").and_then(|value| {
        let size = value.size()?;
        if size.get() > LARGEST {
            return value.expected("at most \"16MiB\": it is kept in memory, for every request");
        }
        Some(size)
    });
    let methods = table
        .get("methods")
        .and_then(|value| route::methods(&value));
    let timeout = table.get("timeout").and_then(|value| value.duration());
    Some(Mirror {
        upstream: upstream?,
        percent: percent.unwrap_or(100.0),
        body_bytes: body_bytes.unwrap_or(BODY_BYTES),
        methods,
        timeout: timeout.unwrap_or(TIMEOUT),
        place: table.place(),
    })
}

/// As for bodies that are kept for a retry.
const LARGEST: u64 = 16 << 20;
const BODY_BYTES: ByteSize = ByteSize::kibibytes(64);
const TIMEOUT: Duration = Duration::from_secs(10);
