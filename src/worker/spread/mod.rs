//! Spreads connections over the workers.
//!
//! The kernel gives each new connection to a worker by a hash: fair over thousands, not over the few long-lived ones of
//! HTTP/2 clients or of a balancer in front. A worker that has clearly more than another hands a new one on.
//!
//! What all workers count says nothing of where atomics come from: `tests/counters.rs` puts those of a model checker there.

mod loads;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;

use self::loads::Loads;
use super::Command;
use super::accept::Admission;

mod atomic {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}

/// All workers of a process, as each of them sees the others.
#[derive(Debug)]
pub struct Peers {
    loads: Loads,
    commands: Box<[UnboundedSender<Command>]>,
}

impl Peers {
    /// Workers that take commands from `commands`.
    pub fn new(commands: Vec<UnboundedSender<Command>>) -> Self {
        Self {
            loads: Loads::new(commands.len()),
            commands: commands.into(),
        }
    }

    /// A place for a connection that worker `own` has accepted: at `own`, unless it has clearly more than another.
    pub fn place(self: &Arc<Self>, own: usize) -> Place {
        Place::new(self, self.loads.choose(own))
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
        self.loads.send(worker);
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

/// Counts a connection at a worker until it is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Arc<Peers>,
    worker: usize,
}

impl Place {
    fn new(peers: &Arc<Peers>, worker: usize) -> Self {
        peers.loads.begin(worker);
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
        self.peers.loads.arrive(self.worker);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peers.loads.end(self.worker);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc::unbounded_channel;

    use super::loads::WAITING_LIMIT;
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
        (0..WAITING_LIMIT).for_each(|_| peers.loads.send(1));
        let places: Vec<Place> = (0..9).map(|_| peers.place(0)).collect();
        assert!(places.iter().all(|place| place.worker() == 0));
        peers.loads.arrive(1);
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
