//! Watches a request body on its way to an endpoint: limits it, and remembers how far it came.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::body::{Body, BodyError, Guard, retain};
use super::expectation::Expectation;
use super::pause::PauseTimer;
use super::replay::{Reader, Replay};
use super::{forwarded, hop_by_hop};

/// The body of a request to an endpoint. Boxed where there is one: most requests have none, and all are moved often.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Source>>);

#[derive(Debug)]
enum Source {
    /// Sent once; asked for only when the expectation is ready.
    Received(Body<Upload>, Option<Expectation>),
    /// Maybe sent again.
    Kept(Reader),
}

impl RequestBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self(None)
    }

    /// What the client sends, watched by `upload`; where it waits to be asked, not before `expectation` is ready.
    pub fn received(incoming: Incoming, upload: Upload, expectation: Option<Expectation>) -> Self {
        let body = Body::received(incoming).with_guard(upload);
        Self(Some(Box::new(Source::Received(body, expectation))))
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it waits to be asked for.
    pub fn is_held_back(&self) -> bool {
        matches!(self.0.as_deref(), Some(Source::Received(_, Some(_))))
    }

    /// Makes it one that can be sent again, as long as no more than `limit` bytes of it were sent.
    pub fn keep(&mut self, limit: usize) -> Kept {
        let Some(source) = self.0.take() else {
            return Kept::Empty;
        };
        let (replay, reader) = match *source {
            Source::Kept(reader) => (Rc::clone(reader.replay()), Some(reader)),
            Source::Received(body, _) => {
                let replay = Replay::new(body, limit);
                let reader = replay.reader();
                (replay, reader)
            }
        };
        self.0 = reader.map(|reader| Box::new(Source::Kept(reader)));
        Kept::Begin(replay)
    }
}

/// What there is of a body to send it a second time.
#[derive(Debug, Default)]
pub enum Kept {
    /// There was none.
    Empty,
    /// Its begin, and the rest behind that.
    Begin(Rc<Replay>),
    /// It was not kept.
    #[default]
    Not,
}

impl Kept {
    /// Whether all of it is there, or can be had.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Begin(replay) => replay.is_whole(),
            Self::Not => false,
        }
    }

    /// The body from its beginning; `None` where that is gone.
    pub fn again(&self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::empty()),
            Self::Begin(replay) => {
                let reader = replay.reader()?;
                Some(RequestBody(Some(Box::new(Source::Kept(reader)))))
            }
            Self::Not => None,
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.as_deref_mut() {
            Some(Source::Received(body, expectation)) => {
                if let Some(waiting) = expectation {
                    ready!(waiting.poll(cx));
                    *expectation = None;
                }
                Pin::new(body).poll_frame(cx)
            }
            Some(Source::Kept(reader)) => reader.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_deref() {
            Some(Source::Received(body, _)) => body.is_end_stream(),
            Some(Source::Kept(reader)) => reader.is_end_stream(),
            None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            Some(Source::Received(body, _)) => body.size_hint(),
            Some(Source::Kept(reader)) => reader.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// How a request body goes; shared by its guard and the request's own task.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Cell<u64>,
    stage: Cell<Stage>,
}

/// How far a request body has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// Not a frame of it has been asked for: it can still go to another endpoint.
    #[default]
    Untouched,
    /// On its way.
    Moving,
    /// Passed on whole.
    Complete,
    /// The client paused for too long.
    Idle,
    /// Larger than allowed.
    TooLarge,
    /// The client's connection failed, or what it sent was malformed.
    Broken,
}

impl Progress {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// So many more were passed on, by other means.
    pub fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }
}

/// The guard of a request body.
#[derive(Debug)]
pub struct Upload {
    progress: Rc<Progress>,
    limit: u64,
    pause: PauseTimer,
    /// Trailers that are not passed on, beside those that never are.
    reserved: Option<Arc<[HeaderName]>>,
}

impl Upload {
    /// Watches a body of at most `limit` bytes with pauses of at most `idle`.
    pub fn new(progress: Rc<Progress>, limit: Option<u64>, idle: Duration) -> Self {
        Self {
            progress,
            limit: limit.unwrap_or(u64::MAX),
            pause: PauseTimer::new(idle),
            reserved: None,
        }
    }

    /// The same, passing on none of the `reserved` fields among trailers.
    pub fn without(self, reserved: Option<Arc<[HeaderName]>>) -> Self {
        Self { reserved, ..self }
    }
}

impl Guard for Upload {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.progress.stage.set(Stage::Moving);
        self.pause.poll_pause(cx).map(|()| BodyError::Idle)
    }

    fn on_data(&mut self, bytes: usize) -> Result<(), BodyError> {
        let total = self.progress.bytes.get() + bytes as u64;
        self.progress.bytes.set(total);
        self.progress.stage.set(Stage::Moving);
        self.pause.moved();
        if total > self.limit {
            Err(BodyError::TooLarge)
        } else {
            Ok(())
        }
    }

    fn on_trailers(&mut self, trailers: &mut HeaderMap) {
        // What a request's head may not say its trailers may not say either: some servers merge the two.
        retain(trailers, |name| {
            !hop_by_hop::is_hop_by_hop(name)
                && !hop_by_hop::is_protected(name)
                && !forwarded::is_never_passed(name)
                && !forwarded::is_for_trusted(name)
        });
        for name in self.reserved.iter().flat_map(|names| names.iter()) {
            trailers.remove(name);
        }
    }

    fn on_end(&mut self, result: Result<(), &BodyError>) {
        self.progress.stage.set(match result {
            Ok(()) => Stage::Complete,
            Err(BodyError::Received(_)) => Stage::Broken,
            Err(BodyError::Idle) => Stage::Idle,
            Err(BodyError::TooLarge) => Stage::TooLarge,
        });
    }
}
