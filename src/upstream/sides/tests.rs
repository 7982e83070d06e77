//! Who is kept with which version, and that nobody goes back, through rolls, reloads and ramps.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::COOKIE;
use proptest::prelude::*;

use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiler, apply};
use crate::tls::Tickets;
use crate::upstream::{Evidence, Health, Outcome, Runs, Tier, Tried};

/// An upstream whose clients are kept with versions, and its clients' cookies.
struct Stage {
    compiler: Compiler,
    snapshot: Snapshot,
    metrics: Arc<Metrics>,
    cookies: Vec<Option<String>>,
}

/// The file of an upstream of so many `endpoints`.
fn config(folder: &Path, keys: &str, (endpoints, sets): (usize, &[&str])) -> config::Config {
    fs::write(folder.join("key"), "0123456789abcdef0123456789abcdef").unwrap();
    let endpoints: Vec<_> = (0..endpoints)
        .map(|it| {
            let set = sets.get(it).map(|set| format!(", set = \"{set}\""));
            let (port, set) = (it + 1, set.unwrap_or_default());
            format!("{{ name = \"e{it}\", address = \"127.0.0.1:{port}\"{set} }}")
        })
        .collect();
    let slow_start = if keys.contains("slow_start") {
        ""
    } else {
        "slow_start = \"0s\""
    };
    let text = format!(
        "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\n{slow_start}\nendpoints = [{}]\n\
         health = {{ version_header = \"x-v\" }}\naffinity = {{ by = \"version\", cookie = \"c\", key_file = \"key\" }}\n{keys}\n\
         [[route]]\nupstream = \"app\"\n",
        endpoints.join(", ")
    );
    config::parse(&text, &folder.join("f")).unwrap()
}

impl Stage {
    /// Every endpoint is up and runs its one of `versions`; "-": it does not say.
    fn new(keys: &str, versions: &[&str], clients: usize) -> Self {
        Self::in_sets(keys, (versions, &[]), clients)
    }

    /// The same, each in its one of `sets`, if there are any.
    fn in_sets(keys: &str, (versions, sets): (&[&str], &[&str]), clients: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), keys, (versions.len(), sets));
        let metrics = Arc::new(Metrics::new());
        let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        apply(&snapshot, &config);
        let stage = Self {
            compiler,
            snapshot,
            metrics,
            cookies: vec![None; clients],
        };
        for (index, version) in versions.iter().enumerate() {
            stage.runs(index, version);
            stage.set(index, Health::Up);
        }
        stage
    }

    fn reload(&mut self, keys: &str) {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), keys, (self.upstream().endpoints.len(), &[]));
        let compiled = self.compiler.compile(&config, Some(&self.snapshot));
        self.snapshot = compiled.unwrap().snapshot;
        apply(&self.snapshot, &config);
    }

    /// Keeps `client` with `version`, which serves.
    fn pin(&mut self, client: usize, version: &str) {
        while self.ask(client).as_deref() != Some(version) {
            self.cookies[client] = None;
        }
    }

    fn upstream(&self) -> &Upstream {
        &self.snapshot.upstreams[0]
    }

    fn runs(&self, index: usize, version: &str) {
        let runs = match version {
            "-" => Runs::Unknown("it does not say".into()),
            version => Runs::Version(AppVersion::try_from(version.as_bytes()).unwrap()),
        };
        self.upstream().endpoints[index].set_version(runs);
        self.upstream().refresh();
    }

    fn set(&self, index: usize, health: Health) {
        self.upstream().endpoints[index].set_health(health, None);
        self.upstream().refresh();
    }

    /// Whether somebody who runs `version` may be picked.
    fn serves(&self, version: &str) -> bool {
        let mut endpoints = self.upstream().endpoints.iter();
        endpoints.any(|it| {
            it.tier() == Tier::Eligible && it.version().is_some_and(|it| it.as_str() == version)
        })
    }

    fn wanted(&self, client: usize) -> Wanted {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &self.cookies[client] {
            headers.insert(COOKIE, cookie.parse().unwrap());
        }
        let affinity = self.upstream().affinity.as_deref().unwrap();
        affinity.take(self.upstream(), &mut headers)
    }

    fn pick(&self, client: usize, tried: Tried) -> Lease {
        let wish = Wish {
            version: self.wanted(client).version().map(|pin| pin.mark),
            tried,
            ..Wish::default()
        };
        let previewed = self.upstream().preview(wish);
        let lease = self.upstream().pick(wish).unwrap();
        if tried.is_empty() {
            let previewed = &self.upstream().endpoints[previewed.unwrap()];
            assert_eq!(previewed.mark(), lease.endpoint().mark(), "as explained");
        }
        lease
    }

    /// A request of `client`, to its end. The version that answered it.
    fn ask(&mut self, client: usize) -> Option<String> {
        let wanted = self.wanted(client);
        let lease = self.pick(client, Tried::default());
        let said = self.upstream().keep(wanted, lease.endpoint(), false);
        if let Some(said) = said {
            let said = said.to_str().unwrap();
            self.cookies[client] = Some(said.split(';').next().unwrap().to_owned());
        }
        lease.endpoint().version().map(|it| it.to_string())
    }
}

const DOWN: Health = Health::Down(Evidence::Hard);
const POLICIES: [&str; 6] = [
    "round-robin",
    "least-connections",
    "two-choices",
    "peak-ewma",
    "random",
    "hash",
];

#[test]
fn sides_are_shared_evenly_whatever_stands_beside_them() {
    // The other version stands between them: whom it passes its turns on to would get twice as much.
    for policy in ["round-robin", "least-connections"] {
        let keys = format!("policy = \"{policy}\"");
        let mut stage = Stage::new(&keys, &["1", "2", "1"], 1);
        stage.pin(0, "1");
        let picks: Vec<_> = (0..60)
            .map(|_| stage.pick(0, Tried::default()).endpoint().name().clone())
            .collect();
        let of = |name: &str| picks.iter().filter(|it| ***it == *name).count();
        assert_eq!((of("e0"), of("e1"), of("e2")), (30, 0, 30), "{policy}");
    }
}

#[test]
fn retry_stays_with_its_version_where_it_can_and_moves_where_it_cannot() {
    for policy in POLICIES {
        let keys = format!("policy = \"{policy}\"");
        let mut stage = Stage::new(&keys, &["1", "2", "1", "2"], 1);
        stage.pin(0, "1");
        let first = stage.pick(0, Tried::default());
        let tried = Tried::default().and(first.endpoint().id());
        let second = stage.pick(0, tried);
        assert_ne!(second.endpoint().id(), first.endpoint().id());
        assert_eq!(
            second.endpoint().mark(),
            first.endpoint().mark(),
            "{policy}"
        );
        let third = stage.pick(0, tried.and(second.endpoint().id()));
        assert_ne!(third.endpoint().mark(), first.endpoint().mark());
        // And so does the second attempt beside a first.
        let wish = Wish {
            version: first.endpoint().mark(),
            tried,
            ..Wish::default()
        };
        let beside = stage.upstream().pick_other(wish).unwrap();
        assert_eq!(beside.endpoint().id(), second.endpoint().id());
    }
}

#[test]
fn regression_retry_went_back_to_the_old_version_for_one_failure_of_the_last_new_one() {
    for policy in POLICIES {
        let keys = format!("policy = \"{policy}\"");
        let mut stage = Stage::new(&keys, &["1", "2", "2", "2"], 1);
        stage.pin(0, "2");
        let fail = |index: usize| {
            let failed = Outcome::Failed {
                reason: "closed",
                excuse: None,
                is_telling: true,
            };
            let endpoint = &stage.upstream().endpoints[index];
            stage.upstream().report(endpoint, failed);
            assert_eq!(endpoint.outlier().in_a_row(), 1);
            endpoint.id()
        };
        let tried = Tried::default().and(fail(1));
        fail(2);
        let second = stage.pick(0, tried);
        assert_eq!(
            &**second.endpoint().name(),
            "e3",
            "{policy}: it has not failed"
        );
        fail(3);
        for _ in 0..8 {
            let second = stage.pick(0, tried);
            assert!(
                ["e2", "e3"].contains(&&**second.endpoint().name()),
                "{policy}"
            );
            let said = stage
                .upstream()
                .keep(stage.wanted(0), second.endpoint(), false);
            assert_eq!(said, None, "{policy}");
        }
    }
}

#[test]
fn regression_slow_start_never_ended_for_clients_of_a_version() {
    for policy in ["round-robin", "least-connections"] {
        let keys = format!("policy = \"{policy}\"\nslow_start = \"3s\"");
        let mut stage = Stage::new(&keys, &["1", "1", "2"], 1);
        stage.pin(0, "1");
        stage.set(0, DOWN);
        stage.set(0, Health::Up);
        let shares = |stage: &Stage| {
            let picks: Vec<_> = (0..60)
                .map(|_| stage.pick(0, Tried::default()).endpoint().name().clone())
                .collect();
            ["e0", "e1"].map(|name| picks.iter().filter(|it| ***it == *name).count())
        };
        let begun = Instant::now();
        let mut before = shares(&stage)[0];
        for half_second in 0..=6 {
            stage
                .upstream()
                .tick(begun + Duration::from_millis(500) * half_second);
            let now = shares(&stage)[0];
            // A round may be cut in the middle.
            assert!(now + 1 >= before, "{policy}: {now} after {before}");
            before = now;
        }
        assert_eq!(shares(&stage), [30, 30], "{policy}");
    }
}

#[test]
fn regression_skew_went_on_after_a_backup_had_stood_in() {
    let mut stage = Stage::new("slow_start = \"3s\"", &["1", "2"], 1);
    stage.upstream().endpoints[1].set_backup(true);
    stage.set(0, DOWN);
    assert_eq!(stage.ask(0).as_deref(), Some("2"));
    stage.set(0, Health::Up);
    let skew_since = |stage: &Stage| stage.upstream().versions.skew_since();
    assert!(skew_since(&stage).is_some(), "both serve");
    let begun = Instant::now();
    stage.upstream().tick(begun);
    stage.upstream().tick(begun + Duration::from_secs(3));
    assert_eq!(skew_since(&stage), None);
    assert_eq!(stage.upstream().metrics.available.get(), 1);
    assert_eq!(stage.ask(0).as_deref(), Some("1"), "the backup waits");
}

#[test]
fn regression_reload_changed_the_policy_for_clients_without_a_version_only() {
    let mut stage = Stage::new("", &["1", "2", "1", "1"], 1);
    stage.pin(0, "1");
    let picks = |stage: &Stage| {
        let version = stage.wanted(0).version().map(|pin| pin.mark);
        let wish = Wish {
            version,
            key: Some(7),
            ..Wish::default()
        };
        let mut names: Vec<_> = (0..12)
            .map(|_| {
                stage
                    .upstream()
                    .pick(wish)
                    .unwrap()
                    .endpoint()
                    .name()
                    .clone()
            })
            .collect();
        names.sort();
        names.dedup();
        names.len()
    };
    assert_eq!(picks(&stage), 3);
    let before = stage.wanted(0);
    stage.reload("policy = \"hash\"");
    assert_eq!(stage.wanted(0), before, "the cookie is known");
    assert_eq!(picks(&stage), 1, "a key has one endpoint");
    stage.reload("");
    assert_eq!(picks(&stage), 3);
}

#[test]
fn clients_of_a_version_that_is_gone_are_known_and_told_of_the_new_one() {
    let mut stage = Stage::new("", &["1", "1"], 2);
    assert_eq!(stage.ask(0).as_deref(), Some("1"));
    let old = stage.cookies[0].clone();
    for index in 0..2 {
        stage.runs(index, "2");
    }
    stage.cookies[1] = Some("c=0000000000000000000000000000000A".to_owned());
    assert_eq!(stage.ask(0).as_deref(), Some("2"));
    assert_ne!(stage.cookies[0], old, "the cookie names the new version");
    assert_eq!(stage.ask(1).as_deref(), Some("2"));
    assert_eq!(stage.cookies[0], stage.cookies[1]);
    let repins = &stage.metrics.sticky_repins;
    for why in ["version", "unknown_cookie"] {
        assert_eq!(repins.with_label_values(&["app", why]).get(), 1, "{why}");
    }
}

#[test]
fn who_does_not_say_what_it_runs_is_no_side_and_no_cookie_names_it() {
    let mut stage = Stage::new("", &["-", "1"], 2);
    stage.set(1, DOWN);
    assert_eq!(stage.ask(0), None);
    assert_eq!(stage.cookies[0], None);
    stage.set(1, Health::Up);
    while stage.ask(0).is_none() {}
    for _ in 0..4 {
        assert_eq!(stage.ask(0).as_deref(), Some("1"));
    }
}

#[test]
fn waiting_backups_and_full_endpoints_are_no_reason_to_wait() {
    let mut stage = Stage::new("", &["1", "2"], 1);
    stage.pin(0, "1");
    let old = &stage.upstream().endpoints[0];
    old.set_max_in_flight(std::num::NonZeroU32::new(1));
    let _full = Lease::take(old, None).unwrap();
    assert_eq!(stage.ask(0).as_deref(), Some("2"), "it has no room");
    stage.upstream().endpoints[0].set_max_in_flight(None);
    assert_eq!(stage.ask(0).as_deref(), Some("2"), "and nobody goes back");
    stage.upstream().endpoints[1].set_backup(true);
    stage.upstream().refresh();
    assert_eq!(stage.ask(0).as_deref(), Some("1"), "a backup waits");
}

const SETTINGS: [&str; 7] = [
    "policy = \"round-robin\"",
    "policy = \"least-connections\"",
    "policy = \"two-choices\"",
    "policy = \"peak-ewma\"",
    "policy = \"random\"",
    "policy = \"hash\"",
    "policy = \"hash\"\nhash = { bounded_load = \"off\" }",
];

fn in_sets(policy: &str, versions: &[&str], sets: &[&str]) -> Stage {
    let keys = format!("active_set = \"blue\"\n{policy}");
    Stage::in_sets(&keys, (versions, sets), 2)
}

fn repins(stage: &Stage) -> u64 {
    let repins = &stage.metrics.sticky_repins;
    repins.with_label_values(&["app", "version"]).get()
}

#[test]
fn clients_of_a_version_that_only_a_set_on_standby_runs_move() {
    for policy in SETTINGS {
        let mut stage = in_sets(policy, &["1", "2"], &["blue", "green"]);
        for _ in 0..4 {
            assert_eq!(stage.ask(0).as_deref(), Some("1"), "{policy}");
        }
        stage.upstream().switch("green");
        for _ in 0..4 {
            assert_eq!(stage.ask(0).as_deref(), Some("2"), "{policy}");
        }
        assert_eq!(repins(&stage), 1, "{policy}: told once");
        // Of who stands by nobody sees what it runs.
        assert_eq!(stage.upstream().versions.skew_since(), None);
        stage.upstream().switch("blue");
        assert_eq!(stage.ask(0).as_deref(), Some("1"), "{policy}");
    }
}

#[test]
fn clients_keep_their_version_through_a_flip_where_the_new_set_runs_it() {
    for policy in SETTINGS {
        let (versions, sets) = (["1", "1", "2", "1"], ["blue", "green", "green", "blue"]);
        let mut stage = in_sets(policy, &versions, &sets);
        assert_eq!(stage.ask(0).as_deref(), Some("1"));
        for (set, other) in [
            ("green", ["e0", "e3"]),
            ("blue", ["e1", "e2"]),
            ("green", ["e0", "e3"]),
        ] {
            stage.upstream().switch(set);
            for _ in 0..20 {
                let lease = stage.pick(0, Tried::default());
                let name = lease.endpoint().name();
                assert!(
                    !other.contains(&&**name),
                    "{policy}: {name} is not in {set}"
                );
                let version = lease.endpoint().version().unwrap();
                assert_eq!(version.as_str(), "1", "{policy}");
            }
        }
        assert_eq!(repins(&stage), 0, "{policy}");
    }
}

#[test]
fn clients_stay_with_their_version_while_two_sets_share_the_requests() {
    let mut stage = in_sets("", &["1", "2"], &["blue", "green"]);
    assert_eq!(stage.ask(0).as_deref(), Some("1"));
    stage.upstream().share("green", 50);
    let new: Vec<_> = (0..20)
        .map(|_| {
            assert_eq!(stage.ask(0).as_deref(), Some("1"));
            // And so does an attempt beside another.
            let mark = stage.wanted(0).version().map(|pin| pin.mark);
            let wish = Wish {
                version: mark,
                ..Wish::default()
            };
            let beside = stage.upstream().pick_other(wish).unwrap();
            assert_eq!(beside.endpoint().mark(), mark);
            stage.cookies[1] = None;
            stage.ask(1)
        })
        .collect();
    let moved = new.iter().filter(|it| it.as_deref() == Some("2")).count();
    assert!((1..20).contains(&moved), "{moved} of 20 new ones");
    assert!(stage.upstream().versions.skew_since().is_some());
    stage.upstream().share("green", 0);
    assert_eq!(stage.ask(1).as_deref(), Some("1"));
    assert_eq!(stage.upstream().versions.skew_since(), None);
}

/// What happens to an upstream.
#[derive(Clone, Debug)]
enum Event {
    Runs(usize, &'static str),
    Up(usize),
    Down(usize),
    Ask(usize),
}

const ENDPOINTS: usize = 4;
const CLIENTS: usize = 3;

fn event() -> impl Strategy<Value = Event> {
    let version = prop::sample::select(vec!["1", "2", "3", "-"]);
    prop_oneof![
        1 => (0..ENDPOINTS, version).prop_map(|(it, version)| Event::Runs(it, version)),
        1 => (0..ENDPOINTS).prop_map(Event::Up),
        1 => (0..ENDPOINTS).prop_map(Event::Down),
        6 => (0..CLIENTS).prop_map(Event::Ask),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_client_leaves_a_version_that_serves_and_none_comes_back_to_one_it_left(events in prop::collection::vec(event(), 1..80)) {
        let mut stage = Stage::new("", &["1", "1", "2", "-"], CLIENTS);
        let mut on: Vec<Option<String>> = vec![None; CLIENTS];
        for event in events {
            match event {
                Event::Runs(endpoint, version) => stage.runs(endpoint, version),
                Event::Up(endpoint) => stage.set(endpoint, Health::Up),
                Event::Down(endpoint) => {
                    // Somebody is left to answer.
                    let mut others = stage.upstream().endpoints.iter().enumerate();
                    if others.any(|(it, other)| it != endpoint && other.tier() == Tier::Eligible) {
                        stage.set(endpoint, DOWN);
                    }
                }
                Event::Ask(client) => {
                    let before = on[client].clone();
                    let still_serves = before.as_deref().is_some_and(|it| stage.serves(it));
                    let got = stage.ask(client);
                    if still_serves {
                        prop_assert_eq!(&got, &before);
                    }
                    // One that does not say is asked in need, and pins nobody.
                    if got.is_some() {
                        on[client] = got;
                    }
                }
            }
        }
    }

    #[test]
    fn no_client_sees_the_old_version_after_the_new_one_while_a_cluster_is_rolled(asks in prop::collection::vec(0..CLIENTS, 60..120), pace in 1_usize..6) {
        let mut stage = Stage::new("", &["1"; ENDPOINTS], CLIENTS);
        let mut newest = ["1".to_owned(), "1".to_owned(), "1".to_owned()];
        let steps = (0..ENDPOINTS).flat_map(|it| [(it, false), (it, true)]);
        let mut steps = steps.collect::<std::collections::VecDeque<_>>();
        for (number, client) in asks.into_iter().enumerate() {
            if number % pace == 0 && let Some((endpoint, is_back)) = steps.pop_front() {
                if is_back {
                    stage.runs(endpoint, "2");
                }
                stage.set(endpoint, if is_back { Health::Up } else { DOWN });
            }
            let got = stage.ask(client).unwrap();
            prop_assert!(got >= newest[client], "{} after {}", got, newest[client]);
            newest[client] = got;
        }
    }
}
