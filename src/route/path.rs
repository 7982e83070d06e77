//! The routes of one host, by path: exact, then longest exclusive prefix, then regexes in file order, then longest
//! prefix. Knows nothing of hosts; the caller says whether a route's other matchers hold.

use std::cmp::Reverse;
use std::collections::HashMap;

use foldhash::fast::FixedState;
use regex::Regex;
use smallvec::SmallVec;

use super::Matchers;
use crate::config::PathPattern;
use crate::message::canonical_path::loosest;

/// The routes of one host pattern.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Box<[u8]>, Vec<u32>, FixedState>,
    prefixes: Trie<Prefixes>,
    regexes: Vec<(Regex, u32)>,
    guard: Guard,
}

/// The routes of one prefix, those with more matchers first.
#[derive(Debug, Default)]
struct Prefixes {
    exclusive: Vec<u32>,
    plain: Vec<u32>,
}

/// The exclusive routes among them, by the loosest reading of their patterns.
#[derive(Debug, Default)]
pub(super) struct Guard {
    twins: Trie<Twins>,
    /// The first exclusive route per listener (`None`: any).
    first: Vec<(Option<usize>, u32)>,
    /// A pattern differs from its own loosest reading, so that paths which do not may fall under it.
    differs: bool,
}

#[derive(Debug, Default)]
struct Twins {
    exact: Vec<u32>,
    prefix: Vec<u32>,
}

impl Paths {
    pub(super) fn insert(&mut self, index: u32, route: &Matchers) {
        match &route.path {
            PathPattern::Exact(path) => self
                .exact
                .entry(path.as_bytes().into())
                .or_default()
                .push(index),
            PathPattern::Regex(regex) => self.regexes.push((regex.clone(), index)),
            PathPattern::Prefix(prefix) => {
                let prefixes = self.prefixes.entry(as_prefix(prefix.as_bytes()));
                let list = if route.exclusive {
                    &mut prefixes.exclusive
                } else {
                    &mut prefixes.plain
                };
                list.push(index);
            }
        }
        self.guard.insert(index, route);
    }

    /// To be called after the last insert.
    pub(super) fn sort(&mut self, routes: &[Matchers]) {
        let more_matchers_first = |list: &mut Vec<u32>| {
            list.sort_by_key(|index| (Reverse(routes[*index as usize].count()), *index));
        };
        self.exact.values_mut().for_each(more_matchers_first);
        for prefixes in self.prefixes.values_mut() {
            more_matchers_first(&mut prefixes.exclusive);
            more_matchers_first(&mut prefixes.plain);
        }
        self.regexes.sort_by_key(|(_, index)| *index);
    }

    /// The best route that takes `path` and is admitted.
    pub(super) fn find(&self, path: &str, admitted: impl Fn(u32) -> bool) -> Option<u32> {
        let first = |list: &[u32]| list.iter().copied().find(|index| admitted(*index));
        let walked = self.prefixes.walk(path.as_bytes()).values;
        self.exact
            .get(path.as_bytes())
            .and_then(|list| first(list))
            .or_else(|| {
                walked
                    .iter()
                    .rev()
                    .find_map(|prefixes| first(&prefixes.exclusive))
            })
            .or_else(|| {
                let taken =
                    |(regex, index): &&(Regex, u32)| admitted(*index) && regex.is_match(path);
                self.regexes.iter().find(taken).map(|(_, index)| *index)
            })
            .or_else(|| {
                walked
                    .iter()
                    .rev()
                    .find_map(|prefixes| first(&prefixes.plain))
            })
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }
}

impl Guard {
    fn insert(&mut self, index: u32, route: &Matchers) {
        let (PathPattern::Exact(pattern) | PathPattern::Prefix(pattern), true) =
            (&route.path, route.exclusive)
        else {
            return;
        };
        let mut listeners = match &route.listeners {
            None => vec![None],
            Some(listeners) => listeners.iter().copied().map(Some).collect(),
        };
        listeners.retain(|listener| !self.first.iter().any(|(known, _)| known == listener));
        self.first
            .extend(listeners.into_iter().map(|listener| (listener, index)));

        // A pattern without a loosest reading is refused in every spelling, by the same rule.
        let Ok(reading) = loosest(pattern) else {
            return;
        };
        self.differs |= reading.is_some();
        let reading = reading.map_or_else(|| pattern.as_bytes().to_vec(), |reading| reading.path);
        match route.path {
            PathPattern::Exact(_) => self.twins.entry(&reading).exact.push(index),
            _ => self
                .twins
                .entry(reading.strip_suffix(b"/").unwrap_or(&reading))
                .prefix
                .push(index),
        }
    }

    /// An exclusive route that can be reached by this listener.
    pub(super) fn reachable(&self, listener: usize) -> Option<u32> {
        self.first
            .iter()
            .find(|(on, _)| on.is_none_or(|on| on == listener))
            .map(|(_, index)| *index)
    }

    /// Whether a path that is its own loosest reading may yet fall under an exclusive route it does not match.
    pub(super) fn differs(&self) -> bool {
        self.differs
    }

    /// The exclusive routes that a loosest reading falls under, in lists by length of the pattern's loosest reading in
    /// segments, from `/` on; lists may be empty.
    pub(super) fn over(&self, reading: &[u8]) -> impl Iterator<Item = impl Iterator<Item = u32>> {
        let Walk { values, complete } = self.twins.walk(reading);
        let last = values.len() - 1;
        values.into_iter().enumerate().map(move |(depth, twins)| {
            let exact: &[u32] = if complete && depth == last {
                &twins.exact
            } else {
                &[]
            };
            exact.iter().chain(&twins.prefix).copied()
        })
    }
}

/// A value per path, found segment by segment.
#[derive(Debug)]
struct Trie<T> {
    /// The first is the root, which is the prefix `/`.
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    children: HashMap<Box<[u8]>, u32, FixedState>,
    value: T,
}

/// The values met on the way along a path, from the root's on.
struct Walk<'a, T> {
    values: SmallVec<[&'a T; 8]>,
    /// The last value belongs to the whole path.
    complete: bool,
}

impl<T: Default> Default for Trie<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl<T: Default> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: HashMap::default(),
            value: T::default(),
        }
    }
}

impl<T: Default> Trie<T> {
    fn entry(&mut self, path: &[u8]) -> &mut T {
        let mut at = 0;
        for segment in segments(path) {
            let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
            at = *self.nodes[at]
                .children
                .entry(segment.into())
                .or_insert(next) as usize;
            if at == self.nodes.len() {
                self.nodes.push(Node::default());
            }
        }
        &mut self.nodes[at].value
    }
}

impl<T> Trie<T> {
    /// No longer than the trie is deep, however long the path is.
    fn walk(&self, path: &[u8]) -> Walk<'_, T> {
        let mut node = &self.nodes[0];
        let mut walk = Walk {
            values: SmallVec::new(),
            complete: true,
        };
        walk.values.push(&node.value);
        for segment in segments(path) {
            let Some(child) = node.children.get(segment) else {
                walk.complete = false;
                break;
            };
            node = &self.nodes[*child as usize];
            walk.values.push(&node.value);
        }
        walk
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nodes.iter_mut().map(|node| &mut node.value)
    }
}

/// What a prefix is to a trie: without trailing slash, so that `/` has no segments and is the root.
fn as_prefix(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// `/a/b` is `a`, `b`; `/a/` is `a` and an empty segment; the empty path has none.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
}
