//! What differs between two files, key by key, as they are written. Knows no key's meaning.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// One key that differs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// Its path: `timeouts.connect`.
    pub key: String,
    /// What stood there; none: nothing.
    pub before: Option<String>,
    /// What stands there; none: nothing.
    pub after: Option<String>,
}

impl Difference {
    /// Of `key`.
    pub fn new(key: &str, before: impl Into<String>, after: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            before: Some(before.into()),
            after: Some(after.into()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
        let (before, after) = (shown(&self.before), shown(&self.after));
        write!(f, "{}: {before} -> {after}", self.key)
    }
}

/// The keys that differ between two tables, those of tables within them one by one; in the order of their names.
pub fn differences(before: &Table, after: &Table) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

fn compare(prefix: &str, before: &Table, after: &Table, found: &mut Vec<Difference>) {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match (before.get(key), after.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                compare(&path, before, after, found);
            }
            (before, after) if before == after => {}
            // Key by key as well; one that is empty says something only by being there.
            (None, Some(Value::Table(after))) if !after.is_empty() => {
                compare(&path, &Table::new(), after, found);
            }
            (Some(Value::Table(before)), None) if !before.is_empty() => {
                compare(&path, before, &Table::new(), found);
            }
            (before, after) => found.push(Difference {
                key: path,
                before: before.map(short),
                after: after.map(short),
            }),
        }
    }
}

/// A value on one line, cut where it is long.
fn short(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const SHOWN: usize = 80; // characters: enough to recognise it

#[cfg(test)]
mod tests {
    use super::*;

    fn found(before: &str, after: &str) -> Vec<String> {
        let read = |text: &str| text.parse::<Table>().unwrap();
        let found = differences(&read(before), &read(after));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_that_differs_is_named_and_no_other() {
        assert_eq!(
            found(
                "same = 1\npolicy = \"a\"\ngone = true\n[timeouts]\nconnect = \"1s\"\nidle = \"2s\"\n",
                "policy = \"b\"\nnew = [1, 2]\nsame = 1\ntimeouts = { connect = \"3s\", idle = \"2s\" }\n",
            ),
            [
                "gone: true -> unset",
                "new: unset -> [1, 2]",
                "policy: \"a\" -> \"b\"",
                "timeouts.connect: \"1s\" -> \"3s\"",
            ]
        );
        assert_eq!(
            found("[gone]\na = 1\n", "tls = {}\nnew = { b = { c = 2 } }\n"),
            [
                "gone.a: 1 -> unset",
                "new.b.c: unset -> 2",
                "tls: unset -> {}"
            ]
        );
        assert_eq!(found("a = 1 # one", "\n\na   =   1"), Vec::<String>::new());
    }

    #[test]
    fn long_values_are_cut() {
        let found = found("", &format!("a = \"{}\"", "ä".repeat(500)));
        assert!(found[0].chars().count() < 120, "{found:?}");
    }
}
