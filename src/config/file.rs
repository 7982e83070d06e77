//! Reads TOML into a tree that knows where everything stands. Knows no key of the configuration.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;
use super::value::Value;
use super::{Place, Problem};

/// The text of a configuration file, and what was found wrong with it so far.
pub(super) struct Source<'a> {
    file: Arc<Path>,
    text: &'a str,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    /// The text `text`, as if it stood in `file`.
    pub(super) fn new(text: &'a str, file: &Path) -> Self {
        let after_newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(index, _)| index + 1);
        Self {
            file: file.into(),
            text,
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// The text.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The tree. Where the syntax is broken, every such problem is noted and nothing else can be said.
    pub(super) fn tree(&self) -> Option<DeTable<'a>> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Some(tree.into_inner());
        }
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let message = match (error.message(), self.text.get(span.clone())) {
                ("duplicate key", Some(key)) => format!("duplicate key `{key}`"),
                (message, _) => message.to_owned(),
            };
            self.report(self.place(span.start, ""), message);
        }
        // What follows a problem on the same line is mostly its echo.
        let problems = self.problems.take();
        *self.problems.borrow_mut() = sorted(problems);
        self.problems
            .borrow_mut()
            .dedup_by_key(|problem| problem.place.line);
        None
    }

    /// The whole file.
    pub(super) fn root<T>(
        &'a self,
        tree: &'a DeTable<'a>,
        read: impl FnOnce(&mut Table<'a>) -> T,
    ) -> T {
        let mut table = Table {
            source: self,
            entries: tree,
            offset: 0,
            key: String::new(),
            asked: Vec::new(),
        };
        let result = read(&mut table);
        table.finish();
        result
    }

    /// Where the byte `offset` stands.
    pub(super) fn place(&self, offset: usize, key: &str) -> Place {
        let line = self
            .line_starts
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        // A byte order mark is no character of the first line.
        let column = 1 + before.trim_start_matches('\u{feff}').chars().count();
        Place {
            file: self.file.clone(),
            line: number(line),
            column: number(column),
            key: key.into(),
        }
    }

    /// `path` as seen from where the balancer runs: the file says it relative to its own folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(path)
    }

    /// The file's name without its ending.
    fn stem(&self) -> std::borrow::Cow<'_, str> {
        self.file
            .file_stem()
            .map_or_else(|| "balancer".into(), std::ffi::OsStr::to_string_lossy)
    }

    /// Notes a problem.
    pub(super) fn report(&self, place: Place, message: impl Into<String>) {
        self.problems.borrow_mut().push(place.problem(message));
    }

    /// Notes something doubtful.
    pub(super) fn warn(&self, place: Place, message: impl Into<String>) {
        self.warnings.borrow_mut().push(place.problem(message));
    }

    /// All problems and all warnings, each in file order.
    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Problem>) {
        (
            sorted(self.problems.into_inner()),
            sorted(self.warnings.into_inner()),
        )
    }
}

/// In file order, each once.
pub(super) fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
    problems.dedup();
    problems
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A table with known keys, being read. What was not asked for is unknown.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    entries: &'a DeTable<'a>,
    offset: usize,
    key: String,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        entries: &'a DeTable<'a>,
        offset: usize,
        key: String,
    ) -> Self {
        Self {
            source,
            entries,
            offset,
            key,
            asked: Vec::new(),
        }
    }

    /// Where the table stands.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.offset, &self.key)
    }

    /// `path` as seen from where the balancer runs.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.source.resolve(path)
    }

    /// A path that belongs to this file and to no other in its folder: `folder/STEM.ending`.
    pub(super) fn own_path(&self, folder: &str, ending: &str) -> PathBuf {
        let stem = self.source.stem();
        self.resolve(&format!("{folder}/{stem}.{ending}"))
    }

    /// Notes a problem of the table as a whole.
    pub(super) fn report(&self, message: impl Into<String>) {
        self.source.report(self.place(), message);
    }

    /// What stands at `key`, if anything does.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        self.find(key)
    }

    /// What stands at `key`; a problem with `example` if nothing does.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.report(format!("needs `{key}`, such as {key} = {example}"));
        }
        value
    }

    /// Keys that will mean something in a later version. Returns those that are there.
    pub(super) fn not_yet(&mut self, keys: &[&'static str]) -> Vec<&'static str> {
        let found: Vec<_> = keys
            .iter()
            .copied()
            .filter(|key| self.find(key).is_some())
            .collect();
        for key in &found {
            self.asked.push(key);
            if let Some(value) = self.find(key) {
                self.source.report(value.key_place(), "not supported yet");
            }
        }
        found
    }

    /// Notes every key nobody asked for.
    pub(super) fn finish(self) {
        for entry in entries(self.source, self.entries, &self.key) {
            if self.asked.contains(&entry.name) {
                continue;
            }
            let message = match nearest(entry.name, self.asked.iter().copied()) {
                Some(known) => format!("unknown key; did you mean `{known}`?"),
                None => {
                    let mut known: Vec<_> =
                        self.asked.iter().map(|key| format!("`{key}`")).collect();
                    known.dedup();
                    format!("unknown key; allowed here: {}", known.join(", "))
                }
            };
            self.source.report(entry.key_place(), message);
        }
    }

    /// The same, without taking note that it was asked for.
    pub(super) fn find(&self, key: &str) -> Option<Value<'a>> {
        let (name, value) = self.entries.get_key_value(key)?;
        Some(entry(self.source, &self.key, name, value))
    }
}

/// All of a table whose keys are names, in file order.
pub(super) fn entries<'a>(
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    key: &str,
) -> Vec<Value<'a>> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(name, value)| entry(source, key, name, value))
        .collect();
    entries.sort_by_key(|entry| entry.key_offset);
    entries
}

fn entry<'a>(
    source: &'a Source<'a>,
    parent: &str,
    name: &'a Spanned<std::borrow::Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
) -> Value<'a> {
    let is_bare = !name.get_ref().is_empty()
        && name
            .get_ref()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let shown = if is_bare {
        name.get_ref().to_string()
    } else {
        format!("{:?}", name.get_ref())
    };
    Value {
        source,
        value: value.get_ref(),
        offset: value.span().start,
        name: name.get_ref(),
        key_offset: name.span().start,
        key: if parent.is_empty() {
            shown
        } else {
            format!("{parent}.{shown}")
        },
    }
}
