//! Copies a body as it passes, up to a limit. Never holds it up: what does not fit is not copied.

use std::fmt;

/// What became of a copy.
#[derive(Debug, Eq, PartialEq)]
pub enum Copied {
    /// All of the body, without trailers.
    Whole(Vec<u8>),
    /// The body was larger than the limit.
    TooLarge,
    /// The body did not come to its end.
    Cut,
}

/// Copies a body, and says in the end what became of that. Says it once, at the latest when it is dropped.
pub struct Tee {
    copy: Vec<u8>,
    limit: usize,
    then: Option<Box<dyn FnOnce(Copied)>>,
}

impl Tee {
    /// A copy of at most `limit` bytes; `then` hears what became of it.
    pub fn new(limit: usize, then: impl FnOnce(Copied) + 'static) -> Self {
        Self {
            copy: Vec::new(),
            limit,
            then: Some(Box::new(then)),
        }
    }

    /// More of the body. Copied, not shared: a share would keep the whole buffer that it was read into.
    pub(super) fn push(&mut self, data: &[u8]) {
        if self.then.is_none() {
            return;
        }
        if self.copy.len() + data.len() > self.limit {
            self.copy = Vec::new();
            self.say(Copied::TooLarge);
        } else {
            self.copy.extend_from_slice(data);
        }
    }

    /// The body has come to its end.
    pub(super) fn end(&mut self) {
        let copy = std::mem::take(&mut self.copy);
        self.say(Copied::Whole(copy));
    }

    fn say(&mut self, copied: Copied) {
        if let Some(then) = self.then.take() {
            then(copied);
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.say(Copied::Cut);
    }
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee")
            .field("bytes", &self.copy.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn said(limit: usize, steps: impl FnOnce(&mut Tee)) -> Vec<Copied> {
        let said = Rc::new(RefCell::new(Vec::new()));
        let hears = Rc::clone(&said);
        let mut tee = Tee::new(limit, move |copied| hears.borrow_mut().push(copied));
        steps(&mut tee);
        drop(tee);
        said.take()
    }

    #[test]
    fn a_body_within_the_limit_is_copied_whole() {
        let copied = said(4, |tee| {
            tee.push(b"ab");
            tee.push(b"cd");
            tee.end();
        });
        assert_eq!(copied, [Copied::Whole(b"abcd".to_vec())]);
    }

    #[test]
    fn a_larger_one_is_given_up_once() {
        let copied = said(3, |tee| {
            tee.push(b"ab");
            tee.push(b"cd");
            tee.push(b"e");
            tee.end();
        });
        assert_eq!(copied, [Copied::TooLarge]);
    }

    #[test]
    fn a_body_that_is_given_up_is_no_copy() {
        assert_eq!(said(3, |tee| tee.push(b"ab")), [Copied::Cut]);
    }
}
