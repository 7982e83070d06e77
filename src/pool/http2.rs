//! HTTP/2 connections to endpoints: each carries many requests at once.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection as Driver, ResponseFuture, SendRequest};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep_until, timeout_at};

use super::connection::{OpenError, SendError, open, wait};
use super::pipe::Pipe;
use crate::message::received::{self, Received};
use crate::message::upload::{Kept, Progress, RequestBody};
use crate::net::connect::keep_alive;
use crate::net::transport::Transport;
use crate::upstream::Endpoint;

/// Requests at once on one connection, where the endpoint takes more: what shares a connection shares its losses, and one
/// TCP stream.
const STREAMS: usize = 100;
/// Silence after which it is asked whether the endpoint's machine is still there, and how often then.
const WATCH_AFTER: Duration = Duration::from_secs(20);
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// What an endpoint may send of one response that a client has not taken yet. 128 KiB in flight are 125 MiB/s at 1 ms.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Of all responses of a connection together: clients that take nothing, all but one, do not hold up the last one. That is
/// 12 MiB at the very most, and nothing while clients keep up.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// What small frames of them take beside their bytes, as h2 counts it: 256 for each, less what it carries. Enough for as many
/// clients that take nothing of events of 16 bytes; without a limit an endpoint could make us keep gigabytes of single bytes.
const FRAMES_BUDGET: usize = STREAMS * (STREAM_WINDOW as usize / 16) * 240;
/// Bytes of one request's body that wait for the endpoint.
const SEND_BUFFER: usize = 64 * 1024;
/// A response's head.
const HEADER_LIST: u32 = 64 * 1024;
/// Streams given up and remembered for a second, some hundred bytes each.
const RESET_STREAMS: usize = 512;

/// An open connection, shared by the requests on it. Closed when the last one lets go of it.
#[derive(Debug)]
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    endpoint: Arc<Endpoint>,
    opened: Instant,
    /// [`Endpoint::moves`] when it was opened.
    moves: u32,
    in_flight: Cell<usize>,
    idle_since: Cell<Instant>,
}

/// What is known of a connection by whoever drives it.
#[derive(Debug, Default)]
struct State {
    /// Its end has come.
    has_ended: Cell<bool>,
    /// How many requests the endpoint takes at once.
    streams: Cell<usize>,
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
        let stream = open(endpoint, address, limit, None).await?;
        keep_watch(&stream);
        let settled = async {
            let (sender, mut driver) = Builder::new()
                .enable_push(false)
                // None, as far as is known: then the first SETTINGS cannot be missed.
                .initial_max_send_streams(0)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEADER_LIST)
                .max_send_buffer_size(SEND_BUFFER)
                // Clients leave: what is still on its way to them is not to be taken for a violation.
                .max_concurrent_reset_streams(RESET_STREAMS)
                .max_local_error_reset_streams(None)
                .data_frame_budget(FRAMES_BUDGET)
                .handshake::<_, Bytes>(stream)
                .await
                .map_err(|_| OpenError::Failed)?;
            let settled = poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
                Poll::Ready(_) => Poll::Ready(Err(OpenError::Protocol)),
                Poll::Pending if sender.current_max_send_streams() == 0 => Poll::Pending,
                Poll::Pending => Poll::Ready(Ok(())),
            });
            settled.await?;
            Ok::<_, OpenError>((sender, driver))
        };
        let (sender, driver) = match timeout_at(deadline, settled).await {
            Ok(settled) => settled?,
            Err(_) => return Err(OpenError::Timeout),
        };
        let state = Rc::<State>::default();
        state.streams.set(sender.current_max_send_streams());
        spawn_local(drive(driver, Rc::clone(&state)));
        endpoint.metrics.connections_idle.inc();
        let now = Instant::now();
        Ok(Rc::new(Self {
            sender,
            state,
            endpoint: Arc::clone(endpoint),
            opened: now,
            moves,
            in_flight: Cell::new(0),
            idle_since: Cell::new(now),
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
        self.state.has_ended.get()
    }

    /// Whether it may take requests at all.
    pub(super) fn takes_more(&self, now: Instant, max_age: Duration) -> bool {
        !self.is_closed()
            && self.moves == self.endpoint.moves()
            && now.saturating_duration_since(self.opened) <= max_age
    }

    /// How many requests it takes at once: what the endpoint last said, or our own limit.
    pub(super) fn capacity(&self) -> usize {
        self.state.streams.get().min(STREAMS)
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
            upload: None,
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
    }
}

/// Drives a connection to its end. What fails shows where requests wait.
fn drive(mut driver: Driver<Transport, Bytes>, state: Rc<State>) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        let polled = Pin::new(&mut driver).poll(cx);
        state.streams.set(driver.max_concurrent_send_streams());
        state.has_ended.set(polled.is_ready());
        polled.map(|_| ())
    })
}

/// An endpoint whose machine has gone without a word is noticed within 40 s. By TCP: servers of gRPC take it ill to be asked by
/// PING more often than every five minutes. One that is there and says nothing is the time limits' and the checks' to notice.
fn keep_watch(stream: &Transport) {
    // A connection without that is as good until then.
    let _ = keep_alive(stream.socket(), WATCH_AFTER, WATCH_EVERY);
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
    /// What still sends that while the response goes on already.
    upload: Option<AbortHandle>,
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
    ) -> Pin<Box<dyn Future<Output = Result<Response<Received>, SendError>> + 'a>> {
        self.body = request.body_mut().keep(kept);
        Box::pin(async move {
            let Ok((response, mut pipe)) = self.send(request) else {
                // The connection takes no more.
                return Err(match self.again() {
                    Some(request) => SendError::Unsent(request),
                    None => SendError::Refused(None, Refusal::Connection),
                });
            };
            let timer = pin!(sleep_until((since + limit).into()));
            let mut response = pin!(response);
            let answer = poll_fn(|cx| {
                if let Some(sending) = &mut pipe
                    && Pin::new(sending).poll(cx).is_ready()
                {
                    pipe = None;
                }
                response.as_mut().poll(cx)
            });
            let error = match wait(pin!(answer), timer, limit, upload).await {
                Some(Ok(response)) => {
                    if let Some(pipe) = pipe {
                        // Each goes on without the other: a client may send all before it takes anything.
                        self.upload = Some(spawn_local(pipe).abort_handle());
                    }
                    let mut response = received::Stream::of(response).map(Received::Stream);
                    // What is passed on has the version of the client's connection.
                    *response.version_mut() = Version::HTTP_11;
                    return Ok(response);
                }
                Some(Err(error)) => error,
                None => return Err(SendError::Timeout),
            };
            Err(match unprocessed(&error) {
                Some(by) => SendError::Refused(self.again(), by),
                None => SendError::Failed(error.into()),
            })
        })
    }

    /// Sends the head of `request`, and makes what sends its body.
    fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<(ResponseFuture, Option<Pipe>), h2::Error> {
        let (mut head, body) = request.into_parts();
        if let Some(length) = body.size_hint().exact()
            && (length != 0 || expects_body(&head.method))
        {
            let fields = &mut head.headers;
            fields
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| HeaderValue::from(length));
        }
        let head = Request::from_parts(head, ());
        // The connection takes it, and does not give it back.
        self.head = Some(Box::new(head.clone()));
        let has_ended = body.is_end_stream();
        // Each has a handle of its own: what waits in one, where the endpoint lowers its limit, does not refuse others.
        let (response, to) = self.shared.sender.clone().send_request(head, has_ended)?;
        Ok((response, (!has_ended).then(|| Pipe::new(body, to))))
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

/// Whether a request of this method is expected to have a body, so that its absence is said (RFC 9110 §8.6).
fn expects_body(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT
    )
}

/// Whether the endpoint says that it has not processed a request (RFC 9113 §8.7), and how.
///
/// h2 0.4.20 ends a stream with the error of a GOAWAY that was received in two cases only: its number is above the last one
/// that the GOAWAY names (`Streams::recv_go_away`), or it was to be opened after that (`ensure_no_conn_error`). Streams at or
/// below that number go on; when they are cut later, their error is one of input and output.
fn unprocessed(error: &h2::Error) -> Option<Refusal> {
    if !error.is_remote() {
        return None;
    }
    if error.is_go_away() {
        Some(Refusal::Connection)
    } else {
        (error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Refusal::Stream)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            // Nobody asks for it any more: with it goes its stream.
            upload.abort();
        }
        self.shared.leave();
    }
}
