//! A request body that can be sent a second time, as long as little of it was sent.
//!
//! For connections on which an endpoint can say that it has not processed a request, and for requests that may be processed
//! twice. What is passed on is shared, not copied; beyond a limit, and once the endpoint answers, nothing is kept.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::body::{Body, BodyError};
use super::upload::Upload;

/// Of so many bytes one part more may be kept, beside a few: each keeps the buffer that it was read into, however short it
/// is itself.
const PART: usize = 1024;
const FEW: usize = 8;

/// What is kept of a body, and the rest of it.
#[derive(Debug)]
pub struct Replay {
    rest: RefCell<Body<Upload>>,
    kept: RefCell<Kept>,
    /// As it was stated in the beginning.
    length: SizeHint,
    /// Only the latest reader reads.
    readers: Cell<u32>,
    /// Nothing is left of the rest.
    ended: Cell<bool>,
    /// Who waits for more of the rest.
    waiting: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Kept {
    parts: Vec<Part>,
    bytes: usize,
    /// Bytes that are kept, at most.
    limit: usize,
    /// Which part the reader gets next.
    next: usize,
    /// Not everything from the beginning is there any more.
    is_partial: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

impl Replay {
    /// Keeps at most `limit` bytes of `body`.
    pub(super) fn new(body: Body<Upload>, limit: usize) -> Rc<Self> {
        Rc::new(Self {
            length: body.size_hint(),
            rest: RefCell::new(body),
            kept: RefCell::new(Kept::new(limit)),
            readers: Cell::new(0),
            ended: Cell::new(false),
            waiting: RefCell::new(None),
        })
    }

    /// A reader that begins at the beginning; those before it end with an error. `None` where the beginning is gone.
    pub(super) fn reader(self: &Rc<Self>) -> Option<Reader> {
        let mut kept = self.kept.borrow_mut();
        if kept.is_partial {
            return None;
        }
        kept.next = 0;
        self.readers.set(self.readers.get() + 1);
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            // It hears of its end.
            waiting.wake();
        }
        Some(Reader {
            replay: Rc::clone(self),
            number: self.readers.get(),
        })
    }

    /// Whether it can be read from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        !self.kept.borrow().is_partial
    }

    /// It will not be sent again.
    pub fn forget(&self) {
        self.kept.borrow_mut().forget();
    }

    /// Whether all of it was passed on.
    pub fn is_finished(&self) -> bool {
        let kept = self.kept.borrow();
        kept.next >= kept.parts.len() && (self.ended.get() || self.rest.borrow().is_end_stream())
    }
}

impl Kept {
    fn new(limit: usize) -> Self {
        Self {
            parts: Vec::new(),
            bytes: 0,
            limit,
            next: 0,
            is_partial: false,
        }
    }

    fn next(&mut self) -> Option<Part> {
        let part = self.parts.get(self.next)?.clone();
        self.next += 1;
        if self.is_partial && self.next == self.parts.len() {
            // A second time has caught up, and there will be no third.
            self.parts = Vec::new();
            self.next = 0;
        }
        Some(part)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.is_partial {
            return;
        }
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Part::Data(data.clone()),
            (None, Some(trailers)) => Part::Trailers(Box::new(trailers.clone())),
            (None, None) => return,
        };
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.bytes > self.limit || self.parts.len() >= FEW + self.limit / PART {
            self.forget();
            return;
        }
        self.parts.push(part);
        self.next = self.parts.len();
    }

    fn forget(&mut self) {
        self.is_partial = true;
        if self.next == self.parts.len() {
            self.parts = Vec::new();
            self.next = 0;
        }
    }
}

/// Reads a body that can be sent again.
#[derive(Debug)]
pub(super) struct Reader {
    replay: Rc<Replay>,
    number: u32,
}

impl Reader {
    pub(super) fn replay(&self) -> &Rc<Replay> {
        &self.replay
    }

    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let replay = &*self.replay;
        if self.is_outdated() {
            // No end: a truncated body is not to be taken for a whole one.
            return Poll::Ready(Some(Err(BodyError::Elsewhere)));
        }
        let mut kept = replay.kept.borrow_mut();
        if let Some(part) = kept.next() {
            return Poll::Ready(Some(Ok(match part {
                Part::Data(data) => Frame::data(data),
                Part::Trailers(trailers) => Frame::trailers(*trailers),
            })));
        }
        if replay.ended.get() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut *replay.rest.borrow_mut()).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                kept.keep(frame);
                replay.ended.set(frame.is_trailers());
            }
            Poll::Ready(Some(Err(_))) => {
                kept.forget();
                replay.ended.set(true);
            }
            Poll::Ready(None) => replay.ended.set(true),
            Poll::Pending => *replay.waiting.borrow_mut() = Some(cx.waker().clone()),
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        !self.is_outdated() && self.replay.is_finished()
    }

    fn is_outdated(&self) -> bool {
        self.number != self.replay.readers.get()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        // Asked for before anything is read, if at all.
        self.replay.length
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::message::upload::Progress;

    const LIMIT: usize = 64 * 1024;

    fn replay(bytes: Vec<u8>) -> Rc<Replay> {
        let upload = Upload::new(Rc::<Progress>::default(), None, Duration::from_secs(1));
        Replay::new(Body::full(bytes).with_guard(upload), LIMIT)
    }

    fn read(reader: &Reader) -> Vec<u8> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = reader.poll_frame(&mut cx) {
            read.extend(frame.into_data().unwrap());
        }
        read
    }

    #[test]
    fn a_small_body_can_be_read_again_and_again() {
        let replay = replay(b"abc".to_vec());
        for _ in 0..3 {
            let reader = replay.reader().unwrap();
            assert_eq!(reader.size_hint().exact(), Some(3));
            assert!(!reader.is_end_stream());
            assert_eq!(read(&reader), b"abc");
            assert!(reader.is_end_stream() && replay.is_finished());
        }
    }

    #[test]
    fn only_the_latest_reader_reads() {
        let replay = replay(b"abc".to_vec());
        let first = replay.reader().unwrap();
        let second = replay.reader().unwrap();
        assert_eq!(read(&second), b"abc");
        let polled = first.poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(
            polled,
            Poll::Ready(Some(Err(BodyError::Elsewhere)))
        ));
        assert!(second.is_end_stream() && !first.is_end_stream());
    }

    #[test]
    fn what_is_forgotten_is_read_to_its_end_once() {
        let replay = replay(b"abc".to_vec());
        read(&replay.reader().unwrap());
        let second = replay.reader().unwrap();
        replay.forget();
        assert!(replay.reader().is_none());
        assert_eq!(read(&second), b"abc");
        assert!(replay.kept.borrow().parts.is_empty());
    }

    #[test]
    fn a_body_in_crumbs_is_not_kept() {
        let mut kept = Kept::new(LIMIT);
        for _ in 0..FEW + LIMIT / PART {
            kept.keep(&Frame::data(Bytes::from_static(b"x")));
        }
        assert!(!kept.is_partial);
        kept.keep(&Frame::data(Bytes::from_static(b"x")));
        assert!(kept.is_partial && kept.parts.is_empty());
    }

    proptest! {
        #[test]
        fn beyond_the_limit_nothing_is_kept(length in 0..2 * LIMIT) {
            let replay = replay(vec![7; length]);
            prop_assert_eq!(read(&replay.reader().unwrap()).len(), length);
            prop_assert_eq!(replay.reader().is_some(), length <= LIMIT);
            let kept: usize = replay.kept.borrow().parts.iter().map(|part| match part {
                Part::Data(data) => data.len(),
                Part::Trailers(_) => 0,
            }).sum();
            prop_assert!(kept <= LIMIT);
        }
    }
}
