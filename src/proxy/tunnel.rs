//! From a response that agrees to another protocol to the end of the conversation: bytes pass both ways, unread.
//!
//! Nothing of what a client sends reaches an endpoint as anything but HTTP before that endpoint has said 101; what was sent
//! too early goes first. A tunnel counts as a request in flight, is logged when it ends, and outlives reloads and drains.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol as Extended;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::error::ProxyError;
use super::local::Local;
use super::open_tunnels::OpenTunnel;
use super::record::{Record, ResponseBody};
use crate::message::upgrade::{self, Protocol};
use crate::net::cut::Cut;
use crate::net::relay::{End, relay};
use crate::net::shared::SharedStream;

/// What the client of a request wants to change its connection to.
#[derive(Debug)]
pub struct Asked {
    protocol: Protocol,
    stream: Option<Stream>,
}

/// An HTTP/2 stream that becomes the tunnel (RFC 8441).
#[derive(Debug)]
struct Stream {
    opened: OnUpgrade,
    /// What the endpoint has to answer to the key that HTTP/1.1 needs and HTTP/2 has not.
    accept: HeaderValue,
}

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// Whether `request` is an HTTP/2 CONNECT with `:protocol` (RFC 8441 §4). Without it, it asks for a forward proxy, which this is
/// not.
pub fn is_extended<B>(request: &Request<B>) -> bool {
    *request.method() == Method::CONNECT && request.extensions().get::<Extended>().is_some()
}

/// Makes `request`, an extended CONNECT, the WebSocket request of HTTP/1.1 that it stands for (RFC 8441 §5), where the route
/// allows it.
pub fn translate<B>(
    request: &mut Request<B>,
    allowed: &[Box<str>],
    nonce: [u8; 16],
) -> Result<Box<Asked>, ProxyError> {
    let protocol = request.extensions_mut().remove::<Extended>();
    let is_websocket = |name: &str| name.eq_ignore_ascii_case(upgrade::WEBSOCKET);
    if !protocol.is_some_and(|protocol| is_websocket(protocol.as_str()))
        || !allowed.iter().any(|name| is_websocket(name))
    {
        return Err(ProxyError::Upgrade);
    }
    let opened = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    let key = upgrade::websocket_key(nonce);
    let accept = upgrade::websocket_accept(&key);
    request.headers_mut().insert(KEY, key);
    Ok(Box::new(Asked {
        protocol: Protocol::websocket(),
        stream: Some(Stream { opened, accept }),
    }))
}

impl Asked {
    /// By an HTTP/1.1 request.
    pub fn new(protocol: Protocol) -> Box<Self> {
        Box::new(Self {
            protocol,
            stream: None,
        })
    }

    /// Whether an HTTP/2 stream is to be the tunnel.
    pub fn is_extended(&self) -> bool {
        self.stream.is_some()
    }

    /// Says so to the endpoint.
    pub fn set(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, self.protocol.value().clone());
    }

    /// Whether a 101 response agrees to that and nothing else.
    pub fn is_agreed(&self, headers: &HeaderMap) -> bool {
        let accepted = self
            .stream
            .as_ref()
            .is_none_or(|stream| headers.get(ACCEPT) == Some(&stream.accept));
        accepted && self.protocol.is_agreed(headers)
    }
}

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// What the client gets of an endpoint's `response` to what it `asked`. After a 101 the tunnel begins: over HTTP/1 when the
/// connection's task takes it from `client`, over HTTP/2 in a task of its own.
pub async fn begin(
    asked: Box<Asked>,
    mut response: Response<ResponseBody>,
    mut record: Box<Record>,
    (local, client): (&Rc<Local>, &Rc<Client>),
) -> (Response<ResponseBody>, Option<Box<Record>>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return (response, Some(record));
    }
    let status = match asked.stream {
        None => StatusCode::SWITCHING_PROTOCOLS,
        Some(_) => StatusCode::OK,
    };
    let Some((far, early, endpoint)) = record.take_stream(status).await else {
        return (response, Some(record));
    };
    let (cut, open) = local.tunnels.add(&endpoint);
    let tunnel = Tunnel {
        far,
        early,
        record,
        cut,
        _open: (open, Open::new(endpoint.metrics.tunnels.clone())),
    };
    let headers = response.headers_mut();
    // Without a meaning here (RFC 9110 §15.2), and over HTTP/2 one that is wrong.
    headers.remove(header::CONTENT_LENGTH);
    match asked.stream {
        None => {
            asked.set(headers);
            client.set_tunnel(tunnel);
        }
        Some(stream) => {
            headers.remove(ACCEPT);
            *response.status_mut() = status;
            *response.version_mut() = Version::HTTP_2;
            let local = Rc::clone(local);
            tokio::task::spawn_local(async move {
                // Without it the client has left.
                if let Ok(near) = stream.opened.await {
                    tunnel
                        .run(&mut TokioIo::new(near), Bytes::new(), &local)
                        .await;
                }
            });
        }
    }
    (response, None)
}

/// A client and an endpoint that speak past us.
#[derive(Debug)]
pub struct Tunnel {
    far: SharedStream,
    /// What the endpoint has said already.
    early: Bytes,
    record: Box<Record>,
    /// Comes when its endpoint has drained for long enough.
    cut: Rc<Cut>,
    _open: (OpenTunnel, Open),
}

impl Tunnel {
    /// Passes bytes on until it ends. `early` is what the client has said already.
    pub async fn run<S>(mut self, near: &mut S, early: Bytes, local: &Local) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = self.record.tunnel_limits();
        let early = (early, self.early);
        let with = (&local.scratch, &*self.cut);
        let relayed = relay(near, &mut self.far, early, limits, with).await;
        let error = match relayed.end {
            End::Idle => Some(ProxyError::TunnelIdle),
            // Who breaks off a conversation without a word is nobody's fault that could be told from here.
            End::Closed | End::Failed(_) => None,
            // The operator's wish, in good time.
            End::Cut => None,
        };
        self.record.end_tunnel((relayed.forth, relayed.back), error);
        relayed.end
    }
}

/// Counts an open tunnel.
#[derive(Debug)]
struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
