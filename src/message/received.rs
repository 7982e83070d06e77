//! A body as it comes from the other side: by hyper, or on a stream of HTTP/2 that is ours.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

/// A body that is being received.
#[derive(Debug)]
pub enum Received {
    /// By hyper.
    Incoming(Incoming),
    /// On a stream of HTTP/2.
    Stream(Stream),
}

impl From<Incoming> for Received {
    #[inline]
    fn from(incoming: Incoming) -> Self {
        Self::Incoming(incoming)
    }
}

impl From<Stream> for Received {
    fn from(stream: Stream) -> Self {
        Self::Stream(stream)
    }
}

/// What came of a message that was not received whole.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// As hyper says.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// As the stream says.
    #[error(transparent)]
    Stream(#[from] h2::Error),
}

impl ReceiveError {
    /// Whether the other side has reset a stream, and said nothing of the connection.
    pub fn is_reset(&self) -> bool {
        match self {
            Self::Hyper(_) => false,
            Self::Stream(error) => error.is_reset() && error.is_remote(),
        }
    }

    /// Whether it was this side that found something wrong with what the other one said.
    pub fn is_violation(&self) -> bool {
        match self {
            Self::Hyper(error) => error.is_parse() || is_found_by_h2(error),
            // Too much of what is allowed, which is kept for slow clients, is none.
            Self::Stream(error) => {
                error.is_library() && error.reason() != Some(Reason::ENHANCE_YOUR_CALM)
            }
        }
    }
}

fn is_found_by_h2(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_library();
        }
        cause = error.source();
    }
    false
}

/// The body of a response on a stream of HTTP/2. Its end is an end only where the other side says so (RFC 9113 §8.1): a stream
/// that is reset without an error before that is cut short, too.
#[derive(Debug)]
pub struct Stream {
    stream: RecvStream,
    /// What is still to come, where that was said.
    left: Option<u64>,
    /// All data has come, and trailers may.
    has_data_ended: bool,
    /// The end had come when it was last looked.
    has_ended: bool,
}

impl Stream {
    /// The body of `response`.
    pub fn of(response: Response<RecvStream>) -> Response<Self> {
        let stated = length(response.headers());
        response.map(|stream| Self {
            has_ended: stream.is_end_stream(),
            left: stated.or_else(|| stream.is_end_stream().then_some(0)),
            stream,
            has_data_ended: false,
        })
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.has_data_ended {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                let data = data?;
                // The next one may come: whoever takes this takes it now. Refused only where nothing was received.
                let _ = self.stream.flow_control().release_capacity(data.len());
                self.has_ended = self.stream.is_end_stream();
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.has_data_ended = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

/// What is said of the length. h2 holds the other side to it.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = ReceiveError;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        match &mut *self {
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Stream(stream) => stream.poll_frame(cx).map_err(Into::into),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Stream(stream) => stream.has_ended,
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Stream(stream) => stream.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
