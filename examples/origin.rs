//! A small test backend: says who it is, keeps connections, reads bodies, and fails on request.
//!
//! ```sh
//! cargo run --example origin -- --address 127.0.0.1:9001 --name app-1 --delay 50ms --size 1024
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200, at once |
//! | `/slow` | 200 after one second (`/slow/250ms`: after that long) |
//! | `/status/503` | that status |
//! | anything else | 200: name, method and path, the fields that arrived, length of the body |
//!
//! Every answer carries `x-origin: NAME`. HTTP/1.1 only. Not for measuring: it allocates for every answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// A small test backend.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Where to listen; port 0 lets the system choose one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    address: SocketAddr,
    /// What to answer with.
    #[arg(long, default_value = "origin")]
    name: HeaderValue,
    /// Wait this long before every answer but those of /healthz.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    delay: Duration,
    /// Length of the body, in bytes. Default: as long as what is said in it.
    #[arg(long)]
    size: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Arc::new(Args::parse());
    let listener = TcpListener::bind(args.address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        // Small answers should leave at once.
        let _ = stream.set_nodelay(true);
        let args = args.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&args, request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(KEEP_ALIVE)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own affair.
            let _ = connection.await;
        });
    }
}

async fn answer(
    args: &Args,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, Bytes::len);
    }

    let path = head.uri.path();
    if path == "/healthz" {
        return Ok(reply(args, StatusCode::OK, "ok\n"));
    }
    sleep(args.delay).await;
    if let Some(status) = path.strip_prefix("/status/") {
        // A status below 200 is no final answer.
        return Ok(match status.parse::<StatusCode>() {
            Ok(status) if !status.is_informational() => reply(args, status, format!("{status}\n")),
            _ => reply(
                args,
                StatusCode::BAD_REQUEST,
                format!("no such status: {status}\n"),
            ),
        });
    }
    if path == "/slow" {
        sleep(SLOW).await;
    } else if let Some(text) = path.strip_prefix("/slow/") {
        match duration(text) {
            Ok(pause) => sleep(pause).await,
            Err(error) => return Ok(reply(args, StatusCode::BAD_REQUEST, format!("{error}\n"))),
        }
    }

    let mut text = format!(
        "{}\n{} {}\n",
        String::from_utf8_lossy(args.name.as_bytes()),
        head.method,
        head.uri
    );
    for (field, value) in &head.headers {
        text.push_str(&format!(
            "{field}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    if received > 0 {
        text.push_str(&format!("body: {received} bytes\n"));
    }
    Ok(reply(args, StatusCode::OK, sized(text, args.size)))
}

fn reply(args: &Args, status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ORIGIN, args.name.clone());
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Cuts a text, or fills it up, to `size` bytes.
fn sized(text: String, size: Option<usize>) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    if let Some(size) = size {
        bytes.resize(size, b'.');
    }
    bytes
}

/// `50ms` or `2s`.
fn duration(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| {
        digits
            .parse::<u32>()
            .map_err(|_| format!("no duration: {text:?}; write 50ms or 2s"))
    };
    match text.strip_suffix("ms") {
        Some(digits) => Ok(Duration::from_millis(number(digits)?.into())),
        None => Ok(Duration::from_secs(
            number(text.strip_suffix('s').unwrap_or("-"))?.into(),
        )),
    }
}

const ORIGIN: HeaderName = HeaderName::from_static("x-origin");
const SLOW: Duration = Duration::from_secs(1); // what /slow takes
const KEEP_ALIVE: Duration = Duration::from_secs(60); // longer than a balancer keeps unused connections
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50); // out of descriptors: clears when a connection closes
