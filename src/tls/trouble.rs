//! Remembers what was said of an endpoint's TLS, so that lasting trouble is not said for every connection.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// What is to be said of an endpoint's TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Note {
    /// What is wrong with it.
    Wrong(String),
    /// Nothing any more.
    Well,
}

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Whether something is wrong. Written by whoever opens a connection, on any thread. Relaxed: it saves a lock, and the
    /// lock decides.
    any: AtomicBool,
    said: Mutex<Option<(String, Instant)>>,
}

impl Trouble {
    /// Notes what is `wrong`, or that nothing is. Returns what is to be said.
    pub(super) fn note(&self, wrong: Option<String>, now: Instant) -> Option<Note> {
        if wrong.is_none() && !self.any.load(Relaxed) {
            return None;
        }
        let mut said = lock(&self.said);
        self.any.store(wrong.is_some(), Relaxed);
        let Some(wrong) = wrong else {
            return said.take().map(|_| Note::Well);
        };
        let is_news = said.as_ref().is_none_or(|(before, at)| {
            *before != wrong || now.saturating_duration_since(*at) > SAY_AGAIN
        });
        if !is_news {
            return None;
        }
        *said = Some((wrong.clone(), now));
        Some(Note::Wrong(wrong))
    }
}

/// Trouble that lasts is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_trouble_is_said_once_a_minute_and_its_end_once() {
        let trouble = Trouble::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let wrong = |text: &str| Some(Note::Wrong(text.to_owned()));
        assert_eq!(trouble.note(None, at(0)), None);
        assert_eq!(trouble.note(Some("a".into()), at(1)), wrong("a"));
        assert_eq!(trouble.note(Some("a".into()), at(2)), None);
        assert_eq!(trouble.note(Some("b".into()), at(3)), wrong("b"));
        assert_eq!(trouble.note(Some("b".into()), at(64)), wrong("b"));
        assert_eq!(trouble.note(None, at(65)), Some(Note::Well));
        assert_eq!(trouble.note(None, at(66)), None);
    }
}
