//! HTTP/2 connections to endpoints: each carries many requests at once.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection as Driver, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{sleep, sleep_until, timeout_at};

use super::connection::{OpenError, SendError, open, wait};
use crate::message::upload::{Kept, Progress, RequestBody};
use crate::net::local::LocalExecutor;
use crate::net::shared::SharedStream;
use crate::upstream::Endpoint;

/// Requests at once on one connection, where the endpoint takes more: what shares a connection shares its losses, and one
/// TCP stream.
const STREAMS: usize = 100;
/// What an endpoint may send of one response that a client has not taken yet. 256 KiB in flight are 250 MiB/s at 1 ms.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Of all responses of a connection together: clients that take nothing, all but one, do not hold up the last one. That is
/// 25 MiB at the very most, and nothing while clients keep up.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// Bytes of one request's body that wait for the endpoint.
const SEND_BUFFER: usize = 64 * 1024;
/// A response's head. hyper's 16 KiB are less than some trailers and cookies need.
const HEADER_LIST: u32 = 64 * 1024;
/// Streams given up and remembered for a second, some hundred bytes each.
const RESET_STREAMS: usize = 512;
/// An endpoint that has gone without a word is noticed within 40 s, in use or not.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether the endpoint's first SETTINGS have come: nobody is woken by them.
const LOOK: Duration = Duration::from_millis(1);

/// What drives a connection.
type Driving = Driver<TokioIo<SharedStream>, RequestBody, LocalExecutor>;

/// An open connection, shared by the requests on it. Closed when the last one lets go of it.
#[derive(Debug)]
pub(super) struct Shared {
    sender: SendRequest<RequestBody>,
    driver: Rc<RefCell<Option<Driving>>>,
    stream: SharedStream,
    endpoint: Arc<Endpoint>,
    opened: Instant,
    /// [`Endpoint::moves`] when it was opened.
    moves: u32,
    in_flight: Cell<usize>,
    idle_since: Cell<Instant>,
    /// A response has ended before the endpoint had taken its request's body, of which hyper does not let go: nothing new
    /// goes here, and with the last request it is cut.
    is_stuck: Cell<bool>,
}

impl Shared {
    /// Connects to `endpoint` at `address` within `limit`: TLS handshake and the endpoint's first SETTINGS included.
    ///
    /// These tell how many requests it takes at once (RFC 9113 §3.4), so that none is sent to be refused; and who does not
    /// speak HTTP/2 does not send them, so that nothing is sent to it.
    pub(super) async fn open(
        endpoint: &Arc<Endpoint>,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Rc<Self>, OpenError> {
        let deadline = tokio::time::Instant::now() + limit;
        let moves = endpoint.moves();
        let stream = SharedStream::new(open(endpoint, address, limit, None).await?);
        let settled = async {
            let (sender, driver) = Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                // None, as far as is known: then the first SETTINGS cannot be missed.
                .initial_max_send_streams(0)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEADER_LIST)
                .max_send_buf_size(SEND_BUFFER)
                // Clients leave: what is still on its way to them is not to be taken for a violation.
                .max_concurrent_reset_streams(RESET_STREAMS)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(stream.clone()))
                .await
                .map_err(|_| OpenError::Failed)?;
            let driver = Rc::new(RefCell::new(Some(driver)));
            tokio::task::spawn_local(drive(Rc::clone(&driver)));
            while capacity(&driver) == 0 {
                if sender.is_closed() {
                    return Err(OpenError::Protocol);
                }
                sleep(LOOK).await;
            }
            Ok((sender, driver))
        };
        let (sender, driver) = match timeout_at(deadline, settled).await {
            Ok(settled) => settled?,
            Err(_) => return Err(OpenError::Timeout),
        };
        endpoint.metrics.connections_idle.inc();
        let now = Instant::now();
        Ok(Rc::new(Self {
            sender,
            driver,
            stream,
            endpoint: Arc::clone(endpoint),
            opened: now,
            moves,
            in_flight: Cell::new(0),
            idle_since: Cell::new(now),
            is_stuck: Cell::new(false),
        }))
    }

    /// Whose it is.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Whether no request is on it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// Whether it has carried nothing for longer than `limit`.
    pub(super) fn is_idle_for(&self, now: Instant, limit: Duration) -> bool {
        self.is_idle() && now.saturating_duration_since(self.idle_since.get()) > limit
    }

    /// Whether it was closed, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether the endpoint has closed it, not we.
    pub(super) fn is_closed_by_endpoint(&self) -> bool {
        self.is_closed() && !self.is_stuck.get()
    }

    /// Whether it may take requests at all.
    pub(super) fn takes_more(&self, now: Instant, max_age: Duration) -> bool {
        !self.is_closed()
            && !self.is_stuck.get()
            && self.moves == self.endpoint.moves()
            && now.saturating_duration_since(self.opened) <= max_age
    }

    /// How many requests it takes at once: what the endpoint last said, or our own limit.
    pub(super) fn capacity(&self) -> usize {
        capacity(&self.driver)
    }

    /// Whether it takes one more request now.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.get() < self.capacity()
    }

    /// One more request on it, where there is room.
    pub(super) fn join(self: &Rc<Self>) -> Option<Stream> {
        if !self.has_room() {
            return None;
        }
        if self.is_idle() {
            self.endpoint.metrics.connections_idle.dec();
            self.endpoint.metrics.connections_active.inc();
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Some(Stream {
            shared: Rc::clone(self),
            head: None,
            body: Kept::Empty,
            is_settled: false,
        })
    }

    fn leave(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        if !self.is_idle() {
            return;
        }
        self.idle_since.set(Instant::now());
        self.endpoint.metrics.connections_active.dec();
        self.endpoint.metrics.connections_idle.inc();
        if self.is_stuck.get() {
            self.stream.cut();
        }
    }
}

/// Drives a connection to its end. What fails shows where requests wait: those that hyper has not taken yet are given back
/// when the driver is dropped.
fn drive(driver: Rc<RefCell<Option<Driving>>>) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        let mut driver = driver.borrow_mut();
        if let Some(running) = &mut *driver {
            let _ = ready!(Pin::new(running).poll(cx));
        }
        *driver = None;
        Poll::Ready(())
    })
}

fn capacity(driver: &RefCell<Option<Driving>>) -> usize {
    // Borrowed only while it is polled, and nobody asks then.
    let driver = driver.try_borrow();
    let streams = driver.as_ref().ok().and_then(|driver| driver.as_ref());
    streams.map_or(0, |driver| driver.current_max_send_streams().min(STREAMS))
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is on it: who is, holds it.
        self.endpoint.metrics.connections_idle.dec();
    }
}

/// One request on a shared connection. Dropping it resets only the request's own stream, unless that has ended.
#[derive(Debug)]
pub struct Stream {
    shared: Rc<Shared>,
    /// The head of the request that was sent, until that is settled.
    head: Option<Box<Request<()>>>,
    /// The request's body.
    body: Kept,
    /// Its response has come.
    is_settled: bool,
}

impl Stream {
    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// Sends `request` at `since`, and waits for the head of its response: for `limit`, counted anew while the request's body
    /// (`upload`) moves or is waited for. At most `kept` bytes of that are kept.
    pub fn exchange<'a>(
        &'a mut self,
        mut request: Request<RequestBody>,
        (since, limit): (Instant, Duration),
        (upload, kept): (Option<&'a Progress>, usize),
    ) -> Pin<Box<dyn Future<Output = Result<Response<Incoming>, SendError>> + 'a>> {
        self.body = request.body_mut().keep(kept);
        // hyper takes the head with it, and does not give it back.
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        self.head = Some(Box::new(head));
        let sent = self.shared.sender.clone().try_send_request(request);
        Box::pin(async move {
            let timer = pin!(sleep_until((since + limit).into()));
            let mut error = match wait(pin!(sent), timer, limit, upload).await {
                Some(Ok(mut response)) => {
                    // What is passed on has the version of the client's connection.
                    *response.version_mut() = Version::HTTP_11;
                    return Ok(response);
                }
                Some(Err(error)) => error,
                None => return Err(SendError::Timeout),
            };
            if let Some(request) = error.take_message() {
                return Err(SendError::Unsent(Box::new(request)));
            }
            let error = error.into_error();
            Err(match unprocessed(&error) {
                Some(by) => SendError::Refused(self.again(), by),
                None => SendError::Failed(error),
            })
        })
    }

    /// What there is of the body of the request that was sent last.
    pub(super) fn body(&self) -> &Kept {
        &self.body
    }

    /// The request that was sent, anew, if that can be done.
    pub(super) fn again(&mut self) -> Option<Box<Request<RequestBody>>> {
        let body = self.body.again()?;
        self.head.take().map(|head| Box::new(head.map(|()| body)))
    }

    /// The response is taken: what was kept of the request is let go.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
        self.head = None;
        if let Kept::Begin(body) = &self.body {
            body.forget();
        }
    }
}

/// How an endpoint says that it has done nothing with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It takes no more on this connection.
    Connection,
    /// It did not take this one.
    Stream,
}

/// Whether the endpoint says that it has not processed a request (RFC 9113 §8.7), and how.
///
/// h2 0.4.20 ends a stream with the error of a GOAWAY that was received in two cases only: its number is above the last one
/// that the GOAWAY names (`Streams::recv_go_away`), or it was to be opened after that (`ensure_no_conn_error`). Streams at or
/// below that number go on; when they are cut later, their error is one of input and output.
fn unprocessed(error: &hyper::Error) -> Option<Refusal> {
    let error = h2_error(error).filter(|error| error.is_remote())?;
    if error.is_go_away() {
        Some(Refusal::Connection)
    } else {
        (error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Refusal::Stream)
    }
}

/// Whether it was this side that found something wrong with what the endpoint said.
pub fn is_violation(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(h2::Error::is_library)
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Before a response has come, hyper resets the stream; after that it goes on with the body.
        if let Kept::Begin(body) = &self.body
            && self.is_settled
            && !body.is_finished()
        {
            self.shared.is_stuck.set(true);
        }
        self.shared.leave();
    }
}
