//! Draws a [`Model`] into a buffer of any size. Knows nothing of terminals: what is drawn is cells.

mod dialog;
mod endpoints;
mod head;
mod others;
mod paint;
mod selected;
#[cfg(test)]
mod tests;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::super::table::Tone;
use super::model::{Model, View};
use paint::{Canvas, cells};

/// How it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) in_colour: bool,
    /// Whether somebody sits before it, and presses keys.
    pub(super) is_live: bool,
}

/// Draws all of it. How many rows of the list fit.
pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) -> usize {
    let mut canvas = Canvas {
        buffer,
        in_colour: look.in_colour,
    };
    let (width, height) = (area.width, area.height);
    if width == 0 || height == 0 {
        return 0;
    }
    let verdict = head::verdict(model, &canvas, width, most_lines(height));
    let mut left = Rows { area };
    if height >= 12 {
        head::identity(model, &mut canvas, left.first(1));
    }
    for (style, line) in &verdict {
        let row = left.first(1);
        canvas.left((row.x, row.y), row.width, line, *style);
    }
    if height >= 10 {
        head::totals(model, &mut canvas, left.first(1));
        left.first(u16::from(height >= 20));
    }
    if look.is_live && height >= 3 {
        foot(model, &mut canvas, left.last(1));
    }
    if model.view == View::Endpoints && look.is_live {
        let rows = match height {
            0..16 => 0,
            16..32 => 2,
            _ => 12,
        };
        let below = left.last(rows);
        selected::draw(model, &mut canvas, below);
    }
    if height >= 8 {
        tabs(model, look, &mut canvas, left.first(1));
    }
    let list = left.area;
    match model.view {
        View::Endpoints => endpoints::draw(model, look, &mut canvas, list),
        View::Routes => others::routes(model, &mut canvas, list),
        View::Events => others::events(model, &mut canvas, list),
    }
    if model.away.is_some() {
        let below = Rect {
            y: list.y,
            height: area
                .bottom()
                .saturating_sub(list.y + u16::from(look.is_live)),
            ..area
        };
        // It is not so any more.
        canvas.tint(below, canvas.style(Tone::Faint));
    }
    if model.shows_help {
        dialog::help(&mut canvas, area);
    }
    if let Some(question) = &model.question {
        dialog::question(model, question, &mut canvas, area);
    }
    usize::from(list.height.saturating_sub(1))
}

/// Lines that the verdict may take.
fn most_lines(height: u16) -> usize {
    match height {
        0..10 => 1,
        10..20 => 2,
        20..32 => 4,
        _ => 6,
    }
}

/// Rows that nothing was drawn in yet.
struct Rows {
    area: Rect,
}

impl Rows {
    /// The `height` uppermost of them, or as many as there are.
    fn first(&mut self, height: u16) -> Rect {
        let height = height.min(self.area.height);
        let first = Rect {
            height,
            ..self.area
        };
        self.area.y += height;
        self.area.height -= height;
        first
    }

    /// The same of the lowest.
    fn last(&mut self, height: u16) -> Rect {
        let height = height.min(self.area.height);
        self.area.height -= height;
        Rect {
            y: self.area.bottom(),
            height,
            ..self.area
        }
    }
}

/// Which list it is, how it is sorted, and what of it is left out.
fn tabs(model: &Model, look: Look, canvas: &mut Canvas<'_>, area: Rect) {
    let faint = canvas.style(Tone::Faint);
    let mut x = area.x;
    if look.is_live {
        for view in View::ALL {
            let (style, text) = if view == model.view {
                let style = canvas.style(Tone::Plain).add_modifier(Modifier::BOLD);
                (style, format!("[{}]", view.name()))
            } else {
                (faint, format!(" {} ", view.name()))
            };
            x = canvas.left((x, area.y), area.right().saturating_sub(x), &text, style);
        }
    }
    let mut right = Vec::new();
    if !model.filter.is_empty() {
        right.push(format!("only {:?}", model.filter));
    }
    if model.view == View::Endpoints {
        let inverted = if model.sort.inverted {
            ", inverted"
        } else {
            ""
        };
        right.push(format!("sorted by {}{inverted}", model.sort.column.name()));
        if model.is_grouped {
            right.push("grouped".to_owned());
        }
    }
    let text = right.join(" · ");
    let room = area.right().saturating_sub(x + 1);
    if cells(&text) <= room {
        canvas.right((x + 1, area.y), room, &text, faint);
    }
}

/// What came of the last command, or which keys there are.
fn foot(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let at = (area.x, area.y);
    if model.is_typing {
        let text = format!("/{}▏ Enter keeps it, Esc ends it", model.filter);
        canvas.left(at, area.width, &text, canvas.style(Tone::Plain));
    } else if let Some((tone, text)) = &model.notice {
        canvas.left(at, area.width, text.as_str(), canvas.style(*tone));
    } else {
        let keys = "q quit  ? help  Tab view  / filter  < > sort  g group  d drain  r resume";
        canvas.left(at, area.width, keys, canvas.style(Tone::Faint));
    }
}
