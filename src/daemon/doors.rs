//! Where operators come in: the admin's address and its unix socket. Opened once, answered on until the process ends or another
//! one takes them over.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, info};

use super::socket;
use crate::admin::socket::AdminSocket;
use crate::admin::{self, Admin};

/// The sockets.
#[derive(Debug)]
pub(super) struct Doors {
    /// Kept beside the one that is answered on, for the process that takes over.
    pub(super) tcp: Option<TcpListener>,
    /// Where commands are taken; its file goes with the process.
    pub(super) unix: Option<(AdminSocket, UnixListener)>,
}

impl Doors {
    /// Nobody answers yet.
    pub(super) fn new(tcp: TcpListener, unix: Option<(AdminSocket, UnixListener)>) -> Self {
        Self {
            tcp: Some(tcp),
            unix,
        }
    }

    /// Answers from now on.
    pub(super) fn answer(&self, admin: &Arc<Admin>) {
        let cannot = |error: std::io::Error| error!(%error, "admin cannot be answered for");
        if let Some(tcp) = &self.tcp {
            match (tcp.local_addr(), tcp.try_clone()) {
                (Ok(address), Ok(listener)) => {
                    tokio::spawn(serve(listener, Arc::clone(admin)));
                    info!(%address, "admin open");
                }
                (Err(error), _) | (_, Err(error)) => cannot(error),
            }
        }
        let Some((socket, listener)) = &self.unix else {
            return;
        };
        match listener.try_clone() {
            Ok(listener) => {
                tokio::spawn(socket::answer(listener, Arc::clone(admin)));
                info!(path = %socket.path().display(), "admin socket open");
            }
            Err(error) => cannot(error),
        }
    }

    /// Lets nobody in any more, and ends what is asked of `admin` already. The unix socket's file is left to whoever `keeps` it.
    pub(super) fn leave(&mut self, admin: &Admin, keeps: bool) {
        admin.leave();
        // The port is not to stay open once the other process has ended.
        self.tcp = None;
        if let Some((socket, _)) = self.unix.take()
            && keeps
        {
            socket.leave();
        }
    }

    /// The process before this one has been told to leave the unix socket's file: this one sees to it from now on.
    pub(super) fn own(&mut self) {
        if let Some((socket, _)) = &mut self.unix {
            socket.own();
        }
    }

    /// Where commands are taken.
    pub(super) fn path(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(socket, _)| socket.path())
    }
}

async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    if let Err(error) = admin::serve(listener, admin).await {
        error!(%error, "admin listener failed");
    }
}
