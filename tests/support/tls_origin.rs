//! TLS before an origin: ends it, remembers what was agreed to, and passes the bytes on as they are.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Leaf};
use super::h2::RUNTIME;

/// What TLS ends with; by default without ALPN and without asking clients for certificates.
#[derive(Default)]
pub(crate) struct TlsFrontOptions<'a> {
    pub(crate) protocols: &'a [&'a str],
    /// Clients must show a certificate signed by it.
    pub(crate) clients: Option<&'a Authority>,
}

/// One handshake that came to an end.
#[derive(Clone, Debug)]
pub(crate) struct Shaken {
    /// The name asked for (SNI).
    pub(crate) name: Option<String>,
    /// The protocol agreed to.
    pub(crate) protocol: Option<String>,
    pub(crate) resumed: bool,
    pub(crate) client_certificate: bool,
}

/// TLS before a plain server.
pub(crate) struct TlsFront {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    shaken: Mutex<Vec<Shaken>>,
    closed: AtomicUsize,
}

impl TlsFront {
    /// Shows `leaf` and passes on to `behind`.
    pub(crate) fn new(behind: SocketAddr, leaf: &Leaf) -> Self {
        Self::with(behind, leaf, &TlsFrontOptions::default())
    }

    pub(crate) fn with(behind: SocketAddr, leaf: &Leaf, options: &TlsFrontOptions<'_>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(options.build(leaf)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Seen> = Arc::default();
        let noted = seen.clone();
        let accepting = RUNTIME.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), noted.clone(), behind));
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every handshake so far.
    pub(crate) fn shaken(&self) -> Vec<Shaken> {
        self.seen.shaken.lock().unwrap().clone()
    }

    /// Connections that it has closed for sending so far.
    pub(crate) fn closed(&self) -> usize {
        self.seen.closed.load(SeqCst)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl TlsFrontOptions<'_> {
    fn build(&self, leaf: &Leaf) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match self.clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(vec![leaf.certificate.clone()], leaf.key_der())
            .unwrap();
        config.alpn_protocols = self
            .protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        config
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, seen: Arc<Seen>, behind: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let tls = stream.get_ref().1;
    seen.shaken.lock().unwrap().push(Shaken {
        name: tls.server_name().map(str::to_owned),
        protocol: tls
            .alpn_protocol()
            .map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        client_certificate: tls.peer_certificates().is_some(),
    });
    let Ok(behind) = TcpStream::connect(behind).await else {
        return;
    };
    let _ = behind.set_nodelay(true);
    let (mut from_client, mut to_client) = split(stream);
    let (mut from_server, mut to_server) = behind.into_split();
    let there = async {
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
        seen.closed.fetch_add(1, SeqCst);
    };
    tokio::join!(there, back);
}
