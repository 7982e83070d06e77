//! A named group of endpoints and the policy that picks one. What all workers know of endpoints is kept here.

pub mod affinity;
pub mod endpoint;
pub mod hold;
pub mod lease;
pub mod outcome;
pub mod state;

use std::sync::Arc;

use http::uri::Scheme;
use tracing::info;

pub use affinity::{Affinity, Pin, Wanted};
pub use endpoint::{Contact, Endpoint, EndpointId};
pub use hold::Hold;
pub use lease::Lease;
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
}

impl Upstream {
    /// Picks an endpoint as near to `wish` as can be, and counts the request as its own from now on.
    ///
    /// Endpoints that no check has passed yet are picked only while none is up. `None`: nobody may be asked.
    pub fn pick(&self, wish: Wish) -> Option<Lease> {
        let tried = wish.tried;
        if let Some(pin) = wish.preferred
            && let Some(endpoint) = self.preferred(pin, tried)
        {
            return Some(Lease::new(endpoint));
        }
        let best = |endpoint: &Arc<Endpoint>| {
            endpoint.tier() == Tier::Eligible && Some(endpoint.id()) != tried
        };
        let index = self
            .policy
            .pick(&self.endpoints, &self.cursor, best)
            .or_else(|| self.second_best(tried))?;
        Some(Lease::new(&self.endpoints[index]))
    }

    fn preferred(&self, pin: Pin, tried: Option<EndpointId>) -> Option<&Arc<Endpoint>> {
        self.find(pin)
            .filter(|endpoint| endpoint.tier() == Tier::Eligible && Some(pin.id) != tried)
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
