//! Clients that say exactly what they are told to, and report exactly what they got.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, RootCertStore, SignatureScheme, StreamOwned,
};

use super::certificates::{Authority, Leaf};
use super::deadline::DEADLINE;
use super::http1::{self, Body, Framing, Head};

/// The host tests ask for where it does not matter.
pub(crate) const HOST: &str = "app.test";

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    ));
    connection.reply()
}

/// A plain or TLS connection to the balancer.
pub(crate) struct Connection {
    reader: BufReader<Box<dyn Stream>>,
}

impl Connection {
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub(crate) fn try_open(address: SocketAddr) -> io::Result<Self> {
        connect(address).map(Self::over)
    }

    /// A TLS connection, after its whole handshake.
    pub(crate) fn secure(address: SocketAddr, tls: &Tls) -> io::Result<Self> {
        tls.connect(address).map(Self::over)
    }

    /// On a stream that is there already.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            reader: BufReader::new(Box::new(stream)),
        }
    }

    /// Sends bytes; a peer that has closed already is not a failure here, the reply tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream = self.reader.get_mut();
        stream.write_all(bytes.as_ref())?;
        stream.flush()
    }

    /// Asks for `path` and keeps the connection.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        self.reply()
    }

    /// The next reply to a request with a body in its answer. Interim (1xx) replies are passed over.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply("GET")
            .unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// The next reply to a request of `method`.
    pub(crate) fn try_reply(&mut self, method: &str) -> io::Result<Reply> {
        let head = self.final_head()?;
        let status = status_of(&head);
        let body = self.body(Framing::of_response(&head, status, method));
        Ok(Reply { status, head, body })
    }

    /// The next head that is not interim; its body is left unread.
    pub(crate) fn final_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.head()?;
            if !(100..200).contains(&status_of(&head)) || status_of(&head) == 101 {
                return Ok(head);
            }
        }
    }

    /// The next head, interim or not.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        http1::read_head(&mut self.reader)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a reply"))
    }

    pub(crate) fn body(&mut self, framing: Framing) -> Body {
        http1::collect_body(&mut self.reader, framing)
    }

    /// Reads a body without keeping it: its length, and whether it was complete.
    pub(crate) fn body_length(
        &mut self,
        framing: Framing,
        mut check: impl FnMut(u64, &[u8]),
    ) -> (u64, bool) {
        let mut length = 0;
        let complete = http1::read_body(&mut self.reader, framing, |piece| {
            check(length, piece);
            length += piece.len() as u64;
        });
        (length, complete)
    }

    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(bytes)
    }

    /// Whether the peer ends the connection without a further byte, by the deadline.
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// Another handle to the socket below, for closing it or changing its deadlines.
    pub(crate) fn socket(&self) -> TcpStream {
        self.reader.get_ref().socket().try_clone().unwrap()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        let _ = self.reader.get_ref().socket().shutdown(Shutdown::Write);
    }

    /// Leaves with a reset.
    pub(crate) fn abort(self) {
        reset(self.reader.get_ref().socket());
    }

    /// The certificate the balancer showed.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.reader
            .get_ref()
            .tls()
            .expect("a TLS connection")
            .peer_certificates()
            .expect("handshake is done")[0]
            .clone()
            .into_owned()
    }

    pub(crate) fn tls_version(&self) -> ProtocolVersion {
        self.reader
            .get_ref()
            .tls()
            .expect("a TLS connection")
            .protocol_version()
            .expect("handshake is done")
    }

    /// Whether the handshake went by an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        let tls = self.reader.get_ref().tls().expect("a TLS connection");
        tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn key_exchange(&self) -> NamedGroup {
        let tls = self.reader.get_ref().tls().expect("a TLS connection");
        tls.negotiated_key_exchange_group()
            .expect("handshake is done")
            .name()
    }

    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.reader
            .get_ref()
            .tls()
            .expect("a TLS connection")
            .alpn_protocol()
            .map(<[u8]>::to_vec)
    }
}

/// A reply with its body.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Body,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// Fails unless the balancer itself answered, with this status and a stated error.
    #[track_caller]
    pub(crate) fn assert_made_by_balancer(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        let reason = self
            .field("proxy-status")
            .unwrap_or_else(|| panic!("no Proxy-Status: {self:?}"));
        assert!(
            reason.starts_with("balancer;") && reason.contains("error="),
            "Proxy-Status: {reason}"
        );
    }
}

fn status_of(head: &Head) -> u16 {
    head.start
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("not a status line: {:?}", head.start))
}

/// A TCP connection with deadlines set.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Ends `stream` with a reset, now: a close would wait for copies of the descriptor, and another test may be between
/// `fork` and `exec`.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = rustix::net::connect_unspec(stream);
}

/// What a connection is made of.
pub(crate) trait Stream: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
    fn tls(&self) -> Option<&ClientConnection>;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn tls(&self) -> Option<&ClientConnection> {
        None
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }

    fn tls(&self) -> Option<&ClientConnection> {
        Some(&self.conn)
    }
}

/// How a client does TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

impl Tls {
    /// Trusts `authority`, asks for `name` (an IP address: without SNI) and offers HTTP/1.1.
    pub(crate) fn new(authority: &Authority, name: &str) -> Self {
        TlsOptions::default().build(authority, name)
    }

    /// The same with other ALPN protocols.
    pub(crate) fn offering(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Self {
            config: Arc::new(config),
            server_name: self.server_name.clone(),
        }
    }

    /// The same client, which comes back with what it has kept of earlier sessions.
    pub(crate) fn resuming(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = rustls::client::Resumption::default();
        Self {
            config: Arc::new(config),
            server_name: self.server_name.clone(),
        }
    }

    /// Connects and completes the handshake.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        self.over(connect(address)?)
    }

    /// Completes the handshake on a connection that is there already.
    pub(crate) fn over(
        &self,
        mut socket: TcpStream,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut connection = ClientConnection::new(self.config.clone(), self.server_name.clone())
            .map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }
}

/// The less usual ways of doing TLS.
#[derive(Default)]
pub(crate) struct TlsOptions<'a> {
    /// Only these versions; empty: all.
    pub(crate) versions: Vec<&'static rustls::SupportedProtocolVersion>,
    /// Shown to the server when it asks.
    pub(crate) identity: Option<&'a Leaf>,
    /// Take any certificate, to see which one is shown.
    pub(crate) any_certificate: bool,
}

impl TlsOptions<'_> {
    pub(crate) fn build(self, authority: &Authority, name: &str) -> Tls {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = if self.versions.is_empty() {
            rustls::ALL_VERSIONS.to_vec()
        } else {
            self.versions
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .unwrap();
        let builder = if self.any_certificate {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).unwrap();
            builder.with_root_certificates(roots)
        };
        let mut config = match self.identity {
            Some(leaf) => builder
                .with_client_auth_cert(vec![leaf.certificate.clone()], leaf.key_der())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would not show a certificate that has changed since.
        config.resumption = rustls::client::Resumption::disabled();
        Tls {
            config: Arc::new(config),
            server_name: ServerName::try_from(name.to_owned()).unwrap(),
        }
    }
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
