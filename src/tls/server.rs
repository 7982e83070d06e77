//! Makes a listener's TLS settings: versions, certificates by server name, client certificates, resumption, ALPN.
//!
//! Cryptography is always aws-lc-rs, named explicitly: a process-wide default would depend on what else is linked in.
//! Early data (0-RTT) is never accepted: it can be replayed.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
    WebPkiClientVerifier,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificates::{self, CertificateInfo};
use super::resolver::Resolver;
use crate::config::{ClientAuth, ListenerTls, Problem, TlsVersion};

/// What a listener's TLS needs at run time.
#[derive(Clone, Debug)]
pub struct Server {
    /// For `tokio_rustls::TlsAcceptor`.
    pub config: Arc<ServerConfig>,
    /// The certificates in use, in file order.
    pub certificates: Vec<CertificateInfo>,
    /// What is doubtful: an expired certificate, one no client will accept.
    pub warnings: Vec<Problem>,
}

/// The protocols a listener offers by ALPN (RFC 7301). HTTP/2 is preferred where both sides can.
///
/// A client that offers none of them is refused; one that speaks no ALPN at all is let through without a protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Alpn {
    /// `h2`
    pub http2: bool,
    /// `http/1.1`
    pub http1: bool,
}

/// What lets returning clients skip most of a handshake: ticket keys and stored sessions.
///
/// One per process: shared by all listeners without client certificates, so that tickets outlive a reload and work at
/// every worker. Ticket keys are random, change every 6 hours and are accepted for 12; they never leave the process.
#[derive(Clone)]
pub struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Tickets {
    /// Makes the first ticket key. Fails only where the system gives no random bytes.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            ticketer: aws_lc_rs::Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(STORED_SESSIONS),
        })
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// Reads the certificates of `tls` and makes its server settings. Reports every problem, in file order.
pub fn server(tls: &ListenerTls, alpn: Alpn, tickets: &Tickets) -> Result<Server, Vec<Problem>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let now = seconds_since_1970();
    let mut problems = Vec::new();
    let mut loaded = Vec::new();
    for certificate in &tls.certificates {
        match certificates::load(certificate, &provider, now) {
            Ok(certificate) => loaded.push(certificate),
            Err(found) => problems.extend(found),
        }
    }
    let verifier = client_verifier(&tls.client_auth, &provider).unwrap_or_else(|found| {
        problems.extend(found);
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }

    let authenticates_clients = verifier.is_some();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))
        .expect("the provider has cipher suites for every version");
    let config = match verifier {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(Arc::new(Resolver::new(&loaded)));
    config.alpn_protocols = alpn.wire_names();
    config.max_early_data_size = 0;
    // The client's order of cipher suites stands: every suite offered is sound, and a device without AES instructions
    // knows better than we that ChaCha20 suits it.
    config.ignore_client_order = false;
    if authenticates_clients {
        // A session resumed is a certificate not asked for: here every connection proves who it is.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = tickets.sessions.clone();
        config.ticketer = tickets.ticketer.clone();
    }

    let (certificates, warnings): (Vec<_>, Vec<_>) = loaded
        .into_iter()
        .map(|loaded| (loaded.info, loaded.warnings))
        .unzip();
    Ok(Server {
        config: Arc::new(config),
        certificates,
        warnings: warnings.concat(),
    })
}

impl Alpn {
    fn wire_names(self) -> Vec<Vec<u8>> {
        [(self.http2, b"h2".as_slice()), (self.http1, b"http/1.1")]
            .into_iter()
            .filter(|(offered, _)| *offered)
            .map(|(_, name)| name.to_vec())
            .collect()
    }
}

fn client_verifier(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Vec<Problem>> {
    let (ca, place, required) = match auth {
        ClientAuth::Off => return Ok(None),
        ClientAuth::Optional { ca, place } => (ca, place, false),
        ClientAuth::Required { ca, place } => (ca, place, true),
    };
    let authorities = certificates::load_authorities(ca, place)?;
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider.clone());
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    match builder.build() {
        Ok(verifier) => Ok(Some(verifier)),
        Err(error) => {
            Err(vec![place.problem(format!(
                "{} cannot verify clients: {error}",
                ca.display()
            ))])
        }
    }
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    static FROM_13: &[&SupportedProtocolVersion] = &[&TLS13];
    match min {
        TlsVersion::Tls12 => FROM_12,
        TlsVersion::Tls13 => FROM_13,
    }
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

const STORED_SESSIONS: usize = 8192; // for TLS 1.2 clients without tickets; about 1 KiB each
