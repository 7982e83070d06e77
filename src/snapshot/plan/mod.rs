//! What taking a configuration over would change against the one in use. Compares; changes nothing.

pub mod consequences;
mod file;
mod held;
pub mod restart;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::Snapshot;
use crate::config::{Config, Difference, Mode, PathPattern, differences};
use crate::upstream::{Endpoint, EndpointId};
use file::File;
use restart::Started;
use serving::Serving;

/// What would change.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// The generation in use.
    pub generation: u64,
    /// Listeners, by name.
    pub listeners: Vec<Item>,
    /// Upstreams, without their endpoints.
    pub upstreams: Vec<Item>,
    /// Endpoints.
    pub endpoints: Vec<EndpointItem>,
    /// Routes.
    pub routes: Vec<Item>,
    /// All that belongs to none of these.
    pub settings: Vec<Difference>,
    /// Files that the file names, and that hold something else than what is in use.
    pub files: Vec<String>,
    /// Of all endpoints together.
    pub counts: Counts,
    /// What an operator has set and the file does not: it stays.
    pub by_operator: Vec<ByOperator>,
    /// Sets that an operator has let serve and the file does not: they stay, as long as the file names the same as before.
    #[serde(default)]
    pub sets_by_operator: Vec<SetByOperator>,
    /// Settings that need a restart: those that are not as the process was started.
    pub restart: Vec<Difference>,
    /// What is doubtful about the file.
    pub warnings: Vec<String>,
}

/// Something that changes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// How.
    pub change: Change,
    /// Where it stays: what is different.
    pub what: Vec<Difference>,
}

/// An endpoint that changes. One that is reached in another way is a new one under an old name: it is removed and added.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EndpointItem {
    /// Its upstream.
    pub upstream: String,
    /// Its name.
    pub endpoint: String,
    /// How.
    pub change: Change,
    /// Where it stays: what is different.
    pub what: Vec<Difference>,
    /// Requests in flight, which may finish; tunnels among them.
    pub in_flight: u32,
    /// Tunnels.
    pub tunnels: i64,
}

/// How something changes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone; an endpoint finishes what it has.
    Removed,
    /// It stays, and something of it is different.
    Changed,
}

/// A mode that an operator has set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ByOperator {
    /// Of the endpoint's upstream.
    pub upstream: String,
    /// The endpoint.
    pub endpoint: String,
    /// The mode.
    pub mode: String,
}

/// A set that an operator has let serve.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SetByOperator {
    /// Of this upstream.
    pub upstream: String,
    /// The set.
    pub set: String,
    /// The one that the file names.
    pub file: String,
}

/// What becomes of endpoints, in numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// That stay.
    pub kept: usize,
    /// That are new.
    pub added: usize,
    /// That are gone.
    pub removed: usize,
    /// Requests in flight on those that stay.
    pub in_flight: u32,
}

/// A configuration and what was compiled of it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// With the modes that operators have set.
    pub config: &'a Config,
    /// Compiled, the later one with the earlier in mind.
    pub snapshot: &'a Snapshot,
}

impl Counts {
    /// From one snapshot to the next.
    pub fn between(previous: &Snapshot, next: &Snapshot) -> Self {
        let ids = |snapshot| -> HashSet<EndpointId> {
            endpoints(snapshot).map(|endpoint| endpoint.id()).collect()
        };
        let (before, after) = (ids(previous), ids(next));
        let kept = before.intersection(&after).count();
        let stays = |endpoint: &&Arc<Endpoint>| before.contains(&endpoint.id());
        Self {
            kept,
            added: after.len() - kept,
            removed: before.len() - kept,
            in_flight: endpoints(next)
                .filter(stays)
                .map(|endpoint| endpoint.in_flight())
                .sum(),
        }
    }
}

impl Plan {
    /// From what is in use to what would be, in a process that was `started` so.
    pub fn between(started: &Started, running: Side<'_>, next: Side<'_>) -> Self {
        let (before, after) = (File::of(running.config), File::of(next.config));
        let mut settings = differences(&before.rest(), &after.rest());
        settings.extend(reordered(running.config, next.config));
        let restart = started.needs_restart(next.config);
        Self {
            generation: running.snapshot.generation,
            listeners: items(before.named("listener", &[]), after.named("listener", &[])),
            upstreams: upstream_items((running, &before), (next, &after)),
            endpoints: endpoint_items((running, &before), (next, &after)),
            routes: items(before.routes(running.config), after.routes(next.config)),
            settings,
            files: Vec::new(),
            counts: Counts::between(running.snapshot, next.snapshot),
            by_operator: Vec::new(),
            sets_by_operator: Vec::new(),
            restart,
            warnings: Vec::new(),
        }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        let Self {
            generation: _,
            listeners,
            upstreams,
            endpoints,
            routes,
            settings,
            files,
            counts: _,
            by_operator: _,
            sets_by_operator: _,
            restart: _,
            warnings: _,
        } = self;
        listeners.is_empty()
            && upstreams.is_empty()
            && endpoints.is_empty()
            && routes.is_empty()
            && settings.is_empty()
            && files.is_empty()
    }
}

fn items(before: Vec<(String, Table)>, after: Vec<(String, Table)>) -> Vec<Item> {
    let item = |name: &str, change, what| Item {
        name: name.to_owned(),
        change,
        what,
    };
    let known: HashMap<&str, &Table> = tables(&before);
    let still: HashMap<&str, &Table> = tables(&after);
    let gone = before
        .iter()
        .filter(|(name, _)| !still.contains_key(name.as_str()))
        .map(|(name, _)| item(name, Change::Removed, Vec::new()));
    let others = after.iter().filter_map(|(name, table)| {
        let Some(before) = known.get(name.as_str()) else {
            return Some(item(name, Change::Added, Vec::new()));
        };
        let what = differences(before, table);
        (!what.is_empty()).then(|| item(name, Change::Changed, what))
    });
    gone.chain(others).collect()
}

fn tables(named: &[(String, Table)]) -> HashMap<&str, &Table> {
    let named = named.iter();
    named.map(|(name, table)| (name.as_str(), table)).collect()
}

fn upstream_items(
    (running, before): (Side<'_>, &File),
    (next, after): (Side<'_>, &File),
) -> Vec<Item> {
    let mut items = items(
        before.named("upstream", &["endpoints"]),
        after.named("upstream", &["endpoints"]),
    );
    // Which set serves is more than the file says.
    for serving in Serving::between(running.snapshot, next) {
        let what = serving.differences();
        match items.iter_mut().find(|it| *it.name == *serving.upstream) {
            Some(item) => item.what.extend(what),
            None => items.push(Item {
                name: serving.upstream.to_string(),
                change: Change::Changed,
                what,
            }),
        }
    }
    items
}

fn endpoint_items(
    (running, before): (Side<'_>, &File),
    (next, after): (Side<'_>, &File),
) -> Vec<EndpointItem> {
    let item = |endpoint: &Endpoint, change, what| EndpointItem {
        upstream: endpoint.upstream().to_string(),
        endpoint: endpoint.name().to_string(),
        change,
        what,
        in_flight: endpoint.in_flight(),
        tunnels: endpoint.metrics.tunnels.get(),
    };
    let known: HashMap<EndpointId, Entry<'_>> = entries(running).collect();
    let still: HashMap<EndpointId, Entry<'_>> = entries(next).collect();
    let mut items: Vec<_> = endpoints(running.snapshot)
        .filter(|endpoint| !still.contains_key(&endpoint.id()))
        .map(|endpoint| item(endpoint, Change::Removed, Vec::new()))
        .collect();
    for endpoint in endpoints(next.snapshot) {
        let (Some(was), Some(is)) = (known.get(&endpoint.id()), still.get(&endpoint.id())) else {
            items.push(item(endpoint, Change::Added, Vec::new()));
            continue;
        };
        let mut what = differences(
            &before.endpoint(was.upstream, was.index),
            &after.endpoint(is.upstream, is.index),
        );
        // A mode is the endpoint's own: whoever has set it, it is what it is.
        let (mode, wanted) = (endpoint.state().mode, is.mode.unwrap_or(Mode::Active));
        if mode != wanted {
            what.push(Difference::new("state", mode.as_str(), wanted.as_str()));
        }
        if !what.is_empty() {
            items.push(item(endpoint, Change::Changed, what));
        }
    }
    items
}

/// Where an endpoint stands in its file.
struct Entry<'a> {
    upstream: &'a str,
    index: usize,
    mode: Option<Mode>,
}

fn entries(side: Side<'_>) -> impl Iterator<Item = (EndpointId, Entry<'_>)> {
    let upstreams = side.snapshot.upstreams.iter().zip(&side.config.upstreams);
    upstreams.flat_map(|(upstream, configured)| {
        let endpoints = upstream.endpoints.iter().zip(&configured.endpoints);
        endpoints
            .enumerate()
            .map(|(index, (endpoint, configured))| {
                let entry = Entry {
                    upstream: &upstream.name,
                    index,
                    mode: configured.mode,
                };
                (endpoint.id(), entry)
            })
    })
}

fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let upstreams = snapshot.upstreams.iter();
    upstreams.flat_map(|upstream| &upstream.endpoints)
}

/// Order counts among regular expressions only.
fn reordered(before: &Config, after: &Config) -> Option<Difference> {
    let names = |config: &Config, other: &Config| -> Vec<String> {
        let is_shared = |name: &str| other.routes.iter().any(|route| *route.name == *name);
        config
            .routes
            .iter()
            .filter(|route| matches!(route.path, PathPattern::Regex { .. }))
            .filter(|route| is_shared(&route.name))
            .map(|route| route.name.to_string())
            .collect()
    };
    let (was, is) = (names(before, after), names(after, before));
    let is_moved = was.len() == is.len() && was != is;
    is_moved.then(|| Difference::new("order of path_regex", was.join(", "), is.join(", ")))
}
