//! A request of a probe's and what comes back, as far as a probe wants it. Knows nothing of what is expected, nor who else asks.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::probe::ProbeError;
use crate::net::transport::Transport;
use crate::upstream::Endpoint;

/// What an endpoint answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its head's fields.
    pub headers: HeaderMap,
    /// The beginning of its body, as much of it as was wanted.
    pub body: Bytes,
    /// Its trailers, likewise.
    pub trailers: HeaderMap,
}

/// Whom to ask, and as what.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// Whom.
    pub endpoint: &'a Endpoint,
    /// The host asked for; `None`: the endpoint's address.
    pub host: Option<&'a HeaderValue>,
    /// Further fields.
    pub headers: &'a [(HeaderName, HeaderValue)],
}

impl Exchange<'_> {
    /// `GET path`, in the upstream's protocol. The body is read where it is wanted.
    pub async fn get(
        &self,
        stream: Transport,
        path: &str,
        wants_body: bool,
    ) -> Result<Answer, ProbeError> {
        let most = if wants_body { MOST_OF_BODY } else { 0 };
        self.send(stream, (Method::GET, path), most).await
    }

    /// A request without a body, in the upstream's protocol. Of the answer's body `most` bytes are read.
    pub async fn send(
        &self,
        stream: Transport,
        (method, path): (Method, &str),
        most: usize,
    ) -> Result<Answer, ProbeError> {
        let mut request = self.request(method, Bytes::new());
        if self.endpoint.contact().http2 {
            self.ask_http2(stream, request, path, most).await
        } else {
            *request.uri_mut() = path.parse::<Uri>().unwrap_or_default();
            let fields = request.headers_mut();
            fields.insert(header::HOST, self.host());
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
            self.add_headers(&mut request);
            let too_many = too_many_interim(&mut request);
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(ProbeError::Http)?;
            tokio::select! {
                biased;
                answer = ask(sender.send_request(request), connection, most) => answer,
                error = too_many => Err(error),
            }
        }
    }

    /// A gRPC call, which is over HTTP/2.
    pub async fn call(
        &self,
        stream: Transport,
        path: &str,
        message: Bytes,
    ) -> Result<Answer, ProbeError> {
        let mut request = self.request(Method::POST, message);
        let fields = request.headers_mut();
        fields.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
        self.ask_http2(stream, request, path, MOST_OF_BODY).await
    }

    async fn ask_http2(
        &self,
        stream: Transport,
        mut request: Request<Full<Bytes>>,
        path: &str,
        most: usize,
    ) -> Result<Answer, ProbeError> {
        let scheme = match self.endpoint.contact().tls {
            Some(_) => "https",
            None => "http",
        };
        *request.uri_mut() = target(scheme, &self.host(), path);
        *request.version_mut() = Version::HTTP_2;
        self.add_headers(&mut request);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(ProbeError::Http)?;
        ask(sender.send_request(request), connection, most).await
    }

    fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        request
    }

    fn add_headers<B>(&self, request: &mut Request<B>) {
        let fields = request.headers_mut();
        for (name, _) in self.headers {
            fields.remove(name);
        }
        for (name, value) in self.headers {
            fields.append(name.clone(), value.clone());
        }
    }

    fn host(&self) -> HeaderValue {
        let own = || {
            HeaderValue::from_str(&self.endpoint.address().to_string())
                .unwrap_or(HeaderValue::from_static("localhost"))
        };
        self.host.cloned().unwrap_or_else(own)
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

/// Ready when more interim responses to `request` have come than anybody has a use for: they cost as much as an answer does, and an
/// endpoint may send them for as long as a probe lasts. They come while the answer is waited for: this is to be asked after that.
fn too_many_interim<B>(request: &mut Request<B>) -> impl Future<Output = ProbeError> + use<B> {
    // Written and read by whoever polls the exchange; the number alone matters.
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    hyper::ext::on_informational(request, move |_| {
        counted.fetch_add(1, Relaxed);
    });
    poll_fn(move |_| match seen.load(Relaxed) {
        ..=MOST_INTERIM => Poll::Pending,
        _ => Poll::Ready(ProbeError::Interim),
    })
}

/// What comes over `connection`. That moves only while it is polled.
async fn ask(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
    most: usize,
) -> Result<Answer, ProbeError> {
    let answer = async {
        let response = response.await?;
        read(response, most).await
    };
    tokio::pin!(answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        }
    };
    answer.map_err(ProbeError::Http)
}

async fn read(response: Response<Incoming>, most: usize) -> hyper::Result<Answer> {
    let (head, mut body) = response.into_parts();
    let (mut bytes, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while bytes.len() < most {
        let Some(frame) = body.frame().await.transpose()? else {
            break;
        };
        match frame.into_data() {
            Ok(data) => {
                let room = most - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: bytes.freeze(),
        trailers,
    })
}

const USER_AGENT: &str = concat!("balancer-health/", env!("CARGO_PKG_VERSION"));
const MOST_INTERIM: usize = 32; // a 102 every few seconds, or a handful of 103s, is what servers send
const MOST_OF_BODY: usize = 64 * 1024; // a health page that is larger says it at its beginning
