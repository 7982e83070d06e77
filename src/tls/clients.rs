//! Verifies clients by their certificates: which authorities sign them, and which they have revoked.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificates::{Authorities, load_authorities};
use super::expiry::{self, lasting};
use super::files;
use super::pem::read_lists;
use super::tickets::Group;
use crate::config::{ClientAuth, ClientCrl, Clients, Problem};

/// A file of revocation lists in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevocationInfo {
    /// Its path as configured.
    pub label: String,
    /// When the first of them ends, in seconds since 1970-01-01 UTC.
    pub next_update: i64,
}

/// How clients are verified.
pub(super) struct Verification {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Which other listeners' clients are verified in the same way.
    pub(super) group: Group,
    pub(super) revocation: Option<RevocationInfo>,
    pub(super) warnings: Vec<Problem>,
}

/// Reads what `auth` names. `now` is in seconds since 1970-01-01 UTC. None where no certificates are asked for.
pub(super) fn verification(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
    now: i64,
) -> Result<Option<Verification>, Vec<Problem>> {
    let (clients, required) = match auth {
        ClientAuth::Off => return Ok(None),
        ClientAuth::Optional(clients) => (clients, false),
        ClientAuth::Required(clients) => (clients, true),
    };
    let Clients { ca, place, crl, .. } = clients;
    let authorities = load_authorities(ca, place);
    let lists = match crl {
        Some(crl) => load_lists(crl).map(Some),
        None => Ok(None),
    };
    let (authorities, lists) = match (authorities, lists) {
        (Ok(authorities), Ok(lists)) => (authorities, lists),
        (authorities, lists) => {
            let found = [authorities.err(), lists.err()];
            return Err(found.into_iter().flatten().flatten().collect());
        }
    };
    let Authorities {
        certificates,
        roots,
    } = authorities;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let group = group(
        required,
        &certificates,
        lists.as_ref().map(|lists| lists.lists.as_slice()),
    );
    let (mut revocation, mut warnings) = (None, Vec::new());
    if let (Some(lists), Some(crl)) = (lists, crl) {
        warnings = lists.warnings(crl, &certificates, now);
        revocation = Some(RevocationInfo {
            label: crl.path.display().to_string(),
            next_update: lists.next_update,
        });
        // What is not known to be good is refused: without a list of its authority, or with one that has ended.
        builder = builder
            .with_crls(lists.lists)
            .enforce_revocation_expiration();
    }
    match builder.build() {
        Ok(verifier) => Ok(Some(Verification {
            verifier,
            group,
            revocation,
            warnings,
        })),
        Err(error) => {
            let place = crl.as_ref().map_or(place, |crl| &crl.place);
            Err(vec![
                place.problem(format!("cannot verify clients: {error}")),
            ])
        }
    }
}

/// The same for the same authorities and lists in any order, and the same mode.
fn group(
    required: bool,
    authorities: &[CertificateDer<'_>],
    lists: Option<&[CertificateRevocationListDer<'_>]>,
) -> Group {
    let hash = |bytes: &[u8]| -> Group {
        let mut hash = [0; 32];
        hash.copy_from_slice(files::sha256(bytes).as_ref());
        hash
    };
    let sorted = |mut hashes: Vec<Group>| {
        hashes.sort_unstable();
        hashes.dedup();
        hash(hashes.as_flattened())
    };
    let authorities = sorted(authorities.iter().map(|it| hash(it)).collect());
    let lists = lists.map(|lists| sorted(lists.iter().map(|it| hash(it)).collect()));
    let mut whole = vec![u8::from(required)];
    whole.extend(authorities);
    whole.extend(lists.unwrap_or_default());
    hash(&whole)
}

/// The revocation lists of a file.
struct Lists {
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// The names of those who made them, encoded.
    issuers: Vec<Vec<u8>>,
    /// When the first of them ends.
    next_update: i64,
}

fn load_lists(crl: &ClientCrl) -> Result<Lists, Vec<Problem>> {
    let ClientCrl { path, place } = crl;
    let lists = read_lists(path, place).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut issuers = Vec::new();
    let mut next_update = i64::MAX;
    for (index, list) in lists.iter().enumerate() {
        let mut unclear = |reason: &str| {
            problems.push(place.problem(format!(
                "revocation list {} in {} cannot be understood: {reason}",
                index + 1,
                path.display()
            )));
        };
        let parsed = match CertificateRevocationList::from_der(list) {
            Ok((_, parsed)) => parsed,
            Err(error) => {
                unclear(&error.to_string());
                continue;
            }
        };
        issuers.push(parsed.issuer().as_raw().to_vec());
        match parsed.next_update() {
            Some(time) => next_update = next_update.min(time.timestamp()),
            // RFC 5280 §5.1.2.5
            None => unclear("it does not say when the next one comes (nextUpdate)"),
        }
    }
    if problems.is_empty() {
        Ok(Lists {
            lists,
            issuers,
            next_update,
        })
    } else {
        Err(problems)
    }
}

impl Lists {
    fn warnings(
        &self,
        crl: &ClientCrl,
        authorities: &[CertificateDer<'_>],
        now: i64,
    ) -> Vec<Problem> {
        let path = crl.path.display();
        let mut warnings = Vec::new();
        let left = self.next_update - now;
        if left < 0 {
            warnings.push(format!(
                "a revocation list in {path} ended {} ago: clients of its authority are refused; renew it and reload",
                lasting(-left)
            ));
        } else if expiry::urgency(self.next_update, now) == Some(expiry::Urgency::Now) {
            warnings.push(format!(
                "a revocation list in {path} ends in {}, on {}; from then on clients of its authority are refused",
                lasting(left),
                expiry::date(self.next_update)
            ));
        }
        for authority in authorities {
            let Ok((_, authority)) = X509Certificate::from_der(authority) else {
                continue;
            };
            let subject = authority.subject();
            if !self.issuers.iter().any(|issuer| issuer == subject.as_raw()) {
                warnings.push(format!(
                    "no revocation list of {subject} in {path}: its clients are refused"
                ));
            }
        }
        warnings
            .into_iter()
            .map(|warning| crl.place.problem(warning))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use rustls::client::ResolvesClientCert;
    use rustls::sign::CertifiedKey;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, HandshakeKind, SignatureScheme, SupportedProtocolVersion};
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::config::{ForwardIdentity, ListenerTls, TlsVersion};
    use crate::tls::testing::{Authority, Folder, handshake, place, provider};
    use crate::tls::{Alpn, Server, Tickets, server};

    type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

    const HOUR: i64 = 60 * 60;
    const TLS_12: &[&SupportedProtocolVersion] = &[&TLS12];
    const TLS_13: &[&SupportedProtocolVersion] = &[&TLS13];

    fn now() -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_secs()).unwrap()
    }

    /// An authority with a server certificate of its own, and what it trusts.
    struct Site {
        folder: Folder,
        authority: Authority,
        tickets: Tickets,
        tls: ListenerTls,
    }

    impl Site {
        fn new() -> Self {
            let (folder, authority) = (Folder::new(), Authority::new("ca"));
            let ca = folder.path().join("ca.pem");
            fs::write(&ca, authority.pem()).unwrap();
            let clients = Clients {
                ca,
                place: place("listener.https.tls.client_ca"),
                crl: None,
                forward_identity: ForwardIdentity::default(),
            };
            let tls = ListenerTls {
                certificates: vec![authority.certificate(&folder, "a", &["a.example"])],
                min_version: TlsVersion::Tls12,
                client_auth: ClientAuth::Required(clients),
            };
            Self {
                folder,
                authority,
                tickets: Tickets::new().unwrap(),
                tls,
            }
        }

        fn set_lists(&mut self, lists: &str) {
            let path = self.folder.path().join("crl.pem");
            fs::write(&path, lists).unwrap();
            if let ClientAuth::Required(clients) = &mut self.tls.client_auth {
                let place = place("listener.https.tls.client_crl");
                clients.crl = Some(ClientCrl { path, place });
            }
        }

        fn server(&self) -> Server {
            let alpn = Alpn {
                http1: true,
                http2: true,
            };
            server(&self.tls, alpn, &self.tickets).unwrap()
        }

        fn client(
            &self,
            versions: &[&'static SupportedProtocolVersion],
            (chain, key): &Identity,
        ) -> ClientConfig {
            ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(self.authority.roots())
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .unwrap()
        }
    }

    fn kind(server: &Server, client: &ClientConfig) -> Result<HandshakeKind, rustls::Error> {
        let (_, server) = handshake(&Arc::new(client.clone()), &server.config, "a.example")?;
        assert!(
            server
                .peer_certificates()
                .is_some_and(|chain| !chain.is_empty())
        );
        Ok(server.handshake_kind().unwrap())
    }

    #[test]
    fn clients_that_were_revoked_are_refused() {
        let mut site = Site::new();
        let (good, bad) = (site.authority.identity(), site.authority.identity());
        site.set_lists(&site.authority.revocation_list(&[&bad.0[0]], now() + HOUR));
        let server = site.server();
        for versions in [TLS_12, TLS_13] {
            assert!(kind(&server, &site.client(versions, &good)).is_ok());
            assert_eq!(
                kind(&server, &site.client(versions, &bad)),
                Err(rustls::CertificateError::Revoked.into())
            );
        }
        let label = site.folder.path().join("crl.pem").display().to_string();
        assert_eq!(server.revocation.unwrap().label, label);
    }

    #[test]
    fn without_a_list_that_holds_nobody_is_known_to_be_good() {
        let mut site = Site::new();
        let client = site.client(TLS_13, &site.authority.identity());
        for (lists, warning) in [
            (
                Authority::new("other").revocation_list(&[], now() + 48 * HOUR),
                "no revocation list of CN=ca",
            ),
            (
                site.authority.revocation_list(&[], now() - HOUR - 60),
                "ended 1 hour ago: clients of its authority are refused",
            ),
        ] {
            site.set_lists(&lists);
            let server = site.server();
            assert!(kind(&server, &client).is_err(), "{warning}");
            assert_eq!(server.warnings.len(), 1, "{:?}", server.warnings);
            assert!(
                server.warnings[0].message.contains(warning),
                "{:?}",
                server.warnings
            );
        }
        // Of several lists each is for the clients of its own authority.
        let lists = [&Authority::new("other"), &site.authority];
        let lists = lists.map(|authority| authority.revocation_list(&[], now() + 3 * HOUR / 2));
        site.set_lists(&lists.concat());
        let server = site.server();
        assert!(kind(&server, &client).is_ok());
        assert!(
            server.warnings[0].message.contains("ends in 1 hour, on "),
            "{:?}",
            server.warnings
        );
    }

    #[test]
    fn files_without_a_usable_list_are_refused() {
        let mut site = Site::new();
        for (text, problem) in [
            ("", "no revocation list in "),
            (
                "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
                "revocation list 1 in ",
            ),
        ] {
            site.set_lists(text);
            let found = server(
                &site.tls,
                Alpn {
                    http1: true,
                    http2: true,
                },
                &site.tickets,
            )
            .unwrap_err();
            assert_eq!(found.len(), 1);
            assert_eq!(&*found[0].place.key, "listener.https.tls.client_crl");
            assert!(found[0].message.starts_with(problem), "{found:?}");
        }
    }

    #[test]
    fn returning_client_resumes_while_its_group_stays() {
        let mut site = Site::new();
        let identity = site.authority.identity();
        site.set_lists(&site.authority.revocation_list(&[], now() + HOUR));
        for versions in [TLS_12, TLS_13] {
            let client = site.client(versions, &identity);
            let before = site.server();
            assert_eq!(kind(&before, &client), Ok(HandshakeKind::Full));
            assert_eq!(kind(&before, &client), Ok(HandshakeKind::Resumed));
            let after = site.server();
            assert_eq!(kind(&after, &client), Ok(HandshakeKind::Resumed));
        }
        let client = site.client(TLS_13, &identity);
        let before = site.server();
        assert_eq!(kind(&before, &client), Ok(HandshakeKind::Full));
        let revoked = site
            .authority
            .revocation_list(&[&identity.0[0]], now() + HOUR);
        site.set_lists(&revoked);
        let after = site.server();
        assert_eq!(
            kind(&after, &client),
            Err(rustls::CertificateError::Revoked.into()),
            "a ticket from before the revocation is worth nothing"
        );
    }

    /// A client that comes back with its tickets after it was given another certificate.
    #[derive(Debug)]
    struct Renewing(Mutex<Arc<CertifiedKey>>);

    impl Renewing {
        fn certified((chain, key): Identity) -> Arc<CertifiedKey> {
            Arc::new(CertifiedKey::from_der(chain, key, &provider()).unwrap())
        }
    }

    impl ResolvesClientCert for Renewing {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0.lock().unwrap()))
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    #[test]
    fn certificate_that_has_ended_cannot_be_resumed_with() {
        let site = Site::new();
        let server = site.server();
        let end = now() + 4; // after eight handshakes, on a busy machine
        let identity = site.authority.identity_until(end);
        let check = |versions| {
            let client = || {
                let own = Renewing::certified((identity.0.clone(), identity.1.clone_key()));
                let own = Arc::new(Renewing(Mutex::new(own)));
                let mut client = site.client(versions, &identity);
                client.client_auth_cert_resolver = Arc::clone(&own) as _;
                assert_eq!(kind(&server, &client), Ok(HandshakeKind::Full));
                assert_eq!(kind(&server, &client), Ok(HandshakeKind::Resumed));
                (client, own)
            };
            let ((stays, _), (renews, own)) = (client(), client());
            while now() <= end {
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(kind(&server, &stays).is_err(), "{versions:?}");
            *own.0.lock().unwrap() = Renewing::certified(site.authority.identity());
            assert_eq!(
                kind(&server, &renews),
                Ok(HandshakeKind::Full),
                "the ticket is passed over, and the client shows its new certificate"
            );
            assert_eq!(kind(&server, &renews), Ok(HandshakeKind::Resumed));
        };
        std::thread::scope(|scope| {
            scope.spawn(|| check(TLS_12));
            scope.spawn(|| check(TLS_13));
        });
    }

    #[test]
    fn groups_are_those_of_the_same_authorities_lists_and_mode() {
        let [a, b] = ["a", "b"].map(|name| CertificateDer::from(name.as_bytes().to_vec()));
        let list = CertificateRevocationListDer::from(vec![1]);
        let other = CertificateRevocationListDer::from(vec![2]);
        let one_list = Some(std::slice::from_ref(&list));
        let one = group(true, &[a.clone(), b.clone()], one_list);
        assert_eq!(one, group(true, &[b.clone(), a.clone()], one_list));
        let others = [
            group(false, &[a.clone(), b.clone()], one_list),
            group(true, std::slice::from_ref(&a), one_list),
            group(true, &[a.clone(), b.clone()], Some(&[other])),
            group(true, &[a.clone(), b.clone()], Some(&[])),
            group(true, &[a, b], None),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, one, "{index}");
            assert!(!others[..index].contains(other), "{index}");
        }
    }
}
