//! Makes a listener's TLS settings: versions, certificates by server name, client certificates, resumption, ALPN.
//!
//! Cryptography is always aws-lc-rs, named explicitly: a process-wide default would depend on what else is linked in.
//! Early data (0-RTT) is never accepted: it can be replayed.
//!
//! Three quarters of this file are tests: what a setting is worth shows in handshakes only.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificates::{self, CertificateInfo, Loaded};
use super::clients::{self, RevocationInfo, Verification};
use super::resolver::Resolver;
use super::session::Sessions;
use super::suites::{self, ByDevice};
use super::tickets::Tickets;
use crate::config::{ForwardIdentity, ListenerTls, Place, Problem, TlsVersion};

/// What a listener's TLS needs at run time.
#[derive(Clone, Debug)]
pub struct Server {
    /// What handshakes go by.
    pub config: ByDevice,
    /// The certificates in use, in file order.
    pub certificates: Vec<CertificateInfo>,
    /// What handshakes are worth.
    pub sessions: Sessions,
    /// The revocation lists in use.
    pub revocation: Option<RevocationInfo>,
    /// What is doubtful: a certificate that has expired or soon will, one no client will accept.
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

/// Reads the certificates of `tls` and makes its server settings. Reports every problem, in file order.
pub fn server(tls: &ListenerTls, alpn: Alpn, tickets: &Tickets) -> Result<Server, Vec<Problem>> {
    let provider = Arc::new(suites::provider());
    let now = certificates::seconds_since_1970();
    let (loaded, mut problems) = load(tls, &provider, now);
    let verification =
        clients::verification(&tls.client_auth, &provider, now).unwrap_or_else(|found| {
            problems.extend(found);
            None
        });
    if !problems.is_empty() {
        return Err(problems);
    }

    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))
        .expect("the provider has cipher suites for every version");
    let config = match &verification {
        Some(verification) => config.with_client_cert_verifier(Arc::clone(&verification.verifier)),
        None => config.with_no_client_auth(),
    };
    let resolver = Arc::new(Resolver::new(&loaded));
    let mut config = config.with_cert_resolver(Arc::clone(&resolver) as _);
    config.alpn_protocols = alpn.wire_names();
    config.max_early_data_size = 0;
    match &verification {
        Some(Verification {
            verifier, group, ..
        }) => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.ticketer = tickets.of_clients(*group, verifier).map_err(|error| {
                let place = tls.client_auth.clients().map(|clients| &clients.place);
                let problem = |place: &Place| {
                    place.problem(format!("no random bytes for ticket keys: {error}"))
                };
                place.map(problem).into_iter().collect::<Vec<_>>()
            })?;
        }
        None => {
            config.session_storage = tickets.sessions();
            config.ticketer = tickets.of_anyone();
        }
    }
    // One for each connection is what a client needs that uses each once (RFC 8446 appendix C.4).
    config.send_tls13_tickets = 1;

    let (certificates, warnings): (Vec<_>, Vec<_>) = loaded
        .into_iter()
        .map(|loaded| (loaded.info, loaded.warnings))
        .unzip();
    let mut warnings = warnings.concat();
    let revocation = verification.and_then(|mut verification| {
        warnings.append(&mut verification.warnings);
        verification.revocation
    });
    let forward_identity = tls
        .client_auth
        .clients()
        .map_or_else(Default::default, |clients| clients.forward_identity.clone());
    Ok(Server {
        config: ByDevice::new(config),
        certificates,
        sessions: Sessions::new(&resolver, forward_identity),
        revocation,
        warnings,
    })
}

/// Only what handshakes with a listener of this `tls` are worth. Reads its certificates and nothing else.
pub fn sessions(tls: &ListenerTls) -> Result<Sessions, Vec<Problem>> {
    let now = certificates::seconds_since_1970();
    let (loaded, problems) = load(tls, &suites::provider(), now);
    if !problems.is_empty() {
        return Err(problems);
    }
    let resolver = Arc::new(Resolver::new(&loaded));
    Ok(Sessions::new(&resolver, ForwardIdentity::default()))
}

/// The certificates that can be used, and what is wrong with the others.
fn load(tls: &ListenerTls, provider: &CryptoProvider, now: i64) -> (Vec<Loaded>, Vec<Problem>) {
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    for certificate in &tls.certificates {
        match certificates::load(certificate, provider, now) {
            Ok(certificate) => loaded.push(certificate),
            Err(found) => problems.extend(found),
        }
    }
    (loaded, problems)
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

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    static FROM_13: &[&SupportedProtocolVersion] = &[&TLS13];
    match min {
        TlsVersion::Tls12 => FROM_12,
        TlsVersion::Tls13 => FROM_13,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustls::crypto::aws_lc_rs;
    use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, SupportedCipherSuite};
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::config::{Certificate, ClientAuth, ClientCrl, Clients};
    use crate::tls::testing::{Authority, Folder, client, client_of, handshake, place, provider};

    const BOTH: Alpn = Alpn {
        http2: true,
        http1: true,
    };
    static TLS_12: &[&SupportedProtocolVersion] = &[&TLS12];
    static TLS_13: &[&SupportedProtocolVersion] = &[&TLS13];

    fn open(certificates: Vec<Certificate>) -> ListenerTls {
        ListenerTls {
            certificates,
            min_version: TlsVersion::Tls12,
            client_auth: ClientAuth::Off,
        }
    }

    fn serve(tls: &ListenerTls) -> Server {
        server(tls, BOTH, &Tickets::new().unwrap()).unwrap()
    }

    /// Which of `certificates` (by label) a client gets that asks for `name`.
    fn served(server: &Server, client: ClientConfig, name: &str) -> String {
        let (client, _) = handshake(&Arc::new(client), &server.config, name).unwrap();
        let leaf = &client.peer_certificates().unwrap()[0];
        let found = server
            .certificates
            .iter()
            .find(|info| *leaf == CertificateDer::from_pem_file(&info.label).unwrap());
        let stem = Path::new(&found.unwrap().label).file_stem().unwrap();
        stem.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_server_name_chooses_exact_before_wildcard_before_the_first() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![
            authority.certificate(
                &folder,
                "first",
                &[
                    "first.example",
                    "other.test",
                    "a.b.example.com",
                    "example.com",
                ],
            ),
            authority.certificate(&folder, "wildcard", &["*.example.com"]),
            authority.certificate(&folder, "exact", &["www.example.com"]),
        ]));
        for versions in [TLS_12, TLS_13] {
            let ask = |name| served(&server, client(&authority, versions), name);
            assert_eq!(ask("www.example.com"), "exact");
            assert_eq!(ask("WWW.EXAMPLE.COM"), "exact");
            assert_eq!(ask("api.example.com"), "wildcard");
            assert_eq!(ask("other.test"), "first");
        }
        // A wildcard stands for one label: neither for none nor for two. The default happens to hold these names.
        for name in ["example.com", "a.b.example.com"] {
            assert_eq!(served(&server, client(&authority, TLS_13), name), "first");
        }
    }

    #[test]
    fn without_a_server_name_the_first_certificate_is_served() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![
            authority.certificate(&folder, "first", &["first.example", "127.0.0.1"]),
            authority.certificate(&folder, "second", &["second.example"]),
        ]));
        assert_eq!(
            served(&server, client(&authority, TLS_13), "127.0.0.1"),
            "first"
        );
    }

    #[test]
    fn an_unknown_name_gets_the_first_certificate_and_the_client_decides() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![authority.certificate(
            &folder,
            "a",
            &["a.example"],
        )]));
        let refused = handshake(
            &Arc::new(client(&authority, TLS_13)),
            &server.config,
            "unknown.example",
        );
        assert!(
            matches!(refused, Err(rustls::Error::InvalidCertificate(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn of_two_certificates_for_a_name_the_client_gets_the_kind_it_can_verify() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![
            authority.certificate(&folder, "ecdsa", &["a.example"]),
            authority.rsa_certificate(&folder, "rsa", &["a.example"]),
        ]));
        assert_eq!(
            served(&server, client(&authority, TLS_13), "a.example"),
            "ecdsa"
        );
        // TLS 1.2 suites that sign with RSA only.
        let mut rsa_only = CryptoProvider::clone(&provider());
        rsa_only
            .cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()).contains("ECDHE_RSA"));
        assert_eq!(
            served(
                &server,
                client_of(Arc::new(rsa_only), &authority, TLS_12),
                "a.example"
            ),
            "rsa"
        );
    }

    #[test]
    fn cipher_suite_suits_the_clients_device() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![authority.certificate(
            &folder,
            "a",
            &["a.example"],
        )]));
        // A client that names suites with these ciphers in this order.
        let agreed = |versions, ciphers: &[&str]| {
            let mut provider = CryptoProvider::clone(&provider());
            let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite());
            provider.cipher_suites = ciphers
                .iter()
                .flat_map(|cipher| {
                    let all = suites::provider().cipher_suites;
                    all.into_iter()
                        .filter(move |suite| name(suite).contains(cipher))
                })
                .collect();
            let client = client_of(Arc::new(provider), &authority, versions);
            let (client, _) = handshake(&Arc::new(client), &server.config, "a.example").unwrap();
            format!("{:?}", client.negotiated_cipher_suite().unwrap().suite())
        };
        for versions in [TLS_12, TLS_13] {
            let agreed = |ciphers: &[&str]| agreed(versions, ciphers);
            for quick_at_aes in [
                ["AES_128", "AES_256", "CHACHA20"],
                ["AES_256", "CHACHA20", "AES_128"],
            ] {
                assert!(agreed(&quick_at_aes).contains("AES_128"));
            }
            assert!(agreed(&["CHACHA20", "AES_128", "AES_256"]).contains("CHACHA20"));
            assert!(agreed(&["AES_256", "CHACHA20"]).contains("AES_256"));
            assert!(agreed(&["CHACHA20"]).contains("CHACHA20"));
        }
    }

    #[test]
    fn order_of_suites_leaves_none_out() {
        let names = |suites: &[SupportedCipherSuite]| {
            let mut names: Vec<_> = suites.iter().map(|suite| format!("{suite:?}")).collect();
            names.sort();
            names
        };
        assert_eq!(
            names(&suites::provider().cipher_suites),
            names(aws_lc_rs::DEFAULT_CIPHER_SUITES)
        );
    }

    #[test]
    fn versions_before_the_least_are_refused() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let mut tls = open(vec![authority.certificate(&folder, "a", &["a.example"])]);
        let version = |tls: &ListenerTls, versions| {
            let client = Arc::new(client(&authority, versions));
            handshake(&client, &serve(tls).config, "a.example")
                .map(|(client, _)| client.protocol_version())
        };
        assert_eq!(version(&tls, TLS_12), Ok(Some(ProtocolVersion::TLSv1_2)));
        assert_eq!(version(&tls, TLS_13), Ok(Some(ProtocolVersion::TLSv1_3)));
        tls.min_version = TlsVersion::Tls13;
        assert!(version(&tls, TLS_12).is_err());
        assert_eq!(version(&tls, TLS_13), Ok(Some(ProtocolVersion::TLSv1_3)));
    }

    #[test]
    fn key_exchange_is_safe_from_quantum_computers_where_the_client_can() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![authority.certificate(
            &folder,
            "a",
            &["a.example"],
        )]));
        let agreed = |groups: &[NamedGroup]| {
            let mut provider = CryptoProvider::clone(&provider());
            provider
                .kx_groups
                .retain(|group| groups.contains(&group.name()));
            assert_eq!(provider.kx_groups.len(), groups.len());
            let client = Arc::new(client_of(Arc::new(provider), &authority, TLS_13));
            let (_, server) = handshake(&client, &server.config, "a.example").unwrap();
            server.negotiated_key_exchange_group().unwrap().name()
        };
        let [post_quantum, x25519] = [NamedGroup::X25519MLKEM768, NamedGroup::X25519];
        assert_eq!(agreed(&[post_quantum, x25519]), post_quantum);
        assert_eq!(agreed(&[x25519]), x25519);
        assert_eq!(agreed(&[NamedGroup::secp256r1]), NamedGroup::secp256r1);
    }

    /// Whether a client that asked for `name` may send a request for `host`.
    fn stands_for(server: &Server, authority: &Authority, name: &str, host: &str) -> bool {
        let client = Arc::new(client(authority, TLS_13));
        let (_, connection) = handshake(&client, &server.config, name).unwrap();
        server
            .sessions
            .settle(&connection)
            .is_none_or(|session| session.stands_for(host))
    }

    #[test]
    fn a_host_is_stood_for_by_the_certificate_that_its_name_leads_to() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let first = ["first.example", "127.0.0.1", "unknown.example"];
        let server = serve(&open(vec![
            authority.certificate(&folder, "first", &first),
            authority.certificate(&folder, "both", &["a.example", "*.b.example"]),
            authority.certificate(&folder, "inner", &["inner.b.example"]),
        ]));
        let stands_for = |name, host| stands_for(&server, &authority, name, host);
        for (name, host, expected) in [
            ("a.example", "a.example", true),
            ("A.Example", "a.example", true),
            ("a.example", "x.b.example", true),
            ("x.b.example", "a.example", true),
            ("a.example", "inner.b.example", false),
            ("a.example", "first.example", false),
            ("a.example", "y.x.b.example", false),
            ("a.example", "127.0.0.1", false),
            ("first.example", "elsewhere.example", true),
            ("first.example", "a.example", false),
            ("unknown.example", "elsewhere.example", true),
            ("unknown.example", "inner.b.example", false),
            // Without a server name there is nothing to compare with.
            ("127.0.0.1", "a.example", true),
        ] {
            assert_eq!(stands_for(name, host), expected, "{name}, {host}");
        }
    }

    #[test]
    fn the_only_certificate_stands_for_every_host() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![authority.certificate(
            &folder,
            "a",
            &["a.example"],
        )]));
        let client = Arc::new(client(&authority, TLS_13));
        let (_, connection) = handshake(&client, &server.config, "a.example").unwrap();
        assert!(server.sessions.settle(&connection).is_none());
    }

    #[test]
    fn alpn_prefers_http2_and_offers_only_what_the_listener_speaks() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let tls = open(vec![authority.certificate(&folder, "a", &["a.example"])]);
        let agreed = |alpn, offered: &[&str]| {
            let server = server(&tls, alpn, &Tickets::new().unwrap()).unwrap();
            let mut client = client(&authority, TLS_13);
            client.alpn_protocols = offered
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
            handshake(&Arc::new(client), &server.config, "a.example").map(|(_, server)| {
                server
                    .alpn_protocol()
                    .map(|name| String::from_utf8_lossy(name).into_owned())
            })
        };
        let http1 = Alpn {
            http2: false,
            http1: true,
        };
        assert_eq!(agreed(BOTH, &["http/1.1", "h2"]), Ok(Some("h2".to_owned())));
        assert_eq!(agreed(BOTH, &["http/1.1"]), Ok(Some("http/1.1".to_owned())));
        assert_eq!(
            agreed(http1, &["h2", "http/1.1"]),
            Ok(Some("http/1.1".to_owned()))
        );
        assert_eq!(agreed(BOTH, &[]), Ok(None));
        assert!(agreed(http1, &["h2"]).is_err());
    }

    #[test]
    fn a_returning_client_resumes_also_after_a_reload() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let tls = open(vec![authority.certificate(&folder, "a", &["a.example"])]);
        let tickets = Tickets::new().unwrap();
        for versions in [TLS_12, TLS_13] {
            let before = server(&tls, BOTH, &tickets).unwrap();
            let after = server(&tls, BOTH, &tickets).unwrap();
            let client = Arc::new(client(&authority, versions));
            let kind = |server: &Server| {
                handshake(&client, &server.config, "a.example")
                    .unwrap()
                    .1
                    .handshake_kind()
            };
            assert_eq!(kind(&before), Some(HandshakeKind::Full));
            assert_eq!(kind(&before), Some(HandshakeKind::Resumed));
            assert_eq!(kind(&after), Some(HandshakeKind::Resumed));
            assert_eq!(
                kind(&serve(&tls)),
                Some(HandshakeKind::Full),
                "another process has other keys"
            );
        }
    }

    #[test]
    fn a_session_never_stands_in_for_a_client_certificate() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let certificate = authority.certificate(&folder, "a", &["a.example"]);
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem()).unwrap();
        let place = place("listener.https.tls.client_ca");
        let tickets = Tickets::new().unwrap();
        let open = open(vec![certificate]);
        let clients = Clients {
            ca,
            place,
            crl: None,
            forward_identity: ForwardIdentity::default(),
        };
        let required = ListenerTls {
            client_auth: ClientAuth::Required(clients.clone()),
            ..open.clone()
        };
        let optional = ListenerTls {
            client_auth: ClientAuth::Optional(clients),
            ..open.clone()
        };
        let [open, required, optional] =
            [open, required, optional].map(|tls| server(&tls, BOTH, &tickets).unwrap());

        for versions in [TLS_12, TLS_13] {
            let stranger = Arc::new(client(&authority, versions));
            let (chain, key) = authority.identity();
            let known = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(authority.roots())
                .with_client_auth_cert(chain, key)
                .unwrap();
            let known = Arc::new(known);

            // A ticket of the open listener is worth nothing elsewhere.
            for _ in 0..2 {
                assert!(handshake(&stranger, &open.config, "a.example").is_ok());
                let refused = handshake(&stranger, &required.config, "a.example").map(|_| ());
                assert_eq!(refused, Err(rustls::Error::NoCertificatesPresented));
            }
            // Nor is one of the optional listener, even of a client that has shown its certificate there.
            let kind = |server: &Server, client: &Arc<ClientConfig>, shown: bool| {
                let (_, server) = handshake(client, &server.config, "a.example").unwrap();
                assert_eq!(server.peer_certificates().is_some(), shown);
                server.handshake_kind().unwrap()
            };
            for server in [&optional, &required, &open] {
                let shown = !std::ptr::eq(server, &open);
                assert_eq!(kind(server, &known, shown), HandshakeKind::Full);
                assert_eq!(kind(server, &known, shown), HandshakeKind::Resumed);
            }
            assert_eq!(kind(&optional, &stranger, false), HandshakeKind::Full);
            assert_eq!(kind(&optional, &stranger, false), HandshakeKind::Resumed);
        }

        // Verified when shown: a certificate of a stranger's authority is refused even where none is needed.
        let (chain, key) = Authority::new("other").identity();
        let forged = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS_13)
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        assert!(handshake(&Arc::new(forged), &optional.config, "a.example").is_err());
    }

    #[test]
    fn early_data_is_never_accepted() {
        let (folder, authority) = (Folder::new(), Authority::new("ca"));
        let server = serve(&open(vec![authority.certificate(
            &folder,
            "a",
            &["a.example"],
        )]));
        for config in server.config.all() {
            assert_eq!(config.max_early_data_size, 0);
        }
    }

    #[test]
    fn problems_of_all_certificates_and_of_the_authorities_come_together() {
        let folder = Folder::new();
        let tls = ListenerTls {
            certificates: vec![folder.entry("a", "a"), folder.entry("b", "b")],
            min_version: TlsVersion::Tls12,
            client_auth: ClientAuth::Required(Clients {
                ca: folder.path().join("ca.pem"),
                place: place("listener.https.tls.client_ca"),
                crl: Some(ClientCrl {
                    path: folder.path().join("crl.pem"),
                    place: place("listener.https.tls.client_crl"),
                }),
                forward_identity: ForwardIdentity::default(),
            }),
        };
        let problems = server(&tls, BOTH, &Tickets::new().unwrap()).unwrap_err();
        assert_eq!(problems.len(), 6);
        assert_eq!(&*problems[4].place.key, "listener.https.tls.client_ca");
        assert_eq!(&*problems[5].place.key, "listener.https.tls.client_crl");
    }
}
