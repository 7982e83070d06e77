//! Holds small writes back, so that many leave as one.
//!
//! HTTP/2 flushes after nearly every frame. Behind TLS each flush is a record and a system call of its own, which for
//! small responses cost more than all else. Here writes are gathered, a flush does nothing, and the connection's own task
//! sends what there is once it has nothing left to do.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Beyond this the writer waits until the other side has taken what is held.
const LIMIT: usize = 64 * 1024;
/// A write of this size goes out by itself: it gains nothing by a copy.
const LARGE: usize = 16 * 1024;

/// One of two handles to a stream: one for hyper, which writes, one for the connection's task, which sends.
#[derive(Debug)]
pub struct Coalesced<S>(Rc<RefCell<Held<S>>>);

#[derive(Debug)]
struct Held<S> {
    stream: S,
    bytes: Vec<u8>,
    sent: usize,
}

impl<S> Coalesced<S> {
    /// Both handles to `stream`.
    pub fn new(stream: S) -> (Self, Self) {
        let held = Rc::new(RefCell::new(Held {
            stream,
            bytes: Vec::new(),
            sent: 0,
        }));
        (Self(Rc::clone(&held)), Self(held))
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        let held = self.0.borrow();
        held.bytes.len() - held.sent
    }

    /// Gives memory back that nothing waits in.
    pub fn release(&self) {
        let mut held = self.0.borrow_mut();
        if held.bytes.is_empty() {
            held.bytes = Vec::new();
        }
    }
}

impl<S: AsyncWrite + Unpin> Coalesced<S> {
    /// Sends what waits; ready once nothing does.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let rest = &self.bytes[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.borrow_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if held.bytes.len() >= LIMIT {
            ready!(held.poll_send(cx))?;
        }
        if held.bytes.is_empty() && length >= LARGE {
            return Pin::new(&mut held.stream).poll_write_vectored(cx, slices);
        }
        for slice in slices {
            held.bytes.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        ready!(held.poll_send(cx))?;
        Pin::new(&mut held.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn send(coalesced: &Coalesced<tokio::io::DuplexStream>) -> io::Result<()> {
        std::future::poll_fn(|cx| coalesced.poll_send(cx)).await
    }

    #[tokio::test]
    async fn writes_wait_until_they_are_sent() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut writer, sender) = Coalesced::new(near);
        for word in ["one", "two", "three"] {
            writer.write_all(word.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
        }
        assert_eq!(sender.waiting(), 11);
        send(&sender).await.unwrap();
        assert_eq!(sender.waiting(), 0);
        let mut received = [0; 64];
        let length = far.read(&mut received).await.unwrap();
        assert_eq!(&received[..length], b"onetwothree");
    }

    #[tokio::test]
    async fn writer_waits_when_the_other_side_takes_nothing() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut writer, sender) = Coalesced::new(near);
        let chunk = [7; 1000];
        let mut written = 0;
        while let Ok(result) = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            writer.write_all(&chunk),
        )
        .await
        {
            result.unwrap();
            written += chunk.len();
            assert!(written < 2 * LIMIT, "holds without limit");
        }
        assert!(sender.waiting() < LIMIT + chunk.len());
        drop(writer);
        let reading = async {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            received.len()
        };
        let sending = async {
            send(&sender).await.unwrap();
            drop(sender);
        };
        let (received, ()) = tokio::join!(reading, sending);
        assert_eq!(received, written);
    }

    #[tokio::test]
    async fn order_is_kept_around_a_large_write() {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let (mut writer, sender) = Coalesced::new(near);
        let mut expected = Vec::new();
        for (byte, length) in [(1, 10), (2, LARGE), (3, 10), (4, LARGE + 1), (5, 10)] {
            let bytes = vec![byte; length];
            writer.write_all(&bytes).await.unwrap();
            expected.extend(bytes);
        }
        send(&sender).await.unwrap();
        writer.write_all(&[6; LARGE]).await.unwrap();
        expected.extend([6; LARGE]);
        let mut received = vec![0; expected.len()];
        far.read_exact(&mut received).await.unwrap();
        assert!(received == expected);
    }
}
