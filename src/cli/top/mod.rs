//! `balancer top`: the running balancer on a terminal, as it is now, with the keys to take an endpoint out or in.
//!
//! What happens comes as messages (`asking`, `terminal`), changes what is shown (`model`), and that is drawn (`draw`). Each of the
//! three knows nothing of the other two.

mod asking;
mod data;
mod draw;
mod events;
mod keys;
mod model;
mod plain;
mod rows;
mod terminal;
mod verdict;

use std::io::{self, IsTerminal, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::buffer::{Buffer, CellWidth};
use ratatui::crossterm::event::Event as Typed;
use ratatui::crossterm::terminal::size;
use ratatui::layout::Rect;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::asking::Asking;
use self::draw::{Look, draw};
use self::model::{Effect, Message, Model};
use self::plain::Plain;
use self::terminal::{Screen, read_keys};
use super::running::{AskError, At, Running, encoded, finished};
use super::status::now;
use super::table::{Tone, complain, in_colour, say};
use crate::config::duration;

/// Watch the running balancer, and take endpoints out or in.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How often to look. Changes of endpoints are seen at once in any case.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one screen as text and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    at: At,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval < SHORTEST => Err(format!(
            "must be {} ms or more, got {text:?}",
            SHORTEST.as_millis()
        )),
        interval => Ok(interval),
    }
}

/// Watches the balancer that runs with the file at `config`.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    if !args.once && !stdout().is_terminal() {
        complain(
            "top needs a terminal; `balancer top --once` prints a screen, `balancer status --json` is for scripts",
        );
        return ExitCode::FAILURE;
    }
    finished(watch(args, config))
}

fn watch(args: &Args, config: &Path) -> Result<ExitCode, AskError> {
    let running = Running::with(config, &args.at)?;
    let failed = |error| AskError::Io("terminal".into(), error);
    // Whoever has nothing to look at is told so where they are, and not on a screen of its own.
    let status = running.get("/api/v1/status")?;
    let mut model = Model::new(now());
    model.update(Message::Status(Ok(status)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let outcome = runtime.block_on(async {
        let (tell, told) = mpsc::channel(WAITING);
        let asking = Asking { running, tell };
        if args.once {
            once(model, &asking).await;
            return Ok(());
        }
        live(model, asking, told, args.interval).await
    });
    // The thread that reads keys is left behind: nobody can wake it.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS).map_err(failed)
}

/// Prints all of it, as far down as it goes.
async fn once(mut model: Model, asking: &Asking) {
    if let Ok(recent) = asking.ask("/api/v1/recent").await {
        model.update(Message::Recent(recent));
    }
    let upstreams: Vec<_> = model.status.iter().flat_map(|it| &it.upstreams).collect();
    let names: Vec<_> = upstreams.iter().map(|it| it.name.raw.clone()).collect();
    for name in names {
        let path = format!("/api/v1/recent?upstream={}", encoded(&name));
        if let Ok(recent) = asking.ask(&path).await {
            model.update(Message::Endpoints(name, recent));
        }
    }
    let width = match size() {
        Ok((width, _)) if stdout().is_terminal() => width,
        _ => PRINTED_WIDTH,
    };
    let rows = u16::try_from(model.lines().len()).unwrap_or(u16::MAX);
    let area = Rect::new(0, 0, width, rows.saturating_add(ABOVE));
    let look = Look {
        in_colour: false,
        is_live: false,
    };
    let mut buffer = Buffer::empty(area);
    draw(&model, look, area, &mut buffer);
    say(&format!("{}\n", text(&buffer).trim_end()));
}

/// What is in `buffer`, a line per row, without what would be blank at its end.
fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.rows().map(|row| row.y) {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // What is wide lies over the cell beside it.
            x += symbol.cell_width().max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

async fn live(
    mut model: Model,
    asking: Asking,
    mut told: mpsc::Receiver<Message>,
    interval: Duration,
) -> io::Result<()> {
    // Before the terminal is taken: from here on none of them ends the process before it is given back.
    let mut ends = ends()?;
    let (mut stop, mut goes_on) = (on(Signal::TSTP)?, on(Signal::CONT)?);
    let wishes = asking.begin(interval);
    let (typed_sender, mut typed) = mpsc::channel(WAITING);
    let mut screen = Screen::take()?;
    read_keys(typed_sender)?;
    let look = Look {
        in_colour: in_colour(),
        is_live: true,
    };
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    loop {
        screen.terminal().draw(|frame| {
            let area = frame.area();
            model.page = draw(&model, look, area, frame.buffer_mut()).max(1);
        })?;
        wishes.show(model.upstreams_shown());
        let effect = tokio::select! {
            _ = ends.recv() => return Ok(()),
            _ = stop.recv() => Some(Effect::Suspend),
            _ = goes_on.recv() => Some(Effect::Redraw),
            _ = clock.tick() => model.update(Message::Time(now())),
            Some(message) = told.recv() => model.update(message),
            event = typed.recv() => match event {
                // The terminal is gone.
                None => return Ok(()),
                Some(Typed::Key(key)) => model.key(key),
                Some(_) => None,
            },
        };
        match effect {
            None => {}
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Suspend) => screen.suspend()?,
            Some(Effect::Redraw) => screen.take_again()?,
            Some(Effect::Ask) => wishes.look(),
            Some(Effect::Set(change, upstream, endpoint)) => {
                model.notice = Some((Tone::Plain, Plain::of("asked…")));
                tokio::spawn(asking.clone().set(change, upstream, endpoint));
            }
        }
    }
}

/// Told when a signal asks to end.
fn ends() -> io::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(1);
    for kind in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let (mut signals, sender) = (on(kind)?, sender.clone());
        tokio::spawn(async move {
            signals.recv().await;
            // One is enough.
            let _ = sender.try_send(());
        });
    }
    Ok(receiver)
}

fn on(kind: Signal) -> io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::from_raw(kind.as_raw()))
}

const SHORTEST: Duration = Duration::from_millis(100); // nobody reads faster
const WAITING: usize = 256; // messages; who asks waits for those who draw
const PRINTED_WIDTH: u16 = 120; // into a file or a pipe
const ABOVE: u16 = 24; // rows for all that stands above the list
