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
use super::pem::read_lists;
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
    use std::time::{SystemTime, UNIX_EPOCH};

    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
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
}
