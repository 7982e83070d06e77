//! Opens a connection within a time, and says what must be said first on it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No answer in time.
    #[error("connect to {address} timed out after {after:?}")]
    Timeout {
        /// Where to.
        address: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The system said no.
    #[error("connect to {address} failed")]
    Failed {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether a failure is this machine's own shortage of descriptors, memory or ports: it says nothing of the other side.
pub fn is_own_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

/// Has the system ask whether the other side of `socket` is still there, after so much silence and then every so often; four
/// times without an answer, or data that is not acknowledged for as long, and the connection ends.
pub fn keep_alive(socket: impl AsFd, after: Duration, every: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, after)?;
    sockopt::set_tcp_keepintvl(&socket, every)?;
    sockopt::set_tcp_keepcnt(&socket, ASKED)?;
    let patience = after + every * ASKED;
    let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, patience)?;
    Ok(())
}

/// How often it is asked.
const ASKED: u32 = 4;

/// Connects to `address` within `limit`. The bytes of `preface` come before anything that is written later.
pub async fn connect(
    address: SocketAddr,
    limit: Duration,
    preface: Option<&[u8]>,
) -> Result<TcpStream, ConnectError> {
    let mut stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(ConnectError::Failed { address, source }),
        Err(_) => {
            return Err(ConnectError::Timeout {
                address,
                after: limit,
            });
        }
    };
    // Heads and bodies are written whole: waiting for more would only delay them.
    stream
        .set_nodelay(true)
        .map_err(|source| ConnectError::Failed { address, source })?;
    if let Some(preface) = preface {
        // Far less than a new socket takes at once.
        stream
            .write_all(preface)
            .await
            .map_err(|source| ConnectError::Failed { address, source })?;
    }
    Ok(stream)
}
