//! The parts of a file, as it is written. Knows its tables, not what their keys mean.

use toml::{Table, Value};

use crate::config::Config;

/// A file as it is written.
pub(super) struct File(Table);

impl File {
    pub(super) fn of(config: &Config) -> Self {
        // It was understood before: it is TOML.
        Self(config.text.0.parse().unwrap_or_default())
    }

    /// The tables under `kind` by name, without the keys in `but`.
    pub(super) fn named(&self, kind: &str, but: &[&str]) -> Vec<(String, Table)> {
        let tables = self.0.get(kind).and_then(Value::as_table);
        let entries = tables.into_iter().flatten();
        entries
            .filter_map(|(name, value)| {
                let mut table = value.as_table()?.clone();
                table.retain(|key, _| !but.contains(&key));
                Some((name.clone(), table))
            })
            .collect()
    }

    /// The routes under the names they have.
    pub(super) fn routes(&self, config: &Config) -> Vec<(String, Table)> {
        let routes = self.0.get("route").and_then(Value::as_array);
        let tables = routes.into_iter().flatten();
        let names = config.routes.iter().map(|route| route.name.to_string());
        names
            .zip(tables)
            .map(|(name, table)| (name, table.as_table().cloned().unwrap_or_default()))
            .collect()
    }

    /// An endpoint's entry as a table, without what is compared otherwise.
    pub(super) fn endpoint(&self, upstream: &str, index: usize) -> Table {
        let entry = self
            .0
            .get("upstream")
            .and_then(|upstreams| upstreams.get(upstream)?.get("endpoints")?.get(index));
        let mut table = match entry {
            Some(Value::Table(table)) => table.clone(),
            _ => Table::new(),
        };
        // How it is reached decides whether it is the same; what is wanted of it is more than the file says.
        for key in ["address", "name", "state"] {
            table.remove(key);
        }
        table
    }

    /// All but what has names.
    pub(super) fn rest(&self) -> Table {
        let mut rest = self.0.clone();
        rest.retain(|key, _| !["listener", "upstream", "route"].contains(&key));
        rest
    }
}
