//! The one body type: received from the other side, made by us, or empty; with a guard that sees how it goes.
//!
//! Frames pass through untouched, one at a time, so that backpressure reaches the sender. Knows nothing of who is told.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};

use super::received::{ReceiveError, Received};

/// Sees how a body goes. Dropping a guard that was not told of the end means that the body was abandoned.
pub trait Guard {
    /// The next frame is not here yet; the place for a limit on pauses.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<BodyError>;

    /// `data` came, or nothing with trailers; an error cuts the body.
    fn on_data(&mut self, data: &[u8]) -> Result<(), BodyError>;

    /// Trailers came; what must not be passed on is taken out.
    fn on_trailers(&mut self, trailers: &mut HeaderMap);

    /// The body has ended. Called at most once, last.
    fn on_end(&mut self, result: Result<(), &BodyError>);
}

/// Why a body could not be passed on whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection it came from failed, or the body was malformed.
    #[error("body ended early")]
    Received(#[source] ReceiveError),
    /// No data for too long.
    #[error("body paused for too long")]
    Idle,
    /// Still going on when it must have ended.
    #[error("body took too long")]
    Late,
    /// Larger than allowed.
    #[error("body larger than the limit")]
    TooLarge,
    /// It is sent elsewhere now, from its beginning.
    #[error("body sent elsewhere")]
    Elsewhere,
}

/// A body that is passed on or was made by us.
#[derive(Debug)]
pub struct Body<G: Guard> {
    kind: Kind,
    guard: Option<G>,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Bytes),
    Received(Received),
}

impl<G: Guard> Body<G> {
    /// Nothing.
    pub fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            guard: None,
        }
    }

    /// All of `bytes`.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            kind: if bytes.is_empty() {
                Kind::Empty
            } else {
                Kind::Full(bytes)
            },
            guard: None,
        }
    }

    /// What comes from the other side.
    pub fn received(received: impl Into<Received>) -> Self {
        Self {
            kind: Kind::Received(received.into()),
            guard: None,
        }
    }

    /// With `guard`, which sees everything from here on.
    pub fn with_guard(mut self, guard: G) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The same, in place.
    pub fn set_guard(&mut self, guard: G) {
        self.guard = Some(guard);
    }

    /// Its guard, until it has ended.
    pub fn guard_mut(&mut self) -> Option<&mut G> {
        self.guard.as_mut()
    }

    fn end(&mut self, result: Result<(), &BodyError>) {
        if let Some(mut guard) = self.guard.take() {
            guard.on_end(result);
        }
    }

    fn has_ended(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Received(received) => http_body::Body::is_end_stream(received),
        }
    }
}

impl<G: Guard> Drop for Body<G> {
    fn drop(&mut self) {
        // A body without content is never polled.
        if self.has_ended() {
            self.end(Ok(()));
        }
    }
}

impl<G: Guard + Unpin> http_body::Body for Body<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut *self;
        let frame = match &mut body.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                body.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Received(received) => Pin::new(received)
                .poll_frame(cx)
                .map_err(BodyError::Received),
        };
        let result = match frame {
            Poll::Pending => match body
                .guard
                .as_mut()
                .map_or(Poll::Pending, |guard| guard.poll_pause(cx))
            {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(error) => Err(error),
            },
            Poll::Ready(None) => {
                body.end(Ok(()));
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                if let (Some(trailers), Some(guard)) = (frame.trailers_mut(), &mut body.guard) {
                    guard.on_trailers(trailers);
                }
                let data = frame.data_ref().map_or(&[][..], |data| data);
                body.guard
                    .as_mut()
                    .map_or(Ok(()), |guard| guard.on_data(data))
                    .map(|()| frame)
            }
            Poll::Ready(Some(Err(error))) => Err(error),
        };
        match &result {
            // Nobody asks for more after the trailers.
            Ok(frame) if frame.is_trailers() || body.has_ended() => body.end(Ok(())),
            Ok(_) => {}
            Err(error) => body.end(Err(error)),
        }
        Poll::Ready(Some(result))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Received(received) => received.size_hint(),
        }
    }
}

/// Takes out every field whose name does not pass.
pub fn retain(fields: &mut HeaderMap, passes: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = fields
        .keys()
        .filter(|name| !passes(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    #[derive(Default)]
    struct Seen {
        bytes: usize,
        end: Option<bool>,
        abandoned: bool,
    }

    struct Witness(Rc<RefCell<Seen>>);

    impl Guard for Witness {
        fn poll_pause(&mut self, _: &mut Context<'_>) -> Poll<BodyError> {
            Poll::Pending
        }
        fn on_data(&mut self, data: &[u8]) -> Result<(), BodyError> {
            let bytes = data.len();
            self.0.borrow_mut().bytes += bytes;
            if bytes > 5 {
                Err(BodyError::TooLarge)
            } else {
                Ok(())
            }
        }
        fn on_trailers(&mut self, _: &mut HeaderMap) {}
        fn on_end(&mut self, result: Result<(), &BodyError>) {
            self.0.borrow_mut().end = Some(result.is_ok());
        }
    }

    impl Drop for Witness {
        fn drop(&mut self) {
            let mut seen = self.0.borrow_mut();
            seen.abandoned = seen.end.is_none();
        }
    }

    fn watched(body: Body<Witness>) -> (Body<Witness>, Rc<RefCell<Seen>>) {
        let seen = Rc::new(RefCell::default());
        (body.with_guard(Witness(Rc::clone(&seen))), seen)
    }

    fn poll(body: &mut Body<Witness>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        http_body::Body::poll_frame(Pin::new(body), &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn guard_hears_of_the_end_with_the_last_frame() {
        let (mut body, seen) = watched(Body::full("abc"));
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert_eq!((seen.borrow().bytes, seen.borrow().end), (3, Some(true)));
    }

    #[test]
    fn empty_body_ends_well_without_being_polled() {
        let (body, seen) = watched(Body::empty());
        drop(body);
        assert_eq!(seen.borrow().end, Some(true));
        assert!(!seen.borrow().abandoned);
    }

    #[test]
    fn dropping_an_unfinished_body_abandons_it() {
        let (body, seen) = watched(Body::full("abc"));
        drop(body);
        assert!(seen.borrow().abandoned);
    }

    #[test]
    fn guard_can_cut_the_body() {
        let (mut body, seen) = watched(Body::full("abcdef"));
        assert!(matches!(
            poll(&mut body),
            Poll::Ready(Some(Err(BodyError::TooLarge)))
        ));
        assert_eq!(seen.borrow().end, Some(false));
    }
}
