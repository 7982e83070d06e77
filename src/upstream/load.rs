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
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::balance::Candidate;
    use crate::config::{self, Config};
    use crate::metrics::Metrics;
    use crate::snapshot::Snapshot;
    use crate::snapshot::compile::{Compiler, apply};
    use crate::tls::Tickets;
    use crate::upstream::{Evidence, Excuse, Lease, Wish};

    fn config(keys: &str, endpoints: &[&str]) -> Config {
        let text = format!(
            "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\n{keys}\nendpoints = [{}]\n[[route]]\nupstream = \"app\"",
            endpoints.join(", ")
        );
        config::parse(&text, Path::new("balancer.toml")).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// An upstream, through the snapshots of its file.
    struct Daemon {
        compiler: Compiler,
        snapshot: Option<Snapshot>,
        begun: Instant,
    }

    impl Daemon {
        fn start(keys: &str, endpoints: &[&str]) -> Self {
            let tickets = Tickets::new().unwrap();
            let mut daemon = Self {
                compiler: Compiler::new(Arc::new(Metrics::new()), tickets, 0),
                snapshot: None,
                begun: Instant::now(),
            };
            daemon.load(keys, endpoints);
            daemon
        }

        fn load(&mut self, keys: &str, endpoints: &[&str]) {
            let config = config(keys, endpoints);
            let compiled = self.compiler.compile(&config, self.snapshot.as_ref());
            let snapshot = compiled.unwrap().snapshot;
            apply(&snapshot, &config);
            self.snapshot = Some(snapshot);
        }

        fn upstream(&self) -> &Upstream {
            &self.snapshot.as_ref().unwrap().upstreams[0]
        }

        fn tick(&self, seconds: f64) {
            self.upstream()
                .tick(self.begun + Duration::from_secs_f64(seconds));
        }

        fn set(&self, index: usize, health: Health) {
            self.upstream().endpoints[index].set_health(health, None);
            self.upstream().refresh();
        }

        /// Which endpoint each of `count` requests goes to, one after the other.
        fn picks(&self, count: usize) -> Vec<usize> {
            (0..count).map(|_| self.index(&self.pick())).collect()
        }

        fn pick(&self) -> Lease {
            self.upstream().pick(Wish::default()).unwrap()
        }

        fn index(&self, lease: &Lease) -> usize {
            let mut endpoints = self.upstream().endpoints.iter();
            endpoints
                .position(|endpoint| Arc::ptr_eq(endpoint, lease.endpoint()))
                .unwrap()
        }

        fn fail(&self, index: usize) {
            let outcome = Outcome::Failed {
                reason: "closed",
                excuse: None,
                is_telling: true,
            };
            self.upstream()
                .report(&self.upstream().endpoints[index], outcome);
        }
    }

    fn share(picks: &[usize], index: usize) -> usize {
        picks.iter().filter(|pick| **pick == index).count()
    }

    const DOWN: Health = Health::Down(Evidence::Hard);
    const TWO: [&str; 2] = ["\"10.0.0.1:80\"", "\"10.0.0.2:80\""];
    const THREE: [&str; 3] = ["\"10.0.0.1:80\"", "\"10.0.0.2:80\"", "\"10.0.0.3:80\""];

    #[test]
    fn share_of_a_newcomer_grows_from_a_tenth_and_never_shrinks() {
        let mut daemon = Daemon::start("slow_start = \"10s\"", &TWO[..1]);
        daemon.load("slow_start = \"10s\"", &TWO);
        assert_eq!(share(&daemon.picks(110), 1), 10);
        let mut before = 0;
        for half_second in 1..=22 {
            daemon.tick(f64::from(half_second) / 2.0);
            let now = share(&daemon.picks(400), 1);
            // A round may be cut in the middle.
            assert!(now + 1 >= before && now > 0, "{half_second}");
            before = now;
        }
        assert_eq!(share(&daemon.picks(100), 1), 50);
        assert_eq!(daemon.upstream().endpoints[1].progress(), 1.0);
    }

    #[test]
    fn reload_in_the_middle_does_not_begin_again() {
        let mut daemon = Daemon::start("slow_start = \"10s\"", &TWO[..1]);
        daemon.load("slow_start = \"10s\"", &TWO);
        daemon.tick(1.0);
        daemon.tick(6.0);
        let share_before = daemon.upstream().endpoints[1].load.share.load(Relaxed);
        daemon.load("slow_start = \"10s\"", &THREE);
        assert_eq!(daemon.upstream().endpoints[1].progress(), 0.5);
        let share = |index: usize| daemon.upstream().endpoints[index].load.share.load(Relaxed);
        assert_eq!((share(1), share(2)), (share_before, 1));
    }

    #[test]
    fn who_was_down_is_eased_in_and_who_was_only_unknown_is_not() {
        let daemon = Daemon::start("health = {}", &TWO);
        daemon.set(0, Health::Up);
        daemon.set(1, Health::Up);
        assert_eq!(share(&daemon.picks(20), 1), 10);
        daemon.set(1, DOWN);
        assert_eq!(share(&daemon.picks(20), 1), 0);
        daemon.set(1, Health::Up);
        assert_eq!(share(&daemon.picks(22), 1), 2);
        // Out once more on the way: it begins again.
        daemon.tick(0.0);
        daemon.tick(20.0);
        assert!(daemon.upstream().endpoints[1].progress() > 0.6);
        daemon.set(1, DOWN);
        daemon.set(1, Health::Up);
        assert_eq!(share(&daemon.picks(22), 1), 2);
    }

    #[test]
    fn newcomer_under_least_connections_fills_up_with_time() {
        let keys = "policy = \"least-connections\"\nslow_start = \"10s\"";
        let mut daemon = Daemon::start(keys, &TWO[..1]);
        let held: Vec<Lease> = (0..20).map(|_| daemon.pick()).collect();
        daemon.load(keys, &TWO);
        let more: Vec<Lease> = (0..10).map(|_| daemon.pick()).collect();
        // As if both had twenty before: half of what comes.
        assert_eq!(
            share(
                &more.iter().map(|it| daemon.index(it)).collect::<Vec<_>>(),
                1
            ),
            5
        );
        daemon.tick(0.0);
        daemon.tick(10.0);
        let rest: Vec<Lease> = (0..20).map(|_| daemon.pick()).collect();
        assert_eq!(
            share(
                &rest.iter().map(|it| daemon.index(it)).collect::<Vec<_>>(),
                1
            ),
            20
        );
        drop((held, more, rest));
        assert!(
            daemon
                .upstream()
                .endpoints
                .iter()
                .all(|it| it.in_flight() == 0)
        );
    }

    #[test]
    fn idle_newcomer_is_not_left_out() {
        for policy in ["least-connections", "two-choices", "peak-ewma", "random"] {
            let keys = format!("policy = \"{policy}\"");
            let mut daemon = Daemon::start(&keys, &TWO[..1]);
            daemon.load(&keys, &TWO);
            assert!(share(&daemon.picks(200), 1) > 0, "{policy}");
        }
    }

    #[test]
    fn failures_count_as_load_for_a_moment() {
        let daemon = Daemon::start("policy = \"least-connections\"", &TWO);
        daemon.fail(0);
        assert_eq!(daemon.picks(5), [1; 5]);
        daemon.tick(0.5);
        assert_eq!(daemon.picks(5), [1; 5]);
        daemon.tick(1.0);
        assert_eq!(share(&daemon.picks(10), 0), 5);
    }

    #[test]
    fn failure_reported_to_an_upstream_of_before_is_forgotten_too() {
        let keys = "policy = \"least-connections\"";
        let mut daemon = Daemon::start(keys, &TWO);
        let before = Arc::clone(&daemon.snapshot.as_ref().unwrap().upstreams[0]);
        daemon.load(keys, &TWO);
        let outcome = Outcome::Answered {
            status: 502,
            after: Duration::ZERO,
            at: daemon.begun,
        };
        before.report(&before.endpoints[0], outcome);
        assert_eq!(daemon.picks(5), [1; 5]);
        daemon.tick(0.5);
        daemon.tick(1.0);
        assert_eq!(share(&daemon.picks(10), 0), 5);
    }

    #[test]
    fn stale_connections_and_blind_policies_count_none() {
        let daemon = Daemon::start("policy = \"least-connections\"", &TWO);
        let endpoint = &daemon.upstream().endpoints[0];
        let stale = Outcome::Failed {
            reason: "closed",
            excuse: Some(Excuse::Stale { is_made_good: true }),
            is_telling: false,
        };
        daemon.upstream().report(endpoint, stale);
        assert_eq!(endpoint.ballast(), 0);
        let daemon = Daemon::start("", &TWO);
        daemon.fail(0);
        assert_eq!(daemon.upstream().endpoints[0].ballast(), 0);
    }

    #[test]
    fn latency_is_that_of_answers_that_are_no_errors() {
        let daemon = Daemon::start("policy = \"peak-ewma\"", &TWO);
        let endpoint = &daemon.upstream().endpoints[0];
        let answer = |status, millis| {
            let outcome = Outcome::Answered {
                status,
                after: Duration::from_millis(millis),
                at: daemon.begun,
            };
            daemon.upstream().report(endpoint, outcome);
        };
        answer(503, 900);
        assert_eq!((endpoint.latency(), endpoint.ballast()), (0.0, 1));
        answer(404, 20);
        assert_eq!(endpoint.latency(), 20_000.0);
        // It is asked and says nothing: that is no reason to believe it quicker.
        let held: Vec<Lease> = (0..2).map(|_| daemon.pick()).collect();
        assert!(endpoint.in_flight() > 0);
        for half_second in 1..40 {
            daemon.tick(f64::from(half_second) / 2.0);
        }
        assert_eq!(endpoint.latency(), 20_000.0);
        drop(held);
        // Nobody asks it again: it is believed to be better by and by.
        for half_second in 1..40 {
            daemon.tick(f64::from(half_second) / 2.0);
        }
        assert!((1000.0..4000.0).contains(&endpoint.latency()));
    }

    #[test]
    fn backups_join_when_too_few_others_are_left() {
        let backup = "{ address = \"10.0.0.3:80\", backup = true }";
        let endpoints = [TWO[0], TWO[1], backup];
        let daemon = Daemon::start(
            "health = {}\nslow_start = \"0s\"\nspill_below = 0.75",
            &endpoints,
        );
        (0..3).for_each(|index| daemon.set(index, Health::Up));
        assert_eq!(
            (share(&daemon.picks(20), 2), daemon.upstream().available()),
            (0, 2)
        );
        daemon.set(0, DOWN);
        assert_eq!(
            (share(&daemon.picks(20), 2), daemon.upstream().available()),
            (10, 2)
        );
        daemon.set(0, Health::Up);
        assert_eq!(share(&daemon.picks(20), 2), 0);
    }

    #[test]
    fn backups_stay_until_somebody_has_come_back_to_its_full_share() {
        let backup = "{ address = \"10.0.0.2:80\", backup = true }";
        for policy in ["round-robin", "two-choices"] {
            let keys = format!("health = {{}}\nslow_start = \"10s\"\npolicy = \"{policy}\"");
            let daemon = Daemon::start(&keys, &[TWO[0], backup]);
            (0..2).for_each(|index| daemon.set(index, Health::Up));
            assert_eq!(daemon.picks(5), [0; 5]);
            daemon.set(0, DOWN);
            assert_eq!(daemon.picks(5), [1; 5]);
            daemon.set(0, Health::Up);
            daemon.tick(0.0);
            let shared = daemon.picks(44);
            assert!(share(&shared, 0) > 0 && share(&shared, 1) > 0, "{policy}");
            daemon.tick(10.0);
            assert_eq!(daemon.picks(5), [0; 5]);
            assert_eq!(daemon.upstream().available(), 1);
        }
    }

    #[test]
    fn regression_backups_got_their_full_share_while_primaries_were_restarted_in_turn() {
        let backup = "{ address = \"10.0.0.3:80\", backup = true }";
        let (keys, endpoints) = ("health = {}", [TWO[0], TWO[1], backup]);
        let mut daemon = Daemon::start(keys, &endpoints);
        (0..3).for_each(|index| daemon.set(index, Health::Up));
        daemon.set(0, DOWN);
        daemon.set(0, Health::Up);
        daemon.tick(0.0);
        daemon.set(1, DOWN);
        assert_eq!(daemon.picks(20), [0; 20]);
        daemon.set(1, Health::Up);
        daemon.tick(1.0);
        assert_eq!(share(&daemon.picks(20), 2), 0);
        // It takes over where nobody else is left, and goes on beside who is back, also through a reload.
        daemon.set(0, DOWN);
        daemon.set(1, DOWN);
        assert_eq!(daemon.picks(5), [2; 5]);
        daemon.set(1, Health::Up);
        daemon.tick(2.0);
        daemon.load(keys, &endpoints);
        let shared = daemon.picks(44);
        assert!(share(&shared, 1) > 0 && share(&shared, 2) > 0);
    }

    #[test]
    fn regression_backups_joined_when_a_reload_replaced_all_others() {
        let backup = "{ address = \"10.0.0.9:80\", backup = true }";
        let mut daemon = Daemon::start("", &[TWO[0], TWO[1], backup]);
        assert_eq!(share(&daemon.picks(20), 2), 0);
        daemon.load("", &["\"10.0.0.5:80\"", "\"10.0.0.6:80\"", backup]);
        assert_eq!(share(&daemon.picks(20), 2), 0);
        let upstream = daemon.upstream();
        assert!(upstream.endpoints.iter().all(|it| it.progress() == 1.0));
    }

    #[test]
    fn regression_backup_sat_idle_while_every_request_went_to_failing_primaries() {
        const SOFT: Health = Health::Down(Evidence::Answered);
        let backup = "{ address = \"10.0.0.3:80\", backup = true }";
        for (first, second) in [(SOFT, SOFT), (DOWN, SOFT), (SOFT, DOWN)] {
            let daemon = Daemon::start("health = {}", &[TWO[0], TWO[1], backup]);
            (0..3).for_each(|index| daemon.set(index, Health::Up));
            daemon.set(0, first);
            assert_eq!(daemon.picks(5), [1; 5]);
            daemon.set(1, second);
            assert_eq!(daemon.picks(12), [2; 12]);
            assert!(!daemon.upstream().is_degraded());
            // With the backup unwell, too, all are asked that may be well.
            daemon.set(2, SOFT);
            assert!(share(&daemon.picks(12), 2) > 0 && daemon.upstream().is_degraded());
            daemon.set(2, Health::Up);
            assert_eq!(daemon.picks(12), [2; 12]);
        }
    }

    #[test]
    fn bound_counts_every_request_once_through_reloads() {
        let keys = "policy = \"hash\"";
        let mut daemon = Daemon::start(keys, &THREE);
        let all = |daemon: &Daemon| format!("{:?}", daemon.upstream().policy.in_flight().unwrap());
        let held: Vec<Lease> = (0..9).map(|_| daemon.pick()).collect();
        assert_eq!(all(&daemon), "InFlight(9)");
        daemon.load(keys, &TWO);
        assert_eq!(all(&daemon), "InFlight(9)");
        drop(held);
        assert_eq!(all(&daemon), "InFlight(0)");
    }
}
