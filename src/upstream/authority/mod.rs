//! The one endpoint that serves, where an upstream has an authority: who that is by what endpoints say, and picks, which ask nobody
//! else.
//!
//! One store decides for every request that comes after it; what was sent before is finished where it is. Nobody serves rather than
//! somebody who is doubtful.

mod seat;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderName;

use super::claims::{Claim, Member};
use super::role::Said;
use super::state::{State, Tier};
use super::{Denied, Endpoint, EndpointId, Lease, Tried, Upstream};
use crate::config::{Mode, RoleSource};
use crate::lock::lock;
use crate::units::Name;

/// Who serves in an upstream of which one endpoint does, as one snapshot has it.
#[derive(Debug)]
pub struct Authority {
    /// Where endpoints say their role. `None`: nowhere; the one that is not disabled is the authority.
    source: Option<RoleSource>,
    /// The same through all generations.
    seat: Arc<Seat>,
}

/// Who serves, or why nobody.
#[derive(Debug, Default)]
struct Seat {
    /// The [`EndpointId`] of who serves; [`VACANT`] or [`CONTESTED`] where nobody does. Written by the control thread, read by
    /// picks. Release and acquire: whoever sees it sees that its endpoint may be picked.
    holder: AtomicU64,
    /// The control thread's own.
    told: Mutex<Told>,
}

/// No endpoint has that number.
const VACANT: u64 = 0;
/// Nor will any.
const CONTESTED: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Told {
    /// Where roles were said that are known.
    header: Option<HeaderName>,
    /// Who serves.
    holder: Option<(EndpointId, Name)>,
    /// Why nobody does.
    why: Option<Box<str>>,
    since: Option<SystemTime>,
    /// How many claim it.
    claimants: usize,
    /// Who serves by the word of the process that checks endpoints now, where this one does not any more.
    ordered: Option<Option<EndpointId>>,
}

/// What is told of who serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incumbent {
    /// The endpoint.
    pub endpoint: Option<Name>,
    /// Why there is none.
    pub why: Option<String>,
    /// Since when.
    pub since: Option<SystemTime>,
    /// How many claim it now.
    pub claimants: usize,
}

impl Authority {
    /// By roles that stand in `source`; `before` was in use until now.
    pub fn new(source: Option<RoleSource>, before: Option<&Self>) -> Self {
        let seat = before.map_or_else(Arc::default, |before| Arc::clone(&before.seat));
        Self { source, seat }
    }

    /// What `state` comes to at `now`.
    fn member(&self, state: &State, now: Instant) -> Member {
        let is_disabled = state.mode == Mode::Disabled;
        let Some(source) = &self.source else {
            // The operator's word is all there is.
            let claim = match is_disabled {
                true => Claim::None,
                false => Claim::Made(Duration::ZERO),
            };
            return Member { claim, is_disabled };
        };
        let ago = |at: Instant| now.saturating_duration_since(at);
        Member {
            claim: match &state.part.said {
                Said::Unasked | Said::Nothing(_) | Said::Gone => Claim::None,
                Said::Unheard(since) => Claim::Unheard(ago(*since)),
                Said::Role(role, at) if *role == source.authority => Claim::Made(ago(*at)),
                Said::Role(..) => Claim::None,
            },
            is_disabled,
        }
    }

    fn lifetime(&self) -> Duration {
        let source = self.source.as_ref();
        source.map_or(Duration::MAX, |source| source.lifetime)
    }
}

impl Seat {
    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }
}

impl Upstream {
    /// Whether one of its endpoints serves, and no other.
    pub fn is_authoritative(&self) -> bool {
        self.authority.is_some()
    }

    /// Who that is, or why nobody, where it is one.
    pub fn incumbent(&self) -> Option<Incumbent> {
        let told = self.authority.as_ref()?.seat.told();
        Some(Incumbent {
            endpoint: told.holder.as_ref().map(|(_, name)| Name::clone(name)),
            why: told.why.as_deref().map(str::to_owned),
            since: told.since,
            claimants: told.claimants,
        })
    }

    /// Whether `endpoint`, one of its own, is the one that serves.
    pub fn is_holder(&self, endpoint: &Endpoint) -> bool {
        let authority = self.authority.as_ref();
        authority.is_some_and(|it| it.seat.holder.load(Acquire) == endpoint.id().get())
    }

    /// Why `endpoint`, which was picked a moment ago, may be sent nothing any more: by now it is not the one that serves.
    #[inline]
    pub fn has_lost(&self, endpoint: &Endpoint) -> Option<Denied> {
        let authority = self.authority.as_ref()?;
        match authority.seat.holder.load(Acquire) {
            id if id == endpoint.id().get() => None,
            CONTESTED => Some(Denied::TwoAuthorities),
            _ => Some(Denied::NoAuthority),
        }
    }

    /// Whether `endpoint`, one of its own, claims to be.
    pub fn claims(&self, endpoint: &Endpoint) -> bool {
        let now = Instant::now();
        let authority = self.authority.as_ref();
        authority.is_some_and(|authority| {
            let member = endpoint.look(|state| authority.member(state, now));
            member.claims(authority.lifetime())
        })
    }

    /// Asks endpoints for their role, or does not any more. Who serves follows with the refresh.
    pub fn ask_roles(&self) {
        let (mut asks, mut anew) = (false, false);
        if let Some(authority) = &self.authority {
            let header = authority.source.as_ref().map(|it| it.header.clone());
            asks = header.is_some();
            let mut told = authority.seat.told();
            anew = told.header != header;
            told.header = header;
        }
        for endpoint in &self.endpoints {
            endpoint.ask_role(asks, anew);
            if self.authority.is_none() {
                endpoint.pass_over(None, false);
            }
        }
    }

    /// Another process knows that `endpoint`, one of its own, serves.
    pub fn recall_holder(&self, endpoint: &Endpoint) {
        if let Some(authority) = &self.authority {
            authority.seat.told().holder = Some((endpoint.id(), Name::clone(endpoint.name())));
        }
    }

    /// Another process checks endpoints by now, and has found that `holder` serves, or nobody. From the next refresh on.
    pub fn obey_seat(&self, holder: Option<&str>) {
        if let Some(authority) = &self.authority {
            let mut endpoints = self.endpoints.iter();
            let endpoint = endpoints.find(|it| Some(&**it.name()) == holder);
            authority.seat.told().ordered = Some(endpoint.map(|it| it.id()));
        }
    }

    /// Has every endpoint but `endpoint` checked soon.
    pub fn summon_others(&self, endpoint: &Endpoint) {
        let others = self.endpoints.iter();
        for other in others.filter(|other| other.id() != endpoint.id()) {
            other.summons.raise();
        }
    }

    /// One request more at the authority.
    #[inline(never)]
    pub(super) fn pick_authority(
        &self,
        authority: &Authority,
        tried: Tried,
    ) -> Result<Lease, Denied> {
        let index = self.find_authority(authority, tried)?;
        let endpoint = &self.endpoints[index];
        self.take(endpoint, &self.policy).ok_or(Denied::Full)
    }

    /// The index of the authority, where it has room.
    pub(super) fn find_authority(
        &self,
        authority: &Authority,
        tried: Tried,
    ) -> Result<usize, Denied> {
        let id = match authority.seat.holder.load(Acquire) {
            VACANT => return Err(Denied::NoAuthority),
            CONTESTED => return Err(Denied::TwoAuthorities),
            id => id,
        };
        let mut endpoints = self.endpoints.iter();
        // A reload may have taken it away, or brought it.
        let index = endpoints.position(|it| it.id().get() == id);
        let index = index.ok_or(Denied::NoAuthority)?;
        let endpoint = &self.endpoints[index];
        // What was sent to one is sent to no other: nobody knows how far it has come.
        let is_elsewhere = !tried.is_empty() && !tried.contains(endpoint.id());
        if is_elsewhere || endpoint.tier() == Tier::Never {
            return Err(Denied::Nobody);
        }
        match endpoint.has_room() {
            true => Ok(index),
            false => Err(Denied::Full),
        }
    }
}
