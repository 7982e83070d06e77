//! The admin's unix socket: opened where the configuration means it to be, or done without.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::StartError;
use crate::admin::socket::AdminSocket;
use crate::admin::{self, Admin};
use crate::config;

/// Opens the unix socket that `socket` means. Where nobody asked for it, and it cannot be had, the process does without.
pub(super) fn open(
    socket: &config::AdminSocket,
) -> Result<Option<(AdminSocket, UnixListener)>, StartError> {
    let path = match socket {
        config::AdminSocket::Off => return Ok(None),
        config::AdminSocket::Usual(path) | config::AdminSocket::At(path) => path,
    };
    match (AdminSocket::bind(path), socket) {
        (Ok(opened), _) => Ok(Some(opened)),
        (Err(error), config::AdminSocket::Usual(_)) => {
            warn!(path = %path.display(), %error, "no admin socket, so no commands; set admin.socket to another path, or to \"off\"");
            Ok(None)
        }
        (Err(source), _) => Err(StartError::Socket {
            path: path.clone(),
            source,
        }),
    }
}

/// Answers on it, until the process ends.
pub(super) fn serve(
    (socket, listener): (AdminSocket, UnixListener),
    admin: &Arc<Admin>,
) -> AdminSocket {
    info!(path = %socket.path().display(), "admin socket open");
    tokio::spawn(answer(listener, Arc::clone(admin)));
    socket
}

async fn answer(listener: UnixListener, admin: Arc<Admin>) {
    if let Err(error) = admin::serve_socket(listener, admin).await {
        error!(%error, "admin socket failed");
    }
}
