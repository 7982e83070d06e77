//! Columns for people to read, in colour where somebody looks at a terminal.

use std::io::{IsTerminal, Write, stderr, stdout};

/// How a cell is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tone {
    Plain,
    Good,
    Doubtful,
    Bad,
    Faint,
}

/// A text, and how it is shown.
#[derive(Clone, Debug)]
pub(super) struct Cell(String, Tone);

impl Cell {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self(text.into(), tone)
    }

    pub(super) fn plain(text: impl ToString) -> Self {
        Self(text.to_string(), Tone::Plain)
    }

    fn shown(&self, in_colour: bool) -> String {
        let code = match self.1 {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Plain => return self.0.clone(),
        };
        if in_colour {
            format!("\x1b[{code}m{}\x1b[0m", self.0)
        } else {
            self.0.clone()
        }
    }
}

/// Rows of cells.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<Cell>>);

impl Table {
    /// With a line that names the columns.
    pub(super) fn with_heading(names: &[&str]) -> Self {
        let heading = names.iter().map(|name| Cell::new(*name, Tone::Faint));
        Self(vec![heading.collect()])
    }

    pub(super) fn push(&mut self, row: Vec<Cell>) {
        self.0.push(row);
    }

    /// Each row a line, behind `indent`.
    pub(super) fn text(&self, indent: &str, in_colour: bool) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.0.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::from(indent);
            let last = row.iter().rposition(|cell| !cell.0.is_empty());
            for (cell, (column, width)) in row.iter().zip(widths.iter().enumerate()) {
                line.push_str(&cell.shown(in_colour));
                if last.is_some_and(|last| column < last) {
                    let gap = width - cell.0.chars().count() + 2;
                    line.extend(std::iter::repeat_n(' ', gap));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Whether standard output is shown in colour.
pub(super) fn in_colour() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes `text` to standard output. Who reads no further need not be told.
pub(super) fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}

/// Writes what is wrong to standard error, which may be closed: that is no reason to leave something half done.
pub(super) fn complain(text: &str) {
    let _ = stderr().write_all(format!("balancer: {text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_ends() {
        let mut table = Table::with_heading(&["name", "state", "reason"]);
        table.push(vec![
            Cell::plain("ä"),
            Cell::new("up", Tone::Good),
            Cell::plain(""),
        ]);
        table.push(vec![
            Cell::plain("longer"),
            Cell::new("down", Tone::Bad),
            Cell::plain("why"),
        ]);
        assert_eq!(
            table.text("  ", false),
            "  name    state  reason\n  ä       up\n  longer  down   why\n"
        );
        let coloured = table.text("", true);
        assert!(
            coloured.contains("\x1b[31mdown\x1b[0m   why\n"),
            "{coloured:?}"
        );
    }
}
