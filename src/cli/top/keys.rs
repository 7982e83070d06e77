//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Change, Effect, Model, View};

/// What each key does. The README says the same.
pub(super) const HELP: [(&str, &str); 14] = [
    ("↑ ↓  k j", "select an endpoint"),
    ("PgUp PgDn", "a page up, a page down"),
    ("Home End", "the first, the last"),
    ("Tab  1 2 3", "endpoints, routes, events"),
    ("< >", "sort by the column on the left, on the right"),
    ("i", "sort the other way round"),
    ("g", "group by upstream, or not"),
    ("/", "filter: name, state, reason, version"),
    ("Esc", "end the filter"),
    ("d", "drain the selected endpoint"),
    ("r", "resume it"),
    ("Ctrl-L", "draw the screen anew"),
    ("?  h", "this help"),
    ("q  Ctrl-C", "quit"),
];

impl Model {
    /// Takes in a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Effect::Quit),
                KeyCode::Char('z') => Some(Effect::Suspend),
                KeyCode::Char('l') => Some(Effect::Redraw),
                _ => None,
            };
        }
        if self.question.is_some() {
            return self.answer(key.code);
        }
        if self.shows_help {
            self.shows_help = false;
            return None;
        }
        if self.is_typing {
            self.type_filter(key.code);
            return None;
        }
        self.notice = None;
        self.command(key.code)
    }

    /// Only `y` is yes: whoever typed on is not taken at their word.
    fn answer(&mut self, key: KeyCode) -> Option<Effect> {
        match key {
            KeyCode::Char('y' | 'Y') => {
                let question = self.question.take()?;
                Some(Effect::Set(
                    question.change,
                    question.upstream,
                    question.endpoint,
                ))
            }
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.question = None;
                None
            }
            _ => None,
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if !c.is_control() && self.filter.len() < LONGEST_FILTER => {
                self.filter.push(c);
            }
            _ => {}
        }
        self.keep_selected();
    }

    fn command(&mut self, key: KeyCode) -> Option<Effect> {
        let page = isize::try_from(self.page).unwrap_or(isize::MAX);
        match key {
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::PageUp => self.select(-page),
            KeyCode::PageDown => self.select(page),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            KeyCode::Tab => self.show(self.beside(1)),
            KeyCode::BackTab => self.show(self.beside(View::ALL.len() - 1)),
            KeyCode::Char('1') => self.show(View::Endpoints),
            KeyCode::Char('2') => self.show(View::Routes),
            KeyCode::Char('3') => self.show(View::Events),
            KeyCode::Char('>' | '.') => self.sort.column = self.sort.column.beside(1),
            KeyCode::Char('<' | ',') => {
                self.sort.column = self.sort.column.beside(super::rows::Column::ALL.len() - 1);
            }
            KeyCode::Char('i') => self.sort.inverted = !self.sort.inverted,
            KeyCode::Char('g') => self.is_grouped = !self.is_grouped,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => {
                self.filter.clear();
                self.keep_selected();
            }
            KeyCode::Char('d') => self.ask(Change::Drain),
            KeyCode::Char('r') => self.ask(Change::Resume),
            _ => {}
        }
        None
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scrolled = 0;
    }

    fn beside(&self, steps: usize) -> View {
        let at = View::ALL.iter().position(|view| *view == self.view);
        View::ALL[(at.unwrap_or(0) + steps) % View::ALL.len()]
    }
}

const LONGEST_FILTER: usize = 64; // longer than any name's telling part

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::model::{Event, Message, Question};
    use super::super::plain::Plain;
    use super::*;
    use crate::cli::table::Tone;

    fn told(model: &mut Model, started: u64, endpoints: &[(&str, &str)]) {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(name, state)| json!({ "name": name, "weight": 1, "mode": "active", "state": state, "since": 1, "in_flight": 0, "eligible": true }))
            .collect();
        let status = json!({ "version": "1", "generation": 1, "started": started,
            "upstreams": [{ "name": "app", "policy": "random", "available": 1, "endpoints": endpoints }] });
        let status = serde_json::from_value(status).unwrap();
        model.update(Message::Status(Ok(status)));
    }

    fn press(model: &mut Model, keys: &str) -> Vec<Effect> {
        let code = |key| match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        let keys = keys.chars().map(|key| KeyEvent::from(code(key)));
        keys.filter_map(|key| model.key(key)).collect()
    }

    fn selected(model: &Model) -> &str {
        model.selected.as_ref().map_or("", |(_, name)| name)
    }

    #[test]
    fn readme_has_every_key() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        for (keys, does) in HELP {
            let keys: Vec<_> = keys
                .split_whitespace()
                .map(|key| format!("`{key}`"))
                .collect();
            let row = format!("| {} | {does} |", keys.join(", "));
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn selection_follows_the_endpoint_and_not_the_row() {
        let mut model = Model::new(1);
        told(&mut model, 1, &[("a", "up"), ("b", "up"), ("c", "up")]);
        press(&mut model, "j");
        assert_eq!(selected(&model), "b");
        told(&mut model, 1, &[("a", "up"), ("b", "up"), ("c", "down")]);
        assert_eq!(selected(&model), "b");
        press(&mut model, "k");
        assert_eq!(selected(&model), "a");
        press(&mut model, "k");
        assert_eq!(selected(&model), "c", "trouble is on top");
        told(&mut model, 1, &[("a", "up")]);
        assert_eq!(selected(&model), "a", "the other one is gone");
        told(&mut model, 1, &[]);
        assert_eq!(press(&mut model, "jd"), []);
        assert!(model.question.is_none());
    }

    #[test]
    fn question_is_about_the_endpoint_it_was_asked_about() {
        let mut model = Model::new(1);
        told(&mut model, 1, &[("a", "up"), ("b", "up")]);
        press(&mut model, "d");
        let asked = Question {
            change: Change::Drain,
            upstream: "app".to_owned(),
            endpoint: "a".to_owned(),
        };
        assert_eq!(model.question, Some(asked));
        told(&mut model, 1, &[("b", "up"), ("c", "up")]);
        let set = |change, name: &str| Effect::Set(change, "app".to_owned(), name.to_owned());
        assert_eq!(press(&mut model, "jr \ny"), [set(Change::Drain, "a")]);
        assert!(model.question.is_none());
        for no in ["rn", "r\x1b", "rq"] {
            assert_eq!(press(&mut model, no), []);
            assert!(model.question.is_none());
        }
    }

    #[test]
    fn letters_of_a_filter_are_no_commands() {
        let mut model = Model::new(1);
        told(&mut model, 1, &[("a", "up"), ("quay", "up")]);
        assert_eq!(press(&mut model, "/quay\n"), []);
        assert_eq!((&*model.filter, selected(&model)), ("quay", "quay"));
        assert_eq!(model.lines().len(), 2, "with its upstream");
        press(&mut model, "\x1b");
        assert_eq!((&*model.filter, model.lines().len()), ("", 3));
        assert_eq!(press(&mut model, "q"), [Effect::Quit]);
    }

    #[test]
    fn events_have_an_end_and_another_process_begins_anew() {
        let mut model = Model::new(1);
        told(&mut model, 1, &[("a", "up")]);
        let recent = json!({ "routes": [], "upstreams": [{ "name": "app", "requests": [1], "errors": [0], "p50": [], "p95": [], "p99": [] }] });
        model.update(Message::Recent(serde_json::from_value(recent).unwrap()));
        for at in 0..300 {
            model.update(Message::Event(Event {
                at,
                kind: Plain::of("endpoint"),
                tone: Tone::Plain,
                text: Plain::default(),
            }));
        }
        assert_eq!((model.events.len(), model.events[0].at), (200, 299));
        assert!(!model.traffic.upstreams.is_empty());
        model.update(Message::Time(2));
        model.update(Message::Status(Err(Plain::of("gone"))));
        model.update(Message::Time(5));
        model.update(Message::Status(Err(Plain::of("gone still"))));
        assert_eq!(model.away, Some((2, Plain::of("gone still"))));
        told(&mut model, 4, &[("a", "up")]);
        assert!(model.away.is_none() && model.traffic.upstreams.is_empty());
        assert_eq!(model.events[0].kind.as_str(), "start");
        let (_, notice) = model.notice.as_ref().unwrap();
        assert_eq!(notice.as_str(), "the balancer answers again, after 3 s");
    }
}
