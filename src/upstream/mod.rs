//! A named group of endpoints and the policy that picks one. What all workers know of endpoints is kept here.

pub mod endpoint;
pub mod floor;
pub mod journal;
pub mod lease;
pub mod outcome;
pub mod outlier;
pub mod state;

use std::sync::Arc;

use http::uri::Scheme;

pub use endpoint::{Contact, Endpoint, EndpointId};
pub use floor::Floor;
pub use lease::Lease;
pub use outcome::Outcome;
pub use outlier::{Alarm, Watch};
pub use state::{Evidence, Health, Tier};

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
    /// Where its endpoints are spoken to in HTTP/2, the scheme they are told.
    pub http2: Option<Scheme>,
    /// Its time limits.
    pub timeouts: config::UpstreamTimeouts,
    /// How its endpoints are checked.
    pub health: Option<config::Health>,
    /// When they are ejected for what clients' requests come to, if at all.
    pub passive: Option<Watch>,
    /// How many of them stay in use whatever soft evidence says.
    pub floor: Floor,
    /// Its counters.
    pub metrics: UpstreamMetrics,
}

/// What a request wishes of a pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Not this one, where another is eligible: it was asked already.
    pub tried: Option<EndpointId>,
    /// This one, where it is eligible and was not tried.
    pub preferred: Option<EndpointId>,
}

impl Upstream {
    /// Picks an endpoint as near to `wish` as can be, and counts the request as its own from now on.
    ///
    /// Endpoints that no check has passed yet are picked only while none is up. `None`: nobody may be asked.
    pub fn pick(&self, wish: Wish) -> Option<Lease> {
        let tried = wish.tried;
        if wish.preferred.is_some()
            && let Some(endpoint) = self.preferred(wish)
        {
            return Some(self.lease(endpoint));
        }
        let best = |endpoint: &Arc<Endpoint>| {
            endpoint.tier() == Tier::Eligible && Some(endpoint.id()) != tried
        };
        let index = self
            .policy
            .pick(&self.endpoints, &self.cursor, best)
            .or_else(|| self.second_best(tried))?;
        Some(self.lease(&self.endpoints[index]))
    }

    fn lease(&self, endpoint: &Arc<Endpoint>) -> Lease {
        if endpoint.is_kept() {
            self.metrics.degraded_picks.inc();
        }
        Lease::new(endpoint)
    }

    fn preferred(&self, wish: Wish) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| {
            Some(endpoint.id()) == wish.preferred
                && wish.preferred != wish.tried
                && endpoint.tier() == Tier::Eligible
        })
    }

    #[cold]
    fn second_best(&self, tried: Option<EndpointId>) -> Option<usize> {
        let choices = [
            (Tier::IfNoneEligible, tried),
            (Tier::Eligible, None),
            (Tier::IfNoneEligible, None),
        ];
        choices.iter().find_map(|(tier, tried)| {
            let fits = |endpoint: &Arc<Endpoint>| {
                endpoint.tier() == *tier && Some(endpoint.id()) != *tried
            };
            self.policy.pick(&self.endpoints, &self.cursor, fits)
        })
    }

    /// Keeps enough endpoints in use, and lets the policy see who is eligible now. For the control side, after every change of an endpoint.
    pub fn refresh(&self) {
        self.keep_enough();
        self.policy.refresh(&self.endpoints, |endpoint| {
            endpoint.tier() == Tier::Eligible
        });
        self.metrics.available.set(self.available() as i64);
    }

    /// How many endpoints may be picked.
    pub fn available(&self) -> usize {
        let count = |tier| {
            self.endpoints
                .iter()
                .filter(|endpoint| endpoint.tier() == tier)
                .count()
        };
        match count(Tier::Eligible) {
            0 => count(Tier::IfNoneEligible),
            eligible => eligible,
        }
    }
}
