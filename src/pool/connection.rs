//! What a request needs of a connection to an endpoint, whatever is spoken on it; and how one is opened.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, Sleep, timeout_at};

use super::http2::Refusal;
use super::{http1, http2};
use crate::message::received::ReceiveError;
use crate::message::upload::{Progress, RequestBody};
use crate::net::connect::{ConnectError, connect, is_own_shortage};
use crate::net::transport::Transport;
use crate::tls::TlsError;
use crate::upstream::Endpoint;

/// A connection to an endpoint, or a share in one, for one request.
#[derive(Debug)]
pub enum Connection {
    /// All of an HTTP/1.1 connection.
    Http1(http1::Connection),
    /// A stream of an HTTP/2 connection.
    Http2(http2::Stream),
}

impl Connection {
    /// The request that was sent last, anew, if that can be done. What came of it so far is not waited for any more.
    pub fn again(&mut self) -> Option<Box<Request<RequestBody>>> {
        match self {
            Self::Http1(connection) => connection.again(),
            Self::Http2(stream) => stream.again(),
        }
    }

    /// Whether the body of that is there, if it had one.
    pub fn can_be_asked_again(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.body().is_whole(),
            Self::Http2(stream) => stream.body().is_whole(),
        }
    }

    /// The request that was sent last goes elsewhere: what was kept of it is not this connection's any more.
    pub fn pass_on(&mut self) {
        match self {
            Self::Http1(connection) => connection.pass_on(),
            // It is not used for another.
            Self::Http2(_) => {}
        }
    }

    /// The response to the request that was sent last is taken: that will not be sent again.
    pub fn settle(&mut self) {
        match self {
            Self::Http1(connection) => connection.settle(),
            Self::Http2(stream) => stream.settle(),
        }
    }
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

/// A connection that was opened or joined, and whether it was there already, for other requests.
pub type Opened = Result<(Connection, bool), NotOpened>;

/// That there is no connection.
#[derive(Clone, Copy, Debug)]
pub struct NotOpened {
    /// Why.
    pub error: OpenError,
    /// It was another request that tried to open it, and tells of that.
    pub is_told: bool,
}

impl NotOpened {
    /// This one has tried.
    pub(super) fn own(error: OpenError) -> Self {
        Self {
            error,
            is_told: false,
        }
    }

    /// Another one has.
    pub(super) fn another(error: OpenError) -> Self {
        Self {
            error,
            is_told: true,
        }
    }
}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        Self::own(error)
    }
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

/// Opens what bytes to `endpoint` at `address` go through, within `limit`. What `preface` holds goes before all else.
pub(super) async fn open(
    endpoint: &Endpoint,
    address: SocketAddr,
    limit: Duration,
    preface: Option<&[u8]>,
) -> Result<Transport, OpenError> {
    let deadline = Instant::now() + limit;
    let stream = connect(address, limit, preface).await?;
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
    Failed(ReceiveError),
    /// The endpoint says that it has done nothing with it. Here it is again, unless too much of its body was sent.
    Refused(Option<Box<Request<RequestBody>>>, Refusal),
    /// No response head in time.
    Timeout,
}

/// What comes of a request that was sent over HTTP/1.1.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Waits for what comes of a request that was `sent`, until `timer` runs out, which is set anew to `limit` while the request's
/// body (`upload`) moves or its client is waited for, whose pauses have limits of their own. `None`: nothing came.
pub(super) async fn wait<T>(
    mut sent: Pin<&mut impl Future<Output = T>>,
    mut timer: Pin<&mut Sleep>,
    limit: Duration,
    upload: Option<&Progress>,
) -> Option<T> {
    if let Some(upload) = upload {
        upload.begin();
    }
    poll_fn(|cx| match sent.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(Some(sent)),
        Poll::Pending => loop {
            ready!(timer.as_mut().poll(cx));
            // A long upload is not a slow endpoint, nor is a slow client.
            let since = upload.and_then(|upload| match upload.awaited() {
                Some(_) => Some(Instant::now()),
                None => upload.moved(),
            });
            match since.map(|since| since + limit) {
                Some(due) if due > timer.deadline() => timer.as_mut().reset(due),
                Some(_) | None => return Poll::Ready(None),
            }
        },
    })
    .await
}
