//! Stands between a client's stream and hyper, and lets through only what is framed without doubt.
//!
//! hyper settles some ambiguities silently, and answers by itself what it cannot read. Here every byte is looked at
//! first: on a violation nothing more is let through, and the connection's task, which watches, makes the reply.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Client;
use super::http1::Stream;
use crate::message::framing::{Framing, HeadLimits, Phase, Violation};
use crate::net::gather::poll_write_gathered;

/// What a gate has seen; shared with the connection's task.
#[derive(Debug)]
pub struct Watch {
    framing: RefCell<Framing>,
    violation: Cell<Option<Violation>>,
    unflushed: Cell<bool>,
    muted: Cell<bool>,
}

impl Watch {
    /// What part of a request comes next.
    pub fn phase(&self) -> Phase {
        self.framing.borrow().phase()
    }

    /// What was wrong, if anything; nothing is let through any more.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }

    /// What a read gets after a violation. In a body: an error, and with it the request fails that is being served. In a
    /// head: nothing, until the connection's task, which looks after every poll, ends the connection.
    fn refuse(&self, violation: Violation) -> Poll<io::Result<()>> {
        match self.phase() {
            Phase::Body => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation))),
            Phase::Idle | Phase::Head => Poll::Pending,
        }
    }

    /// Whether hyper has written something that has not gone out yet.
    pub fn is_unflushed(&self) -> bool {
        self.unflushed.get()
    }
}

/// A client's stream, watched.
#[derive(Debug)]
pub struct Gate<S> {
    stream: S,
    watch: Rc<Watch>,
    client: Rc<Client>,
    /// Let through before, but not used: it comes first.
    unread: Bytes,
}

impl<S> Gate<S> {
    /// Watches the `stream` of `client`, which begins with a request's head.
    pub fn new(stream: S, client: &Rc<Client>, limits: HeadLimits) -> (Self, Rc<Watch>) {
        let watch = Rc::new(Watch {
            framing: RefCell::new(Framing::new(limits)),
            violation: Cell::new(None),
            unflushed: Cell::new(false),
            muted: Cell::new(false),
        });
        (
            Self {
                stream,
                watch: Rc::clone(&watch),
                client: Rc::clone(client),
                unread: Bytes::new(),
            },
            watch,
        )
    }

    /// Takes back what was read and not used.
    pub fn unread(&mut self, bytes: Bytes) {
        // Empty lines before a request line are passed over (RFC 9112 §2.2), and were; without any byte there would still be
        // the buffer they were in.
        let is_blank = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        self.unread = if is_blank { Bytes::new() } else { bytes };
    }

    /// The stream itself.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Whether a write that begins now answers no request that we serve: it is hyper's own reply to a head it cannot
    /// read. That goes nowhere; the connection's task makes a better one.
    fn is_uncalled_for(&self) -> bool {
        let watch = &*self.watch;
        if !watch.unflushed.get() {
            watch.muted.set(!self.client.awaits_response());
        }
        watch.muted.get()
    }
}

impl<S: Stream> Gate<S> {
    /// Ready when there may be something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unread.is_empty() {
            self.stream.poll_readable(cx)
        } else {
            Poll::Ready(())
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(violation) = self.watch.violation.get() {
            return self.watch.refuse(violation);
        }
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let fed = self
            .watch
            .framing
            .borrow_mut()
            .feed(&buffer.filled()[before..]);
        let Err((usable, violation)) = fed else {
            return Poll::Ready(Ok(()));
        };
        self.watch.violation.set(Some(violation));
        buffer.set_filled(before + usable);
        if usable == 0 {
            self.watch.refuse(violation)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_uncalled_for() {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.watch.unflushed.set(true);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.client.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_uncalled_for() {
            return Poll::Ready(Ok(bytes.iter().map(|slice| slice.len()).sum()));
        }
        self.watch.unflushed.set(true);
        let written = ready!(poll_write_gathered(Pin::new(&mut self.stream), cx, bytes))?;
        self.client.moved();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        // Large bodies go out from where they are; what is small is gathered here.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.watch.unflushed.set(false);
        self.client.end_responses();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task closes the stream, when nothing is left to be said or heard on it.
        Poll::Ready(Ok(()))
    }
}
