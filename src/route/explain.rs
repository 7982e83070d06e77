//! Why a request goes where it goes. The outcome is the router's own; the reasons are worked out route by route, which is
//! too slow for traffic.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use http::{HeaderName, HeaderValue};

use super::host::takes;
use super::{Ambiguous, Matchers, Query, Router};
use crate::config::{HostPattern, PathPattern};
use crate::message::cookie;

/// The outcome of a query and what became of every route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// What [`Router::find`] says.
    pub outcome: Outcome,
    /// Per route, in file order.
    pub routes: Vec<Verdict>,
}

/// What [`Router::find`] says of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// This route takes it.
    Route(usize),
    /// No route takes it: a 404.
    None,
    /// It is refused: a 400.
    Refused(Ambiguous),
}

/// What became of a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It takes the request.
    Chosen,
    /// It would, but another comes first.
    Shadowed {
        /// The chosen one.
        by: usize,
        /// Why that comes first.
        rule: Rule,
    },
    /// It would, but the request is refused.
    Refused,
    /// It would not.
    Mismatch(Mismatch),
}

/// Why one of two routes that both match comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Exact host, then longest wildcard, then any.
    MoreSpecificHost,
    /// `path_exact` comes before all else.
    ExactPath,
    /// An exclusive prefix comes before regexes and plain prefixes; of two, the longer.
    ExclusivePrefix,
    /// A regex comes before plain prefixes; of two, the first in the file.
    Regex,
    /// The longer prefix.
    LongerPrefix,
    /// More of methods, headers and cookies.
    MoreMatchers,
    /// First in the file.
    FileOrder,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MoreSpecificHost => "more specific host",
            Self::ExactPath => "exact path",
            Self::ExclusivePrefix => "exclusive prefix",
            Self::Regex => "regex",
            Self::LongerPrefix => "longer prefix",
            Self::MoreMatchers => "more matchers",
            Self::FileOrder => "first in the file",
        })
    }
}

/// The first matcher that does not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mismatch {
    /// `listeners`
    Listener {
        /// Those of the route.
        expected: Vec<usize>,
        /// That of the query.
        given: usize,
    },
    /// `hosts`
    Host {
        /// Those of the route.
        expected: Vec<HostPattern>,
        /// That of the query.
        given: String,
    },
    /// `path`, `path_exact` or `path_regex`
    Path {
        /// The route's pattern as text.
        expected: String,
        /// The query's canonical path.
        given: String,
    },
    /// `methods`
    Method {
        /// Those of the route.
        expected: Vec<http::Method>,
        /// That of the query.
        given: http::Method,
    },
    /// `headers`
    Header {
        /// The field's name.
        name: HeaderName,
        /// The value it must have.
        expected: HeaderValue,
        /// The first value it has.
        given: Option<HeaderValue>,
    },
    /// `cookies`: the value is not told, for it may be a secret.
    Cookie {
        /// The cookie's name.
        name: Box<str>,
        /// Whether it has another value, rather than none.
        is_given: bool,
    },
}

impl Router {
    /// Why `query` goes where it goes.
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        let outcome = match self.find(query) {
            Ok(Some(route)) => Outcome::Route(route),
            Ok(None) => Outcome::None,
            Err(ambiguous) => Outcome::Refused(ambiguous),
        };
        let verdict = |(index, route): (usize, &Matchers)| match (mismatch(route, query), outcome) {
            (Some(mismatch), _) => Verdict::Mismatch(mismatch),
            (None, Outcome::Route(by)) if by == index => Verdict::Chosen,
            (None, Outcome::Route(by)) => {
                let rule = Rank::of(by, &self.routes()[by], query)
                    .rule_over(&Rank::of(index, route, query));
                Verdict::Shadowed { by, rule }
            }
            (None, Outcome::None | Outcome::Refused(_)) => Verdict::Refused,
        };
        let routes = self.routes().iter().enumerate().map(verdict).collect();
        Explanation { outcome, routes }
    }
}

fn mismatch(route: &Matchers, query: &Query<'_>) -> Option<Mismatch> {
    if let Some(expected) = &route.listeners
        && !route.take_listener(query.listener)
    {
        return Some(Mismatch::Listener {
            expected: expected.clone(),
            given: query.listener,
        });
    }
    if !route.hosts.is_empty() && !route.hosts.iter().any(|host| takes(host, query.host)) {
        return Some(Mismatch::Host {
            expected: route.hosts.clone(),
            given: query.host.to_owned(),
        });
    }
    if !route.take_path(query.path) {
        let expected = match &route.path {
            PathPattern::Exact(pattern) | PathPattern::Prefix(pattern) => &**pattern,
            PathPattern::Regex(regex) => regex.as_str(),
        };
        return Some(Mismatch::Path {
            expected: expected.to_owned(),
            given: query.path.to_owned(),
        });
    }
    if let Some(expected) = &route.methods
        && !route.take_method(query.method)
    {
        return Some(Mismatch::Method {
            expected: expected.0.clone(),
            given: query.method.clone(),
        });
    }
    if let Some((name, expected)) = route.missing_header(query.headers) {
        return Some(Mismatch::Header {
            name: name.clone(),
            expected: expected.clone(),
            given: query.headers.get(name).cloned(),
        });
    }
    let (name, _) = route.missing_cookie(query.headers)?;
    let mut given = cookie::values(query.headers, name.as_bytes());
    Some(Mismatch::Cookie {
        name: name.clone(),
        is_given: given.next().is_some(),
    })
}

/// The precedence of a route that matches; the greater comes first. The tables of the router keep the same order by
/// other means.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Rank {
    host: HostRank,
    path: PathRank,
    matchers: usize,
    order: Reverse<usize>,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum HostRank {
    Any,
    Wildcard { bytes: usize },
    Exact,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum PathRank {
    Prefix { bytes: usize },
    Regex(Reverse<usize>),
    ExclusivePrefix { bytes: usize },
    Exact,
}

impl Rank {
    fn of(index: usize, route: &Matchers, query: &Query<'_>) -> Self {
        let hosts = route
            .hosts
            .iter()
            .filter(|host| takes(host, query.host))
            .map(|host| match host {
                HostPattern::Exact(_) => HostRank::Exact,
                HostPattern::Wildcard(parent) => HostRank::Wildcard {
                    bytes: parent.len(),
                },
            });
        let path = match &route.path {
            PathPattern::Exact(_) => PathRank::Exact,
            PathPattern::Regex(_) => PathRank::Regex(Reverse(index)),
            PathPattern::Prefix(prefix) if route.exclusive => PathRank::ExclusivePrefix {
                bytes: prefix.len(),
            },
            PathPattern::Prefix(prefix) => PathRank::Prefix {
                bytes: prefix.len(),
            },
        };
        let host = hosts.max().unwrap_or(HostRank::Any);
        Self {
            host,
            path,
            matchers: route.count(),
            order: Reverse(index),
        }
    }

    /// By which rule this one comes before `other`.
    fn rule_over(&self, other: &Self) -> Rule {
        if self.host != other.host {
            return Rule::MoreSpecificHost;
        }
        match (self.path.cmp(&other.path), &self.path) {
            (Ordering::Equal, _) if self.matchers != other.matchers => Rule::MoreMatchers,
            (Ordering::Equal, _) => Rule::FileOrder,
            (_, PathRank::Exact) => Rule::ExactPath,
            (_, PathRank::ExclusivePrefix { .. }) => Rule::ExclusivePrefix,
            (_, PathRank::Regex(_)) => Rule::Regex,
            (_, PathRank::Prefix { .. }) => Rule::LongerPrefix,
        }
    }
}
