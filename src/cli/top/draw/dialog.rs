//! What stands above the rest for a while: the question before something is done, and the help.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Clear, Widget};

use super::super::super::status::in_flight;
use super::super::super::table::Tone;
use super::super::data::{Endpoint, Upstream};
use super::super::keys::HELP;
use super::super::model::{Change, Model, Question};
use super::super::plain::Plain;
use super::paint::{Canvas, wrapped};

/// Asks, and names the endpoint and what remains.
pub(super) fn question(model: &Model, question: &Question, canvas: &mut Canvas<'_>, area: Rect) {
    let Question {
        change,
        upstream,
        endpoint,
    } = question;
    let verb = match change {
        Change::Drain => "Drain",
        Change::Resume => "Resume",
    };
    let named = format!("{}/{}", Plain::of(upstream), Plain::of(endpoint));
    let mut lines = vec![
        (Tone::Plain, format!("{verb} {named}?")),
        (Tone::Plain, String::new()),
    ];
    match (model.find(upstream, endpoint), change) {
        (None, _) => lines.push((Tone::Bad, "It is not configured any more.".to_owned())),
        (Some((upstream, endpoint)), Change::Drain) => lines.extend(drain(upstream, endpoint)),
        (Some((_, endpoint)), Change::Resume) => lines.extend(resume(endpoint)),
    }
    lines.push((Tone::Plain, String::new()));
    let does = change.as_str();
    lines.push((Tone::Plain, format!("y  {does} it     n  leave it")));
    boxed(canvas, area, &lines);
}

fn drain(upstream: &Upstream, endpoint: &Endpoint) -> Vec<(Tone, String)> {
    let tunnels = u32::try_from(endpoint.tunnels).unwrap_or(0);
    let has = match endpoint.in_flight {
        0 => "It has nothing in flight, and gets nothing new.".to_owned(),
        some => format!(
            "It finishes what it has ({}) and gets nothing new.",
            in_flight(some, tunnels)
        ),
    };
    let mut lines = vec![(Tone::Plain, has)];
    if !endpoint.eligible {
        lines.push((Tone::Plain, "It is not picked as it is.".to_owned()));
        return lines;
    }
    let name = &upstream.name;
    let remain = upstream.available.saturating_sub(1);
    let s = if remain == 1 { "s" } else { "" };
    let headroom = upstream.headroom.as_ref();
    let headroom = headroom.map(|it| (it.could_lose, it.caveat()));
    lines.push(match (remain, headroom) {
        (0, _) => (
            Tone::Bad,
            format!("Nobody of {name} is left then: requests are refused."),
        ),
        (_, Some((0, caveat))) => (
            Tone::Bad,
            format!("{remain} of {name} remain{s}, and might not carry the load{caveat}."),
        ),
        (_, Some((more, caveat))) => (
            Tone::Plain,
            format!(
                "{remain} of {name} remain{s}, could carry the load, and lose {} more{caveat}.",
                more - 1
            ),
        ),
        (_, None) => (Tone::Plain, format!("{remain} of {name} remain{s}.")),
    });
    lines
}

fn resume(endpoint: &Endpoint) -> Vec<(Tone, String)> {
    match endpoint.mode.as_str() {
        "active" => vec![(
            Tone::Plain,
            format!("It is not taken out: it is {}.", endpoint.state),
        )],
        "disabled" => vec![(
            Tone::Plain,
            "It gets requests again when its next check has passed.".to_owned(),
        )],
        _ => vec![(Tone::Plain, "It gets requests again.".to_owned())],
    }
}

/// What each key does.
pub(super) fn help(canvas: &mut Canvas<'_>, area: Rect) {
    let mut lines: Vec<_> = HELP
        .iter()
        .map(|(keys, does)| (Tone::Plain, format!("{keys:<11} {does}")))
        .collect();
    lines.push((Tone::Plain, String::new()));
    let about = "req/s, err/s and p99 are of the last seconds; retry: attempts that went elsewhere since the start; wgt: weight.";
    lines.push((Tone::Faint, about.to_owned()));
    boxed(canvas, area, &lines);
}

/// `lines` in a frame in the middle. Where not all of them fit, the first and the last one do.
fn boxed(canvas: &mut Canvas<'_>, area: Rect, lines: &[(Tone, String)]) {
    let width = WIDTH.min(area.width);
    let room = width.saturating_sub(4);
    let mut broken: Vec<(Style, String)> = Vec::new();
    for (at, (tone, text)) in lines.iter().enumerate() {
        let mut style = canvas.style(*tone);
        if at == 0 {
            style = style.add_modifier(Modifier::BOLD);
        }
        let wrapped = wrapped(text, room).into_iter();
        broken.extend(wrapped.map(|line| (style, line)));
    }
    if broken.len() > usize::from(area.height.saturating_sub(2)) {
        // No room for gaps.
        broken.retain(|(_, line)| !line.is_empty());
    }
    let fits = area.height.saturating_sub(2);
    if broken.len() > usize::from(fits)
        && let Some(answers) = broken.pop()
    {
        broken.truncate(usize::from(fits.saturating_sub(1)));
        broken.push(answers);
    }
    let height = u16::try_from(broken.len()).unwrap_or(u16::MAX).min(fits);
    let frame = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height.saturating_add(2).min(area.height)) / 2,
        width,
        height: height.saturating_add(2).min(area.height),
    };
    Clear.render(frame, canvas.buffer);
    Block::bordered().render(frame, canvas.buffer);
    for (y, (style, line)) in (frame.y + 1..frame.bottom().saturating_sub(1)).zip(&broken) {
        canvas.left((frame.x + 2, y), room, line, *style);
    }
}

const WIDTH: u16 = 64; // as wide as is easily read
