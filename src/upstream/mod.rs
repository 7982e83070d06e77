//! A named group of endpoints and the policy that picks one. What all workers know of endpoints is kept here.

pub mod adaptive;
pub mod affinity;
pub mod audit;
pub mod authority;
pub mod budget;
pub mod churn;
pub mod claims;
pub mod cookies;
pub mod copies;
mod counters;
pub mod endpoint;
pub mod flip;
pub mod floor;
pub mod headroom;
pub mod hold;
pub mod journal;
pub mod keep_alive;
pub mod lease;
pub mod load;
pub mod outcome;
pub mod outlier;
mod pace;
mod peaks;
mod preview;
pub mod queue;
pub mod remembered;
pub mod role;
pub mod sets;
pub mod sides;
pub mod state;
pub mod tried;
pub mod version;
pub mod versions;
pub mod written;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderName;
use http::uri::Scheme;
use tracing::info;

pub use affinity::{Affinity, Pin, Wanted};
pub use audit::Audit;
pub use authority::Authority;
pub use budget::Budget;
pub use copies::Copies;
pub use endpoint::{Contact, Endpoint, EndpointId};
pub use flip::Flip;
pub use floor::Floor;
pub use headroom::Headroom;
pub use hold::Hold;
pub use keep_alive::KeepAlive;
pub use lease::Lease;
pub use load::Shares;
pub use outcome::{Excuse, Outcome};
pub use outlier::{Alarm, Watch};
pub use peaks::Peaks;
pub use queue::{Denied, Queue};
pub use remembered::Remembered;
pub use role::Said;
pub use sets::{Division, Sets};
pub use state::{Evidence, Health, Tier};
pub use tried::Tried;
pub use version::{Mark, Runs};
pub use versions::Versions;
pub use written::Written;

use crate::balance::{Cursor, Policy};
use crate::config;
use crate::metrics::UpstreamMetrics;
use crate::units::Name;
use sets::{Open, Way};

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
    /// Where one of several sets of endpoints serves: which.
    pub division: Option<Box<Division>>,
    /// Where one of its endpoints serves, whatever the policy: which.
    pub authority: Option<Box<Authority>>,
    /// What the policy picks by, where it wants to know something of a request.
    pub hash_key: Option<config::HashKey>,
    /// What beside the policy decides on endpoints' shares.
    pub shares: Shares,
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
    /// When a request is sent once more, unless its route says something else.
    pub retry: config::Retry,
    /// How many retries may fail, too.
    pub budget_rule: config::Budget,
    /// What is left of that; survives reloads.
    pub budget: Arc<Budget>,
    /// How its endpoints are checked.
    pub health: Option<config::Health>,
    /// When they are ejected for what clients' requests come to, if at all.
    pub passive: Option<Watch>,
    /// How many of them stay in use whatever soft evidence says.
    pub floor: Floor,
    /// How clients are kept with their endpoints.
    pub affinity: Option<Box<Affinity>>,
    /// Holds requests while it is paused; survives reloads.
    pub hold: Arc<Hold>,
    /// How many it holds, and for how long.
    pub pause: config::Pause,
    /// Room for copies of requests to others, where it is a mirror; the same through all generations.
    pub copies: Arc<Copies>,
    /// Where answers to clients speak of the version that an endpoint runs; `None`: nobody looks.
    pub live_version: Option<Box<HeaderName>>,
    /// What is kept of the versions that its endpoints run; survives reloads.
    pub versions: Arc<Versions>,
    /// Most requests that it had at once; survives reloads.
    pub peaks: Arc<Peaks>,
    /// Its counters.
    pub metrics: UpstreamMetrics,
}

/// What a request wishes of a pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// None of these, where another is eligible: they were asked already.
    pub tried: Tried,
    /// This one, where it is eligible and was not tried.
    pub preferred: Option<Pin>,
    /// One that runs this version, where such a one is eligible and was not tried.
    pub version: Option<Mark>,
    /// The one whom this belongs to, where the policy hashes.
    pub key: Option<u64>,
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
        if let Some(authority) = &self.authority {
            return self.pick_authority(authority, tried);
        }
        let holds_back = self.shares.holds_back();
        let way = self.way(&wish, true);
        if let Some(pin) = wish.preferred
            && let Some(endpoint) = self.preferred(pin, tried, holds_back, way.all)
            && let Some(lease) = self.take(endpoint, way.policy)
        {
            return Ok(lease);
        }
        if let Some(lease) = self.take_side(wish, way) {
            return Ok(lease);
        }
        let best = |endpoint: &Arc<Endpoint>| {
            is_best(endpoint, tried, holds_back) && way.open.takes(endpoint)
        };
        let aside = (!tried.is_empty()).then(|| way.cursor.aside());
        let cursor = aside.as_ref().unwrap_or(way.cursor);
        // Who loses a last place to another worker looks again: each time somebody has got one.
        loop {
            let index = way
                .policy
                .pick(&self.endpoints, cursor, wish.key, best)
                .map_or_else(|| self.second_best(wish, holds_back, way), Ok)?;
            let endpoint = &self.endpoints[index];
            if let Some(lease) = self.take(endpoint, way.policy) {
                return Ok(lease);
            }
        }
    }

    /// Picks an endpoint for one more attempt at a request whose attempts at those tried go on: one that could be picked as any
    /// other, runs the version that is wanted, and has nobody waiting for it. Such an attempt is worth nothing that others would
    /// miss.
    pub fn pick_other(&self, wish: Wish) -> Option<Lease> {
        let Wish { tried, key, .. } = wish;
        let is_waited_in = self.queueing.is_some() && self.queue.is_waited_in();
        if is_waited_in || self.authority.is_some() {
            return None;
        }
        let holds_back = self.shares.holds_back();
        let way = self.way(&wish, true);
        // Of the version that is wanted, whichever set that is in.
        if let Some(lease) = self.take_side(wish, way) {
            return Some(lease);
        }
        let best = |endpoint: &Arc<Endpoint>| {
            is_best(endpoint, tried, holds_back)
                && way.open.takes(endpoint)
                && wish.version.is_none_or(|mark| endpoint.runs(mark))
        };
        let cursor = way.cursor.aside();
        loop {
            let index = way.policy.pick(&self.endpoints, &cursor, key, best)?;
            if let Some(lease) = self.take(&self.endpoints[index], way.policy) {
                return Some(lease);
            }
        }
    }

    /// Lets a turn pass: who comes out of turn next may be sent elsewhere than the one before.
    pub fn pass_turn(&self, wish: &Wish) {
        self.way(wish, false).cursor.advance();
    }

    /// One request more at `endpoint`, if that has room.
    fn take(&self, endpoint: &Arc<Endpoint>, policy: &Policy) -> Option<Lease> {
        let lease = Lease::take(endpoint, policy.in_flight())?;
        if endpoint.is_kept() {
            self.metrics.degraded_picks.inc();
        }
        Some(lease)
    }

    fn preferred(
        &self,
        pin: Pin,
        tried: Tried,
        holds_back: bool,
        all: Open,
    ) -> Option<&Arc<Endpoint>> {
        self.find(pin)
            .filter(|endpoint| is_best(endpoint, tried, holds_back) && all.takes(endpoint))
    }

    /// Backups, where no other is eligible, whether they are wanted yet or not; then those who are not known to be up; then those that were tried.
    /// Where requests are shared between two sets and one has nobody, or no room: of the other.
    #[cold]
    fn second_best(&self, wish: Wish, holds_back: bool, way: Way<'_>) -> Result<usize, Denied> {
        match self.second_best_in(way.open, wish, (holds_back, way)) {
            Err(denied @ (Denied::Nobody | Denied::Full)) => {
                // As it is now: whoever was in that set may have been put into another since. Where a later generation has
                // left nobody there of those that this one knows, any of these.
                let all = match self.open() {
                    all if self.endpoints.iter().any(|it| all.takes(it)) => all,
                    _ => Open::Any,
                };
                if all == way.open {
                    return Err(denied);
                }
                self.second_best_in(all, wish, (holds_back, way))
            }
            found => found,
        }
    }

    fn second_best_in(
        &self,
        open: Open,
        wish: Wish,
        (holds_back, way): (bool, Way<'_>),
    ) -> Result<usize, Denied> {
        let choices = [
            (Tier::Eligible, wish.tried, holds_back),
            (Tier::Eligible, wish.tried, false),
            (Tier::IfNoneEligible, wish.tried, false),
            (Tier::Eligible, Tried::default(), false),
            (Tier::IfNoneEligible, Tried::default(), false),
        ];
        for (tier, tried, holds_back) in choices {
            let is_one = |endpoint: &Arc<Endpoint>| {
                endpoint.tier() == tier
                    && open.takes(endpoint)
                    && !tried.contains(endpoint.id())
                    && !(holds_back && endpoint.is_backup())
            };
            let fits = |endpoint: &Arc<Endpoint>| is_one(endpoint) && endpoint.has_room();
            let found = way.policy.pick(&self.endpoints, way.cursor, wish.key, fits);
            if let Some(index) = found {
                return Ok(index);
            }
            // One that is well but busy is better than a backup, or one of which that is not known.
            if self.endpoints.iter().any(is_one) {
                return Err(Denied::Full);
            }
        }
        Err(Denied::Nobody)
    }

    /// Whether the budget has room for one more retry, which is then counted. It is given back where that retry is answered.
    pub fn may_retry(&self, now: Instant) -> bool {
        let answered = self.endpoints.iter().map(|it| it.claim()).sum();
        self.budget.take(&self.budget_rule, answered, now)
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

    /// Keeps enough endpoints in use, and lets the policy see who is eligible now. For the control side, after every change of an endpoint.
    pub fn refresh(&self) {
        self.seat(Instant::now());
        self.keep_enough();
        self.follow();
        self.refresh_picks();
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

    /// Brings whatever follows from who is eligible, or from endpoints' shares, up to what these are now.
    fn refresh_picks(&self) {
        self.refresh_policies();
        self.refresh_sides(self.open());
        self.note_versions(SystemTime::now());
        self.metrics.available.set(self.available() as i64);
        self.queue.freed();
    }

    /// Whether `endpoint`, one of its own, may be picked before others.
    fn is_eligible(&self, endpoint: &Endpoint) -> bool {
        self.is_eligible_in(self.open(), endpoint)
    }

    /// The same, while requests go to the sets `open`.
    fn is_eligible_in(&self, open: Open, endpoint: &Endpoint) -> bool {
        endpoint.tier() == Tier::Eligible && !self.waits(endpoint) && open.takes(endpoint)
    }

    /// Whether `endpoint`, one of its own, is a backup that is not wanted now.
    pub fn waits(&self, endpoint: &Endpoint) -> bool {
        endpoint.is_backup() && self.shares.holds_back()
    }

    /// A request that failed at the last of those it was `tried` at is sent again.
    pub fn note_retried(&self, tried: Tried) {
        let is_last = |endpoint: &&Arc<Endpoint>| Some(endpoint.id()) == tried.latest();
        if let Some(endpoint) = self.endpoints.iter().find(is_last) {
            endpoint.note_retried();
        }
    }

    /// Whether `endpoint`, one of its own, would be picked now.
    pub fn would_pick(&self, endpoint: &Endpoint) -> bool {
        match endpoint.tier() {
            _ if self.is_standby(endpoint) => false,
            Tier::Eligible => !self.waits(endpoint),
            Tier::IfNoneEligible => {
                let mut others = self.endpoints.iter();
                others.all(|other| other.tier() != Tier::Eligible || self.is_standby(other))
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
                .filter(|endpoint| {
                    endpoint.tier() == Tier::IfNoneEligible && !self.is_standby(endpoint)
                })
                .count(),
            eligible => eligible,
        }
    }
}

/// Whether `endpoint` may be picked before others, and takes one request more. `holds_back`: backups wait.
///
/// What has failed once goes where the last request did not: what failed there has often failed elsewhere, too, and not all who
/// are gone are known to be.
fn is_best(endpoint: &Endpoint, tried: Tried, holds_back: bool) -> bool {
    let is_doubtful = !tried.is_empty() && endpoint.outlier().in_a_row() > 0;
    !is_doubtful && is_good(endpoint, tried, holds_back)
}

/// The same, whether its last request failed or not.
fn is_good(endpoint: &Endpoint, tried: Tried, holds_back: bool) -> bool {
    endpoint.tier() == Tier::Eligible
        && !tried.contains(endpoint.id())
        && !(holds_back && endpoint.is_backup())
        && endpoint.has_room()
}
