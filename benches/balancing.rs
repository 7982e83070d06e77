//! What a pick costs, over 2, 64, 1,000 and 10,000 endpoints, and what the control thread pays when these change.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use balancer::balance::{
    Bound, Candidate, ConsistentHash, Cursor, InFlight, LeastConnections, PeakEwma, Policy, Random,
    RoundRobin, TwoChoices, stable_hash,
};
use criterion::{Criterion, criterion_group, criterion_main};

/// As the real one: on cache lines of its own.
#[repr(align(128))]
struct Endpoint {
    weight: u32,
    in_flight: AtomicU32,
    ballast: AtomicU32,
    identity: u64,
}

impl Candidate for Endpoint {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn ballast(&self) -> u32 {
        self.ballast.load(Ordering::Relaxed)
    }

    fn latency(&self) -> f32 {
        1000.0 + self.weight as f32
    }

    fn identity(&self) -> u64 {
        self.identity
    }
}

fn endpoint(index: u32, weight: u32, in_flight: u32) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        weight,
        in_flight: AtomicU32::new(in_flight),
        ballast: AtomicU32::new(0),
        identity: stable_hash(&index.to_le_bytes()),
    })
}

/// Loads below `heaviest`, in no order.
fn endpoints(count: u32, heaviest: u32) -> Vec<Arc<Endpoint>> {
    let load = |index: u32| (index.wrapping_mul(2_654_435_761) >> 16) % heaviest;
    (0..count)
        .map(|index| endpoint(index, 1 + index % 3, load(index)))
        .collect()
}

fn policies(endpoints: &[Arc<Endpoint>]) -> [Policy; 6] {
    let all = Arc::new(InFlight::default());
    let loads = endpoints.iter().map(Candidate::in_flight);
    (0..loads.sum()).for_each(|_| all.begin());
    [
        Policy::RoundRobin(RoundRobin::default()),
        Policy::LeastConnections(LeastConnections::default()),
        Policy::TwoChoices(TwoChoices::default()),
        Policy::PeakEwma(PeakEwma::default()),
        Policy::ConsistentHash(ConsistentHash::new(Some((Bound(1250), all)))),
        Policy::Random(Random::default()),
    ]
}

fn picking(c: &mut Criterion) {
    for count in [2, 64, 1_000, 10_000] {
        for (state, heaviest) in [("idle", 1), ("busy", 50)] {
            let endpoints = endpoints(count, heaviest);
            for policy in policies(&endpoints) {
                policy.refresh(&endpoints, |_| true);
                let cursor = Cursor::new(0);
                let mut key = 0_u64;
                c.bench_function(&format!("pick/{}/{count} {state}", policy.name()), |b| {
                    b.iter(|| {
                        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let eligible = |endpoint: &Arc<Endpoint>| endpoint.weight > 0;
                        policy.pick(black_box(&endpoints), &cursor, Some(key), eligible)
                    });
                });
            }
        }
    }
}

fn refreshing(c: &mut Criterion) {
    let unlike: Vec<_> = (0..1_000)
        .map(|index| endpoint(index, 1 + index, 0))
        .collect();
    for policy in policies(&unlike) {
        c.bench_function(
            &format!("refresh/{}/1000 unlike weights", policy.name()),
            |b| b.iter(|| policy.refresh(&unlike, |_| true)),
        );
    }
    let other: Vec<_> = (0..1_000)
        .map(|index| endpoint(index, 1 + index, 0))
        .rev()
        .collect();
    let policy = Policy::ConsistentHash(ConsistentHash::new(None));
    c.bench_function("refresh/hash/1000 other members, and back", |b| {
        b.iter(|| {
            policy.refresh(&other, |_| true);
            policy.refresh(&unlike, |_| true);
        })
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = picking, refreshing
}
criterion_main!(benches);
