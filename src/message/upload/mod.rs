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
use tokio::time::Instant;

use super::body::{Body, BodyError, Guard, retain};
use super::expectation::Expectation;
use super::pause::PauseTimer;
use super::replay::{Reader, Replay};
use super::tee::Tee;
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

    /// All of `bytes`.
    pub fn full(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self(Some(Box::new(Source::Received(Body::full(bytes), None))))
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

    /// Copies it to `tee` as it comes; one that was sent before is not copied.
    pub fn copy_to(&mut self, tee: Tee) {
        if let Some(Source::Received(body, _)) = self.0.as_deref_mut()
            && let Some(upload) = body.guard_mut()
        {
            upload.tee = Some(Box::new(tee));
        }
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
    /// Since when the client is waited for.
    awaited: Cell<Option<Instant>>,
    /// When something of it came last, or its end.
    moved: Cell<Option<Instant>>,
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
    /// The client paused for too long, or for too long in all.
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

    /// It is sent, maybe anew. Until it is asked for, nobody waits for the client.
    pub fn begin(&self) {
        self.awaited.set(None);
    }

    /// Since when the client is waited for, where it is, and not the endpoint.
    pub fn awaited(&self) -> Option<Instant> {
        self.awaited.get()
    }

    /// When something of it, or its end, came last from the client.
    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    fn note_moved(&self) {
        self.awaited.set(None);
        self.moved.set(Some(Instant::now()));
    }
}

/// How fast a request body has to come, at least. Only the time counts in which it is waited for: not that in which the
/// endpoint takes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Bytes.
    pub per_second: u64,
    /// What it may be waited for in all, however few they are.
    pub grace: Duration,
}

impl Rate {
    /// How much longer a body may be waited for, of which `bytes` have come in `waited`.
    fn left(&self, bytes: u64, waited: Duration) -> Duration {
        let milliseconds = bytes.saturating_mul(1000) / self.per_second.max(1);
        let earned = Duration::from_millis(milliseconds);
        self.grace.saturating_add(earned).saturating_sub(waited)
    }
}

/// The guard of a request body.
#[derive(Debug)]
pub struct Upload {
    progress: Rc<Progress>,
    limit: u64,
    pause: PauseTimer,
    /// The longest single pause.
    idle: Duration,
    rate: Option<Rate>,
    /// How long it was waited for so far, where there is a rate.
    waited: Duration,
    /// Trailers that are not passed on, beside those that never are.
    reserved: Option<Arc<[HeaderName]>>,
    /// Gets a copy.
    tee: Option<Box<Tee>>,
}

impl Upload {
    /// Watches a body of at most `limit` bytes with pauses of at most `idle`.
    pub fn new(progress: Rc<Progress>, limit: Option<u64>, idle: Duration) -> Self {
        Self {
            progress,
            limit: limit.unwrap_or(u64::MAX),
            pause: PauseTimer::new(idle),
            idle,
            rate: None,
            waited: Duration::ZERO,
            reserved: None,
            tee: None,
        }
    }

    /// The same, giving up a client that is slower than `rate`.
    pub fn at_least(self, rate: Option<Rate>) -> Self {
        Self { rate, ..self }
    }

    /// The same, passing on none of the `reserved` fields among trailers.
    pub fn without(self, reserved: Option<Arc<[HeaderName]>>) -> Self {
        Self { reserved, ..self }
    }
}

impl Guard for Upload {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.progress.stage.set(Stage::Moving);
        if let Some(rate) = &self.rate {
            let left = rate.left(self.progress.bytes.get(), self.waited);
            self.pause.set_limit(self.idle.min(left));
        }
        let pause = self.pause.poll_pause(cx);
        self.progress.awaited.set(self.pause.since());
        pause.map(|()| BodyError::Idle)
    }

    fn on_data(&mut self, data: &[u8]) -> Result<(), BodyError> {
        let total = self.progress.bytes.get() + data.len() as u64;
        if let Some(tee) = &mut self.tee {
            tee.push(data);
        }
        self.progress.bytes.set(total);
        self.progress.stage.set(Stage::Moving);
        self.progress.note_moved();
        if let Some(since) = self.pause.moved()
            && self.rate.is_some()
        {
            self.waited += since.elapsed();
        }
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
        if let (Ok(()), Some(mut tee)) = (result, self.tee.take()) {
            tee.end();
        }
        self.progress.note_moved();
        self.progress.stage.set(match result {
            Ok(()) => Stage::Complete,
            Err(BodyError::Received(_)) => Stage::Broken,
            Err(BodyError::Idle | BodyError::Late) => Stage::Idle,
            Err(BodyError::TooLarge) => Stage::TooLarge,
            // What is read here is the body itself, not what is kept of it.
            Err(BodyError::Elsewhere) => return,
        });
    }
}

#[cfg(test)]
mod tests;
