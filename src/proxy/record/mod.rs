//! What is left of a request in the end: counters and a line in the access log. Rides in the response's body.

mod attempts;
mod exchange;
mod finish;
mod log;
mod tunnel;
mod upload;
mod written;

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;
use http::{Method, Request, StatusCode};
use smallvec::SmallVec;

pub use self::exchange::{Exchange, FromEndpoint};
pub use self::finish::refused;
use self::log::Details;
pub use self::log::FailedAttempt;
use super::client::Client;
use super::error::ProxyError;
use super::local::{Local, RequestId};
use super::reply::Asker;
use super::trace::{self, Trace};
use super::tunnel::Asked;
use crate::config::UpstreamTimeouts;
use crate::filter::headers::Facts;
use crate::filter::limit::InFlight;
use crate::message::body::Body;
use crate::message::upload::Progress;
use crate::snapshot::{Held, Listener, Own, Route};
use crate::upstream::{Upstream, Wanted, Wish};

/// The body of a response to a client.
pub type ResponseBody = Body<Exchange>;

/// Facts of one request, gathered on its way. Counts and logs when it is finished; dropped before that, the client has left.
#[derive(Debug)]
pub struct Record {
    local: Rc<Local>,
    client: Rc<Client>,
    listener: Own<Listener>,
    listener_index: usize,
    begun: Instant,
    /// Since when it waits for nothing but endpoints.
    ready: Instant,
    request_id: RequestId,
    method: Method,
    /// Its route; the one that stands for none before routing.
    route: Own<Route>,
    in_flight: bool,
    /// Its place among those that the route takes at once.
    place: Option<InFlight>,
    status: u16,
    by_upstream: bool,
    error: Option<ProxyError>,
    upload: Option<Rc<Progress>>,
    response_bytes: u64,
    attempts: Cell<u32>,
    details: Option<Box<Details>>,
    trace: Option<Box<Trace>>,
    asked: Option<Box<Asked>>,
    facts: Option<Box<Facts>>,
    hash_key: Option<u64>,
    /// What the client takes, until an endpoint has answered.
    accept: Option<HeaderValue>,
    /// The endpoint's response, from its head on.
    from: OnceCell<FromEndpoint>,
    /// Which of its route's upstreams it goes to, where there are several.
    member: u32,
    /// Its upstream as it was when a pause had ended, where it was held.
    resumed: Option<Arc<Upstream>>,
    /// Which endpoint the client wants, where its upstream keeps clients.
    affinity: Wanted,
    waits_for_client: bool,
    is_tunnel: bool,
    is_grpc: bool,
    is_held_back: bool,
    finished: bool,
}

impl Record {
    /// Begins with a request's arrival. Boxed: it changes hands several times.
    pub fn begin<B>(
        local: &Rc<Local>,
        client: &Rc<Client>,
        (snapshot, listener_index): (&Held, usize),
        request: &Request<B>,
    ) -> Box<Self> {
        let begun = Instant::now();
        client.begin_exchange();
        let request_id = local.request_id();
        let listener = snapshot.listener(listener_index).clone();
        let details = listener.access_log.as_deref();
        let details = details.map(|rule| Box::new(Details::of(request, rule, client)));
        let trace = snapshot.tracing.as_ref().and_then(|rule| {
            let asked = trace::Asked {
                local,
                client,
                listener: &listener,
                generation: snapshot.generation,
                begun,
            };
            trace::begin(rule, asked, request)
        });
        Box::new(Self {
            local: Rc::clone(local),
            client: Rc::clone(client),
            listener,
            listener_index,
            begun,
            ready: begun,
            request_id,
            method: request.method().clone(),
            route: snapshot.no_route().clone(),
            in_flight: false,
            place: None,
            status: ProxyError::ClientLeft.status().as_u16(),
            by_upstream: false,
            error: None,
            upload: None,
            response_bytes: 0,
            attempts: Cell::new(0),
            details,
            trace,
            asked: None,
            facts: None,
            hash_key: None,
            accept: None,
            from: OnceCell::new(),
            member: 0,
            resumed: None,
            affinity: Wanted::Nobody,
            waits_for_client: false,
            is_tunnel: false,
            is_grpc: false,
            is_held_back: false,
            finished: false,
        })
    }

    /// What the upstream's policy picks by.
    pub fn set_hash_key(&mut self, key: u64) {
        self.hash_key = Some(key);
    }

    /// What every pick for it goes by.
    pub fn wish(&self) -> Wish {
        Wish {
            version: self.affinity.version().map(|pin| pin.mark),
            key: self.hash_key,
            ..Wish::default()
        }
    }

    /// Since when it waits for nothing but endpoints: when it arrived, or has waited for its turn or for the end of a pause.
    pub fn ready(&self) -> Instant {
        self.ready
    }

    /// Time limits at an endpoint of `upstream`: those of the route come first.
    #[inline]
    pub fn timeouts(&self, upstream: &Upstream) -> UpstreamTimeouts {
        match &self.route.timeouts {
            None => upstream.timeouts,
            Some(timeouts) => timeouts.over(&upstream.timeouts),
        }
    }

    /// When the response must have ended, where the route says.
    pub fn deadline(&self) -> Option<Instant> {
        let timeouts = self.route.timeouts.as_deref()?;
        Some(self.begun + timeouts.request?)
    }

    /// The request waited for an endpoint with room, from `begun` on until now.
    pub fn add_queued(&mut self, begun: Instant) {
        self.ready = Instant::now();
        let waited = self.ready.saturating_duration_since(begun);
        if let Some(details) = &mut self.details {
            details.queued += waited;
        }
    }

    /// The request's id, unless a trusted proxy has given it one.
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The client's connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The listener the request came in by.
    pub fn listener(&self) -> &Own<Listener> {
        &self.listener
    }

    /// Its index in the request's snapshot.
    pub fn listener_index(&self) -> usize {
        self.listener_index
    }

    /// The client's address as trusted proxies name it.
    pub fn set_client(&mut self, address: IpAddr) {
        if let Some(details) = &mut self.details {
            details.client = Some(address.to_canonical());
        }
    }

    /// The host asked for.
    pub fn set_host(&mut self, host: &str) {
        if let Some(details) = &mut self.details {
            details.host = SmallVec::from_slice(host.as_bytes());
        }
    }

    /// The canonical path, where it differs from what was sent.
    pub fn set_path(&mut self, path: &str) {
        if let Some(details) = &mut self.details {
            details.path = Some(path.into());
        }
    }

    /// The request has a route: it counts as in flight there.
    pub fn set_route(&mut self, route: &Own<Route>) {
        self.route = route.clone();
        self.route.metrics.in_flight.inc();
        self.in_flight = true;
    }

    /// Its route; the one that stands for none before routing.
    pub fn route(&self) -> &Own<Route> {
        &self.route
    }

    /// It counts among those that the route takes at once, until it has ended.
    pub fn set_place(&mut self, place: Option<InFlight>) {
        self.place = place;
    }

    /// Which of its route's upstreams it goes to.
    pub fn set_member(&mut self, member: u32) {
        self.member = member;
    }

    /// The upstream it goes to; none where its route asks nobody.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        let resumed = self.resumed.as_ref();
        resumed.or_else(|| self.route.action.upstream(self.member))
    }

    /// Its upstream has been paused, and is now this.
    pub fn set_resumed(&mut self, upstream: Arc<Upstream>) {
        self.resumed = Some(upstream);
        self.ready = Instant::now();
    }

    /// Which endpoint the client wants.
    pub fn set_affinity(&mut self, wanted: Wanted) {
        self.affinity = wanted;
    }

    /// The same.
    pub fn affinity(&self) -> Wanted {
        self.affinity
    }

    /// What the client is told of who has answered it with this status, where its upstream keeps clients.
    pub fn affinity_cookie(&self, status: StatusCode) -> Option<HeaderValue> {
        let upstream = self.upstream()?;
        let affinity = upstream.affinity.as_ref()?;
        let answered = self.from.get()?.lease.endpoint();
        if let Some(audit) = affinity.audit()
            && self.method.is_safe()
        {
            audit.note(self.affinity, answered.id(), status);
        }
        upstream.keep(self.affinity, answered, self.listener.tls.is_some())
    }

    /// What variables stand for, where its route uses some.
    pub fn set_facts(&mut self, facts: Facts) {
        self.facts = Some(Box::new(facts));
    }

    /// The same, where it is known.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_deref()
    }

    /// What the client says it takes, `Accept`.
    pub fn set_accept(&mut self, accept: Option<HeaderValue>) {
        self.accept = accept;
    }

    /// What to know of the client for an answer of our own.
    pub fn asker(&self) -> Asker<'_> {
        Asker {
            accept: self.accept.as_ref(),
            is_head: self.method == Method::HEAD,
            pages: Some(&self.listener.error_pages),
        }
    }

    /// The request failed before any response.
    pub fn set_error(&mut self, error: ProxyError) {
        self.error = Some(error);
    }

    /// The request is a gRPC call: errors are told in its own way, and counted and logged as for any other request.
    pub fn set_grpc(&mut self) {
        self.is_grpc = true;
    }

    /// Whether the request is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }
}
