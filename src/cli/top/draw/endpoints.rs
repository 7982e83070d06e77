//! The list of endpoints.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::super::super::table::Tone;
use super::super::data::{Points, Series, Upstream, Urgency};
use super::super::model::Model;
use super::super::rows::{Column, Line, Row};
use super::Look;
use super::paint::{Canvas, UNKNOWN, bars, cells, latency, rate, short};

/// What stands in a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    /// One that may be sorted by.
    Of(Column),
    Reason,
    Trend,
}

impl What {
    fn title(self) -> &'static str {
        match self {
            Self::Of(Column::Name) => "endpoint",
            Self::Of(Column::State) => "state",
            Self::Of(Column::Since) => "for",
            Self::Of(Column::InFlight) => "in fl",
            Self::Of(Column::Requests) => "req/s",
            Self::Of(Column::Errors) => "err/s",
            Self::Of(Column::Latency) => "p99",
            Self::Of(Column::Retries) => "retry",
            Self::Of(Column::Weight) => "wgt",
            Self::Of(Column::Version) => "version",
            Self::Reason => "reason",
            Self::Trend => "req/s, 15 min",
        }
    }

    /// Cells that it takes.
    fn width(self) -> u16 {
        match self {
            Self::Of(Column::Name) => NAME,
            Self::Of(Column::State) => 10,
            Self::Of(Column::Since) => 3,
            Self::Of(Column::InFlight | Column::Retries) => 5,
            Self::Of(Column::Requests | Column::Errors) => 5,
            Self::Of(Column::Latency) => 6,
            Self::Of(Column::Weight) => 4,
            Self::Of(Column::Version) => 10,
            Self::Reason => 20,
            Self::Trend => 18,
        }
    }

    fn is_number(self) -> bool {
        match self {
            Self::Of(Column::Name | Column::State | Column::Version) => false,
            Self::Reason | Self::Trend => false,
            Self::Of(_) => true,
        }
    }
}

/// Draws those around the one that is selected.
pub(super) fn draw(model: &Model, look: Look, canvas: &mut Canvas<'_>, area: Rect) {
    let lines = model.lines();
    let selected = model.selected_in(&lines).filter(|_| look.is_live);
    let columns = columns(&lines, model.is_grouped, area.width);
    if area.height == 0 {
        return;
    }
    heading(model, canvas, &columns, area);
    let height = usize::from(area.height - 1);
    // It stays in the middle, as far as there are others on both sides.
    let from = selected.unwrap_or(0).saturating_sub(height / 2);
    let from = from.min(lines.len().saturating_sub(height));
    let shown = lines.iter().enumerate().skip(from).take(height);
    for (y, (at, line)) in (area.y + 1..).zip(shown) {
        let row = Rect {
            y,
            height: 1,
            ..area
        };
        match line {
            Line::Upstream(upstream) => group(model, canvas, (*upstream, &columns), row),
            Line::Endpoint(endpoint) => {
                let now = model.seen();
                endpoint_row((*endpoint, now, model.is_grouped), canvas, &columns, row);
            }
        }
        if selected == Some(at) {
            canvas.left((row.x, row.y), 1, "▸", Style::new());
            canvas.tint(row, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    if lines.is_empty() && height > 0 {
        let text = match &model.status {
            None => "",
            Some(_) if model.filter.is_empty() => "No endpoints are configured.",
            Some(_) => "No endpoint is like this; Esc ends the filter.",
        };
        canvas.left((area.x + 1, area.y + 1), area.width, text, Style::new());
    }
}

/// Those for which there is room, and how wide each is.
fn columns(lines: &[Line<'_>], is_grouped: bool, width: u16) -> Vec<(What, u16)> {
    let mut columns = vec![(What::Of(Column::Name), NAME.min(width))];
    let mut room = width.saturating_sub(NAME);
    let rows = || {
        lines.iter().filter_map(|line| match line {
            Line::Endpoint(row) => Some(row),
            Line::Upstream(_) => None,
        })
    };
    let is_told = |what: &What| match what {
        What::Of(Column::Version) => rows().any(|row| row.endpoint.version.is_some()),
        What::Of(Column::Retries) => rows().any(|row| row.endpoint.retries.is_some()),
        What::Of(_) | What::Reason | What::Trend => true,
    };
    let most_needed = [
        What::Of(Column::State),
        What::Of(Column::Since),
        What::Of(Column::InFlight),
        What::Of(Column::Requests),
        What::Of(Column::Errors),
        What::Of(Column::Latency),
        What::Of(Column::Retries),
        What::Of(Column::Weight),
        What::Of(Column::Version),
        What::Reason,
        What::Trend,
    ];
    for what in most_needed.into_iter().filter(is_told) {
        let Some(rest) = room.checked_sub(what.width() + GAP) else {
            break;
        };
        room = rest;
        columns.push((what, what.width()));
    }
    // What is left is for names first, then for reasons.
    let longest = rows().map(|row| cells(&name(row, is_grouped))).max();
    let wanted = longest.unwrap_or(0).saturating_sub(NAME);
    let for_names = wanted.min(room);
    columns[0].1 += for_names;
    if let Some(reason) = columns.iter_mut().find(|(what, _)| *what == What::Reason) {
        reason.1 += room - for_names;
    }
    columns
}

fn heading(model: &Model, canvas: &mut Canvas<'_>, columns: &[(What, u16)], area: Rect) {
    let mut x = area.x;
    for (what, width) in columns {
        let faint = canvas.style(Tone::Faint);
        let style = if *what == What::Of(model.sort.column) {
            faint.add_modifier(Modifier::UNDERLINED)
        } else {
            faint
        };
        let at = (x, area.y);
        match what {
            What::Of(Column::Name) => {
                canvas.left(
                    (x + 2, area.y),
                    width.saturating_sub(2),
                    what.title(),
                    style,
                );
            }
            what if what.is_number() => canvas.right(at, *width, what.title(), style),
            what => {
                canvas.left(at, *width, what.title(), style);
            }
        }
        x += width + GAP;
    }
}

/// `app: 2 of 3 serve, could lose 1`, and what they have together.
fn group(
    model: &Model,
    canvas: &mut Canvas<'_>,
    (upstream, columns): (&Upstream, &[(What, u16)]),
    area: Rect,
) {
    let series = model.traffic.upstreams.get(&upstream.name.raw);
    let all = upstream.endpoints.len();
    let mut text = format!("{}: {} of {all} serve", upstream.name, upstream.available);
    if let Some(headroom) = &upstream.headroom {
        text += &format!(", could lose {}", headroom.could_lose);
    }
    let style = canvas.style(Tone::Plain).add_modifier(Modifier::BOLD);
    let mut x = area.x;
    let mut numbers_from = None;
    for (what, width) in columns {
        let value = match what {
            What::Of(Column::InFlight) => {
                let in_flight = upstream.endpoints.iter().map(|it| u64::from(it.in_flight));
                Some(in_flight.sum::<u64>().to_string())
            }
            What::Of(Column::Retries) => {
                let retries = upstream.endpoints.iter().filter_map(|it| it.retries);
                retries.reduce(u64::saturating_add).map(|it| it.to_string())
            }
            what => number(*what, series),
        };
        if let Some(value) = value {
            numbers_from.get_or_insert(x);
            canvas.right((x, area.y), *width, &value, style);
        } else if *what == What::Trend {
            chart(series, canvas, (x, area.y), *width);
        }
        x += width + GAP;
    }
    let room = numbers_from
        .unwrap_or_else(|| area.right())
        .saturating_sub(area.x + 1);
    canvas.left((area.x, area.y), room, &text, style);
}

fn endpoint_row(
    (row, now, is_grouped): (Row<'_>, u64, bool),
    canvas: &mut Canvas<'_>,
    columns: &[(What, u16)],
    area: Rect,
) {
    let endpoint = row.endpoint;
    let tone = tone(endpoint.urgency());
    let mut x = area.x;
    for (what, width) in columns {
        let at = (x, area.y);
        let text = match what {
            What::Of(Column::Name) => name(&row, is_grouped),
            What::Of(Column::State) => endpoint.state.to_string(),
            What::Of(Column::Since) => short(now.saturating_sub(endpoint.since)),
            What::Of(Column::InFlight) => endpoint.in_flight.to_string(),
            What::Of(Column::Retries) => {
                let retries = endpoint.retries;
                retries.map_or_else(|| UNKNOWN.to_owned(), |it| it.to_string())
            }
            What::Of(Column::Weight) => endpoint.weight.to_string(),
            What::Of(Column::Version) => {
                let version = endpoint.version.as_ref();
                version.map_or_else(String::new, ToString::to_string)
            }
            What::Reason => reason(&row),
            What::Trend => String::new(),
            what => number(*what, row.series).unwrap_or_default(),
        };
        let style = match what {
            What::Of(Column::State) => canvas.style(tone),
            What::Of(Column::Name) if tone == Tone::Bad => canvas.style(tone),
            What::Of(Column::Errors) if row.errors().is_some_and(|it| it > 0.0) => {
                canvas.style(Tone::Bad)
            }
            _ => Style::new(),
        };
        if *what == What::Trend {
            chart(row.series, canvas, at, *width);
        } else if what.is_number() {
            canvas.right(at, *width, &text, style);
        } else {
            canvas.left(at, *width, &text, style);
        }
        x += width + GAP;
    }
}

/// What the last quarter of an hour says; `None` in columns that it knows nothing of.
fn number(what: What, series: Option<&Series>) -> Option<String> {
    let last = |of: fn(&Series) -> &Points| series.and_then(|series| of(series).last());
    match what {
        What::Of(Column::Requests) => Some(rate(last(|it| &it.requests))),
        What::Of(Column::Errors) => Some(rate(last(|it| &it.errors))),
        What::Of(Column::Latency) => Some(latency(last(|it| &it.p99))),
        What::Of(_) | What::Reason | What::Trend => None,
    }
}

fn chart(series: Option<&Series>, canvas: &mut Canvas<'_>, at: (u16, u16), width: u16) {
    if let Some(series) = series {
        canvas.left(at, width, &bars(&series.requests, width), Style::new());
    }
}

fn name(row: &Row<'_>, is_grouped: bool) -> String {
    if is_grouped {
        format!("  {}", row.endpoint.name)
    } else {
        format!("  {}", row.name())
    }
}

/// Why it is so, or why nobody asks it.
fn reason(row: &Row<'_>) -> String {
    let endpoint = row.endpoint;
    match &endpoint.reason {
        Some(reason) => reason.to_string(),
        None if endpoint.backup && !endpoint.eligible => "backup".to_owned(),
        None if !endpoint.eligible => "not picked".to_owned(),
        None => String::new(),
    }
}

/// How an endpoint of this urgency is shown.
pub(super) fn tone(urgency: Urgency) -> Tone {
    match urgency {
        Urgency::Down | Urgency::Ejected => Tone::Bad,
        Urgency::Doubtful | Urgency::Draining | Urgency::Disabled => Tone::Doubtful,
        Urgency::Well => Tone::Good,
    }
}

const NAME: u16 = 24; // an address with its port, and the mark before it
const GAP: u16 = 1;
