//! A stream that its owner can still look at while hyper reads and writes it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;

/// One of two handles to a stream: one for hyper, one to look.
#[derive(Clone, Debug)]
pub struct SharedStream(Rc<RefCell<Transport>>);

impl SharedStream {
    /// Shares `stream`.
    pub fn new(stream: Transport) -> Self {
        Self(Rc::new(RefCell::new(stream)))
    }

    /// Ends the connection here and now, whoever else holds it.
    pub fn cut(&self) {
        // One that has ended already is cut.
        let _ = rustix::net::shutdown(self.0.borrow().socket(), Shutdown::Both);
    }

    /// Whether an idle connection is still as it was left, see [`Transport::is_quiet`].
    pub fn is_quiet(&self) -> bool {
        self.0.borrow_mut().is_quiet()
    }
}

impl AsyncRead for SharedStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SharedStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, bytes)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

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
            let begin = std::time::Instant::now();
            while near.is_quiet() {
                assert!(begin.elapsed().as_secs() < 5, "never noticed");
                tokio::task::yield_now().await;
            }
        }
    }
}
