//! TLS towards endpoints: who a connection must reach, what is shown to it, and what is wrong where it fails.
//!
//! [`client()`] reads an upstream's settings; each of its endpoints gets a [`Client`] of its own, which keeps the endpoint's
//! sessions. Deadlines are the caller's.
//!
//! Half of this file are tests: what a setting is worth shows in handshakes only.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trouble::{Note, Trouble};
use super::unverified::Unverified;
use super::{certificates, roots, suites};
use crate::config::{Address, Certificate, Problem, Trust, UpstreamTls};
use crate::message::hexadecimal;

/// An upstream's TLS settings, read from their files.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    config: ClientConfig,
    protocol: &'static str,
    server_name: Option<ServerName<'static>>,
    digest: Digest,
    /// What is doubtful: a client certificate that has expired.
    pub warnings: Vec<Problem>,
}

/// SHA-256 of everything that settings depend on, contents of files included.
type Digest = [u8; 32];

/// Reads the files of `tls`; `protocol` is what is agreed to by ALPN. Reports every problem, in file order.
pub fn client(tls: &UpstreamTls, protocol: &'static str) -> Result<ClientSettings, Vec<Problem>> {
    let provider = Arc::new(suites::provider());
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let trusted = match &tls.trust {
        Trust::System => Some(roots::of_system(&tls.place)),
        Trust::Authorities { ca, place } => Some(roots::of_file(ca, place)),
        Trust::Anyone => None,
    };
    let trusted = trusted.transpose().unwrap_or_else(|mut found| {
        problems.append(&mut found);
        None
    });
    let shown = tls.client_certificate.as_ref().and_then(|certificate| {
        let loaded = identity(certificate, &provider, &mut warnings);
        loaded.map_err(|mut found| problems.append(&mut found)).ok()
    });
    if !problems.is_empty() {
        return Err(problems);
    }

    let digest = digest(trusted.as_ref(), shown.as_deref(), protocol);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has cipher suites for every version");
    let mut config = verified(builder, trusted, &provider)
        .map(|builder| match shown {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        })
        .map_err(|why| vec![tls.place.problem(why)])?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(ClientSettings {
        config,
        protocol,
        server_name: tls.server_name.clone(),
        digest,
        warnings,
    })
}

type WithVerifier = ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn verified(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    trusted: Option<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<WithVerifier, String> {
    let Some(trusted) = trusted else {
        let anyone = Arc::new(Unverified::new(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anyone));
    };
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(provider));
    match verifier.build() {
        Ok(verifier) => Ok(builder.with_webpki_verifier(verifier)),
        Err(error) => Err(format!("endpoints cannot be verified: {error}")),
    }
}

/// The certificate shown to endpoints that ask for one.
fn identity(
    certificate: &Certificate,
    provider: &CryptoProvider,
    warnings: &mut Vec<Problem>,
) -> Result<Arc<CertifiedKey>, Vec<Problem>> {
    let now = certificates::seconds_since_1970();
    let loaded = certificates::load(certificate, provider, now)?;
    let not_after = loaded.info.not_after;
    if not_after < now {
        warnings.push(certificate.place.problem(format!(
            "certificate {} expired {}: endpoints will refuse it; renew it and reload",
            certificate.chain.display(),
            certificates::ago(now - not_after)
        )));
    }
    Ok(loaded.key)
}

fn digest(trusted: Option<&RootCertStore>, shown: Option<&CertifiedKey>, protocol: &str) -> Digest {
    let mut content = Vec::new();
    let mut add = |part: &[u8]| {
        content.extend(part.len().to_be_bytes());
        content.extend(part);
    };
    add(protocol.as_bytes());
    let roots = trusted.map(|trusted| trusted.roots.as_slice());
    // Anyone, or so many authorities.
    add(&[u8::from(roots.is_some())]);
    for root in roots.unwrap_or_default() {
        add(&root.subject);
        add(&root.subject_public_key_info);
        add(root.name_constraints.as_deref().unwrap_or_default());
    }
    add(b"shown");
    // The key is the one its certificate was made for.
    for certificate in shown.map(|shown| &shown.cert).into_iter().flatten() {
        add(certificate);
    }
    suites::sha256(&content)
}

impl ClientSettings {
    /// How to reach the endpoint at `address`. `None` where its host is no name that a certificate can have.
    pub fn of(&self, address: &Address) -> Option<Client> {
        let name = match (&self.server_name, address) {
            (Some(name), _) => name.clone(),
            (None, Address::Socket(address)) => address.ip().into(),
            (None, Address::Name(host, _)) => {
                // A dot at the end is for the resolver: no certificate has one (RFC 6066 §3).
                let host = host.strip_suffix('.').unwrap_or(host);
                ServerName::try_from(host.to_owned()).ok()?
            }
        };
        let mut config = self.config.clone();
        // Sessions of one endpoint only: another one has other keys, even under the same name.
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Some(Client {
            connector: TlsConnector::from(Arc::new(config)),
            protocol: self.protocol,
            name,
            digest: self.digest,
            trouble: Trouble::default(),
        })
    }
}

/// How one endpoint is reached over TLS. Equal to another one that trusts, asks for and shows the same.
pub struct Client {
    connector: TlsConnector,
    protocol: &'static str,
    name: ServerName<'static>,
    digest: Digest,
    trouble: Trouble,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.digest) == (&other.name, other.digest)
    }
}

impl Client {
    /// The same word for what is equal, also in another process of this version.
    pub fn fingerprint(&self) -> String {
        format!("{:?} {}", self.name, hexadecimal::digits(&self.digest))
    }
}

/// Why there is no TLS connection. Nothing of a request has been sent.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Whoever answered did not prove to be the endpoint.
    #[error("its certificate {0}")]
    Certificate(String),
    /// It speaks another protocol than the upstream's.
    #[error("it does not agree to {0} (ALPN)")]
    Protocol(&'static str),
    /// The handshake failed otherwise: not TLS, no version in common, closed, an alert.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
}

impl Client {
    /// Runs a handshake on `stream`. The caller limits the time.
    pub async fn handshake<S>(&self, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        let stream = connected.map_err(|error| self.error(error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        // A server that knows no ALPN at all speaks HTTP/1.1; HTTP/2 it would have to agree to (RFC 9113 §3.2).
        if agreed.is_none() && self.protocol == HTTP2 {
            return Err(TlsError::Protocol(self.protocol));
        }
        Ok(stream)
    }

    fn error(&self, error: io::Error) -> TlsError {
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(error)) => {
                TlsError::Certificate(self.wrong(error))
            }
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                TlsError::Protocol(self.protocol)
            }
            _ => TlsError::Handshake(error),
        }
    }

    /// What is wrong with a certificate, in an operator's words.
    fn wrong(&self, error: &CertificateError) -> String {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "is signed by no authority that is trusted here".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("is not for {}", self.name.to_str())
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "is not for servers".to_owned()
            }
            // The rest is rare, and a library's words are better than none.
            other => format!("is not accepted: {other}"),
        }
    }

    /// Notes how a handshake went. Returns what is to be said of it: the same trouble again only once a minute.
    pub fn note(&self, failed: Option<&TlsError>) -> Option<Note> {
        self.trouble
            .note(failed.map(ToString::to_string), Instant::now())
    }
}

const HTTP2: &str = "h2";
/// Tickets kept of one endpoint: as many as connections are opened at once, more or less.
const SESSIONS: usize = 32;

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::HandshakeKind;
    use rustls_pki_types::CertificateDer;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::config::{ClientAuth, Clients, ForwardIdentity, ListenerTls, TlsVersion};
    use crate::net::transport::Transport;
    use crate::tls::testing::{Authority, Folder, place};
    use crate::tls::{Alpn, Tickets, server};

    const NAME: &str = "app.internal";

    fn settings(authority: &Authority, folder: &Folder, server_name: &str) -> UpstreamTls {
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem()).unwrap();
        UpstreamTls {
            trust: Trust::Authorities {
                ca,
                place: place("upstream.app.tls.ca"),
            },
            server_name: Some(ServerName::try_from(server_name.to_owned()).unwrap()),
            client_certificate: None,
            place: place("upstream.app.tls"),
        }
    }

    fn address() -> Address {
        Address::Socket(([127, 0, 0, 1], 1).into())
    }

    fn made(tls: &UpstreamTls, protocol: &'static str) -> Client {
        client(tls, protocol).unwrap().of(&address()).unwrap()
    }

    fn acceptor(certificate: Certificate, alpn: Alpn, client_auth: ClientAuth) -> TlsAcceptor {
        let tls = ListenerTls {
            certificates: vec![certificate],
            min_version: TlsVersion::Tls12,
            client_auth,
        };
        let server = server(&tls, alpn, &Tickets::new().unwrap()).unwrap();
        TlsAcceptor::from(Arc::new(server.config.all()[0].clone()))
    }

    /// A handshake in memory; what each side has to say of it.
    async fn shake(
        client: &Client,
        acceptor: &TlsAcceptor,
    ) -> (
        Result<HandshakeKind, TlsError>,
        Option<CertificateDer<'static>>,
    ) {
        use tokio::io::AsyncReadExt;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let serving = async {
            let mut stream = acceptor.accept(far).await.ok()?;
            let _ = stream.write_all(b"!").await;
            let _ = stream.flush().await;
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            Some(
                stream
                    .get_ref()
                    .1
                    .peer_certificates()?
                    .first()?
                    .clone()
                    .into_owned(),
            )
        };
        let asking = async {
            let mut stream = client.handshake(near).await?;
            // The tickets come before it.
            let _ = stream.read_u8().await;
            Ok(stream.get_ref().1.handshake_kind().expect("it is done"))
        };
        tokio::join!(asking, serving)
    }

    const HTTP1: Alpn = Alpn {
        http2: false,
        http1: true,
    };

    #[tokio::test]
    async fn an_endpoint_that_proves_its_name_is_reached_and_sessions_are_resumed() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let acceptor = acceptor(
            authority.certificate(&folder, "a", &[NAME]),
            HTTP1,
            ClientAuth::Off,
        );
        let client = made(&settings(&authority, &folder, NAME), "http/1.1");
        let first = shake(&client, &acceptor).await.0.unwrap();
        assert!(!matches!(first, HandshakeKind::Resumed), "{first:?}");
        let second = shake(&client, &acceptor).await.0.unwrap();
        assert_eq!(second, HandshakeKind::Resumed);
    }

    #[tokio::test]
    async fn tickets_leave_an_idle_connection_quiet_and_data_and_its_end_do_not() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let acceptor = acceptor(
            authority.certificate(&folder, "a", &[NAME]),
            HTTP1,
            ClientAuth::Off,
        );
        let client = made(&settings(&authority, &folder, NAME), "http/1.1");
        for say in [&b""[..], b"x"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (near, far) = tokio::join!(
                client.handshake(near.unwrap()),
                acceptor.accept(far.unwrap().0)
            );
            let mut near = Transport::Tls(Box::new(near.unwrap()));
            let mut far = far.unwrap();
            // The tickets are there, and nobody has read them.
            near.socket().readable().await.unwrap();
            assert!(near.is_quiet() && near.is_quiet());
            match say {
                b"" => far.shutdown().await.unwrap(),
                say => far.write_all(say).await.unwrap(),
            }
            far.flush().await.unwrap();
            let begin = Instant::now();
            while near.is_quiet() {
                assert!(begin.elapsed().as_secs() < 5, "never noticed");
                tokio::task::yield_now().await;
            }
        }
    }

    #[test]
    fn host_is_asked_for_without_the_dot_of_the_resolver() {
        let folder = Folder::new();
        let mut tls = settings(&Authority::new("ca"), &folder, NAME);
        tls.server_name = None;
        let settings = client(&tls, "http/1.1").unwrap();
        let of = |host: &str| settings.of(&Address::Name(host.into(), 443)).unwrap();
        assert_eq!(of("app.internal."), of("app.internal"));
        assert_ne!(of("app.internal"), of("app-2.internal"));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_told_apart() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let day = 24 * 3600;
        let now = certificates::seconds_since_1970();
        let stranger = Authority::new("stranger").certificate(&folder, "stranger", &[NAME]);
        let expired =
            authority.certificate_valid(&folder, "expired", &[NAME], (now - 9 * day, now - day));
        let early =
            authority.certificate_valid(&folder, "early", &[NAME], (now + day, now + 9 * day));
        let other = authority.certificate(&folder, "other", &["other.internal", "127.0.0.2"]);
        let client = made(&settings(&authority, &folder, NAME), "http/1.1");
        for (certificate, wrong) in [
            (stranger, "is signed by no authority that is trusted here"),
            (expired, "has expired"),
            (early, "is not valid yet"),
            (other, "is not for app.internal"),
        ] {
            let acceptor = acceptor(certificate, HTTP1, ClientAuth::Off);
            let error = shake(&client, &acceptor).await.0.unwrap_err();
            assert_eq!(error.to_string(), format!("its certificate {wrong}"));
        }
    }

    #[tokio::test]
    async fn an_address_is_verified_as_one() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let mut tls = settings(&authority, &folder, NAME);
        tls.server_name = None;
        let client = made(&tls, "http/1.1");
        let good = authority.certificate(&folder, "good", &["127.0.0.1"]);
        let named = authority.certificate(&folder, "named", &[NAME]);
        let good = acceptor(good, HTTP1, ClientAuth::Off);
        shake(&client, &good).await.0.unwrap();
        let named = acceptor(named, HTTP1, ClientAuth::Off);
        let error = shake(&client, &named).await.0.unwrap_err();
        assert_eq!(error.to_string(), "its certificate is not for 127.0.0.1");
    }

    #[tokio::test]
    async fn without_verification_anyone_is_taken() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let stranger = Authority::new("stranger").certificate(&folder, "stranger", &["x"]);
        let mut tls = settings(&authority, &folder, NAME);
        tls.trust = Trust::Anyone;
        let acceptor = acceptor(stranger, HTTP1, ClientAuth::Off);
        shake(&made(&tls, "http/1.1"), &acceptor).await.0.unwrap();
    }

    #[tokio::test]
    async fn client_certificate_is_shown_where_it_is_asked_for() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let mut tls = settings(&authority, &folder, NAME);
        let required = ClientAuth::Required(Clients {
            ca: folder.path().join("ca.pem"),
            place: place("x"),
            crl: None,
            forward_identity: ForwardIdentity::default(),
        });
        let certificate = authority.certificate(&folder, "a", &[NAME]);
        let acceptor = acceptor(certificate, HTTP1, required);
        let (_, seen) = shake(&made(&tls, "http/1.1"), &acceptor).await;
        assert!(seen.is_none(), "let in without a certificate");
        tls.client_certificate = Some(authority.certificate(&folder, "me", &["me"]));
        let (kind, seen) = shake(&made(&tls, "http/1.1"), &acceptor).await;
        kind.unwrap();
        assert!(seen.is_some());
    }

    #[tokio::test]
    async fn http2_must_be_agreed_to_and_http1_may_be_taken_for_granted() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let tls = settings(&authority, &folder, NAME);
        let certificate = authority.certificate(&folder, "a", &[NAME]);
        let silent = Alpn {
            http2: false,
            http1: false,
        };
        for (alpn, protocol, agrees) in [
            (HTTP1, "http/1.1", true),
            (HTTP1, "h2", false),
            (silent, "http/1.1", true),
            (silent, "h2", false),
        ] {
            let acceptor = acceptor(certificate.clone(), alpn, ClientAuth::Off);
            let shaken = shake(&made(&tls, protocol), &acceptor).await.0;
            match shaken {
                Ok(_) => assert!(agrees, "{alpn:?} {protocol}"),
                Err(TlsError::Protocol(asked)) => {
                    assert_eq!((agrees, asked), (false, protocol), "{alpn:?}");
                }
                Err(error) => panic!("{alpn:?} {protocol}: {error}"),
            }
        }
    }

    #[test]
    fn settings_are_the_same_only_if_all_that_matters_is() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let tls = settings(&authority, &folder, NAME);
        let known = made(&tls, "http/1.1");
        assert_eq!(known, made(&tls, "http/1.1"));
        assert_ne!(known, made(&tls, "h2"));
        let mut other = tls.clone();
        other.server_name = None;
        assert_ne!(known, made(&other, "http/1.1"));
        let mut other = tls.clone();
        other.trust = Trust::Anyone;
        assert_ne!(known, made(&other, "http/1.1"));
        let mut other = tls.clone();
        other.client_certificate = Some(authority.certificate(&folder, "me", &["me"]));
        let shows = made(&other, "http/1.1");
        assert_ne!(known, shows);
        authority.certificate(&folder, "me", &["me"]);
        assert_ne!(shows, made(&other, "http/1.1"), "another one in its place");
        // The same path, other contents.
        fs::write(folder.path().join("ca.pem"), Authority::new("new").pem()).unwrap();
        assert_ne!(known, made(&tls, "http/1.1"));
    }

    #[test]
    fn problems_of_all_files_are_reported() {
        let folder = Folder::new();
        let mut tls = settings(&Authority::new("ca"), &folder, NAME);
        fs::write(folder.path().join("ca.pem"), "nothing").unwrap();
        tls.client_certificate = Some(folder.entry("no", "no"));
        let problems = client(&tls, "http/1.1").unwrap_err();
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(
            texts[0].contains("upstream.app.tls.ca: no certificate in "),
            "{texts:?}"
        );
    }
}
