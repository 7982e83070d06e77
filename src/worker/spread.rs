//! Spreads connections over the workers.
//!
//! The kernel gives each new connection to a worker by a hash: fair over thousands, not over the few long-lived ones of
//! HTTP/2 clients or of a balancer in front. A worker that has clearly more than another hands a new one on.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;

use super::Command;
use super::accept::Admission;

/// All workers of a process, as each of them sees the others.
#[derive(Debug)]
pub struct Peers {
    loads: Box<[Load]>,
    commands: Box<[UnboundedSender<Command>]>,
}

/// A worker that has not taken over so many gets no more: it is busy or stuck.
const WAITING_LIMIT: usize = 32;

/// Connections of one worker. Written by the worker that accepts and the one that serves, once for each connection.
/// Relaxed: a choice that misses the latest change is a choice a moment earlier. On cache lines of its own, as workers
/// look at it often.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load {
    /// All, those on their way included.
    connections: AtomicUsize,
    /// Those on their way.
    waiting: AtomicUsize,
}

impl Peers {
    /// Workers that take commands from `commands`.
    pub fn new(commands: Vec<UnboundedSender<Command>>) -> Self {
        Self {
            loads: commands.iter().map(|_| Load::default()).collect(),
            commands: commands.into(),
        }
    }

    /// A place for a connection that worker `own` has accepted: at `own`, unless it has clearly more than another.
    pub fn place(self: &Arc<Self>, own: usize) -> Place {
        let loads = self.loads.iter().enumerate().map(|(worker, load)| {
            let takes = worker == own || load.waiting.load(Relaxed) < WAITING_LIMIT;
            takes.then(|| load.connections.load(Relaxed))
        });
        Place::new(self, choose(own, loads))
    }

    /// A place at worker `own`, whatever the others have.
    pub fn place_at(self: &Arc<Self>, own: usize) -> Place {
        Place::new(self, own)
    }

    /// Gives `stream`, accepted from `address` on the listener in `slot`, to the worker it was admitted to; both come back where
    /// that worker has ended.
    pub fn hand_over(
        &self,
        slot: u32,
        stream: TcpStream,
        address: SocketAddr,
        admission: Admission,
    ) -> Result<(), (TcpStream, Admission)> {
        let worker = admission.place.worker();
        self.loads[worker].waiting.fetch_add(1, Relaxed);
        let sent = self.commands[worker].send(Command::Serve {
            slot,
            stream,
            address,
            admission,
        });
        match sent {
            Err(SendError(Command::Serve {
                stream, admission, ..
            })) => {
                admission.place.taken_over();
                Err((stream, admission))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The worker for a new connection, of those that have a load. A difference of an eighth is let be: handing over costs
/// more than it would gain.
fn choose(own: usize, loads: impl Iterator<Item = Option<usize>> + Clone) -> usize {
    let own_load = loads.clone().nth(own).flatten().unwrap_or_default();
    let least = loads
        .enumerate()
        .filter_map(|(worker, load)| Some((load?, worker)))
        .min();
    match least {
        Some((load, worker)) if own_load > load + own_load / 8 => worker,
        _ => own,
    }
}

/// Counts a connection at a worker until it is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Arc<Peers>,
    worker: usize,
}

impl Place {
    fn new(peers: &Arc<Peers>, worker: usize) -> Self {
        peers.loads[worker].connections.fetch_add(1, Relaxed);
        Self {
            peers: Arc::clone(peers),
            worker,
        }
    }

    /// Whose connection it is.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The connection is on its way no longer.
    pub fn taken_over(&self) {
        self.peers.loads[self.worker].waiting.fetch_sub(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peers.loads[self.worker]
            .connections
            .fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn peers(count: usize) -> Arc<Peers> {
        let commands = (0..count).map(|_| unbounded_channel().0).collect();
        Arc::new(Peers::new(commands))
    }

    #[test]
    fn few_connections_are_spread_evenly_whoever_accepts_them() {
        let peers = peers(2);
        let places: Vec<Place> = (0..8).map(|_| peers.place(0)).collect();
        let mine = places.iter().filter(|place| place.worker() == 0).count();
        assert_eq!(mine, 4);
    }

    #[test]
    fn closed_connections_make_room() {
        let peers = peers(2);
        let first = peers.place(0);
        let second = peers.place(0);
        assert_eq!((first.worker(), second.worker()), (0, 1));
        drop(first);
        assert_eq!(peers.place(1).worker(), 0);
    }

    #[test]
    fn worker_that_takes_nothing_over_gets_no_more() {
        let peers = peers(2);
        peers.loads[1].waiting.store(WAITING_LIMIT, Relaxed);
        let places: Vec<Place> = (0..9).map(|_| peers.place(0)).collect();
        assert!(places.iter().all(|place| place.worker() == 0));
        places[0].peers.loads[1].waiting.fetch_sub(1, Relaxed);
        assert_eq!(peers.place(0).worker(), 1);
    }

    #[test]
    fn one_worker_keeps_everything() {
        let peers = peers(1);
        let places: Vec<Place> = (0..50).map(|_| peers.place(0)).collect();
        assert!(places.iter().all(|place| place.worker() == 0));
    }

    proptest! {
        #[test]
        fn nobody_gets_far_ahead(accepting in prop::collection::vec(0..4_usize, 1..400)) {
            let peers = peers(4);
            let mut counts = [0; 4];
            let places: Vec<Place> = accepting.iter().map(|own| peers.place(*own)).collect();
            for place in &places {
                counts[place.worker()] += 1;
            }
            let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
            prop_assert!(most - least <= 1 + most / 8, "{counts:?}");
        }
    }
}
