//! Overload: endpoints get no more at once than they may, some more wait in order, the rest is told so at once.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::HOST;
use crate::support::{Balancer, Connection, DEADLINE, Gate, Origin, Reply, eventually, get};

/// One route to one upstream `app`, of endpoints that have one request at once each.
fn config(origins: &[&Origin], upstream: &str, route: &str) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .map(|origin| {
            format!(
                "{{ address = \"{}\", max_in_flight = 1 }}",
                origin.address()
            )
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\n{upstream}\n[[route]]\nupstream = \"app\"\n{route}\n",
        endpoints.join(", ")
    )
}

/// An origin whose answers to `/held…` wait for the gate.
fn holding(name: &str) -> (Origin, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(name, move |exchange| {
        if exchange.target().starts_with("/held") {
            held.wait();
        }
        exchange.respond_with_name()
    });
    (origin, gate)
}

/// A request on its way.
fn asked(address: SocketAddr, path: &str) -> Connection {
    let mut connection = Connection::open(address);
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    ));
    connection
}

fn await_queued(balancer: &Balancer, count: usize) {
    eventually(&format!("{count} wait"), || {
        balancer.status()["upstreams"][0]["queued"] == count
    });
}

fn rejected(balancer: &Balancer, why: &str) -> f64 {
    let metrics = balancer.metrics();
    metrics.sum(
        "balancer_queue_rejected_total",
        &[("upstream", "app"), ("why", why)],
    )
}

#[track_caller]
fn assert_busy(reply: &Reply) {
    reply.assert_made_by_balancer(503);
    assert_eq!(reply.field("retry-after"), Some("1"), "{reply:?}");
}

#[test]
fn without_a_queue_a_request_too_many_is_503_at_once() {
    let (origin, gate) = holding("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    let mut held = asked(balancer.http(), "/held");
    eventually("the origin is busy", || origin.request_count() == 1);
    assert_busy(&get(balancer.http(), "/"));
    assert_eq!(rejected(&balancer, "full"), 1.0);
    let endpoint = balancer.endpoint("app", &origin.address().to_string());
    assert_eq!(
        (&endpoint["in_flight"], &endpoint["max_in_flight"]),
        (&1.into(), &1.into())
    );
    gate.open();
    assert_eq!(held.reply().status, 200);
    eventually("the place is free", || {
        get(balancer.http(), "/").status == 200
    });
    let metrics = balancer.metrics();
    let reason = metrics.sum("balancer_errors_total", &[("reason", "queue_full")]);
    assert!(reason >= 1.0);
}

#[test]
fn a_full_endpoint_is_passed_over() {
    let ((busy, gate), idle) = (holding("busy"), Origin::named("idle"));
    busy.on_request({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let balancer = Balancer::start(&config(&[&busy, &idle], "", ""));
    // Round-robin: of two requests one goes to each.
    let mut held: Vec<_> = (0..2).map(|_| asked(balancer.http(), "/held")).collect();
    eventually("one is held", || {
        busy.request_count() == 1 && idle.request_count() == 1
    });
    for _ in 0..10 {
        eventually("the idle one has answered", || {
            balancer.endpoint("app", &idle.address().to_string())["in_flight"] == 0
        });
        assert_eq!(get(balancer.http(), "/").text(), "idle");
    }
    gate.open();
    for connection in &mut held {
        assert_eq!(connection.reply().status, 200);
    }
}

#[test]
fn those_that_wait_are_served_in_the_order_they_came() {
    for (order, expected) in [
        ("fifo", ["/held", "/1", "/2", "/3"]),
        ("newest-first", ["/held", "/3", "/2", "/1"]),
    ] {
        let (origin, gate) = holding("a");
        let queue = format!("queue = {{ length = 3, wait = \"20s\", order = \"{order}\" }}");
        let balancer = Balancer::start(&config(&[&origin], &queue, ""));
        let mut all = vec![asked(balancer.http(), "/held")];
        eventually("the origin is busy", || origin.request_count() == 1);
        for (path, count) in [("/1", 1), ("/2", 2), ("/3", 3)] {
            all.push(asked(balancer.http(), path));
            await_queued(&balancer, count);
        }
        gate.open();
        for connection in &mut all {
            assert_eq!(connection.reply().status, 200, "{order}");
        }
        let seen: Vec<String> = origin
            .requests()
            .iter()
            .map(|request| request.target().to_owned())
            .collect();
        assert_eq!(seen, expected, "{order}");
        let metrics = balancer.metrics();
        assert_eq!(metrics.sum("balancer_queue_seconds_count", &[]), 3.0);
        assert_eq!(metrics.sum("balancer_queue_length", &[]), 0.0);
    }
}

#[test]
fn a_full_queue_refuses_the_newest_or_gives_up_the_oldest() {
    for (order, is_served) in [("fifo", [true, false]), ("newest-first", [false, true])] {
        let (origin, gate) = holding("a");
        let queue = format!("queue = {{ length = 1, wait = \"20s\", order = \"{order}\" }}");
        let balancer = Balancer::start(&config(&[&origin], &queue, ""));
        let mut held = asked(balancer.http(), "/held");
        eventually("the origin is busy", || origin.request_count() == 1);
        let mut oldest = asked(balancer.http(), "/oldest");
        await_queued(&balancer, 1);
        let mut newest = asked(balancer.http(), "/newest");
        eventually("one is refused", || rejected(&balancer, "full") == 1.0);
        gate.open();
        assert_eq!(held.reply().status, 200);
        for (connection, is_served) in [&mut oldest, &mut newest].into_iter().zip(is_served) {
            let reply = connection.reply();
            if is_served {
                assert_eq!(reply.status, 200, "{order}");
            } else {
                assert_busy(&reply);
            }
        }
    }
}

#[test]
fn who_has_waited_long_enough_gets_503() {
    let (origin, gate) = holding("a");
    let queue = "queue = { length = 5, wait = \"200ms\" }\n[access_log]\ntarget = \"stdout\"";
    let balancer = Balancer::start(&config(&[&origin], queue, ""));
    let mut held = asked(balancer.http(), "/held");
    eventually("the origin is busy", || origin.request_count() == 1);
    let begun = Instant::now();
    assert_busy(&get(balancer.http(), "/late"));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(rejected(&balancer, "timeout"), 1.0);
    gate.open();
    assert_eq!(held.reply().status, 200);
    assert_eq!(origin.request_count(), 1);
    eventually("it is logged", || {
        balancer.output().iter().any(|line| {
            line.contains("\"reason\":\"queue_timeout\"") && line.contains("\"queued_ms\":")
        })
    });
}

#[test]
fn a_client_that_leaves_gives_up_its_place() {
    let (origin, gate) = holding("a");
    let queue = "queue = { length = 5, wait = \"20s\" }";
    let balancer = Balancer::start(&config(&[&origin], queue, ""));
    let mut held = asked(balancer.http(), "/held");
    eventually("the origin is busy", || origin.request_count() == 1);
    let leaving = asked(balancer.http(), "/left");
    await_queued(&balancer, 1);
    let mut staying = asked(balancer.http(), "/stays");
    await_queued(&balancer, 2);
    drop(leaving);
    await_queued(&balancer, 1);
    gate.open();
    assert_eq!((held.reply().status, staying.reply().status), (200, 200));
    assert_eq!(origin.last_request().target(), "/stays");
    assert_eq!(origin.request_count(), 2);
}

#[test]
fn a_reload_that_raises_the_limit_serves_those_that_wait() {
    let (origin, gate) = holding("a");
    let queue = "queue = { length = 5, wait = \"20s\" }";
    let before = config(&[&origin], queue, "");
    let balancer = Balancer::start(&before);
    let mut held = asked(balancer.http(), "/held");
    eventually("the origin is busy", || origin.request_count() == 1);
    let mut waiting = asked(balancer.http(), "/waits");
    await_queued(&balancer, 1);
    balancer.reloaded(&before.replace("max_in_flight = 1", "max_in_flight = 2"));
    assert_eq!(waiting.reply().status, 200);
    gate.open();
    assert_eq!(held.reply().status, 200);
}

#[test]
fn when_nobody_is_left_those_that_wait_hear_of_it() {
    let (origin, gate) = holding("a");
    let before = config(&[&origin], "queue = { length = 5, wait = \"20s\" }", "");
    let balancer = Balancer::start(&before);
    let mut held = asked(balancer.http(), "/held");
    eventually("the origin is busy", || origin.request_count() == 1);
    let mut waiting = asked(balancer.http(), "/waits");
    await_queued(&balancer, 1);
    balancer.reloaded(&before.replace(
        "max_in_flight = 1",
        "max_in_flight = 1, state = \"draining\"",
    ));
    let reply = waiting.reply();
    reply.assert_made_by_balancer(503);
    assert_eq!(reply.field("retry-after"), Some("5"));
    gate.open();
    assert_eq!(held.reply().status, 200);
}

#[test]
fn a_request_that_takes_too_long_gives_back_its_place() {
    let (origin, gate) = holding("a");
    let queue = "queue = { length = 5, wait = \"200ms\" }";
    let route = "timeouts = { request = \"1s\" }";
    let balancer = Balancer::start(&config(&[&origin], queue, route));
    let mut held = asked(balancer.http(), "/held");
    held.reply().assert_made_by_balancer(504);
    gate.open();
    eventually("the place is free", || {
        get(balancer.http(), "/").status == 200
    });
}

#[test]
fn a_request_whose_endpoint_is_gone_waits_for_the_other() {
    let (busy, gate) = holding("busy");
    let mut gone = Origin::named("gone");
    gone.stop();
    let queue = "queue = { length = 5, wait = \"20s\" }";
    let file = config(&[&busy, &gone], queue, "");
    let balancer = Balancer::start(&file);
    let mut held = asked(balancer.http(), "/held");
    eventually("the origin is busy", || busy.request_count() == 1);
    let mut waiting = asked(balancer.http(), "/");
    await_queued(&balancer, 1);
    gate.open();
    assert_eq!((held.reply().status, waiting.reply().status), (200, 200));
    assert_eq!(busy.request_count(), 2);
    let retries = [("upstream", "app"), ("reason", "connect")];
    assert!(balancer.metrics().sum("balancer_retries_total", &retries) >= 1.0);
}

/// An origin that works on four requests at once, or on any number. The others wait there.
fn of_four(is_limited: &Arc<AtomicBool>) -> Origin {
    let working = Arc::new((Mutex::new(0), Condvar::new()));
    let is_limited = Arc::clone(is_limited);
    Origin::with("a", move |exchange| {
        let (count, changed) = &*working;
        let mut count = count.lock().unwrap();
        while *count >= 4 && is_limited.load(SeqCst) {
            (count, _) = changed.wait_timeout(count, WORK).unwrap();
        }
        *count += 1;
        drop(count);
        thread::sleep(MUCH_WORK);
        *working.0.lock().unwrap() -= 1;
        changed.notify_one();
        exchange.respond_with_name()
    })
}

#[test]
fn an_adaptive_limit_follows_what_the_endpoint_can_do() {
    const CLIENTS: u64 = 48;
    let is_limited = Arc::new(AtomicBool::new(true));
    let origin = of_four(&is_limited);
    let file = config(
        &[&origin],
        "adaptive = { latency = \"1s\" }\nqueue = { length = 100, wait = \"20s\" }",
        "",
    );
    let balancer = Balancer::start(&file.replace(", max_in_flight = 1", ""));
    let limit = || {
        // To be asked costs more than a request of a client.
        thread::sleep(WORK);
        let endpoint = balancer.endpoint("app", &origin.address().to_string());
        endpoint["max_in_flight"].as_u64().expect("there is one")
    };
    assert_eq!(limit(), 16);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(balancer.http());
                while !is_over.load(SeqCst) {
                    assert_eq!(connection.get("/").status, 200);
                }
            });
        }
        // What four at once do in a second are 16; for all clients they need three times as long.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut most = 0;
            eventually("it has been too much once", || {
                let now = limit();
                most = now.max(most);
                now < most && now < CLIENTS
            });
            is_limited.store(false, SeqCst);
            eventually("there is room for most", || limit() >= CLIENTS * 3 / 4);
        }));
        is_over.store(true, SeqCst);
        if let Err(failed) = result {
            resume_unwind(failed);
        }
    });
    balancer.reloaded(&file);
    assert_eq!(limit(), 1, "what is configured is never passed");
}

/// What came of clients that asked again and again until so many requests were served.
struct Run {
    took: Duration,
    refused: usize,
}

/// `clients` ask until `enough` are served. Who is refused comes again soon: sooner than told, so that it is a load.
fn run(address: SocketAddr, clients: usize, enough: usize) -> Run {
    let (served, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = Connection::open(address);
                while served.load(SeqCst) < enough {
                    assert!(begun.elapsed() < 3 * DEADLINE, "it goes on");
                    let reply = connection.get("/");
                    if reply.status == 200 {
                        served.fetch_add(1, SeqCst);
                        continue;
                    }
                    assert_busy(&reply);
                    refused.fetch_add(1, SeqCst);
                    thread::sleep(WORK / 4);
                }
            });
        }
    });
    Run {
        took: begun.elapsed(),
        refused: refused.into_inner(),
    }
}

/// How long an origin works on a request: far longer than the machine needs for anything else about it.
const WORK: Duration = Duration::from_millis(20);
/// The same of requests that many clients make all the time: a busy machine has time for the rest, too, before they are late.
const MUCH_WORK: Duration = Duration::from_millis(250);

#[test]
fn under_three_times_the_load_endpoints_stay_busy_and_the_rest_is_told() {
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = || {
        let (working, most) = (Arc::clone(&working), Arc::clone(&most));
        Origin::with("a", move |exchange| {
            most.fetch_max(working.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::sleep(WORK);
            working.fetch_sub(1, SeqCst);
            exchange.respond_with_name()
        })
    };
    let origins = [origin(), origin()];
    let queue = "queue = { length = 4, wait = \"10s\" }";
    let balancer = Balancer::start(&config(&[&origins[0], &origins[1]], queue, ""));
    let mut refused = 0;
    // Both runs suffer from a busy machine, though not always equally: once in a few times is enough to show that no place
    // stays free while somebody waits.
    let keeps_up = (0..10).any(|_| {
        let capacity = run(balancer.http(), 2, 50);
        assert_eq!(capacity.refused, 0, "that was no overload");
        let overload = run(balancer.http(), 2 * 3 + 4, 50);
        assert!(overload.refused > 0, "that was overload");
        refused += overload.refused;
        overload.took.mul_f64(0.9) <= capacity.took
    });
    assert!(keeps_up, "90 % of what the endpoints can do");
    assert!(most.load(SeqCst) <= 2, "no more at once than they may");
    eventually("all is given back", || {
        origins.iter().all(|origin| {
            let endpoint = balancer.endpoint("app", &origin.address().to_string());
            endpoint["in_flight"] == 0
        })
    });
    // Who was refused was so at once: of those that waited none had to give up.
    assert_eq!(rejected(&balancer, "timeout"), 0.0);
    assert_eq!(rejected(&balancer, "full"), refused as f64);
}
