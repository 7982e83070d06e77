//! An origin that does exactly what a test tells it to, well or badly, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use balancer::message::upgrade::websocket_accept;

use super::client::reset;
use super::deadline::DEADLINE;
use super::http1::{self, Body, Framing, Head};

/// A scriptable HTTP/1.1 server. Health probes are told apart by their `User-Agent` and answered apart.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    refusing: Option<Refusing>,
}

/// What happens to the connection after a handler has returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    Keep,
    Close,
    Reset,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    /// What of the body was read so far.
    pub(crate) body: Option<Body>,
    /// Which connection brought it, from 0.
    pub(crate) connection: usize,
    pub(crate) at: Instant,
}

impl Received {
    pub(crate) fn method(&self) -> &str {
        self.head.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }
}

type Handler = dyn Fn(&mut Exchange<'_>) -> Next + Send + Sync;

struct Shared {
    name: String,
    stopping: AtomicBool,
    connections: AtomicUsize,
    open: AtomicUsize,
    streams: Mutex<HashMap<usize, TcpStream>>,
    requests: Mutex<Vec<Received>>,
    probes: Mutex<Vec<Received>>,
    on_request: Mutex<Arc<Handler>>,
    on_probe: Mutex<Arc<Handler>>,
}

impl Origin {
    /// Answers every request with its name.
    pub(crate) fn named(name: &str) -> Self {
        Self::with(name, |exchange| exchange.respond_with_name())
    }

    /// Answers every request by `handler`, and every probe with 200.
    pub(crate) fn with(
        name: &str,
        handler: impl Fn(&mut Exchange<'_>) -> Next + Send + Sync + 'static,
    ) -> Self {
        allow_many_descriptors();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stopping: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            streams: Mutex::default(),
            requests: Mutex::default(),
            probes: Mutex::default(),
            on_request: Mutex::new(Arc::new(handler)),
            on_probe: Mutex::new(Arc::new(|exchange: &mut Exchange<'_>| {
                exchange.respond(200, &[], "well")
            })),
        });
        let address = listener.local_addr().unwrap();
        let accepting = Some(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            accepting,
            refusing: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on requests are answered so.
    pub(crate) fn on_request(
        &self,
        handler: impl Fn(&mut Exchange<'_>) -> Next + Send + Sync + 'static,
    ) {
        *self.shared.on_request.lock().unwrap() = Arc::new(handler);
    }

    /// From now on probes are answered so.
    pub(crate) fn on_probe(
        &self,
        handler: impl Fn(&mut Exchange<'_>) -> Next + Send + Sync + 'static,
    ) {
        *self.shared.on_probe.lock().unwrap() = Arc::new(handler);
    }

    /// From now on probes get this status. How many did is counted.
    pub(crate) fn probe_status(&self, status: u16) -> Arc<AtomicUsize> {
        let answered = Arc::new(AtomicUsize::new(0));
        let counter = answered.clone();
        self.on_probe(move |exchange| {
            counter.fetch_add(1, SeqCst);
            exchange.respond(status, &[], "")
        });
        answered
    }

    /// Requests so far, without probes.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn request_count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    #[track_caller]
    pub(crate) fn last_request(&self) -> Received {
        self.shared
            .requests
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("the origin was asked")
    }

    pub(crate) fn probes(&self) -> Vec<Received> {
        self.shared.probes.lock().unwrap().clone()
    }

    pub(crate) fn probe_count(&self) -> usize {
        self.shared.probes.lock().unwrap().len()
    }

    /// Connections ever accepted, probes' among them.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// Ends every connection, politely or with a reset; those with a request in a handler end when it returns.
    pub(crate) fn close_connections(&self, next: Next) {
        for (_, stream) in self.shared.streams.lock().unwrap().drain() {
            if next == Next::Reset {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            // Ends the read of the connection's thread, which then ends the connection.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Refuses connections from now on, on the same port, and resets those it has.
    pub(crate) fn stop(&mut self) {
        self.end();
        self.refusing = Some(Refusing::at(self.address));
    }

    /// Serves again after [`stop`](Self::stop).
    pub(crate) fn start_again(&mut self) {
        self.refusing.take().expect("was stopped");
        let listener = TcpListener::bind(self.address).unwrap();
        self.shared.stopping.store(false, SeqCst);
        self.accepting = Some(accept(listener, self.shared.clone()));
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.stopping.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = accepting.join();
        self.close_connections(Next::Reset);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.end();
    }
}

/// All tests share this process, and often 1024 descriptors are its soft limit.
fn allow_many_descriptors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
    });
}

fn accept(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.stopping.load(SeqCst) {
                let _ = SockRef::from(&listener).shutdown(Shutdown::Read);
                return;
            }
            let Ok(stream) = stream else { continue };
            let number = shared.connections.fetch_add(1, SeqCst);
            shared.open.fetch_add(1, SeqCst);
            shared
                .streams
                .lock()
                .unwrap()
                .insert(number, stream.try_clone().unwrap());
            let shared = shared.clone();
            thread::spawn(move || {
                let next = shared.serve(&stream, number).unwrap_or(Next::Close);
                let told = SockRef::from(&stream)
                    .linger()
                    .is_ok_and(|linger| linger == Some(Duration::ZERO));
                // Ended here and now, not by the close: another test may be between `fork` and `exec` and hold a copy.
                if next == Next::Reset || told {
                    reset(&stream);
                } else {
                    let _ = stream.shutdown(Shutdown::Write);
                }
                shared.streams.lock().unwrap().remove(&number);
                drop(stream);
                shared.open.fetch_sub(1, SeqCst);
            });
        }
    })
}

impl Shared {
    fn serve(&self, stream: &TcpStream, connection: usize) -> io::Result<Next> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(head) = http1::read_head(&mut reader)? {
            let is_probe = head
                .all("user-agent")
                .iter()
                .any(|agent| agent.starts_with("balancer-health"));
            let (log, handler) = if is_probe {
                (&self.probes, &self.on_probe)
            } else {
                (&self.requests, &self.on_request)
            };
            let number = {
                let mut log = log.lock().unwrap();
                log.push(Received {
                    head: head.clone(),
                    body: None,
                    connection,
                    at: Instant::now(),
                });
                log.len() - 1
            };
            let handler = handler.lock().unwrap().clone();
            let mut exchange = Exchange {
                head: &head,
                number,
                reader: &mut reader,
                log,
                body_was_read: false,
                name: &self.name,
            };
            let next = handler(&mut exchange);
            if next != Next::Keep {
                return Ok(next);
            }
            if !exchange.body_was_read && !exchange.body().complete {
                return Ok(Next::Close);
            }
        }
        Ok(Next::Close)
    }
}

/// One request being answered.
pub(crate) struct Exchange<'a> {
    pub(crate) head: &'a Head,
    /// Which request (or probe) of this origin, from 0.
    pub(crate) number: usize,
    reader: &'a mut BufReader<TcpStream>,
    log: &'a Mutex<Vec<Received>>,
    body_was_read: bool,
    name: &'a str,
}

impl Exchange<'_> {
    pub(crate) fn method(&self) -> &str {
        self.head.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Reads the whole request body.
    pub(crate) fn body(&mut self) -> Body {
        let body = http1::collect_body(self.reader, Framing::of_request(self.head));
        self.body_was_read = true;
        self.log.lock().unwrap()[self.number].body = Some(body.clone());
        body
    }

    /// Reads the request body without keeping it: its length, and whether it was complete.
    pub(crate) fn body_length(&mut self, mut check: impl FnMut(u64, &[u8])) -> (u64, bool) {
        self.body_was_read = true;
        let mut length = 0;
        let complete = http1::read_body(self.reader, Framing::of_request(self.head), |piece| {
            check(length, piece);
            length += piece.len() as u64;
        });
        (length, complete)
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Writes bytes as they are and goes on as told.
    pub(crate) fn write_then(&mut self, bytes: impl AsRef<[u8]>, next: Next) -> Next {
        let _ = self.write(bytes);
        next
    }

    /// Reads the request and answers it properly.
    pub(crate) fn respond(&mut self, status: u16, fields: &[(&str, &str)], body: &str) -> Next {
        if !self.body_was_read && !self.body().complete {
            return Next::Close;
        }
        let mut head = format!("HTTP/1.1 {status} Status\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if status != 204 && status != 304 {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let body = if self.method() == "HEAD" { "" } else { body };
        match self.write(format!("{head}\r\n{body}")) {
            Ok(()) => Next::Keep,
            Err(_) => Next::Close,
        }
    }

    pub(crate) fn respond_with_name(&mut self) -> Next {
        let name = self.name.to_owned();
        self.respond(200, &[("X-Origin", &name)], &name)
    }

    /// Agrees to WebSocket as a proper server does (RFC 6455 §4.2.2), and says back what it hears until its end.
    pub(crate) fn echo(&mut self) -> Next {
        let key = self.head.field("sec-websocket-key").unwrap_or_default();
        let accept = websocket_accept(&key.parse().unwrap());
        let _ = self.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept.to_str().unwrap()
        ));
        self.echo_bytes()
    }

    /// Says back what it hears until its end.
    pub(crate) fn echo_bytes(&mut self) -> Next {
        loop {
            let Ok(heard) = self.reader.fill_buf().map(<[u8]>::to_vec) else {
                return Next::Reset;
            };
            self.reader.consume(heard.len());
            if heard.is_empty() || self.write(heard).is_err() {
                return Next::Close;
            }
        }
    }

    /// The next request must come within `limit`, or the connection is closed.
    pub(crate) fn close_when_idle_for(&self, limit: Duration) {
        let _ = self.reader.get_ref().set_read_timeout(Some(limit));
    }

    /// Waits until the balancer ends the connection; false if it does not, or sends more.
    pub(crate) fn is_left_by_balancer(&mut self) -> bool {
        let _ = self.reader.get_ref().set_read_timeout(Some(DEADLINE));
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }
}

/// A port that is taken and refuses every connection.
pub(crate) struct Refusing(Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0
            .local_addr()
            .unwrap()
            .as_socket()
            .expect("an IP socket")
    }
}

/// A port on which connections are never completed: its accept queue is full.
pub(crate) struct Unanswering {
    socket: Socket,
    _queued: Vec<Socket>,
}

impl Unanswering {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        let queued = (0..8)
            .map(|_| {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&address);
                client
            })
            .collect();
        Self {
            socket,
            _queued: queued,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket
            .local_addr()
            .unwrap()
            .as_socket()
            .expect("an IP socket")
    }
}
