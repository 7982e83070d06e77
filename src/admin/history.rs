//! The files that were accepted, the latest last: what `rollback` goes back to. In memory only, and not without bound.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::message::hexadecimal;
use crate::tls::Contents;

/// Files that are kept.
const MOST: usize = 16;
/// Bytes of all of them together, of those not in use.
const MOST_BYTES: usize = 16 << 20;

/// One that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What it became.
    pub generation: u64,
    /// The generation whose file it is: after a rollback, the one gone back to.
    pub origin: u64,
    /// The file.
    pub text: Arc<str>,
    /// What the files that it names held.
    pub files: Contents,
    /// When.
    pub at: SystemTime,
    /// By whom.
    pub by: By,
}

/// Who had a file taken over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum By {
    /// The start of the process.
    Start,
    /// SIGHUP.
    Signal,
    /// The files held something else.
    Watch,
    /// A user's command.
    Reload(Option<u32>),
    /// A user's command to go back.
    Rollback(Option<u32>),
    /// Back by itself: requests failed.
    AutoRollback,
}

impl By {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Watch => "watch",
            Self::Reload(_) => "reload",
            Self::Rollback(_) => "rollback",
            Self::AutoRollback => "auto-rollback",
        }
    }

    /// Whether an earlier file was taken over.
    pub fn is_back(self) -> bool {
        match self {
            Self::Start | Self::Signal | Self::Watch | Self::Reload(_) => false,
            Self::Rollback(_) | Self::AutoRollback => true,
        }
    }

    /// The user, where there is one.
    pub fn uid(self) -> Option<u32> {
        match self {
            Self::Start | Self::Signal | Self::Watch | Self::AutoRollback => None,
            Self::Reload(uid) | Self::Rollback(uid) => uid,
        }
    }
}

impl Accepted {
    /// SHA-256 of the file, in hexadecimal.
    pub fn hash(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.text.as_bytes());
        hexadecimal::digits(digest.as_ref())
    }
}

/// All that are kept. Never empty once something was accepted.
#[derive(Debug, Default)]
pub struct History(VecDeque<Accepted>);

impl History {
    /// One more, in use from now on.
    pub fn push(&mut self, mut next: Accepted) {
        // The same file once more is no step that could be gone back.
        if let Some(current) = self.current()
            && current.text == next.text
        {
            next.origin = next.origin.min(current.origin);
        }
        // Going back and forth between two files costs two.
        if let Some(known) = self.0.iter().find(|known| known.text == next.text) {
            next.text = Arc::clone(&known.text);
        }
        self.0.push_back(next);
        while self.0.len() > MOST || (self.0.len() > 2 && self.bytes() > MOST_BYTES) {
            self.0.pop_front();
        }
    }

    /// What a process before this one has accepted, oldest first.
    pub fn restored(accepted: impl IntoIterator<Item = Accepted>) -> Self {
        let mut history = Self::default();
        for accepted in accepted {
            history.push(accepted);
        }
        history
    }

    /// The files that the one in use names hold something else by now, and that is in use.
    pub fn renew(&mut self, files: &Contents) {
        if let Some(current) = self.0.back_mut() {
            current.files = files.clone();
        }
    }

    /// The one in use.
    pub fn current(&self) -> Option<&Accepted> {
        self.0.back()
    }

    /// All, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Accepted> {
        self.0.iter()
    }

    /// Of `generation`; without one: the latest before the file in use was first taken over, that is another. So going back
    /// again goes further back, and never to what was gone back from. Else what there is instead.
    pub fn find(&self, generation: Option<u64>) -> Result<&Accepted, String> {
        if let Some(generation) = generation {
            let found = self.0.iter().find(|known| known.generation == generation);
            return found
                .ok_or_else(|| format!("generation {generation} is not kept; these are: {self}"));
        }
        let others = || {
            let current = self.current();
            let is_other =
                move |known: &&Accepted| current.is_some_and(|current| known.text != current.text);
            self.0.iter().rev().filter(is_other)
        };
        let origin = self.current().map_or(0, |current| current.origin);
        let mut earlier = others().filter(|known| known.generation < origin);
        earlier.next().ok_or_else(|| match others().next() {
            None => "no other file has been accepted since the start".to_owned(),
            Some(_) => format!(
                "nothing before generation {origin}, whose file is in use, is kept; name one of these: {self}"
            ),
        })
    }

    /// What is to be said when `next`, the file as it is now, takes the place of an earlier one that was gone back to.
    pub fn end_of_rollback(&self, next: &str) -> Vec<String> {
        let current = self.current().filter(|current| *current.text != *next);
        let Some(current) = current.filter(|it| it.by.is_back()) else {
            return Vec::new();
        };
        let mut later = self.0.iter().filter(|it| it.generation > current.origin);
        let same = later.find(|known| *known.text == *next);
        let same = same.map_or_else(String::new, |same| {
            format!(", and holds what it held in generation {}", same.generation)
        });
        vec![format!(
            "the rollback to generation {} has ended: the file is in use again{same}",
            current.origin
        )]
    }

    fn bytes(&self) -> usize {
        let known = self.0.iter();
        known.map(|known| known.text.len()).sum()
    }
}

/// The generations, oldest first.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, known) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", known.generation)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(history: &mut History, generation: u64, (text, origin): (&str, u64)) {
        let by = if origin == generation {
            By::Signal
        } else {
            By::Rollback(Some(0))
        };
        history.push(Accepted {
            generation,
            origin,
            text: text.into(),
            files: Contents::default(),
            at: SystemTime::UNIX_EPOCH,
            by,
        });
    }

    fn history(texts: &[&str]) -> History {
        let mut history = History::default();
        for (text, generation) in texts.iter().zip(1..) {
            accept(&mut history, generation, (text, generation));
        }
        history
    }

    fn found(history: &History, generation: Option<u64>) -> Option<u64> {
        history.find(generation).ok().map(|found| found.generation)
    }

    #[test]
    fn back_means_to_the_latest_that_is_another() {
        let history = history(&["a", "b", "c", "c"]);
        assert_eq!(found(&history, None), Some(2));
        assert_eq!(found(&history, Some(1)), Some(1));
        let unknown = history.find(Some(9)).unwrap_err();
        assert_eq!(unknown, "generation 9 is not kept; these are: 1, 2, 3, 4");
        assert!(History::default().find(None).is_err());
    }

    #[test]
    fn regression_back_again_goes_further_back_and_never_to_what_was_left() {
        let mut history = history(&["a", "b", "bad"]);
        assert_eq!(found(&history, None), Some(2));
        accept(&mut history, 4, ("b", 2));
        assert_eq!(found(&history, None), Some(1));
        // The same file once more changes nothing of that.
        accept(&mut history, 5, ("b", 5));
        assert_eq!(found(&history, None), Some(1));
        accept(&mut history, 6, ("a", 1));
        let error = history.find(None).unwrap_err();
        assert!(error.contains("nothing before generation 1"), "{error}");
        assert_eq!(found(&history, Some(3)), Some(3), "by its number");
        accept(&mut history, 7, ("new", 7));
        assert_eq!(found(&history, None), Some(6), "what was in use before");
    }

    #[test]
    fn end_of_a_rollback_is_said_and_what_the_file_brings_back() {
        let mut history = history(&["a", "bad"]);
        assert!(history.end_of_rollback("new").is_empty());
        accept(&mut history, 3, ("a", 1));
        assert!(history.end_of_rollback("a").is_empty());
        let said = history.end_of_rollback("new").remove(0);
        assert_eq!(
            said,
            "the rollback to generation 1 has ended: the file is in use again"
        );
        let said = history.end_of_rollback("bad").remove(0);
        assert!(
            said.ends_with("in use again, and holds what it held in generation 2"),
            "{said}"
        );
    }

    #[test]
    fn only_so_many_are_kept_and_the_same_text_once() {
        let mut history = history(&[]);
        for generation in 1..=100 {
            let text = ["a", "b"][generation as usize % 2];
            accept(&mut history, generation, (text, generation));
        }
        assert_eq!(history.0.len(), MOST);
        assert_eq!(history.0[0].generation, 100 - MOST as u64 + 1);
        assert!(Arc::ptr_eq(&history.0[0].text, &history.0[2].text));
        let large = "x".repeat(MOST_BYTES);
        accept(&mut history, 101, (&large, 101));
        assert_eq!(history.0.len(), 2, "the one in use, and one to go back to");
    }

    #[test]
    fn files_of_another_process_are_kept_with_their_numbers_and_times() {
        let before = history(&["a", "b"]);
        let mut after = History::restored(before.all().cloned());
        accept(&mut after, 3, ("b", 3));
        let kept = |history: &History| -> Vec<_> {
            let all = history.all();
            all.map(|it| (it.generation, Arc::clone(&it.text), it.at))
                .collect()
        };
        assert_eq!(kept(&after)[..2], kept(&before)[..]);
        assert_eq!(found(&after, None), Some(1));
    }

    #[test]
    fn hash_is_sha_256() {
        let history = history(&["abc"]);
        assert_eq!(
            history.current().unwrap().hash(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
