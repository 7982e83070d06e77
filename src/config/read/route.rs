//! Reads `[[route]]`: matchers and names. Whether two routes can be told apart is the router's question.

use std::collections::{HashMap, HashSet};

use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};

use super::action::action;
use super::changes::{Direction, changes};
use super::hedge::{self, hedge};
use super::mirror::mirror;
use super::rewrite::rewrite;
use super::{Declared, cookie, header, host, limits, name, path, reference, retry};
use crate::config::file::Table;
use crate::config::suggest::hint;
use crate::config::value::Value;
use crate::config::{Action, HostPattern, MethodSet, Mirror, PathPattern, Route};
use crate::message::upgrade;
use crate::units::Name;

pub(super) fn routes(root: &mut Table<'_>, declared: &Declared) -> Vec<Route> {
    let Some(elements) = root
        .get("route")
        .and_then(|value| value.array("an array of tables: [[route]]"))
    else {
        return Vec::new();
    };
    let mut names = Names::default();
    // Given names first: a derived one then avoids them all.
    let given: Vec<_> = elements
        .iter()
        .map(|element| names.given(element))
        .collect();
    let read = |(element, given): (&Value<'_>, Option<Name>)| {
        let mut route = element.table(|table| route(table, declared))??;
        let derived = || name::derived(&route.hosts, &route.path, route.methods.as_ref());
        route.name = given.unwrap_or_else(|| name::unique(derived(), &mut names.taken));
        Some(route)
    };
    elements.iter().zip(given).filter_map(read).collect()
}

#[derive(Default)]
struct Names {
    taken: HashSet<Name>,
    lines: HashMap<Name, u32>,
}

impl Names {
    /// The name the file gives a route, if any.
    fn given(&mut self, route: &Value<'_>) -> Option<Name> {
        let table = route.value.as_table()?;
        let entry = crate::config::file::entries(route.source, table, &route.key)
            .into_iter()
            .find(|entry| entry.name == "name")?;
        let name = entry.noted(name::valid(entry.string()?))?;
        if let Some(line) = self.lines.get(&name) {
            entry.report(format!(
                "{entry} is the name of another route (line {line})"
            ));
        } else {
            self.lines.insert(name.clone(), entry.place().line);
        }
        self.taken.insert(name.clone());
        Some(name)
    }
}

/// A route, still without a name.
fn route(table: &mut Table<'_>, declared: &Declared) -> Option<Route> {
    table.get("name");
    let listeners = table
        .get("listeners")
        .and_then(|value| listeners(&value, declared));
    let hosts = table
        .get("hosts")
        .and_then(|value| hosts(&value))
        .unwrap_or_default();
    let (path, is_regex) = path_pattern(table);
    let methods = table.get("methods").and_then(|value| methods(&value));
    let headers = table
        .get("headers")
        .map(|value| header::to_match(&value))
        .unwrap_or_default();
    let cookies = table
        .get("cookies")
        .map(|value| cookie::to_match(&value))
        .unwrap_or_default();
    let exclusive = table.get("exclusive").and_then(|value| {
        let exclusive = value.bool()?;
        if exclusive && is_regex {
            value.report(
                "only with `path` or `path_exact`: what a regex takes cannot be known in advance",
            );
        }
        Some(exclusive)
    });
    let action = action(table, declared);
    let upgrades = table.get("upgrades").and_then(|value| {
        if matches!(action, Some(Action::Redirect(_) | Action::Respond(_))) {
            value.report("only with `upstream`: nobody else can change protocols");
        }
        let upgrades = upgrades(&value)?;
        let mut upstreams = action
            .iter()
            .flat_map(Action::upstreams)
            .map(|index| &declared.upstreams.0[index]);
        if let Some(upstream) = upstreams.find(|upstream| declared.http2.contains(*upstream))
            && !upgrades.is_empty()
        {
            value.warn(format!(
                "does nothing: endpoints of the upstream {upstream:?} speak HTTP/2 and are not asked for tunnels; \
                 write [], or let an upstream with `protocol = \"http/1.1\"` have this route"
            ));
        }
        Some(upgrades)
    });
    let rewrite = table.get("rewrite").and_then(|value| {
        only_with_upstream(&value, action.as_ref());
        rewrite(&value, path.as_ref())
    });
    let request_headers = table.get("request_headers").and_then(|value| {
        only_with_upstream(&value, action.as_ref());
        changes(&value, Direction::Request)
    });
    let response_headers = table
        .get("response_headers")
        .and_then(|value| changes(&value, Direction::Response));
    let timeouts = table.get("timeouts").and_then(|value| {
        only_with_upstream(&value, action.as_ref());
        value.table(limits::route_timeouts)
    });
    let limits = table
        .get("limits")
        .and_then(|value| value.table(limits::route_limits));
    let mirror = table.get("mirror").and_then(|value| {
        only_with_upstream(&value, action.as_ref());
        value.table(|table| mirror(table, declared))?
    });
    let retry = table.get("retry").and_then(|value| {
        only_with_upstream(&value, action.as_ref());
        let retry = retry::route(&value)?;
        for upstream in action.iter().flat_map(Action::upstreams) {
            if let Some(Some((theirs, response_head))) = declared.retries.get(upstream) {
                retry::fits(&value, &retry, (theirs, *response_head));
            }
        }
        Some(retry)
    });
    let timeouts = timeouts.unwrap_or_default();
    let hedge = table.get("hedge").and_then(|value| {
        only_with_upstream(&value, action.as_ref());
        let upstreams = action.iter().flat_map(Action::upstreams);
        let beside = hedge::Beside {
            methods: methods.as_ref(),
            timeouts: &timeouts,
            retry: &retry.clone().unwrap_or_default(),
            upstreams: upstreams
                .filter_map(|upstream| declared.retries.get(upstream)?.as_ref())
                .collect(),
        };
        hedge(&value, &beside)
    });
    one_serves(
        table,
        declared,
        (action.as_ref(), mirror.as_ref(), hedge.is_some()),
    );
    table.not_yet(&["query"]);
    let name = Name::from("");
    let exclusive = exclusive.unwrap_or(false);
    let upgrades = upgrades.unwrap_or_else(|| match action {
        Some(Action::Forward(_) | Action::Split(_) | Action::ReadsAndWrites(_)) => {
            vec![upgrade::WEBSOCKET.into()]
        }
        Some(Action::Redirect(_) | Action::Respond(_)) | None => Vec::new(),
    });
    Some(Route {
        name,
        listeners,
        hosts,
        path: path?,
        methods,
        headers,
        cookies,
        exclusive,
        upgrades,
        action: action?,
        rewrite,
        request_headers,
        response_headers,
        timeouts,
        limits: limits.unwrap_or_default(),
        mirror,
        retry,
        hedge,
        place: table.place(),
    })
}

/// Notes problems where an upstream has an authority, and requests would reach somebody else as well, or copies it.
fn one_serves(
    table: &Table<'_>,
    declared: &Declared,
    (action, mirror, is_hedged): (Option<&Action>, Option<&Mirror>, bool),
) {
    let name = |index: usize| &declared.upstreams.0[index];
    let is_one = |index: &usize| declared.authoritative.contains(name(*index));
    if let Some(mirror) = mirror.filter(|mirror| is_one(&mirror.upstream)) {
        table.report(format!(
            "mirror: the upstream {:?} is authoritative, and what reaches it counts; mirror to another one",
            name(mirror.upstream)
        ));
    }
    let mut upstreams = action.into_iter().flat_map(Action::upstreams);
    let Some(name) = upstreams.find(is_one).map(name) else {
        return;
    };
    // Of reads and writes the reads may be.
    if is_hedged && !matches!(action, Some(Action::ReadsAndWrites(_))) {
        table.report(format!(
            "hedge: the upstream {name:?} is authoritative: nobody else may be asked; leave hedge out"
        ));
    }
    let is_safe = |method: &Method| method.is_safe();
    let copies_safe = |mirror: &Mirror| {
        let methods = mirror.methods.as_ref();
        methods.is_some_and(|methods| methods.0.iter().all(is_safe))
    };
    if mirror.is_some_and(|mirror| !copies_safe(mirror)) {
        table.report(format!(
            "mirror: the upstream {name:?} is authoritative, and what changes something would be done elsewhere, too; set methods = [\"GET\", \"HEAD\"] in it, or leave it out"
        ));
    }
}

/// Notes a problem where a route that asks no endpoint says how to ask one.
fn only_with_upstream(value: &Value<'_>, action: Option<&Action>) {
    if let Some(Action::Redirect(_) | Action::Respond(_)) = action {
        value.source.report(
            value.key_place(),
            "only with `upstream`: this route sends nothing to an endpoint",
        );
    }
}

fn listeners(value: &Value<'_>, declared: &Declared) -> Option<Vec<usize>> {
    let elements = value.non_empty_array(
        "an array of listeners' names",
        "; leave the key out for all listeners",
    )?;
    let mut indices = Vec::new();
    for element in &elements {
        let Some(index) = reference(element, "listener", &declared.listeners) else {
            continue;
        };
        if indices.contains(&index) {
            element.report(format!("{element} is listed twice"));
        }
        indices.push(index);
    }
    Some(indices)
}

fn hosts(value: &Value<'_>) -> Option<Vec<HostPattern>> {
    let elements = value.non_empty_array(
        "an array such as [\"app.example.com\"]",
        "; leave the key out for any host",
    )?;
    let mut hosts = Vec::new();
    for element in &elements {
        let text = element.string_such_as("a host such as \"app.example.com\"");
        let Some(host) = text.and_then(|text| element.noted(host::pattern(text))) else {
            continue;
        };
        if hosts.contains(&host) {
            element.report(format!("{element} is listed twice"));
        }
        hosts.push(host);
    }
    Some(hosts)
}

/// The path matcher (`None`: there is a problem), and whether it is a regex.
fn path_pattern(table: &mut Table<'_>) -> (Option<PathPattern>, bool) {
    let mut given: Vec<_> = ["path", "path_exact", "path_regex"]
        .into_iter()
        .filter_map(|key| table.get(key))
        .collect();
    given.sort_by_key(|value| value.key_offset);
    let pattern = |value: &Value<'_>| match value.name {
        "path" => prefix(value),
        "path_exact" => exact(value),
        _ => path_regex(value),
    };
    let mut patterns: Vec<_> = given.iter().map(pattern).collect();
    if let [first, others @ ..] = given.as_slice() {
        for other in others {
            other.source.report(
                other.key_place(),
                format!("a route has one path, and this one has `{}`", first.name),
            );
        }
    }
    match given.first() {
        Some(first) => (patterns.swap_remove(0), first.name == "path_regex"),
        None => (Some(PathPattern::Prefix("/".into())), false),
    }
}

fn prefix(value: &Value<'_>) -> Option<PathPattern> {
    let path = canonical(value)?;
    if path.ends_with('*') {
        value.warn("\"*\" stands for itself here; a path takes everything below it without one");
    }
    let path = path
        .strip_suffix('/')
        .filter(|path| !path.is_empty())
        .unwrap_or(path);
    Some(PathPattern::Prefix(path.into()))
}

fn exact(value: &Value<'_>) -> Option<PathPattern> {
    Some(PathPattern::Exact(canonical(value)?.into()))
}

fn canonical<'a>(value: &Value<'a>) -> Option<&'a str> {
    let text = value.string_such_as("a path such as \"/admin\"")?;
    value.noted(path::canonical(text))?;
    Some(text)
}

fn path_regex(value: &Value<'_>) -> Option<PathPattern> {
    regex(value).map(PathPattern::Regex)
}

/// A regular expression for paths.
pub(super) fn regex(value: &Value<'_>) -> Option<Regex> {
    let text = value.string_such_as("a regular expression such as \"^/v[0-9]+/\"")?;
    let regex = RegexBuilder::new(text)
        .size_limit(LARGEST_REGEX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "is too large: it compiles to more than 1MiB".to_owned()
            }
            error => {
                // The crate's text draws the place over several lines; its last line says what is wrong.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                format!(
                    "is not a regular expression: {}, got {value}",
                    reason.strip_prefix("error: ").unwrap_or(reason)
                )
            }
        });
    value.noted(regex)
}

pub(super) fn methods(value: &Value<'_>) -> Option<MethodSet> {
    let elements = value.non_empty_array(
        "an array such as [\"GET\", \"HEAD\"]",
        "; leave the key out for any method",
    )?;
    let mut methods = Vec::new();
    for element in &elements {
        let Some(method) = method(element) else {
            continue;
        };
        if methods.contains(&method) {
            element.report(format!("{element} is listed twice"));
        }
        methods.push(method);
    }
    Some(MethodSet(methods))
}

fn upgrades(value: &Value<'_>) -> Option<Vec<Box<str>>> {
    let elements = value.array("an array such as [\"websocket\"]")?;
    let mut names: Vec<Box<str>> = Vec::new();
    for element in &elements {
        let Some(name) = upgrade_name(element) else {
            continue;
        };
        if names.contains(&name) {
            element.report(format!("{element} is listed twice"));
        }
        names.push(name);
    }
    Some(names)
}

fn upgrade_name(value: &Value<'_>) -> Option<Box<str>> {
    let what = "a protocol's name such as \"websocket\"";
    let name = value.string_such_as(what)?.to_ascii_lowercase();
    let protocol = name.split('/').next().unwrap_or_default();
    // A name is a token (RFC 9110 §7.8), and so is every header name.
    if name.split('/').count() > 2
        || name
            .split('/')
            .any(|part| HeaderName::from_bytes(part.as_bytes()).is_err())
    {
        return value.expected(what);
    }
    if matches!(protocol, "h2c" | "http" | "tls") {
        value.report(format!(
            "{value} would hide further requests from the routes; HTTP/2 and TLS are spoken without it"
        ));
        return None;
    }
    Some(name.into())
}

fn method(value: &Value<'_>) -> Option<Method> {
    let text = value.string_such_as("a method such as \"GET\"")?;
    let Ok(method) = Method::from_bytes(text.as_bytes()) else {
        return value.expected("a method such as \"GET\"");
    };
    // RFC 9110 §9.1: methods are case-sensitive, and all registered ones are in upper case.
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        let hint = hint(&upper, STANDARD_METHODS.into_iter().chain([&*upper]));
        value.report(format!("must be in upper case, got {value}{hint}"));
        return None;
    }
    Some(method)
}

const STANDARD_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];
const LARGEST_REGEX: usize = 1 << 20; // bytes, compiled: paths need no more
