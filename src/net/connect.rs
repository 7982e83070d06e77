//! Opens a connection within a time, and says what must be said first on it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
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
