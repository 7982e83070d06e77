//! What is left of a request in the end: counters and a line in the access log. Rides in the response's body.
//!
//! One file of more than 350 lines: whoever tells a record something, and what is made of it in the end, share its fields.

mod exchange;
mod log;
mod written;

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request, Response, StatusCode, Uri};
use smallvec::SmallVec;

pub use self::exchange::{Exchange, FromEndpoint};
use self::log::Details;
pub use self::log::FailedAttempt;
use super::client::Client;
use super::error::{Fault, ProxyError};
use super::local::{Local, RequestId};
use super::reply::Asker;
use super::trace::{self, Trace};
use super::tunnel::Asked;
use crate::config::UpstreamTimeouts;
use crate::filter::headers::Facts;
use crate::filter::limit::InFlight;
use crate::message::body::Body;
use crate::message::trace::TraceId;
use crate::message::upload::{Progress, RequestBody, Stage};
use crate::net::relay::Limits;
use crate::net::shared::SharedStream;
use crate::pool::Connection;
use crate::snapshot::{Action, Held, Listener, Own, Route};
use crate::units::ByteSize;
use crate::upstream::{Endpoint, EndpointId, Upstream, Wanted, Wish};

/// Clients that leave earlier do as they like, and say nothing of who has not answered yet.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Who was asked last.
    last_asked: Cell<Option<EndpointId>>,
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
            last_asked: Cell::new(None),
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

    /// Most bytes of its body.
    pub fn body_limit(&self) -> Option<ByteSize> {
        let of_route = self.route.limits.as_ref();
        of_route
            .and_then(|limits| limits.body_bytes)
            .or(self.listener.limits.body_bytes)
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

    /// The request has a body, which is watched by what is returned.
    pub fn begin_upload(&mut self) -> &Rc<Progress> {
        self.upload.get_or_insert_default()
    }

    /// How the request's body goes, if it has one.
    pub fn upload(&self) -> Option<&Rc<Progress>> {
        self.upload.as_ref()
    }

    /// Whether the request has a body that was not read to its end.
    pub fn upload_is_unread(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| upload.stage() != Stage::Complete)
    }

    /// Whether the client holds back its body, and nobody has asked for it: then it may send it or not (RFC 9110 §10.1.1), and
    /// the connection cannot go on.
    pub fn body_was_not_asked_for(&self) -> bool {
        self.is_held_back
            && self
                .upload
                .as_ref()
                .is_some_and(|upload| upload.stage() == Stage::Untouched)
    }

    /// The client sends its body when it is asked to.
    pub fn set_held_back(&mut self) {
        self.is_held_back = true;
    }

    /// An endpoint is asked.
    pub fn set_attempt(&self, endpoint: &Arc<Endpoint>) {
        self.attempts.set(self.attempts.get() + 1);
        self.set_endpoint(endpoint);
    }

    /// Of several that were asked, this is the one to wait for.
    pub fn set_endpoint(&self, endpoint: &Arc<Endpoint>) {
        self.last_asked.set(Some(endpoint.id()));
        if let Some(details) = &self.details {
            details.endpoint.replace(Some(Arc::clone(endpoint)));
        }
    }

    /// The endpoint that was asked has failed.
    pub fn note_failed(&self, attempt: impl FnOnce() -> FailedAttempt) {
        if self.details.is_none() && self.trace.is_none() {
            return;
        }
        let attempt = attempt();
        if let Some(trace) = &self.trace {
            trace.failed(&attempt.endpoint, attempt.error);
        }
        if let Some(details) = &self.details {
            details.failed.borrow_mut().push(attempt);
        }
    }

    /// `endpoint` is about to be sent `request`: where that is traced, the endpoint is told.
    pub fn trace_attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        request: &mut Option<Request<RequestBody>>,
    ) {
        if let (Some(trace), Some(request)) = (&self.trace, request) {
            trace.begin_attempt(endpoint, request);
        }
    }

    /// `endpoint` has answered, whatever comes of it.
    pub fn trace_answer(&self, endpoint: &Arc<Endpoint>, status: u16) {
        if let Some(trace) = &self.trace {
            trace.answered(endpoint, status);
        }
    }

    /// The trace it belongs to, where it is traced.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref().map(|trace| trace.id())
    }

    /// A connection to the endpoint was opened, from `begun` on until now.
    pub fn note_connected(&self, begun: Instant) {
        if let Some(details) = &self.details {
            details.connect.set(Some(begun.elapsed()));
        }
    }

    /// The request failed before any response.
    pub fn set_error(&mut self, error: ProxyError) {
        self.error = Some(error);
    }

    /// An endpoint's response came, the only one that is passed on; `from` is held until its body has ended.
    pub fn set_response(&self, from: FromEndpoint, now: Instant) {
        self.client.set_stall_limit(from.pause.limit());
        // Nobody asks once there is one.
        let _ = self.from.set(from);
        if let Some(details) = &self.details {
            let head = now.saturating_duration_since(self.begun);
            details.head.set(Some(head));
        }
    }

    /// The client gets that response.
    pub fn settle(&mut self) {
        self.by_upstream = true;
        // It keeps the memory of the whole head from being used again.
        self.accept = None;
    }

    /// The request is a gRPC call: errors are told in its own way, and counted and logged as for any other request.
    pub fn set_grpc(&mut self) {
        self.is_grpc = true;
    }

    /// Whether the request is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// The client wants to change protocols.
    pub fn set_asked(&mut self, asked: Box<Asked>) {
        self.asked = Some(asked);
    }

    /// What the client wants to change to.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.as_deref()
    }

    /// The same, taken.
    pub fn take_asked(&mut self) -> Option<Box<Asked>> {
        self.asked.take()
    }

    /// The connection that has changed its protocol, what came over it early, and whose it is.
    /// The client gets `status`.
    pub async fn take_stream(
        &mut self,
        status: StatusCode,
    ) -> Option<(SharedStream, Bytes, Arc<Endpoint>)> {
        self.status = status.as_u16();
        self.is_tunnel = true;
        let from = self.from.get_mut()?;
        let Connection::Http1(connection) = &mut from.connection else {
            return None;
        };
        let (stream, early) = connection.switch().await;
        Some((stream, early, Arc::clone(from.lease.endpoint())))
    }

    /// How long nothing may be said in a tunnel, or taken.
    pub fn tunnel_limits(&self) -> Limits {
        let timeouts = self.upstream().map(|upstream| self.timeouts(upstream));
        Limits {
            idle: timeouts.map_or(Duration::ZERO, |timeouts| timeouts.tunnel_idle),
            stalled: timeouts.map_or(Duration::ZERO, |timeouts| timeouts.stream_idle),
        }
    }

    /// A tunnel has ended, with so many bytes passed to the endpoint and to the client.
    pub fn end_tunnel(mut self: Box<Self>, (forth, back): (u64, u64), error: Option<ProxyError>) {
        self.from.take();
        self.begin_upload().add(forth);
        self.response_bytes = back;
        self.finish(error, Instant::now());
    }

    /// From here on the record rides in the response's body, with all that must be given back when that has ended.
    pub fn ride_on(mut self: Box<Self>, response: &mut Response<ResponseBody>) {
        self.status = match self.error {
            Some(error) if self.is_grpc => error.status(),
            _ => response.status(),
        }
        .as_u16();
        let mut exchange = Exchange(self);
        exchange.wait_for_client(true);
        response.body_mut().set_guard(exchange);
    }

    /// A client that was ready has waited in vain for whoever was asked last: for who holds sets of endpoints against each other.
    #[cold]
    fn note_abandoned(&self) {
        let is_answered = self.from.get().is_some();
        if is_answered || self.upload_is_unread() || self.ready.elapsed() < PATIENCE {
            return;
        }
        let Some((upstream, id)) = self.upstream().zip(self.last_asked.get()) else {
            return;
        };
        if let Some(endpoint) = upstream.endpoints.iter().find(|it| it.id() == id) {
            endpoint.metrics.attempts.count_unanswered();
        }
    }

    fn finish(&mut self, error: Option<ProxyError>, now: Instant) {
        self.finished = true;
        if self.waits_for_client {
            self.client.wait_for_client(false);
        }
        let error = error.or(self.error);
        if error == Some(ProxyError::ClientLeft) {
            self.status = ProxyError::ClientLeft.status().as_u16();
        }
        let total = now.saturating_duration_since(self.begun);
        let metrics = &self.route.metrics;
        if self.in_flight {
            metrics.in_flight.dec();
        }
        self.place = None;
        metrics.count(self.listener_index, &self.method, self.status);
        if !self.is_tunnel {
            metrics.duration.observe(total.as_secs_f64());
        }
        let request_bytes = self.upload.as_ref().map_or(0, |upload| upload.bytes());
        if request_bytes > 0 {
            metrics.request_bytes.inc_by(request_bytes);
        }
        if self.response_bytes > 0 {
            metrics.response_bytes.inc_by(self.response_bytes);
        }
        if let Some(error) = error {
            metrics.count_error(error.reason());
        }
        self.client.end_exchange(now);
        if self.details.is_some() {
            self.log(error, request_bytes, total);
        }
        if let Some(trace) = &self.trace {
            self.send_spans(trace, error, now);
        }
    }

    #[cold]
    fn send_spans(&self, trace: &Trace, error: Option<ProxyError>, at: Instant) {
        let is_routed = !matches!(self.route.action, Action::NotFound);
        let finished = trace::Finished {
            client: &self.client,
            method: &self.method,
            request_id: self.request_id.as_str(),
            listener: &self.listener.name,
            route: is_routed.then(|| &*self.route.name),
            upstream: self.upstream().map(|upstream| &*upstream.name),
            status: self.status,
            reason: error.map(ProxyError::reason),
            is_endpoints_fault: error.is_some_and(|error| error.fault() == Fault::Endpoint),
            at,
        };
        trace.finish(&finished, &self.local.spans);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.note_abandoned();
            self.finish(Some(ProxyError::ClientLeft), Instant::now());
        }
    }
}

/// Counts and logs a request that never became one: its bytes were refused.
pub fn refused(local: &Rc<Local>, client: &Rc<Client>, error: ProxyError) {
    let (snapshot, listener) = client.snapshot(local);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(b"-").expect("`-` is a token");
    *request.uri_mut() = Uri::from_static("/");
    let mut record = Record::begin(local, client, (&snapshot, listener), &request);
    record.set_path("-");
    // It has no head that a span could be made of.
    record.trace = None;
    record.status = error.status().as_u16();
    record.finish(Some(error), Instant::now());
}
