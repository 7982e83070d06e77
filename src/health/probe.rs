//! One question to an endpoint, on a connection of its own: a pooled one would hide that it accepts no more.

use std::io;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::Probe;
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

/// Asks `endpoint`, over TLS where requests go over TLS; a TCP probe ends with the connection. The caller limits the time.
pub async fn probe(endpoint: &Endpoint, probe: &Probe) -> Result<(), ProbeError> {
    let address = endpoint.socket_address().ok_or(ProbeError::Unresolved)?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(ProbeError::Connect)?;
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
    *request.uri_mut() = path.parse::<Uri>().unwrap_or_default();
    let fields = request.headers_mut();
    fields.insert(
        header::HOST,
        host.clone().unwrap_or_else(|| own_host(endpoint)),
    );
    fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in headers {
        fields.insert(name.clone(), value.clone());
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ProbeError::Http)?;
    let response = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(ProbeError::Http)?;
        let status = response.status();
        let expected = expect_status
            .iter()
            .any(|range| (range.low..=range.high).contains(&status.as_u16()));
        if expected {
            Ok(())
        } else {
            Err(ProbeError::Status(status))
        }
    };
    // The connection moves only while it is polled; the head is all that is wanted of it.
    tokio::pin!(response);
    tokio::select! {
        biased;
        result = &mut response => result,
        ended = connection => match ended {
            Ok(()) => response.await,
            Err(error) => Err(ProbeError::Http(error)),
        }
    }
}

const USER_AGENT: &str = concat!("balancer-health/", env!("CARGO_PKG_VERSION"));

fn own_host(endpoint: &Endpoint) -> HeaderValue {
    HeaderValue::from_str(&endpoint.address().to_string())
        .unwrap_or(HeaderValue::from_static("localhost"))
}
