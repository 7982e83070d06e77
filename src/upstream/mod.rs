//! A named group of endpoints and the policy that picks one. What all workers know of endpoints is kept here.

pub mod budget;
mod counters;
pub mod endpoint;
pub mod keep_alive;
pub mod lease;
pub mod load;
pub mod outcome;
pub mod state;

use std::sync::Arc;
use std::time::Instant;

use http::uri::Scheme;

pub use budget::Budget;
pub use endpoint::{Contact, Endpoint, EndpointId};
pub use keep_alive::KeepAlive;
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
    /// When a request is sent once more, unless its route says something else.
    pub retry: config::Retry,
    /// How many retries may fail, too.
    pub budget_rule: config::Budget,
    /// What is left of that; survives reloads.
    pub budget: Arc<Budget>,
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
        if wish.preferred.is_some()
            && let Some(endpoint) = self.preferred(wish, holds_back)
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

    fn preferred(&self, wish: Wish, holds_back: bool) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| {
            Some(endpoint.id()) == wish.preferred
                && wish.preferred != wish.tried
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

    /// Whether the budget has room for one more retry, which is then counted. It is given back where that retry is answered.
    pub fn may_retry(&self, now: Instant) -> bool {
        let answered = |endpoint: &Arc<Endpoint>| endpoint.metrics.response.get_sample_count();
        let answered = self.endpoints.iter().map(answered).sum();
        self.budget.take(&self.budget_rule, answered, now)
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
