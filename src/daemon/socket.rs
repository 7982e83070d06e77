//! The admin's unix socket: opened where the configuration means it to be, or done without.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use tracing::{error, warn};

use super::{Inherited, StartError};
use crate::admin::socket::AdminSocket;
use crate::admin::{self, Admin};
use crate::config;

/// Opens the unix socket that `socket` means. Where nobody asked for it, and it cannot be had, the process does without.
pub(super) fn open(
    socket: &config::AdminSocket,
    inherited: &mut Inherited,
) -> Result<Option<(AdminSocket, UnixListener)>, StartError> {
    let path = match socket {
        config::AdminSocket::Off => return Ok(None),
        config::AdminSocket::Usual(path) | config::AdminSocket::At(path) => path,
    };
    let opened = match inherited.of_admin_socket(path) {
        Some(listener) => AdminSocket::adopt(path).map(|socket| (socket, listener)),
        None => AdminSocket::bind(path),
    };
    match (opened, socket) {
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
pub(super) async fn answer(listener: UnixListener, admin: Arc<Admin>) {
    if let Err(error) = admin::serve_socket(listener, admin).await {
        error!(%error, "admin socket failed");
    }
}
