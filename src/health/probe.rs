//! One question to an endpoint, on a connection of its own: a pooled one would hide that it accepts no more.

use std::future::Future;
use std::io;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::config::Probe;
use crate::message::proxy_protocol::encode;
use crate::tls::TlsError;
use crate::upstream::Endpoint;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Its name leads nowhere.
    #[error("name is not resolved")]
    Unresolved,
    /// No connection.
    #[error("connect failed: {0}")]
    Connect(io::Error),
    /// No TLS.
    #[error("{0}")]
    Tls(TlsError),
    /// Not HTTP, or closed before a response.
    #[error("no response: {0}")]
    Http(hyper::Error),
    /// Another status than expected.
    #[error("status {0}")]
    Status(StatusCode),
    /// Not done in time.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
}

/// Asks `endpoint`, over TLS and in HTTP/2 where requests go so; a TCP probe ends with the connection. The caller limits the time.
pub async fn probe(endpoint: &Endpoint, probe: &Probe) -> Result<(), ProbeError> {
    let address = endpoint.socket_address().ok_or(ProbeError::Unresolved)?;
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(ProbeError::Connect)?;
    if let Some(version) = endpoint.proxy_protocol() {
        // For nobody: this is no client's connection.
        stream
            .write_all(&encode(version, None))
            .await
            .map_err(ProbeError::Connect)?;
    }
    let Probe::Http {
        path,
        host,
        headers,
        expect_status,
    } = probe
    else {
        return Ok(());
    };

    let stream = endpoint.secure(stream).await.map_err(ProbeError::Tls)?;
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    let host = host.clone().unwrap_or_else(|| own_host(endpoint));
    let agent = HeaderValue::from_static(USER_AGENT);
    request.headers_mut().insert(header::USER_AGENT, agent);
    let stream = TokioIo::new(stream);
    let contact = endpoint.contact();
    let status = if contact.http2 {
        let scheme = if contact.tls.is_some() {
            "https"
        } else {
            "http"
        };
        *request.uri_mut() = target(scheme, &host, path);
        *request.version_mut() = Version::HTTP_2;
        add(&mut request, headers);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .map_err(ProbeError::Http)?;
        ask(sender.send_request(request), connection).await?
    } else {
        *request.uri_mut() = path.parse::<Uri>().unwrap_or_default();
        let fields = request.headers_mut();
        fields.insert(header::HOST, host);
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        add(&mut request, headers);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(ProbeError::Http)?;
        ask(sender.send_request(request), connection).await?
    };
    let expected = expect_status
        .iter()
        .any(|range| (range.low..=range.high).contains(&status.as_u16()));
    if expected {
        Ok(())
    } else {
        Err(ProbeError::Status(status))
    }
}

/// `SCHEME://HOST/PATH`, which HTTP/2 makes its pseudo-fields of.
fn target(scheme: &str, host: &HeaderValue, path: &str) -> Uri {
    Uri::builder()
        .scheme(scheme)
        .authority(host.as_bytes())
        .path_and_query(path)
        .build()
        .unwrap_or_default()
}

fn add<B>(request: &mut Request<B>, headers: &[(HeaderName, HeaderValue)]) {
    for (name, value) in headers {
        request.headers_mut().insert(name.clone(), value.clone());
    }
}

/// The status of a response that comes over `connection`. That moves only while it is polled; the head is all that is wanted
/// of it.
async fn ask(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<StatusCode, ProbeError> {
    tokio::pin!(response);
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        ended = connection => match ended {
            Ok(()) => response.await,
            Err(error) => Err(error),
        }
    };
    response
        .map(|response| response.status())
        .map_err(ProbeError::Http)
}

const USER_AGENT: &str = concat!("balancer-health/", env!("CARGO_PKG_VERSION"));

fn own_host(endpoint: &Endpoint) -> HeaderValue {
    HeaderValue::from_str(&endpoint.address().to_string())
        .unwrap_or(HeaderValue::from_static("localhost"))
}
