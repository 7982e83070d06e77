//! Opens a connection within a time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

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

/// Connects to `address` within `limit`.
pub async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
    let stream = match timeout(limit, TcpStream::connect(address)).await {
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
    Ok(stream)
}
