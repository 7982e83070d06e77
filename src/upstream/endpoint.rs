//! One address of an upstream: who it is, how loaded it is, whether it may be picked.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use tokio::net::TcpStream;
use tracing::{info, warn};

use super::adaptive::Adapting;
use super::budget::Claimed;
use super::churn::Churn;
use super::counters::{Ghosts, Latency};
use super::journal::{Fact, Journal};
use super::keep_alive::KeepAlive;
use super::load::{Ease, STEPS};
use super::outlier::{Alarm, Outlier};
use super::pace::Pace;
use super::peaks::Peaks;
use super::queue::Queue;
use super::role::Part;
use super::sets::SetId;
use super::state::{Health, State, Tier};
use super::version::{Runs, Shown};
use crate::balance::{Candidate, stable_hash};
use crate::config::{Adaptive, Address, Mode};
use crate::lock::lock;
use crate::message::proxy_protocol;
use crate::metrics::EndpointMetrics;
use crate::net::transport::Transport;
use crate::tls::{self, Note, TlsError};
use crate::units::{Name, Weight};

/// An endpoint's identity within this process; never used twice. Pooled connections are kept by it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EndpointId(u64);

/// The number of the next one.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl EndpointId {
    /// Makes those that are made from now on greater than `last`: another process has given the others.
    pub fn begin_after(last: u64) {
        NEXT.fetch_max(last.saturating_add(1), Relaxed);
    }

    /// The greatest that was given.
    pub fn last() -> u64 {
        NEXT.load(Relaxed).saturating_sub(1)
    }

    /// As a number, from 1.
    pub fn get(self) -> u64 {
        self.0
    }
}

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
    /// What clients' requests tell of it.
    outlier: Outlier,
    journal: Journal,
    /// Requests that failed here and were sent again. Written by workers, rarely, read for the status. Relaxed: a number to look at.
    retried: AtomicU64,
    /// Which version of its code it runs.
    pub(super) shown: Shown,
    /// Wakes its check: another endpoint says something else of its role than before.
    pub(super) summons: Alarm,
    /// How its limit is found out, where it is.
    adapting: Adapting,
    /// What its upstream's budget for retries has seen of its answers.
    claimed: Claimed,
    /// Where requests of its upstream wait.
    queue: Arc<Queue>,
    /// Whether its tunnels have had their time. Written by the control thread, read when a tunnel begins. Relaxed: workers
    /// are told as well, and who has not heard of it yet is told after it has counted its tunnel.
    ends_tunnels: AtomicBool,
    /// Most requests that it has carried at once.
    pub(super) peaks: Peaks,
    /// Which those are.
    pub(super) pace: Pace,
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
    /// Most requests at once; [`NO_LIMIT`] where any number is fine. Written by the control thread, read by policies and
    /// leases. Relaxed: one that slips through goes by the limit of a moment earlier.
    limit: AtomicU32,
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
    /// Its set, where its upstream has some. Written by the control thread, read by picks. Relaxed, likewise.
    set: AtomicU16,
    /// [`Tier`] of the state, or [`KEPT`]. Written by the control thread with every change, read by policies. Relaxed, likewise.
    tier: AtomicU8,
}

impl Endpoint {
    /// An endpoint nobody knows anything of yet; `health` is unknown where it will be checked.
    pub fn new(
        upstream: Name,
        name: Name,
        (contact, health): (Contact, Health),
        (queue, metrics): (Arc<Queue>, EndpointMetrics),
    ) -> Self {
        let resolved = match contact.address {
            Address::Socket(address) => Some(address),
            Address::Name(..) => None,
        };
        let state = State {
            health,
            ejected: None,
            kept: false,
            mode: Mode::Active,
            resolved: resolved.is_some(),
            version: Runs::Unasked,
            churn: Churn::default(),
            ran: None,
            expected: None,
            part: Part::default(),
            reason: resolved
                .is_none()
                .then(|| "name not resolved yet".to_owned()),
            since: SystemTime::now(),
        };
        Self {
            load: Load {
                in_flight: AtomicU32::new(0),
                limit: AtomicU32::new(NO_LIMIT),
                share: AtomicU32::new(STEPS),
                handicap: AtomicU32::new(0),
                ghosts: Ghosts::new(),
                latency: Latency::new(),
                is_backup: AtomicBool::new(false),
                set: AtomicU16::new(0),
                tier: AtomicU8::new(packed_tier(&state)),
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
            outlier: Outlier::new(metrics.response.get_sample_count()),
            journal: Journal::default(),
            retried: AtomicU64::new(0),
            shown: Shown::default(),
            summons: Alarm::default(),
            adapting: Adapting::default(),
            claimed: Claimed::up_to(metrics.response.get_sample_count()),
            queue,
            ends_tunnels: AtomicBool::new(false),
            peaks: Peaks::default(),
            pace: Pace::default(),
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

    /// Most requests it has at once.
    pub fn max_in_flight(&self) -> Option<NonZeroU32> {
        let limit = self.load.limit.load(Relaxed);
        NonZeroU32::new(limit).filter(|_| limit != NO_LIMIT)
    }

    /// Changes that in place to what is configured: a limit, or one that is found out by `rule` and is no higher. What was
    /// found out so far is kept, within the new bounds.
    pub fn set_limits(&self, limit: Option<NonZeroU32>, rule: Option<&Adaptive>) {
        self.set_max_in_flight(self.adapting.set(limit, rule));
    }

    /// An attempt came to something.
    pub(super) fn note(&self, is_late: bool) {
        self.adapting.note(is_late);
    }

    /// Looks at the attempts since the last time, if they are enough, and sets the limit that follows. Returns whether it is
    /// another one.
    pub(super) fn adapt(&self) -> bool {
        let limit = self.adapting.next(self.in_flight());
        let is_changed = limit.is_some() && limit != self.max_in_flight();
        if is_changed {
            self.set_max_in_flight(limit);
        }
        is_changed
    }

    /// Changes it in place.
    pub(super) fn set_max_in_flight(&self, limit: Option<NonZeroU32>) {
        let limit = limit.map_or(NO_LIMIT, NonZeroU32::get);
        self.load.limit.store(limit, Relaxed);
    }

    /// Whether it may have one request more. True by the time it is looked at: [`Lease::take`](super::Lease) decides.
    pub fn has_room(&self) -> bool {
        let limit = self.load.limit.load(Relaxed);
        limit == NO_LIMIT || self.in_flight() < limit
    }

    /// Whether it may be picked.
    pub fn tier(&self) -> Tier {
        match self.load.tier.load(Relaxed) {
            0 => Tier::Never,
            1 => Tier::IfNoneEligible,
            _ => Tier::Eligible,
        }
    }

    /// Whether it may be picked only because too few others are left.
    pub fn is_kept(&self) -> bool {
        self.load.tier.load(Relaxed) == KEPT
    }

    /// Whether a tunnel to it ends as soon as it begins.
    pub fn ends_tunnels(&self) -> bool {
        self.ends_tunnels.load(Relaxed)
    }

    /// Says so.
    pub fn set_ends_tunnels(&self, ends: bool) {
        self.ends_tunnels.store(ends, Relaxed);
    }

    /// What clients' requests tell of it.
    pub fn outlier(&self) -> &Outlier {
        &self.outlier
    }

    /// The last facts about it.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Responses of it that were counted: what shares of failures refer to.
    pub fn answered(&self) -> u64 {
        self.metrics.response.get_sample_count()
    }

    /// Those of them that the budget for retries has not seen yet: it has now.
    pub(super) fn claim(&self) -> u64 {
        self.claimed.claim(self.answered())
    }

    /// It takes the place of `before`, under the same name: what both answer counts once.
    pub fn succeed(&mut self, before: &Self) {
        self.claimed = before.claimed.clone();
    }

    /// All that is known of it.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// The same, to look at: it is held meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&lock(&self.state))
    }

    /// One request more that failed here was sent again, here or elsewhere.
    pub(super) fn note_retried(&self) {
        self.retried.fetch_add(1, Relaxed);
    }

    /// Requests that failed here and were sent again.
    pub fn retried(&self) -> u64 {
        self.retried.load(Relaxed)
    }

    /// Its share as configured.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Changes its share in place; policies see it after the upstream's refresh.
    pub fn set_weight(&self, weight: Weight) {
        let weight = u32::from(weight.get());
        if self.weight.swap(weight, Relaxed) != weight {
            self.journal.note(Fact::Weight(weight));
        }
    }

    /// Whether it is for when others are out.
    pub fn is_backup(&self) -> bool {
        self.load.is_backup.load(Relaxed)
    }

    /// Says whether it is for when others are out.
    pub fn set_backup(&self, is_backup: bool) {
        self.load.is_backup.store(is_backup, Relaxed);
    }

    /// Its set within its upstream; 0: none.
    pub(super) fn set(&self) -> SetId {
        self.load.set.load(Relaxed)
    }

    pub(super) fn set_set(&self, set: SetId) {
        self.load.set.store(set, Relaxed);
    }

    /// It was added beside others of its kind that stay: it eases in.
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
        let changed = self.change(|state| {
            let word = state.health.as_str();
            state.health = health;
            state.reason = reason;
            word != health.as_str()
        });
        if changed {
            if health == Health::Up {
                // Failures from before say nothing of now.
                self.outlier.restart(self.answered());
            }
            self.journal.note(Fact::Health(health));
        }
        changed
    }

    /// Says what the operator wants. Returns whether it changed.
    pub fn set_mode(&self, mode: Mode) -> bool {
        let changed = self.change(|state| std::mem::replace(&mut state.mode, mode) != mode);
        if changed {
            self.journal.note(Fact::Mode(mode));
        }
        changed
    }

    /// Says where its name leads, or why nowhere. Returns whether it changed. An address that was known is kept when
    /// resolving fails later: the last known good one beats none.
    pub fn set_resolved(&self, found: Result<SocketAddr, String>) -> bool {
        match found {
            Ok(address) => {
                let before = self.socket_address();
                if before != Some(address) {
                    // First: nothing may be sent there for what was found elsewhere.
                    self.forget_machine();
                    *lock(&self.resolved) = Some(address);
                    if before.is_some() {
                        self.summons.raise();
                    }
                    self.journal.note(Fact::Resolved(Ok(address)));
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
            Err(why) => {
                self.journal.note(Fact::Resolved(Err(why.as_str().into())));
                self.change(|state| {
                    if !state.resolved {
                        state.reason = Some(why);
                    }
                    false
                })
            }
        }
    }

    /// Changes its state, and what follows for picking. `change` says whether it did.
    pub(super) fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        let mut state = lock(&self.state);
        let changed = change(&mut state);
        if changed {
            state.since = SystemTime::now();
        }
        self.load.tier.store(packed_tier(&state), Relaxed);
        changed
    }

    /// Counts one request more, unless that would be one too many: exactly, however many ask at once.
    pub(super) fn begin(&self) -> bool {
        let Load {
            in_flight, limit, ..
        } = &self.load;
        let limit = limit.load(Relaxed);
        if limit == NO_LIMIT {
            in_flight.fetch_add(1, Relaxed);
            return true;
        }
        let one_more = |count| (count < limit).then_some(count + 1);
        in_flight.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// Counts one request less, and lets one that waits have its place.
    pub(super) fn end(&self) {
        self.load.in_flight.fetch_sub(1, Relaxed);
        if self.load.limit.load(Relaxed) != NO_LIMIT {
            self.queue.freed();
        }
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

/// The tier, and whether it is that only because the endpoint is kept in use.
fn packed_tier(state: &State) -> u8 {
    match state.tier() {
        Tier::Eligible if state.own_tier() != Tier::Eligible => KEPT,
        tier => tier as u8,
    }
}

/// What stands for [`Tier::Eligible`] of an endpoint that is kept in use.
const KEPT: u8 = 3;
/// Above what [`max_in_flight`](Endpoint::max_in_flight) can be.
const NO_LIMIT: u32 = u32::MAX;
