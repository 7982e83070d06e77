//! Which set requests go to, whatever the policy and however they are shared.

use std::path::Path;

use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiler, apply};
use crate::tls::Tickets;
use crate::upstream::{Denied, Evidence, Health};

/// Six endpoints, the first half of them blue, which serve.
fn snapshot(keys: &str) -> Snapshot {
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    compiled(&mut compiler, &text(keys), None)
}

fn text(keys: &str) -> String {
    let endpoint = |number: usize| {
        let set = if number < 3 { "blue" } else { "green" };
        format!("{{ address = \"10.0.0.{number}:80\", set = \"{set}\" }}")
    };
    let endpoints: Vec<_> = (0..6).map(endpoint).collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nactive_set = \"blue\"\n{keys}\nendpoints = [{}]\n[[route]]\nupstream = \"app\"",
        endpoints.join(", ")
    )
}

fn compiled(compiler: &mut Compiler, text: &str, before: Option<&Snapshot>) -> Snapshot {
    let config = config::parse(text, Path::new("f")).unwrap_or_else(|it| panic!("{it}"));
    let snapshot = compiler.compile(&config, before).unwrap().snapshot;
    apply(&snapshot, &config);
    snapshot
}

/// How many of so many requests each endpoint gets.
fn picks(upstream: &Upstream, count: u64) -> [usize; 6] {
    let mut got = [0; 6];
    for request in 0..count {
        let wish = Wish {
            key: upstream.hash_key.as_ref().map(|_| request),
            ..Wish::default()
        };
        let lease = upstream.pick(wish).unwrap();
        let mut endpoints = upstream.endpoints.iter();
        let index = endpoints.position(|it| Arc::ptr_eq(it, lease.endpoint()));
        got[index.unwrap()] += 1;
    }
    got
}

const POLICIES: [&str; 6] = [
    "round-robin",
    "least-connections",
    "two-choices",
    "peak-ewma",
    "hash",
    "random",
];

#[test]
fn only_the_set_that_serves_is_picked_from_whatever_the_policy() {
    for policy in POLICIES {
        let snapshot = snapshot(&format!("policy = \"{policy}\""));
        let upstream = &snapshot.upstreams[0];
        let blue = picks(upstream, 600);
        assert_eq!(blue[3..], [0; 3], "{policy}");
        assert_eq!(upstream.available(), 3);
        upstream.switch("green");
        let green = picks(upstream, 600);
        assert_eq!(green[..3], [0; 3], "{policy}");
        assert!(green[3..].iter().all(|it| *it > 100), "{policy} {green:?}");
        upstream.switch("blue");
        assert_eq!(picks(upstream, 60)[3..], [0; 3], "{policy}");
    }
}

#[test]
fn share_is_exact_and_spread_evenly_within_each_set() {
    let snapshot = snapshot("");
    let upstream = &snapshot.upstreams[0];
    upstream.share("green", 10);
    assert_eq!(picks(upstream, 900), [270, 270, 270, 30, 30, 30]);
    upstream.share("green", 50);
    assert_eq!(picks(upstream, 600), [100; 6]);
    upstream.switch("green");
    assert_eq!(picks(upstream, 600), [0, 0, 0, 200, 200, 200]);
    assert_eq!(upstream.next_set(), None);
}

#[test]
fn same_key_goes_to_the_same_set_while_both_serve() {
    let snapshot = snapshot("policy = \"hash\"");
    let upstream = &snapshot.upstreams[0];
    upstream.share("green", 30);
    let first = picks(upstream, 1000);
    assert_eq!(first, picks(upstream, 1000));
    let green: usize = first[3..].iter().sum();
    assert!((250..350).contains(&green), "{green}");
}

#[test]
fn set_with_a_share_and_nobody_to_ask_leaves_it_to_the_other() {
    let snapshot = snapshot("health = {}");
    let upstream = &snapshot.upstreams[0];
    for endpoint in &upstream.endpoints {
        endpoint.set_health(Health::Up, None);
    }
    upstream.refresh();
    upstream.share("green", 50);
    for endpoint in &upstream.endpoints[3..] {
        endpoint.set_health(Health::Down(Evidence::Hard), None);
    }
    upstream.refresh();
    assert_eq!(picks(upstream, 90)[3..], [0; 3]);
    // Not so where one set has all: who is on standby is not asked, whatever becomes of the others.
    upstream.share("green", 0);
    for endpoint in &upstream.endpoints[..3] {
        endpoint.set_health(Health::Down(Evidence::Hard), None);
    }
    for endpoint in &upstream.endpoints[3..] {
        endpoint.set_health(Health::Up, None);
    }
    upstream.refresh();
    assert_eq!(upstream.pick(Wish::default()).unwrap_err(), Denied::Nobody);
}

#[test]
fn set_on_standby_keeps_nobody_of_the_other_out_of_use() {
    let snapshot = snapshot("health = {}");
    let upstream = &snapshot.upstreams[0];
    for endpoint in &upstream.endpoints {
        endpoint.set_health(Health::Up, None);
    }
    // All that serve seem unwell: they stay in use, for there is nobody else.
    for endpoint in &upstream.endpoints[..3] {
        endpoint.set_health(Health::Down(Evidence::Answered), None);
    }
    upstream.refresh();
    assert!(picks(upstream, 90)[..3].iter().all(|it| *it > 0));
    assert!(upstream.endpoints[0].is_kept() && !upstream.endpoints[3].is_kept());
    assert_eq!(upstream.word(&upstream.endpoints[0]), "degraded");
    assert_eq!(upstream.word(&upstream.endpoints[3]), "standby");
    assert_eq!(upstream.headroom().of, 3);
}

#[test]
fn nobody_is_sent_where_nobody_is() {
    let snapshot = snapshot("");
    let upstream = &snapshot.upstreams[0];
    upstream.switch("red");
    upstream.share("red", 50);
    assert_eq!(upstream.active_set().as_deref(), Some("blue"));
    assert_eq!(upstream.next_set(), None);
}

#[test]
fn regression_full_set_leaves_requests_to_the_other_while_both_serve() {
    for policy in POLICIES {
        let keys = format!("policy = \"{policy}\"");
        let text = text(&keys).replace(" }", ", max_in_flight = 1 }");
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiled(&mut compiler, &text, None);
        let upstream = &snapshot.upstreams[0];
        upstream.share("green", 10);
        let wish = Wish {
            key: Some(1),
            ..Wish::default()
        };
        let leases: Vec<_> = (0..6).map(|_| upstream.pick(wish)).collect();
        assert!(leases.iter().all(Result::is_ok), "{policy} {leases:?}");
        assert_eq!(upstream.pick(wish).unwrap_err(), Denied::Full, "{policy}");
        // One set alone is full by itself.
        drop(leases);
        upstream.switch("green");
        let leases: Vec<_> = (0..3).map(|_| upstream.pick(wish)).collect();
        assert!(leases.iter().all(Result::is_ok), "{policy} {leases:?}");
        assert_eq!(upstream.pick(wish).unwrap_err(), Denied::Full, "{policy}");
    }
}

#[test]
fn regression_policy_of_a_share_picks_there_until_the_share_has_ended() {
    let snapshot = snapshot("");
    let upstream = &snapshot.upstreams[0];
    upstream.share("green", 50);
    upstream.switch("blue");
    assert_eq!(upstream.next_set(), None);
    let spare = &upstream.division.as_ref().unwrap().spare;
    let picked = spare.pick(&upstream.endpoints, &Cursor::new(0), None, |_| true);
    assert!(picked.is_some_and(|index| index >= 3), "{picked:?}");
    upstream.switch("green");
    assert_eq!(picks(upstream, 30), [0, 0, 0, 10, 10, 10]);
}

#[test]
fn regression_share_goes_on_while_another_process_says_so() {
    let snapshot = snapshot("");
    let upstream = &snapshot.upstreams[0];
    upstream.obey("blue", Some(("green", 50)));
    let facts = || upstream.endpoints[3].journal().entries().len();
    let noted = facts();
    upstream.obey("blue", Some(("green", 50)));
    assert_eq!(facts(), noted, "it got requests all the time");
    assert_eq!(picks(upstream, 60), [10; 6]);
    upstream.obey("green", Some(("blue", 50)));
    assert_eq!(upstream.active_set().as_deref(), Some("green"));
    assert_eq!(picks(upstream, 60), [10; 6]);
    upstream.obey("green", None);
    assert_eq!(picks(upstream, 60), [0, 0, 0, 20, 20, 20]);
}

#[test]
fn regression_reload_that_takes_the_sets_away_leaves_older_requests_theirs() {
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    let with = text("");
    let older = compiled(&mut compiler, &with, None);
    let without = with.replace("active_set = \"blue\"", "");
    let without = without.replace(", set = \"blue\"", "");
    let without = without.replace(", set = \"green\"", "");
    let newer = compiled(&mut compiler, &without, Some(&older));
    assert_eq!(picks(&older.upstreams[0], 30), [10, 10, 10, 0, 0, 0]);
    assert_eq!(picks(&newer.upstreams[0], 60), [10; 6]);
    let again = compiled(&mut compiler, &with, Some(&newer));
    assert_eq!(picks(&newer.upstreams[0], 60), [10; 6]);
    assert_eq!(picks(&again.upstreams[0], 30), [10, 10, 10, 0, 0, 0]);
}

#[test]
fn regression_requests_of_before_a_reload_that_moves_all_they_may_go_to_are_not_lost() {
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    let before = text("");
    let older = compiled(&mut compiler, &before, None);
    let moved = before.replace(", set = \"blue\"", ", set = \"green\"");
    let new = "endpoints = [{ address = \"10.0.0.9:80\", set = \"blue\" }, ";
    let moved = moved.replace("endpoints = [", new);
    let newer = compiled(&mut compiler, &moved, Some(&older));
    let lease = newer.upstreams[0].pick(Wish::default()).unwrap();
    assert_eq!(&**lease.endpoint().name(), "10.0.0.9:80");
    assert_eq!(picks(&older.upstreams[0], 60).iter().sum::<usize>(), 60);
}

#[test]
fn regression_somebody_serves_at_every_moment_while_endpoints_change_sets() {
    let snapshot = snapshot("");
    let upstream = &snapshot.upstreams[0];
    let [blue, green, red] = ["blue", "green", "red"].map(Name::from);
    // The set that serves is renamed, swapped with the other one, and refilled.
    let divisions = [
        (&red, &green, &red),
        (&green, &red, &green),
        (&red, &green, &green),
        (&blue, &green, &blue),
    ];
    let (done, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while done.load(Relaxed) == 0 {
                let picked = upstream.pick(Wish::default());
                // Before the count: a test that fails here shall end.
                count.fetch_add(1, Relaxed);
                if picked.is_err() {
                    done.store(2, Relaxed);
                }
            }
        });
        for (first, second, serves) in divisions.iter().cycle().take(400) {
            let sets = (0..6).map(|index| Some(if index < 3 { *first } else { *second }));
            upstream.divide(sets, Some(serves));
            // Every pick sees one change at most.
            let before = count.load(Relaxed);
            while done.load(Relaxed) == 0 && count.load(Relaxed) < before + 2 {
                std::thread::yield_now();
            }
        }
        let _ = done.compare_exchange(0, 1, Relaxed, Relaxed);
    });
    assert_eq!(done.load(Relaxed), 1, "a request found nobody");
}

#[test]
fn regression_reload_that_lets_another_set_serve_is_noted_with_endpoints() {
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    let blue = compiled(&mut compiler, &text(""), None);
    let noted = |snapshot: &Snapshot| -> Vec<Option<bool>> {
        let endpoints = snapshot.upstreams[0].endpoints.iter();
        let serves = |endpoint: &Arc<Endpoint>| {
            let entries = endpoint.journal().entries();
            entries.iter().rev().find_map(|entry| match entry.fact {
                Fact::Serves(serves) => Some(serves),
                _ => None,
            })
        };
        endpoints.map(serves).collect()
    };
    assert_eq!(noted(&blue), [None; 6], "as it began");
    let with_more = text("").replace(
        "endpoints = [",
        "endpoints = [{ address = \"10.0.0.9:80\", set = \"blue\" }, ",
    );
    let green = with_more.replace("active_set = \"blue\"", "active_set = \"green\"");
    let green = compiled(&mut compiler, &green, Some(&blue));
    let (no, yes) = (Some(false), Some(true));
    assert_eq!(noted(&green), [None, no, no, no, yes, yes, yes]);
    // One that changes sets.
    let other = text("").replace(
        "10.0.0.0:80\", set = \"blue\"",
        "10.0.0.0:80\", set = \"green\"",
    );
    let other = compiled(
        &mut compiler,
        &other.replace("active_set = \"blue\"", "active_set = \"green\""),
        Some(&green),
    );
    assert_eq!(noted(&other), [yes, no, no, yes, yes, yes]);
}

#[test]
fn word_holds_what_was_put_into_it() {
    let now = Now {
        serves: 7,
        next: SetId::MAX,
        percent: 99,
        swapped: true,
    };
    assert_eq!(Now::unpacked(now.packed()), now);
    assert_eq!(Now::unpacked(0), Now::default());
}
