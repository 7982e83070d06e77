//! What is known of the endpoint that is selected, and what has happened last.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::super::status::{ago, in_flight};
use super::super::super::table::Tone;
use super::super::data::{Endpoint, Points, Series, Upstream};
use super::super::model::Model;
use super::endpoints::tone;
use super::others::event_line;
use super::paint::{Canvas, bars, latency, rate};

/// Two rows of one endpoint; where there is room, its charts and the last events.
pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    let found = model
        .selected
        .as_ref()
        .and_then(|(upstream, endpoint)| model.find(upstream, endpoint));
    let Some((upstream, endpoint)) = found else {
        return;
    };
    let series = model
        .traffic
        .endpoint(&upstream.name.raw, &endpoint.name.raw);
    let is_tall = area.height > 2;
    let y = area.y + u16::from(is_tall);
    let style = canvas.style(tone(endpoint.urgency()));
    let text = words(upstream, endpoint, model.seen());
    canvas.left((area.x, y), area.width, &text, style);
    if is_tall {
        charts(series, canvas, Rect { y: y + 1, ..area });
        let heading = "last events";
        canvas.left(
            (area.x, y + 5),
            area.width,
            heading,
            canvas.style(Tone::Faint),
        );
        let rows = area.bottom().saturating_sub(y + 6);
        for (y, event) in (y + 6..).zip(model.events.iter().take(usize::from(rows))) {
            event_line(event, model.now, canvas, Rect { y, ..area });
        }
    } else {
        chart_line(series, canvas, Rect { y: y + 1, ..area });
    }
}

/// `app/127.0.0.1:9001 down for 3 min 4 s: connection refused; 3 in flight, weight 1, version 1.2; picked by random`
fn words(upstream: &Upstream, endpoint: &Endpoint, now: u64) -> String {
    let since = ago(now.saturating_sub(endpoint.since));
    let reason = endpoint.reason.as_ref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let tunnels = u32::try_from(endpoint.tunnels).unwrap_or(0);
    let mut text = format!(
        "{}/{} {} for {since}{reason}; {}, weight {}",
        upstream.name,
        endpoint.name,
        endpoint.state,
        in_flight(endpoint.in_flight, tunnels),
        endpoint.weight
    );
    if endpoint.backup {
        text += ", backup";
    }
    if let Some(set) = &endpoint.set {
        text += &format!(", set {set}");
    }
    if let Some(version) = &endpoint.version {
        text += &format!(", version {version}");
    }
    text + &format!("; picked by {}", upstream.policy)
}

/// Requests, errors and latency beside one another.
fn chart_line(series: Option<&Series>, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(series) = series else {
        return;
    };
    let third = area.width / 3;
    for (at, (name, points, value)) in (0..).zip(three(series)) {
        let text = format!("{name} {value} ");
        let x = area.x + at * third;
        let end = canvas.left((x, area.y), third, &text, canvas.style(Tone::Faint));
        let room = (x + third).saturating_sub(end + 2);
        canvas.left((end, area.y), room, &bars(points, room), Style::new());
    }
}

/// The same, one below the other.
fn charts(series: Option<&Series>, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(series) = series else {
        return;
    };
    for (y, (name, points, value)) in (area.y..).zip(three(series)) {
        canvas.left((area.x, y), 6, name, canvas.style(Tone::Faint));
        canvas.right((area.x + 6, y), 7, &value, Style::new());
        let room = area.width.saturating_sub(15).min(180);
        canvas.left((area.x + 15, y), room, &bars(points, room), Style::new());
    }
    let times = format!(
        "last 15 min; p50 {}, p95 {} now",
        latency(series.p50.0),
        latency(series.p95.0)
    );
    let y = area.y + 3;
    canvas.left(
        (area.x + 15, y),
        area.width,
        &times,
        canvas.style(Tone::Faint),
    );
}

fn three(series: &Series) -> [(&'static str, &Points, String); 3] {
    let Series {
        requests,
        errors,
        p99,
        ..
    } = series;
    [
        ("req/s", requests, rate(requests.last())),
        ("err/s", errors, rate(errors.last())),
        ("p99", p99, latency(p99.last())),
    ]
}
