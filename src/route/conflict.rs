//! Routes that cannot be told apart. Told from the matchers alone, without a request.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use http::{HeaderName, HeaderValue};

use super::Matchers;
use crate::config::{HostPattern, PathPattern};

/// Two routes that take the same requests with the same precedence.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Conflict {
    /// Index of the one that stands first in the file.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
}

/// Each route that collides with an earlier one, once, in file order.
pub(super) fn conflicts(routes: &[Matchers]) -> Vec<Conflict> {
    let mut places: HashMap<Place<'_>, Group<'_>, FixedState> = HashMap::default();
    let mut conflicts = Vec::new();
    for (second, route) in routes.iter().enumerate() {
        let mut first: Option<usize> = None;
        for place in Place::all(route) {
            let group = places.entry(place).or_default();
            let found = group.first_like(routes, second);
            first = first.into_iter().chain(found).min();
            group.insert(routes, second);
        }
        conflicts.extend(first.map(|first| Conflict { first, second }));
    }
    conflicts
}

/// What two routes that collide have in common.
#[derive(Eq, Hash, PartialEq)]
struct Place<'a> {
    host: Option<&'a HostPattern>,
    path: Path<'a>,
    matchers: usize,
}

/// An exclusive prefix and a plain one are the same place: the plain one would never be reached.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Path<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Regex(&'a str),
}

impl<'a> Place<'a> {
    fn all(route: &'a Matchers) -> impl Iterator<Item = Self> {
        let path = match &route.path {
            PathPattern::Exact(path) => Path::Exact(path),
            PathPattern::Prefix(path) => Path::Prefix(path),
            PathPattern::Regex(regex) => Path::Regex(regex.as_str()),
        };
        let any = route.hosts.is_empty().then_some(None);
        let hosts = route.hosts.iter().map(Some);
        any.into_iter().chain(hosts).map(move |host| Self {
            host,
            path,
            matchers: route.count(),
        })
    }
}

/// The routes of one place, by the names and then the values of their headers: routes of the same names collide only
/// where the values are the same too, which need not be looked for one by one.
#[derive(Default)]
struct Group<'a>(HashMap<Vec<&'a HeaderName>, ByValues<'a>, FixedState>);

type ByValues<'a> = HashMap<Vec<&'a HeaderValue>, Vec<usize>, FixedState>;

impl<'a> Group<'a> {
    fn first_like(&self, routes: &[Matchers], second: usize) -> Option<usize> {
        let (names, values) = headers(&routes[second]);
        let alike = self
            .0
            .get(&names)
            .and_then(|by_values| by_values.get(&values))
            .into_iter();
        let unlike = self
            .0
            .iter()
            .filter(|(others, _)| **others != names)
            .flat_map(|(_, by_values)| by_values.values());
        let first = |list: &Vec<usize>| {
            list.iter()
                .copied()
                .find(|first| *first != second && overlap(&routes[*first], &routes[second]))
        };
        alike.chain(unlike).filter_map(first).min()
    }

    fn insert(&mut self, routes: &'a [Matchers], index: usize) {
        let (names, values) = headers(&routes[index]);
        self.0
            .entry(names)
            .or_default()
            .entry(values)
            .or_default()
            .push(index);
    }
}

/// Names and values, sorted by both.
fn headers(route: &Matchers) -> (Vec<&HeaderName>, Vec<&HeaderValue>) {
    let mut headers: Vec<_> = route
        .headers
        .iter()
        .map(|(name, value)| (name, value))
        .collect();
    headers.sort_by(|a, b| (a.0.as_str(), a.1).cmp(&(b.0.as_str(), b.1)));
    headers.into_iter().unzip()
}

/// Whether a request can satisfy listeners, methods, headers and cookies of both.
fn overlap(a: &Matchers, b: &Matchers) -> bool {
    let listeners = match (&a.listeners, &b.listeners) {
        (Some(a), Some(b)) => a.iter().any(|listener| b.contains(listener)),
        _ => true,
    };
    let methods = match (&a.methods, &b.methods) {
        (Some(a), Some(b)) => a.0.iter().any(|method| b.contains(method)),
        _ => true,
    };
    let contradict = |(name, value): &(HeaderName, HeaderValue)| {
        b.headers
            .iter()
            .any(|(other, other_value)| other == name && other_value != value)
    };
    let contradict_in_cookie = |(name, value): &(Box<str>, Box<str>)| {
        b.cookies
            .iter()
            .any(|(other, other_value)| other == name && other_value != value)
    };
    listeners
        && methods
        && !a.headers.iter().any(contradict)
        && !a.cookies.iter().any(contradict_in_cookie)
}
