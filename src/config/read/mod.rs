//! From the tree to the meaning: which keys there are, what they may hold, and their defaults.
//! Reads on after a problem, so that all of them are known at once. Touches no file and no socket.

mod access_log;
mod action;
mod affinity;
mod auto_rollback;
mod changes;
mod cookie;
mod error_pages;
mod hash;
mod header;
mod health;
mod hedge;
mod host;
mod hsts;
mod limits;
mod listener;
mod mirror;
mod name;
mod passive;
mod path;
mod pause;
pub(super) mod process;
mod retry;
mod rewrite;
mod role;
mod route;
mod sets;
mod split;
mod tls;
mod tracing;
mod upstream;
mod upstream_tls;
mod writes;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::file::{Source, Table};
use super::suggest::hint;
use super::value::{Value, listed};
use super::{Config, Listener, Retry, Upstream};
use crate::units::Name;

/// Reads the whole file. Without problems noted, the result is valid; with some, it is only a part.
pub(super) fn config(source: &Source<'_>, root: &mut Table<'_>) -> Config {
    let process = root
        .get("process")
        .and_then(|table| table.table(process::process))
        .unwrap_or_else(process::process_default);
    let log = root
        .get("log")
        .and_then(|table| table.table(process::log))
        .unwrap_or(process::LOG);
    let access_log = access_log::access_log(root);
    let tracing = tracing::tracing(root);
    let admin = process::admin(root);
    let error_pages = error_pages::error_pages(root);

    let listener_entries = named(
        root.get("listener"),
        "a table of listeners: [listener.NAME]",
    );
    let upstream_entries = named(
        root.get("upstream"),
        "a table of upstreams: [upstream.NAME]",
    );
    if listener_entries.is_empty() {
        root.report(
            "needs at least one listener: [listener.NAME] with an address such as \"0.0.0.0:8080\"",
        );
    }
    let listeners: Vec<_> = listener_entries
        .iter()
        .filter_map(listener::listener)
        .collect();
    report_same_addresses(source, &listeners, admin.address, &admin.place);
    let upstreams: Vec<Upstream> = upstream_entries
        .iter()
        .filter_map(upstream::upstream)
        .collect();

    let read: HashMap<&str, &Upstream> = upstreams.iter().map(|it| (&*it.name, it)).collect();
    let declared = Declared {
        listeners: Names::of(&listener_entries),
        upstreams: Names::of(&upstream_entries),
        authoritative: upstreams
            .iter()
            .filter(|upstream| upstream.authoritative)
            .map(|upstream| Name::clone(&upstream.name))
            .collect(),
        http2: upstreams
            .iter()
            .filter(|upstream| upstream.http2)
            .map(|upstream| Name::clone(&upstream.name))
            .collect(),
        retries: upstream_entries
            .iter()
            .map(|entry| {
                let read = read.get(entry.name)?;
                Some((read.retry.clone(), read.timeouts.response_head))
            })
            .collect(),
    };
    let routes = route::routes(root, &declared);
    // Routes know upstreams by their place among all that are declared.
    if upstreams.len() == declared.upstreams.0.len() {
        limits::report_long_waits(source, &upstreams, &routes);
    }
    Config {
        process,
        log,
        access_log,
        tracing,
        admin,
        error_pages,
        listeners,
        upstreams,
        routes,
        warnings: Vec::new(),
        text: super::Text(source.text().into()),
    }
}

/// The names a route may refer to, in file order.
struct Declared {
    listeners: Names,
    upstreams: Names,
    /// Those of them of which one endpoint serves, and no other.
    authoritative: HashSet<Name>,
    /// Those of them whose endpoints speak HTTP/2.
    http2: HashSet<Name>,
    /// How upstreams say that requests are sent again, and their `response_head`; `None` where one could not be read.
    retries: Vec<Option<(Retry, Duration)>>,
}

/// Names in file order, each with its index: thousands of routes may refer to thousands of them.
struct Names(Vec<Name>, HashMap<Name, usize>);

impl Names {
    fn of(entries: &[Value<'_>]) -> Self {
        let names: Vec<_> = entries.iter().map(|it| Name::from(it.name)).collect();
        let indices = names.iter().cloned().zip(0..).collect();
        Self(names, indices)
    }
}

/// The index of the name `value` holds among `names`, which are of `kind`s.
fn reference(value: &Value<'_>, kind: &str, names: &Names) -> Option<usize> {
    let article = if kind == "upstream" { "an" } else { "a" };
    let name = value.string_such_as(&format!("the name of {article} {kind}"))?;
    let Names(names, indices) = names;
    let index = indices.get(name).copied();
    if index.is_none() {
        let hint = hint(name, names.iter().map(|name| &**name));
        let known = match names.len() {
            0 => format!("; there is no [{kind}.NAME]"),
            1..=8 if hint.is_empty() => format!(
                "; there is {}",
                listed(names.iter().map(|name| &**name)).replace(" or ", " and ")
            ),
            _ => hint,
        };
        value.report(format!("no {kind} is named {value}{known}"));
    }
    index
}

/// The tables under `[listener]` or `[upstream]`, their names checked.
fn named<'a>(parent: Option<Value<'a>>, what: &str) -> Vec<Value<'a>> {
    let entries = parent
        .map(|parent| parent.entries(what))
        .unwrap_or_default();
    for entry in &entries {
        if let Err(message) = name::valid(entry.name) {
            entry.source.report(entry.key_place(), message);
        }
    }
    entries
}

/// Two listeners, or a listener and `[admin]`, on one address.
fn report_same_addresses(
    source: &Source<'_>,
    listeners: &[Listener],
    admin: SocketAddr,
    admin_place: &super::Place,
) {
    let listeners = listeners
        .iter()
        .map(|listener| (listener.address, &listener.place));
    let mut seen: Vec<(SocketAddr, &super::Place)> = Vec::new();
    for (address, place) in listeners.chain([(admin, admin_place)]) {
        if address.port() == 0 {
            continue;
        }
        match seen.iter().find(|(other, _)| *other == address) {
            Some((_, other)) => {
                let key = if other.key.is_empty() {
                    "admin.address"
                } else {
                    &*other.key
                };
                source.report(
                    place.clone(),
                    format!("{address} is taken by {key} (line {})", other.line),
                );
            }
            None => seen.push((address, place)),
        }
    }
}

/// An IP address and port.
fn socket_address(value: &Value<'_>) -> Option<SocketAddr> {
    let what = "an IP address and port such as \"0.0.0.0:8080\" or \"[::]:8080\"";
    let text = value.string_such_as(what)?;
    text.parse().ok().or_else(|| value.expected(what))
}
