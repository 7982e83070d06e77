//! One exchange with a collector: spans go out, and what it says of them. Keeps the connection for the next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::Address;
use crate::message::causes::with_causes;
use crate::message::protobuf::{find_bytes, find_number};
use crate::net::connect::connect;
use crate::net::transport::Transport;
use crate::snapshot::tracing::Collector;

/// What a collector says of what it got.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It has taken it, except for so many spans, for this reason.
    Taken {
        /// How many it has not.
        refused: u64,
        /// Why not.
        why: String,
    },
    /// It may take it later, or after this time.
    Later(Option<Duration>, String),
    /// It does not take it.
    Refused(String),
}

/// A way to a collector.
#[derive(Debug, Default)]
pub(super) struct Delivery(Option<(Arc<Collector>, SendRequest<Full<Bytes>>)>);

impl Delivery {
    /// Sends `spans` to `collector`.
    pub(super) async fn send(mut self, collector: Arc<Collector>, spans: Bytes) -> (Self, Outcome) {
        let limit = collector.timeout;
        let outcome = match timeout(limit, self.exchange(&collector, spans)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                self.0 = None;
                Outcome::Later(None, error)
            }
            Err(_) => {
                self.0 = None;
                Outcome::Later(None, format!("no answer within {limit:?}"))
            }
        };
        (self, outcome)
    }

    async fn exchange(
        &mut self,
        collector: &Arc<Collector>,
        spans: Bytes,
    ) -> Result<Outcome, String> {
        let mut way = match self.0.take() {
            // A reload may have changed everything.
            Some((to, way)) if Arc::ptr_eq(&to, collector) && !way.is_closed() => way,
            Some(_) | None => open(collector).await?,
        };
        let http = |error: hyper::Error| with_causes(&error);
        if way.ready().await.is_err() {
            // It was closed while nobody looked.
            way = open(collector).await?;
        }
        let response = way
            .send_request(request(collector, spans))
            .await
            .map_err(http)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        if let Ok(body) = body {
            self.0 = Some((Arc::clone(collector), way));
            return Ok(outcome(head.status, &head.headers, &body.to_bytes()));
        }
        Ok(outcome(head.status, &head.headers, &[]))
    }
}

fn request(collector: &Collector, spans: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(spans));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = collector.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::HOST, collector.host.clone());
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, value) in &collector.headers {
        headers.insert(name.clone(), value.clone());
    }
    request
}

/// What an answer means (OTLP 1.x, "OTLP/HTTP Response").
fn outcome(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    match status.as_u16() {
        200..=299 => {
            // `ExportTraceServiceResponse.partial_success`
            let partly = find_bytes(body, 1).unwrap_or_default();
            let why = find_bytes(partly, 2).unwrap_or_default();
            Outcome::Taken {
                refused: find_number(partly, 1).unwrap_or(0),
                why: readable(why),
            }
        }
        429 | 502 | 503 | 504 => {
            let seconds = headers
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            Outcome::Later(
                seconds.map(Duration::from_secs),
                format!("it answers {status}"),
            )
        }
        // `google.rpc.Status.message`
        _ => match find_bytes(body, 2).map(readable) {
            Some(why) if !why.is_empty() => Outcome::Refused(format!("it answers {status}: {why}")),
            Some(_) | None => Outcome::Refused(format!("it answers {status}")),
        },
    }
}

/// The beginning of what somebody else says, fit for a log.
fn readable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .filter(|it| !it.is_control())
        .take(200)
        .collect()
}

async fn open(collector: &Collector) -> Result<SendRequest<Full<Bytes>>, String> {
    let mut last = "its name has no address".to_owned();
    for address in addresses(&collector.address)
        .await
        .map_err(|error| format!("its name cannot be resolved: {error}"))?
    {
        match connect(address, collector.timeout, None).await {
            Ok(stream) => {
                let stream = match &collector.tls {
                    None => Transport::Plain(stream),
                    Some(tls) => {
                        let secured = tls.handshake(stream).await;
                        Transport::Tls(Box::new(secured.map_err(|error| with_causes(&error))?))
                    }
                };
                let (way, connection) = handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| with_causes(&error))?;
                // Ends with the connection; what went wrong is told to who asks.
                tokio::spawn(connection);
                return Ok(way);
            }
            Err(error) => last = format!("{address}: {}", with_causes(&error)),
        }
    }
    Err(last)
}

async fn addresses(address: &Address) -> io::Result<Vec<SocketAddr>> {
    match address {
        Address::Socket(address) => Ok(vec![*address]),
        Address::Name(host, port) => Ok(lookup_host((&**host, *port)).await?.collect()),
    }
}

const USER_AGENT: &str = concat!("balancer/", env!("CARGO_PKG_VERSION"));
const LARGEST_ANSWER: usize = 64 * 1024; // a few bytes, by its protocol

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use prost::Message;

    use super::*;

    #[test]
    fn answers_mean_what_the_protocol_says() {
        let none = HeaderMap::new();
        let mut soon = HeaderMap::new();
        soon.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let taken = |refused, why: &str| Outcome::Taken {
            refused,
            why: why.to_owned(),
        };
        let partly = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too\u{1b}[31m old".to_owned(),
            }),
        };
        let partly = partly.encode_to_vec();
        assert_eq!(outcome(StatusCode::OK, &none, b""), taken(0, ""));
        assert_eq!(
            outcome(StatusCode::OK, &none, &partly),
            taken(3, "too[31m old")
        );
        assert_eq!(
            outcome(StatusCode::OK, &none, b"\xff\xff nonsense"),
            taken(0, "")
        );
        for status in [429, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            let why = format!("it answers {status}");
            let wish = Some(Duration::from_secs(7));
            assert_eq!(
                outcome(status, &soon, b""),
                Outcome::Later(wish, why.clone())
            );
            assert_eq!(outcome(status, &none, b""), Outcome::Later(None, why));
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(outcome(status, &soon, b""), Outcome::Refused(_)));
        }
    }
}
