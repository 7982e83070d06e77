//! HTTP/2 origins, without TLS: a well-behaved one, and one whose frames are written by hand.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, JoinSet};

use super::deadline::DEADLINE;
use super::h2::{Frame as Wired, Frames, RUNTIME};

/// A response with whatever body.
pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;
/// What answers a request.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A proper HTTP/2 server. Health probes are told apart by their `User-Agent` and answered with 200, unless told otherwise.
pub(crate) struct H2Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
    probes: Mutex<Vec<Asked>>,
}

/// A request's head as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: Parts,
    /// Which connection brought it, from 0.
    pub(crate) connection: usize,
}

impl H2Origin {
    /// Answers every request by `handler`.
    pub(crate) fn new(
        handler: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self::with_streams(200, handler)
    }

    /// The same; takes so many requests at once on a connection.
    pub(crate) fn with_streams(
        streams: u32,
        handler: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self::start(streams, handler, |_| ready(text("well")))
    }

    /// Answers every request by `handler`, and every probe by `on_probe`.
    pub(crate) fn checked(
        handler: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
        on_probe: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self::start(200, handler, on_probe)
    }

    fn start(
        streams: u32,
        handler: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
        on_probe: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Seen> = Arc::default();
        let noted = seen.clone();
        let handlers = Arc::new((handler, on_probe));
        let accepting = RUNTIME.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream, streams, noted.clone(), handlers.clone()));
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far, without probes.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.seen.asked.lock().unwrap().clone()
    }

    pub(crate) fn probes(&self) -> Vec<Asked> {
        self.seen.probes.lock().unwrap().clone()
    }

    /// Connections ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(SeqCst)
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<H, P>(
    stream: tokio::net::TcpStream,
    streams: u32,
    seen: Arc<Seen>,
    handlers: Arc<(H, P)>,
) where
    H: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    P: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
{
    let connection = seen.connections.fetch_add(1, SeqCst);
    seen.open.fetch_add(1, SeqCst);
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let is_probe = head
            .headers
            .get("user-agent")
            .is_some_and(|agent| agent.as_bytes().starts_with(b"balancer-health"));
        let asked = Asked {
            head: head.clone(),
            connection,
        };
        let log = if is_probe { &seen.probes } else { &seen.asked };
        log.lock().unwrap().push(asked);
        let request = Request::from_parts(head, body);
        let answering = if is_probe {
            handlers.1(request)
        } else {
            handlers.0(request)
        };
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    seen.open.fetch_sub(1, SeqCst);
}

/// 200 with `body`.
pub(crate) fn text(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed())
}

/// The same with trailers, and no length beforehand.
pub(crate) fn with_trailers(body: &'static str, trailers: HeaderMap) -> Answer {
    let frames = [Frame::data(Bytes::from(body)), Frame::trailers(trailers)];
    Response::new(Unsized(frames.into_iter()).boxed())
}

/// 200 with what comes of `parts`, as it comes.
pub(crate) fn streamed(parts: UnboundedReceiver<Bytes>) -> Answer {
    Response::new(Ongoing(parts).boxed())
}

/// A body that is made meanwhile.
struct Ongoing(UnboundedReceiver<Bytes>);

impl http_body::Body for Ongoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

/// A body whose length nobody knows.
struct Unsized(std::array::IntoIter<Frame<Bytes>, 2>);

impl http_body::Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// Answers at once.
pub(crate) fn ready(answer: Answer) -> Answering {
    Box::pin(async { answer })
}

/// A server whose every connection is served by a script, on a thread of its own.
pub(crate) struct RawH2 {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl RawH2 {
    /// `script` gets the number of the connection, from 0, and the connection after both sides' first SETTINGS. The
    /// connection ends with it.
    pub(crate) fn new(
        script: impl Fn(usize, &mut Wire) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (script, connections) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, number) = (script.clone(), counted.fetch_add(1, SeqCst));
                thread::spawn(move || {
                    let _ = Wire::accept(stream).and_then(|mut wire| {
                        let ended = script(number, &mut wire);
                        let _ = wire.stream.shutdown(std::net::Shutdown::Both);
                        ended
                    });
                });
            }
        });
        Self {
            address,
            connections,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// The server's side of a connection, frame by frame.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    const WINDOW_UPDATE: u8 = 8;
    const END_HEADERS: u8 = 4;
    const FRAME: usize = 16384; // the largest frame nobody has to agree to

    fn accept(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface)?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut wire = Self { stream };
        wire.write(Frames::SETTINGS, 0, 0, &[])?;
        Ok(wire)
    }

    pub(crate) fn write(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        Wired::write_to(&mut self.stream, (kind, flags, stream), payload)
    }

    /// The next frame; settings and pings are answered on the way.
    pub(crate) fn read(&mut self) -> io::Result<Wired> {
        Wired::read_from(&mut self.stream)
    }

    /// Reads up to the head of the next request: its stream.
    pub(crate) fn head(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.read()?;
            if frame.kind == Frames::HEADERS {
                return Ok(frame.stream);
            }
        }
    }

    /// Reads up to the end of the next request that ends: its stream and body.
    pub(crate) fn request(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut body = Vec::new();
        loop {
            let frame = self.read()?;
            match frame.kind {
                Frames::DATA => {
                    body.extend(&frame.payload);
                    self.let_send(0, frame.payload.len())?;
                    if frame.flags & Frames::END_STREAM == 0 {
                        self.let_send(frame.stream, frame.payload.len())?;
                    }
                }
                Frames::HEADERS => {}
                _ => continue,
            }
            if frame.flags & Frames::END_STREAM != 0 {
                return Ok((frame.stream, body));
            }
        }
    }

    /// Lets the other side send so much more on `stream`, or, with 0, on all of them together.
    pub(crate) fn let_send(&mut self, stream: u32, bytes: usize) -> io::Result<()> {
        let Some(bytes) = u32::try_from(bytes).ok().filter(|bytes| *bytes > 0) else {
            return Ok(());
        };
        self.write(Self::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
    }

    /// 200, with this much of a body.
    pub(crate) fn begin_answer(&mut self, stream: u32, body: &[u8]) -> io::Result<()> {
        // :status 200, by its place in the static table (RFC 7541 Appendix A).
        self.write(Frames::HEADERS, Self::END_HEADERS, stream, &[0x88])?;
        self.write(Frames::DATA, 0, stream, body)
    }

    /// 200 with `body`.
    pub(crate) fn answer(&mut self, stream: u32, body: &[u8]) -> io::Result<()> {
        self.write(Frames::HEADERS, Self::END_HEADERS, stream, &[0x88])?;
        for piece in body.chunks(Self::FRAME) {
            self.write(Frames::DATA, 0, stream, piece)?;
        }
        self.write(Frames::DATA, Frames::END_STREAM, stream, &[])
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.write(Frames::RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub(crate) fn go_away(&mut self, last: u32, code: u32) -> io::Result<()> {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.write(Frames::GOAWAY, 0, 0, &payload)
    }

    /// Reads until `stream` is reset: with which code.
    pub(crate) fn reset_of(&mut self, stream: u32) -> io::Result<u32> {
        loop {
            let frame = self.read()?;
            if frame.kind == Frames::RST_STREAM && frame.stream == stream {
                let code: [u8; 4] = frame.payload.try_into().expect("four bytes");
                return Ok(u32::from_be_bytes(code));
            }
        }
    }
}
