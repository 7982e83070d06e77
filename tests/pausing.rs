//! A paused upstream: requests are held, within bounds, and go on in order when it is resumed, to the endpoints it then has.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::HOST;
use crate::support::{Balancer, Connection, Origin, eventually, get};

fn configuration(origin: &Origin, more: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.app]
        endpoints = ["{}"]
        {more}
        [[route]]
        upstream = "app"
        "#,
        origin.address()
    )
}

const PAUSED: &str = "state = \"paused\"";

fn held(balancer: &Balancer) -> f64 {
    gauge(balancer, "balancer_held_requests")
}

fn gauge(balancer: &Balancer, name: &str) -> f64 {
    balancer.metrics().sum(name, &[("upstream", "app")])
}

/// Asks for `path` and does not wait for the answer.
fn ask(balancer: &Balancer, path: &str) -> Connection {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    ));
    connection
}

#[test]
fn held_requests_go_on_when_it_is_resumed() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&configuration(&origin, ""));
    assert_eq!(get(balancer.http(), "/").status, 200);
    assert_eq!(gauge(&balancer, "balancer_paused"), 0.0);
    balancer.reloaded(&configuration(&origin, PAUSED));
    assert_eq!(gauge(&balancer, "balancer_paused"), 1.0);
    let mut waiting = Vec::new();
    for number in 0..20_u8 {
        waiting.push(ask(&balancer, &format!("/{number}")));
        eventually("it is held", || held(&balancer) == f64::from(number + 1));
    }
    let status = &balancer.status()["upstreams"][0];
    assert_eq!(
        (&status["paused"], &status["held"]),
        (&true.into(), &20.into())
    );
    assert_eq!(origin.request_count(), 1, "nothing has come through");
    balancer.reloaded(&configuration(&origin, ""));
    for connection in &mut waiting {
        assert_eq!(connection.reply().status, 200);
    }
    eventually("nobody is held", || held(&balancer) == 0.0);
    assert_eq!(gauge(&balancer, "balancer_paused"), 0.0);
    assert_eq!(get(balancer.http(), "/").status, 200);
    assert_eq!(origin.request_count(), 22);
    assert_eq!(balancer.events("upstream paused").len(), 1);
    assert_eq!(balancer.events("upstream resumed")[0]["held"], 20);
}

#[test]
fn regression_time_in_a_pause_was_taken_for_silence_of_the_endpoint() {
    let origin = Origin::named("a");
    let config = |state: &str| {
        let keys = format!("timeouts = {{ response_head = \"1s\" }}\n{state}");
        configuration(&origin, &keys) + "[process]\nworkers = 1\n"
    };
    let balancer = Balancer::start(&config(""));
    // There is a kept connection now, and nothing else to be waited for.
    assert_eq!(get(balancer.http(), "/").text(), "a");
    balancer.reloaded(&config(PAUSED));
    let mut waiting = ask(&balancer, "/");
    eventually("it is held", || held(&balancer) == 1.0);
    thread::sleep(Duration::from_millis(1100));
    balancer.reloaded(&config(""));
    assert_eq!(waiting.reply().text(), "a");
    assert_eq!(origin.last_request().connection, 0, "the kept one");
    let took = balancer.metrics();
    let took = took.sum(
        "balancer_upstream_response_seconds_sum",
        &[("upstream", "app")],
    );
    assert!(took < 1.0, "the pause is not the endpoint's: {took}");
}

#[test]
fn held_requests_go_to_the_endpoints_there_are_then() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let balancer = Balancer::start(&configuration(&old, PAUSED));
    let mut waiting: Vec<_> = (0..5).map(|_| ask(&balancer, "/")).collect();
    eventually("they are held", || held(&balancer) == 5.0);
    balancer.reloaded(&configuration(&new, ""));
    for connection in &mut waiting {
        let reply = connection.reply();
        assert_eq!((reply.status, reply.text().as_str()), (200, "new"));
    }
    assert_eq!(old.request_count(), 0);
}

#[test]
fn beyond_the_bounds_requests_are_refused_and_may_come_again() {
    let origin = Origin::named("a");
    let bounds = |hold: usize, wait: &str| {
        let pause = format!("{PAUSED}\npause = {{ hold = {hold}, wait = \"{wait}\" }}");
        configuration(&origin, &pause)
    };
    let balancer = Balancer::start(&bounds(2, "1h"));
    let waiting: Vec<_> = (0..2).map(|_| ask(&balancer, "/")).collect();
    eventually("they are held", || held(&balancer) == 2.0);
    let refused = get(balancer.http(), "/");
    refused.assert_made_by_balancer(503);
    assert_eq!(refused.field("retry-after"), Some("5"));
    // A client that leaves leaves its place to another one.
    waiting.into_iter().for_each(Connection::abort);
    eventually("their places are free", || held(&balancer) == 0.0);
    balancer.reloaded(&bounds(2, "100ms"));
    let begun = Instant::now();
    get(balancer.http(), "/").assert_made_by_balancer(503);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let errors = || {
        let labels = [("reason", "paused")];
        balancer.metrics().sum("balancer_errors_total", &labels)
    };
    eventually("both are counted", || errors() == 2.0);
    assert_eq!(origin.request_count(), 0);
}

#[test]
fn what_is_in_flight_is_not_held_and_other_upstreams_are_not_either() {
    let (origin, other) = (Origin::named("a"), Origin::named("other"));
    let gate = crate::support::Gate::new();
    let shut = gate.clone();
    origin.on_request(move |exchange| {
        shut.wait();
        exchange.respond_with_name()
    });
    let with_other = |more: &str| {
        format!(
            "{}[upstream.other]\nendpoints = [\"{}\"]\n[[route]]\npath = \"/other\"\nupstream = \"other\"\n",
            configuration(&origin, more),
            other.address()
        )
    };
    let balancer = Balancer::start(&with_other(""));
    let mut in_flight = ask(&balancer, "/");
    eventually("it has come", || origin.request_count() == 1);
    balancer.reloaded(&with_other(PAUSED));
    assert_eq!(get(balancer.http(), "/other").text(), "other");
    gate.open();
    assert_eq!(in_flight.reply().status, 200);
}

#[test]
fn bodies_wait_with_their_requests() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&configuration(&origin, PAUSED));
    let address = balancer.http();
    let body = "x".repeat(300_000);
    let sending = thread::spawn(move || {
        let mut connection = Connection::open(address);
        connection.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        connection.reply().status
    });
    eventually("it is held", || held(&balancer) == 1.0);
    balancer.reloaded(&configuration(&origin, ""));
    assert_eq!(sending.join().unwrap(), 200);
    assert_eq!(
        origin.last_request().body.expect("a body").bytes.len(),
        300_000
    );
}

#[test]
fn an_upstream_that_is_removed_holds_nobody_back() {
    let (origin, other) = (Origin::named("a"), Origin::named("other"));
    let balancer = Balancer::start(&configuration(&origin, PAUSED));
    let mut waiting = ask(&balancer, "/");
    eventually("it is held", || held(&balancer) == 1.0);
    balancer.reloaded(&configuration(&other, "").replace("app", "renamed"));
    assert_eq!(waiting.reply().text(), "a");
    assert_eq!(get(balancer.http(), "/").text(), "other");
}

#[test]
fn shutdown_does_not_wait_for_the_end_of_a_pause() {
    let origin = Origin::named("a");
    let mut balancer = Balancer::start(&format!(
        "[process]\nshutdown_grace = \"1h\"\n{}",
        configuration(&origin, PAUSED)
    ));
    let mut waiting = ask(&balancer, "/");
    eventually("it is held", || held(&balancer) == 1.0);
    balancer.signal(Signal::TERM);
    waiting.reply().assert_made_by_balancer(503);
    assert!(balancer.wait_exit().success());
}

#[test]
fn a_client_that_is_kept_stays_with_its_endpoint_through_a_pause() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let kept = |more: &str| {
        format!(
            r#"
            [listener.http]
            address = "127.0.0.1:0"
            [upstream.app]
            endpoints = ["{}", "{}"]
            affinity = {{ cookie = "stay", key_file = "affinity.key" }}
            {more}
            [[route]]
            upstream = "app"
            "#,
            a.address(),
            b.address()
        )
    };
    let balancer = Balancer::start_with(&kept(""), |directory| {
        let key = "0123456789abcdef0123456789abcdef";
        std::fs::write(directory.join("affinity.key"), key).unwrap();
    });
    let first = get(balancer.http(), "/");
    let cookie = first.field("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    balancer.reloaded(&kept(PAUSED));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n"
    ));
    eventually("it is held", || held(&balancer) == 1.0);
    balancer.reloaded(&kept(""));
    let reply = connection.reply();
    assert_eq!(reply.text(), first.text());
    assert_eq!(reply.field("set-cookie"), None);
}
