//! Serves one client connection until it is closed, drained or broken.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::drain::{Drain, DrainGuard};
use super::error::ProxyError;
use super::gate::Gate;
use super::handler::handle;
use super::local::Local;
use super::{record, reply};
use crate::message::framing::{HeadLimits, Phase, Violation};
use crate::net::local::LocalExecutor;
use crate::snapshot::{Held, Listener};

/// After the last response, a client that is still sending gets this long to read it before the connection is reset.
const LINGER: Duration = Duration::from_secs(2);
/// And may send this much more.
const LINGER_BYTES: usize = 1 << 20;

/// Bytes of a response that wait for an HTTP/2 client. hyper's 400 KiB let a hundred streams hold 140 MB.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client may take nothing of what is not an endpoint's response: as long as by default of one that is.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// hyper keeps this many header fields on its stack; told of another number it allocates for every request.
const HEADERS_ON_STACK: usize = 100;

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    address_value: HeaderValue,
    port_value: HeaderValue,
    scheme_value: HeaderValue,
    slot: u32,
    drain: Rc<Drain>,
    in_progress: Cell<u32>,
    /// Requests begun whose response has not gone out whole.
    unanswered: Cell<u32>,
    exchanges: Cell<u64>,
    idle_since: Cell<std::time::Instant>,
    linger: Cell<bool>,
    /// Rises whenever something goes out to the client or is asked for on its behalf.
    moves: Cell<u64>,
    /// Responses of which the client has to take something before more is asked for.
    waiting_for_client: Cell<u32>,
    /// For how long that may last.
    stall_limit: Cell<Duration>,
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
            address_value: ascii(&address.ip().to_canonical().to_string()),
            port_value: ascii(itoa::Buffer::new().format(local.port())),
            scheme_value: HeaderValue::from_static(if listener.tls.is_some() {
                "https"
            } else {
                "http"
            }),
            slot: listener.slot,
            drain,
            in_progress: Cell::new(0),
            unanswered: Cell::new(0),
            exchanges: Cell::new(0),
            idle_since: Cell::new(std::time::Instant::now()),
            linger: Cell::new(false),
            moves: Cell::new(0),
            waiting_for_client: Cell::new(0),
            stall_limit: Cell::new(STALL_LIMIT),
        }
    }

    /// Who connected.
    pub fn address(&self) -> SocketAddr {
        self.address
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

    /// The snapshot that serves a request now, and the index of the connection's listener in it.
    pub fn snapshot(&self, local: &Local) -> (Held, usize) {
        let current = local.snapshot();
        if let Some(index) = current.listener_index(self.slot) {
            return (current, index);
        }
        let latest = self.drain.latest();
        let index = latest.listener_index(self.slot).unwrap_or_default();
        (latest, index)
    }

    /// Whether the connection ends with the response being made.
    pub fn is_last_response(&self) -> bool {
        self.drain.has_begun()
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

    /// Whether no request is being served.
    pub fn is_idle(&self) -> bool {
        self.in_progress.get() == 0
    }
}

/// Serves HTTP/1 on `stream`.
pub async fn serve_http1<S>(
    stream: S,
    local: Rc<Local>,
    client: Rc<Client>,
    listener: Arc<Listener>,
) where
    S: AsyncRead + AsyncWrite + Reset + Unpin + 'static,
{
    let limits = HeadLimits {
        head: listener.limits.header_bytes.as_usize(),
        target: listener.limits.uri_bytes.as_usize(),
        fields: listener.limits.headers,
    };
    let (gate, watch) = Gate::new(stream, &client, limits);
    let service = {
        let (local, client) = (Rc::clone(&local), Rc::clone(&client));
        service_fn(move |request| handle(Rc::clone(&local), Rc::clone(&client), request))
    };
    let mut builder = http1::Builder::new();
    if listener.limits.headers > HEADERS_ON_STACK {
        builder.max_headers(listener.limits.headers);
    }
    let mut connection = builder
        // The gate and the deadlines below know more: they tell a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(limits.head + 1024)
        // One plain write is cheaper than a vectored one for what fits a buffer.
        .writev(false)
        .serve_connection(TokioIo::new(gate), service);
    let mut deadline = Deadline::new(&listener, &local, &client);
    let end = poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(End::Closed(result));
        }
        if let Some(violation) = watch.violation()
            && client.is_idle()
            && !watch.is_unflushed()
        {
            return Poll::Ready(End::Refused(violation.into()));
        }
        let unflushed = watch.is_unflushed();
        let phase = if client.is_idle() && !unflushed {
            watch.phase()
        } else {
            Phase::Body
        };
        deadline
            .poll(cx, phase, unflushed)
            .map(|expired| match expired {
                Expired::Idle => End::Idle,
                Expired::SlowHead => End::Refused(ProxyError::HeadTimeout),
                Expired::Stalled => End::Stalled,
            })
    })
    .await;

    let mut stream = connection.into_parts().io.into_inner().into_inner();
    match end {
        End::Closed(Err(error)) if error.is_parse() && client.is_idle() => {
            let error = if error.is_parse_too_large() {
                Violation::HeadTooLarge.into()
            } else {
                ProxyError::Malformed
            };
            Box::pin(refuse(&mut stream, error, &local, &client)).await;
        }
        // A response that was cut must not look like one that ended: to HTTP/1.0 a close is its end.
        End::Closed(Err(error)) if error.is_user() => return stream.reset(),
        End::Stalled => return stream.reset(),
        End::Closed(_) if client.linger.get() => Box::pin(linger(&mut stream)).await,
        End::Closed(_) => {}
        End::Refused(error) => Box::pin(refuse(&mut stream, error, &local, &client)).await,
        End::Idle => {}
    }
    let _ = timeout(LINGER, stream.shutdown()).await;
}

/// Can be closed so that the other side sees a failure.
pub trait Reset {
    /// Lets the close that follows be a reset.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        // A stream that cannot be reset any more is broken already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Reset for TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// Answers what never became a request.
async fn refuse<S>(stream: &mut S, error: ProxyError, local: &Rc<Local>, client: &Rc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    record::refused(local, client, error);
    // Who does not read the reply does not get it.
    let _ = timeout(LINGER, stream.write_all(&reply::error_bytes(error))).await;
    linger(stream).await;
}

/// How a connection ended.
enum End {
    /// hyper has seen its end.
    Closed(hyper::Result<()>),
    /// What was sent is not taken.
    Refused(ProxyError),
    /// Nothing happened on it for too long, or it was drained.
    Idle,
    /// The client takes nothing of its response.
    Stalled,
}

/// What has not happened in time.
#[derive(Clone, Copy)]
enum Expired {
    /// Another request.
    Idle,
    /// The rest of a head.
    SlowHead,
    /// That the client takes what there is for it.
    Stalled,
}

/// Lets a client that is still sending read the response: closing at once would reset the connection and could destroy
/// the response on its way (RFC 9112 §9.6).
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}

/// The one timer of a connection. It is moved only when it has run out, or when what is awaited has come closer: not per request.
struct Deadline<'a> {
    client: &'a Client,
    listener: &'a Listener,
    local: &'a Local,
    begun: Instant,
    head_since: Option<Instant>,
    drain_at: Option<Instant>,
    /// [`Client::moves`] as last seen while the client was waited for, and since when.
    stalled: Option<(u64, Instant)>,
    armed: Instant,
    sleep: Pin<Box<Sleep>>,
    registered: bool,
    drain_guard: Option<DrainGuard>,
}

impl<'a> Deadline<'a> {
    fn new(listener: &'a Listener, local: &'a Local, client: &'a Client) -> Self {
        let begun = Instant::now();
        let armed = begun + listener.timeouts.header;
        Self {
            client,
            listener,
            local,
            begun,
            head_since: None,
            drain_at: None,
            stalled: None,
            armed,
            sleep: Box::pin(sleep_until(armed)),
            registered: false,
            drain_guard: None,
        }
    }

    /// Ready once nothing has happened for too long.
    fn poll(&mut self, cx: &mut Context<'_>, phase: Phase, unflushed: bool) -> Poll<Expired> {
        if self.drain_guard.is_none() {
            self.drain_guard = Some(self.client.drain.listen(cx.waker()));
        }
        loop {
            match self.wanted(phase, unflushed) {
                Some((at, _)) if at < self.armed => self.arm(at),
                Some((at, expired)) if self.sleep.is_elapsed() => {
                    if at <= Instant::now() {
                        return Poll::Ready(expired);
                    }
                    self.arm(at);
                }
                // Nothing is awaited; what comes to be awaited sooner moves it again.
                None if self.sleep.is_elapsed() => {
                    self.arm(Instant::now() + self.listener.timeouts.keep_alive)
                }
                Some(_) | None => {}
            }
            // Once polled it stays registered with this task until it runs out or is moved.
            if self.registered {
                return Poll::Pending;
            }
            self.registered = true;
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The same for a connection that is on its way out: only a client that takes nothing ends it.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<()> {
        match phase {
            Phase::Body => self.poll(cx, phase, false).map(|_| ()),
            Phase::Idle | Phase::Head => Poll::Pending,
        }
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        self.registered = false;
        self.sleep.as_mut().reset(at);
    }

    /// What is awaited now, until when, and what follows if it does not come.
    fn wanted(&mut self, phase: Phase, unflushed: bool) -> Option<(Instant, Expired)> {
        let timeouts = &self.listener.timeouts;
        if phase != Phase::Head {
            self.head_since = None;
        }
        let first = self.client.exchanges.get() == 0;
        match phase {
            Phase::Body => self.stalled(unflushed).map(|at| (at, Expired::Stalled)),
            Phase::Head => {
                // The first head counts from the connection's begin: what comes before it is no reason to wait longer.
                let since = *self
                    .head_since
                    .get_or_insert_with(|| if first { self.begun } else { Instant::now() });
                Some((since + timeouts.header, Expired::SlowHead))
            }
            Phase::Idle => {
                let at = match first {
                    true => self.begun + timeouts.header,
                    false => Instant::from_std(self.client.idle_since.get()) + timeouts.keep_alive,
                };
                Some((
                    self.drained().map_or(at, |drained| drained.min(at)),
                    Expired::Idle,
                ))
            }
        }
    }

    /// When a client has taken nothing for too long: counted from when it was last seen to take something.
    fn stalled(&mut self, unflushed: bool) -> Option<Instant> {
        if !unflushed && self.client.waiting_for_client.get() == 0 {
            self.stalled = None;
            return None;
        }
        let moves = self.client.moves.get();
        let since = match self.stalled {
            Some((seen, since)) if seen == moves => since,
            _ => Instant::now(),
        };
        self.stalled = Some((moves, since));
        Some(since + self.client.stall_limit.get())
    }

    /// When an idle connection is closed because of a drain: spread, so that not all clients come back at once.
    fn drained(&mut self) -> Option<Instant> {
        if self.drain_at.is_none() && self.client.drain.has_begun() {
            self.drain_at = Some(
                Instant::now()
                    + self
                        .local
                        .instance
                        .close_spread
                        .mul_f64(self.local.random()),
            );
        }
        self.drain_at
    }
}

/// Serves HTTP/2 on `stream`.
pub async fn serve_http2<S>(
    stream: S,
    local: Rc<Local>,
    client: Rc<Client>,
    listener: Arc<Listener>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = {
        let (local, client) = (Rc::clone(&local), Rc::clone(&client));
        service_fn(move |request| handle(Rc::clone(&local), Rc::clone(&client), request))
    };
    let mut connection = pin!(
        http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(listener.limits.h2_streams)
            .max_header_list_size(
                u32::try_from(listener.limits.header_bytes.get()).unwrap_or(u32::MAX)
            )
            .max_local_error_reset_streams(Some(1024))
            // What a client that does not read can make us keep, per stream.
            .max_send_buf_size(SEND_BUFFER)
            // A client that has gone without a word is noticed within 40 s.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut deadline = Deadline::new(&listener, &local, &client);
    let mut leaving: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let phase = if client.is_idle() {
                Phase::Idle
            } else {
                Phase::Body
            };
            if let Some(last) = &mut leaving {
                // GOAWAY was said. Streams that are open go on; a client that says nothing more is not waited for.
                if last.as_mut().poll(cx).is_pending() {
                    return deadline.poll_stalled(cx, phase);
                }
                if client.is_idle() {
                    return Poll::Ready(());
                }
                last.set(sleep(LINGER));
                continue;
            }
            // A drain is said at once; so is the end of an idle connection.
            if !client.drain.has_begun() {
                match deadline.poll(cx, phase, false) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Expired::Stalled) => return Poll::Ready(()),
                    // Without a single request there is nobody to say it to: maybe not even HTTP/2 is spoken.
                    Poll::Ready(_) if client.exchanges.get() == 0 => return Poll::Ready(()),
                    Poll::Ready(_) => {}
                }
            }
            leaving = Some(Box::pin(sleep(LINGER)));
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}
