//! The files that were accepted, the latest last: what `rollback` goes back to. In memory only, and not without bound.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;

/// Files that are kept.
const MOST: usize = 16;
/// Bytes of all of them together, of those not in use.
const MOST_BYTES: usize = 16 << 20;

/// One that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What it became.
    pub generation: u64,
    /// The file.
    pub text: Arc<str>,
    /// When.
    pub at: SystemTime,
}

impl Accepted {
    /// SHA-256 of the file, in hexadecimal.
    pub fn hash(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.text.as_bytes());
        let mut digits = String::with_capacity(64);
        for byte in digest.as_ref() {
            // Writing to a string does not fail.
            let _ = write!(digits, "{byte:02x}");
        }
        digits
    }
}

/// All that are kept. Never empty once something was accepted.
#[derive(Debug, Default)]
pub struct History(VecDeque<Accepted>);

impl History {
    /// One more, in use from now on.
    pub fn push(&mut self, generation: u64, text: Arc<str>) {
        // Going back and forth between two files costs two.
        let known = self.0.iter().find(|known| known.text == text);
        let text = known.map_or(text, |known| Arc::clone(&known.text));
        self.0.push_back(Accepted {
            generation,
            text,
            at: SystemTime::now(),
        });
        while self.0.len() > MOST || (self.0.len() > 2 && self.bytes() > MOST_BYTES) {
            self.0.pop_front();
        }
    }

    /// What a process before this one has accepted, oldest first.
    pub fn restored(accepted: impl IntoIterator<Item = Accepted>) -> Self {
        let mut history = Self::default();
        for Accepted {
            generation,
            text,
            at,
        } in accepted
        {
            history.push(generation, text);
            if let Some(latest) = history.0.back_mut() {
                latest.at = at;
            }
        }
        history
    }

    /// The one in use.
    pub fn current(&self) -> Option<&Accepted> {
        self.0.back()
    }

    /// All, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Accepted> {
        self.0.iter()
    }

    /// Of `generation`; without one: the latest that has another text than the one in use.
    pub fn find(&self, generation: Option<u64>) -> Option<&Accepted> {
        match generation {
            Some(generation) => self.0.iter().find(|known| known.generation == generation),
            None => {
                let current = self.current()?;
                let mut known = self.0.iter().rev();
                known.find(|known| known.text != current.text)
            }
        }
    }

    fn bytes(&self) -> usize {
        let known = self.0.iter();
        known.map(|known| known.text.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(texts: &[&str]) -> History {
        let mut history = History::default();
        for (text, generation) in texts.iter().zip(1..) {
            history.push(generation, (*text).into());
        }
        history
    }

    #[test]
    fn back_means_to_the_latest_that_is_another() {
        let history = history(&["a", "b", "c", "c"]);
        let found = |generation| history.find(generation).map(|found| found.generation);
        assert_eq!(found(None), Some(2));
        assert_eq!(found(Some(1)), Some(1));
        assert_eq!(found(Some(9)), None);
        assert_eq!(History::default().find(None).map(|it| it.generation), None);
    }

    #[test]
    fn only_so_many_are_kept_and_the_same_text_once() {
        let mut history = history(&[]);
        for generation in 1..=100 {
            history.push(generation, ["a", "b"][generation as usize % 2].into());
        }
        assert_eq!(history.0.len(), MOST);
        assert_eq!(history.0[0].generation, 100 - MOST as u64 + 1);
        assert!(Arc::ptr_eq(&history.0[0].text, &history.0[2].text));
        let large: Arc<str> = "x".repeat(MOST_BYTES).into();
        history.push(101, large);
        assert_eq!(history.0.len(), 2, "the one in use, and one to go back to");
    }

    #[test]
    fn files_of_another_process_are_kept_with_their_numbers_and_times() {
        let before = history(&["a", "b"]);
        let mut after = History::restored(before.all().cloned());
        after.push(3, "b".into());
        let kept = |history: &History| -> Vec<_> {
            let all = history.all();
            all.map(|it| (it.generation, Arc::clone(&it.text), it.at))
                .collect()
        };
        assert_eq!(kept(&after)[..2], kept(&before)[..]);
        assert_eq!(after.find(None).map(|it| it.generation), Some(1));
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
