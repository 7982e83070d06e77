//! A cookie that says until when its client is to read where it has written. A hint, never a must. Touches no file and no clock.
//!
//! Its value is a time and an HMAC of that. Who copies another client's cookie reads at the authority for what is left of the time,
//! and gets nothing else by it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use serde::{Deserialize, Serialize};

use crate::config::ReadYourWrites;
use crate::message::cookie;
use crate::units::unix_millis;

/// What a route remembers of who has written.
#[derive(Debug)]
pub struct Written {
    name: Box<str>,
    /// What follows the value.
    attributes: String,
    /// What is signed before the time.
    prefix: Vec<u8>,
    window: Duration,
    keys: Keys,
}

/// What cookies are signed with: by the first, and known by all.
pub type Keys = Arc<[hmac::Key]>;

/// What a process signs with where no file says it. Never shown, and given to nobody but the process that takes its place.
#[derive(Clone, Deserialize, Serialize)]
pub struct Secret([u8; SECRET]);

impl Secret {
    /// One that nobody else has; `None` where the system has no randomness.
    pub fn random() -> Option<Self> {
        let mut secret = [0; SECRET];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(Self(secret))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// Bytes of a secret: as long as what comes of the hash (RFC 2104 §3).
const SECRET: usize = 32;

/// Bytes of the time: milliseconds since 1970, the greatest first.
const TIME: usize = 8;
/// Bytes that cannot be guessed: 128 bits.
const PROOF: usize = 16;
/// Cookies of this name that are looked at. A client has one; many are to cost no more.
const LOOKED_AT: usize = 4;

impl Written {
    /// For those who write to the upstream called `upstream`.
    pub fn new(settings: &ReadYourWrites, upstream: &str, keys: Keys) -> Self {
        // RFC 6265 §4.1: whole seconds, and not less than it is good for.
        let seconds = settings.window.as_millis().div_ceil(1000);
        // No name holds a zero: what goes in can be read in one way only.
        let prefix = ["balancer written", upstream, ""].join("\0");
        Self {
            name: settings.cookie.clone(),
            attributes: format!("; Path={}; Max-Age={seconds}", settings.path),
            prefix: prefix.into_bytes(),
            window: settings.window,
            keys,
        }
    }

    /// Keys of these secrets.
    pub fn keys(secrets: &[Vec<u8>]) -> Keys {
        secrets.iter().map(|secret| key(secret)).collect()
    }

    /// The key of a process.
    pub fn own_key(secret: &Secret) -> Keys {
        Arc::new([key(&secret.0)])
    }

    /// What a client is told that has written at `now`.
    pub fn said(&self, now: SystemTime, tls: bool) -> Option<HeaderValue> {
        let until = unix_millis(now + self.window).to_be_bytes();
        let proof = self.proof(self.keys.first()?, until);
        let value = URL_SAFE_NO_PAD.encode([&until[..], &proof].concat());
        let secure = if tls { "; Secure" } else { "" };
        let (name, attributes) = (&self.name, &self.attributes);
        let text = format!("{name}={value}{attributes}{secure}; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(text).ok()
    }

    /// Whether the client of a request with these fields has written so short a time before `now`.
    pub fn is_recent(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        if !headers.contains_key(COOKIE) {
            return false;
        }
        let mut values = cookie::values(headers, self.name.as_bytes()).take(LOOKED_AT);
        values.any(|value| self.holds(value, now))
    }

    fn holds(&self, text: &[u8], now: SystemTime) -> bool {
        let mut value = [0; TIME + PROOF];
        let Ok(TAKEN) = URL_SAFE_NO_PAD.decode_slice(text, &mut value) else {
            return false;
        };
        let (mut until, mut proof) = ([0; TIME], [0; PROOF]);
        until.copy_from_slice(&value[..TIME]);
        proof.copy_from_slice(&value[TIME..]);
        let good_until = u64::from_be_bytes(until);
        // Nor longer than any is good that is made now: a reload, or the clock, may have made it less.
        let is_now = unix_millis(now) < good_until && good_until <= unix_millis(now + self.window);
        let is_ours =
            |key: &hmac::Key| verify_slices_are_equal(&self.proof(key, until), &proof).is_ok();
        is_now && self.keys.iter().any(is_ours)
    }

    /// Takes the cookie out: it is ours and says nothing to endpoints.
    pub fn take(&self, headers: &mut HeaderMap) {
        if headers.contains_key(COOKIE) {
            cookie::remove(headers, self.name.as_bytes());
        }
    }

    fn proof(&self, key: &hmac::Key, until: [u8; TIME]) -> [u8; PROOF] {
        let mut context = hmac::Context::with_key(key);
        context.update(&self.prefix);
        context.update(&until);
        let mut proof = [0; PROOF];
        proof.copy_from_slice(&context.sign().as_ref()[..PROOF]);
        proof
    }
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

const TAKEN: usize = TIME + PROOF;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn written(window: u64, upstream: &str, secrets: &[&str]) -> Written {
        let settings = ReadYourWrites {
            window: Duration::from_millis(window),
            cookie: "wrote".into(),
            key_file: None,
            path: "/".into(),
            place: crate::config::Place {
                file: std::path::Path::new("f").into(),
                line: 1,
                column: 1,
                key: "".into(),
            },
        };
        let secrets: Vec<_> = secrets.iter().map(|it| it.as_bytes().to_vec()).collect();
        Written::new(&settings, upstream, Written::keys(&secrets))
    }

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)
    }

    /// The pair of a cookie that was said then.
    fn pair(written: &Written, now: u64) -> String {
        let said = written.said(at(now), false).unwrap();
        let said = said.to_str().unwrap();
        said.split(';').next().unwrap().to_owned()
    }

    fn holds(written: &Written, pair: &str, now: u64) -> bool {
        let fields = [(COOKIE, HeaderValue::try_from(pair).unwrap())];
        written.is_recent(&fields.into_iter().collect(), at(now))
    }

    #[test]
    fn cookie_is_good_for_its_time_and_not_a_moment_longer() {
        let written = written(2000, "app", &["secret"]);
        let pair = pair(&written, 0);
        assert!(holds(&written, &pair, 0) && holds(&written, &pair, 1999));
        assert!(!holds(&written, &pair, 2000) && !holds(&written, &pair, 100_000));
        // Said by a clock that goes before, or under an earlier file: longer than any is good now.
        let ahead = self::pair(&written, 1);
        assert!(!holds(&written, &ahead, 0));
    }

    #[test]
    fn cookies_of_others_are_not_known() {
        let here = written(2000, "app", &["secret", "old"]);
        for other in [
            written(2000, "other", &["secret"]),
            written(2000, "app", &["forged"]),
        ] {
            assert!(!holds(&here, &pair(&other, 0), 1));
        }
        let before = written(2000, "app", &["old"]);
        assert!(holds(&here, &pair(&before, 0), 1));
        let many = ["wrote=x"; LOOKED_AT].join("; ");
        let pair = pair(&here, 0);
        assert!(holds(&here, &format!("wrote=x; {pair}"), 1));
        assert!(!holds(&here, &format!("{many}; {pair}"), 1));
    }

    #[test]
    fn clients_over_tls_send_it_over_tls_only() {
        let written = written(1500, "app", &["secret"]);
        let said = |tls| {
            written
                .said(at(0), tls)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert!(said(false).ends_with("; Path=/; Max-Age=2; HttpOnly; SameSite=Lax"));
        assert!(said(true).ends_with("; Path=/; Max-Age=2; Secure; HttpOnly; SameSite=Lax"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_cookie_is_accepted(index in 0_usize..32, byte in any::<u8>()) {
            let written = written(2000, "app", &["secret"]);
            let value = pair(&written, 0);
            let mut value = value.strip_prefix("wrote=").unwrap().as_bytes().to_vec();
            prop_assert_eq!(value.len(), 32);
            let is_same = value[index] == byte;
            value[index] = byte;
            prop_assert_eq!(written.holds(&value, at(1)), is_same);
        }

        #[test]
        fn no_text_ends_in_a_panic(text in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!written(2000, "app", &["secret"]).holds(&text, at(0)));
        }
    }
}
