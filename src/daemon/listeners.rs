//! Sockets of listeners: opened for every worker, and given to them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tracing::info;

use super::{Daemon, Inherited, StartError};
use crate::net::listen;
use crate::snapshot::Snapshot;
use crate::units::Name;
use crate::worker::Command;

/// The sockets of one listener, for each worker.
pub(super) struct Opened {
    pub(super) name: Name,
    pub(super) slot: u32,
    pub(super) address: SocketAddr,
    pub(super) sockets: Vec<Vec<TcpListener>>,
}

/// Binds what `snapshot` listens on and is neither open yet nor `inherited`.
pub(super) fn open(
    snapshot: &Snapshot,
    is_open: &[(u32, SocketAddr)],
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Vec<Opened>, StartError> {
    let configured: Vec<_> = snapshot.listeners.iter().map(|it| it.address).collect();
    let new = snapshot
        .listeners
        .iter()
        .filter(|listener| is_open.iter().all(|(slot, _)| *slot != listener.slot));
    new.map(|listener| {
        let failed = |source| StartError::Listen {
            listener: Arc::clone(&listener.name),
            address: listener.address,
            source,
        };
        let there = inherited.of_listener(&listener.name, listener.address, &configured);
        let sockets = if there.is_empty() {
            let bound = listen::bind(listener.address, workers);
            bound.map(|bound| bound.into_iter().map(|socket| vec![socket]).collect())
        } else {
            listen::spread(there, workers)
        };
        let sockets: Vec<Vec<TcpListener>> = sockets.map_err(|source| {
            let port = listener.address.port();
            match is_open.iter().find(|(_, open)| open.port() == port) {
                Some((_, open)) => StartError::Overlap {
                    listener: Arc::clone(&listener.name),
                    address: listener.address,
                    open: *open,
                },
                None => failed(source),
            }
        })?;
        let address = sockets
            .iter()
            .flatten()
            .next()
            .map_or(Ok(listener.address), TcpListener::local_addr)
            .map_err(failed)?;
        Ok(Opened {
            name: Arc::clone(&listener.name),
            slot: listener.slot,
            address,
            sockets,
        })
    })
    .collect()
}

impl Daemon {
    /// Gives new sockets to the workers: they accept from now on.
    pub(super) fn hand_out(&mut self) {
        for opened in self.unopened.drain(..) {
            info!(listener = %opened.name, address = %opened.address, "listener open");
            for (worker, sockets) in self.workers.iter().zip(opened.sockets) {
                for socket in sockets {
                    worker.tell(Command::Listen {
                        slot: opened.slot,
                        socket,
                    });
                }
            }
        }
    }

    pub(super) fn named_addresses(&self) -> Vec<(Name, SocketAddr)> {
        let snapshot = self.publisher.current();
        let named = snapshot.listeners.iter().filter_map(|listener| {
            let (_, address) = self
                .addresses
                .iter()
                .find(|(slot, _)| *slot == listener.slot)?;
            Some((Arc::clone(&listener.name), *address))
        });
        named.collect()
    }
}
