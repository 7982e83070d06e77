//! What the screen shows and how it changes. Pure: it is told what happens, and says what shall be done; it reads no clock, asks
//! nobody and draws nothing.

use std::collections::VecDeque;

use super::super::table::Tone;
use super::data::{Endpoint, Recent, Status, Traffic, Upstream};
use super::plain::Plain;
use super::rows::{self, Column, Line, Row, Sort};

/// Everything there is to draw.
#[derive(Debug)]
pub(super) struct Model {
    /// Unix time in seconds, as all times.
    pub(super) now: u64,
    /// As it was last told, at `told`.
    pub(super) status: Option<Status>,
    pub(super) told: u64,
    /// Since when there is no answer, and why.
    pub(super) away: Option<(u64, Plain)>,
    pub(super) traffic: Traffic,
    /// Newest first.
    pub(super) events: VecDeque<Event>,
    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) is_grouped: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    /// The endpoint that is looked at: of which upstream, and its name, as they are asked for.
    pub(super) selected: Option<(String, String)>,
    /// How far the other views are scrolled.
    pub(super) scrolled: usize,
    /// What is asked before it is done.
    pub(super) question: Option<Question>,
    pub(super) shows_help: bool,
    /// What came of the last thing that was done.
    pub(super) notice: Option<(Tone, Plain)>,
    /// Rows that fit on the screen, as far as paging goes.
    pub(super) page: usize,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Message {
    /// Unix time in seconds.
    Time(u64),
    Status(Result<Box<Status>, Plain>),
    /// Of routes and upstreams.
    Recent(Recent),
    /// Of the endpoints of the upstream of this name.
    Endpoints(String, Recent),
    Event(Event),
    /// What came of [`Effect::Set`].
    Done(Result<Plain, Plain>),
}

/// What shall be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    Quit,
    /// Stop, as Ctrl-Z does.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Have the endpoint drained or resumed.
    Set(Change, String, String),
    /// Ask at once how it stands.
    Ask,
}

/// What an operator may want of an endpoint here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Drain,
    Resume,
}

impl Change {
    /// As the API and the command line name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Resume => "resume",
        }
    }
}

/// What is asked before it is done. The names are kept: whatever the list does meanwhile, it is about this one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question {
    pub(super) change: Change,
    pub(super) upstream: String,
    pub(super) endpoint: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum View {
    Endpoints,
    Routes,
    Events,
}

impl View {
    pub(super) const ALL: [Self; 3] = [Self::Endpoints, Self::Routes, Self::Events];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Routes => "routes",
            Self::Events => "events",
        }
    }
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) kind: Plain,
    pub(super) tone: Tone,
    pub(super) text: Plain,
}

impl Model {
    pub(super) fn new(now: u64) -> Self {
        Self {
            now,
            status: None,
            told: now,
            away: None,
            traffic: Traffic::default(),
            events: VecDeque::new(),
            view: View::Endpoints,
            sort: Sort {
                column: Column::State,
                inverted: false,
            },
            is_grouped: true,
            filter: String::new(),
            is_typing: false,
            selected: None,
            scrolled: 0,
            question: None,
            shows_help: false,
            notice: None,
            page: 10,
        }
    }

    /// Takes in what happened.
    pub(super) fn update(&mut self, message: Message) -> Option<Effect> {
        match message {
            Message::Time(now) => self.now = now,
            Message::Status(Ok(status)) => self.take_status(*status),
            Message::Status(Err(why)) => {
                let since = self.away.take().map_or(self.now, |(since, _)| since);
                self.away = Some((since, why));
            }
            Message::Recent(recent) => self.traffic.take(recent),
            Message::Endpoints(upstream, recent) => self.traffic.take_endpoints(upstream, recent),
            Message::Event(event) => self.note(event),
            Message::Done(outcome) => {
                self.notice = Some(match outcome {
                    Ok(text) => (Tone::Good, text),
                    Err(text) => (Tone::Bad, text),
                });
                return Some(Effect::Ask);
            }
        }
        None
    }

    fn take_status(&mut self, status: Status) {
        let before = self.status.as_ref().map(|before| before.started);
        if before.is_some_and(|before| before != status.started) {
            self.traffic = Traffic::default();
            self.note(Event {
                at: self.now,
                kind: Plain::of("start"),
                tone: Tone::Doubtful,
                text: Plain::of(&format!("another process answers: {}", status.version)),
            });
        }
        if let Some((since, _)) = self.away.take() {
            let away = super::super::status::ago(self.now.saturating_sub(since));
            self.notice = Some((
                Tone::Good,
                Plain::of(&format!("the balancer answers again, after {away}")),
            ));
        }
        self.status = Some(status);
        self.told = self.now;
        self.keep_selected();
    }

    fn note(&mut self, event: Event) {
        self.events.push_front(event);
        self.events.truncate(EVENTS);
    }

    /// When what is listed was so.
    pub(super) fn seen(&self) -> u64 {
        self.away.as_ref().map_or(self.now, |_| self.told)
    }

    /// What is listed, in order.
    pub(super) fn lines(&self) -> Vec<Line<'_>> {
        let Some(status) = &self.status else {
            return Vec::new();
        };
        let of = (status, &self.traffic);
        rows::lines(of, &self.filter, self.sort, self.is_grouped)
    }

    /// The line that is selected, in `lines`.
    pub(super) fn selected_in(&self, lines: &[Line<'_>]) -> Option<usize> {
        let (upstream, endpoint) = self.selected.as_ref()?;
        let is_it =
            |line: &Line<'_>| matches!(line, Line::Endpoint(row) if row.is(upstream, endpoint));
        lines.iter().position(is_it)
    }

    /// The endpoint of these names, wherever it is listed.
    pub(super) fn find(&self, upstream: &str, endpoint: &str) -> Option<(&Upstream, &Endpoint)> {
        let mut upstreams = self.status.as_ref()?.upstreams.iter();
        let upstream = upstreams.find(|it| it.name.raw == upstream)?;
        let endpoint = upstream.endpoints.iter().find(|it| it.name.raw == endpoint);
        endpoint.map(|endpoint| (upstream, endpoint))
    }

    /// Selects the endpoint `step` lines further, as far as there are any.
    pub(super) fn select(&mut self, step: isize) {
        if self.view != View::Endpoints {
            self.scrolled = self.scrolled.saturating_add_signed(step);
            let most = match self.view {
                View::Events => self.events.len(),
                View::Endpoints | View::Routes => self.routes(),
            };
            self.scrolled = self.scrolled.min(most.saturating_sub(1));
            return;
        }
        let lines = self.lines();
        let rows: Vec<_> = lines.iter().filter_map(endpoint).collect();
        let at = self.selected.as_ref().and_then(|(upstream, endpoint)| {
            rows.iter().position(|row| row.is(upstream, endpoint))
        });
        let to = at.map_or(0, |at| at.saturating_add_signed(step));
        let row = rows.get(to.min(rows.len().saturating_sub(1)));
        self.selected = row.map(|row| names(row));
    }

    /// Selects the first one where none is, or the one that was is not listed any more.
    pub(super) fn keep_selected(&mut self) {
        let lines = self.lines();
        if self.selected_in(&lines).is_none() {
            self.selected = lines.iter().find_map(endpoint).map(|row| names(&row));
        }
    }

    /// Asks whether to do `change` with the endpoint that is selected.
    pub(super) fn ask(&mut self, change: Change) {
        if let (View::Endpoints, Some((upstream, endpoint))) = (self.view, self.selected.clone()) {
            self.question = Some(Question {
                change,
                upstream,
                endpoint,
            });
        }
    }

    /// Upstreams whose endpoints' traffic is looked at, those on the screen first.
    pub(super) fn upstreams_shown(&self) -> Vec<String> {
        let lines = self.lines();
        let at = self.selected_in(&lines).unwrap_or(0);
        let from = at.saturating_sub(self.page);
        let mut names: Vec<String> = Vec::new();
        for line in lines.iter().skip(from).take(2 * self.page) {
            let upstream = match line {
                Line::Upstream(upstream) => upstream,
                Line::Endpoint(row) => row.upstream,
            };
            if !names.contains(&upstream.name.raw) {
                names.push(upstream.name.raw.clone());
            }
        }
        names
    }

    fn routes(&self) -> usize {
        self.status.as_ref().map_or(0, |it| it.routes.len())
    }
}

fn endpoint<'a>(line: &Line<'a>) -> Option<Row<'a>> {
    match line {
        Line::Upstream(_) => None,
        Line::Endpoint(row) => Some(*row),
    }
}

fn names(row: &Row<'_>) -> (String, String) {
    let (upstream, endpoint) = (&row.upstream.name, &row.endpoint.name);
    (upstream.raw.clone(), endpoint.raw.clone())
}

const EVENTS: usize = 200; // as many as somebody scrolls through
