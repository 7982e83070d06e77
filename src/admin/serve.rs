//! Serves the admin's connections: so many at once, and none that does not say what it wants. What is asked over TCP has to be
//! asked for by a name that is ours.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use super::Admin;
use super::patient::Reading;
use super::problem::ApiError;
use crate::message::authority;

/// Connections at once; further ones wait until one ends. Twice as many as may watch.
const MOST: usize = 128;
/// Longest wait for a request, from its connection's beginning or the one before to the end of its head.
const HEAD: Duration = Duration::from_secs(10);

/// Serves what `listener` accepts, each connection by the router for its address, for ever.
pub(super) async fn serve<L: Listener>(mut listener: L, router: impl Fn(L::Addr) -> Router) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        let (io, address) = listener.accept().await;
        let service = TowerToHyperService::new(router(address));
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(Reading::new(io)), service)
                .await;
            // Who leaves early or says nothing is nobody's trouble.
            drop((served, permit));
        });
    }
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
    if is_known {
        return next.run(request).await;
    }
    let detail = "asked for by a name that is not known here: use an IP address, or list the name in admin.hosts";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
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

    #[tokio::test(start_paused = true)]
    async fn regression_connections_that_ask_nothing_end_and_make_room() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let router = Router::new().route("/", get(|| async { "ok" }));
        tokio::spawn(serve(Given(receiver), move |()| router.clone()));
        let begun = Instant::now();
        let connect = || {
            let (near, far) = duplex(4096);
            sender.send(far).unwrap();
            near
        };
        let mut silent: Vec<_> = (0..MOST).map(|_| connect()).collect();
        for stream in &mut silent {
            stream.write_all(b"GET / HT").await.unwrap();
        }
        let mut asking = connect();
        asking
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut word = [0; 15];
        let early = timeout(HEAD / 2, asking.read_exact(&mut word)).await;
        assert!(early.is_err(), "there is no room");
        asking.read_exact(&mut word).await.unwrap();
        assert_eq!(word, *b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        silent[0].read_to_end(&mut rest).await.unwrap();
        assert!(begun.elapsed() < HEAD + HEAD / 2);
        // One that has asked once has to ask again.
        asking.read_to_end(&mut rest).await.unwrap();
        assert!(begun.elapsed() < 3 * HEAD);
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
