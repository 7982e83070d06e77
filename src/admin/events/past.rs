//! What was told of late: for viewers who come now, or come back. So many events, and none that is large.

use std::collections::VecDeque;

use super::{Over, Told};

/// Events that are kept.
const KEPT: usize = 256;
/// Of these, those that a viewer gets who has not been here.
const FIRST: usize = 100;
/// Bytes of an event that is kept.
const LARGEST: usize = 4 << 10;

/// The last events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Past(VecDeque<Event>);

#[derive(Debug)]
struct Event {
    id: u64,
    /// As JSON.
    all: String,
    /// Without what is withheld, where that is less.
    open: Option<String>,
}

impl Past {
    /// One more.
    pub(super) fn push(&mut self, told: &Told) {
        let (all, open) = (told.all.listed(), told.open.listed());
        let open = (open != all).then_some(open);
        let event = match open {
            _ if all.len() <= LARGEST => Event {
                id: told.id,
                all,
                open,
            },
            // Who sees all of it has seen it, or finds it in the log.
            Some(open) if open.len() <= LARGEST => Event {
                id: told.id,
                all: open,
                open: None,
            },
            Some(_) | None => return,
        };
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// Those after the one that a viewer has seen last, as a list of JSON; the last ones, where it has seen none.
    pub(super) fn since(&self, seen: Option<u64>, over: Over) -> String {
        let begin = match seen {
            Some(seen) => self.0.partition_point(|event| event.id <= seen),
            None => self.0.len().saturating_sub(FIRST),
        };
        let events = self.0.iter().skip(begin);
        let texts: Vec<&str> = events.map(|event| event.to(over)).collect();
        format!("[{}]", texts.join(","))
    }
}

impl Event {
    fn to(&self, over: Over) -> &str {
        match (over, &self.open) {
            (Over::Tcp, Some(open)) => open,
            (Over::Tcp, None) | (Over::Socket, _) => &self.all,
        }
    }
}
