//! What finding a route costs: few routes, many on one host, many hosts; the one spelling of a path; the twin test.

use std::hint::black_box;
use std::time::Duration;

use balancer::config::{HostPattern, PathPattern};
use balancer::message::canonical_path::{canonicalize, loosest};
use balancer::route::{Matchers, Query, Router};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};

const MANY: usize = 10_000;

fn route(host: Option<String>, path: &str, exclusive: bool) -> Matchers {
    Matchers {
        listeners: None,
        hosts: host
            .map(|host| HostPattern::Exact(host.into()))
            .into_iter()
            .collect(),
        path: PathPattern::Prefix(path.into()),
        methods: None,
        cookies: Vec::new(),
        headers: Vec::new(),
        exclusive,
    }
}

fn few() -> Vec<Matchers> {
    let services = (0..8).map(|index| route(None, &format!("/api/v1/service{index}"), false));
    services
        .chain([route(None, "/admin", true), route(None, "/", false)])
        .collect()
}

fn one_host() -> Vec<Matchers> {
    (0..MANY)
        .map(|index| {
            route(
                Some("app.test".into()),
                &format!("/api/v1/service{index}"),
                index == 0,
            )
        })
        .collect()
}

fn many_hosts() -> Vec<Matchers> {
    (0..MANY)
        .map(|index| route(Some(format!("app{index}.test")), "/", false))
        .collect()
}

fn finding(c: &mut Criterion) {
    let headers = HeaderMap::new();
    let mut find = |name: &str, routes: Vec<Matchers>, host: &str, path: &str| {
        let router = Router::compile(routes).expect("the routes differ");
        let query = Query {
            listener: 0,
            host,
            method: &Method::GET,
            headers: &headers,
            raw_path: path,
            path,
        };
        c.bench_function(&format!("find/{name}"), |b| {
            b.iter(|| router.find(black_box(&query)))
        });
    };
    let path = "/api/v1/service7/items/42";
    find("10 routes", few(), "app.test", path);
    find(
        "10 routes, twin test",
        few(),
        "app.test",
        "/api/v1/service7/Items/42%20x",
    );
    find("10,000 routes on one host", one_host(), "app.test", path);
    find("10,000 hosts", many_hosts(), "app7777.test", path);
    find("10,000 hosts, none", many_hosts(), "other.test", path);
}

fn compiling(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    for (name, routes) in [
        ("10,000 routes on one host", one_host()),
        ("10,000 hosts", many_hosts()),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(|| routes.clone(), Router::compile, BatchSize::PerIteration)
        });
    }
    group.finish();
}

fn spelling(c: &mut Criterion) {
    let mut spell = |name: &str, path: &str| {
        c.bench_function(&format!("canonicalize/{name}"), |b| {
            b.iter(|| canonicalize(black_box(path)).map(|path| path.len()))
        });
    };
    let long = format!("/{}", "x/%2e./".repeat(1_000));
    spell("common", "/api/v1/service7/items/42");
    spell(
        "nasty",
        "/x/%2e%2e//api/./v1/%73ervice7/a%20b/../items/%2f42",
    );
    spell("7 kB of dot segments", &long);
    let mut read = |name: &str, path: &str| {
        c.bench_function(&format!("loosest/{name}"), |b| {
            b.iter(|| loosest(black_box(path)))
        });
    };
    read("common", "/api/v1/service7/items/42");
    read("nasty", "/x/..;/API%252Fv1/service7;a=b/items./%2542");
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = finding, compiling, spelling
}
criterion_main!(benches);
