//! Reads `[upstream.NAME]` with its endpoints and timeouts.

use std::collections::HashMap;
use std::time::Duration;

use super::{
    affinity, hash, health, host, limits, name, passive, pause, retry, role, sets, upstream_tls,
};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Budget, Endpoint, Hash, Mode, Policy, Retry, Upstream, UpstreamTimeouts};
use crate::message::proxy_protocol::Version;
use crate::units::{Name, Weight};

pub(super) fn upstream(entry: &Value<'_>) -> Option<Upstream> {
    entry.table(|table| {
        let endpoints = table
            .required("endpoints", "[\"127.0.0.1:8080\"]")
            .and_then(|value| endpoints(&value));
        let policy = table
            .get("policy")
            .map_or(Some(Policy::RoundRobin), |value| value.one_of(&Policy::WORDS, &[]));
        let hash = hash_of(table, policy);
        let policy = policy.unwrap_or(Policy::RoundRobin);
        let slow_start = slow_start(table, policy);
        let spill_below = spill_below(table, endpoints.as_deref());
        let active_set = sets::active(table, endpoints.as_deref());
        let http2 = table
            .get("protocol")
            .and_then(|value| value.one_of(&[("http/1.1", false), ("h2", true)], &[]))
            .unwrap_or(false);
        let tls = table
            .get("tls")
            .and_then(|value| value.table(upstream_tls::tls));
        let versions = [
            ("off", None),
            ("v1", Some(Version::V1)),
            ("v2", Some(Version::V2)),
        ];
        let proxy_protocol = table
            .get("proxy_protocol")
            .and_then(|value| value.one_of(&versions, &[]))
            .flatten();
        if http2 && proxy_protocol.is_some() {
            table.report(
                "proxy_protocol with protocol = \"h2\": a connection would carry requests of many clients, and the header names one; leave one of them out",
            );
        }
        let mut health = table
            .get("health")
            .and_then(|value| value.table(|table| health::health(table, http2)));
        let says_version = health.as_ref().is_some_and(|health| health.version.is_some());
        let passive = passive::passive(table.get("passive").as_ref());
        let min_available = table
            .get("min_available")
            .and_then(|value| passive::min_available(&value))
            .unwrap_or(passive::MIN_AVAILABLE);
        let timeouts = table
            .get("timeouts")
            .and_then(|value| value.table(timeouts))
            .unwrap_or(TIMEOUTS);
        let adaptive = table.get("adaptive");
        let queue = table
            .get("queue")
            .and_then(|value| limits::queue(&value, endpoints.as_deref(), adaptive.is_some()));
        let adaptive = adaptive
            .and_then(|value| limits::adaptive(&value, endpoints.as_deref(), &timeouts));
        let affinity = table
            .get("affinity")
            .and_then(|value| value.table(|table| affinity::affinity(table, says_version))?);
        let paused = table
            .get("state")
            .and_then(|value| value.one_of(&[("active", false), ("paused", true)], &[]))
            .unwrap_or(false);
        let pause = table
            .get("pause")
            .and_then(|value| value.table(pause::pause))
            .unwrap_or(pause::PAUSE);
        let (retry, budget) = table
            .get("retry")
            .and_then(|value| retry::upstream(&value, timeouts.response_head))
            .unwrap_or((Retry::DEFAULT, Budget::DEFAULT));
        let authoritative = role::role(table, endpoints.as_deref(), &mut health);
        Some(Upstream {
            name: entry.name.into(),
            policy,
            hash,
            // Who takes over has all of it at once.
            slow_start: if authoritative { Duration::ZERO } else { slow_start },
            spill_below,
            endpoints: endpoints?,
            authoritative,
            active_set,
            http2,
            tls,
            health,
            passive,
            min_available,
            timeouts,
            adaptive,
            queue,
            retry,
            budget,
            proxy_protocol,
            affinity,
            paused,
            pause,
            place: table.place(),
        })
    })?
}

/// `hash`. A contradiction without policy hash; where the policy is not known, nothing can be said.
fn hash_of(table: &mut Table<'_>, policy: Option<Policy>) -> Hash {
    let Some(value) = table.get("hash") else {
        return hash::DEFAULT;
    };
    if policy.is_some_and(|policy| policy != Policy::Hash) {
        value.source.report(
            value.key_place(),
            "only with policy = \"hash\"; set that, or leave this out",
        );
    }
    hash::hash(&value).unwrap_or(hash::DEFAULT)
}

fn slow_start(table: &mut Table<'_>, policy: Policy) -> Duration {
    let Some(value) = table.get("slow_start") else {
        return SLOW_START;
    };
    let slow_start = value.duration_or_zero().unwrap_or(SLOW_START);
    if slow_start > MAX_SLOW_START {
        return value.expected("at most 1h").unwrap_or(SLOW_START);
    }
    if policy == Policy::Hash && !slow_start.is_zero() {
        value.warn("policy hash has no slow start: keys would move with every step");
    }
    slow_start
}

/// `spill_below`, which needs some endpoint that is a backup; not every one may be.
fn spill_below(table: &mut Table<'_>, endpoints: Option<&[Endpoint]>) -> Option<f64> {
    let value = table.get("spill_below");
    let endpoints = endpoints.unwrap_or_default();
    let backups = endpoints.iter().filter(|endpoint| endpoint.backup).count();
    if backups > 0 && backups == endpoints.len() {
        table.report(
            "every endpoint is a backup; leave `backup` out at those that are to be used first",
        );
    }
    let value = value?;
    if backups == 0 && !endpoints.is_empty() {
        value.source.report(
            value.key_place(),
            "no endpoint is a backup; give one backup = true, or leave this out",
        );
    }
    match value.number()? {
        share if share > 0.0 && share <= 1.0 => Some(share),
        _ => value.expected("above 0 and at most 1, a share of the endpoints that are no backups"),
    }
}

fn endpoints(value: &Value<'_>) -> Option<Vec<Endpoint>> {
    let elements = value.non_empty_array(
        "an array such as [\"127.0.0.1:8080\"]",
        "; an upstream needs one endpoint",
    )?;
    let (mut addresses, mut names) = (HashMap::new(), HashMap::new());
    let mut endpoints = Vec::new();
    for element in &elements {
        let Some(endpoint) = endpoint(element) else {
            continue;
        };
        let line = endpoint.place.line;
        let same_address = addresses.insert(endpoint.address.clone(), line);
        let same_name = names.insert(endpoint.name.clone(), line);
        if let Some(line) = same_address {
            let address = &endpoint.address;
            element.report(format!("address {address} is there already (line {line})"));
        } else if let Some(line) = same_name {
            let name = &endpoint.name;
            element.report(format!("name {name:?} is taken (line {line})"));
        }
        endpoints.push(endpoint);
    }
    Some(endpoints)
}

/// `"host:port"`, or a table with `address`.
fn endpoint(value: &Value<'_>) -> Option<Endpoint> {
    if let Some(text) = value.value.as_str() {
        let address = value.noted(host::address(text))?;
        return Some(Endpoint {
            name: text.into(),
            address,
            weight: Weight::ONE,
            max_in_flight: None,
            backup: false,
            set: None,
            mode: None,
            place: value.place(),
        });
    }
    if !value.value.is_table() {
        return value.expected(
            "\"host:port\" or a table such as { address = \"127.0.0.1:8080\", weight = 2 }",
        );
    }
    value.table(|table| {
        let address = table.required("address", "\"127.0.0.1:8080\"");
        let written = address
            .as_ref()
            .and_then(|value| value.string_such_as("host:port such as \"127.0.0.1:8080\""));
        let address = address
            .as_ref()
            .zip(written)
            .and_then(|(value, text)| value.noted(host::address(text)));
        let explicit: Option<Name> = table
            .get("name")
            .and_then(|value| value.noted(name::valid(value.string()?)));
        let weight = table
            .get("weight")
            .and_then(|value| weight(&value))
            .unwrap_or(Weight::ONE);
        let modes = [
            ("active", Mode::Active),
            ("draining", Mode::Draining),
            ("disabled", Mode::Disabled),
        ];
        let mode = table
            .get("state")
            .and_then(|value| value.one_of(&modes, &[]));
        let max_in_flight = table
            .get("max_in_flight")
            .and_then(|value| limits::count(&value));
        let backup = table
            .get("backup")
            .and_then(|value| value.bool())
            .unwrap_or(false);
        let set = match table.get("set") {
            Some(value) => Some(sets::set(&value)?),
            None => None,
        };
        let name = explicit.or_else(|| written.map(Name::from))?;
        Some(Endpoint {
            name,
            address: address?,
            weight,
            max_in_flight,
            backup,
            set,
            mode,
            place: table.place(),
        })
    })?
}

fn weight(value: &Value<'_>) -> Option<Weight> {
    let number = value.integer(1..=i64::from(Weight::MAX))?;
    value.noted(Weight::try_from(number).map_err(|error| error.to_string()))
}

fn timeouts(table: &mut Table<'_>) -> UpstreamTimeouts {
    let mut read = |key, default| {
        table
            .get(key)
            .and_then(|value| value.duration())
            .unwrap_or(default)
    };
    UpstreamTimeouts {
        connect: read("connect", TIMEOUTS.connect),
        response_head: read("response_head", TIMEOUTS.response_head),
        stream_idle: read("stream_idle", TIMEOUTS.stream_idle),
        tunnel_idle: read("tunnel_idle", TIMEOUTS.tunnel_idle),
        pool_idle: read("pool_idle", TIMEOUTS.pool_idle),
        max_age: read("max_age", TIMEOUTS.max_age),
    }
}

const SLOW_START: Duration = Duration::from_secs(30);
const MAX_SLOW_START: Duration = Duration::from_secs(3600); // longer is a mistake of units

const TIMEOUTS: UpstreamTimeouts = UpstreamTimeouts {
    connect: Duration::from_secs(2),
    response_head: Duration::from_secs(60),
    stream_idle: Duration::from_secs(60),
    tunnel_idle: Duration::from_secs(3600),
    pool_idle: Duration::from_secs(4),
    max_age: Duration::from_secs(3600),
};
