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
mod listeners;
pub mod log_writer;
pub mod names;
pub mod notify;
mod operate;
mod owners;
mod panics;
pub mod reload;
pub mod retire;
mod serve;
pub mod shutdown;
mod signals;
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
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, warn};

use self::audit::Audit;
use self::auto_rollback::{GivenUp, Trials};
use self::doors::Doors;
use self::farewell::Farewells;
use self::flip::Flips;
pub use self::inherit::Inherited;
use self::listeners::Opened;
use self::notify::Notify;
use self::panics::count_panics;
use self::retire::{Due, Pending};
use self::signals::{Signals, end};
use self::upgrade::{Heir, RolledBackTo, Upgrade};
use self::watch::Tried;
use self::wishes::Wishes;
use crate::admin::Admin;
use crate::admin::command::Asked;
use crate::admin::history::History;
use crate::config::{self, Config, ConfigErrors, Problem};
use crate::health::Checker;
use crate::metrics::Metrics;
use crate::net::pass::Channel;
use crate::snapshot::compile::Compiler;
use crate::snapshot::plan::restart::Started;
use crate::snapshot::{Instance, OwnSecret, Publisher, Snapshot};
use crate::tls::{Contents, Tickets, seconds_since_1970};
use crate::units::Name;
use crate::worker::Worker;

/// Told once when everything is up: the listeners' real addresses and the admin's.
pub type OnReady = Box<dyn FnOnce(&[(Name, SocketAddr)], SocketAddr) + Send>;

/// sysexits(3): invalid configuration.
pub const EXIT_CONFIG: u8 = 78;
/// Over this long at most idle connections are closed on shutdown: clients that reconnect shall not come all at once.
const CLOSE_SPREAD: Duration = Duration::from_secs(5);

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
    if let Some(heir) = &mut inherited.heir {
        heir.number_on();
        compiler.own_secret = OwnSecret::with(heir.own_secret());
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
