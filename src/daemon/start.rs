//! A process begins: opens its sockets, makes the first snapshot ready and starts the workers, alone or as the heir of another.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use http::HeaderValue;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::audit::Audit;
use super::auto_rollback::Trials;
use super::doors::Doors;
use super::farewell::Farewells;
use super::flip::Flips;
use super::listeners::open;
use super::notify::Notify;
use super::retire::Pending;
use super::{
    CLOSE_SPREAD, Daemon, Finished, Inherited, Read, StartError, log_writer, names, note_accepted,
    publish_gauges, socket, spans, upgrade, warn_of,
};
use crate::admin::Admin;
use crate::admin::authority::Guesses;
use crate::admin::before::Ids;
use crate::admin::events::{self, Events};
use crate::admin::history::{Accepted, By, History};
use crate::admin::leaving::Leaving;
use crate::admin::recent::Recent;
use crate::config::Config;
use crate::health::Checker;
use crate::metrics::Metrics;
use crate::net::listen;
use crate::snapshot::compile::{Compiled, Compiler, apply};
use crate::snapshot::plan::restart::Started;
use crate::snapshot::{Instance, Publisher};
use crate::worker::{Setup, Worker};

impl Daemon {
    pub(super) async fn start(
        read: Read<'_>,
        compiled: Compiled,
        (compiler, metrics): (Compiler, Arc<Metrics>),
        inherited: &mut Inherited,
    ) -> Result<Self, StartError> {
        let Read {
            path,
            config,
            tried,
            earlier,
            wishes,
        } = read;
        warn_of(&compiled.warnings);
        let Compiled {
            mut snapshot,
            files,
            ..
        } = compiled;
        let workers = config.process.workers.get();
        // First: what has its address is no listener's, whatever its name is.
        let admin_listener = inherited.of_admin(config.admin.address);
        let unopened = open(&snapshot, &[], workers, inherited)?;
        let addresses = unopened
            .iter()
            .map(|opened| (opened.slot, opened.address))
            .collect::<Vec<_>>();
        let admin_listener = match admin_listener {
            Some(listener) => Ok(listener),
            None => listen::bind(config.admin.address, 1).map(|mut bound| bound.remove(0)),
        };
        let admin_listener = admin_listener.map_err(|source| StartError::Listen {
            listener: "admin".into(),
            address: config.admin.address,
            source,
        })?;
        let system = |what| move |source| StartError::System { what, source };
        let admin_address = admin_listener
            .local_addr()
            .map_err(system("admin listener"))?;
        let log_writer = log_writer::start(&config.access_log, metrics.access_log_dropped.clone())
            .map_err(system("access log"))?;

        let audit = Audit::start(config.admin.audit.as_deref()).map_err(system("admin.audit"))?;
        let socket = socket::open(&config.admin.socket, inherited)?;
        inherited.close_rest();

        apply(&snapshot, &config);
        wishes.tell(&snapshot.upstreams);
        let mut history = History::default();
        let mut ids = Ids::new();
        let gone_back_from = earlier.is_some().then(|| tried.clone());
        let mut given_up = None;
        let mut flips = Flips::new();
        if let Some(heir) = &mut inherited.heir {
            ids = heir.brief(&mut snapshot);
            history = heir.history();
            flips.resume(heir.flips(), &snapshot);
            given_up = heir.given_up();
        }
        names::resolve(&snapshot).await;
        publish_gauges(&metrics, &snapshot);
        let mut farewells = Farewells::default();
        farewells.follow(&snapshot, Instant::now());
        history.push(Accepted {
            generation: snapshot.generation,
            origin: earlier
                .as_ref()
                .map_or(snapshot.generation, |earlier| earlier.origin),
            text: Arc::clone(&config.text.0),
            files: files.clone(),
            at: SystemTime::now(),
            by: earlier.as_ref().map_or(By::Start, |earlier| earlier.by),
        });
        let started = Started::with(&config);
        note_accepted(&metrics, &history);
        if earlier.is_some_and(|earlier| earlier.by == By::AutoRollback) {
            // The file is not what is in use.
            metrics.config_last_reload_successful.set(0);
        }
        metrics
            .build_info
            .only(&[env!("CARGO_PKG_VERSION"), env!("BALANCER_RUSTC")])
            .set(1);
        let publisher = Publisher::new(snapshot);
        let (asking, commands) = mpsc::unbounded_channel();
        let admin = Arc::new(Admin {
            publisher: publisher.clone(),
            metrics: Arc::clone(&metrics),
            started: SystemTime::now(),
            addresses: Mutex::new(addresses.clone()),
            unready: Mutex::new(Some("starting")),
            commands: asking,
            events: Events::since(SystemTime::now()),
            recent: Recent::since(SystemTime::now()),
            history: Mutex::new(history),
            last_reload: Mutex::new(None),
            leaving: Leaving::default(),
            guesses: Guesses::default(),
            hosts: config.admin.hosts.clone(),
            neighbours: Mutex::default(),
            left: tokio::sync::watch::Sender::new(false),
        });
        admin.set_ids(ids);
        let doors = Doors::new(admin_listener, socket);
        if inherited.heir.is_none() {
            doors.answer(&admin);
        }
        let watching = Arc::clone(&admin);
        tokio::spawn(async move { events::follow(&watching.events, &watching.publisher).await });
        let instance = Arc::new(instance(&config));
        let spans = spans::start(publisher.clone(), &metrics);
        let workers = Worker::spawn_all(workers, || Setup {
            publisher: publisher.clone(),
            instance: Arc::clone(&instance),
            metrics: Arc::clone(&metrics),
            log_writer: log_writer.outlet(),
            spans: spans.way(),
            seed: fastrand::u64(..),
        })
        .map_err(system("worker thread"))?;
        let checker = Checker::new(publisher.clone());
        let (sender, receiver) = mpsc::unbounded_channel();
        Ok(Self {
            path: path.to_owned(),
            binary: upgrade::own_binary(),
            manager: upgrade::Manager::of_this(),
            config,
            compiler: Some(compiler),
            metrics,
            publisher,
            instance,
            admin,
            admin_address,
            doors,
            commands,
            wishes,
            flips,
            farewells,
            seats: Vec::new(),
            audit,
            checker,
            log_writer,
            spans,
            workers,
            addresses,
            unopened,
            heir: inherited.heir.take(),
            predecessor: None,
            upgrade: None,
            started,
            files,
            refused_tls_files: None,
            tried,
            gone_back_from,
            trials: Trials::default(),
            given_up,
            finished: Finished { sender, receiver },
            pending: Pending::default(),
            notify: Arc::new(Notify::from_environment()),
        })
    }
}

fn instance(config: &Config) -> Instance {
    let id = fastrand::u32(..);
    let via =
        |version| HeaderValue::from_str(&format!("{version} balancer ({id:08x})")).expect("ASCII");
    Instance {
        via_http1: via("1.1"),
        via_http2: via("2.0"),
        open: AtomicUsize::new(0),
        max_connections: config
            .process
            .max_connections
            .map_or(usize::MAX, std::num::NonZero::get),
        descriptors_for: descriptors_for(config.process.workers.get()),
        close_spread: CLOSE_SPREAD.min(config.process.shutdown_grace / 2),
    }
}

/// For how many client connections the file descriptors suffice. Raises the limit as far as it may be raised.
fn descriptors_for(workers: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised the old one holds.
    let _ = setrlimit(Resource::Nofile, limit);
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return usize::MAX;
    };
    let used = std::fs::read_dir("/proc/self/fd").map_or(SPARE_DESCRIPTORS, Iterator::count);
    let left = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_sub(used + SPARE_DESCRIPTORS + workers * WORKER_DESCRIPTORS);
    (left / 2).max(1)
}

/// A worker's own: its runtime's, and its copies of sockets.
const WORKER_DESCRIPTORS: usize = 6;
/// For checks, the admin listener, and files that are opened now and then.
const SPARE_DESCRIPTORS: usize = 8;
