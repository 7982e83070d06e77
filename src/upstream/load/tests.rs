//! How load is shared with newcomers, with those who fail, and with backups.

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
