//! What a valid configuration allows but probably does not mean. Pure.

use std::fmt;

use http::Method;

use super::{
    Action, Admin, Affinity, Config, HostPattern, KeptBy, PathPattern, Problem, Rewrite, Route,
    Upstream, same_cookies,
};
use crate::units::Name;

/// Every doubt about `config`, in no order.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let uses = Uses::of(config);
    let upstreams = config.upstreams.iter().zip(&uses);
    let upstreams = upstreams.flat_map(|(upstream, uses)| of_upstream(upstream, uses));
    upstreams
        .chain(same_cookies::of_upstreams(&config.upstreams))
        .chain(same_cookies::of_routes(&config.routes))
        .chain(shadowed(&config.routes))
        .chain(rewritten_into(&config.routes))
        .chain(
            config
                .routes
                .iter()
                .filter_map(|route| mirrored(config, route)),
        )
        .chain(config.routes.iter().flat_map(|route| hedged(config, route)))
        .chain(config.routes.iter().filter_map(parted_in_vain))
        .chain(token_in_the_clear(&config.admin))
        .collect()
}

/// What changes endpoints is sent where others may listen.
fn token_in_the_clear(admin: &Admin) -> Option<Problem> {
    let file = admin.token_file.as_ref()?;
    if admin.address.ip().to_canonical().is_loopback() {
        return None;
    }
    Some(file.place.problem(format!(
        "admin.address ({}) speaks no TLS: whoever listens on the way learns the token; use a loopback address, and something before it that does",
        admin.address
    )))
}

/// What routes use an upstream for.
#[derive(Clone, Debug, Default)]
struct Uses {
    is_asked: bool,
    is_exclusive: bool,
    is_mirror: bool,
}

impl Uses {
    /// Of every upstream, in their order. One walk for all: there may be thousands of either.
    fn of(config: &Config) -> Vec<Self> {
        let mut uses = vec![Self::default(); config.upstreams.len()];
        for route in &config.routes {
            for index in route.action.upstreams() {
                uses[index].is_asked = true;
                uses[index].is_exclusive |= route.exclusive;
            }
            if let Some(mirror) = &route.mirror {
                uses[mirror.upstream].is_mirror = true;
            }
        }
        uses
    }
}

fn of_upstream(upstream: &Upstream, uses: &Uses) -> Vec<Problem> {
    let is_exclusive = uses.is_exclusive;
    match uses {
        Uses { is_asked: true, .. } => {}
        Uses {
            is_mirror: true, ..
        } => return Vec::new(),
        _ => return vec![upstream.place.problem("no route uses it")],
    }
    let messages = lonely(upstream, is_exclusive)
        .map(str::to_owned)
        .into_iter()
        .chain(never_ejected(upstream, is_exclusive))
        .chain(ejected_beside_backups(upstream));
    messages
        .map(|message| upstream.place.problem(message))
        .chain(one_version_of_two_sets(upstream))
        .collect()
}

/// The set that stands by with the next version is held out, so that nothing can be flipped to it.
fn one_version_of_two_sets(upstream: &Upstream) -> Option<Problem> {
    upstream.active_set.as_ref()?;
    let place = upstream.expect_version_at.as_ref()?;
    Some(place.problem(
        "endpoints are in sets: one that stands by with another version is held out, and a flip to it refused; leave this out, and say `balancer flip --expect-version`",
    ))
}

/// Nothing goes one of the two ways.
fn parted_in_vain(route: &Route) -> Option<Problem> {
    let (Action::ReadsAndWrites(_), Some(methods)) = (&route.action, &route.methods) else {
        return None;
    };
    let message = if methods.0.iter().all(Method::is_safe) {
        "`writes` gets nothing: all `methods` of this route only read; leave it out"
    } else if methods.0.iter().any(Method::is_safe) {
        return None;
    } else {
        "`upstream` gets nothing: none of the `methods` of this route only reads; let `upstream` be what `writes` is, and leave that out"
    };
    Some(route.place.problem(message))
}

fn lonely(upstream: &Upstream, is_exclusive: bool) -> Option<&'static str> {
    Some(match (upstream.endpoints.len(), &upstream.health) {
        (1, _) if !is_exclusive => "one endpoint: nothing to fall back on",
        (2.., None) if upstream.passive.is_some() => {
            "no `health`: that an endpoint is down is found out by clients' requests"
        }
        (2.., None) => "no `health`: an endpoint that is down keeps its share of requests",
        _ => return None,
    })
}

/// As many endpoints are to stay in use as there are; where a route is exclusive, none has to.
fn never_ejected(upstream: &Upstream, is_exclusive: bool) -> Option<String> {
    let count = upstream.endpoints.len();
    let has_backup = upstream.endpoints.iter().any(|endpoint| endpoint.backup);
    let needed = (upstream.min_available * count as f64).ceil() as usize;
    if upstream.passive.is_none() || count < 2 || needed < count || has_backup || is_exclusive {
        return None;
    }
    Some(format!(
        "min_available ({}) keeps all {count} endpoints in use: `passive` ejects none of them; lower it, or say passive = \"off\"",
        upstream.min_available
    ))
}

/// With a backup to take over, more may be ejected than `max_ejected` says.
fn ejected_beside_backups(upstream: &Upstream) -> Option<String> {
    let passive = upstream.passive.as_ref()?;
    let has_backup = upstream.endpoints.iter().any(|endpoint| endpoint.backup);
    // The sum is that of two decimal fractions, and not exact.
    if !has_backup || passive.max_ejected + upstream.min_available > 1.0 - 1e-9 {
        return None;
    }
    Some(format!(
        "passive.max_ejected ({}) does not bind while a backup is well: more may be ejected then, as far as min_available ({}) allows; raise that, or leave max_ejected out",
        passive.max_ejected, upstream.min_available
    ))
}

/// Copies of requests that may be acted on twice.
fn mirrored(config: &Config, route: &Route) -> Option<Problem> {
    let mirror = route.mirror.as_ref()?;
    let name = &config.upstreams[mirror.upstream].name;
    let asks = |route: &Route| {
        route
            .action
            .upstreams()
            .any(|index| index == mirror.upstream)
    };
    let exclusive = config
        .routes
        .iter()
        .find(|other| other.exclusive && asks(other));
    let message = if asks(route) {
        format!("upstream {name:?} gets every such request twice: as itself and as its mirror")
    } else if let Some(other) = exclusive {
        format!(
            "copies go to upstream {name:?} of the exclusive route {:?}, which other routes must not reach",
            other.name
        )
    } else if route.exclusive {
        format!("requests of an exclusive route are acted on by upstream {name:?}, too")
    } else {
        return None;
    };
    Some(mirror.place.problem(message))
}

/// Second attempts that have nowhere to go, or move clients that are to stay.
fn hedged(config: &Config, route: &Route) -> Vec<Problem> {
    let Some(hedge) = &route.hedge else {
        return Vec::new();
    };
    // With versions the second attempt stays where the first is.
    let moves = |affinity: &Affinity| affinity.by == KeptBy::Endpoint;
    let warning = |upstream: &Upstream| {
        let name = &upstream.name;
        let mut others = upstream.endpoints.iter().filter(|other| !other.backup);
        let message = if others.nth(1).is_none() {
            format!("upstream {name:?} has no second endpoint to ask, backups not counted")
        } else if upstream.affinity.as_ref().is_some_and(moves) {
            format!(
                "upstream {name:?} has `affinity`: a client whose second endpoint answers first moves there"
            )
        } else {
            return None;
        };
        Some(hedge.place.problem(message))
    };
    let upstreams = route.action.upstreams();
    upstreams
        .filter_map(|index| warning(&config.upstreams[index]))
        .collect()
}

/// Routes of a more specific host come first, even before exclusive ones: where such a route takes paths of an exclusive
/// route, these are not exclusive for that host.
fn shadowed(routes: &[Route]) -> Vec<Problem> {
    let exclusives = || routes.iter().filter(|route| route.exclusive);
    let with_hosts: Vec<_> = exclusives()
        .filter(|route| !route.hosts.is_empty())
        .collect();
    let warning = |exclusive: &Route| {
        let repeated = |host: &HostPattern| {
            let mut same = with_hosts
                .iter()
                .filter(|other| covers(&other.path, &exclusive.path));
            same.any(|other| other.hosts.contains(host))
        };
        let before = |route: &Route| {
            let can_meet = !route.exclusive
                && !route.hosts.is_empty()
                && share_listener(route, exclusive)
                && takes_paths_of(&route.path, &exclusive.path);
            let takes = |host: &&HostPattern| is_within(host, &exclusive.hosts) && !repeated(host);
            let host = route.hosts.iter().filter(|_| can_meet).find(takes)?.clone();
            Some((route.name.clone(), route.place.line, host))
        };
        let shadows: Vec<_> = routes.iter().filter_map(before).collect();
        let shown = |(name, line, host): &(Name, u32, HostPattern)| {
            format!("route {name:?} (line {line}) on {}", Host(host))
        };
        let named: Vec<_> = shadows.iter().take(NAMED).map(shown).collect();
        let more = match shadows.len().saturating_sub(NAMED) {
            0 if shadows.is_empty() => return None,
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(exclusive.place.problem(format!(
            "exclusive route {:?} comes after {}{more}: a more specific host wins; repeat the exclusive route with its host",
            exclusive.name,
            named.join(", "),
        )))
    };
    exclusives().filter_map(warning).collect()
}

/// Routes that make nothing but paths of an exclusive route of another upstream, to which these would not go.
fn rewritten_into(routes: &[Route]) -> Vec<Problem> {
    let warning = |route: &Route| {
        let Some(Rewrite::Prefix { to, .. }) = &route.rewrite else {
            return None;
        };
        let made = PathPattern::Prefix(if to.is_empty() {
            "/".into()
        } else {
            to.clone()
        });
        let refused = |other: &Route| {
            let methods = match &route.methods {
                Some(methods) => &methods.0[..],
                None => &[Method::GET, Method::POST],
            };
            let is_refused = |method: &&Method| !route.action.is_within(&other.action, method);
            let refused: Vec<_> = methods.iter().filter(is_refused).collect();
            match &refused[..] {
                [] => None,
                all if all.len() == methods.len() => Some("such requests"),
                some if some[0].is_safe() => Some("such requests that only read"),
                _ => Some("such requests that may change something"),
            }
        };
        let owns = |other: &&Route| {
            other.exclusive
                && (other.hosts.is_empty() || other.hosts == route.hosts)
                && share_listener(route, other)
                && covers(&other.path, &made)
        };
        let mut owners = routes.iter().filter(owns);
        let (owner, such) = owners.find_map(|owner| Some((owner, refused(owner)?)))?;
        Some(route.place.problem(format!(
            "every path it makes belongs to the exclusive route {:?} of another upstream: {such} are answered 500",
            owner.name
        )))
    };
    routes.iter().filter_map(warning).collect()
}

const NAMED: usize = 4; // routes named in one warning: more say nothing new

fn share_listener(a: &Route, b: &Route) -> bool {
    match (&a.listeners, &b.listeners) {
        (Some(a), Some(b)) => a.iter().any(|index| b.contains(index)),
        _ => true,
    }
}

/// Whether a request can fall under both.
fn takes_paths_of(path: &PathPattern, exclusive: &PathPattern) -> bool {
    let (PathPattern::Prefix(text) | PathPattern::Exact(text)) = exclusive else {
        return false;
    };
    match path {
        // What a regex takes is not known; the path itself and one below it are good samples.
        PathPattern::Regex(regex) => {
            regex.is_match(text) || regex.is_match(&format!("{}/x", text.trim_end_matches('/')))
        }
        path => covers(path, exclusive) || covers(exclusive, path),
    }
}

/// Whether `outer` takes every path that `inner` takes.
fn covers(outer: &PathPattern, inner: &PathPattern) -> bool {
    let (PathPattern::Prefix(text) | PathPattern::Exact(text)) = inner else {
        return false;
    };
    match outer {
        PathPattern::Prefix(prefix) if &**prefix == "/" => true,
        PathPattern::Prefix(prefix) => text
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathPattern::Exact(path) => path == text && matches!(inner, PathPattern::Exact(_)),
        PathPattern::Regex(_) => false,
    }
}

/// Whether `host` is a narrower pattern than those of `hosts` that take it (none means any).
fn is_within(host: &HostPattern, hosts: &[HostPattern]) -> bool {
    let takes = |wider: &HostPattern| match (wider, host) {
        (HostPattern::Wildcard(domain), HostPattern::Exact(name) | HostPattern::Wildcard(name)) => {
            name.strip_suffix(&**domain)
                .is_some_and(|rest| rest.ends_with('.'))
        }
        (HostPattern::Exact(_), _) => false,
    };
    (hosts.is_empty() || hosts.iter().any(takes)) && !hosts.contains(host)
}

struct Host<'h>(&'h HostPattern);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Wildcard(domain) => write!(f, "*.{domain}"),
        }
    }
}
