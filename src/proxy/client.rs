//! A client's connection, as its requests see it.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::drain::Drain;
use super::local::Local;
use super::tunnel::Tunnel;
use crate::snapshot::{Held, Listener};
use crate::tls::Session;

/// How long a client may take nothing of what is not an endpoint's response: as long as by default of one that is.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    local: SocketAddr,
    address_value: HeaderValue,
    port_value: HeaderValue,
    scheme_value: HeaderValue,
    /// What its TLS handshake settled, where that is worth remembering.
    session: OnceCell<Box<Session>>,
    /// What the access log says of that.
    handshake: OnceCell<Box<Handshake>>,
    drain: Rc<Drain>,
    in_progress: Cell<u32>,
    /// Requests begun whose response has not gone out whole.
    unanswered: Cell<u32>,
    exchanges: Cell<u64>,
    /// With so many, or at that moment, it ends.
    last_exchange: u64,
    until: Option<std::time::Instant>,
    idle_since: Cell<std::time::Instant>,
    linger: Cell<bool>,
    /// Rises whenever something goes out to the client or is asked for on its behalf.
    moves: Cell<u64>,
    /// Responses of which the client has to take something before more is asked for.
    waiting_for_client: Cell<u32>,
    /// For how long that may last.
    stall_limit: Cell<Duration>,
    /// What follows the response that is on its way.
    tunnel: RefCell<Option<Box<Tunnel>>>,
}

/// What the access log says of a TLS handshake.
#[derive(Debug)]
struct Handshake {
    server_name: Option<Box<str>>,
    /// How long it took, until the first request has said so.
    took: Cell<Option<Duration>>,
}

impl Client {
    /// A connection from `address`, accepted by `listener` on its address `local`.
    pub fn new(
        address: SocketAddr,
        local: SocketAddr,
        listener: &Listener,
        drain: Rc<Drain>,
    ) -> Self {
        let ascii =
            |text: &str| HeaderValue::from_str(text).expect("addresses and numbers are ASCII");
        Self {
            address,
            local,
            address_value: ascii(&address.ip().to_canonical().to_string()),
            port_value: ascii(itoa::Buffer::new().format(local.port())),
            scheme_value: HeaderValue::from_static(if listener.tls.is_some() {
                "https"
            } else {
                "http"
            }),
            session: OnceCell::new(),
            handshake: OnceCell::new(),
            drain,
            in_progress: Cell::new(0),
            unanswered: Cell::new(0),
            exchanges: Cell::new(0),
            last_exchange: listener
                .limits
                .requests_per_connection
                .map_or(u64::MAX, |limit| limit.get() as u64),
            until: listener
                .timeouts
                .max_age
                .map(|age| std::time::Instant::now() + age),
            idle_since: Cell::new(std::time::Instant::now()),
            linger: Cell::new(false),
            moves: Cell::new(0),
            waiting_for_client: Cell::new(0),
            stall_limit: Cell::new(STALL_LIMIT),
            tunnel: RefCell::default(),
        }
    }

    /// Who connected.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Its IP address as text.
    pub fn address_text(&self) -> &str {
        self.address_value.to_str().unwrap_or_default()
    }

    /// Its IP address as a field's value.
    pub fn address_value(&self) -> &HeaderValue {
        &self.address_value
    }

    /// The port it connected to, as a field's value.
    pub fn port_value(&self) -> &HeaderValue {
        &self.port_value
    }

    /// `http` or `https`.
    pub fn scheme_value(&self) -> &HeaderValue {
        &self.scheme_value
    }

    /// Its TLS handshake settled this. Before the first request, once.
    pub fn set_session(&self, session: Session) {
        let _ = self.session.set(Box::new(session));
    }

    /// Its TLS handshake `took` so long and asked for this name. Before the first request, once, where there is an access log.
    pub fn set_handshake(&self, server_name: Option<&str>, took: Duration) {
        let _ = self.handshake.set(Box::new(Handshake {
            server_name: server_name.map(Box::from),
            took: Cell::new(Some(took)),
        }));
    }

    /// The name it asked for in TLS, where that is known.
    pub fn server_name(&self) -> Option<&str> {
        self.handshake.get()?.server_name.as_deref()
    }

    /// How long its handshake took, once: the first request after it has waited for it.
    pub(super) fn take_handshake(&self) -> Option<Duration> {
        self.handshake.get()?.took.take()
    }

    /// Whether it may ask for `host`, which is in lower case: over TLS it was shown the certificate for that name.
    pub fn may_ask_for(&self, host: &str) -> bool {
        self.session
            .get()
            .is_none_or(|session| session.stands_for(host))
    }

    /// What endpoints are told of the certificate it has shown. Empty without one.
    pub fn identity(&self) -> &[(HeaderName, HeaderValue)] {
        self.session.get().map_or(&[], |session| session.identity())
    }

    /// The snapshot that serves a request now, and the index of the connection's listener in it.
    pub fn snapshot(&self, local: &Local) -> (Held, usize) {
        let (snapshot, index) = self.drain.snapshot(local.snapshot());
        (snapshot, index.unwrap_or_default())
    }

    /// Whether the connection ends with the response being made.
    pub fn is_last_response(&self) -> bool {
        self.drain.has_begun() || self.is_worn()
    }

    /// Whether it has had as many requests as it may, or has lasted as long as it may.
    pub(super) fn is_worn(&self) -> bool {
        self.exchanges.get() >= self.last_exchange
            || self
                .until
                .is_some_and(|until| until <= std::time::Instant::now())
    }

    /// The client is still sending what nobody reads: it shall get the response before the connection is reset.
    pub fn linger(&self) {
        self.linger.set(true);
    }

    /// Something goes out to the client, or more is asked for on its behalf.
    pub fn moved(&self) {
        self.moves.set(self.moves.get().wrapping_add(1));
    }

    /// A response waits for the client to take something, or does so no longer.
    pub fn wait_for_client(&self, waits: bool) {
        let waiting = self.waiting_for_client.get();
        self.waiting_for_client
            .set(if waits { waiting + 1 } else { waiting - 1 });
    }

    /// How long the client may take nothing.
    pub fn set_stall_limit(&self, limit: Duration) {
        self.stall_limit.set(limit);
    }

    /// The response being made is the last of its protocol; `tunnel` follows.
    pub fn set_tunnel(&self, tunnel: Tunnel) {
        self.tunnel.replace(Some(Box::new(tunnel)));
    }

    /// Whether something else follows the last response.
    pub fn has_tunnel(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    /// What follows the last response.
    pub fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// A request is served from here on.
    pub fn begin_exchange(&self) {
        self.in_progress.set(self.in_progress.get() + 1);
        self.exchanges.set(self.exchanges.get() + 1);
        self.unanswered.set(self.unanswered.get() + 1);
    }

    /// Until here.
    pub fn end_exchange(&self, now: std::time::Instant) {
        self.in_progress.set(self.in_progress.get() - 1);
        self.idle_since.set(now);
    }

    /// Whether there is a request whose response has not gone out whole.
    pub fn awaits_response(&self) -> bool {
        self.unanswered.get() > 0
    }

    /// All that was written has gone out: only what is in progress is unanswered.
    pub fn end_responses(&self) {
        self.unanswered.set(self.in_progress.get());
    }

    /// What asks the connection to end.
    pub(super) fn drain(&self) -> &Rc<Drain> {
        &self.drain
    }

    /// Whether there has been no request yet.
    pub(super) fn is_new(&self) -> bool {
        self.exchanges.get() == 0
    }

    /// When the last exchange ended.
    pub(super) fn idle_since(&self) -> std::time::Instant {
        self.idle_since.get()
    }

    /// Whether there are responses of which the client has to take something.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting_for_client.get() > 0
    }

    /// Changes whenever something moves, see [`Self::moved`].
    pub(super) fn moves(&self) -> u64 {
        self.moves.get()
    }

    /// How long the client may take nothing.
    pub(super) fn stall_limit(&self) -> Duration {
        self.stall_limit.get()
    }

    /// Whether the last response shall reach a client that is still sending.
    pub(super) fn lingers(&self) -> bool {
        self.linger.get()
    }

    /// Whether no request is being served.
    pub fn is_idle(&self) -> bool {
        self.in_progress.get() == 0
    }
}
