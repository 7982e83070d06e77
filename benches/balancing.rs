//! What a pick costs, over 2, 10 and 1,000 endpoints.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use balancer::balance::{Candidate, Cursor, LeastConnections, Policy, RoundRobin};
use criterion::{Criterion, criterion_group, criterion_main};

/// As the real one: on cache lines of its own.
#[repr(align(128))]
struct Endpoint {
    weight: u32,
    in_flight: AtomicU32,
}

impl Candidate for Endpoint {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Loads below `heaviest`, in no order.
fn endpoints(count: u32, heaviest: u32) -> Vec<Arc<Endpoint>> {
    let load = |index: u32| (index.wrapping_mul(2_654_435_761) >> 16) % heaviest;
    let endpoint = |index| Endpoint {
        weight: 1 + index % 3,
        in_flight: AtomicU32::new(load(index)),
    };
    (0..count).map(|index| Arc::new(endpoint(index))).collect()
}

fn picking(c: &mut Criterion) {
    for count in [2, 10, 1_000] {
        for (state, heaviest) in [("idle", 1), ("busy", 50)] {
            let endpoints = endpoints(count, heaviest);
            for (name, policy) in [
                ("round-robin", Policy::RoundRobin(RoundRobin::default())),
                (
                    "least-connections",
                    Policy::LeastConnections(LeastConnections::default()),
                ),
            ] {
                policy.refresh(&endpoints, |_| true);
                let cursor = Cursor::new(0);
                c.bench_function(&format!("pick/{name}/{count} {state}"), |b| {
                    b.iter(|| {
                        policy.pick(black_box(&endpoints), &cursor, |endpoint| {
                            endpoint.weight > 0
                        })
                    });
                });
            }
        }
    }
}

fn refreshing(c: &mut Criterion) {
    let unlike: Vec<Arc<Endpoint>> = (0..1_000)
        .map(|index| {
            Arc::new(Endpoint {
                weight: 1 + index,
                in_flight: AtomicU32::new(0),
            })
        })
        .collect();
    let policy = Policy::RoundRobin(RoundRobin::default());
    c.bench_function("refresh/round-robin/1000 unlike weights", |b| {
        b.iter(|| policy.refresh(&unlike, |_| true))
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = picking, refreshing
}
criterion_main!(benches);
