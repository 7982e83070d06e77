//! Cookies that name one of several things, an endpoint or a version, so that only who has the key can make and read them. Touches
//! no file and no clock.
//!
//! A cookie's value is an HMAC of the name: it holds no time and is good for as long as its key is. Values are worked out
//! beforehand; a request costs a look-up and a comparison.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foldhash::fast::FixedState;
use http::HeaderValue;

use crate::config::{Affinity, KeptBy};

/// By which cookies are made: what they are called, who they are for, and the keys.
#[derive(Debug)]
pub struct Baker {
    name: Box<str>,
    /// What follows the value.
    attributes: String,
    /// What is signed before the name of the thing.
    prefix: String,
    keys: Box<[hmac::Key]>,
}

impl Baker {
    /// For the upstream called `upstream`. Values are signed with the first of `keys`, and known by all.
    pub fn new(settings: &Affinity, upstream: &str, keys: &[Vec<u8>]) -> Self {
        // RFC 6265 §4.1.
        let mut attributes = format!("; Path={}", settings.path);
        if let Some(max_age) = settings.max_age {
            attributes += &format!("; Max-Age={}", max_age.as_secs());
        }
        let what = match settings.by {
            KeptBy::Endpoint => "balancer affinity",
            KeptBy::Version => "balancer version",
        };
        let keys = keys.iter();
        Self {
            name: settings.cookie.clone(),
            attributes,
            // No name holds a zero: what goes in can be read in one way only.
            prefix: [what, upstream, ""].join("\0"),
            keys: keys
                .map(|key| hmac::Key::new(hmac::HMAC_SHA256, key))
                .collect(),
        }
    }

    /// What the cookie is called.
    pub fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// The cookies of `names`, each known by its place.
    pub fn bake<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Cookies {
        let mut known = HashMap::default();
        let mut said = Vec::new();
        for (position, key) in self.keys.iter().enumerate() {
            for (index, name) in (0..).zip(names.clone()) {
                let value = self.value(key, name);
                let (selector, proof) = split(value);
                if let Entry::Vacant(entry) = known.entry(selector) {
                    entry.insert(Known {
                        proof,
                        index,
                        is_current: position == 0,
                    });
                }
                if position == 0 {
                    said.push([false, true].map(|tls| self.set_cookie(&value, tls)));
                }
            }
        }
        Cookies {
            known,
            said: said.into(),
        }
    }

    /// The same on every balancer with the same key and names.
    fn value(&self, key: &hmac::Key, name: &str) -> [u8; SELECTOR + PROOF] {
        let tag = hmac::sign(key, [&*self.prefix, name].concat().as_bytes());
        let mut value = [0; SELECTOR + PROOF];
        value.copy_from_slice(&tag.as_ref()[..SELECTOR + PROOF]);
        value
    }

    fn set_cookie(&self, value: &[u8], tls: bool) -> HeaderValue {
        let value = URL_SAFE_NO_PAD.encode(value);
        let mut text = format!("{}={value}{}", self.name, self.attributes);
        if tls {
            text += "; Secure";
        }
        text += "; HttpOnly; SameSite=Lax";
        HeaderValue::try_from(text).expect("the configuration has only visible ASCII here")
    }
}

/// Cookies, ready to be said and to be known again.
#[derive(Debug, Default)]
pub struct Cookies {
    /// By the first part of their value. That may be found out by trying and taking time; the rest may not.
    known: HashMap<[u8; SELECTOR], Known, FixedState>,
    /// By place: over plain HTTP and over TLS.
    said: Box<[[HeaderValue; 2]]>,
}

/// What a cookie names.
#[derive(Debug)]
pub struct Known {
    proof: [u8; PROOF],
    /// Its place.
    pub index: u32,
    /// Whether it is signed with the key in use. With another one it counts as well, and is written anew.
    pub is_current: bool,
}

/// Bytes by which a value is looked up: enough that none is there twice.
const SELECTOR: usize = 8;
/// Bytes that cannot be guessed: 128 bits.
const PROOF: usize = 16;

impl Cookies {
    /// What the value `text` of a cookie names.
    pub fn find(&self, text: &[u8]) -> Option<&Known> {
        let mut value = [0; SELECTOR + PROOF];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut value).ok()?;
        if length != value.len() {
            return None;
        }
        let (selector, proof) = split(value);
        let known = self.known.get(&selector)?;
        verify_slices_are_equal(&known.proof, &proof).ok()?;
        Some(known)
    }

    /// What tells a client of the one at `index`.
    pub fn said(&self, index: usize, tls: bool) -> Option<&HeaderValue> {
        let [plain, secure] = self.said.get(index)?;
        Some(if tls { secure } else { plain })
    }
}

fn split(value: [u8; SELECTOR + PROOF]) -> ([u8; SELECTOR], [u8; PROOF]) {
    let mut parts = ([0; SELECTOR], [0; PROOF]);
    parts.0.copy_from_slice(&value[..SELECTOR]);
    parts.1.copy_from_slice(&value[SELECTOR..]);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cookies(by: KeptBy, upstream: &str, names: &[&str], keys: &[&[u8]]) -> Cookies {
        let settings = Affinity {
            by,
            cookie: "c".into(),
            key_file: "key".into(),
            path: "/".into(),
            max_age: None,
            audit: None,
            place: crate::config::Place {
                file: std::path::Path::new("f").into(),
                line: 1,
                column: 1,
                key: "".into(),
            },
        };
        let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
        Baker::new(&settings, upstream, &keys).bake(names.iter().copied())
    }

    fn affinity(upstream: &str, endpoints: &[&str], keys: &[&[u8]]) -> Cookies {
        cookies(KeptBy::Endpoint, upstream, endpoints, keys)
    }

    fn text(cookies: &Cookies, index: usize) -> Vec<u8> {
        let cookie = cookies.said(index, false).unwrap().as_bytes();
        let pair = cookie.split(|byte| *byte == b';').next().unwrap();
        pair[b"c=".len()..].to_vec()
    }

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OLD: &[u8] = b"abcdef0123456789abcdef0123456789";

    #[test]
    fn a_value_names_its_endpoint_and_no_other() {
        let affinity = affinity("app", &["a", "b"], &[KEY]);
        for index in 0..2_u32 {
            let known = affinity.find(&text(&affinity, index as usize)).unwrap();
            assert_eq!((known.index, known.is_current), (index, true));
        }
    }

    #[test]
    fn values_of_other_upstreams_keys_and_kinds_name_nobody() {
        let here = affinity("app", &["a", "b"], &[KEY]);
        for other in [
            affinity("other", &["a"], &[KEY]),
            affinity("app", &["c"], &[KEY]),
            affinity("app", &["a"], &[OLD]),
            cookies(KeptBy::Version, "app", &["a"], &[KEY]),
        ] {
            assert!(here.find(&text(&other, 0)).is_none());
        }
    }

    #[test]
    fn regression_values_are_those_of_before_so_that_no_client_loses_its_place() {
        let here = affinity("app", &["a"], &[KEY]);
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, KEY),
            b"balancer affinity\0app\0a",
        );
        let value = URL_SAFE_NO_PAD.encode(&tag.as_ref()[..24]);
        assert_eq!(text(&here, 0), value.as_bytes());
    }

    #[test]
    fn a_second_key_is_known_and_signs_nothing() {
        let before = affinity("app", &["a"], &[OLD]);
        let after = affinity("app", &["b", "a"], &[KEY, OLD]);
        let known = after.find(&text(&before, 0)).unwrap();
        assert_eq!((known.index, known.is_current), (1, false));
        assert_ne!(text(&after, 1), text(&before, 0));
        // Put second first, the new key is known on balancers that do not sign with it yet.
        let announced = affinity("app", &["a"], &[OLD, KEY]);
        assert!(announced.find(&text(&after, 1)).is_some());
    }

    #[test]
    fn clients_over_tls_send_it_over_tls_only() {
        let affinity = affinity("app", &["a"], &[KEY]);
        let said = |tls| affinity.said(0, tls).unwrap().to_str().unwrap().to_owned();
        assert!(said(false).ends_with("; Path=/; HttpOnly; SameSite=Lax"));
        assert!(said(true).ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_value_is_accepted(at in 0_usize..32, byte in any::<u8>()) {
            let affinity = affinity("app", &["a", "b"], &[KEY]);
            let mut value = text(&affinity, 0);
            prop_assert_eq!(value.len(), 32);
            let is_same = value[at] == byte;
            value[at] = byte;
            prop_assert_eq!(affinity.find(&value).is_some(), is_same);
        }

        #[test]
        fn no_text_ends_in_a_panic(text in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(affinity("app", &["a"], &[KEY]).find(&text).is_none());
        }
    }
}
