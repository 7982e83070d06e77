//! `[[route]]`: matchers and one action.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{HeaderChanges, Hedge, Mirror, Place, RouteLimits, RouteRetry, RouteTimeouts};
use crate::units::Name;

/// `[[route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// `name`. Default: derived from the matchers, made unique.
    pub name: Name,
    /// `listeners`, as indices into `Config::listeners`. `None`: all of them.
    pub listeners: Option<Vec<usize>>,
    /// `hosts`. Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// `path`, `path_exact` or `path_regex`. Default: `path = "/"`.
    pub path: PathPattern,
    /// `methods`. Default: any.
    pub methods: Option<MethodSet>,
    /// `headers`: each must be there with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `cookies`: each must be there with exactly this value.
    pub cookies: Vec<(Box<str>, Box<str>)>,
    /// `exclusive`: no other spelling of these paths may reach another route. Only with `path` or `path_exact`. Default false.
    pub exclusive: bool,
    /// `upgrades`: protocols that a request may change its connection to, in lower case. Default `websocket` where there is an
    /// `upstream`.
    pub upgrades: Vec<Box<str>>,
    /// `upstream`, `split`, `redirect` or `respond`.
    pub action: Action,
    /// `rewrite`: the path an endpoint is asked for. Only with `upstream`. Default: the path that was matched.
    pub rewrite: Option<Rewrite>,
    /// `request_headers`: changes of requests to endpoints. Only with `upstream`. Default none.
    pub request_headers: Option<HeaderChanges>,
    /// `response_headers`: changes of every response to this route's requests, whoever made it. Default none.
    pub response_headers: Option<HeaderChanges>,
    /// `timeouts`
    pub timeouts: RouteTimeouts,
    /// `limits`
    pub limits: RouteLimits,
    /// `mirror`: who gets a copy of the requests. Only with `upstream` or `split`. Default: nobody.
    pub mirror: Option<Mirror>,
    /// `retry`: what it says in place of its upstream. Only with `upstream`. Default nothing.
    pub retry: Option<RouteRetry>,
    /// `hedge`: when a second endpoint is asked beside one that does not answer. Only with `upstream`. Default: never.
    pub hedge: Option<Hedge>,
    /// Where the table stands.
    pub place: Place,
}

/// One of `route.hosts`: ASCII lower case, without port or trailing dot.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostPattern {
    /// `app.example.com`
    Exact(Name),
    /// `*.example.com`, kept as `example.com`: one label or more before it.
    Wildcard(Name),
}

/// The path a route takes; always in canonical spelling.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// `path`: `/admin` takes `/admin` and `/admin/…`, not `/administrator`. A trailing slash in the file is dropped; `/` takes everything.
    Prefix(Name),
    /// `path_exact`
    Exact(Name),
    /// `path_regex`: matches anywhere in the path unless anchored.
    Regex(regex::Regex),
}

/// A set of methods, the standard ones as bits.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct MethodSet(pub Vec<Method>);

impl MethodSet {
    /// Whether `method` is in the set.
    pub fn contains(&self, method: &Method) -> bool {
        self.0.contains(method)
    }
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum Action {
    /// `upstream`, as an index into `Config::upstreams`.
    Forward(usize),
    /// `split`
    Split(Split),
    /// `upstream` and `writes`
    ReadsAndWrites(ReadsAndWrites),
    /// `redirect`
    Redirect(Redirect),
    /// `respond`
    Respond(Respond),
}

impl Action {
    /// The upstreams that requests may go to.
    pub fn upstreams(&self) -> impl Iterator<Item = usize> {
        let (one, other, several) = match self {
            Self::Forward(upstream) => (Some(*upstream), None, &[][..]),
            Self::Split(split) => (None, None, &*split.shares),
            Self::ReadsAndWrites(both) => (Some(both.reads), Some(both.writes), &[][..]),
            Self::Redirect(_) | Self::Respond(_) => (None, None, &[][..]),
        };
        one.into_iter()
            .chain(other)
            .chain(several.iter().map(|(upstream, _)| *upstream))
    }

    /// The upstreams that requests of this method may go to.
    pub fn reached(&self, method: &Method) -> impl Iterator<Item = usize> {
        let is_reached = |upstream: &usize| match self {
            Self::ReadsAndWrites(both) if !method.is_safe() => *upstream == both.writes,
            Self::ReadsAndWrites(both) => {
                *upstream == both.reads || both.read_your_writes.is_some()
            }
            Self::Forward(_) | Self::Split(_) | Self::Redirect(_) | Self::Respond(_) => true,
        };
        self.upstreams().filter(is_reached)
    }

    /// Whether a request of this method goes nowhere but where `other` lets it go as well: what only reads may go to all of
    /// `other`, the rest nowhere but where it writes.
    pub fn is_within(&self, other: &Self, method: &Method) -> bool {
        let is_known = |upstream: usize| {
            if method.is_safe() {
                other.upstreams().any(|known| known == upstream)
            } else {
                other.reached(method).any(|known| known == upstream)
            }
        };
        self.reached(method).all(is_known)
    }
}

/// `route.upstream` where there is `route.writes`
#[derive(Clone, Debug)]
pub struct ReadsAndWrites {
    /// `upstream`, as an index into `Config::upstreams`: gets GET, HEAD, OPTIONS, TRACE and QUERY.
    pub reads: usize,
    /// `writes`, likewise: gets the rest.
    pub writes: usize,
    /// `read_your_writes`: who has just written reads there, too. Default: nobody does.
    pub read_your_writes: Option<ReadYourWrites>,
}

/// `route.read_your_writes`
#[derive(Clone, Debug)]
pub struct ReadYourWrites {
    /// `window`: for how long, at most 1 h.
    pub window: Duration,
    /// `cookie`: the name of the cookie that says until when. Default `wrote`.
    pub cookie: Box<str>,
    /// `key_file`: what the cookie is signed with. Default: a key that only this process has.
    pub key_file: Option<PathBuf>,
    /// `path`: for which paths clients send it. Default `/`.
    pub path: Box<str>,
    /// Where `key_file` stands, or the key.
    pub place: Place,
}

/// `route.split`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Split {
    /// Indices into `Config::upstreams`, each once, and weights, 0 to 1000; not all are 0.
    pub shares: Vec<(usize, u16)>,
    /// `split_by`. Default: request.
    pub by: SplitBy,
}

/// `route.split_by`: what stays together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SplitBy {
    /// `"request"`: nothing, requests take turns.
    Request,
    /// `"client"`: all requests of one client address.
    Client,
}

impl SplitBy {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Client => "client",
        }
    }
}

/// `route.rewrite`
#[derive(Clone, Debug)]
pub enum Rewrite {
    /// `prefix`: another begin. Both in canonical spelling without trailing slash, so that `/` is empty.
    Prefix {
        /// The route's `path`.
        from: Name,
        /// What takes its place.
        to: Name,
    },
    /// `regex` and `to`: another text in the place of the first match.
    Regex {
        /// Matches anywhere in the canonical path unless anchored. Where it does not, the path stays.
        regex: regex::Regex,
        /// `$1` and `$name` stand for its groups.
        to: Box<str>,
    },
}

/// `route.redirect`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// `to`: an absolute URL or a path. `{host}`, `{path}` and `{query}` (with its `?`, empty where there is none) are filled in.
    pub to: Box<str>,
    /// `status`: 301, 302, 303, 307 or 308. Default 308.
    pub status: StatusCode,
}

/// `route.respond`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Respond {
    /// `status`, 200 to 599. Default 200.
    pub status: StatusCode,
    /// `body`. Default empty.
    pub body: Box<str>,
    /// `headers`
    pub headers: Vec<(HeaderName, HeaderValue)>,
}
