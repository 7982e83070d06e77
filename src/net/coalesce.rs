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

/// Beyond this the writer waits until the other side has taken what is held. More would gain nothing, and a PING waits
/// behind it.
const LIMIT: usize = 16 * 1024;
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
    /// The stream has taken bytes that it may still keep: TLS does when the socket is full.
    unflushed: bool,
    taken: u64,
}

impl<S> Coalesced<S> {
    /// Both handles to `stream`.
    pub fn new(stream: S) -> (Self, Self) {
        let held = Rc::new(RefCell::new(Held {
            stream,
            bytes: Vec::new(),
            sent: 0,
            unflushed: false,
            taken: 0,
        }));
        (Self(Rc::clone(&held)), Self(held))
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        let held = self.0.borrow();
        held.bytes.len() - held.sent
    }

    /// Whether all that was written has left.
    pub fn is_sent(&self) -> bool {
        let held = self.0.borrow();
        held.bytes.is_empty() && !held.unflushed
    }

    /// Bytes that the stream has taken so far, and one more for each time that all had left: changes when something moves.
    pub fn taken(&self) -> u64 {
        self.0.borrow().taken
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
            self.unflushed = true;
            let rest = &self.bytes[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => {
                    self.sent += sent;
                    self.taken += sent as u64;
                }
            }
        }
        self.bytes.clear();
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
            self.taken += 1;
        }
        Poll::Ready(Ok(()))
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
            held.unflushed = true;
            let written = ready!(Pin::new(&mut held.stream).poll_write_vectored(cx, slices))?;
            held.taken += written as u64;
            return Poll::Ready(Ok(written));
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
        assert_eq!((sender.waiting(), sender.is_sent()), (11, false));
        send(&sender).await.unwrap();
        assert_eq!((sender.waiting(), sender.is_sent()), (0, true));
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

    /// Takes every write, and lets it go only when it is flushed for the second time: as TLS before a full socket.
    struct Reluctant {
        kept: Vec<u8>,
        out: tokio::io::DuplexStream,
        asked: bool,
    }

    impl AsyncWrite for Reluctant {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.kept.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.asked = !self.asked;
            if self.asked {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let kept = std::mem::take(&mut self.kept);
            let written = ready!(Pin::new(&mut self.out).poll_write(cx, &kept))?;
            assert_eq!(written, kept.len());
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn regression_what_the_stream_keeps_is_sent_only_when_it_is_flushed() {
        for length in [10, LARGE] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let reluctant = Reluctant {
                kept: Vec::new(),
                out: near,
                asked: false,
            };
            let (mut writer, sender) = Coalesced::new(reluctant);
            let bytes = vec![7; length];
            let wrote =
                std::future::poll_fn(|cx| Pin::new(&mut writer).poll_write(cx, &bytes)).await;
            assert_eq!(wrote.unwrap(), length);
            let mut turns = 0;
            std::future::poll_fn(|cx| {
                turns += 1;
                let sent = sender.poll_send(cx);
                assert_eq!(sent.is_ready(), sender.is_sent(), "{length} bytes");
                sent
            })
            .await
            .unwrap();
            assert_eq!(turns, 2, "{length} bytes");
            far.read_exact(&mut vec![0; length]).await.unwrap();
        }
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
