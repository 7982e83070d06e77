//! One HTTP/1.1 connection to an endpoint.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::connection::{OpenError, SendError, Sent, open, wait};
use crate::message::received::Received;
use crate::message::sent_head;
use crate::message::upload::{Kept, Progress, RequestBody};
use crate::net::shared::SharedStream;
use crate::units::ByteSize;
use crate::upstream::Endpoint;

/// An open connection to an endpoint, in use by one request or idle. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<RequestBody>,
    /// Drives the connection. Ended with it: hyper's own task stays alive when an endpoint answers before it has taken
    /// the whole request body (hyper #4176).
    task: JoinHandle<Bytes>,
    stream: SharedStream,
    endpoint: Arc<Endpoint>,
    opened: Instant,
    /// When the last request was on its way, or sooner.
    asked: Instant,
    /// [`Endpoint::moves`] when it was opened.
    moves: u32,
    /// One timer for all requests: moving its deadline onwards costs next to nothing.
    timer: Pin<Box<Sleep>>,
    idle: Cell<bool>,
    /// When the endpoint closed it, as far as is known.
    closed: Rc<Cell<Option<Instant>>>,
    /// For how long it had been idle when it was taken for its last request.
    rested: Cell<Duration>,
    /// The body of the request that was sent last, until that is settled.
    body: Kept,
}

impl Connection {
    /// Connects to `endpoint` at `address` within `limit`, TLS handshake included. What `preface` holds goes before all else.
    pub async fn open(
        endpoint: &Arc<Endpoint>,
        address: SocketAddr,
        limit: Duration,
        preface: Option<&[u8]>,
    ) -> Result<Self, OpenError> {
        let moves = endpoint.moves();
        let stream = SharedStream::new(open(endpoint, address, limit, preface).await?);
        let (sender, connection) = Builder::new()
            .handshake(TokioIo::new(stream.clone()))
            .await
            .map_err(|_| OpenError::Failed)?;
        let closed = Rc::<Cell<Option<Instant>>>::default();
        let ended = Rc::clone(&closed);
        let task = tokio::task::spawn_local(async move {
            // What fails shows where the request waits. Not shut down here: what follows a 101 goes over the same stream.
            let mut connection = connection;
            let _ = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
            ended.set(Some(Instant::now()));
            connection.into_parts().read_buf
        });
        endpoint.metrics.connections_active.inc();
        let opened = Instant::now();
        Ok(Self {
            sender,
            task,
            stream,
            endpoint: Arc::clone(endpoint),
            opened,
            asked: opened,
            moves,
            timer: Box::pin(tokio::time::sleep(limit)),
            idle: Cell::new(false),
            closed,
            rested: Cell::new(Duration::ZERO),
            body: Kept::Not,
        })
    }

    /// Whose it is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// When the last request was sent on it, or sooner.
    pub(super) fn asked(&self) -> Instant {
        self.asked
    }

    /// Whether it is known to be of no more use.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.moves != self.endpoint.moves()
    }

    /// Whether an idle connection can take a request.
    pub fn is_usable(&self) -> bool {
        self.sender.is_ready() && self.moves == self.endpoint.moves() && self.stream.is_quiet()
    }

    /// It was idle from `since` on. If the endpoint has closed it meanwhile, that tells of its patience.
    #[cold]
    pub(super) fn learn(&self, since: Instant, now: Instant) {
        if let Some(closed) = self.closed.get() {
            let idle = closed.saturating_duration_since(since);
            self.endpoint.keep_alive.closed_after(idle, now);
        }
    }

    /// For how long it had been idle when it was taken for its last request.
    pub(super) fn rested(&self) -> Duration {
        self.rested.get()
    }

    /// Counts it as in use, after it was idle for so long. If the request is not sent by `until`, it is not sent on this one.
    pub(super) fn begin_use(&self, rested: Duration, until: Option<Instant>) {
        self.rested.set(rested);
        self.stream.use_until(until);
        if self.idle.replace(false) {
            self.endpoint.metrics.connections_idle.dec();
            self.endpoint.metrics.connections_active.inc();
        }
    }

    /// Counts it as idle.
    pub(super) fn end_use(&self) {
        if !self.idle.replace(true) {
            self.endpoint.metrics.connections_active.dec();
            self.endpoint.metrics.connections_idle.inc();
        }
    }

    /// After a 101 response: the stream, and what came over it after that response. HTTP is spoken here no more.
    pub async fn switch(&mut self) -> (SharedStream, Bytes) {
        let early = (&mut self.task).await.unwrap_or_default();
        (self.stream.clone(), early)
    }

    /// Sends `request`. What is returned is to be awaited with [`Self::response`]. Of a body up to `kept` bytes are kept, to
    /// send it again; `None`: nothing.
    ///
    /// Two steps, so that the request, which is large, moves from here straight to hyper.
    pub fn send(
        &mut self,
        mut request: Request<RequestBody>,
        kept: Option<ByteSize>,
    ) -> impl Future<Output = Sent> + use<> {
        self.body = if request.body().is_empty() {
            Kept::Empty
        } else {
            match kept {
                // One that is held back is asked for by this endpoint, which cannot be done twice.
                Some(kept) if !request.body().is_held_back() => {
                    request.body_mut().keep(kept.as_usize())
                }
                Some(_) | None => Kept::Not,
            }
        };
        self.stream.await_head();
        self.sender.try_send_request(request)
    }

    /// Waits for the head of the response to what was `sent` at `since`: for `limit`, counted anew while the request's body
    /// (`upload`) moves or is waited for.
    pub async fn response(
        &mut self,
        sent: Pin<&mut impl Future<Output = Sent>>,
        (since, limit): (Instant, Duration),
        upload: Option<&Progress>,
    ) -> Result<Response<Received>, SendError> {
        self.asked = since;
        let timer = &mut self.timer;
        timer.as_mut().reset((since + limit).into());
        let mut error = match wait(sent, timer.as_mut(), limit, upload).await {
            Some(Ok(response)) => return Ok(response.map(Received::Incoming)),
            Some(Err(error)) => error,
            None => return Err(SendError::Timeout),
        };
        if let Some(request) = error.take_message() {
            return Err(SendError::Unsent(Box::new(request)));
        }
        let error = error.into_error();
        if self.stream.nothing_was_written()
            && let Some(request) = self.again()
        {
            return Err(SendError::Unsent(request));
        }
        Err(SendError::Failed(error.into()))
    }

    /// What there is of the body of the request that was sent last.
    pub(super) fn body(&self) -> &Kept {
        &self.body
    }

    /// The request that was sent last, anew, if that can be done. This connection is of no more use then, unless the whole
    /// request had been sent.
    #[cold]
    pub(super) fn again(&self) -> Option<Box<Request<RequestBody>>> {
        let body = self.body.again()?;
        let head = self.stream.with_head(sent_head::read)?;
        Some(Box::new(head.map(|()| body)))
    }

    /// The request goes elsewhere, with what was kept of it.
    pub(super) fn pass_on(&mut self) {
        self.body = Kept::Not;
    }

    /// The response is taken: what was kept of the request is let go.
    pub(super) fn settle(&mut self) {
        if let Kept::Begin(body) = &self.body {
            body.forget();
            self.body = Kept::Not;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        if self.idle.get() {
            self.endpoint.metrics.connections_idle.dec();
        } else {
            self.endpoint.metrics.connections_active.dec();
        }
    }
}
