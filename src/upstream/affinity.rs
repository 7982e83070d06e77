//! Keeps a client with the endpoint that answered it first, by a cookie. A hint, never a must: who may be asked is not decided
//! here. Touches no file and no clock.
//!
//! A cookie's value is an HMAC of the endpoint's name: it names an endpoint only to who has the key, and nobody else can make
//! one. It holds no time: it is good for as long as its key is. Values are worked out when a snapshot is compiled; a request
//! costs a look-up and a comparison.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foldhash::fast::FixedState;
use http::HeaderValue;
use http::header::{self, HeaderMap};

use super::{Endpoint, EndpointId, Tier, Upstream};
use crate::config;
use crate::message::cookie;
use crate::units::Name;

/// Which endpoint a client's cookie names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin {
    /// Its place in the upstream that the cookie was read for.
    pub index: u32,
    /// The endpoint itself.
    pub id: EndpointId,
    /// Whether the cookie is signed with the key in use. With another one it counts as well, and is written anew.
    is_current: bool,
}

/// What a request says of the endpoint it wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wanted {
    /// Nothing: there is no cookie.
    #[default]
    Nobody,
    /// A cookie that names nobody here: forged, of another upstream, signed with a key that is gone, or for an endpoint
    /// that is.
    Unknown,
    /// This one.
    Pinned(Pin),
}

impl Wanted {
    /// The endpoint, if there is one.
    pub fn pin(self) -> Option<Pin> {
        match self {
            Self::Pinned(pin) => Some(pin),
            Self::Nobody | Self::Unknown => None,
        }
    }
}

/// The cookies of one upstream.
#[derive(Debug)]
pub struct Affinity {
    name: Box<[u8]>,
    /// By the first part of their value. That may be found out by trying and taking time; the rest may not.
    known: HashMap<[u8; SELECTOR], Known, FixedState>,
    /// In the upstream's order: what tells a client its endpoint, over plain HTTP and over TLS.
    cookies: Box<[[HeaderValue; 2]]>,
}

#[derive(Debug)]
struct Known {
    proof: [u8; PROOF],
    endpoint: u32,
    is_current: bool,
}

/// Bytes by which a value is looked up: enough that none is there twice.
const SELECTOR: usize = 8;
/// Bytes that cannot be guessed: 128 bits.
const PROOF: usize = 16;

impl Affinity {
    /// For `endpoints` of the upstream `upstream`, in its order. Values are signed with the first of `keys`, and known by all.
    pub fn new(
        settings: &config::Affinity,
        upstream: &Name,
        endpoints: &[&Name],
        keys: &[Vec<u8>],
    ) -> Self {
        let mut known = HashMap::default();
        let mut cookies = Vec::with_capacity(endpoints.len());
        for (position, key) in keys.iter().enumerate() {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            for (endpoint, name) in (0..).zip(endpoints) {
                let value = value(&key, upstream, name);
                let (selector, proof) = split(value);
                if let Entry::Vacant(entry) = known.entry(selector) {
                    entry.insert(Known {
                        proof,
                        endpoint,
                        is_current: position == 0,
                    });
                }
                if position == 0 {
                    cookies.push([false, true].map(|tls| set_cookie(settings, &value, tls)));
                }
            }
        }
        Self {
            name: settings.cookie.as_bytes().into(),
            known,
            cookies: cookies.into(),
        }
    }

    /// Which endpoint of `upstream`, whose cookies these are, a request's cookie names. Takes the cookie out: it is ours and
    /// says nothing to endpoints. Of several the first counts that names one.
    pub fn take(&self, upstream: &Upstream, headers: &mut HeaderMap) -> Wanted {
        if !headers.contains_key(header::COOKIE) {
            return Wanted::Nobody;
        }
        let mut wanted = Wanted::Nobody;
        for value in cookie::values(headers, &self.name) {
            wanted = Wanted::Unknown;
            if let Some(known) = self.find(value)
                && let Some(endpoint) = upstream.endpoints.get(known.endpoint as usize)
            {
                wanted = Wanted::Pinned(Pin {
                    index: known.endpoint,
                    id: endpoint.id(),
                    is_current: known.is_current,
                });
                break;
            }
        }
        if wanted != Wanted::Nobody {
            cookie::remove(headers, &self.name);
        }
        wanted
    }

    fn find(&self, text: &[u8]) -> Option<&Known> {
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

    /// What tells a client of the endpoint at `index`.
    fn cookie(&self, index: usize, tls: bool) -> Option<&HeaderValue> {
        self.cookies
            .get(index)
            .map(|[plain, secure]| if tls { secure } else { plain })
    }
}

impl Upstream {
    /// What the client of a request that `wanted` an endpoint is told, now that `answered` has answered it; `None` where there is
    /// nothing to say. Counts clients that got another endpoint than they wanted.
    pub fn keep(&self, wanted: Wanted, answered: EndpointId, tls: bool) -> Option<&HeaderValue> {
        let affinity = self.affinity.as_deref()?;
        match wanted {
            Wanted::Nobody => {}
            Wanted::Unknown => self.metrics.count_repin("unknown_cookie"),
            Wanted::Pinned(pin) if pin.id == answered => {
                if pin.is_current {
                    return None;
                }
            }
            Wanted::Pinned(pin) => self.metrics.count_repin(self.why_not(pin)),
        }
        let is_it = |endpoint: &Arc<Endpoint>| endpoint.id() == answered;
        affinity.cookie(self.endpoints.iter().position(is_it)?, tls)
    }

    /// Why a client did not get the endpoint it wanted, as far as can be told afterwards.
    fn why_not(&self, pin: Pin) -> &'static str {
        match self.find(pin) {
            None => "gone",
            Some(endpoint) if endpoint.tier() != Tier::Eligible => endpoint.state().word(),
            Some(endpoint) if endpoint.is_backup() && self.shares.holds_back() => "backup",
            Some(endpoint) if !endpoint.has_room() => "full",
            Some(_) => "failed",
        }
    }

    /// The endpoint that `pin` names.
    pub(super) fn find(&self, pin: Pin) -> Option<&Arc<Endpoint>> {
        let is_it = |endpoint: &&Arc<Endpoint>| endpoint.id() == pin.id;
        // Where it was when the cookie was read; elsewhere after a reload in between.
        self.endpoints
            .get(pin.index as usize)
            .filter(is_it)
            .or_else(|| self.endpoints.iter().find(is_it))
    }
}

/// The same on every balancer with the same key and names.
fn value(key: &hmac::Key, upstream: &str, endpoint: &str) -> [u8; SELECTOR + PROOF] {
    // No name holds a zero: what goes in can be read in one way only.
    let named = ["balancer affinity", upstream, endpoint].join("\0");
    let tag = hmac::sign(key, named.as_bytes());
    let mut value = [0; SELECTOR + PROOF];
    value.copy_from_slice(&tag.as_ref()[..SELECTOR + PROOF]);
    value
}

fn split(value: [u8; SELECTOR + PROOF]) -> ([u8; SELECTOR], [u8; PROOF]) {
    let mut parts = ([0; SELECTOR], [0; PROOF]);
    parts.0.copy_from_slice(&value[..SELECTOR]);
    parts.1.copy_from_slice(&value[SELECTOR..]);
    parts
}

/// RFC 6265 §4.1.
fn set_cookie(settings: &config::Affinity, value: &[u8], tls: bool) -> HeaderValue {
    let value = URL_SAFE_NO_PAD.encode(value);
    let mut text = format!("{}={value}; Path={}", settings.cookie, settings.path);
    if let Some(max_age) = settings.max_age {
        text += &format!("; Max-Age={}", max_age.as_secs());
    }
    if tls {
        text += "; Secure";
    }
    text += "; HttpOnly; SameSite=Lax";
    HeaderValue::try_from(text).expect("the configuration has only visible ASCII here")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| Name::from(*name)).collect()
    }

    fn affinity(upstream: &str, endpoints: &[&str], keys: &[&[u8]]) -> Affinity {
        let settings = config::Affinity {
            cookie: "c".into(),
            key_file: "key".into(),
            path: "/".into(),
            max_age: None,
            place: config::Place {
                file: std::path::Path::new("f").into(),
                line: 1,
                column: 1,
                key: "".into(),
            },
        };
        let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
        let endpoints = names(endpoints);
        let endpoints: Vec<&Name> = endpoints.iter().collect();
        Affinity::new(&settings, &upstream.into(), &endpoints, &keys)
    }

    fn text(affinity: &Affinity, index: usize) -> Vec<u8> {
        let cookie = affinity.cookie(index, false).unwrap().as_bytes();
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
            assert_eq!((known.endpoint, known.is_current), (index, true));
        }
    }

    #[test]
    fn values_of_other_upstreams_and_keys_name_nobody() {
        let here = affinity("app", &["a", "b"], &[KEY]);
        for other in [
            affinity("other", &["a"], &[KEY]),
            affinity("app", &["c"], &[KEY]),
            affinity("app", &["a"], &[OLD]),
        ] {
            assert!(here.find(&text(&other, 0)).is_none());
        }
    }

    #[test]
    fn a_second_key_is_known_and_signs_nothing() {
        let before = affinity("app", &["a"], &[OLD]);
        let after = affinity("app", &["b", "a"], &[KEY, OLD]);
        let known = after.find(&text(&before, 0)).unwrap();
        assert_eq!((known.endpoint, known.is_current), (1, false));
        assert_ne!(text(&after, 1), text(&before, 0));
        // Put second first, the new key is known on balancers that do not sign with it yet.
        let announced = affinity("app", &["a"], &[OLD, KEY]);
        assert!(announced.find(&text(&after, 1)).is_some());
    }

    #[test]
    fn clients_over_tls_send_it_over_tls_only() {
        let affinity = affinity("app", &["a"], &[KEY]);
        let said = |tls| {
            affinity
                .cookie(0, tls)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
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
