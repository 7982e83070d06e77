//! Routes as they are shown: which requests they take, and where those go.

use serde::Serialize;

use crate::config::{HostPattern, PathPattern};
use crate::snapshot::{Action, Snapshot};

/// A route of `GET /api/v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct RouteStatus {
    name: String,
    /// Names of those it takes requests of.
    listeners: Vec<String>,
    /// As configured. None: any.
    hosts: Vec<String>,
    path: String,
    /// `prefix`, `exact` or `regex`.
    path_kind: &'static str,
    /// Requests being served.
    in_flight: i64,
    /// Where there is one.
    upstream: Option<String>,
    /// Where what may change something goes elsewhere: there.
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<String>,
    /// Where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    split: Vec<ShareStatus>,
}

#[derive(Debug, Serialize)]
struct ShareStatus {
    upstream: String,
    weight: u32,
}

impl RouteStatus {
    /// Those of `snapshot`, in file order.
    pub(super) fn all(snapshot: &Snapshot) -> Vec<Self> {
        let matchers = snapshot.router.routes().iter();
        let routes = snapshot.routes.iter().zip(matchers);
        let name = |index: usize| {
            let listener = snapshot.listeners.get(index);
            listener.map_or_else(String::new, |listener| listener.name.to_string())
        };
        let status = routes.map(|(route, matchers)| {
            let (path_kind, path) = match &matchers.path {
                PathPattern::Prefix(path) => ("prefix", path.to_string()),
                PathPattern::Exact(path) => ("exact", path.to_string()),
                PathPattern::Regex(regex) => ("regex", regex.to_string()),
            };
            Self {
                name: route.name.to_string(),
                listeners: match &matchers.listeners {
                    Some(listeners) => listeners.iter().map(|index| name(*index)).collect(),
                    None => (0..snapshot.listeners.len()).map(name).collect(),
                },
                hosts: matchers.hosts.iter().map(host).collect(),
                path,
                path_kind,
                in_flight: route.metrics.in_flight.get().max(0),
                upstream: match &route.action {
                    Action::Forward(upstream) => Some(upstream.name.to_string()),
                    Action::ReadsAndWrites(both) => Some(both.both()[0].name.to_string()),
                    Action::Split(_)
                    | Action::Redirect(_)
                    | Action::Respond(_)
                    | Action::NotFound => None,
                },
                writes: match &route.action {
                    Action::ReadsAndWrites(both) => Some(both.both()[1].name.to_string()),
                    Action::Forward(_)
                    | Action::Split(_)
                    | Action::Redirect(_)
                    | Action::Respond(_)
                    | Action::NotFound => None,
                },
                split: shares(&route.action),
            }
        });
        status.collect()
    }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(host) => format!("*.{host}"),
    }
}

fn shares(action: &Action) -> Vec<ShareStatus> {
    let Action::Split(split) = action else {
        return Vec::new();
    };
    let shares = split.shares().map(|(upstream, weight)| ShareStatus {
        upstream: upstream.name.to_string(),
        weight,
    });
    shares.collect()
}
