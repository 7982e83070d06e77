//! How an explanation is laid out.

use serde_json::{Map, Value};

/// Rows of a label and a text, aligned.
#[derive(Default)]
pub(super) struct Lines {
    indent: &'static str,
    rows: Vec<(String, String)>,
}

impl Lines {
    /// Below something else.
    pub(super) fn indented() -> Self {
        Self {
            indent: "  ",
            rows: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, label: &str, text: String) {
        self.rows.push((label.to_owned(), text));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The texts by their labels.
    pub(super) fn json(&self) -> Map<String, Value> {
        self.rows
            .iter()
            .map(|(label, text)| (label.replace(' ', "_"), text.as_str().into()))
            .collect()
    }

    pub(super) fn text(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(label, _)| label.chars().count())
            .max()
            .unwrap_or(0);
        self.rows
            .iter()
            .map(|(label, text)| format!("{}{label:width$}  {text}\n", self.indent))
            .collect()
    }
}

/// `items` as text, with `separator` between them.
pub(super) fn join<T: ToString>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(separator)
}
