//! A stream that its owner can still look at while hyper reads and writes it; that remembers, where it is asked to, what was
//! written first; and that ends rather than take what comes too late.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;

/// One of two handles to a stream: one for hyper, one to look.
#[derive(Clone, Debug)]
pub struct SharedStream(Rc<RefCell<Watched>>);

#[derive(Debug)]
struct Watched {
    transport: Transport,
    /// When it is read next, which is before anything is written, it must be quiet still, and it must not be later.
    until: Option<Instant>,
    /// The next write is to be remembered.
    awaits_head: bool,
    /// What was remembered.
    head: Vec<u8>,
}

/// What is kept for the next head, where the last one was longer.
const ROOM: usize = 4096;

impl SharedStream {
    /// Shares `stream`.
    pub fn new(stream: Transport) -> Self {
        Self(Rc::new(RefCell::new(Watched {
            transport: stream,
            until: None,
            awaits_head: false,
            head: Vec::new(),
        })))
    }

    /// Remembers what is written next: hyper writes a head in one piece, whatever follows in others.
    ///
    /// Copying these bytes costs a small part of what a copy of the fields would.
    pub fn await_head(&self) {
        let mut watched = self.0.borrow_mut();
        watched.awaits_head = true;
        watched.head.clear();
        if watched.head.capacity() > ROOM {
            watched.head = Vec::new();
        }
    }

    /// Reads what was to be written first since a head was awaited; nothing where nothing was.
    pub fn with_head<T>(&self, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        read(&self.0.borrow().head)
    }

    /// Whether not a byte has been taken by the system since a head was awaited. Never certain over TLS, which gathers what
    /// it is given.
    pub fn nothing_was_written(&self) -> bool {
        let watched = self.0.borrow();
        watched.awaits_head && matches!(watched.transport, Transport::Plain(_))
    }

    /// What is written next may not be lost: hyper, which reads an idle connection before it takes a request, is to see its end
    /// there if it is not quiet then, or if it is later than `until`. `None`: whatever it is, it may be written.
    pub fn use_until(&self, until: Option<Instant>) {
        self.0.borrow_mut().until = until;
    }

    /// Ends the connection here and now, whoever else holds it.
    pub fn cut(&self) {
        // One that has ended already is cut.
        let _ = rustix::net::shutdown(self.0.borrow().transport.socket(), Shutdown::Both);
    }

    /// Whether an idle connection is still as it was left, see [`Transport::is_quiet`].
    pub fn is_quiet(&self) -> bool {
        self.0.borrow_mut().transport.is_quiet()
    }
}

impl Watched {
    /// Whether what is to be written had better go elsewhere. Between the choice of a connection and this moment a busy worker
    /// has done other things, or has had to wait for a core.
    fn is_past_use(&mut self) -> bool {
        let until = self.until.take();
        until.is_some_and(|until| Instant::now() > until) || !self.transport.is_quiet()
    }

    fn remember(&mut self, bytes: &[u8]) {
        if self.awaits_head {
            // Again, where nothing of it could be written.
            self.head.clear();
            self.head.extend_from_slice(bytes);
        }
    }
}

impl AsyncRead for SharedStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let watched = &mut *self.0.borrow_mut();
        if watched.until.is_some() && watched.is_past_use() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut watched.transport).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SharedStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let watched = &mut *self.0.borrow_mut();
        watched.remember(bytes);
        let written = Pin::new(&mut watched.transport).poll_write(cx, bytes);
        watched.awaits_head &= !matches!(written, Poll::Ready(Ok(_)));
        written
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let watched = &mut *self.0.borrow_mut();
        watched.remember(bytes.first().map_or(&[], |first| &**first));
        let written = Pin::new(&mut watched.transport).poll_write_vectored(cx, bytes);
        watched.awaits_head &= !matches!(written, Poll::Ready(Ok(_)));
        written
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().transport).poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_first_write_is_remembered_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut near = SharedStream::new(Transport::Plain(near));
        near.write_all(b"before").await.unwrap();
        near.await_head();
        assert!(near.nothing_was_written());
        let parts = [IoSlice::new(b"head"), IoSlice::new(b"body")];
        assert_eq!(near.write_vectored(&parts).await.unwrap(), 8);
        near.write_all(b"after").await.unwrap();
        assert!(!near.nothing_was_written());
        assert_eq!(
            near.with_head(|head| Some(head.to_vec())),
            Some(b"head".to_vec())
        );
    }

    #[tokio::test]
    async fn what_comes_too_late_or_after_the_end_is_not_taken() {
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(3600);
        for (until, is_closed) in [
            (None, false),
            (Some(now), false),
            (Some(later), false),
            (Some(later), true),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let mut near = SharedStream::new(Transport::Plain(near));
            let (far, _) = listener.accept().await.unwrap();
            let _far = (!is_closed).then_some(far);
            near.use_until(until);
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let is_taken = Pin::new(&mut near)
                .poll_read(&mut cx, &mut buffer)
                .is_pending();
            assert_eq!(
                is_taken,
                until != Some(now) && !is_closed,
                "{until:?} {is_closed}"
            );
        }
    }

    #[tokio::test]
    async fn quiet_ends_with_a_close_or_with_unasked_bytes() {
        for say in [&b""[..], b"x"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let near = SharedStream::new(Transport::Plain(near));
            let (mut far, _) = listener.accept().await.unwrap();
            assert!(near.is_quiet());
            far.write_all(say).await.unwrap();
            far.shutdown().await.unwrap();
            let begin = Instant::now();
            while near.is_quiet() {
                assert!(begin.elapsed().as_secs() < 5, "never noticed");
                tokio::task::yield_now().await;
            }
        }
    }
}
