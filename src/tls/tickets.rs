//! Lets returning clients skip most of a handshake, and never what they would not have passed in full.
//!
//! Ticket keys are random, change every 6 hours and are accepted for 12; they leave the process only for the one that takes
//! its place.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use super::ticket_keys::{KeyRing, Keys};
use crate::lock::lock;

/// Ticket keys and stored sessions: one per process, so that tickets outlive a reload and work at every worker.
///
/// All listeners without client certificates share a key. Those with them share one only where the same authorities,
/// revocation lists and mode hold, so that a ticket is worth no more elsewhere than where it is from.
#[derive(Clone)]
pub struct Tickets {
    ticketer: Arc<KeyRing>,
    sessions: Arc<dyn StoresServerSessions>,
    /// As long as some listener, or a connection of one, uses them.
    groups: Arc<Mutex<HashMap<Group, Weak<OfClients>>>>,
    /// Keys of groups that a process before this one had, until a listener asks for them.
    handed: Arc<Mutex<HashMap<Group, Keys>>>,
}

/// All ticket keys, for the process that takes the place of this one. Whoever has them can read sessions: they are never
/// shown, and pass only between processes of one user.
#[derive(Deserialize, Serialize)]
pub struct TicketSecrets {
    anyone: Keys,
    clients: Vec<(Group, Keys)>,
}

/// What listeners have in common whose clients are verified in the same way: a hash of it.
pub(super) type Group = [u8; 32];

impl Tickets {
    /// Makes the first ticket key. Fails only where the system gives no random bytes.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            ticketer: Arc::new(KeyRing::new()?),
            sessions: ServerSessionMemoryCache::new(STORED_SESSIONS),
            groups: Arc::default(),
            handed: Arc::default(),
        })
    }

    /// Goes on with the keys of another process.
    pub fn with(secrets: TicketSecrets) -> Self {
        Self {
            ticketer: Arc::new(KeyRing::with(secrets.anyone)),
            sessions: ServerSessionMemoryCache::new(STORED_SESSIONS),
            groups: Arc::default(),
            handed: Arc::new(Mutex::new(secrets.clients.into_iter().collect())),
        }
    }

    /// The keys in use.
    pub fn secrets(&self) -> TicketSecrets {
        let groups = lock(&self.groups);
        let of_group = |(group, tickets): (&Group, &Weak<OfClients>)| {
            Some((*group, tickets.upgrade()?.ticketer.keys()))
        };
        TicketSecrets {
            anyone: self.ticketer.keys(),
            clients: groups.iter().filter_map(of_group).collect(),
        }
    }

    /// Those of listeners that ask for no certificate.
    pub(super) fn of_anyone(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.ticketer) as _
    }

    /// Sessions of clients without tickets, likewise.
    pub(super) fn sessions(&self) -> Arc<dyn StoresServerSessions> {
        Arc::clone(&self.sessions)
    }

    /// Those of the listeners in `group`, whose clients `verifier` verifies.
    pub(super) fn of_clients(
        &self,
        group: Group,
        verifier: &Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let mut groups = lock(&self.groups);
        groups.retain(|_, tickets| tickets.strong_count() > 0);
        if let Some(tickets) = groups.get(&group).and_then(Weak::upgrade) {
            return Ok(tickets);
        }
        let mut handed = lock(&self.handed);
        let tickets = Arc::new(OfClients {
            ticketer: match handed.remove(&group) {
                Some(keys) => KeyRing::with(keys),
                None => KeyRing::new()?,
            },
            verifier: Arc::clone(verifier),
        });
        groups.insert(group, Arc::downgrade(&tickets));
        Ok(tickets)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// Tickets of clients whose certificates were verified.
///
/// A ticket holds the certificate, and rustls takes it from there unseen, for as long as the client comes back in time for
/// another ticket. So it is verified again whenever a ticket is used: one that has expired since, or whose revocation list
/// has, leads to a whole handshake.
#[derive(Debug)]
struct OfClients {
    ticketer: KeyRing,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ProducesTickets for OfClients {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.ticketer.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // A client may show a long chain, of which it would have to carry each byte back and forth.
        if plain.len() > LARGEST {
            return None;
        }
        self.ticketer.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let session = self.ticketer.decrypt(cipher)?;
        let chain = Reader(&session).client_chain()?;
        match chain.split_first() {
            Some((shown, intermediates)) => self
                .verifier
                .verify_client_cert(shown, intermediates, UnixTime::now())
                .is_ok(),
            None => !self.verifier.client_auth_mandatory(),
        }
        .then_some(session)
    }
}

/// Reads what rustls writes into a ticket. That is no interface: with what does not read to the last byte as expected there
/// is no resumption.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The certificates the client has shown, its own first. Empty where it showed none.
    fn client_chain(mut self) -> Option<Vec<CertificateDer<'a>>> {
        if self.flag()? {
            self.vector(1)?; // server name
        }
        self.take(2)?; // version
        self.take(2)?; // cipher suite
        self.vector(1)?; // secret
        self.flag()?; // extended master secret
        let mut chain = Vec::new();
        if self.flag()? {
            let mut certificates = Reader(self.vector(3)?);
            while !certificates.0.is_empty() {
                chain.push(certificates.vector(3)?.into());
            }
        }
        if self.flag()? {
            self.vector(1)?; // ALPN
        }
        self.vector(2)?; // data of the application
        self.take(8)?; // when it was made
        self.take(4)?; // for its age
        self.0.is_empty().then_some(chain)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Bytes behind their number, which has `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?;
        let length = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        self.take(length)
    }
}

const LARGEST: usize = 16 * 1024; // three certificates are 4 KiB; a ticket has at most 64
const STORED_SESSIONS: usize = 8192; // for TLS 1.2 clients without tickets; about 1 KiB each

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use crate::tls::testing::{Authority, provider};

    /// What rustls writes for a session with these certificates.
    fn written(server_name: Option<&str>, chain: &[&[u8]]) -> Vec<u8> {
        let mut session = Vec::new();
        match server_name {
            Some(name) => {
                session.extend([1, u8::try_from(name.len()).unwrap()]);
                session.extend(name.as_bytes());
            }
            None => session.push(0),
        }
        session.extend([3, 4, 0x13, 1, 2, 7, 7, 0]);
        let number = |length: usize| u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        session.push(u8::from(!chain.is_empty()));
        if !chain.is_empty() {
            session.extend(number(chain.iter().map(|it| it.len() + 3).sum()));
            for certificate in chain {
                session.extend(number(certificate.len()));
                session.extend(*certificate);
            }
        }
        session.extend([1, 2, b'h', b'2', 0, 0]);
        session.extend([9; 12]);
        session
    }

    #[test]
    fn chain_is_found_in_its_order() {
        let session = written(Some("a.example"), &[b"own", b"intermediate"]);
        let chain = Reader(&session).client_chain().unwrap();
        assert_eq!(chain, [b"own"[..].into(), b"intermediate"[..].into()]);
        assert_eq!(Reader(&written(None, &[])).client_chain(), Some(Vec::new()));
    }

    #[test]
    fn what_is_longer_or_shorter_is_not_understood() {
        let session = written(Some("a.example"), &[b"own"]);
        for length in 0..session.len() {
            assert_eq!(Reader(&session[..length]).client_chain(), None, "{length}");
        }
        let longer = [&session[..], &[0]].concat();
        assert_eq!(Reader(&longer).client_chain(), None);
    }

    #[test]
    fn ticket_that_would_be_large_is_not_made() {
        let roots = Arc::new(Authority::new("ca").roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let tickets = Tickets::new().unwrap();
        let tickets = tickets.of_clients([0; 32], &verifier.build().unwrap());
        let tickets = tickets.unwrap();
        assert!(tickets.encrypt(&[0; LARGEST]).is_some());
        assert_eq!(tickets.encrypt(&[0; LARGEST + 1]), None);
    }

    #[test]
    fn tickets_of_a_process_are_good_at_the_one_that_takes_its_place() {
        let roots = Arc::new(Authority::new("ca").roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let verifier = verifier.allow_unauthenticated().build().unwrap();
        let before = Tickets::new().unwrap();
        let session = written(None, &[]);
        let of_anyone = before.of_anyone().encrypt(&session).unwrap();
        let clients = before.of_clients([1; 32], &verifier).unwrap();
        let of_client = clients.encrypt(&session).unwrap();
        let passed = serde_json::to_string(&before.secrets()).unwrap();
        let after = Tickets::with(serde_json::from_str(&passed).unwrap());
        assert_eq!(after.of_anyone().decrypt(&of_anyone), Some(session.clone()));
        assert_eq!(after.of_anyone().decrypt(&of_client), None);
        let clients = after.of_clients([1; 32], &verifier).unwrap();
        assert_eq!(clients.decrypt(&of_client), Some(session));
        let others = after.of_clients([2; 32], &verifier).unwrap();
        assert_eq!(others.decrypt(&of_client), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Reader(&bytes).client_chain();
        }
    }
}
