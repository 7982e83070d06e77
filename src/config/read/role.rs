//! Reads `role` of an upstream, and the keys of `health` by which an endpoint says that it is the authority.

use std::time::Duration;

use http::HeaderName;

use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Endpoint, Health, Mode, Probe, RoleSource};
use crate::units::AppVersion;

/// Whether one endpoint serves and no other. Holds the rest of the upstream against that.
pub(super) fn role(
    table: &mut Table<'_>,
    endpoints: Option<&[Endpoint]>,
    health: Option<&Health>,
) -> bool {
    let value = table.get("role");
    let words = [("clones", false), ("authoritative", true)];
    let is_authoritative = value
        .as_ref()
        .and_then(|value| value.one_of(&words, &[]))
        .unwrap_or(false);
    let says_role = health.is_some_and(|health| health.role.is_some());
    let Some(value) = value.filter(|_| is_authoritative) else {
        if says_role {
            table.report(
                "health.role_header needs role = \"authoritative\": of clones every one serves; set that, or leave it out",
            );
        }
        return false;
    };
    for key in WITHOUT_EFFECT {
        if let Some(other) = table.find(key) {
            other.source.report(
                other.key_place(),
                "has no effect with role = \"authoritative\": one endpoint serves and no other; leave it out",
            );
        }
    }
    let endpoints = endpoints.unwrap_or_default();
    if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.set.is_some()) {
        let (name, line) = (&endpoint.name, endpoint.place.line);
        table.report(format!(
            "endpoint {name:?} (line {line}) is in a set: of an authoritative upstream one endpoint serves, whatever set it is in; leave `set` out of each"
        ));
    }
    if let Some(backup) = endpoints.iter().find(|endpoint| endpoint.backup) {
        let (name, line) = (&backup.name, backup.place.line);
        table.report(format!(
            "endpoint {name:?} (line {line}) is a backup: who takes over from the authority says so itself; leave `backup` out"
        ));
    }
    let enabled = |endpoint: &&Endpoint| endpoint.mode != Some(Mode::Disabled);
    if !says_role && endpoints.iter().filter(enabled).count() > 1 {
        value.report(
            "needs to know which endpoint is the authority: set health = { role_header = \"X-Role\" } for a field in which checks are \
             told so, or state = \"disabled\" at every other endpoint",
        );
    }
    if !says_role && !endpoints.is_empty() && endpoints.iter().filter(enabled).count() == 0 {
        value.warn("every endpoint is disabled: nobody is the authority, and requests get 503");
    }
    true
}

/// What belongs to a choice among several.
const WITHOUT_EFFECT: [&str; 7] = [
    "policy",
    "hash",
    "affinity",
    "active_set",
    "spill_below",
    "slow_start",
    "min_available",
];

/// The keys of `health`, as they stand there.
pub(super) struct Keys<'a> {
    header: Option<Value<'a>>,
    role: Option<Value<'a>>,
    lifetime: Option<Value<'a>>,
}

/// Takes them.
pub(super) fn keys<'a>(table: &mut Table<'a>) -> Keys<'a> {
    Keys {
        header: table.get("role_header"),
        role: table.get("role_value"),
        lifetime: table.get("claim_ttl"),
    }
}

impl Keys<'_> {
    /// Where endpoints that are checked by `probe` say their role, if they are asked.
    pub(super) fn source(
        &self,
        probe: &Probe,
        (interval, timeout, fall): (Duration, Duration, u32),
    ) -> Option<RoleSource> {
        let Some(header) = &self.header else {
            for value in self.role.iter().chain(&self.lifetime) {
                let message = "needs `role_header`: the field in which an endpoint says its role";
                value.source.report(value.key_place(), message);
            }
            return None;
        };
        if *probe == Probe::Tcp {
            header.source.report(
                header.key_place(),
                "not for kind = \"tcp\": such a probe just connects",
            );
        }
        let what = "the name of a header field such as \"X-Role\"";
        let name = header.string_such_as(what)?;
        let name = HeaderName::from_bytes(name.as_bytes());
        let lifetime = self.lifetime.as_ref().and_then(Value::duration);
        // Probes come a tenth later than they should at most, and may take as long as they may.
        let round = |checks: u32| interval.mul_f64(1.2) * checks + timeout;
        if let (Some(lifetime), Some(value)) = (lifetime, &self.lifetime)
            && lifetime < round(1)
        {
            value.report(format!(
                "must be at least {:?}, or a claim lapses between one check and the next; got {lifetime:?}",
                round(1)
            ));
        }
        Some(RoleSource {
            header: name.ok().or_else(|| header.expected(what))?,
            authority: match &self.role {
                Some(value) => role_value(value)?,
                None => AUTHORITY.into(),
            },
            lifetime: lifetime.unwrap_or_else(|| round(fall)),
        })
    }
}

fn role_value(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.string_such_as("a role such as \"primary\"")?;
    let role = AppVersion::try_from(text.as_bytes());
    let role = value.noted(role.map_err(|why| format!("is no role: {why}")))?;
    Some(role.as_str().into())
}

const AUTHORITY: &str = "authority";
