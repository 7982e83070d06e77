//! One serving thread: a runtime of its own, its listeners' sockets, its connections. Waits for nothing that another does.

pub mod accept;
mod proxied;
pub mod spread;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::metrics::Metrics;
use crate::proxy::access_log::{AccessLog, Outlet};
use crate::proxy::drain::Drain;
use crate::proxy::local::Local;
use crate::proxy::trace::outbox::{self, Outbox};
use crate::snapshot::{Instance, Publisher, Snapshot};
use crate::upstream::EndpointId;
use accept::{Admission, Door};
use spread::Peers;

/// How often lines are handed to the access log and spans to their sender, and idle connections looked through.
const TICK: Duration = Duration::from_millis(200);
/// More than any page of the allocator holds several of.
const LARGE_ALLOCATION: usize = 8 << 20;
/// Between a worker's panic and its restart: a panic that comes back at once shall not eat the processor.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What a worker is told, by the control thread or by another worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on this socket, which belongs to the listener in `slot`.
    Listen {
        /// The listener's.
        slot: u32,
        /// Bound and listening.
        socket: TcpListener,
    },
    /// Serve this connection, which another worker has accepted.
    Serve {
        /// Of the listener it came by.
        slot: u32,
        /// The connection.
        stream: TcpStream,
        /// Who connected.
        address: SocketAddr,
        /// Counts it, here already.
        admission: Admission,
    },
    /// Give copies of the sockets, by slot: another process is to accept on them.
    Lend(oneshot::Sender<io::Result<Vec<(u32, TcpListener)>>>),
    /// A snapshot was published: let go of the one before, and of listeners that are gone.
    Follow,
    /// Show that this thread still turns.
    Answer(oneshot::Sender<()>),
    /// End the tunnels to this endpoint.
    CutTunnels(EndpointId),
    /// Take nothing new, finish what runs, then end.
    Drain,
    /// End now.
    Stop,
}

/// What a worker is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where snapshots come from.
    pub publisher: Publisher,
    /// What the process is.
    pub instance: Arc<Instance>,
    /// For what is counted rarely.
    pub metrics: Arc<Metrics>,
    /// Where access log lines go.
    pub log_writer: Outlet,
    /// Where spans go.
    pub spans: Sender<outbox::Block>,
    /// Different for each worker and start.
    pub seed: u64,
}

/// A worker among the others.
#[derive(Clone, Debug)]
pub struct Team {
    /// All of them.
    pub peers: Arc<Peers>,
    /// Which this one is.
    pub index: usize,
}

/// A serving thread, as the control thread sees it.
#[derive(Debug)]
pub struct Worker {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts `count` threads; `setup` makes what each is made from.
    pub fn spawn_all(count: usize, setup: impl Fn() -> Setup) -> io::Result<Vec<Self>> {
        let (commands, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| unbounded_channel()).unzip();
        let peers = Arc::new(Peers::new(commands.clone()));
        let spawn = |(index, (commands, receiver))| {
            let (setup, team) = (
                setup(),
                Team {
                    peers: Arc::clone(&peers),
                    index,
                },
            );
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || supervise(setup, team, receiver))?;
            Ok(Self { commands, thread })
        };
        commands
            .into_iter()
            .zip(receivers)
            .enumerate()
            .map(spawn)
            .collect()
    }

    /// Tells it something. A worker that has ended hears nothing any more.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Where it is told things.
    pub fn commands(&self) -> UnboundedSender<Command> {
        self.commands.clone()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

fn supervise(setup: Setup, team: Team, mut commands: UnboundedReceiver<Command>) {
    let mut sockets = HashMap::new();
    survive(|| run(&setup, &team, &mut commands, &mut sockets));
}

/// Runs a worker; after a panic of its own (those of connections end only the connection) runs it again, on the same
/// sockets. The panic itself was logged and counted where it happened.
fn survive(mut run: impl FnMut() -> io::Result<()>) {
    loop {
        match catch_unwind(AssertUnwindSafe(&mut run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error!(%error, "worker cannot run"),
            Err(_) => error!("worker panicked and is started again; its connections are lost"),
        }
        std::thread::sleep(RESTART_PAUSE);
    }
}

/// Sockets by slot. The worker's own copies, so that they outlive a panic.
type Sockets = HashMap<u32, Vec<TcpListener>>;

fn run(
    setup: &Setup,
    team: &Team,
    commands: &mut UnboundedReceiver<Command>,
    sockets: &mut Sockets,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let access_log = AccessLog::new(setup.log_writer.clone());
        let dropped = setup.metrics.spans_dropped.with_label_values(&["queue"]);
        let spans = Outbox::new(setup.spans.clone(), dropped);
        let local = Local::new(
            setup.publisher.reader(),
            (access_log, spans),
            Arc::clone(&setup.instance),
            Arc::clone(&setup.metrics),
            setup.seed,
        );
        let mut serving = Serving {
            local: Rc::new(local),
            team: team.clone(),
            connections: Rc::default(),
            listening: HashMap::new(),
            accepting: Vec::new(),
            draining: false,
        };
        let all = sockets.iter();
        for (slot, socket) in
            all.flat_map(|(slot, of_slot)| of_slot.iter().map(move |it| (slot, it)))
        {
            serving.listen(*slot, socket.try_clone()?)?;
        }
        serving.serve(commands, sockets).await;
        // What is cut is logged, too.
        serving.connections.take().shutdown().await;
        serving.local.access_log.flush();
        serving.local.spans.flush();
        Ok(())
    })
}

/// A worker at work.
struct Serving {
    local: Rc<Local>,
    team: Team,
    connections: Rc<RefCell<JoinSet<()>>>,
    listening: HashMap<u32, Rc<Drain>>,
    /// What accepts.
    accepting: Vec<tokio::task::JoinHandle<()>>,
    draining: bool,
}

impl Serving {
    async fn serve(&mut self, commands: &mut UnboundedReceiver<Command>, sockets: &mut Sockets) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        let mut closed = false;
        loop {
            tokio::select! {
                command = commands.recv(), if !closed => match command {
                    Some(Command::Listen { slot, socket }) => {
                        let copy = socket.try_clone().and_then(|copy| self.listen(slot, copy));
                        if let Err(error) = copy {
                            error!(%error, "socket cannot be listened on");
                        }
                        sockets.entry(slot).or_default().push(socket);
                    }
                    Some(Command::Serve { slot, stream, address, admission }) => {
                        self.take_over(slot, stream, address, admission);
                    }
                    Some(Command::Lend(reply)) => {
                        let all = sockets.iter().flat_map(|(slot, of_slot)| of_slot.iter().map(|it| (*slot, it)));
                        let copies = all.map(|(slot, socket)| Ok((slot, socket.try_clone()?)));
                        // Who asked may have given up.
                        let _ = reply.send(copies.collect());
                    }
                    Some(Command::Follow) => self.follow(sockets),
                    Some(Command::Answer(answer)) => {
                        // Who asked may have ended meanwhile.
                        let _ = answer.send(());
                    }
                    Some(Command::CutTunnels(endpoint)) => self.local.tunnels.cut(endpoint),
                    Some(Command::Drain) => self.drain(sockets).await,
                    Some(Command::Stop) => return,
                    None => {
                        closed = true;
                        self.draining = true;
                    }
                },
                _ = tick.tick() => {
                    self.local.access_log.flush();
                    self.local.spans.flush();
                    if swept.elapsed() > Duration::from_secs(1) {
                        swept = Instant::now();
                        self.sweep(swept);
                        give_memory_back();
                    }
                }
            }
            reap(&self.connections);
            if self.draining && self.connections.borrow().is_empty() {
                // What another worker has handed over just now is served all the same.
                commands.close();
                if closed || commands.is_empty() {
                    return;
                }
            }
        }
    }

    fn listen(&mut self, slot: u32, socket: TcpListener) -> io::Result<()> {
        let door = self.door(slot);
        self.accepting.retain(|accepting| !accepting.is_finished());
        self.accepting.push(accept::start(socket, door)?);
        Ok(())
    }

    /// Serves a connection that another worker has accepted, maybe before this one listens itself.
    fn take_over(
        &mut self,
        slot: u32,
        stream: TcpStream,
        address: SocketAddr,
        admission: Admission,
    ) {
        admission.place.taken_over();
        let is_known = self.listening.contains_key(&slot)
            || self.local.snapshot().listener_index(slot).is_some();
        if !is_known {
            // Its listener was removed while it was on its way.
            return;
        }
        let door = self.door(slot);
        if self.draining {
            door.drain.begin();
        }
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => door.serve(stream, address, admission),
            Err(error) => error!(%error, "connection cannot be taken over"),
        }
    }

    fn door(&mut self, slot: u32) -> Door {
        let drain = self
            .listening
            .entry(slot)
            .or_insert_with(|| Rc::new(Drain::new(slot, self.local.snapshot())));
        Door {
            slot,
            local: Rc::clone(&self.local),
            team: self.team.clone(),
            connections: Rc::clone(&self.connections),
            drain: Rc::clone(drain),
        }
    }

    fn follow(&mut self, sockets: &mut Sockets) {
        let snapshot = self.local.snapshot();
        sockets.retain(|slot, _| snapshot.listener_index(*slot).is_some());
        self.listening.retain(|slot, drain| {
            let stays = snapshot.listener_index(*slot).is_some();
            if stays {
                drain.follow(Rc::clone(&snapshot));
            } else {
                drain.begin();
            }
            stays
        });
        self.sweep(Instant::now());
    }

    /// Returns when nothing more is accepted: what had queued up is, and is not to be lost when this worker ends.
    async fn drain(&mut self, sockets: &mut Sockets) {
        self.draining = true;
        sockets.clear();
        for drain in self.listening.values() {
            drain.begin();
        }
        for accepting in self.accepting.drain(..) {
            // A panic was logged where it happened.
            let _ = accepting.await;
        }
    }

    /// Closes idle connections that are too old, or whose endpoint is gone or takes nothing new.
    fn sweep(&self, now: Instant) {
        let snapshot = self.local.snapshot();
        self.local
            .pool
            .sweep(now, |endpoint| pool_idle(&snapshot, endpoint));
    }
}

fn pool_idle(snapshot: &Snapshot, endpoint: &crate::upstream::Endpoint) -> Option<Duration> {
    let upstream = snapshot
        .upstreams
        .iter()
        .find(|upstream| upstream.name == *endpoint.upstream())?;
    let stays = upstream
        .endpoints
        .iter()
        .any(|other| other.id() == endpoint.id());
    (stays && !endpoint.state().is_leaving()).then_some(upstream.timeouts.pool_idle)
}

/// Lets the allocator return pages that have been free for a while. It looks for them only when it is used for something
/// large, and after a burst of connections nothing may come for hours.
fn give_memory_back() {
    let mut block = Vec::<u8>::new();
    // Where there is nothing to be had, it is not this that needs it.
    let _ = block.try_reserve_exact(LARGE_ALLOCATION);
    drop(std::hint::black_box(block));
}

/// Forgets connections that have ended. Their panics, if any, were logged and counted where they happened.
fn reap(connections: &RefCell<JoinSet<()>>) {
    let mut connections = connections.borrow_mut();
    while connections.try_join_next().is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_that_panics_is_started_again() {
        let mut runs = 0;
        survive(|| {
            runs += 1;
            assert!(runs > 2, "a panic of the test's own making");
            Ok(())
        });
        assert_eq!(runs, 3);
    }

    #[test]
    fn connection_that_panics_ends_alone() {
        let runtime = Builder::new_current_thread()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let connections = RefCell::new(JoinSet::new());
            let (sender, receiver) = oneshot::channel();
            connections
                .borrow_mut()
                .spawn_local(async { panic!("of the test's own making") });
            connections.borrow_mut().spawn_local(async {
                let _ = sender.send("served");
            });
            assert_eq!(receiver.await, Ok("served"));
            tokio::task::yield_now().await;
            reap(&connections);
            assert!(connections.borrow().is_empty());
        });
    }
}
