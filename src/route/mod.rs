//! Finds the route of a request. Pure: knows nothing of sockets, endpoints or what a route does.
//!
//! A route is named by its index in the list that [`Router::compile`] was given, which is the order of the file. The
//! data path, `explain` and the configuration check ask the same [`Router`].

mod conflict;
mod explain;
mod host;
mod path;
mod router;
mod sent_path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

pub use conflict::Conflict;
pub use explain::{Explanation, Mismatch, Outcome, Rule, Verdict};
pub use router::Router;
pub use sent_path::Unsendable;

use crate::config::{self, HostPattern, MethodSet, PathPattern};
use crate::message::canonical_path::PathError;
use crate::message::cookie;

/// When a route takes a request: all of these must hold.
#[derive(Clone, Debug)]
pub struct Matchers {
    /// Indices of listeners. `None`: any.
    pub listeners: Option<Vec<usize>>,
    /// One of these. Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// In canonical spelling.
    pub path: PathPattern,
    /// `None`: any method.
    pub methods: Option<MethodSet>,
    /// Each must be there with exactly this value; further fields of the same name do no harm.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Each must be there with exactly this value; further cookies of the same name do no harm.
    pub cookies: Vec<(Box<str>, Box<str>)>,
    /// No other spelling of the path may reach another route. Without effect on a regex.
    pub exclusive: bool,
}

impl From<&config::Route> for Matchers {
    fn from(route: &config::Route) -> Self {
        Self {
            listeners: route.listeners.clone(),
            hosts: route.hosts.clone(),
            path: route.path.clone(),
            methods: route.methods.clone(),
            headers: route.headers.clone(),
            cookies: route.cookies.clone(),
            exclusive: route.exclusive,
        }
    }
}

impl Matchers {
    /// Whether all but host and path hold.
    fn admit(&self, query: &Query<'_>) -> bool {
        self.take_listener(query.listener)
            && self.take_method(query.method)
            && self.missing_header(query.headers).is_none()
            && self.missing_cookie(query.headers).is_none()
    }

    fn take_listener(&self, listener: usize) -> bool {
        self.listeners
            .as_ref()
            .is_none_or(|listeners| listeners.contains(&listener))
    }

    fn take_method(&self, method: &Method) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(method))
    }

    fn missing_header(&self, headers: &HeaderMap) -> Option<&(HeaderName, HeaderValue)> {
        self.headers
            .iter()
            .find(|(name, value)| !headers.get_all(name).iter().any(|given| given == value))
    }

    fn missing_cookie(&self, headers: &HeaderMap) -> Option<&(Box<str>, Box<str>)> {
        self.cookies.iter().find(|(name, value)| {
            !cookie::values(headers, name.as_bytes()).any(|given| given == value.as_bytes())
        })
    }

    fn take_path(&self, path: &str) -> bool {
        match &self.path {
            PathPattern::Exact(pattern) => **pattern == *path,
            PathPattern::Prefix(pattern) => is_under(pattern, path),
            PathPattern::Regex(regex) => regex.is_match(path),
        }
    }

    /// How many matchers besides listener, host and path.
    fn count(&self) -> usize {
        self.headers.len() + self.cookies.len() + usize::from(self.methods.is_some())
    }
}

/// Whether `path` is `prefix` or goes on from it at a segment boundary.
fn is_under(prefix: &str, path: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the router must know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Index of the listener it came by.
    pub listener: usize,
    /// Lower case, without port and trailing dot. May be empty.
    pub host: &'a str,
    /// The request's method.
    pub method: &'a Method,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The path as the client spelled it, without query.
    pub raw_path: &'a str,
    /// Its canonical spelling.
    pub path: &'a str,
}

/// The path can be read in more than one way, and one of the readings is guarded by an exclusive route. A 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Ambiguous {
    /// What makes the path doubtful.
    pub reason: Doubt,
    /// The exclusive route that is guarded.
    pub route: usize,
}

/// What makes a path doubtful.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Doubt {
    /// It holds `%2F` or `%5C`, a separator to some servers.
    #[error("path holds an encoded separator")]
    EncodedSeparator,
    /// Its loosest reading belongs to the exclusive route, its canonical spelling does not.
    #[error("path can be read as one of an exclusive route")]
    Twin,
    /// It holds a disguised `..`: `..;`, `%252E%252E` and the like.
    #[error("path holds a hidden ..")]
    HiddenParent,
    /// It has no loosest reading.
    #[error(transparent)]
    Unreadable(PathError),
}

#[cfg(test)]
mod tests;
