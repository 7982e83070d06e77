//! Keeps a client with the endpoint that answered it first, or with those that run the same version, by a cookie. A hint, never a
//! must: who may be asked is not decided here. Touches no file and no clock.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{self, HeaderMap};

use super::audit::Audit;
use super::cookies::{Baker, Cookies};
use super::sides::{Sides, VersionPin};
use super::{Endpoint, EndpointId, Tier, Upstream};
use crate::balance::Policy;
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
    /// Whether the cookie is signed with the key in use.
    is_current: bool,
    /// Whether the request shall go to another one all the same, to see what that says.
    is_lent: bool,
}

impl Pin {
    /// The same, of a request that shall go to another one.
    pub(super) fn lent(self) -> Self {
        Self {
            is_lent: true,
            ..self
        }
    }

    /// Whether it shall.
    pub fn is_lent(self) -> bool {
        self.is_lent
    }
}

/// What a request says of whom it wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wanted {
    /// Nothing: there is no cookie.
    #[default]
    Nobody,
    /// A cookie that names nobody here: forged, of another upstream, signed with a key that is gone, or for an endpoint
    /// that is.
    Unknown,
    /// This endpoint.
    Pinned(Pin),
    /// One that runs this version.
    Version(VersionPin),
}

impl Wanted {
    /// The endpoint, if there is one.
    pub fn pin(self) -> Option<Pin> {
        match self {
            Self::Pinned(pin) => Some(pin),
            Self::Nobody | Self::Unknown | Self::Version(_) => None,
        }
    }

    /// The version, if there is one.
    pub fn version(self) -> Option<VersionPin> {
        match self {
            Self::Version(pin) => Some(pin),
            Self::Nobody | Self::Unknown | Self::Pinned(_) => None,
        }
    }
}

/// How one upstream keeps its clients.
#[derive(Debug)]
pub struct Affinity {
    baker: Baker,
    kept: Kept,
    /// Whether clients could be moved; `None`: nobody asks.
    audit: Option<Box<Audit>>,
}

#[derive(Debug)]
enum Kept {
    /// By endpoint, in the upstream's order.
    Endpoint(Cookies),
    Version(Sides),
}

impl Affinity {
    /// For `endpoints` of the upstream `upstream`, in its order. Values are signed with the first of `keys`, and known by all.
    pub fn new(
        settings: &config::Affinity,
        upstream: &Name,
        endpoints: &[&Name],
        keys: &[Vec<u8>],
    ) -> Self {
        let baker = Baker::new(settings, upstream, keys);
        let kept = match settings.by {
            config::KeptBy::Endpoint => {
                Kept::Endpoint(baker.bake(endpoints.iter().map(|name| &***name)))
            }
            config::KeptBy::Version => Kept::Version(Sides::default()),
        };
        Self {
            baker,
            kept,
            audit: None,
        }
    }

    /// The same, with an audit.
    pub fn audited(self, audit: Option<Audit>) -> Self {
        Self {
            audit: audit.map(Box::new),
            ..self
        }
    }

    /// How it is audited, if it is.
    pub fn audit(&self) -> Option<&Audit> {
        self.audit.as_deref()
    }

    /// The same, where `before` was in use until now: versions that were known there are known here. `policy` is the upstream's.
    pub fn following(self, before: Option<&Self>, policy: &Policy) -> Self {
        if let Kept::Version(sides) = &self.kept
            && let Some(Kept::Version(before)) = before.map(|before| &before.kept)
        {
            sides.follow(before, &self.baker, policy);
        }
        self
    }

    /// The sides of versions, where clients are kept with these.
    pub(super) fn sides(&self) -> Option<(&Sides, &Baker)> {
        match &self.kept {
            Kept::Endpoint(_) => None,
            Kept::Version(sides) => Some((sides, &self.baker)),
        }
    }

    /// Whom of `upstream`, whose cookies these are, a request's cookie names. Takes the cookie out: it is ours and says nothing to
    /// endpoints. Of several the first counts that names somebody.
    pub fn take(&self, upstream: &Upstream, headers: &mut HeaderMap) -> Wanted {
        if !headers.contains_key(header::COOKIE) {
            return Wanted::Nobody;
        }
        let mut wanted = Wanted::Nobody;
        for value in cookie::values(headers, self.baker.name()) {
            wanted = self.read(upstream, value);
            if wanted != Wanted::Unknown {
                break;
            }
        }
        if wanted != Wanted::Nobody {
            cookie::remove(headers, self.baker.name());
        }
        wanted
    }

    /// Takes the cookie out, whoever it names: for requests that go to another upstream.
    pub fn remove(&self, headers: &mut HeaderMap) {
        if headers.contains_key(header::COOKIE) {
            cookie::remove(headers, self.baker.name());
        }
    }

    fn read(&self, upstream: &Upstream, value: &[u8]) -> Wanted {
        match &self.kept {
            Kept::Endpoint(cookies) => {
                let known = cookies.find(value);
                let pin = known.and_then(|known| {
                    let endpoint = upstream.endpoints.get(known.index as usize)?;
                    Some(Pin {
                        index: known.index,
                        id: endpoint.id(),
                        is_current: known.is_current,
                        is_lent: false,
                    })
                });
                pin.map_or(Wanted::Unknown, Wanted::Pinned)
            }
            Kept::Version(sides) => sides.find(value).map_or(Wanted::Unknown, Wanted::Version),
        }
    }
}

impl Upstream {
    /// What the client of a request that `wanted` somebody is told, now that `answered` has answered it; `None` where there is
    /// nothing to say. Counts clients that got another one than they wanted.
    pub fn keep(&self, wanted: Wanted, answered: &Endpoint, tls: bool) -> Option<HeaderValue> {
        let affinity = self.affinity.as_deref()?;
        let cookies = match &affinity.kept {
            Kept::Endpoint(cookies) => cookies,
            Kept::Version(sides) => return self.keep_version(sides, wanted, (answered, tls)),
        };
        match wanted {
            Wanted::Nobody | Wanted::Version(_) => {}
            // Only this once: it comes back to where it was.
            Wanted::Pinned(pin) if pin.is_lent => return None,
            Wanted::Unknown => self.metrics.count_repin("unknown_cookie"),
            Wanted::Pinned(pin) if pin.id == answered.id() => {
                if pin.is_current {
                    return None;
                }
            }
            Wanted::Pinned(pin) => self.metrics.count_repin(self.why_not(pin)),
        }
        let is_it = |endpoint: &Arc<Endpoint>| endpoint.id() == answered.id();
        cookies
            .said(self.endpoints.iter().position(is_it)?, tls)
            .cloned()
    }

    /// Why a client did not get the endpoint it wanted, as far as can be told afterwards.
    fn why_not(&self, pin: Pin) -> &'static str {
        match self.find(pin) {
            None => "gone",
            Some(endpoint) if endpoint.tier() != Tier::Eligible || self.is_standby(endpoint) => {
                self.word(endpoint)
            }
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
