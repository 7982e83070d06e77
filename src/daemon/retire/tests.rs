//! Which series go with a reload, and when.

use std::path::Path;

use http::Method;

use super::*;
use crate::admin::status::refresh_gauges;
use crate::config;
use crate::metrics::encode;
use crate::metrics::totals::Totals;
use crate::snapshot::compile::Compiler;
use crate::tls::Tickets;
use crate::upstream::Wish;

const BEFORE: &str = r#"
    [listener.stays]
    address = "127.0.0.1:1"
    [listener.goes]
    address = "127.0.0.1:2"
    [upstream.kept]
    endpoints = ["127.0.0.1:10", "127.0.0.1:11"]
    [upstream.dropped]
    endpoints = ["127.0.0.1:12"]
    [[route]]
    name = "main"
    upstream = "kept"
    mirror = { upstream = "dropped" }
    [[route]]
    name = "side"
    path = "/side"
    upstream = "dropped"
"#;
const AFTER: &str = r#"
    [listener.stays]
    address = "127.0.0.1:1"
    [upstream.kept]
    endpoints = ["127.0.0.1:10"]
    [[route]]
    name = "main"
    upstream = "kept"
"#;

fn count(snapshot: &Snapshot) {
    for listener in 0..snapshot.listeners.len() {
        for route in &snapshot.routes {
            route.metrics.count(listener, &Method::GET, 200);
            route.metrics.count_error("closed");
        }
    }
    for endpoint in all_endpoints(snapshot) {
        endpoint.metrics.count(200);
        endpoint.metrics.count_failure("closed");
    }
}

/// One process: each of its snapshots follows another one.
fn compiling(metrics: &Arc<Metrics>) -> impl FnMut(&str, Option<&Snapshot>) -> Snapshot + use<> {
    let mut compiler = Compiler::new(Arc::clone(metrics), Tickets::new().unwrap(), 0);
    move |source, previous| {
        let config = config::parse(source, Path::new("balancer.toml")).unwrap();
        compiler.compile(&config, previous).unwrap().snapshot
    }
}

#[test]
fn series_of_what_is_gone_vanish_and_those_of_what_stays_do_not() {
    let metrics = Arc::new(Metrics::new());
    let mut compile = compiling(&metrics);
    let before = compile(BEFORE, None);
    let after = compile(AFTER, Some(&before));
    count(&before);
    let text = || encode::text(&metrics, encode::Format::Text);
    let names = [
        "\"goes\"",
        "\"dropped\"",
        "\"side\"",
        ":11\"",
        ":12\"",
        "mirrored_requests_total{",
    ];
    for name in names {
        assert!(text().contains(name), "{name}");
    }

    let gone = Gone::between(&before, &after);
    gone.retire_gauges(&metrics);
    // What is back by then keeps its series.
    gone.retire(&metrics, &before, []);
    for name in names {
        assert!(text().contains(name), "{name}");
    }

    gone.retire(&metrics, &after, []);
    for name in names {
        assert!(!text().contains(name), "{name} in {}", text());
    }
    for name in ["\"stays\"", "\"kept\"", "\"main\"", ":10\""] {
        assert!(text().contains(name), "{name}");
    }
}

#[test]
fn regression_a_rejected_configuration_leaves_no_series() {
    let metrics = Arc::new(Metrics::new());
    let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
    let before = config::parse(AFTER, Path::new("balancer.toml")).unwrap();
    let before = compiler.compile(&before, None).unwrap().snapshot;
    count(&before);
    let series = || {
        let text = encode::text(&metrics, encode::Format::Text);
        let labelled = text.lines().filter(|line| line.contains('{'));
        labelled.map(str::to_owned).collect::<HashSet<String>>()
    };
    let running = series();
    let candidate = config::parse(BEFORE, Path::new("balancer.toml")).unwrap();
    let candidate = compiler.compile(&candidate, Some(&before)).unwrap();
    assert_ne!(series(), running);
    Pending::default().undo(&candidate.snapshot, &before, &metrics);
    assert_eq!(series(), running);

    // One that cannot even be compiled.
    let missing = BEFORE.replace(
        "[listener.stays]",
        "[listener.never]\naddress = \"127.0.0.1:3\"\ntls = { certificates = [{ chain = \"no.pem\", key = \"no.key\" }] }\n[listener.stays]",
    );
    let missing = config::parse(&missing, Path::new("balancer.toml")).unwrap();
    assert!(compiler.compile(&missing, Some(&before)).is_err());
    assert_eq!(series(), running);
}

#[test]
fn regression_rejected_configuration_leaves_alone_what_is_not_finished() {
    let metrics = Arc::new(Metrics::new());
    let mut compile = compiling(&metrics);
    let series = || {
        let text = encode::text(&metrics, encode::Format::Text);
        let labelled = text.lines().filter(|line| line.contains('{'));
        labelled.map(str::to_owned).collect::<HashSet<String>>()
    };
    let before = compile(BEFORE, None);
    let after = compile(AFTER, Some(&before));
    count(&before);
    let mut pending = Pending::default();
    let gone = Gone::between(&before, &after);
    gone.retire_gauges(&metrics);
    pending.add(&gone);
    let running = series();
    let rejected = compile(BEFORE, Some(&after));
    pending.undo(&rejected, &after, &metrics);
    assert_eq!(series(), running);

    // Back, and removed again: the first to be finished takes nothing from the second.
    let back = compile(BEFORE, Some(&after));
    let again = compile(AFTER, Some(&back));
    let second = Gone::between(&back, &again);
    second.retire_gauges(&metrics);
    pending.add(&second);
    gone.retire(&metrics, &again, &pending.remove(&gone));
    assert_eq!(series(), running);
    second.retire(&metrics, &again, &pending.remove(&second));
    assert!(!series().iter().any(|line| line.contains("\"dropped\"")));
}

#[tokio::test(start_paused = true)]
async fn regression_route_and_listener_keep_their_series_until_the_last_request_has_ended() {
    let metrics = Arc::new(Metrics::new());
    let mut compile = compiling(&metrics);
    let before = Arc::new(compile(BEFORE, None));
    let publisher = Publisher::new(compile(AFTER, Some(&before)));
    let served = before.routes[1].metrics.in_flight.clone();
    let goes = before.listeners.iter().find(|it| &*it.name == "goes");
    let open = Arc::clone(&goes.unwrap().open);
    served.inc();
    open.store(1, Ordering::Relaxed);

    let gone = Gone::between(&before, &publisher.current());
    let (finished, mut received) = mpsc::unbounded_channel();
    let with = (Arc::clone(&metrics), publisher.clone());
    let freed = Arc::downgrade(&before.routes[1]);
    tokio::spawn(wait(gone, before, with, finished));
    sleep(Duration::from_secs(3600)).await;
    assert!(matches!(received.try_recv(), Ok(Due::Gauges(_))));
    assert!(freed.upgrade().is_none(), "its memory is kept");
    assert!(received.try_recv().is_err(), "both are at work");
    served.dec();
    sleep(LAST_SCRAPE * 2).await;
    assert!(received.try_recv().is_err(), "a connection is open");
    open.store(0, Ordering::Relaxed);
    sleep(LAST_SCRAPE / 2).await;
    assert!(received.try_recv().is_err(), "not scraped yet");
    sleep(LAST_SCRAPE).await;
    assert!(matches!(received.try_recv(), Ok(Due::Series(_))));
}

#[tokio::test(start_paused = true)]
async fn regression_scrape_that_meets_a_reload_brings_nothing_back_for_long() {
    let metrics = Arc::new(Metrics::new());
    let mut compile = compiling(&metrics);
    let before = Arc::new(compile(BEFORE, None));
    let publisher = Publisher::new(compile(AFTER, Some(&before)));
    let said = || {
        let text = encode::text(&metrics, encode::Format::Text);
        let gauges = [
            "balancer_upstream_headroom_endpoints{",
            "balancer_queue_length{",
            "balancer_endpoint_up{",
        ];
        let says = |line: &&str| gauges.iter().any(|gauge| line.starts_with(gauge));
        let dropped = text.lines().filter(says);
        dropped.filter(|line| line.contains("\"dropped\"")).count()
    };
    let gone = Gone::between(&before, &publisher.current());
    gone.retire_gauges(&metrics);
    // It has begun before the reload, and comes to its end after it.
    refresh_gauges(&before, &metrics);
    assert_eq!(said(), 3);
    let (finished, mut received) = mpsc::unbounded_channel();
    let with = (Arc::clone(&metrics), publisher.clone());
    tokio::spawn(wait(gone, Arc::clone(&before), with, finished));
    sleep(LET_GO * 2).await;
    let Ok(Due::Gauges(gone)) = received.try_recv() else {
        panic!("nobody looks once more");
    };
    // What is back by then keeps them.
    gone.retire_gauges_again(&metrics, &before);
    assert_eq!(said(), 3);
    gone.retire_gauges_again(&metrics, &publisher.current());
    assert_eq!(said(), 0);
}

#[test]
fn regression_route_that_comes_back_has_nothing_of_what_a_process_before_has_measured_for_it() {
    let of_before = Arc::new(Metrics::new());
    let config = |source| config::parse(source, Path::new("balancer.toml")).unwrap();
    let compiled = |metrics: &Arc<Metrics>, source, previous: Option<&Snapshot>| {
        let mut compiler = Compiler::new(Arc::clone(metrics), Tickets::new().unwrap(), 0);
        compiler
            .compile(&config(source), previous)
            .unwrap()
            .snapshot
    };
    compiled(&of_before, BEFORE, None);
    for route in ["main", "side"] {
        let of_route = of_before.request_duration.with_label_values(&[route]);
        of_route.observe(0.02);
    }
    let metrics = Arc::new(Metrics::new());
    let before = compiled(&metrics, BEFORE, None);
    metrics.go_on_from(Totals::of(&of_before), |_| true);
    let counted = |route: &str| {
        let text = encode::text(&metrics, encode::Format::Text);
        let line = format!("balancer_request_duration_seconds_count{{route=\"{route}\"}} ");
        let found = text.lines().find_map(|found| found.strip_prefix(&line));
        found.map(str::to_owned)
    };
    assert_eq!(counted("side").as_deref(), Some("1"));
    let after = compiled(&metrics, AFTER, Some(&before));
    Gone::between(&before, &after).retire(&metrics, &after, []);
    assert_eq!(counted("side"), None);
    compiled(&metrics, BEFORE, Some(&after));
    assert_eq!(counted("side").as_deref(), Some("0"));
    assert_eq!(counted("main").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn endpoint_that_is_gone_counts_what_is_in_flight_until_the_last_has_ended() {
    let metrics = Arc::new(Metrics::new());
    let mut compile = compiling(&metrics);
    let before = Arc::new(compile(BEFORE, None));
    let publisher = Publisher::new(compile(AFTER, Some(&before)));
    let dropped = &before.upstreams[1];
    let lease = dropped.pick(Wish::default()).unwrap();
    let shown = || {
        let text = encode::text(&metrics, encode::Format::Text);
        let line = "balancer_upstream_in_flight{endpoint=\"127.0.0.1:12\",upstream=\"dropped\"} ";
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map(str::to_owned)
    };

    let gone = Gone::between(&before, &publisher.current());
    gone.retire_gauges(&metrics);
    let (finished, mut received) = mpsc::unbounded_channel();
    let with = (Arc::clone(&metrics), publisher.clone());
    tokio::spawn(wait(gone, Arc::clone(&before), with, finished));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(shown().as_deref(), Some("1"));
    assert!(matches!(received.try_recv(), Ok(Due::Gauges(_))));
    assert!(received.try_recv().is_err(), "a request is in flight");
    let endpoint = Arc::downgrade(&dropped.endpoints[0]);
    drop((lease, before));
    sleep(LOOK * 2).await;
    assert_eq!(shown().as_deref(), Some("0"), "until the last scrape");
    assert!(endpoint.upgrade().is_none(), "its memory is kept");
    let Some(Due::Series(gone)) = received.recv().await else {
        panic!("its series are for ever");
    };
    assert_eq!(
        shown().as_deref(),
        Some("0"),
        "nobody but who reloads removes it"
    );
    gone.retire(&metrics, &publisher.current(), []);
    assert_eq!(shown(), None);
}
