//! Sends a request's body on a stream of HTTP/2, as the endpoint takes it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::message::upload::RequestBody;

/// What is left of a body to send. It ends when all of it has been given to the stream, or the stream takes no more: who waits
/// for the response hears why.
#[derive(Debug)]
pub(super) struct Pipe {
    body: RequestBody,
    to: SendStream<Bytes>,
    /// Waits to be taken, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

/// The stream takes no more.
struct Closed;

impl From<h2::Error> for Closed {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Pipe {
    pub(super) fn new(body: RequestBody, to: SendStream<Bytes>) -> Self {
        Self {
            body,
            to,
            waiting: None,
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        loop {
            if let Some((data, is_last)) = &mut self.waiting {
                while !data.is_empty() && self.to.capacity() == 0 {
                    ready!(self.to.poll_capacity(cx)).ok_or(Closed)??;
                }
                let (data, is_last) = (std::mem::take(data), *is_last);
                self.waiting = None;
                self.to.send_data(data, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // While the client is waited for, the endpoint may reset the stream.
                return self.to.poll_reset(cx).map(|_| Err(Closed));
            };
            match frame {
                None => {
                    self.to.send_data(Bytes::new(), true)?;
                    return Poll::Ready(Ok(()));
                }
                Some(Err(_)) => {
                    // A truncated body is not to be taken for a whole one.
                    self.to.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Closed));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        // No more than it has to be: what is asked for is taken from others on the connection.
                        self.to.reserve_capacity(data.len().min(1));
                        self.waiting = Some((data, self.body.is_end_stream()));
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.to.reserve_capacity(0);
                            self.to.send_trailers(trailers)?;
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
            }
        }
    }
}

impl Future for Pipe {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_sent(cx).map(|_| ())
    }
}
