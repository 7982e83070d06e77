//! Serves the admin's connections: so many at once, and none that does not say what it wants. What is asked over TCP has to be
//! asked for by a name that is ours.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use super::Admin;
use super::authority::is_of_another_page;
use super::events::VIEWERS;
use super::patient::Reading;
use super::problem::ApiError;
use super::room::{Answer, Room};
use crate::message::authority;

/// Connections at once. Twice as many as may watch.
const MOST: usize = 2 * VIEWERS;
/// Longest wait for a request, from its connection's beginning or the one before to the end of its head.
const HEAD: Duration = Duration::from_secs(10);

/// Bytes that a connection holds of what its client does not take, here and once more in the system.
pub(super) const BUFFER: usize = 64 << 10;

/// Serves what `listener` accepts, each connection by the router for its address, until somebody else does (`left`). What was
/// asked by then is answered still.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    router: impl Fn(L::Addr) -> Router,
    left: watch::Receiver<bool>,
) {
    let room = Room::new(MOST);
    let mut over = left.clone();
    loop {
        let next = async {
            let accepted = listener.accept().await;
            (accepted, Arc::new(room.enter().await))
        };
        let ((io, address), place) = tokio::select! {
            biased;
            () = until(&mut over) => return,
            next = next => next,
        };
        let router = TowerToHyperService::new(router(address));
        let at = Arc::clone(&place);
        let service = service_fn(move |request| {
            let answering = at.answer();
            let response = router.call(request);
            async move { Ok::<_, Infallible>(response.await?.map(|body| Answer::new(body, answering))) }
        });
        let mut left = left.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(Reading::new(io)), service);
            tokio::pin!(connection);
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = place.is_needed() => return,
                () = until(&mut left) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            // Who leaves early or says nothing is nobody's trouble.
            drop(served);
        });
    }
}

async fn until(left: &mut watch::Receiver<bool>) {
    // Without the admin nobody answers either.
    let _ = left.wait_for(|left| *left).await;
}

/// Refuses what was asked of a name that is not known here: a page of somebody else's can have its own name lead to this
/// address, and a browser then takes what is answered for that page's ("DNS rebinding").
pub(super) async fn check_host(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    // These tell nobody anything, and whoever probes may give any name.
    if matches!(request.uri().path(), "/livez" | "/readyz") {
        return next.run(request).await;
    }
    let target = request.uri().authority();
    let field = request.headers().get(header::HOST);
    let asked = match (target, field) {
        (Some(target), _) => Some(target.as_str()),
        (None, Some(field)) => Some(field.to_str().unwrap_or_default()),
        // No browser leaves it out.
        (None, None) => None,
    };
    let is_known = asked.is_none_or(|asked| is_known(asked, &admin.hosts));
    if is_known && is_of_another_page(request.headers()) && !is_visit(&request) {
        // It may read nothing, but would take the places of those who may.
        let detail = "asked by a page of another origin";
        return ApiError::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    if is_known {
        return next.run(request).await;
    }
    let detail = "asked for by a name that is not known here: use an IP address, or list the name in admin.hosts";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
}

/// Whether a browser has it asked for to be looked at by itself, as behind a link: that may come from anywhere.
fn is_visit(request: &Request) -> bool {
    let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    request.method() == Method::GET
        && (field("sec-fetch-dest") == Some(b"document") || request.uri().path() == "/")
}

/// An IP address, a name of `hosts`, or one that nobody can make their own: without a dot, or below `localhost`.
fn is_known(asked: &str, hosts: &[Box<str>]) -> bool {
    let Some(host) = authority::host(asked) else {
        return false;
    };
    host.starts_with('[')
        || host.parse::<IpAddr>().is_ok()
        || !host.contains('.')
        || host.ends_with(".localhost")
        || hosts.iter().any(|known| **known == *host)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::{Instant, timeout};

    use super::*;

    /// Accepts what it is given.
    struct Given(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Given {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(stream) => (stream, ()),
                None => pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An answer that goes on.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn regression_connections_that_ask_nothing_end() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let router = Router::new().route("/", get(|| async { "ok" }));
        let left = watch::Sender::new(false);
        let serving = serve(Given(receiver), move |()| router.clone(), left.subscribe());
        tokio::spawn(serving);
        let begun = Instant::now();
        let connect = || {
            let (near, far) = duplex(4096);
            sender.send(far).unwrap();
            near
        };
        let mut silent = connect();
        silent.write_all(b"GET / HT").await.unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        assert!(begun.elapsed() < HEAD + HEAD / 2);
        // One that has asked once has to ask again.
        let mut asking = connect();
        ask(&mut asking).await;
        asking.read_to_end(&mut rest).await.unwrap();
        assert!(begun.elapsed() < 3 * HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn regression_silent_connections_keep_nobody_out() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let forever = || async { Response::new(axum::body::Body::new(Endless)) };
        let router = Router::new().route("/", get(|| async { "ok" }));
        let router = router.route("/watch", get(forever));
        let left = watch::Sender::new(false);
        let serving = serve(Given(receiver), move |()| router.clone(), left.subscribe());
        tokio::spawn(serving);
        let begun = Instant::now();
        let connect = || {
            let (near, far) = duplex(4096);
            sender.send(far).unwrap();
            near
        };
        // What is being answered stays, however long that takes.
        let mut watching = connect();
        watching
            .write_all(b"GET /watch HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        watching.read_exact(&mut [0; 15]).await.unwrap();
        let mut silent: Vec<_> = (1..MOST).map(|_| connect()).collect();
        let mut asking: Vec<_> = (0..3).map(|_| connect()).collect();
        for stream in &mut asking {
            ask(stream).await;
        }
        let mut byte = [0];
        for stream in &mut silent[..3] {
            assert_eq!(stream.read(&mut byte).await.unwrap(), 0);
        }
        // It asked last.
        ask(&mut asking[0]).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for stream in [&mut watching, &mut silent[3]] {
            while let Ok(read) = timeout(HEAD / 2, stream.read(&mut [0; 4096])).await {
                assert_ne!(read.unwrap(), 0, "it is still there");
            }
        }
    }

    async fn ask(stream: &mut DuplexStream) {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"ok") {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            heard.push(byte[0]);
        }
        assert!(heard.starts_with(b"HTTP/1.1 200 OK"));
    }

    #[test]
    fn names_that_others_can_own_are_not_known() {
        let hosts = ["lb.example.com".into()];
        for known in [
            "127.0.0.1:9900",
            "[::1]:9900",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:9900",
            "balancer:9900",
            "app.localhost:9900",
            "LB.example.com.:9900",
        ] {
            assert!(is_known(known, &hosts), "{known}");
        }
        for unknown in [
            "evil.example:9900",
            "lb.example.com.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "",
            ":9900",
            "[::1",
        ] {
            assert!(!is_known(unknown, &hosts), "{unknown}");
        }
    }
}
