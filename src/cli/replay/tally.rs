//! What became of all requests: how many, and by kind of change with some examples of each. Its memory is bounded, whatever a log
//! holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::compare::Differences;
use super::lines::Line;
use super::record::{Record, Text};
use super::unknown::Unknown;

/// More kinds than this are not told apart: a log has as many as its writer had routes and upstreams, two by two.
const MOST_KINDS: usize = 10_000;
/// So many lines that are none are told of.
const MOST_BAD: usize = 5;

/// A kind of change: what was, what would be, and what of it is another.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Change {
    pub(super) differences: Differences,
    pub(super) before: Side,
    pub(super) after: Side,
}

/// One of two sides, in words. `None` where that is not known.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Side {
    pub(super) route: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) status: Option<String>,
}

/// Requests of one kind.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) count: u64,
    /// The first ones that do not ask the same.
    pub(super) examples: Vec<Example>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Example {
    /// File and line.
    pub(super) at: String,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
}

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of each kind.
    wanted: usize,
    pub(super) requests: u64,
    pub(super) same: u64,
    pub(super) changes: HashMap<Change, Group>,
    pub(super) unknown: HashMap<Unknown, Group>,
    /// Changes that are of none of those kinds.
    pub(super) others: u64,
    pub(super) bad: u64,
    /// The first ones, each with why.
    pub(super) bad_lines: Vec<(String, String)>,
    has_upstreams: bool,
}

impl Tally {
    /// With so many examples of each kind.
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    pub(super) fn add_same(&mut self, record: &Record<'_>) {
        self.see(record);
        self.same += 1;
    }

    pub(super) fn add_change(&mut self, line: &Line<'_>, record: &Record<'_>, change: Change) {
        self.see(record);
        if !add(&mut self.changes, change, self.wanted, (line, record)) {
            self.others += 1;
        }
    }

    pub(super) fn add_unknown(&mut self, line: &Line<'_>, record: &Record<'_>, unknown: Unknown) {
        self.see(record);
        if !add(&mut self.unknown, unknown, self.wanted, (line, record)) {
            self.others += 1;
        }
    }

    pub(super) fn add_bad(&mut self, line: &Line<'_>, why: String) {
        self.bad += 1;
        if self.bad_lines.len() < MOST_BAD {
            self.bad_lines.push((at(line), why));
        }
    }

    /// How many requests would fare otherwise.
    pub(super) fn changed(&self) -> u64 {
        self.changes.values().map(|group| group.count).sum::<u64>() + self.others
    }

    /// Of how many it cannot be told.
    pub(super) fn untold(&self) -> u64 {
        self.unknown.values().map(|group| group.count).sum()
    }

    /// To be called after the last line. Where no line names an upstream, the log was written without that field, and that one
    /// has none says nothing.
    pub(super) fn settle(&mut self) {
        if self.has_upstreams {
            return;
        }
        for (mut change, group) in std::mem::take(&mut self.changes) {
            if change.differences.by_absence {
                change.differences.upstream = false;
                change.differences.by_absence = false;
                change.before.upstream = None;
            }
            if change.differences.any() {
                let told = self.changes.entry(change).or_default();
                told.count += group.count;
                told.examples.extend(group.examples);
                told.examples.truncate(self.wanted);
            } else {
                self.same += group.count;
            }
        }
    }

    fn see(&mut self, record: &Record<'_>) {
        self.requests += 1;
        self.has_upstreams |= record.upstream.is_some();
    }
}

/// Whether there was room.
fn add<K: Eq + Hash>(
    groups: &mut HashMap<K, Group>,
    kind: K,
    wanted: usize,
    (line, record): (&Line<'_>, &Record<'_>),
) -> bool {
    let is_full = groups.len() >= MOST_KINDS;
    let group = match groups.entry(kind) {
        Entry::Occupied(group) => group.into_mut(),
        Entry::Vacant(_) if is_full => return false,
        Entry::Vacant(group) => group.insert(Group::default()),
    };
    group.count += 1;
    if group.examples.len() < wanted {
        let example = Example::of(line, record);
        if !group.examples.iter().any(|other| other.asks_as(&example)) {
            group.examples.push(example);
        }
    }
    true
}

impl Example {
    fn of(line: &Line<'_>, record: &Record<'_>) -> Self {
        let text = |text: Option<&Text<'_>>| shown(text.map_or("", Text::as_str));
        Self {
            at: at(line),
            method: text(record.method.as_ref()),
            host: text(record.host.as_ref()),
            path: text(record.spelled()),
        }
    }

    fn asks_as(&self, other: &Self) -> bool {
        (&self.method, &self.host, &self.path) == (&other.method, &other.host, &other.path)
    }
}

fn at(line: &Line<'_>) -> String {
    format!("{}:{}", line.file.display(), line.number)
}

/// Text of a log, which clients had a say in, as a terminal may get it; and not longer than one likes to read.
pub(super) fn shown(text: &str) -> String {
    use crate::message::unfit::is_unfit;
    let fit = |c: char| {
        if is_unfit(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut shown: String = text.chars().take(LONGEST).map(fit).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Characters of a path and the like.
const LONGEST: usize = 200;
