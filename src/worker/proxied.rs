//! Connections that a proxy in front passes on: reads the PROXY protocol header they begin with, and not a byte more.

use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::message::forwarded::is_trusted;
use crate::message::proxy_protocol::{Header, Invalid, LONGEST, Parsed, parse};
use crate::snapshot::Listener;

/// Both ends of a connection: who connected, and where to.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    Invalid(Invalid),
    /// After so many bytes.
    #[error("closed after {0} bytes")]
    Closed(usize),
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// Whether a header is taken from `peer`. Counted and logged if not.
pub(super) fn is_sender(peer: SocketAddr, senders: &[IpNet], listener: &Listener) -> bool {
    let is_listed = is_trusted(peer.ip(), senders);
    if !is_listed {
        listener.metrics.proxy_protocol_source.inc();
        reject(listener, peer, &"not in proxy_protocol_from");
    }
    is_listed
}

/// Reads the header that `stream` begins with: the ends of the connection it stands for, which are its own `(peer, local)`
/// where the header does not say. `None`, counted and logged: there is no such header, or not in time.
pub(super) async fn receive(
    stream: &mut TcpStream,
    (peer, local): Ends,
    listener: &Listener,
) -> Option<Ends> {
    let metrics = &listener.metrics;
    match timeout(listener.timeouts.handshake, read(stream)).await {
        Ok(Ok(Header { addresses, .. })) => Some(addresses.map_or((peer, local), |addresses| {
            (addresses.source, addresses.destination)
        })),
        // Somebody only looks whether the port is open.
        Ok(Err(Unread::Closed(0))) => None,
        Ok(Err(error)) => {
            metrics.proxy_protocol_malformed.inc();
            reject(listener, peer, &error);
            None
        }
        Err(_) => {
            metrics.proxy_protocol_timeout.inc();
            reject(listener, peer, &"not in time");
            None
        }
    }
}

fn reject(listener: &Listener, peer: SocketAddr, reason: &dyn std::fmt::Display) {
    debug!(listener = %listener.name, %peer, %reason, "no PROXY protocol header");
}

/// What is there is looked at, and only what belongs to the header is taken: the rest is for TLS or HTTP. Whatever is
/// taken is never looked at again, so that every round waits for more.
async fn read(stream: &mut TcpStream) -> Result<Header, Unread> {
    let mut bytes = vec![0; LONGEST];
    let mut taken = 0;
    loop {
        let seen = taken + stream.peek(&mut bytes[taken..]).await?;
        if seen == taken {
            return Err(Unread::Closed(taken));
        }
        let (end, header) = match parse(&bytes[..seen]) {
            Parsed::Header(header) => (header.length, Some(header)),
            Parsed::Incomplete => (seen, None),
            Parsed::Invalid(invalid) => return Err(Unread::Invalid(invalid)),
        };
        stream.read_exact(&mut bytes[taken..end]).await?;
        taken = end;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n";

    #[tokio::test]
    async fn what_follows_the_header_is_left() {
        let (mut near, mut far) = pair().await;
        let sent = [LINE, LINE, b"rest"].concat();
        far.write_all(&sent).await.unwrap();
        drop(far);
        for _ in 0..2 {
            let header = read(&mut near).await.unwrap();
            assert_eq!(header.length, LINE.len());
        }
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"rest");
    }

    #[tokio::test]
    async fn header_may_come_byte_by_byte() {
        let (mut near, mut far) = pair().await;
        far.set_nodelay(true).unwrap();
        let reading = async {
            let header = read(&mut near).await.unwrap();
            assert_eq!(header.length, LINE.len());
        };
        let writing = async {
            for byte in LINE {
                far.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(reading, writing);
    }

    #[tokio::test]
    async fn part_of_a_header_is_waited_on_without_being_looked_at_again() {
        let (mut near, mut far) = pair().await;
        far.write_all(&LINE[..20]).await.unwrap();
        let mut polls = 0;
        {
            let mut reading = std::pin::pin!(read(&mut near));
            let counted = std::future::poll_fn(|cx| {
                polls += 1;
                reading.as_mut().poll(cx)
            });
            let waited = timeout(std::time::Duration::from_millis(200), counted).await;
            assert!(waited.is_err(), "half a header is none");
        }
        assert!(polls < 10, "polled {polls} times for one piece");
        far.write_all(&LINE[20..]).await.unwrap();
    }

    #[tokio::test]
    async fn header_that_is_cut_is_none() {
        for length in [0, 1, 20, LINE.len() - 1] {
            let (mut near, mut far) = pair().await;
            far.write_all(&LINE[..length]).await.unwrap();
            drop(far);
            let error = read(&mut near).await.unwrap_err();
            assert!(
                matches!(error, Unread::Closed(taken) if taken == length),
                "{error:?}"
            );
        }
    }
}
