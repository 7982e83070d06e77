//! A named group of endpoints and the policy that picks one. What all workers know of endpoints is kept here.

pub mod adaptive;
pub mod endpoint;
pub mod lease;
pub mod outcome;
pub mod queue;
pub mod state;

use std::sync::Arc;

use http::uri::Scheme;

pub use endpoint::{Contact, Endpoint, EndpointId};
pub use lease::Lease;
pub use outcome::Outcome;
pub use queue::{Denied, Queue};
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
    /// Where its endpoints are spoken to in HTTP/2, the scheme they are told.
    pub http2: Option<Scheme>,
    /// Its time limits.
    pub timeouts: config::UpstreamTimeouts,
    /// Who waits while every endpoint has as many requests as it may. The same through all generations.
    pub queue: Arc<Queue>,
    /// How long, and how many. `None`: nobody waits.
    pub queueing: Option<config::Queue>,
    /// How each endpoint's limit is found out, where it is.
    pub adaptive: Option<config::Adaptive>,
    /// How its endpoints are checked.
    pub health: Option<config::Health>,
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
    /// Endpoints that no check has passed yet are picked only while none is up. Nobody comes before those that wait.
    pub fn pick(&self, wish: Wish) -> Result<Lease, Denied> {
        if self.queueing.is_some() && self.queue.is_waited_in() {
            return Err(Denied::Full);
        }
        self.pick_now(wish)
    }

    /// The same, before those that wait.
    fn pick_now(&self, wish: Wish) -> Result<Lease, Denied> {
        let tried = wish.tried;
        if wish.preferred.is_some()
            && let Some(endpoint) = self.preferred(wish)
            && let Some(lease) = Lease::take(endpoint)
        {
            return Ok(lease);
        }
        let best = |endpoint: &Arc<Endpoint>| {
            endpoint.tier() == Tier::Eligible && Some(endpoint.id()) != tried && endpoint.has_room()
        };
        // Who loses a last place to another worker looks again: each time somebody has got one.
        loop {
            let index = self
                .policy
                .pick(&self.endpoints, &self.cursor, best)
                .map_or_else(|| self.second_best(tried), Ok)?;
            if let Some(lease) = Lease::take(&self.endpoints[index]) {
                return Ok(lease);
            }
        }
    }

    fn preferred(&self, wish: Wish) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| {
            Some(endpoint.id()) == wish.preferred
                && wish.preferred != wish.tried
                && endpoint.tier() == Tier::Eligible
                && endpoint.has_room()
        })
    }

    #[cold]
    fn second_best(&self, tried: Option<EndpointId>) -> Result<usize, Denied> {
        let choices = [
            (Tier::Eligible, tried),
            (Tier::IfNoneEligible, tried),
            (Tier::Eligible, None),
            (Tier::IfNoneEligible, None),
        ];
        for (tier, tried) in choices {
            let is_one =
                |endpoint: &Arc<Endpoint>| endpoint.tier() == tier && Some(endpoint.id()) != tried;
            let fits = |endpoint: &Arc<Endpoint>| is_one(endpoint) && endpoint.has_room();
            if let Some(index) = self.policy.pick(&self.endpoints, &self.cursor, fits) {
                return Ok(index);
            }
            // One that is well but busy is better than one of which that is not known.
            if self.endpoints.iter().any(is_one) {
                return Err(Denied::Full);
            }
        }
        Err(Denied::Nobody)
    }

    /// Lets the policy see who is eligible now. For the control side, after every change of an endpoint.
    pub fn refresh(&self) {
        self.policy.refresh(&self.endpoints, |endpoint| {
            endpoint.tier() == Tier::Eligible
        });
        self.metrics.available.set(self.available() as i64);
        self.queue.freed();
    }

    /// Sets each endpoint's limit by what was seen of it since the last time, where limits are found out. For the control
    /// side, now and then.
    pub fn adapt(&self) {
        if self.adaptive.is_none() {
            return;
        }
        let mut is_changed = false;
        for endpoint in &self.endpoints {
            is_changed |= endpoint.adapt();
        }
        if is_changed {
            self.queue.freed();
        }
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
