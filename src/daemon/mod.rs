//! The process: reads the configuration, opens listeners, starts workers, and then waits for signals.

mod adaptive;
mod audit;
mod auto_rollback;
mod certificates;
mod doors;
mod farewell;
mod flip;
mod in_time;
mod inherit;
pub mod log_writer;
pub mod names;
pub mod notify;
mod operate;
mod owners;
pub mod reload;
pub mod retire;
pub mod shutdown;
mod socket;
#[cfg_attr(not(feature = "otel"), path = "no_spans.rs")]
mod spans;
mod start;
mod tick;
mod upgrade;
mod watch;
pub(crate) mod wilson;
mod wishes;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval_at};
use tracing::{error, info, warn};

use self::audit::Audit;
use self::auto_rollback::{Counting, GivenUp, Trials};
use self::doors::Doors;
use self::farewell::Farewells;
use self::flip::Flips;
pub use self::inherit::Inherited;
use self::notify::Notify;
use self::reload::Cause;
use self::retire::{Due, Pending};
use self::upgrade::{Heir, RolledBackTo, Successor, Upgrade};
use self::watch::{Tried, Watch};
use self::wishes::Wishes;
use crate::admin::Admin;
use crate::admin::command::Asked;
use crate::admin::history::History;
use crate::admin::recent;
use crate::config::{self, Config, ConfigErrors, Problem};
use crate::health::{self, Checker};
use crate::metrics::Metrics;
use crate::net::listen;
use crate::net::pass::Channel;
use crate::snapshot::compile::Compiler;
use crate::snapshot::plan::restart::Started;
use crate::snapshot::{Instance, Publisher, Snapshot};
use crate::tls::{Contents, Tickets, seconds_since_1970};
use crate::units::Name;
use crate::worker::{Command, Worker};

/// Told once when everything is up: the listeners' real addresses and the admin's.
pub type OnReady = Box<dyn FnOnce(&[(Name, SocketAddr)], SocketAddr) + Send>;

/// sysexits(3): invalid configuration.
pub const EXIT_CONFIG: u8 = 78;
/// Over this long at most idle connections are closed on shutdown: clients that reconnect shall not come all at once.
const CLOSE_SPREAD: Duration = Duration::from_secs(5);
/// So often it is said which certificates end soon.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// So often it is looked whether other endpoints are authorities: for what follows of it, not for who serves.
const SEATS: Duration = Duration::from_secs(1);

/// Runs a balancer with `config`, which was read from `path`, until it is told to end.
pub fn run(
    path: &Path,
    mut config: Config,
    mut inherited: Inherited,
    on_ready: OnReady,
) -> ExitCode {
    let metrics = Arc::new(Metrics::new());
    let handed = inherited.heir.as_mut().and_then(Heir::tickets);
    let tickets = match handed {
        Some(secrets) => Ok(Tickets::with(secrets)),
        None => Tickets::new(),
    };
    let mut compiler = match tickets {
        Ok(tickets) => Compiler::new(Arc::clone(&metrics), tickets, fastrand::usize(..)),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "balancer: no random bytes for ticket keys: {error}"
            );
            return ExitCode::FAILURE;
        }
    };
    if let Some(heir) = &inherited.heir {
        heir.number_on();
    }
    let mut wishes = inherited
        .heir
        .as_ref()
        .map_or_else(Wishes::default, Heir::wishes);
    let tried = Tried::of(&config, path);
    let heir = inherited.heir.as_ref();
    let earlier = heir.and_then(|heir| heir.rolled_back_to(&config.text.0));
    if let Some(earlier) = &earlier {
        match config::parse(&earlier.text, path) {
            Ok(parsed) => config = parsed,
            Err(problems) => {
                let code = refuse(&problems);
                inherited.give_up(&problems.to_string());
                return code;
            }
        }
        warn!(
            "the rollback to generation {} goes on; a reload takes the file as it is now",
            earlier.origin
        );
    }
    wishes.lay_over(&mut config);
    let compiled = match compiler.compile(&config, None) {
        Ok(compiled) => compiled,
        Err(problems) => {
            let code = refuse(&problems);
            inherited.give_up(&problems.to_string());
            return code;
        }
    };
    count_panics(&metrics);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "balancer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        // Before anything is awaited: a signal that comes early shall not end the process unasked.
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                error!(%error, "signals cannot be received");
                return ExitCode::FAILURE;
            }
        };
        let read = Read {
            path,
            config,
            tried,
            earlier,
            wishes,
        };
        let starting = Daemon::start(read, compiled, (compiler, metrics), &mut inherited);
        let started = tokio::select! {
            started = starting => started,
            // Nothing is served yet.
            () = end(&mut signals.terminate, &mut signals.interrupt) => return ExitCode::SUCCESS,
        };
        match started {
            Ok(daemon) => daemon.serve(signals, on_ready).await,
            Err(error) => {
                error!("{error}");
                inherited.give_up(&error.to_string());
                ExitCode::FAILURE
            }
        }
    });
    // Nothing left on the control thread is worth waiting for.
    runtime.shutdown_background();
    code
}

fn refuse(problems: &ConfigErrors) -> ExitCode {
    let _ = writeln!(io::stderr(), "{problems}");
    EXIT_CONFIG.into()
}

/// What the process starts with.
struct Read<'a> {
    path: &'a Path,
    config: Config,
    /// What the files hold.
    tried: Tried,
    /// Where `config` is not what the file at `path` says.
    earlier: Option<RolledBackTo>,
    /// Those of operators, which are in `config` by now.
    wishes: Wishes,
}

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("listener `{listener}` cannot listen on {address}: {source}")]
    Listen {
        /// Whose address it is.
        listener: Name,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An address overlaps one that is open already.
    #[error(
        "listener `{listener}` cannot listen on {address}: its port is open on {open}; change the port, or restart"
    )]
    Overlap {
        /// Whose address it is.
        listener: Name,
        /// The address.
        address: SocketAddr,
        /// What is open.
        open: SocketAddr,
    },
    /// The unix socket could not be listened on.
    #[error("admin.socket cannot listen on {}: {source}", path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// What the system said, or what is there.
        source: io::Error,
    },
    /// Anything else the system refused.
    #[error("{what}: {source}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// What the process is told from outside.
struct Signals {
    hangup: Signal,
    /// SIGUSR1: the access log was renamed.
    reopen: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        // A file has grown as large as the system lets it: who writes is told, and that is enough. Whoever has asked for a
        // signal once, does not end of it any more.
        drop(signal(SignalKind::from_raw(
            rustix::process::Signal::XFSZ.as_raw(),
        ))?);
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Waits for either signal that ends the process.
async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A running process.
pub struct Daemon {
    path: PathBuf,
    /// The program, as it was named at the start: by now there may be a newer one.
    binary: Option<PathBuf>,
    /// Who has started this process.
    manager: upgrade::Manager,
    config: Config,
    compiler: Option<Compiler>,
    metrics: Arc<Metrics>,
    publisher: Publisher,
    instance: Arc<Instance>,
    admin: Arc<Admin>,
    admin_address: SocketAddr,
    /// Where operators come in.
    doors: Doors,
    /// What operators ask for.
    commands: mpsc::UnboundedReceiver<Asked>,
    /// What they want of endpoints.
    wishes: Wishes,
    /// Sets of endpoints that operators have begun to let serve.
    flips: Flips,
    /// Endpoints whose tunnels are to end.
    farewells: Farewells,
    /// Who was the authority of which upstream when it was looked last.
    seats: upgrade::Seats,
    audit: Audit,
    checker: Checker,
    log_writer: log_writer::Handle,
    spans: spans::Handle,
    workers: Vec<Worker>,
    /// Real addresses of the sockets, by slot.
    addresses: Vec<(u32, SocketAddr)>,
    /// Sockets that are not yet given to the workers.
    unopened: Vec<Opened>,
    /// This process takes over from another, or is about to hand over to one.
    heir: Option<Heir>,
    /// Where the process before this one is told things.
    predecessor: Option<Channel>,
    upgrade: Option<Upgrade>,
    /// What the process was started with, of all that no reload changes.
    started: Started,
    /// What the files that the configuration names held when they were read for use.
    files: Contents,
    /// What those of TLS held when that was found unusable, and said so.
    refused_tls_files: Option<Contents>,
    /// What was read last for a reload.
    tried: Tried,
    /// The same when an earlier file was gone back to: this one is not read again unasked until its own text is another.
    gone_back_from: Option<Tried>,
    /// Whether the last reload has made things worse.
    trials: Trials,
    /// The file that has, and is not taken again.
    given_up: Option<GivenUp>,
    /// What earlier reloads have removed and is finished by now.
    finished: Finished,
    /// What they have removed and is not.
    pending: Pending,
    notify: Arc<Notify>,
}

/// What is finished comes here from the tasks that wait for it: while a reload runs nobody takes it, so that no series are
/// removed which the reload brings back.
struct Finished {
    sender: mpsc::UnboundedSender<Due>,
    receiver: mpsc::UnboundedReceiver<Due>,
}

/// What is looked at from time to time.
struct Looks {
    files: certificates::Files,
    watch: Watch,
    counting: Counting,
    /// When it is said which certificates end soon.
    day: Interval,
    /// When it is looked whether other endpoints are authorities.
    seats: Interval,
}

impl Looks {
    fn new() -> Self {
        Self {
            files: certificates::Files::new(),
            watch: Watch::new(),
            counting: Counting::new(),
            day: interval_at(Instant::now() + DAY, DAY),
            seats: interval_at(Instant::now() + SEATS, SEATS),
        }
    }
}

/// The sockets of one listener, for each worker.
struct Opened {
    name: Name,
    slot: u32,
    address: SocketAddr,
    sockets: Vec<Vec<TcpListener>>,
}

impl Daemon {
    async fn serve(mut self, mut signals: Signals, on_ready: OnReady) -> ExitCode {
        self.checker.follow(&self.publisher.current());
        tokio::spawn(names::keep_resolved(self.publisher.clone()));
        tokio::spawn(adaptive::keep_adapting(self.publisher.clone()));
        tokio::spawn(tick::keep_ticking(self.publisher.clone()));
        tokio::spawn(health::ejector::watch(self.publisher.clone()));
        tokio::spawn(recent::keep_taking(Arc::clone(&self.admin)));
        let asked_to_end = tokio::select! {
            () = wait_for_checks(&self.publisher, self.config.process.startup_wait) => false,
            () = end(&mut signals.terminate, &mut signals.interrupt) => true,
        };
        if asked_to_end {
            return ExitCode::SUCCESS;
        }
        let heir = match self.heir.take() {
            Some(heir) => match self.take_place(heir, &mut signals).await {
                Ok(heir) => Some(heir),
                Err(code) => return code,
            },
            None => None,
        };
        self.count_from_now();
        self.hand_out();
        self.admin.set_unready(None);
        let generation = self.publisher.current().generation;
        info!(generation, workers = self.workers.len(), "ready");
        on_ready(&self.named_addresses(), self.admin_address);
        match heir {
            Some(heir) => self.follow(heir),
            None => self.notify.ready(&self.summary()),
        }
        if let Some(every) = self.notify.watchdog() {
            let workers = self.workers.iter().map(Worker::commands).collect();
            tokio::spawn(notify::keep_alive(Arc::clone(&self.notify), every, workers));
        }
        if let Some(every) = self.config.process.config_poll {
            info!(path = %self.path.display(), ?every, "configuration file is watched");
        }
        let mut looks = Looks::new();
        loop {
            let Signals {
                hangup,
                reopen,
                terminate,
                interrupt,
            } = &mut signals;
            tokio::select! {
                successor = self.turn((hangup, reopen), &mut looks) => {
                    if let Some(successor) = successor {
                        return self.shut_down(&mut signals, Some(successor)).await;
                    }
                }
                // Whatever is under way: a reload that waits for a disk or a name is given up, and nothing has changed.
                () = end(terminate, interrupt) => break,
            }
        }
        self.shut_down(&mut signals, None).await
    }

    /// Waits for what comes next, and does it: the process that serves now, where one has taken over. May be dropped at any point by who shuts down afterwards.
    async fn turn(
        &mut self,
        (hangup, reopen): (&mut Signal, &mut Signal),
        Looks {
            files,
            watch,
            counting,
            day,
            seats,
        }: &mut Looks,
    ) -> Option<Successor> {
        tokio::select! {
            _ = reopen.recv() => self.log_writer.reopen(&self.config.access_log).await,
            // What would change waits while another process is about to go on from here.
            _ = hangup.recv(), if self.upgrade.is_none() => {
                // What came of it is logged.
                let _ = self.reload(Cause::Signal).await;
            }
            Some(asked) = self.commands.recv() => self.obey(asked).await,
            () = self.farewells.wait(self.config.process.drain_tunnel_timeout) => self.end_farewells(),
            () = self.flips.due(), if self.upgrade.is_none() => self.tend_flips().await,
            found = files.look(&self.config), if self.upgrade.is_none() => self.follow_certificates(found).await,
            found = watch.change(self.config.process.config_poll, &self.tried), if self.upgrade.is_none() => self.follow_files(found).await,
            tally = counting.next(&self.config, &self.trials, &self.metrics), if self.upgrade.is_none() => self.judge(tally).await,
            Some(due) = self.finished.receiver.recv() => self.retire(due).await,
            outcome = Upgrade::outcome(&mut self.upgrade) => {
                let successor = self.end_upgrade(outcome).await?;
                successor.pass_on(hangup).await;
                return Some(successor);
            }
            _ = day.tick() => self.warn_of_endings(),
            _ = seats.tick(), if self.has_authorities() => self.follow_seats(),
        }
        None
    }

    /// Takes series away for which the time has come.
    async fn retire(&mut self, due: Due) {
        let with = (Arc::clone(&self.metrics), self.publisher.current());
        let pending = match &due {
            Due::Gauges(_) => Vec::new(),
            Due::Series(gone) => self.pending.remove(gone),
        };
        let retire = move || match due {
            Due::Gauges(gone) => gone.retire_gauges_again(&with.0, &with.1),
            Due::Series(gone) => gone.retire(&with.0, &with.1, &pending),
        };
        // Not here: of thousands it takes a while, and checks would wait for it.
        let _ = tokio::task::spawn_blocking(retire).await;
    }

    /// Gives new sockets to the workers: they accept from now on.
    fn hand_out(&mut self) {
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

    /// What is served, in one line.
    fn summary(&self) -> String {
        let snapshot = self.publisher.current();
        let endpoints = snapshot.upstreams.iter().map(|it| it.endpoints.len());
        format!(
            "serving; listeners: {}, routes: {}, endpoints: {}",
            snapshot.listeners.len(),
            self.config.routes.len(),
            endpoints.sum::<usize>()
        )
    }

    fn named_addresses(&self) -> Vec<(Name, SocketAddr)> {
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

/// Binds what `snapshot` listens on and is neither open yet nor `inherited`.
fn open(
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

/// Waits until every endpoint has been checked once, for `limit` at most.
async fn wait_for_checks(publisher: &Publisher, limit: Duration) {
    let settled = async {
        while !health::is_settled(&publisher.current()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(limit, settled).await.is_err() {
        warn!(waited = ?limit, "some endpoints are not checked yet");
    }
}

fn publish_gauges(metrics: &Metrics, snapshot: &Snapshot) {
    metrics
        .config_generation
        .set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
    for listener in &snapshot.listeners {
        for certificate in &listener.certificates {
            metrics
                .tls_certificate_not_after
                .with_label_values(&[&*listener.name, &certificate.label])
                .set(certificate.not_after);
        }
    }
}

/// A configuration was accepted, just now: the last of `history`.
fn note_accepted(metrics: &Metrics, history: &History) {
    if let Some(current) = history.current() {
        metrics.config_hash.only(&[current.hash()]).set(1);
    }
    metrics.config_last_reload_successful.set(1);
    metrics
        .config_last_reload_success_timestamp
        .set(seconds_since_1970());
}

fn warn_of(warnings: &[Problem]) {
    for warning in warnings {
        warn!(place = %warning.place, "{}", warning.message);
    }
}

/// Panics are logged and counted where they happen, whoever survives them.
fn count_panics(metrics: &Arc<Metrics>) {
    let panics = metrics.panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        panics.with_label_values(&[thread]).inc();
        error!(thread, %panic, backtrace = %std::backtrace::Backtrace::capture(), "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_counted_by_thread() {
        let before = std::panic::take_hook();
        let metrics = Arc::new(Metrics::new());
        count_panics(&metrics);
        let thread = std::thread::Builder::new().name("worker-7".to_owned());
        let result = thread
            .spawn(|| panic!("of the test's own making"))
            .unwrap()
            .join();
        std::panic::set_hook(before);
        assert!(result.is_err());
        assert_eq!(metrics.panics.with_label_values(&["worker-7"]).get(), 1);
    }
}
