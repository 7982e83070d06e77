//! Keys that session tickets are sealed with. Random; a new one every 6 hours, and the one before it is good for 6 more. Says
//! nothing of what is in a ticket.
//!
//! Those that rustls makes cannot be handed to the process that takes the place of this one, which would end every session.

use std::fmt;
use std::sync::{Arc, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::lock;

/// Seals tickets with the newest key, and opens those of the one before it.
pub(super) struct KeyRing(RwLock<Ring>);

/// The keys of a ring, as another process gets them.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Keys {
    current: Secret,
    previous: Option<Secret>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Secret {
    /// By which a ticket says with what it is sealed.
    name: [u8; NAME],
    key: [u8; KEY],
    /// Unix time in seconds.
    since: u64,
}

/// Written when a key is due, read with every ticket.
struct Ring {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
}

struct Key {
    secret: Secret,
    sealing: RandomizedNonceKey,
}

impl KeyRing {
    /// Makes the first key. Fails only where the system gives no random bytes.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let current = Key::random(now()).ok_or(rustls::Error::FailedToGetRandomBytes)?;
        Ok(Self(RwLock::new(Ring {
            current: Arc::new(current),
            previous: None,
        })))
    }

    /// Goes on with the keys of another.
    pub(super) fn with(keys: Keys) -> Self {
        Self(RwLock::new(Ring {
            current: Arc::new(Key::of(keys.current)),
            previous: keys.previous.map(|secret| Arc::new(Key::of(secret))),
        }))
    }

    pub(super) fn keys(&self) -> Keys {
        let ring = lock::read(&self.0);
        Keys {
            current: ring.current.secret.clone(),
            previous: ring.previous.as_ref().map(|key| key.secret.clone()),
        }
    }

    /// The key to seal with at `now`, and the one before it where that is still good.
    fn at(&self, now: u64) -> (Arc<Key>, Option<Arc<Key>>) {
        let good = |ring: &Ring| {
            let previous = ring.previous.clone();
            let previous = previous.filter(|key| key.age(now) < 2 * IN_USE);
            (Arc::clone(&ring.current), previous)
        };
        let ring = lock::read(&self.0);
        if !ring.current.is_due(now) {
            return good(&ring);
        }
        drop(ring);
        let mut ring = lock::write(&self.0);
        // Another thread may have been faster. Without random bytes the old one has to do.
        if ring.current.is_due(now)
            && let Some(key) = Key::random(now)
        {
            ring.previous = Some(std::mem::replace(&mut ring.current, Arc::new(key)));
        }
        good(&ring)
    }

    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let (key, _) = self.at(now);
        let mut sealed = plain.to_vec();
        let name = &key.secret.name;
        let nonce = key
            .sealing
            .seal_in_place_append_tag(Aad::from(name), &mut sealed)
            .ok()?;
        Some([&name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (current, previous) = self.at(now);
        let mut keys = std::iter::once(current).chain(previous);
        let key = keys.find(|key| key.secret.name == *name)?;
        let mut plain = sealed.to_vec();
        let opened = key
            .sealing
            .open_in_place(Nonce::from(nonce), Aad::from(name), &mut plain);
        let length = opened.ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl ProducesTickets for KeyRing {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(2 * IN_USE).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

impl Key {
    fn random(now: u64) -> Option<Self> {
        let mut secret = Secret {
            name: [0; NAME],
            key: [0; KEY],
            since: now,
        };
        aws_lc_rs::rand::fill(&mut secret.name).ok()?;
        aws_lc_rs::rand::fill(&mut secret.key).ok()?;
        Some(Self::of(secret))
    }

    fn of(secret: Secret) -> Self {
        Self {
            sealing: RandomizedNonceKey::new(&AES_256_GCM, &secret.key)
                .expect("the key has the length of the algorithm"),
            secret,
        }
    }

    /// Whether another one is to take its place. One from the future, of another process before a clock was set right, would
    /// else stay for as long.
    fn is_due(&self, now: u64) -> bool {
        self.secret.since > now + STEP || self.age(now) >= IN_USE
    }

    /// A clock that was set back makes none older.
    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.secret.since)
    }
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}

const NAME: usize = 16;
const KEY: usize = 32; // AES-256
/// Seconds in which a key seals; for as many again it opens. Too few for nonces of 96 random bits to meet (2³² of them).
const IN_USE: u64 = 6 * 60 * 60;
/// Seconds by which a clock is set back in the normal course of things.
const STEP: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_is_good_for_the_time_of_its_key_and_of_the_next_one() {
        let ring = KeyRing::new().unwrap();
        let start = now();
        let ticket = ring.seal(b"session", start).unwrap();
        for later in [0, IN_USE - 60, IN_USE + 60, 2 * IN_USE - 60] {
            let opened = ring.open(&ticket, start + later);
            assert_eq!(opened.as_deref(), Some(&b"session"[..]), "{later}");
        }
        assert_eq!(ring.open(&ticket, start + 2 * IN_USE + 60), None);
    }

    #[test]
    fn regression_key_from_the_future_is_replaced_at_once_and_opens_what_it_has_sealed() {
        let before = KeyRing::new().unwrap();
        let start = now();
        before.at(start + 10 * IN_USE);
        let ticket = before.seal(b"session", start + 10 * IN_USE).unwrap();
        let ring = KeyRing::with(before.keys());
        let opened = ring.open(&ticket, start);
        assert_eq!(opened.as_deref(), Some(&b"session"[..]));
        assert_eq!(ring.keys().current.since, start);
        let current = ring.keys().current.name;
        ring.at(start + IN_USE - 60);
        assert_eq!(ring.keys().current.name, current);
        ring.at(start + IN_USE);
        assert_ne!(ring.keys().current.name, current);
    }

    #[test]
    fn nobody_else_opens_it_and_nothing_of_it_may_be_changed() {
        let (ring, other) = (KeyRing::new().unwrap(), KeyRing::new().unwrap());
        let ticket = ring.seal(b"session", now()).unwrap();
        assert_eq!(other.open(&ticket, now()), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(ring.open(&changed, now()), None, "{at}");
            assert_eq!(ring.open(&ticket[..at], now()), None, "{at}");
        }
        assert_ne!(ring.seal(b"session", now()).unwrap(), ticket);
    }

    #[test]
    fn keys_are_not_shown() {
        let shown = format!("{:?}", KeyRing::new().unwrap());
        assert_eq!(shown, "KeyRing { .. }");
    }
}
