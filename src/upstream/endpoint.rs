//! One address of an upstream: who it is, how loaded it is, whether it may be picked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::net::TcpStream;
use tracing::{info, warn};

use super::counters::{Ghosts, Latency};
use super::keep_alive::KeepAlive;
use super::load::{Ease, STEPS};
use super::state::{Health, State, Tier};
use crate::balance::{Candidate, stable_hash};
use crate::config::{Address, Mode};
use crate::message::proxy_protocol;
use crate::metrics::EndpointMetrics;
use crate::net::transport::Transport;
use crate::tls::{self, Note, TlsError};
use crate::units::{Name, Weight};

/// An endpoint's identity within this process; never used twice. Pooled connections are kept by it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EndpointId(u64);

/// Where and how an endpoint is reached. Another one is another endpoint, even under the same name: it shares no
/// connection, no health and no load with the one before.
#[derive(Debug, PartialEq)]
pub struct Contact {
    /// Its address as configured.
    pub address: Address,
    /// Whether it is spoken to in HTTP/2.
    pub http2: bool,
    /// The PROXY protocol header that it expects first on every connection.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// How to speak TLS with it; `None`: plain.
    pub tls: Option<tls::Client>,
}

/// One address of an upstream. The same object through all snapshots in which it stays who it is.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) load: Load,
    id: EndpointId,
    upstream: Name,
    name: Name,
    contact: Contact,
    /// Where its address leads now. Read when a connection is opened, not per request.
    resolved: Mutex<Option<SocketAddr>>,
    /// Counts changes of `resolved`. Written by the control thread, read when connections are taken from and given back to
    /// a pool. Relaxed: one that slips through is one of a moment earlier.
    moves: AtomicU32,
    state: Mutex<State>,
    /// Its share as configured. Written by the control thread, read by it and for the status.
    weight: AtomicU32,
    slow_start: Mutex<(Ease, f64)>,
    identity: u64,
    made: Instant,
    /// How long it keeps idle connections.
    pub keep_alive: KeepAlive,
    /// Its counters.
    pub metrics: EndpointMetrics,
}

/// What every pick reads: on cache lines of its own, so that endpoints do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Load {
    /// Requests assigned and not finished. Written by leases on all workers, read by policies. Relaxed: a pick that
    /// misses the very latest change is a pick a moment earlier.
    in_flight: AtomicU32,
    /// Its weight, in as many steps as slow start has come. Written by the control thread, read by policies. Relaxed,
    /// likewise.
    pub(super) share: AtomicU32,
    /// What is held against a newcomer, in requests. Written by the control thread, read by policies. Relaxed, likewise.
    pub(super) handicap: AtomicU32,
    /// Requests that failed a moment ago.
    pub(super) ghosts: Ghosts,
    /// How long it takes to answer.
    pub(super) latency: Latency,
    /// Whether it is for when others are out. Written by the control thread, read by picks. Relaxed, likewise.
    is_backup: AtomicBool,
    /// [`Tier`] of the state. Written by the control thread with every change, read by policies. Relaxed, likewise.
    tier: AtomicU8,
}

impl Endpoint {
    /// An endpoint nobody knows anything of yet; `health` is unknown where it will be checked.
    pub fn new(
        upstream: Name,
        name: Name,
        (contact, health): (Contact, Health),
        metrics: EndpointMetrics,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let resolved = match contact.address {
            Address::Socket(address) => Some(address),
            Address::Name(..) => None,
        };
        let state = State {
            health,
            mode: Mode::Active,
            resolved: resolved.is_some(),
            reason: resolved
                .is_none()
                .then(|| "name not resolved yet".to_owned()),
            since: SystemTime::now(),
        };
        Self {
            load: Load {
                in_flight: AtomicU32::new(0),
                share: AtomicU32::new(STEPS),
                handicap: AtomicU32::new(0),
                ghosts: Ghosts::new(),
                latency: Latency::new(),
                is_backup: AtomicBool::new(false),
                tier: AtomicU8::new(state.tier() as u8),
            },
            id: EndpointId(NEXT.fetch_add(1, Relaxed)),
            identity: stable_hash(name.as_bytes()),
            upstream,
            name,
            contact,
            resolved: Mutex::new(resolved),
            moves: AtomicU32::new(0),
            state: Mutex::new(state),
            weight: AtomicU32::new(1),
            slow_start: Mutex::new((Ease::Fresh, 1.0)),
            made: Instant::now(),
            keep_alive: KeepAlive::default(),
            metrics,
        }
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// Its upstream's name.
    pub fn upstream(&self) -> &Name {
        &self.upstream
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its address as configured.
    pub fn address(&self) -> &Address {
        &self.contact.address
    }

    /// Where and how it is reached.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Runs a TLS handshake on `stream`, a connection to it just opened, where TLS is spoken with it; the caller limits the
    /// time. What is wrong is logged, though not for every connection.
    pub async fn secure(&self, stream: TcpStream) -> Result<Transport, TlsError> {
        let Some(tls) = &self.contact.tls else {
            return Ok(Transport::Plain(stream));
        };
        let secured = tls.handshake(stream).await;
        let (upstream, endpoint) = (&self.upstream, &self.name);
        match tls.note(secured.as_ref().err()) {
            Some(Note::Wrong(reason)) => {
                warn!(%upstream, %endpoint, reason, "endpoint cannot be reached over TLS");
            }
            Some(Note::Well) => info!(%upstream, %endpoint, "endpoint reached over TLS again"),
            None => {}
        }
        secured.map(|stream| Transport::Tls(Box::new(stream)))
    }

    /// The PROXY protocol header that it expects first on every connection, if any. Such a connection is one client's: it
    /// serves one request and is not kept.
    pub fn proxy_protocol(&self) -> Option<proxy_protocol::Version> {
        self.contact.proxy_protocol
    }

    /// Where to connect; `None` while its name is not resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        *lock(&self.resolved)
    }

    /// How often its address has changed: a connection opened before the last change leads elsewhere.
    pub fn moves(&self) -> u32 {
        self.moves.load(Relaxed)
    }

    /// Requests assigned and not finished.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Relaxed)
    }

    /// Whether it may be picked.
    pub fn tier(&self) -> Tier {
        Tier::from_u8(self.load.tier.load(Relaxed))
    }

    /// All that is known of it.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Its share as configured.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Changes its share in place; policies see it after the upstream's refresh.
    pub fn set_weight(&self, weight: Weight) {
        self.weight.store(u32::from(weight.get()), Relaxed);
    }

    /// Whether it is for when others are out.
    pub fn is_backup(&self) -> bool {
        self.load.is_backup.load(Relaxed)
    }

    /// Says whether it is for when others are out.
    pub fn set_backup(&self, is_backup: bool) {
        self.load.is_backup.store(is_backup, Relaxed);
    }

    /// It was added beside others that are in use: it eases in.
    pub fn set_newcomer(&self) {
        self.set_ease(Ease::Owed);
    }

    /// How far its slow start has come, from 0 to 1.
    pub fn progress(&self) -> f64 {
        lock(&self.slow_start).1
    }

    pub(super) fn set_progress(&self, progress: f64) {
        lock(&self.slow_start).1 = progress;
    }

    pub(super) fn ease(&self) -> Ease {
        lock(&self.slow_start).0
    }

    pub(super) fn set_ease(&self, ease: Ease) {
        lock(&self.slow_start).0 = ease;
    }

    /// `now` as milliseconds since it was made, all round the clock of 2³².
    pub(super) fn clock(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.made).as_millis() as u32
    }

    /// Says what probes found and why. Returns whether it changed.
    pub fn set_health(&self, health: Health, reason: Option<String>) -> bool {
        self.change(|state| {
            let changed = state.health != health;
            state.health = health;
            state.reason = reason;
            changed
        })
    }

    /// Says what the operator wants. Returns whether it changed.
    pub fn set_mode(&self, mode: Mode) -> bool {
        self.change(|state| std::mem::replace(&mut state.mode, mode) != mode)
    }

    /// Says where its name leads, or why nowhere. Returns whether it changed. An address that was known is kept when
    /// resolving fails later: the last known good one beats none.
    pub fn set_resolved(&self, found: Result<SocketAddr, String>) -> bool {
        match found {
            Ok(address) => {
                let before = lock(&self.resolved).replace(address);
                if before != Some(address) {
                    self.moves.fetch_add(1, Relaxed);
                }
                self.change(|state| {
                    if !state.resolved {
                        state.reason = None;
                    }
                    state.resolved = true;
                    before != Some(address)
                })
            }
            Err(why) => self.change(|state| {
                if !state.resolved {
                    state.reason = Some(why);
                }
                false
            }),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        let mut state = lock(&self.state);
        let changed = change(&mut state);
        if changed {
            state.since = SystemTime::now();
        }
        self.load.tier.store(state.tier() as u8, Relaxed);
        changed
    }

    pub(super) fn begin(&self) {
        self.load.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.load.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Candidate for Endpoint {
    fn weight(&self) -> u32 {
        self.load.share.load(Relaxed)
    }

    fn in_flight(&self) -> u32 {
        self.in_flight()
    }

    fn ballast(&self) -> u32 {
        let handicap = self.load.handicap.load(Relaxed);
        handicap.saturating_add(self.load.ghosts.count())
    }

    fn latency(&self) -> f32 {
        self.load.latency.micros()
    }

    fn identity(&self) -> u64 {
        self.identity
    }
}

/// What a panic elsewhere left is still whole: every change is one assignment after another of plain values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
