//! What policies see of endpoints beside requests in flight, kept up to date: a newcomer's slow start, failures of the last
//! moments, latency, whether backups are wanted. Has no clock: [`Upstream::tick`] is told the time.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Endpoint, Health, Outcome, Tier, Upstream};
use crate::balance::SlowStart;
use crate::config::Mode;

/// How often [`Upstream::tick`] is to be called: a failure counts as load until the second time after it.
pub const TICK: Duration = Duration::from_millis(500);

/// A newcomer's share grows in so many steps; the first is a tenth.
pub(super) const STEPS: u32 = 10;

/// What beside the policy decides on endpoints' shares.
#[derive(Debug)]
pub struct Shares {
    /// How long an endpoint that was added or is back takes to come to its full share.
    slow_start: Duration,
    /// Below this share of eligible primaries backups join; `None`: with none.
    spill_below: Option<f64>,
    /// Whether backups wait. Written by the control thread, read by picks. Relaxed: one that misses the latest change is one
    /// a moment earlier, and at worst finds nobody eligible, which is looked into.
    holds_back: AtomicBool,
    /// Whether backups have taken over since no primary was eligible, and none of these has its full share yet. The control
    /// thread's own.
    stand_in: AtomicBool,
    /// Whether some endpoint eases in. The control thread's own.
    has_newcomers: AtomicBool,
}

impl Shares {
    /// As configured; nothing has happened yet.
    pub fn new(slow_start: Duration, spill_below: Option<f64>) -> Self {
        Self {
            slow_start,
            spill_below,
            holds_back: AtomicBool::new(false),
            stand_in: AtomicBool::new(false),
            has_newcomers: AtomicBool::new(false),
        }
    }

    /// The same, where `before` was in use until now.
    pub fn following(self, before: Option<&Self>) -> Self {
        let stand_in = before.is_some_and(|before| before.stand_in.load(Relaxed));
        self.stand_in.store(stand_in, Relaxed);
        self
    }

    /// Whether backups wait.
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back.load(Relaxed)
    }
}

/// How far an endpoint has come on its way to its full share. Written by the control thread only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ease {
    /// It was here from the start, or replaces all of its kind, and was not picked yet. Then all begin at once, and nobody is
    /// eased in.
    Fresh,
    /// It was added or was out; it eases in when it may be picked again.
    Owed,
    /// Since the first tick after it could be picked.
    In(Option<Instant>),
    /// It has its share.
    Done,
}

impl Ease {
    /// What follows from how `endpoint` is now.
    fn after(self, endpoint: &Endpoint) -> Self {
        match (endpoint.tier(), self) {
            (Tier::Eligible, Self::Fresh) => Self::Done,
            (Tier::Eligible, Self::Owed) => Self::In(None),
            (Tier::Eligible, Self::In(_) | Self::Done) => self,
            (Tier::IfNoneEligible, _) => self,
            (Tier::Never, Self::Fresh) => {
                let state = endpoint.state();
                // A name not resolved yet is no reason, and neither is a check that is still to come.
                let waits_for_check = state.health == Health::Unknown && state.is_held();
                if state.resolved && !waits_for_check || state.mode != Mode::Active {
                    Self::Owed
                } else {
                    Self::Fresh
                }
            }
            (Tier::Never, Self::Owed | Self::In(_) | Self::Done) => Self::Owed,
        }
    }
}

impl Upstream {
    /// Brings endpoints' slow start, and whether backups are wanted, up to what is known of endpoints now.
    pub(super) fn follow(&self) {
        for endpoint in &self.endpoints {
            let ease = match endpoint.ease().after(endpoint) {
                Ease::In(_) if self.has_no_slow_start() => Ease::Done,
                ease => ease,
            };
            endpoint.set_ease(ease);
        }
        self.hold_back();
        self.set_shares(None);
    }

    fn has_no_slow_start(&self) -> bool {
        self.shares.slow_start.is_zero() || self.policy.slow_start() == SlowStart::Never
    }

    /// For the control thread, every [`TICK`]: lets slow starts go on and what is past fade.
    pub fn tick(&self, now: Instant) {
        self.note_peaks(now);
        // A claim to be the authority may have lapsed.
        if self.authority.is_some() && self.seat(now) {
            self.refresh_picks();
        }
        if self.shares.has_newcomers.load(Relaxed) && self.set_shares(Some(now)) {
            // Backups may have waited for this.
            self.hold_back();
            self.refresh_picks();
        }
        // Whoever reported them: a request that began before a reload knows another snapshot's upstream.
        if self.policy.heeds_ballast() {
            for endpoint in &self.endpoints {
                endpoint.load.ghosts.fade();
            }
        }
        if self.policy.heeds_latency() {
            for endpoint in &self.endpoints {
                // One that is asked and says nothing is not getting quicker.
                if endpoint.in_flight() == 0 {
                    endpoint.load.latency.fade(endpoint.clock(now));
                }
            }
        }
    }

    /// Takes note of what an attempt says of the load of `endpoint`.
    pub(super) fn weigh(&self, endpoint: &Endpoint, outcome: Outcome) {
        match outcome {
            // Quick to fail is not quick: counts as a failure, not as an answer.
            Outcome::Answered { status, .. } if status >= 500 => self.haunt(endpoint),
            Outcome::Answered { after, at, .. } => {
                if self.policy.heeds_latency() {
                    let micros = after.as_secs_f32() * 1e6;
                    endpoint.load.latency.observe(micros, endpoint.clock(at));
                }
            }
            Outcome::Failed { excuse: None, .. } => self.haunt(endpoint),
            Outcome::Failed {
                excuse: Some(_), ..
            } => {}
        }
    }

    /// A request that failed goes on counting for a moment, or whoever fails fastest would look idle and get the most.
    #[cold]
    fn haunt(&self, endpoint: &Endpoint) {
        if self.policy.heeds_ballast() {
            endpoint.load.ghosts.add();
        }
    }

    /// Sets every endpoint's share, and what is held against it. `now` is known at ticks only; a slow start begins with the
    /// first of them. Returns whether a share has changed, or someone has come to its full one.
    fn set_shares(&self, now: Option<Instant>) -> bool {
        let (mut changed, mut newcomers) = (false, false);
        let kind = self.policy.slow_start();
        let mut mean = None;
        for endpoint in &self.endpoints {
            let progress = match endpoint.ease() {
                Ease::Fresh | Ease::Owed | Ease::Done => 1.0,
                Ease::In(None) => {
                    if now.is_some() {
                        endpoint.set_ease(Ease::In(now));
                    }
                    0.0
                }
                Ease::In(Some(since)) => {
                    let passed = now.unwrap_or(since).saturating_duration_since(since);
                    // Between ticks it stands where the last one has left it.
                    match now {
                        None => endpoint.progress(),
                        Some(_) => passed.as_secs_f64() / self.shares.slow_start.as_secs_f64(),
                    }
                }
            };
            let is_newcomer = progress < 1.0;
            if !is_newcomer && matches!(endpoint.ease(), Ease::In(_)) {
                endpoint.set_ease(Ease::Done);
                changed = true;
            }
            newcomers |= is_newcomer;
            endpoint.set_progress(progress.min(1.0));
            let steps = match kind {
                SlowStart::Weight if is_newcomer => 1 + (progress * f64::from(STEPS - 1)) as u32,
                SlowStart::Weight | SlowStart::Ballast | SlowStart::Never => STEPS,
            };
            let handicap = if is_newcomer && kind == SlowStart::Ballast {
                let mean = *mean.get_or_insert_with(|| self.in_flight_per_weight());
                (mean * f64::from(endpoint.weight()) * (1.0 - progress)) as u32
            } else {
                0
            };
            endpoint.load.handicap.store(handicap, Relaxed);
            let share = endpoint.weight() * steps;
            changed |= endpoint.load.share.swap(share, Relaxed) != share;
        }
        self.shares.has_newcomers.store(newcomers, Relaxed);
        changed
    }

    /// What those that have their share bear.
    fn in_flight_per_weight(&self) -> f64 {
        let settled = || {
            self.endpoints.iter().filter(|endpoint| {
                endpoint.tier() == Tier::Eligible
                    && !self.is_standby(endpoint)
                    && !matches!(endpoint.ease(), Ease::In(_))
            })
        };
        let in_flight: u64 = settled().map(|it| u64::from(it.in_flight())).sum();
        let weight: u64 = settled().map(|it| u64::from(it.weight())).sum();
        if weight == 0 {
            return 0.0;
        }
        in_flight as f64 / weight as f64
    }

    /// Lets backups wait where primaries do without them. Those that have taken over go on while all primaries are only being
    /// eased in, but this is no reason to begin. A primary that seems unwell and is in use all the same does not count.
    fn hold_back(&self) {
        let (mut all, mut eligible, mut settled) = (0_u32, 0_u32, 0_u32);
        let (open, mut serving) = (self.open(), 0_u32);
        for endpoint in self.endpoints.iter().filter(|it| open.takes(it)) {
            serving += 1;
            if endpoint.is_backup() {
                continue;
            }
            all += 1;
            if endpoint.tier() == Tier::Eligible && !endpoint.is_kept() {
                eligible += 1;
                settled += u32::from(!matches!(endpoint.ease(), Ease::In(_)));
            }
        }
        if eligible == 0 || settled > 0 {
            self.shares.stand_in.store(eligible == 0, Relaxed);
        }
        let share = f64::from(eligible) / f64::from(all.max(1));
        let holds_back = all < serving
            && !self.shares.stand_in.load(Relaxed)
            && self.shares.spill_below.is_none_or(|least| share >= least);
        self.shares.holds_back.store(holds_back, Relaxed);
    }
}

#[cfg(test)]
mod tests;
