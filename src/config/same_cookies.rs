//! Cookies of one name that are set for different things: clients keep the last one of them. Pure.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::{Action, HostPattern, Problem, Route, Upstream};

/// Clients send a cookie by its name and path: of two upstreams the one sets what the other has set.
pub(super) fn of_upstreams(upstreams: &[Upstream]) -> Vec<Problem> {
    let mut first: HashMap<(&str, &str), &Upstream> = HashMap::new();
    let mut warnings = Vec::new();
    for upstream in upstreams {
        let Some(affinity) = &upstream.affinity else {
            continue;
        };
        let other = *first
            .entry((&affinity.cookie, &affinity.path))
            .or_insert(upstream);
        if !std::ptr::eq(other, upstream) {
            warnings.push(upstream.place.problem(format!(
                "sets the same cookie {:?} as upstream {:?} (line {}): a client of both loses its place in one; give it another name or `path`",
                affinity.cookie, other.name, other.place.line
            )));
        }
    }
    warnings
}

/// Likewise what says who has written: of two routes the one does not know what the other has set. Those of other hosts are told
/// apart by clients.
pub(super) fn of_routes(routes: &[Route]) -> Vec<Problem> {
    let mut known = Known::default();
    let mut warnings = Vec::new();
    for route in routes {
        let Action::ReadsAndWrites(both) = &route.action else {
            continue;
        };
        let Some(settings) = &both.read_your_writes else {
            continue;
        };
        let cookie: Cookie<'_> = (&settings.cookie, &settings.path);
        let said = Said {
            route,
            writes: both.writes,
            window: settings.window,
            key_file: settings.key_file.as_deref(),
        };
        let Some(other) = known.before(cookie, said) else {
            continue;
        };
        let differs = if other.writes != said.writes {
            "another `writes`"
        } else if other.window != said.window {
            "another `window`"
        } else if other.key_file != said.key_file {
            "another key"
        } else {
            continue;
        };
        warnings.push(settings.place.problem(format!(
            "sets the same cookie {:?} as route {:?} (line {}), which has {differs}: a client of both may not read what it has written; give one of them another `cookie` or `path`",
            settings.cookie, other.route.name, other.route.place.line
        )));
    }
    warnings
}

/// Its name and path.
type Cookie<'c> = (&'c str, &'c str);

/// What a route's cookie says.
#[derive(Clone, Copy)]
struct Said<'c> {
    route: &'c Route,
    writes: usize,
    window: Duration,
    key_file: Option<&'c Path>,
}

/// The first routes that set a cookie: at all, for any host, and for each of theirs.
#[derive(Default)]
struct Known<'c> {
    at_all: HashMap<Cookie<'c>, Said<'c>>,
    by_host: HashMap<(Cookie<'c>, Option<&'c HostPattern>), Said<'c>>,
}

impl<'c> Known<'c> {
    /// Who has set it before `said`, for a host of its own; `said` has from now on.
    fn before(&mut self, cookie: Cookie<'c>, said: Said<'c>) -> Option<Said<'c>> {
        let hosts = &said.route.hosts;
        let before = if hosts.is_empty() {
            self.at_all.get(&cookie)
        } else {
            let mut own = hosts.iter().map(Some).chain([None]);
            own.find_map(|host| self.by_host.get(&(cookie, host)))
        };
        let before = before.copied();
        self.at_all.entry(cookie).or_insert(said);
        if hosts.is_empty() {
            self.by_host.entry((cookie, None)).or_insert(said);
        }
        for host in hosts {
            self.by_host.entry((cookie, Some(host))).or_insert(said);
        }
        before
    }
}
