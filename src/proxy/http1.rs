//! Serves HTTP/1 to one client, until its connection is closed, drained or broken.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::client::Client;
use super::deadline::{Deadline, Expired};
use super::error::ProxyError;
use super::gate::{Gate, Watch};
use super::handler::handle;
use super::local::Local;
use super::{record, reply};
use crate::message::framing::{HeadLimits, Phase, Violation};
use crate::net::relay;
use crate::snapshot::Listener;

/// After the last response, a client that is still sending gets this long to read it before the connection is reset.
const LINGER: Duration = Duration::from_secs(2);
/// And may send this much more.
const LINGER_BYTES: usize = 1 << 20;
/// hyper keeps this many header fields on its stack; told of another number it allocates for every request.
const HEADERS_ON_STACK: usize = 100;

/// Serves HTTP/1 on `stream`.
pub async fn serve_http1<S>(
    stream: S,
    local: Rc<Local>,
    client: Rc<Client>,
    listener: Arc<Listener>,
) where
    S: Stream + 'static,
{
    let limits = HeadLimits {
        head: listener.limits.header_bytes.as_usize(),
        target: listener.limits.uri_bytes.as_usize(),
        fields: listener.limits.headers,
    };
    let (mut gate, watch) = Gate::new(stream, &client, limits);
    let mut deadline = Deadline::new(&listener, &local, &client);
    let end = loop {
        let end;
        // Boxed, so that its memory can be given back while the connection is parked.
        (gate, end) = Box::pin(serve(gate, &watch, &local, &client, limits, &mut deadline)).await;
        if !matches!(end, End::Unused) {
            break end;
        }
        if let Some(end) = park(&gate, &mut deadline).await {
            break end;
        }
    };

    if let End::Switched(early) = end {
        let mut stream = gate.into_inner();
        if let Some(tunnel) = client.take_tunnel()
            && let relay::End::Failed(_) = tunnel.run(&mut stream, early, &local).await
        {
            stream.reset();
        }
        return;
    }
    // Otherwise the client has left before it could begin.
    drop(client.take_tunnel());
    let mut stream = gate.into_inner();
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
        End::Closed(_) if client.lingers() => Box::pin(linger(&mut stream)).await,
        End::Closed(_) => {}
        End::Refused(error) => Box::pin(refuse(&mut stream, error, &local, &client)).await,
        End::Unused | End::Idle | End::Switched(_) => {}
    }
    stream.hold_back();
    let _ = timeout(LINGER, stream.shutdown()).await;
}

/// Serves requests until the connection ends, or has gone without any for a while.
async fn serve<S>(
    gate: Gate<S>,
    watch: &Watch,
    local: &Rc<Local>,
    client: &Rc<Client>,
    limits: HeadLimits,
    deadline: &mut Deadline<'_>,
) -> (Gate<S>, End)
where
    S: Stream + 'static,
{
    let service = {
        let (local, client) = (Rc::clone(local), Rc::clone(client));
        service_fn(move |request| handle(Rc::clone(&local), Rc::clone(&client), request))
    };
    let mut builder = http1::Builder::new();
    if limits.fields > HEADERS_ON_STACK {
        builder.max_headers(limits.fields);
    }
    let mut connection = builder
        // The gate and the deadlines below know more: they tell a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(limits.head + 1024)
        .serve_connection(TokioIo::new(gate), service);
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
                Expired::Unused => End::Unused,
                Expired::Idle => End::Idle,
                Expired::SlowHead => End::Refused(ProxyError::HeadTimeout),
                Expired::Stalled => End::Stalled,
            })
    })
    .await;
    let parts = connection.into_parts();
    let mut gate = parts.io.into_inner();
    if matches!(end, End::Closed(Ok(()))) && client.has_tunnel() {
        // What was sent before the 101 and is no HTTP is lost: not without a word.
        let end = match watch.violation() {
            None => End::Switched(parts.read_buf),
            Some(_) => End::Stalled,
        };
        return (gate, end);
    }
    gate.unread(parts.read_buf);
    (gate, end)
}

/// Keeps an unused connection without buffers or parser, which are most of its memory, until bytes come. Otherwise: why it
/// ends.
async fn park<S: Stream>(gate: &Gate<S>, deadline: &mut Deadline<'_>) -> Option<End> {
    deadline.set_unused(true);
    let end = poll_fn(|cx| {
        if gate.poll_readable(cx).is_ready() {
            return Poll::Ready(None);
        }
        deadline
            .poll(cx, Phase::Idle, false)
            .map(|_| Some(End::Idle))
    })
    .await;
    deadline.set_unused(false);
    end
}

/// A client's stream, plain or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Lets the close that follows be a reset, so that the other side sees a failure.
    fn reset(&self);

    /// Lets what is written from here on go out with the end of the stream: as one packet, not as several.
    fn hold_back(&self);

    /// Ready when there may be something to read.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Stream for TcpStream {
    fn reset(&self) {
        // A stream that cannot be reset any more is broken already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn hold_back(&self) {
        // Its end is all that is written.
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error shows in the read that follows.
        self.poll_read_ready(cx).map(|_| ())
    }
}

impl Stream for Box<TlsStream<TcpStream>> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }

    fn hold_back(&self) {
        // For close_notify. Without it there is one packet more.
        let _ = rustix::net::sockopt::set_tcp_cork(self.get_ref().0, true);
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.get_ref().0.poll_readable(cx)
    }
}

/// Answers what never became a request.
async fn refuse<S>(stream: &mut S, error: ProxyError, local: &Rc<Local>, client: &Rc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    record::refused(local, client, error);
    let (snapshot, listener) = client.snapshot(local);
    let reply = reply::error_bytes(error, snapshot.listener(listener));
    // Who does not read the reply does not get it.
    let _ = timeout(LINGER, stream.write_all(&reply)).await;
    linger(stream).await;
}

/// How a connection ended.
enum End {
    /// hyper has seen its end.
    Closed(hyper::Result<()>),
    /// The last response was a 101: another protocol follows, of which this was read already.
    Switched(Bytes),
    /// What was sent is not taken.
    Refused(ProxyError),
    /// It has not: no request came for a while.
    Unused,
    /// No request came for too long, or it was drained.
    Idle,
    /// The client takes nothing of its response.
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
