//! Which route it is and why, and why the others are not.

use std::fmt::Write;

use super::lines::{Lines, join};
use super::{changes, limits};
use crate::config::{Action, Config, HashKey, HostPattern, PathPattern, Policy, Route, Upstream};
use crate::route::{Explanation, Mismatch, Outcome, Verdict};

pub(super) fn explain_outcome(lines: &mut Lines, config: &Config, explanation: &Explanation) {
    match explanation.outcome {
        Outcome::Route(index) => {
            let route = &config.routes[index];
            lines.push("route", route.name.to_string());
            lines.push("action", action(config, &route.action));
            changes::explain_headers(lines, route);
            limits::explain_limits(lines, route);
            changes::explain_mirror(lines, config, route);
            let beaten = explanation
                .routes
                .iter()
                .filter(|verdict| matches!(verdict, Verdict::Shadowed { .. }))
                .count();
            let why = match beaten {
                0 => "no other route matches".to_owned(),
                1 => "comes before 1 other that matches".to_owned(),
                count => format!("comes before {count} others that match"),
            };
            lines.push("because", format!("{}; {why}", matchers(config, route)));
        }
        Outcome::None => lines.push("route", "none: 404".to_owned()),
        Outcome::Refused(ambiguous) => {
            let guarded = &config.routes[ambiguous.route].name;
            lines.push(
                "refused",
                format!("400, {ambiguous}; guards the exclusive route {guarded}"),
            );
        }
    }
}

/// Why each other route is not it.
pub(super) fn other_routes(config: &Config, explanation: &Explanation) -> Lines {
    let why = |verdict: &Verdict| match verdict {
        Verdict::Chosen => None,
        Verdict::Shadowed { by, rule } => Some(format!(
            "matches, but {} comes first: {rule}",
            config.routes[*by].name
        )),
        Verdict::Refused => Some("matches, but the request is refused".to_owned()),
        Verdict::Mismatch(why) => Some(mismatch(config, why)),
    };
    let mut lines = Lines::indented();
    for (route, verdict) in config.routes.iter().zip(&explanation.routes) {
        if let Some(why) = why(verdict) {
            lines.push(&route.name, why);
        }
    }
    lines
}

fn mismatch(config: &Config, mismatch: &Mismatch) -> String {
    let (what, expected, given) = match mismatch {
        Mismatch::Listener { expected, given } => {
            let names = expected.iter().map(|index| &*config.listeners[*index].name);
            (
                "listener",
                join(names, " or "),
                config.listeners[*given].name.to_string(),
            )
        }
        Mismatch::Host { expected, given } => (
            "host",
            join(expected.iter().map(host_text), " or "),
            given.clone(),
        ),
        Mismatch::Path { expected, given } => ("path", expected.clone(), given.clone()),
        Mismatch::Method { expected, given } => {
            ("method", join(expected, " or "), given.to_string())
        }
        Mismatch::Header {
            name,
            expected,
            given,
        } => {
            let given = given
                .as_ref()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let expected = String::from_utf8_lossy(expected.as_bytes());
            return match given {
                Some(given) => format!("header {name} is {given}, not {expected}"),
                None => format!("header {name} is missing, not {expected}"),
            };
        }
        Mismatch::Cookie { name, is_given } => {
            let given = if *is_given { "another one" } else { "missing" };
            return format!("cookie {name} is {given}");
        }
    };
    let given = if given.is_empty() { "missing" } else { &given };
    format!("{what} is {given}, not {expected}")
}

/// What a route asks for, in one line.
fn matchers(config: &Config, route: &Route) -> String {
    let exclusive = if route.exclusive { "exclusive " } else { "" };
    let mut text = match &route.path {
        PathPattern::Prefix(path) => format!("{exclusive}path {path}"),
        PathPattern::Exact(path) => format!("{exclusive}exact path {path}"),
        PathPattern::Regex(regex) => format!("path regex {regex}"),
    };
    let mut add = |what: &str, value: String| {
        let _ = write!(text, ", {what} {value}");
    };
    if !route.hosts.is_empty() {
        add("host", join(route.hosts.iter().map(host_text), " or "));
    }
    if let Some(methods) = &route.methods {
        add("method", join(&methods.0, " or "));
    }
    for (name, value) in &route.headers {
        add(
            "header",
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())),
        );
    }
    for (name, _) in &route.cookies {
        add("cookie", name.to_string());
    }
    if let Some(listeners) = &route.listeners {
        add(
            "listener",
            join(
                listeners
                    .iter()
                    .map(|index| &*config.listeners[*index].name),
                " or ",
            ),
        );
    }
    text
}

/// The policy, and what it picks by.
fn policy(upstream: &Upstream) -> String {
    let word = upstream.policy.as_str();
    if upstream.policy != Policy::Hash {
        return word.to_owned();
    }
    match &upstream.hash.key {
        HashKey::ClientAddress => format!("{word} by client address"),
        HashKey::Header(name) => format!("{word} by header {name}"),
        HashKey::Cookie(name) => format!("{word} by cookie {name}"),
        HashKey::Path => format!("{word} by path"),
        HashKey::Query(name) => format!("{word} by parameter {name}"),
    }
}

fn action(config: &Config, action: &Action) -> String {
    match action {
        Action::Forward(index) => upstream(&config.upstreams[*index]),
        Action::Split(split) => {
            let sum: u32 = split
                .shares
                .iter()
                .map(|(_, weight)| u32::from(*weight))
                .sum();
            let shares = split.shares.iter().map(|(index, weight)| {
                let upstream = upstream(&config.upstreams[*index]);
                format!("{weight} of {sum} to {upstream}")
            });
            format!("split by {}: {}", split.by.as_str(), join(shares, "; "))
        }
        Action::ReadsAndWrites(both) => {
            let (reads, writes) = (
                &config.upstreams[both.reads],
                &config.upstreams[both.writes],
            );
            let recent = match &both.read_your_writes {
                Some(it) => format!(", and reads of who has written within {:?}", it.window),
                None => String::new(),
            };
            format!(
                "GET, HEAD, OPTIONS, TRACE and QUERY to {}; all else{recent} to {}",
                upstream(reads),
                upstream(writes)
            )
        }
        Action::Redirect(redirect) => {
            format!("redirect {} to {}", redirect.status.as_u16(), redirect.to)
        }
        Action::Respond(respond) => format!("respond {}", respond.status.as_u16()),
    }
}

fn upstream(upstream: &Upstream) -> String {
    let policy = policy(upstream);
    let endpoints = upstream.endpoints.iter().map(|endpoint| {
        let weight = match endpoint.weight.get() {
            1 => None,
            weight => Some(format!("weight {weight}")),
        };
        let backup = endpoint.backup.then(|| "backup".to_owned());
        match (weight, backup) {
            (None, None) => endpoint.name.to_string(),
            (Some(one), None) | (None, Some(one)) => {
                format!("{} ({one})", endpoint.name)
            }
            (Some(one), Some(other)) => {
                format!("{} ({one}, {other})", endpoint.name)
            }
        }
    });
    let paused = if upstream.paused { " (paused)" } else { "" };
    format!(
        "upstream {}{paused}, {policy}: {}",
        upstream.name,
        join(endpoints, ", ")
    )
}

fn host_text(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(parent) => format!("*.{parent}"),
    }
}
