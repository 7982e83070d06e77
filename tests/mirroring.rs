//! A mirror gets copies of requests, and no client notices: not when it is slow, not when it fails, not when it is gone.

use std::time::{Duration, Instant};

use crate::support::client::HOST;
use crate::support::h2_origin::{H2Origin, ready, text};
use crate::support::origin::Unanswering;
use crate::support::{
    Balancer, Connection, Gate, Next, Origin, Outcome, Refusing, eventually, get,
};

/// The origin's upstream `app`, the mirror's `shadow`, and a route `main` that mirrors as `mirror` says.
fn configuration(app: &str, shadow: &str, mirror: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.app]
        endpoints = ["{app}"]
        [upstream.shadow]
        endpoints = ["{shadow}"]
        {mirror}
        [[route]]
        name = "main"
        upstream = "app"
        request_headers = {{ set = {{ x-set = "1" }} }}
        "#
    )
}

fn start(app: &Origin, shadow: &Origin, settings: &str) -> Balancer {
    let (app, shadow) = (app.address().to_string(), shadow.address().to_string());
    Balancer::start(&format!(
        "{}mirror = {{ upstream = \"shadow\"{settings} }}",
        configuration(&app, &shadow, "")
    ))
}

fn mirrored(balancer: &Balancer, result: &str) -> f64 {
    let labels = [("route", "main"), ("result", result)];
    let metrics = balancer.metrics();
    metrics.sum("balancer_mirrored_requests_total", &labels)
}

#[track_caller]
fn eventually_mirrored(balancer: &Balancer, result: &str, count: f64) {
    eventually(&format!("{count} copies are {result}"), || {
        mirrored(balancer, result) == count
    });
}

fn post(connection: &mut Connection, path: &str, body: &str) -> u16 {
    connection.send(format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    connection.reply().status
}

#[test]
fn the_mirror_gets_what_the_endpoint_gets_and_is_told_that_it_is_a_copy() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let balancer = start(&app, &shadow, "");
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST /x//y?q=1 HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nX-Mirrored: 1\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    ));
    let reply = connection.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "app"));
    eventually_mirrored(&balancer, "answered", 1.0);
    let (original, copy) = (app.last_request(), shadow.last_request());
    assert_eq!(copy.head.start, original.head.start);
    assert_eq!(copy.head.field("x-mirrored"), Some("1"));
    assert!(!original.head.has("x-mirrored"), "no client can say so");
    for name in ["host", "x-set", "x-request-id", "x-forwarded-for", "via"] {
        assert_eq!(copy.head.field(name), original.head.field(name), "{name}");
    }
    assert_eq!(copy.body.expect("a body").bytes, b"abcdef");
    assert_eq!(copy.head.field("content-length"), Some("6"));
    assert_eq!(get(balancer.http(), "/").text(), "app");
    eventually_mirrored(&balancer, "answered", 2.0);
    assert_eq!(shadow.last_request().method(), "GET");
}

#[test]
fn a_mirror_that_does_not_answer_delays_nobody() {
    let (app, gate) = (Origin::named("app"), Gate::new());
    let shut = gate.clone();
    let shadow = Origin::with("shadow", move |exchange| {
        shut.wait();
        exchange.respond_with_name()
    });
    let balancer = start(&app, &shadow, ", timeout = \"300ms\"");
    let mut connection = Connection::open(balancer.http());
    for _ in 0..300 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!(app.request_count(), 300);
    eventually("they are dropped or given up", || {
        mirrored(&balancer, "dropped") + mirrored(&balancer, "failed") == 300.0
    });
    assert!(mirrored(&balancer, "failed") > 0.0);
    gate.open();
    eventually("nothing is in flight there", || {
        let endpoint = balancer.endpoint("shadow", &shadow.address().to_string());
        endpoint["in_flight"] == 0
    });
}

#[test]
fn regression_a_mirror_endpoint_that_accepts_and_never_answers_counts_as_failing() {
    let (app, gate) = (Origin::named("app"), Gate::new());
    let shut = gate.clone();
    let silent = Origin::with("silent", move |exchange| {
        shut.wait();
        exchange.respond_with_name()
    });
    let addresses = (app.address().to_string(), silent.address().to_string());
    let balancer = Balancer::start(&format!(
        "{}mirror = {{ upstream = \"shadow\", timeout = \"100ms\" }}",
        configuration(&addresses.0, &addresses.1, "passive = { consecutive = 3 }")
    ));
    for _ in 0..3 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    eventually_mirrored(&balancer, "failed", 3.0);
    let labels = [("upstream", "shadow"), ("reason", "response_timeout")];
    let told = balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &labels);
    assert_eq!(told, 3.0);
    eventually("it would be ejected, were it not the only one", || {
        !balancer
            .events("endpoint fails and is not ejected")
            .is_empty()
    });
    gate.open();
}

#[test]
fn regression_copies_under_way_are_bounded_over_all_workers() {
    let (app, silent) = (Origin::named("app"), Unanswering::new());
    let addresses = (app.address().to_string(), silent.address().to_string());
    let settings = "timeouts = { connect = \"60s\" }";
    let balancer = Balancer::start(&format!(
        "[process]\nworkers = 3\n{}mirror = {{ upstream = \"shadow\", timeout = \"60s\" }}",
        configuration(&addresses.0, &addresses.1, settings)
    ));
    // New connections go to the worker with fewer: each has one of these.
    let mut connections: Vec<_> = (0..3).map(|_| Connection::open(balancer.http())).collect();
    for _ in 0..180 {
        for connection in &mut connections {
            assert_eq!(connection.get("/").status, 200);
        }
    }
    assert_eq!(mirrored(&balancer, "dropped"), 540.0 - 512.0);
}

#[test]
fn regression_what_no_endpoint_is_asked_is_not_copied() {
    let gate = Gate::new();
    let shut = gate.clone();
    let app = Origin::with("app", move |exchange| {
        if exchange.target() == "/held" {
            shut.wait();
        }
        exchange.respond_with_name()
    });
    let shadow = Origin::named("shadow");
    let addresses = (app.address().to_string(), shadow.address().to_string());
    let configuration = format!(
        "{}mirror = {{ upstream = \"shadow\" }}",
        configuration(&addresses.0, &addresses.1, "")
    );
    let endpoints = format!("[\"{}\"]", addresses.0);
    let one = format!("[{{ address = \"{}\", max_in_flight = 1 }}]", addresses.0);
    let configuration = configuration.replacen(&endpoints, &one, 1);
    let balancer = Balancer::start(&configuration);
    let mut holding = Connection::open(balancer.http());
    holding.send(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually_mirrored(&balancer, "answered", 1.0);
    assert_eq!(get(balancer.http(), "/full").status, 503);
    let mut connection = Connection::open(balancer.http());
    assert_eq!(post(&mut connection, "/full", "abc"), 503);
    gate.open();
    assert_eq!(holding.reply().status, 200);

    balancer.reloaded(&configuration.replacen(
        &one,
        &format!("{one}\nstate = \"paused\"\npause = {{ hold = 0 }}"),
        1,
    ));
    assert_eq!(get(balancer.http(), "/paused").status, 503);
    balancer.reloaded(&configuration);
    // What was copied before has come before.
    assert_eq!(get(balancer.http(), "/last").status, 200);
    eventually_mirrored(&balancer, "answered", 2.0);
    let paths: Vec<_> = shadow
        .requests()
        .iter()
        .map(|it| it.target().to_owned())
        .collect();
    assert_eq!(paths, ["/held", "/last"]);
    for result in ["failed", "dropped", "incomplete", "too_large"] {
        assert_eq!(mirrored(&balancer, result), 0.0, "{result}");
    }
}

#[test]
fn regression_a_mirror_endpoint_that_takes_no_connection_in_time_counts_as_failing() {
    let (app, silent) = (Origin::named("app"), Unanswering::new());
    let (app_address, silent_address) = (app.address().to_string(), silent.address().to_string());
    let balancer = Balancer::start(&format!(
        "{}mirror = {{ upstream = \"shadow\", timeout = \"100ms\" }}",
        configuration(
            &app_address,
            &silent_address,
            "timeouts = { connect = \"30s\" }"
        )
    ));
    assert_eq!(get(balancer.http(), "/").status, 200);
    eventually_mirrored(&balancer, "failed", 1.0);
    let labels = [("upstream", "shadow"), ("reason", "connect_timeout")];
    let told = balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &labels);
    assert_eq!(told, 1.0);
}

#[test]
fn a_mirror_that_is_gone_or_cuts_its_answers_harms_nobody() {
    let (app, refusing) = (Origin::named("app"), Refusing::new());
    let (app_address, gone) = (app.address().to_string(), refusing.address().to_string());
    let settings = "mirror = { upstream = \"shadow\" }";
    let configuration = format!("{}{settings}", configuration(&app_address, &gone, ""));
    let balancer = Balancer::start(&configuration);
    assert_eq!(get(balancer.http(), "/").status, 200);
    eventually_mirrored(&balancer, "failed", 1.0);

    let cutting = Origin::with("shadow", |exchange| {
        exchange.write_then(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha",
            Next::Reset,
        )
    });
    balancer.reloaded(&configuration.replace(&gone, &cutting.address().to_string()));
    assert_eq!(get(balancer.http(), "/").status, 200);
    eventually_mirrored(&balancer, "failed", 2.0);
    // What fails there is the mirror's, in the metrics, too.
    let failures = balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &[("upstream", "app")]);
    assert_eq!(failures, 0.0);
}

#[test]
fn bodies_beyond_the_limit_are_not_mirrored() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let balancer = start(&app, &shadow, ", body_bytes = \"4B\"");
    let mut connection = Connection::open(balancer.http());
    assert_eq!(post(&mut connection, "/", "12345"), 200);
    eventually_mirrored(&balancer, "too_large", 1.0);
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    assert_eq!(app.last_request().body.expect("a body").bytes, b"abcdef");
    eventually_mirrored(&balancer, "too_large", 2.0);
    assert_eq!(post(&mut connection, "/", "1234"), 200);
    eventually_mirrored(&balancer, "answered", 1.0);
    assert_eq!(shadow.request_count(), 1);
}

#[test]
fn a_request_that_does_not_come_whole_is_not_mirrored() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let balancer = start(&app, &shadow, "");
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\n12"
    ));
    eventually("the endpoint is asked", || app.connections() > 0);
    connection.abort();
    eventually_mirrored(&balancer, "incomplete", 1.0);
    assert_eq!(shadow.request_count(), 0);
}

#[test]
fn a_share_and_some_methods_can_be_mirrored() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let balancer = start(&app, &shadow, ", percent = 50, methods = [\"GET\"]");
    let mut connection = Connection::open(balancer.http());
    for _ in 0..200 {
        assert_eq!(connection.get("/").status, 200);
        assert_eq!(post(&mut connection, "/", "x"), 200);
    }
    let all = || {
        let results = ["answered", "failed", "dropped"];
        results
            .map(|result| mirrored(&balancer, result))
            .iter()
            .sum::<f64>()
    };
    eventually("what was sent has come", || {
        all() > 0.0 && shadow.request_count() as f64 == mirrored(&balancer, "answered")
    });
    // 100 expected; five standard deviations are 36.
    assert!((64.0..=136.0).contains(&all()), "{}", all());
    assert!(
        shadow
            .requests()
            .iter()
            .all(|request| request.method() == "GET")
    );
}

#[test]
fn a_copy_is_not_copied_again() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let settings = "mirror = { upstream = \"shadow\" }";
    let (app_address, shadow_address) = (app.address().to_string(), shadow.address().to_string());
    let configuration = format!(
        "{}{settings}",
        configuration(&app_address, &shadow_address, "")
    );
    let trusting = configuration.replacen(
        "[upstream.app]",
        "trusted_proxies = [\"127.0.0.1\"]\n[upstream.app]",
        1,
    );
    let balancer = Balancer::start(&trusting);
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Mirrored: 1\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    assert_eq!(app.last_request().head.field("x-mirrored"), Some("1"));
    assert_eq!(connection.get("/").status, 200);
    eventually_mirrored(&balancer, "answered", 1.0);
    assert_eq!(shadow.request_count(), 1);
}

#[test]
fn mirrors_speak_a_protocol_of_their_own() {
    let (plain, http2) = (
        Origin::named("plain"),
        H2Origin::new(|_| ready(text("http2"))),
    );
    let (plain_address, http2_address) = (plain.address().to_string(), http2.address().to_string());
    let mut requests = 0.0;
    for (app, shadow, of_app, of_shadow) in [
        (&plain_address, &http2_address, "", "protocol = \"h2\""),
        (&http2_address, &plain_address, "protocol = \"h2\"", ""),
    ] {
        let configuration = format!(
            "{}mirror = {{ upstream = \"shadow\" }}",
            configuration(app, shadow, of_shadow).replacen(
                "[upstream.shadow]",
                &format!("{of_app}\n[upstream.shadow]"),
                1
            )
        );
        let balancer = Balancer::start(&configuration);
        let mut connection = Connection::open(balancer.http());
        assert_eq!(connection.get("/x").status, 200);
        assert_eq!(post(&mut connection, "/x", "abc"), 200);
        eventually_mirrored(&balancer, "answered", 2.0);
        requests += 2.0;
        assert_eq!(plain.request_count() as f64, requests);
        let last = plain.last_request();
        assert_eq!(last.head.field("host"), Some(HOST));
        assert_eq!(last.body.expect("a body").bytes, b"abc");
    }
}

#[test]
fn mirrored_connections_are_used_again() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let balancer = start(&app, &shadow, "");
    let mut connection = Connection::open(balancer.http());
    for count in 1..=10 {
        assert_eq!(connection.get("/").status, 200);
        eventually_mirrored(&balancer, "answered", f64::from(count));
    }
    assert_eq!(shadow.connections(), 1);
    let begun = Instant::now();
    shadow.close_connections(Next::Close);
    eventually("they are closed", || shadow.open() == 0);
    assert_eq!(connection.get("/").status, 200);
    eventually_mirrored(&balancer, "answered", 11.0);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_mirror_that_wants_to_know_each_client_first_is_refused() {
    let (app, shadow) = (Origin::named("app"), Origin::named("shadow"));
    let (app, shadow) = (app.address().to_string(), shadow.address().to_string());
    let configuration = configuration(&app, &shadow, "proxy_protocol = \"v1\"");
    let balancer = Balancer::start(&configuration);
    match balancer.reload(&format!(
        "{configuration}mirror = {{ upstream = \"shadow\" }}"
    )) {
        Outcome::Rejected(problems) => assert!(
            problems
                .contains("route[0].mirror: upstream \"shadow\" has proxy_protocol, and copies"),
            "{problems}"
        ),
        Outcome::Accepted(_) => panic!("accepted"),
    }
}
