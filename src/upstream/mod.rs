//! A named group of endpoints and the policy that picks one. What all workers know of endpoints is kept here.

pub mod affinity;
mod counters;
pub mod endpoint;
pub mod hold;
pub mod lease;
pub mod load;
pub mod outcome;
pub mod state;

use std::sync::Arc;

use http::uri::Scheme;
use tracing::info;

pub use affinity::{Affinity, Pin, Wanted};
pub use endpoint::{Contact, Endpoint, EndpointId};
pub use hold::Hold;
pub use lease::Lease;
pub use load::Shares;
pub use outcome::Outcome;
pub use state::{Health, Tier};

use crate::balance::{Cursor, Policy};
use crate::config;
use crate::metrics::UpstreamMetrics;
use crate::units::Name;

/// A named group of endpoints, as one snapshot has it.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// Its endpoints in file order.
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// How one is chosen.
    pub policy: Policy,
    /// Where the policy stands; survives reloads.
    pub cursor: Arc<Cursor>,
    /// What the policy picks by, where it wants to know something of a request.
    pub hash_key: Option<config::HashKey>,
    /// What beside the policy decides on endpoints' shares.
    pub shares: Shares,
    /// Where its endpoints are spoken to in HTTP/2, the scheme they are told.
    pub http2: Option<Scheme>,
    /// Its time limits.
    pub timeouts: config::UpstreamTimeouts,
    /// How its endpoints are checked.
    pub health: Option<config::Health>,
    /// How clients are kept with their endpoints.
    pub affinity: Option<Box<Affinity>>,
    /// Holds requests while it is paused; survives reloads.
    pub hold: Arc<Hold>,
    /// How many it holds, and for how long.
    pub pause: config::Pause,
    /// Its counters.
    pub metrics: UpstreamMetrics,
}

/// What a request wishes of a pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Not this one, where another is eligible: it was asked already.
    pub tried: Option<EndpointId>,
    /// This one, where it is eligible and was not tried.
    pub preferred: Option<Pin>,
    /// The one whom this belongs to, where the policy hashes.
    pub key: Option<u64>,
}

impl Upstream {
    /// Picks an endpoint as near to `wish` as can be, and counts the request as its own from now on.
    ///
    /// Endpoints that no check has passed yet are picked only while none is up. `None`: nobody may be asked.
    pub fn pick(&self, wish: Wish) -> Option<Lease> {
        let tried = wish.tried;
        let holds_back = self.shares.holds_back();
        if let Some(pin) = wish.preferred
            && let Some(endpoint) = self.preferred(pin, tried, holds_back)
        {
            return Some(Lease::new(endpoint, self.policy.in_flight()));
        }
        let best = |endpoint: &Arc<Endpoint>| {
            endpoint.tier() == Tier::Eligible
                && Some(endpoint.id()) != tried
                && !(holds_back && endpoint.is_backup())
        };
        let index = self
            .policy
            .pick(&self.endpoints, &self.cursor, wish.key, best)
            .or_else(|| self.second_best(wish))?;
        Some(Lease::new(&self.endpoints[index], self.policy.in_flight()))
    }

    fn preferred(
        &self,
        pin: Pin,
        tried: Option<EndpointId>,
        holds_back: bool,
    ) -> Option<&Arc<Endpoint>> {
        self.find(pin).filter(|endpoint| {
            Some(pin.id) != tried
                && endpoint.tier() == Tier::Eligible
                && !(holds_back && endpoint.is_backup())
        })
    }

    /// Backups, whether they are wanted yet or not; then those who are not known to be up; then the one that was tried.
    #[cold]
    fn second_best(&self, wish: Wish) -> Option<usize> {
        let choices = [
            (Tier::Eligible, wish.tried),
            (Tier::IfNoneEligible, wish.tried),
            (Tier::Eligible, None),
            (Tier::IfNoneEligible, None),
        ];
        choices.iter().find_map(|(tier, tried)| {
            let fits = |endpoint: &Arc<Endpoint>| {
                endpoint.tier() == *tier && Some(endpoint.id()) != *tried
            };
            self.policy
                .pick(&self.endpoints, &self.cursor, wish.key, fits)
        })
    }

    /// Pauses or resumes it: requests are held, or go on. For the control side, in its runtime.
    pub fn set_paused(&self, paused: bool) {
        let (upstream, held) = (&self.name, self.hold.held());
        match (self.hold.set_paused(paused), paused) {
            (true, true) => info!(%upstream, "upstream paused"),
            (true, false) => info!(%upstream, held, "upstream resumed"),
            (false, _) => {}
        }
    }

    /// Lets the policy see who is eligible now. For the control side, after every change of an endpoint.
    pub fn refresh(&self) {
        self.follow();
        self.refresh_policy();
        self.metrics.available.set(self.available() as i64);
    }

    fn refresh_policy(&self) {
        self.policy
            .refresh(&self.endpoints, |endpoint| self.is_eligible(endpoint));
    }

    /// Whether `endpoint`, one of its own, may be picked before others.
    fn is_eligible(&self, endpoint: &Endpoint) -> bool {
        endpoint.tier() == Tier::Eligible && !self.waits(endpoint)
    }

    /// Whether `endpoint`, one of its own, is a backup that is not wanted now.
    pub fn waits(&self, endpoint: &Endpoint) -> bool {
        endpoint.is_backup() && self.shares.holds_back()
    }

    /// Whether `endpoint`, one of its own, would be picked now.
    pub fn would_pick(&self, endpoint: &Endpoint) -> bool {
        match endpoint.tier() {
            Tier::Eligible => !self.waits(endpoint),
            Tier::IfNoneEligible => {
                let mut others = self.endpoints.iter();
                others.all(|other| other.tier() != Tier::Eligible)
            }
            Tier::Never => false,
        }
    }

    /// How many endpoints may be picked, backups that wait not counted.
    pub fn available(&self) -> usize {
        let would_be = self.endpoints.iter();
        match would_be
            .filter(|endpoint| self.is_eligible(endpoint))
            .count()
        {
            0 => self
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.tier() == Tier::IfNoneEligible)
                .count(),
            eligible => eligible,
        }
    }
}
