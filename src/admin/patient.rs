//! Gives up connections of the admin's that take nothing of what they are told: a viewer that has stopped reading shall not be
//! kept for ever. And tells who connects to the unix socket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};

use super::command::Operator;

/// As long as nothing is taken, it is waited for a reader.
const PATIENCE: Duration = Duration::from_secs(30);

/// The unix socket, which knows who connects.
#[derive(Debug)]
pub(super) struct Known(pub(super) UnixListener);

impl Listener for Known {
    type Io = UnixStream;
    type Addr = Option<Operator>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, _) = Listener::accept(&mut self.0).await;
        let operator = stream.peer_cred().ok().map(|found| Operator::User {
            uid: found.uid(),
            pid: found.pid(),
        });
        (stream, operator)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(None)
    }
}

impl Operator {
    /// Who cannot be told is nobody: all bits set is no user.
    pub(super) const NOBODY: Self = Self::User {
        uid: u32::MAX,
        pid: None,
    };
}

/// A connection that fails when nothing is taken for too long.
#[derive(Debug)]
pub(super) struct Reading<S> {
    stream: S,
    /// While it takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Reading<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: None,
        }
    }

    fn limited<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reading<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reading<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_given_up_and_who_reads_slowly_is_not() {
        let (near, mut far) = duplex(4);
        let mut near = Reading::new(near);
        let begun = Instant::now();
        for _ in 0..5 {
            let writing = near.write_all(b"word");
            let reading = async {
                sleep(PATIENCE - Duration::from_secs(1)).await;
                far.read_exact(&mut [0; 4]).await
            };
            let (written, read) = tokio::join!(writing, reading);
            assert!(written.is_ok() && read.is_ok());
        }
        let outcome = timeout(2 * PATIENCE, near.write_all(b"too much for it")).await;
        let error = outcome.expect("in time").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= 5 * (PATIENCE - Duration::from_secs(1)));
    }
}
