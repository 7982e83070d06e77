//! Takes new connections from a listener's socket: limits, back-off, handshake.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::net::connect::is_own_shortage;
use crate::net::per_client::OfClient;
use crate::proxy::client::Client;
use crate::proxy::drain::Drain;
use crate::proxy::http1::serve_http1;
use crate::proxy::http2::serve_http2;
use crate::proxy::local::Local;
use crate::snapshot::{Instance, Listener};
use crate::tls::ByDevice;

use super::Team;
use super::proxied;
use super::spread::Place;

/// Out of descriptors or memory: one comes back when a connection closes.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections of one worker.
type Connections = Rc<RefCell<JoinSet<()>>>;

/// Where connections of one listener come in to one worker.
pub struct Door {
    /// The listener's.
    pub slot: u32,
    /// The worker's belongings.
    pub local: Rc<Local>,
    /// The worker among the others.
    pub team: Team,
    /// The worker's connections.
    pub connections: Connections,
    /// Ends what came in here.
    pub drain: Rc<Drain>,
}

/// Accepts on `socket` until the drain of `door` begins; serves each connection in a task of its own, here or at a worker
/// that has fewer. Ends when nothing more is accepted.
pub fn start(socket: std::net::TcpListener, door: Door) -> io::Result<JoinHandle<()>> {
    let accepting = Accepting {
        listener: TcpListener::from_std(socket)?,
        door,
    };
    Ok(tokio::task::spawn_local(accepting.run()))
}

struct Accepting {
    listener: TcpListener,
    door: Door,
}

impl Accepting {
    async fn run(self) {
        let mut pausing = false;
        loop {
            if self.door.local.instance.is_full() && !self.door.drain.has_begun() {
                // What is left is for connections to endpoints and for checks.
                self.pause(&mut pausing, "file descriptors run short").await;
                continue;
            }
            let Some(accepted) = self.next().await else {
                break;
            };
            match accepted {
                Ok((stream, address)) => {
                    pausing = false;
                    self.door.admit(stream, address);
                }
                Err(error) if is_own_shortage(&error) => {
                    self.pause(&mut pausing, &error.to_string()).await;
                }
                // The client was gone before it was accepted.
                Err(error) => debug!(%error, "accept failed"),
            }
        }
        self.finish();
    }

    /// The next connection; `None` once the drain has begun.
    async fn next(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let mut guard = None;
        poll_fn(|cx| {
            if self.door.drain.has_begun() {
                return Poll::Ready(None);
            }
            guard.get_or_insert_with(|| self.door.drain.listen(cx.waker()));
            self.listener.poll_accept(cx).map(Some)
        })
        .await
    }

    /// Takes what has queued up before the socket is closed: the kernel would reset it.
    fn finish(self) {
        let Self { listener, door } = self;
        let Ok(socket) = listener.into_std() else {
            return;
        };
        while let Ok((stream, address)) = socket.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                door.admit(stream, address);
            }
        }
    }

    async fn pause(&self, pausing: &mut bool, why: &str) {
        let snapshot = self.door.local.snapshot();
        if let Some(index) = snapshot.listener_index(self.door.slot) {
            snapshot.listeners[index].metrics.accept_pauses.inc();
        }
        if !std::mem::replace(pausing, true) {
            warn!(
                why,
                "accepting pauses until a connection closes; raise the limit of open files"
            );
        }
        sleep(PAUSE).await;
    }
}

impl Door {
    /// Serves a connection that was accepted here, or hands it over to a worker that has clearly fewer.
    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let (snapshot, Some(index)) = self.drain.snapshot(self.local.snapshot()) else {
            return;
        };
        let listener = &snapshot.listeners[index];
        // Behind the PROXY protocol who the client is comes later.
        let of_client = match &listener.proxy_protocol {
            None => OfItsClient::acquire(listener, address),
            Some(_) => Some(OfItsClient { _place: None }),
        };
        let permit = Permit::acquire(listener, &self.local.instance);
        let (Some(of_client), Some(permit)) = (of_client, permit) else {
            listener.metrics.refused.inc();
            return;
        };
        let Team { peers, index } = &self.team;
        let place = if self.drain.has_begun() {
            peers.place_at(*index)
        } else {
            peers.place(*index)
        };
        let worker = place.worker();
        let admission = Admission {
            listener: Arc::clone(listener),
            _permit: permit,
            of_client,
            place,
        };
        if worker == *index {
            return self.serve(stream, address, admission);
        }
        let returned = match stream.into_std() {
            Ok(stream) => peers.hand_over(self.slot, stream, address, admission),
            Err(error) => return debug!(%error, "connection cannot be handed over"),
        };
        // That worker has ended: this one is not far from it, but still here.
        if let Err((stream, admission)) = returned
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            self.serve(stream, address, admission);
        }
    }

    /// Serves a connection here.
    pub fn serve(&self, mut stream: TcpStream, address: SocketAddr, mut admission: Admission) {
        let listener = &admission.listener;
        let (Ok(()), Ok(here)) = (stream.set_nodelay(true), stream.local_addr()) else {
            return;
        };
        let limit = listener.timeouts.handshake;
        let (local, drain) = (Rc::clone(&self.local), Rc::clone(&self.drain));
        let mut connections = self.connections.borrow_mut();
        match &listener.proxy_protocol {
            None => {
                let client = Rc::new(Client::new(address, here, listener, drain));
                connections.spawn_local(converse(stream, local, client, admission, limit));
            }
            Some(senders) if proxied::is_sender(address, senders, listener) => {
                connections.spawn_local(async move {
                    let listener = &admission.listener;
                    let begun = Instant::now();
                    // Boxed, like the handshake.
                    let ends = proxied::receive(&mut stream, (address, here), listener);
                    let Some((address, here)) = Box::pin(ends).await else {
                        return;
                    };
                    let Some(of_client) = OfItsClient::acquire(listener, address) else {
                        return listener.metrics.refused.inc();
                    };
                    let client = Rc::new(Client::new(address, here, listener, drain));
                    admission.of_client = of_client;
                    // The time limit is for both.
                    let left = limit.saturating_sub(begun.elapsed());
                    converse(stream, local, client, admission, left).await;
                });
            }
            Some(_) => {}
        }
    }
}

/// Speaks with a client until its connection ends. A handshake has `limit`.
///
/// No `async fn`: that would keep room for its arguments twice, in every connection.
fn converse(
    stream: TcpStream,
    local: Rc<Local>,
    client: Rc<Client>,
    admission: Admission,
    limit: Duration,
) -> impl Future<Output = ()> {
    let listener = Arc::clone(&admission.listener);
    async move {
        match &listener.tls {
            None => {
                let _open = Open::new(&listener.metrics.http1, &listener.metrics.open_http1);
                serve_http1(stream, local, client, listener).await;
            }
            Some(config) => {
                // Boxed, so that a connection does not keep room for a handshake that is long over.
                let handshake = Box::pin(handshake(config, stream, &listener, limit));
                let begun = listener.access_log.as_ref().map(|_| Instant::now());
                if let Some(stream) = handshake.await {
                    if let Some(begun) = begun {
                        client.set_handshake(stream.get_ref().1.server_name(), begun.elapsed());
                    }
                    serve_tls(stream, local, client, listener).await;
                }
            }
        }
        drop(admission);
    }
}

async fn serve_tls(
    stream: Box<TlsStream<TcpStream>>,
    local: Rc<Local>,
    client: Rc<Client>,
    listener: Arc<Listener>,
) {
    if let Some(session) = listener.sessions.settle(stream.get_ref().1) {
        client.set_session(session);
    }
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let _open = Open::new(&listener.metrics.http2, &listener.metrics.open_http2);
        // Boxed, so that HTTP/1 does not keep room for it.
        Box::pin(serve_http2(stream, local, client, Arc::clone(&listener))).await;
    } else {
        let _open = Open::new(&listener.metrics.http1, &listener.metrics.open_http1);
        serve_http1(stream, local, client, Arc::clone(&listener)).await;
    }
}

async fn handshake(
    config: &ByDevice,
    stream: TcpStream,
    listener: &Listener,
    limit: Duration,
) -> Option<Box<TlsStream<TcpStream>>> {
    let metrics = &listener.metrics;
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = Arc::clone(config.for_client(&start.client_hello()));
        start.into_stream(config).await
    };
    match timeout(limit, handshake).await {
        Ok(Ok(stream)) => {
            match stream.get_ref().1.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => metrics.handshakes_tls12.inc(),
                _ => metrics.handshakes_tls13.inc(),
            }
            // Boxed: it is large, and changes hands several times.
            Some(Box::new(stream))
        }
        Ok(Err(error)) => {
            metrics.handshakes_failed.inc();
            debug!(listener = %listener.name, %error, "handshake failed");
            None
        }
        Err(_) => {
            metrics.handshakes_timed_out.inc();
            None
        }
    }
}

/// What a connection holds while it is open: it counts at a worker, at its listener and in the process. Taken by the worker
/// that accepts, so that limits hold for those on their way to another as well.
#[derive(Debug)]
pub struct Admission {
    /// As it was then.
    listener: Arc<Listener>,
    _permit: Permit,
    of_client: OfItsClient,
    /// Whose connection it is.
    pub place: Place,
}

/// One connection under the limits of its listener and of the process.
#[derive(Debug)]
struct Permit {
    listener: Arc<AtomicUsize>,
    instance: Arc<Instance>,
}

impl Permit {
    fn acquire(listener: &Listener, instance: &Arc<Instance>) -> Option<Self> {
        let limit = listener
            .limits
            .connections
            .map_or(usize::MAX, std::num::NonZero::get);
        // Taken first and given back by drop: two workers cannot both take the last place.
        let of_listener = listener.open.fetch_add(1, Relaxed);
        let of_process = instance.open.fetch_add(1, Relaxed);
        let permit = Self {
            listener: Arc::clone(&listener.open),
            instance: Arc::clone(instance),
        };
        (of_listener < limit && of_process < instance.max_connections).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.listener.fetch_sub(1, Relaxed);
        self.instance.open.fetch_sub(1, Relaxed);
    }
}

/// One connection among those of its client, where there is a limit.
#[derive(Debug)]
struct OfItsClient {
    _place: Option<OfClient>,
}

impl OfItsClient {
    fn acquire(listener: &Listener, client: SocketAddr) -> Option<Self> {
        let Some(limit) = listener.limits.connections_per_client else {
            return Some(Self { _place: None });
        };
        let of_client = listener.per_client.admit(client.ip(), limit)?;
        Some(Self {
            _place: Some(of_client),
        })
    }
}

/// Counts an open connection.
struct Open(IntGauge);

impl Open {
    fn new(total: &IntCounter, open: &IntGauge) -> Self {
        total.inc();
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
