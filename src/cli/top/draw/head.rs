//! The top of the screen: which balancer, how it stands, and how much there is to do.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::super::super::status::ago;
use super::super::super::table::Tone;
use super::super::model::Model;
use super::super::plain::Plain;
use super::super::verdict;
use super::paint::{Canvas, bars, cells, cut, latency, rate, short, wrapped};

/// `balancer 0.1.0, generation 7, up 3 d 2 h`
pub(super) fn identity(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(status) = &model.status else {
        canvas.left((area.x, area.y), area.width, "balancer", Style::new());
        return;
    };
    let up = ago(model.now.saturating_sub(status.started));
    let mut text = format!(
        "balancer {}, generation {}, up {up}",
        status.version, status.generation
    );
    if let Some(last) = &status.last_reload {
        let ago = short(model.now.saturating_sub(last.at));
        text += &format!("; reload by {} {ago} ago: {}", last.by, last.result);
    }
    canvas.left(
        (area.x, area.y),
        area.width,
        &text,
        canvas.style(Tone::Faint),
    );
}

/// How it stands, in at most `most` lines of `width`.
pub(super) fn verdict(
    model: &Model,
    canvas: &Canvas<'_>,
    width: u16,
    most: usize,
) -> Vec<(Style, String)> {
    let verdict = match (&model.away, &model.status) {
        (Some((since, why)), status) => {
            let seen = status.as_ref().map(|_| model.told);
            verdict::away((*since, why), seen, model.now)
        }
        (None, None) => vec![(Tone::Plain, "The balancer is asked.".to_owned())],
        (None, Some(status)) => verdict::verdict(status, model.now),
    };
    let mut lines = Vec::new();
    for (tone, text) in verdict {
        let style = canvas.style(tone).add_modifier(Modifier::BOLD);
        let wrapped = wrapped(&text, width).into_iter();
        lines.extend(wrapped.map(|line| (style, line)));
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some((_, last)) = lines.last_mut() {
            // Whatever its length, it says that there is more.
            *last = cut(&format!("{last} …"), width);
        }
    }
    lines
}

/// `412 req/s ▁▂▃  0.2 err/s  45 in flight  312 connections  p99 23 ms (api)`: of the slowest route.
pub(super) fn totals(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(status) = &model.status else {
        return;
    };
    let traffic = &model.traffic;
    let connections: usize = status.listeners.iter().map(|it| it.open_connections).sum();
    let endpoints = status.upstreams.iter().flat_map(|it| &it.endpoints);
    let in_flight: u64 = endpoints.map(|it| u64::from(it.in_flight)).sum();
    let s = if connections == 1 { "" } else { "s" };
    let requests = format!("{} req/s ", rate(traffic.requests.last()));
    let mut rest = format!(
        " {} err/s  {in_flight} in flight  {connections} connection{s}",
        rate(traffic.errors.last()),
    );
    if let Some((series, p99)) = traffic.slowest() {
        rest += &format!("  p99 {}", latency(Some(p99)));
        let route = cut(Plain::of(&series.name).as_str(), 24);
        let taken = cells(&requests) + cells(&rest) + cells(&route) + LEAST_CHART;
        if status.routes.len() > 1 && taken + 4 <= area.width {
            rest += &format!(" ({route})");
        }
    }
    let room = area
        .width
        .saturating_sub(cells(&requests) + cells(&rest) + 1);
    let chart = if room < LEAST_CHART { 0 } else { room.min(60) };
    let chart = bars(&traffic.requests, chart);
    let gap = if chart.is_empty() { "" } else { " " };
    let text = format!("{requests}{chart}{gap}{rest}");
    canvas.left((area.x, area.y), area.width, &text, Style::new());
}

const LEAST_CHART: u16 = 8; // a shorter one shows nothing
