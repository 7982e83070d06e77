//! The other lists: routes, and what has happened.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::super::table::Tone;
use super::super::data::{Points, Route, Series};
use super::super::model::{Event, Model};
use super::super::rows;
use super::paint::{Canvas, bars, latency, rate, short};

/// The routes with what goes over them.
pub(super) fn routes(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(status) = &model.status else {
        return;
    };
    if area.height == 0 {
        return;
    }
    let faint = canvas.style(Tone::Faint);
    // Numbers stand at the right, as many as there is room for beside the names.
    let numbers: &[usize] = match area.width.saturating_sub(24) / NUMBER {
        0..2 => &[],
        2..4 => &[0, 1],
        4..6 => &[0, 1, 4, 5],
        _ => &[0, 1, 2, 3, 4, 5],
    };
    let taken = u16::try_from(numbers.len()).unwrap_or(0) * NUMBER;
    let number_xs = || (area.right() - taken..).step_by(usize::from(NUMBER));
    let names = area.width - taken;
    let chart = if names > 70 { names - 50 } else { 0 };
    let (route_room, upstream_room) = ((names - chart) * 6 / 10, (names - chart) * 4 / 10);
    let upstream_x = area.x + route_room;
    canvas.left((area.x + 2, area.y), route_room, "route", faint);
    canvas.left((upstream_x, area.y), upstream_room, "upstream", faint);
    let chart_x = upstream_x + upstream_room;
    canvas.left((chart_x, area.y), chart, "req/s, 15 min", faint);
    for (x, number) in number_xs().zip(numbers) {
        canvas.right((x, area.y), NUMBER, NUMBERS[*number], faint);
    }
    let routes = rows::routes((status, &model.traffic), &model.filter);
    let shown = routes.iter().skip(model.scrolled);
    for (y, (route, series)) in (area.y + 1..area.bottom()).zip(shown) {
        let room = route_room.saturating_sub(3);
        canvas.left((area.x + 2, y), room, route.name.shown(), Style::new());
        let room = upstream_room.saturating_sub(1);
        canvas.left((upstream_x, y), room, &leads_to(route), Style::new());
        if let Some(series) = series {
            let room = chart.saturating_sub(2);
            canvas.left(
                (chart_x, y),
                room,
                &bars(&series.requests, room),
                Style::new(),
            );
        }
        let values = values(*series);
        for (x, number) in number_xs().zip(numbers) {
            canvas.right((x, y), NUMBER, &values[*number], Style::new());
        }
    }
}

fn leads_to(route: &Route) -> String {
    let shares = route.split.iter();
    let shares = shares.map(|share| format!("{} {}", share.upstream, share.weight));
    let shares: Vec<_> = shares.collect();
    match &route.upstream {
        Some(upstream) => upstream.to_string(),
        None if shares.is_empty() => "(answered here)".to_owned(),
        None => shares.join(", "),
    }
}

fn values(series: Option<&Series>) -> [String; 6] {
    let last = |of: fn(&Series) -> &Points| series.and_then(|it| of(it).last());
    [
        rate(last(|it| &it.requests)),
        rate(last(|it| &it.errors)),
        latency(series.and_then(|it| it.p50.0)),
        latency(series.and_then(|it| it.p95.0)),
        latency(last(|it| &it.p99)),
        rate(series.and_then(|it| it.in_flight.0)),
    ]
}

/// What has happened, the latest first.
pub(super) fn events(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    if model.events.is_empty() {
        let text = "Nothing has happened.";
        canvas.left((area.x + 2, area.y), area.width, text, Style::new());
    }
    let shown = model.events.iter().skip(model.scrolled);
    for (y, event) in (area.y..area.bottom()).zip(shown) {
        event_line(event, model.now, canvas, Rect { y, ..area });
    }
}

/// `3m ago  endpoint  app/127.0.0.1:9001: up -> down (refused)`
pub(super) fn event_line(event: &Event, now: u64, canvas: &mut Canvas<'_>, area: Rect) {
    let faint = canvas.style(Tone::Faint);
    let ago = format!("{} ago", short(now.saturating_sub(event.at)));
    canvas.right((area.x, area.y), 8, &ago, faint);
    canvas.left((area.x + 10, area.y), 9, event.kind.as_str(), faint);
    let room = area.width.saturating_sub(20);
    let style = canvas.style(event.tone);
    canvas.left((area.x + 20, area.y), room, event.text.as_str(), style);
}

const NUMBERS: [&str; 6] = ["req/s", "err/s", "p50", "p95", "p99", "in fl"];
const NUMBER: u16 = 8;
