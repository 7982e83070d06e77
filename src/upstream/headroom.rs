//! How many endpoints an upstream could lose and still carry its load. What an endpoint can carry is its limit; without one, no
//! more than it was seen to carry: had in flight, and answered as quickly as it is used to. Has no clock.

use std::time::Instant;

use super::pace::Answered;
use super::{Endpoint, Tier, Upstream};

/// What an upstream has in hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headroom {
    /// How many endpoints could be lost, whichever they are, with what is in flight these days still carried.
    pub could_lose: usize,
    /// The same at [`peak`](Self::peak).
    pub could_lose_at_peak: usize,
    /// Of so many that are picked now.
    pub of: usize,
    /// Most requests at once within the last minute, those that wait among them.
    pub load: u64,
    /// The same within the last day.
    pub peak: u64,
    /// How it is known what endpoints can carry.
    pub by: By,
}

/// How it is known what endpoints can carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// Each has a limit.
    Limits,
    /// None has one: each is taken to carry what it was seen to carry within the last day.
    Peaks,
    /// Some have a limit, the rest are taken for what was seen.
    Both,
}

impl By {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limits => "max_in_flight",
            Self::Peaks => "observed_peak",
            Self::Both => "both",
        }
    }
}

/// Whether `load` is carried by endpoints that carry so much each: by those `in_use`, or where there are none by the
/// `reserve`.
pub fn carries(in_use: &[u32], reserve: &[u32], load: u64) -> bool {
    let bearing = if in_use.is_empty() { reserve } else { in_use };
    !bearing.is_empty() && sum(bearing) >= load
}

/// How many of those `in_use` could be lost with `load` still carried, whichever they are.
pub fn could_lose(in_use: &[u32], reserve: &[u32], load: u64) -> usize {
    let mut left = in_use.to_vec();
    // The worst is to lose those that carry most.
    left.sort_unstable();
    let mut lost = 0;
    let mut carried = sum(&left);
    while let Some(most) = left.pop() {
        carried -= u64::from(most);
        let is_carried = if left.is_empty() {
            carries(&[], reserve, load)
        } else {
            carried >= load
        };
        if !is_carried {
            break;
        }
        lost += 1;
    }
    lost
}

fn sum(carried: &[u32]) -> u64 {
    carried.iter().map(|it| u64::from(*it)).sum()
}

impl Upstream {
    /// What it has in hand now. Of endpoints that are in use for want of others nothing is expected.
    pub fn headroom(&self) -> Headroom {
        let (mut in_use, mut reserve, mut unproven) = (Vec::new(), Vec::new(), Vec::new());
        let (mut limited, mut all) = (0, 0);
        for endpoint in &self.endpoints {
            let list = match endpoint.tier() {
                _ if self.is_standby(endpoint) => continue,
                Tier::Eligible if self.waits(endpoint) => &mut reserve,
                Tier::Eligible => &mut in_use,
                Tier::IfNoneEligible => &mut unproven,
                Tier::Never => continue,
            };
            let can_carry = if endpoint.is_kept() {
                0
            } else {
                endpoint.can_carry()
            };
            list.push(can_carry);
            all += 1;
            limited += usize::from(endpoint.max_in_flight().is_some());
        }
        if in_use.is_empty() {
            in_use = unproven;
        }
        let load = u64::from(self.peaks.last_minute()).max(self.load_now());
        let peak = u64::from(self.peaks.last_day()).max(load);
        Headroom {
            could_lose: could_lose(&in_use, &reserve, load),
            could_lose_at_peak: could_lose(&in_use, &reserve, peak),
            of: in_use.len(),
            load,
            peak,
            by: match limited {
                0 => By::Peaks,
                limited if limited == all => By::Limits,
                _ => By::Both,
            },
        }
    }

    /// Requests in flight and waiting.
    fn load_now(&self) -> u64 {
        let in_flight = self.endpoints.iter().map(|it| u64::from(it.in_flight()));
        in_flight.sum::<u64>() + self.queue.len() as u64
    }

    /// For the control thread, at every tick: remembers the most that was in flight.
    pub(super) fn note_peaks(&self, now: Instant) {
        for endpoint in &self.endpoints {
            let busy = (endpoint.in_flight(), endpoint.tunnels());
            let carried = endpoint.pace.note(now, endpoint.answered_in(), busy);
            endpoint.peaks.note(now, carried);
        }
        let load = u32::try_from(self.load_now()).unwrap_or(u32::MAX);
        self.peaks.note(now, load);
    }
}

impl Endpoint {
    /// All answers so far, with the time they took.
    fn answered_in(&self) -> Answered {
        let answers = &self.metrics.response;
        Answered {
            count: answers.get_sample_count(),
            seconds: answers.get_sample_sum(),
        }
    }

    /// How many of those in flight have changed their protocol.
    pub fn tunnels(&self) -> u32 {
        u32::try_from(self.metrics.tunnels.get()).unwrap_or(0)
    }

    /// How many requests at once it can carry: its limit, or what it was seen to carry within the last day.
    pub(super) fn can_carry(&self) -> u32 {
        match self.max_in_flight() {
            Some(limit) => limit.get(),
            None => self.peak_in_flight(),
        }
    }

    /// Most requests at once that it was seen to carry within the last day, or that it may carry now.
    pub fn peak_in_flight(&self) -> u32 {
        let now = self.pace.claimed(self.in_flight());
        self.peaks.last_day().max(now)
    }
}

#[cfg(test)]
mod tests {
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
}
