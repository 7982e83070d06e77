//! One HTTP/1.1 connection to an endpoint.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::{Sleep, timeout_at};

use crate::message::upload::{Progress, RequestBody};
use crate::net::connect::{ConnectError, connect, is_own_shortage};
use crate::net::shared::SharedStream;
use crate::net::transport::Transport;
use crate::tls::TlsError;
use crate::upstream::Endpoint;

/// An open connection to an endpoint, in use by one request or idle. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<RequestBody>,
    /// Drives the connection. Ended with it: hyper's own task stays alive when an endpoint answers before it has taken
    /// the whole request body (hyper #4176).
    task: AbortHandle,
    stream: SharedStream,
    endpoint: Arc<Endpoint>,
    opened: Instant,
    /// [`Endpoint::moves`] when it was opened.
    moves: u32,
    /// One timer for all requests: moving its deadline onwards costs next to nothing.
    timer: Pin<Box<Sleep>>,
    idle: std::cell::Cell<bool>,
}

/// Why there is no connection. Nothing of a request has been sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// No answer in time, or no end of the TLS handshake.
    #[error("connecting timed out")]
    Timeout,
    /// The endpoint refuses connections.
    #[error("connection refused")]
    Refused,
    /// It cannot be reached.
    #[error("connecting failed")]
    Failed,
    /// This machine is out of descriptors, memory or ports.
    #[error("out of descriptors, memory or ports")]
    Exhausted,
    /// It does not prove to be the endpoint.
    #[error("certificate not accepted")]
    Certificate,
    /// It agrees to another protocol.
    #[error("protocol not agreed to")]
    Protocol,
    /// The TLS handshake failed otherwise.
    #[error("TLS handshake failed")]
    Tls,
}

impl From<ConnectError> for OpenError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Timeout { .. } => Self::Timeout,
            ConnectError::Failed { source, .. } if is_own_shortage(&source) => Self::Exhausted,
            ConnectError::Failed { source, .. }
                if source.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                Self::Refused
            }
            ConnectError::Failed { .. } => Self::Failed,
        }
    }
}

impl From<TlsError> for OpenError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Certificate(_) => Self::Certificate,
            TlsError::Protocol(_) => Self::Protocol,
            TlsError::Handshake(_) => Self::Tls,
        }
    }
}

/// Opens what bytes to `endpoint` at `address` go through, within `limit`.
async fn open(
    endpoint: &Endpoint,
    address: SocketAddr,
    limit: Duration,
) -> Result<Transport, OpenError> {
    let deadline = tokio::time::Instant::now() + limit;
    let stream = connect(address, limit).await?;
    match timeout_at(deadline, endpoint.secure(stream)).await {
        Ok(secured) => Ok(secured?),
        Err(_) => Err(OpenError::Timeout),
    }
}

/// Why a request got no response.
#[derive(Debug)]
pub enum SendError {
    /// Not a byte of it was sent; here it is again, body untouched.
    Unsent(Box<Request<RequestBody>>),
    /// The connection failed after something had been sent.
    Failed(hyper::Error),
    /// No response head in time.
    Timeout,
}

impl Connection {
    /// Connects to `endpoint` at `address` within `limit`, TLS handshake included.
    pub async fn open(
        endpoint: &Arc<Endpoint>,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Self, OpenError> {
        let moves = endpoint.moves();
        let stream = SharedStream::new(open(endpoint, address, limit).await?);
        let (sender, connection) = Builder::new()
            .handshake(TokioIo::new(stream.clone()))
            .await
            .map_err(|_| OpenError::Failed)?;
        let task = tokio::task::spawn_local(async move {
            // What fails shows where the request waits.
            let _ = connection.await;
        });
        endpoint.metrics.connections_active.inc();
        Ok(Self {
            sender,
            task: task.abort_handle(),
            stream,
            endpoint: Arc::clone(endpoint),
            opened: Instant::now(),
            moves,
            timer: Box::pin(tokio::time::sleep(limit)),
            idle: std::cell::Cell::new(false),
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

    /// Whether it is known to be of no more use.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.moves != self.endpoint.moves()
    }

    /// Whether an idle connection can take a request.
    pub fn is_usable(&self) -> bool {
        self.sender.is_ready() && self.moves == self.endpoint.moves() && self.stream.is_quiet()
    }

    /// Counts it as in use.
    pub(super) fn begin_use(&self) {
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

    /// Sends `request`. What is returned is to be awaited with [`Self::response`].
    ///
    /// Two steps, so that the request, which is large, moves from here straight to hyper.
    pub fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        self.sender.try_send_request(request)
    }

    /// Waits for the head of the response to what was `sent` at `since`: for `limit`, counted anew while the request's body
    /// (`upload`) moves.
    pub async fn response(
        &mut self,
        mut sent: Pin<&mut impl Future<Output = Sent>>,
        (since, limit): (Instant, Duration),
        upload: Option<&Progress>,
    ) -> Result<Response<Incoming>, SendError> {
        let timer = &mut self.timer;
        timer.as_mut().reset((since + limit).into());
        let mut seen = upload.map(Progress::bytes);
        poll_fn(|cx| match sent.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None => SendError::Failed(error.into_error()),
            })),
            Poll::Pending => loop {
                ready!(timer.as_mut().poll(cx));
                let moved = upload.map(Progress::bytes);
                if moved == seen {
                    return Poll::Ready(Err(SendError::Timeout));
                }
                // A long upload is not a slow endpoint.
                seen = moved;
                timer.as_mut().reset(tokio::time::Instant::now() + limit);
            },
        })
        .await
    }
}

/// What comes of a request that was sent.
type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

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
