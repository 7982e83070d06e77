//! What is left in hand, of endpoints that carry so much each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiler, apply};
use crate::tls::Tickets;
use crate::upstream::{Evidence, Health, Lease, Wish};

/// An upstream with these endpoints, after `previous`.
fn snapshot(compiler: &mut Compiler, endpoints: &str, previous: Option<&Snapshot>) -> Snapshot {
    let text = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{endpoints}]\n[[route]]\nupstream = \"app\""
    );
    let config = config::parse(&text, Path::new("balancer.toml")).unwrap();
    let snapshot = compiler.compile(&config, previous).unwrap().snapshot;
    apply(&snapshot, &config);
    snapshot
}

fn compiler() -> Compiler {
    Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0)
}

const THREE: &str = "\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"";

#[test]
fn what_was_seen_to_be_carried_is_taken_for_what_can_be_and_outlives_a_reload() {
    let mut compiler = compiler();
    let first = snapshot(&mut compiler, THREE, None);
    let upstream = &first.upstreams[0];
    let idle = upstream.headroom();
    assert_eq!((idle.could_lose, idle.of, idle.load), (2, 3, 0));
    let begun = Instant::now();
    let pick = || upstream.pick(Wish::default()).unwrap();
    let mut leases: Vec<Lease> = (0..12).map(|_| pick()).collect();
    upstream.tick(begun);
    answer(upstream);
    upstream.tick(begun + Duration::from_secs(1));
    // Four each, and now eight in all: any two have carried that.
    leases.truncate(8);
    let headroom = upstream.headroom();
    assert_eq!((headroom.load, headroom.could_lose), (12, 0));
    upstream.tick(begun + Duration::from_secs(70));
    let later = upstream.headroom();
    assert_eq!(
        later,
        Headroom {
            could_lose: 1,
            could_lose_at_peak: 0,
            of: 3,
            load: 8,
            peak: 12,
            by: By::Peaks,
        }
    );
    let second = snapshot(&mut compiler, THREE, Some(&first));
    assert_eq!(second.upstreams[0].headroom(), later);
}

/// Each of its endpoints answers some requests.
fn answer(upstream: &Upstream) {
    for endpoint in &upstream.endpoints {
        (0..30).for_each(|_| endpoint.metrics.response.observe(0.001));
    }
}

#[test]
fn what_piles_up_while_answers_are_late_is_not_taken_for_what_can_be_carried() {
    let first = snapshot(&mut compiler(), "\"127.0.0.1:1\"", None);
    let (upstream, begun) = (&first.upstreams[0], Instant::now());
    let endpoint = &upstream.endpoints[0];
    let pick = || upstream.pick(Wish::default()).unwrap();
    // Half seconds from `from` on, with answers that take so long.
    let play = |from: u64, seconds: u64, took: f64| {
        for half in 2 * from..2 * (from + seconds) {
            for _ in 0..30 {
                endpoint.metrics.response.observe(took);
            }
            upstream.tick(begun + Duration::from_millis(500 * half));
        }
    };
    let mut leases: Vec<Lease> = (0..10).map(|_| pick()).collect();
    play(0, 61, 0.05);
    leases.extend((0..40).map(|_| pick()));
    play(61, 25, 0.5);
    assert_eq!(endpoint.peak_in_flight(), 10);
    assert_eq!(
        upstream.headroom().load,
        50,
        "that is asked for all the same"
    );
    // As before, with so many.
    play(86, 20, 0.06);
    assert_eq!(endpoint.peak_in_flight(), 50);
}

#[test]
fn limits_come_before_what_was_seen() {
    let limited = "{ address = \"127.0.0.1:1\", max_in_flight = 9 }";
    let first = snapshot(&mut compiler(), limited, None);
    let by = |snapshot: &Snapshot| snapshot.upstreams[0].headroom().by;
    assert_eq!(by(&first), By::Limits);
    assert_eq!(first.upstreams[0].endpoints[0].can_carry(), 9);
    let both = snapshot(
        &mut compiler(),
        &format!("{limited}, \"127.0.0.1:2\""),
        None,
    );
    assert_eq!(by(&both), By::Both);
}

#[test]
fn who_is_out_is_none_of_those_that_could_be_lost_and_backups_come_in_last() {
    let text = format!("{THREE}, {{ address = \"127.0.0.1:4\", backup = true }}");
    let first = snapshot(&mut compiler(), &text, None);
    let upstream = &first.upstreams[0];
    let of = |upstream: &Upstream| {
        let headroom = upstream.headroom();
        (headroom.could_lose, headroom.of)
    };
    // With nothing in flight, the backup is enough.
    assert_eq!(of(upstream), (3, 3));
    let down = |index: usize| {
        upstream.endpoints[index].set_health(Health::Down(Evidence::Hard), None);
        upstream.refresh();
    };
    down(0);
    assert_eq!(of(upstream), (2, 2));
    down(1);
    down(2);
    assert_eq!(of(upstream), (0, 1));
}

/// What is left of `all` without those whose bit is set in `lost`.
fn without(all: &[u32], lost: u32) -> Vec<u32> {
    let left = all.iter().enumerate();
    let left = left.filter(|(index, _)| lost & (1 << index) == 0);
    left.map(|(_, carried)| *carried).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// As many can be lost as any choice of them leaves the load carried, and one more cannot.
    #[test]
    fn any_choice_of_so_many_can_be_lost_and_some_choice_of_one_more_cannot(
        in_use in prop::collection::vec(0_u32..9, 0..7),
        reserve in prop::collection::vec(0_u32..9, 0..3),
        load in 0_u64..30,
    ) {
        let lost = could_lose(&in_use, &reserve, load);
        prop_assert!(lost <= in_use.len());
        let carried = |count: usize| {
            (0_u32..1 << in_use.len())
                .filter(|choice| choice.count_ones() as usize == count)
                .all(|choice| carries(&without(&in_use, choice), &reserve, load))
        };
        prop_assert!((1..=lost).all(carried));
        prop_assert!(lost == in_use.len() || !carried(lost + 1));
    }

    /// More load never leaves more to lose.
    #[test]
    fn more_load_leaves_less_to_lose(
        in_use in prop::collection::vec(0_u32..9, 0..7),
        load in 0_u64..30,
        more in 0_u64..9,
    ) {
        prop_assert!(could_lose(&in_use, &[], load + more) <= could_lose(&in_use, &[], load));
    }
}

#[test]
fn last_one_is_lost_only_where_a_reserve_carries_the_load() {
    assert_eq!(could_lose(&[10, 10, 10], &[], 0), 2);
    assert_eq!(could_lose(&[10, 10, 10], &[], 11), 1);
    assert_eq!(could_lose(&[10, 10, 10], &[], 21), 0);
    assert_eq!(could_lose(&[10], &[5], 5), 1);
    assert_eq!(could_lose(&[10], &[5], 6), 0);
    assert_eq!(could_lose(&[], &[5], 0), 0);
}
