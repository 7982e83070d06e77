//! Reads `hsts` of a listener.

use std::time::Duration;

use crate::config::Hsts;
use crate::config::value::Value;

/// What clients are told. `None` where there is a problem.
pub(super) fn hsts(value: &Value<'_>, has_tls: bool) -> Option<Hsts> {
    if !has_tls {
        value.source.report(
            value.key_place(),
            "only with tls: clients take it over https alone, and it must not be sent otherwise (RFC 6797 §7.2)",
        );
    }
    value.table(|table| {
        let max_age = match table.get("max_age") {
            Some(value) => {
                let max_age = value.duration_or_zero()?;
                if max_age.subsec_nanos() > 0 {
                    return value.expected("whole seconds");
                }
                max_age
            }
            None => YEAR,
        };
        let mut flag = |key| table.get(key).and_then(|value| value.bool());
        let include_subdomains = flag("include_subdomains").unwrap_or(false);
        let preload = flag("preload").unwrap_or(false);
        if preload && !(include_subdomains && max_age >= YEAR) {
            value.warn("lists of preloaded domains ask for include_subdomains = true and a max_age of a year (\"8760h\"), too");
        }
        Some(Hsts {
            max_age,
            include_subdomains,
            preload,
        })
    })?
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
