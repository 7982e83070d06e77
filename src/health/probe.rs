//! One question to an endpoint, on a connection of its own: a pooled one would hide that it accepts no more. Why it was not
//! answered well, and what that is worth.

use std::io;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::exchange::{Answer, Exchange};
use super::{role, version};
use crate::config::{self, VersionSource};
use crate::message::causes::with_causes;
use crate::message::grpc_health::Serving;
use crate::message::proxy_protocol::encode;
use crate::message::{grpc, grpc_health};
use crate::net::transport::Transport;
use crate::tls::TlsError;
use crate::units::AppVersion;
use crate::upstream::{Endpoint, Evidence};

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
    #[error("no response: {}", with_causes(.0))]
    Http(hyper::Error),
    /// Ever more interim responses (1xx), and no final one.
    #[error("no response, but ever more interim ones")]
    Interim,
    /// Another status than expected.
    #[error("status {0}")]
    Status(StatusCode),
    /// A field that is expected is not there, or has another value.
    #[error("the response has no {0} as expected")]
    Header(HeaderName),
    /// What is expected does not stand in the body.
    #[error("the response's body is not as expected")]
    Body,
    /// It asks for no new requests.
    #[error("asks for no new requests")]
    Draining,
    /// It is not well, by gRPC's health protocol.
    #[error("{}", .0.as_str())]
    NotServing(Serving),
    /// A gRPC server without the health protocol.
    #[error(
        "UNIMPLEMENTED: it does not offer grpc.health.v1.Health; add that service, or check with kind = \"tcp\""
    )]
    Unimplemented,
    /// A gRPC server that does not know the service.
    #[error("NOT_FOUND: it does not know the service {0:?}")]
    NoSuchService(Box<str>),
    /// Another failure of the call; what it says of it.
    #[error("grpc-status {0}")]
    GrpcStatus(String),
    /// An answer that is not of gRPC's health protocol.
    #[error("not an answer of gRPC's health protocol")]
    NotGrpc,
    /// Not done in time.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
}

impl ProbeError {
    /// What it is worth.
    pub fn evidence(&self) -> Evidence {
        match self {
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Evidence::Hard
            }
            Self::Unresolved | Self::Tls(_) | Self::Draining => Evidence::Hard,
            // Unreachable may be our network, too.
            Self::Connect(_) | Self::Http(_) | Self::Timeout(_) => Evidence::Silent,
            Self::Interim
            | Self::Status(_)
            | Self::Header(_)
            | Self::Body
            | Self::NotServing(_)
            | Self::Unimplemented
            | Self::NoSuchService(_)
            | Self::GrpcStatus(_)
            | Self::NotGrpc => Evidence::Answered,
        }
    }
}

impl ProbeError {
    /// Whether who was asked for is surely not there, or is somebody else: what it said before counts no more. A handshake that
    /// is torn is no answer, and may be the way's fault.
    pub fn is_surely_gone(&self) -> bool {
        match self {
            Self::Connect(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            Self::Tls(TlsError::Certificate(_)) => true,
            Self::Tls(TlsError::Protocol(_) | TlsError::Handshake(_))
            | Self::Unresolved
            | Self::Draining
            | Self::Http(_)
            | Self::Timeout(_)
            | Self::Interim
            | Self::Status(_)
            | Self::Header(_)
            | Self::Body
            | Self::NotServing(_)
            | Self::Unimplemented
            | Self::NoSuchService(_)
            | Self::GrpcStatus(_)
            | Self::NotGrpc => false,
        }
    }
}

/// What came of a probe.
#[derive(Debug)]
pub struct Finding {
    /// Whether the endpoint is well.
    pub verdict: Result<(), ProbeError>,
    /// Which version of its code it runs, or why it does not say. `None`: it was not asked, or gave no answer.
    pub version: Option<Result<AppVersion, String>>,
    /// Which role it has, or why it does not say; likewise.
    pub role: Option<Result<Box<str>, String>>,
}

impl From<ProbeError> for Finding {
    /// There was no answer.
    fn from(error: ProbeError) -> Self {
        Self {
            verdict: Err(error),
            version: None,
            role: None,
        }
    }
}

/// Asks `endpoint`, over TLS and in HTTP/2 where requests go so; a TCP probe ends with the connection. The caller limits the time.
pub async fn probe(endpoint: &Endpoint, health: &config::Health) -> Finding {
    match answer(endpoint, health).await {
        Ok(Some(answer)) => Finding {
            verdict: match &health.probe {
                config::Probe::Grpc { service, .. } => judge_call(&answer, service),
                probe @ (config::Probe::Http { .. } | config::Probe::Tcp) => judge(&answer, probe),
            },
            version: health
                .version
                .as_ref()
                .map(|source| version::of(&answer, source)),
            role: health.role.as_ref().map(|source| role::of(&answer, source)),
        },
        Ok(None) => Finding {
            verdict: Ok(()),
            version: None,
            role: None,
        },
        Err(error) => error.into(),
    }
}

/// Connects to `endpoint` as a probe does.
pub async fn connect(endpoint: &Endpoint) -> Result<Transport, ProbeError> {
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
    endpoint.secure(stream).await.map_err(ProbeError::Tls)
}

/// What `endpoint` answers; `None` where a connection is all that is asked for.
async fn answer(
    endpoint: &Endpoint,
    health: &config::Health,
) -> Result<Option<Answer>, ProbeError> {
    let stream = connect(endpoint).await?;
    let exchange = |host, headers| Exchange {
        endpoint,
        host,
        headers,
    };
    let answer = match &health.probe {
        config::Probe::Tcp => return Ok(None),
        config::Probe::Http {
            path,
            host,
            headers,
            expect_body,
            ..
        } => {
            let is_in_body = matches!(health.version, Some(VersionSource::Pointer(_)));
            let wants_body = expect_body.is_some() || is_in_body;
            let exchange = exchange(host.as_ref(), headers);
            exchange.get(stream, path, wants_body).await?
        }
        config::Probe::Grpc {
            service,
            host,
            headers,
        } => {
            let request = grpc_health::request(service);
            let exchange = exchange(host.as_ref(), headers);
            exchange.call(stream, grpc_health::PATH, request).await?
        }
    };
    Ok(Some(answer))
}

/// Whether `answer` is what an HTTP probe expects.
fn judge(answer: &Answer, probe: &config::Probe) -> Result<(), ProbeError> {
    let config::Probe::Http {
        expect_status,
        expect_header,
        expect_body,
        ..
    } = probe
    else {
        return Ok(());
    };
    let headers = &answer.headers;
    if headers.get(DRAIN).is_some_and(|value| value == "1") {
        return Err(ProbeError::Draining);
    }
    let is_expected = expect_status
        .iter()
        .any(|range| (range.low..=range.high).contains(&answer.status.as_u16()));
    if !is_expected {
        // Who knows when it will be back has planned to leave.
        let is_leaving = answer.status == StatusCode::SERVICE_UNAVAILABLE
            && headers.contains_key(header::RETRY_AFTER);
        return Err(if is_leaving {
            ProbeError::Draining
        } else {
            ProbeError::Status(answer.status)
        });
    }
    let missing = |(name, value): &&(HeaderName, http::HeaderValue)| {
        !headers.get_all(name).iter().any(|found| found == value)
    };
    if let Some((name, _)) = expect_header.iter().find(missing) {
        return Err(ProbeError::Header(name.clone()));
    }
    match expect_body {
        Some(text) if memchr::memmem::find(&answer.body, text.as_bytes()).is_none() => {
            Err(ProbeError::Body)
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the answer to a call of gRPC's health protocol says that `service` is well.
fn judge_call(answer: &Answer, service: &str) -> Result<(), ProbeError> {
    if answer.status != StatusCode::OK {
        return Err(ProbeError::Status(answer.status));
    }
    if answer.headers.get(DRAIN).is_some_and(|value| value == "1") {
        return Err(ProbeError::Draining);
    }
    // In the trailers; in the head where there is nothing else to say ("Trailers-Only").
    let status = |fields: &HeaderMap| fields.get(grpc::STATUS).cloned();
    let Some(status) = status(&answer.trailers).or_else(|| status(&answer.headers)) else {
        return Err(ProbeError::NotGrpc);
    };
    match status.as_bytes() {
        b"0" => match grpc_health::response(&answer.body) {
            Some(Serving::Serving) => Ok(()),
            Some(serving) => Err(ProbeError::NotServing(serving)),
            None => Err(ProbeError::NotGrpc),
        },
        b"5" => Err(ProbeError::NoSuchService(service.into())),
        b"12" => Err(ProbeError::Unimplemented),
        other => Err(ProbeError::GrpcStatus(
            String::from_utf8_lossy(other).into_owned(),
        )),
    }
}

/// By which an application takes itself out, whatever its status.
const DRAIN: HeaderName = HeaderName::from_static("x-drain");

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::config::StatusRange;

    fn answer(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Answer {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: fields.collect(),
            body: Bytes::from(body),
            trailers: HeaderMap::new(),
        }
    }

    #[test]
    fn answers_are_judged_by_all_that_is_expected() {
        let probe = |expect_header: &[(&'static str, &'static str)], expect_body: Option<&str>| {
            config::Probe::Http {
                path: "/".into(),
                host: None,
                headers: Vec::new(),
                expect_status: vec![StatusRange {
                    low: 200,
                    high: 299,
                }],
                expect_header: answer(200, expect_header, "")
                    .headers
                    .into_iter()
                    .filter_map(|(name, value)| Some((name?, value)))
                    .collect(),
                expect_body: expect_body.map(Into::into),
            }
        };
        let plain = probe(&[], None);
        let strict = probe(&[("x-ready", "yes")], Some("all well"));
        let said = |answer: Answer, probe: &config::Probe| {
            judge(&answer, probe).map_err(|error| error.to_string())
        };
        assert_eq!(said(answer(204, &[], ""), &plain), Ok(()));
        assert_eq!(
            said(answer(503, &[], ""), &plain),
            Err("status 503 Service Unavailable".to_owned())
        );
        for leaving in [
            answer(503, &[("retry-after", "30")], ""),
            answer(200, &[("x-drain", "1")], ""),
            answer(500, &[("x-drain", "1")], ""),
        ] {
            assert!(matches!(judge(&leaving, &plain), Err(ProbeError::Draining)));
        }
        assert_eq!(said(answer(200, &[("x-drain", "0")], ""), &plain), Ok(()));
        assert!(matches!(
            judge(&answer(500, &[("retry-after", "30")], ""), &plain),
            Err(ProbeError::Status(_))
        ));
        let ready = [("x-ready", "no"), ("x-ready", "yes")];
        assert_eq!(said(answer(200, &ready, "yes, all well."), &strict), Ok(()));
        assert_eq!(
            said(answer(200, &ready[..1], "all well"), &strict),
            Err("the response has no x-ready as expected".to_owned())
        );
        assert_eq!(
            said(answer(200, &ready, "all wel"), &strict),
            Err("the response's body is not as expected".to_owned())
        );
    }

    #[test]
    fn regression_only_a_refusal_or_a_wrong_certificate_is_sure_that_nobody_is_there() {
        let io = |kind| io::Error::from(kind);
        let certificate = TlsError::Certificate("has expired".to_owned());
        for (error, expected) in [
            (
                ProbeError::Connect(io(io::ErrorKind::ConnectionRefused)),
                true,
            ),
            (ProbeError::Tls(certificate), true),
            (
                ProbeError::Connect(io(io::ErrorKind::HostUnreachable)),
                false,
            ),
            (ProbeError::Tls(TlsError::Protocol("h2")), false),
            (ProbeError::Unresolved, false),
            (ProbeError::Draining, false),
            (ProbeError::Timeout(Duration::ZERO), false),
        ] {
            assert_eq!(error.is_surely_gone(), expected, "{error}");
        }
        for torn in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::ConnectionRefused,
        ] {
            let error = ProbeError::Tls(TlsError::Handshake(io(torn)));
            assert!(!error.is_surely_gone(), "{error}");
        }
    }

    #[test]
    fn calls_are_judged_by_what_is_served() {
        let called = |status: &'static str, body: &'static [u8]| {
            let mut answer = answer(200, &[], "");
            answer
                .trailers
                .insert(grpc::STATUS, HeaderValue::from_static(status));
            answer.body = Bytes::from_static(body);
            judge_call(&answer, "shop").map_err(|error| error.to_string())
        };
        assert_eq!(called("0", &[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        for (status, body, expected) in [
            ("0", &[0, 0, 0, 0, 2, 8, 2][..], "NOT_SERVING"),
            ("0", &[0, 0, 0, 0, 0], "UNKNOWN"),
            ("0", b"<html>", "not an answer of gRPC's health protocol"),
            ("5", b"", "NOT_FOUND: it does not know the service \"shop\""),
            ("14", b"", "grpc-status 14"),
        ] {
            assert_eq!(called(status, body), Err(expected.to_owned()));
        }
        assert!(
            called("12", b"")
                .unwrap_err()
                .starts_with("UNIMPLEMENTED: it does not offer grpc.health.v1.Health")
        );
        let plain = answer(200, &[], "well");
        assert!(matches!(judge_call(&plain, ""), Err(ProbeError::NotGrpc)));
    }
}
