//! Texts, numbers and small charts in cells: what all parts of the screen are drawn with.

use ratatui::buffer::{Buffer, CellWidth};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use super::super::super::table::Tone;
use super::super::data::Points;

/// Where is drawn, and whether in colour.
pub(super) struct Canvas<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) in_colour: bool,
}

impl Canvas<'_> {
    /// Draws `text` at the left of `width` cells from (`x`, `y`), cut with an ellipsis. Where it ends.
    pub(super) fn left(&mut self, (x, y): (u16, u16), width: u16, text: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() {
            return x;
        }
        let width = width.min(area.right() - x);
        let text = cut(text, width);
        self.buffer
            .set_stringn(x, y, text, usize::from(width), style)
            .0
    }

    /// The same at the right.
    pub(super) fn right(&mut self, (x, y): (u16, u16), width: u16, text: &str, style: Style) {
        let text = cut(text, width);
        let gap = width.saturating_sub(cells(&text));
        self.left((x.saturating_add(gap), y), width - gap, &text, style);
    }

    /// Gives all of `area` this style, whatever stands in it.
    pub(super) fn tint(&mut self, area: Rect, style: Style) {
        self.buffer.set_style(area, style);
    }

    /// Never by colour alone: words say the same.
    pub(super) fn style(&self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Plain => return Style::new(),
            Tone::Faint => return Style::new().add_modifier(Modifier::DIM),
            Tone::Good => Color::Green,
            Tone::Doubtful => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        let style = match tone {
            Tone::Bad => Style::new().add_modifier(Modifier::BOLD),
            Tone::Plain | Tone::Faint | Tone::Good | Tone::Doubtful => Style::new(),
        };
        if self.in_colour {
            style.fg(colour)
        } else {
            style
        }
    }
}

/// Cells that `text` takes.
pub(super) fn cells(text: &str) -> u16 {
    text.cell_width()
}

/// `text` in at most `width` cells; what is cut off leaves an ellipsis.
pub(super) fn cut(text: &str, width: u16) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 0;
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        let wide = cells(grapheme.symbol);
        if taken + wide + 1 > width {
            break;
        }
        taken += wide;
        cut.push_str(grapheme.symbol);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// `text` in lines of at most `width` cells, broken between words where that is possible.
pub(super) fn wrapped(text: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if cells(line) + 1 + cells(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A row of bars, the highest of which is the most of `points`; all of them fit into `width`.
pub(super) fn bars(points: &Points, width: u16) -> String {
    let (points, width) = (&points.0, usize::from(width));
    if points.is_empty() || width == 0 {
        return String::new();
    }
    let finite = |point: &f32| point.is_finite();
    let most = points.iter().copied().filter(finite).fold(0.0, f32::max);
    let columns = points.len().min(width);
    let column = |at: usize| {
        let (from, to) = (
            at * points.len() / columns,
            (at + 1) * points.len() / columns,
        );
        let points = points[from..to].iter().copied().filter(finite);
        points.reduce(f32::max)
    };
    let bar = |point: Option<f32>| match point {
        None => ' ',
        Some(point) if most > 0.0 => {
            // As many eighths; the least that is there at all is seen.
            let eighths = (point / most * 8.0).ceil().clamp(1.0, 8.0);
            BARS[eighths as usize - 1]
        }
        Some(_) => BARS[0],
    };
    (0..columns).map(|at| bar(column(at))).collect()
}

/// Per second.
pub(super) fn rate(rate: Option<f32>) -> String {
    match rate {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 9_999.5 => format!("{rate:.0}"),
        Some(rate) if rate < 999_950.0 => format!("{:.0}k", rate / 1e3),
        Some(rate) => format!("{:.1}M", rate / 1e6),
    }
}

/// Seconds.
pub(super) fn latency(seconds: Option<f32>) -> String {
    match seconds {
        None => UNKNOWN.to_owned(),
        Some(seconds) if seconds < 0.001 => "<1 ms".to_owned(),
        Some(seconds) if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) if seconds < 9.95 => format!("{seconds:.1} s"),
        Some(seconds) => format!("{seconds:.0} s"),
    }
}

/// Seconds, in the largest unit.
pub(super) fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Where nothing is known.
pub(super) const UNKNOWN: &str = "–";

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_cells_and_not_by_letters() {
        assert_eq!(cut("balancer", 8), "balancer");
        assert_eq!(cut("balancer", 5), "bala…");
        assert_eq!(cut("端点端点", 8), "端点端点");
        assert_eq!(cut("端点端点", 6), "端点…");
        assert_eq!(cut("端点", 0), "");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    }

    #[test]
    fn chart_fits_and_a_peak_is_never_lost_in_it() {
        let nan = f32::NAN;
        assert_eq!(bars(&Points(vec![0.0, 4.0, 8.0, nan]), 10), "▁▄█ ");
        assert_eq!(bars(&Points(vec![0.0; 3]), 10), "▁▁▁");
        let mut points = vec![1.0; 180];
        points[91] = 8.0;
        let chart = bars(&Points(points), 20);
        assert_eq!(chart.chars().count(), 20);
        assert_eq!(chart.matches('█').count(), 1);
        assert_eq!(bars(&Points(vec![]), 10), "");
    }

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.04, "0.0"),
            (9.94, "9.9"),
            (9.96, "10"),
            (1234.4, "1234"),
            (12_345.0, "12k"),
            (2.5e6, "2.5M"),
        ] {
            assert_eq!(rate(Some(value)), shown);
        }
        for (value, shown) in [
            (0.0004, "<1 ms"),
            (0.0234, "23 ms"),
            (0.9999, "1.0 s"),
            (61.0, "61 s"),
        ] {
            assert_eq!(latency(Some(value)), shown);
        }
        for (value, shown) in [(59, "59s"), (61, "1m"), (7200, "2h"), (90_000, "1d")] {
            assert_eq!(short(value), shown);
        }
    }
}
