//! One value of the tree, read as what it should be. Every getter notes a problem where the value is something else.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::file::{Source, Table, entries};
use super::suggest::hint;
use super::{Place, quantity};
use crate::units::ByteSize;

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) value: &'a DeValue<'a>,
    pub(super) offset: usize,
    /// The last part of its key; empty in an array.
    pub(super) name: &'a str,
    pub(super) key_offset: usize,
    /// Its whole key, as shown.
    pub(super) key: String,
}

impl<'a> Value<'a> {
    /// Where the value stands.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.offset, &self.key)
    }

    /// Where its key stands.
    pub(super) fn key_place(&self) -> Place {
        self.source.place(self.key_offset, &self.key)
    }

    /// Notes a problem with the value.
    pub(super) fn report(&self, message: impl Into<String>) {
        self.source.report(self.place(), message);
    }

    /// Notes a doubt about the value.
    pub(super) fn warn(&self, message: impl Into<String>) {
        self.source.warn(self.place(), message);
    }

    /// Notes that the value is not `what`.
    pub(super) fn expected<T>(&self, what: impl fmt::Display) -> Option<T> {
        self.report(format!("must be {what}, got {self}"));
        None
    }

    /// The value of a result; its error becomes a problem.
    pub(super) fn noted<T>(&self, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.report(message)).ok()
    }

    pub(super) fn string(&self) -> Option<&'a str> {
        self.string_such_as("a string")
    }

    /// A string that means more; `what` says what.
    pub(super) fn string_such_as(&self, what: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.expected(what),
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        self.value
            .as_bool()
            .or_else(|| self.expected("true or false"))
    }

    /// A whole number in `range`.
    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(integer) = self.value else {
            return self.expected(format_args!("a whole number, {}", Range(&range)));
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.expected(Range(&range)),
        }
    }

    /// A number with or without a fraction.
    pub(super) fn number(&self) -> Option<f64> {
        match self.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            _ => None,
        }
        .or_else(|| self.expected("a number"))
    }

    /// A duration above zero.
    pub(super) fn duration(&self) -> Option<Duration> {
        let duration = self.duration_or_zero()?;
        if duration.is_zero() {
            self.expected("longer than zero")
        } else {
            Some(duration)
        }
    }

    pub(super) fn duration_or_zero(&self) -> Option<Duration> {
        let text = self.string_such_as("a duration such as \"5s\"")?;
        self.noted(quantity::duration(text))
    }

    /// A size above zero.
    pub(super) fn size(&self) -> Option<ByteSize> {
        let text = self.string_such_as("a size such as \"64KiB\"")?;
        let size = self.noted(quantity::size(text))?;
        if size.get() == 0 {
            self.expected("more than zero")
        } else {
            Some(size)
        }
    }

    /// A path, relative to the file's folder unless absolute.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.string_such_as("a path")?;
        if text.is_empty() || text.contains('\0') {
            return self.expected("a path");
        }
        Some(self.source.resolve(text))
    }

    /// One of `names`, or a problem. `later` are names of a later version.
    pub(super) fn one_of<T: Clone>(&self, names: &[(&str, T)], later: &[&str]) -> Option<T> {
        let all = listed(names.iter().map(|(name, _)| *name));
        let text = self.string_such_as(&all)?;
        if let Some((_, meaning)) = names.iter().find(|(name, _)| *name == text) {
            return Some(meaning.clone());
        }
        if later.contains(&text) {
            self.report(format!("{text:?} is not supported yet; use {all}"));
        } else {
            let hint = hint(text, names.iter().map(|(name, _)| *name));
            self.report(format!("must be {all}, got {self}{hint}"));
        }
        None
    }

    /// A table with known keys; `read` asks for them, all others are unknown.
    pub(super) fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let DeValue::Table(entries) = self.value else {
            return self.expected("a table");
        };
        let mut table = Table::new(self.source, entries, self.offset, self.key.clone());
        let result = read(&mut table);
        table.finish();
        Some(result)
    }

    /// A table whose keys are names, in file order. `what` says how it is written.
    pub(super) fn entries(&self, what: &str) -> Vec<Self> {
        match self.value {
            DeValue::Table(table) => entries(self.source, table, &self.key),
            _ => self.expected(what).unwrap_or_default(),
        }
    }

    /// The elements of an array. `what` says how it is written.
    pub(super) fn array(&self, what: &str) -> Option<Vec<Self>> {
        let DeValue::Array(elements) = self.value else {
            return self.expected(what);
        };
        let element = |(index, element): (usize, &'a toml::Spanned<DeValue<'a>>)| Self {
            source: self.source,
            value: element.get_ref(),
            offset: element.span().start,
            name: "",
            key_offset: element.span().start,
            key: format!("{}[{index}]", self.key),
        };
        Some(elements.iter().enumerate().map(element).collect())
    }

    /// The elements of an array that must have some; `otherwise` says what to do instead of leaving it empty.
    pub(super) fn non_empty_array(&self, what: &str, otherwise: &str) -> Option<Vec<Self>> {
        let elements = self.array(what)?;
        if elements.is_empty() {
            self.report(format!("must not be empty{otherwise}"));
            return None;
        }
        Some(elements)
    }
}

/// The value as a message shows it: short, on one line.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            DeValue::String(text) => match text.char_indices().nth(SHOWN) {
                Some((end, _)) => write!(f, "{:?}…", &text[..end]),
                None => write!(f, "{text:?}"),
            },
            DeValue::Integer(integer) => integer.fmt(f),
            DeValue::Float(float) => float.fmt(f),
            DeValue::Boolean(boolean) => boolean.fmt(f),
            DeValue::Datetime(datetime) => datetime.fmt(f),
            DeValue::Array(_) => f.write_str("an array"),
            DeValue::Table(_) => f.write_str("a table"),
        }
    }
}

/// `"a", "b" or "c"`
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.into_iter().map(|name| format!("{name:?}")).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() {
        last
    } else {
        format!("{} or {last}", names.join(", "))
    }
}

struct Range<'r>(&'r RangeInclusive<i64>);

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (low, &i64::MAX) => write!(f, "at least {low}"),
            (low, high) => write!(f, "{low}–{high}"),
        }
    }
}

const SHOWN: usize = 80; // characters of a string: enough to recognise it
