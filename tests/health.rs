//! Active health checks (semantics §4): who is admitted, who falls, who rises, and what clients see of it.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::support::balancer::BINARY;
use crate::support::{Balancer, Gate, Next, Origin, Refusing, eventually, get, simple};

/// Fast enough for a test, slow enough for a busy machine.
const FAST: &str = "interval = \"300ms\", fast_interval = \"50ms\", timeout = \"300ms\"";

/// One upstream `app` with named endpoints and these keys of `health`.
fn config(endpoints: &[(&str, std::net::SocketAddr)], health: &str) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\nhealth = {{ {health} }}\n[[route]]\nupstream = \"app\"",
        endpoints.join(", ")
    )
}

fn answers(balancer: &Balancer, count: usize) -> BTreeSet<String> {
    (0..count)
        .map(|_| get(balancer.http(), "/").text())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn endpoint_is_admitted_after_its_first_pass() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = config(
        &[("a", a.address()), ("b", b.address())],
        "path = \"/healthz\", interval = \"60s\", timeout = \"2s\", rise = 5",
    );
    let balancer = Balancer::start(&config);
    balancer.await_health("app", "a", "up");
    balancer.await_health("app", "b", "up");
    // The second probe comes within the interval, seldom at once; five of them do not.
    assert!(a.probe_count() < 5 && b.probe_count() < 5);
    assert_eq!(answers(&balancer, 4), set(&["a", "b"]));
    assert_eq!(
        balancer.metrics().find(
            "balancer_endpoint_up",
            &[("upstream", "app"), ("endpoint", "a")]
        ),
        Some(1.0)
    );
    let endpoint = balancer.endpoint("app", "a");
    assert_eq!(
        (&endpoint["eligible"], &endpoint["mode"]),
        (&true.into(), &"active".into())
    );
    assert!(
        endpoint["since"]
            .as_u64()
            .is_some_and(|since| since > 1_600_000_000),
        "{endpoint}"
    );
}

#[test]
fn unknown_endpoint_waits_while_another_is_up() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    b.on_probe({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond(200, &[], "")
        }
    });
    let config = config(
        &[("a", a.address()), ("b", b.address())],
        "interval = \"60s\", timeout = \"30s\"",
    );
    let balancer = Balancer::start(&format!(
        "{config}\n[process]\nworkers = 2\nstartup_wait = \"100ms\""
    ));
    balancer.await_health("app", "a", "up");
    assert_eq!(balancer.endpoint("app", "b")["health"], "unknown");
    assert_eq!(answers(&balancer, 10), set(&["a"]));
    gate.open();
    balancer.await_health("app", "b", "up");
    assert_eq!(answers(&balancer, 10), set(&["a", "b"]));
}

#[test]
fn unknown_endpoints_are_used_where_none_is_up() {
    let gate = Gate::new();
    let a = Origin::named("a");
    a.on_probe({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond(200, &[], "")
        }
    });
    let config = config(
        &[("a", a.address())],
        "interval = \"60s\", timeout = \"30s\"",
    );
    let balancer = Balancer::start(&format!(
        "{config}\n[process]\nworkers = 2\nstartup_wait = \"100ms\""
    ));
    assert_eq!(balancer.endpoint("app", "a")["health"], "unknown");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    gate.open();
}

#[test]
fn endpoint_without_checks_is_taken_to_be_up() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&a]));
    let status = balancer.status();
    let endpoint = &status["upstreams"][0]["endpoints"][0];
    assert_eq!(endpoint["eligible"], true, "{endpoint}");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(a.probe_count(), 0);
}

#[test]
fn start_waits_for_first_checks() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    b.on_probe({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond(200, &[], "")
        }
    });
    let config = config(
        &[("a", a.address()), ("b", b.address())],
        "interval = \"60s\", timeout = \"30s\"",
    );
    let config = format!("{config}\n[process]\nworkers = 1\nstartup_wait = \"60s\"");
    let balancer = Balancer::spawn(&config, |_| {}, Command::new(BINARY));
    eventually("both are probed", || {
        a.probe_count() >= 1 && b.probe_count() >= 1
    });
    assert!(balancer.events("ready").is_empty());
    gate.open();
    let balancer = balancer.ready();
    for name in ["a", "b"] {
        assert_eq!(balancer.endpoint("app", name)["health"], "up");
    }
}

#[test]
fn endpoint_falls_after_three_failures_and_gets_no_new_request_until_it_has_risen() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(
        &[("a", a.address()), ("b", b.address())],
        &format!("path = \"/healthz\", {FAST}"),
    ));
    balancer.await_health("app", "a", "up");
    balancer.await_health("app", "b", "up");
    assert_eq!(answers(&balancer, 4), set(&["a", "b"]));

    let failures = a.probe_status(500);
    balancer.await_health("app", "a", "down");
    assert!(failures.load(SeqCst) >= 3, "three failures, not fewer");
    let asked = a.request_count();
    assert_eq!(answers(&balancer, 20), set(&["b"]));
    assert_eq!(a.request_count(), asked);
    let endpoint = balancer.endpoint("app", "a");
    assert!(
        endpoint["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("500")),
        "the reason says what was found: {endpoint}"
    );
    assert_eq!(endpoint["eligible"], false);
    let metrics = balancer.metrics();
    let labels = [("upstream", "app"), ("endpoint", "a")];
    assert_eq!(metrics.find("balancer_endpoint_up", &labels), Some(0.0));
    assert!(metrics.sum("balancer_health_checks_total", &labels) >= 4.0);
    assert_eq!(
        metrics.sum(
            "balancer_health_transitions_total",
            &[("endpoint", "a"), ("to", "down")]
        ),
        1.0
    );

    let passes = a.probe_status(204);
    balancer.await_health("app", "a", "up");
    assert!(passes.load(SeqCst) >= 2, "two passes, not fewer");
    // It is eased in, with a tenth of its share at first.
    assert_eq!(answers(&balancer, 11), set(&["a", "b"]));
    assert_eq!(
        balancer.metrics().find("balancer_endpoint_up", &labels),
        Some(1.0)
    );
}

#[test]
fn opposite_result_starts_the_count_again() {
    let a = Origin::named("a");
    // One pass, then forever two failures and a pass: never three failures in a row.
    a.on_probe(|exchange| {
        let status = if exchange.number % 3 == 0 { 200 } else { 500 };
        exchange.respond(status, &[], "")
    });
    let balancer = Balancer::start(&config(&[("a", a.address())], &format!("fall = 3, {FAST}")));
    eventually("enough probes", || a.probe_count() >= 13);
    assert_eq!(
        balancer
            .metrics()
            .sum("balancer_health_transitions_total", &[("to", "down")]),
        0.0
    );
    assert_eq!(balancer.endpoint("app", "a")["health"], "up");
    // And from now on a failure and a pass in turn: after a fall, never two passes in a row.
    a.probe_status(500);
    balancer.await_health("app", "a", "down");
    a.on_probe(|exchange| {
        exchange.respond(if exchange.number % 2 == 0 { 200 } else { 500 }, &[], "")
    });
    let before = a.probe_count();
    eventually("enough probes", || a.probe_count() >= before + 8);
    assert_eq!(balancer.endpoint("app", "a")["health"], "down");
}

#[test]
fn probe_that_gets_no_answer_in_time_is_a_failure() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(
        &[("a", a.address())],
        "interval = \"200ms\", fast_interval = \"50ms\", timeout = \"100ms\", fall = 2",
    ));
    balancer.await_health("app", "a", "up");
    a.on_probe(|exchange| {
        exchange.is_left_by_balancer();
        Next::Close
    });
    balancer.await_health("app", "a", "down");
    assert!(balancer.endpoint("app", "a")["reason"].is_string());
}

#[test]
fn regression_endpoint_that_sends_interim_responses_without_end_is_not_listened_to() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    a.on_probe(|exchange| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(100);
        while exchange.write(&hints).is_ok() {}
        Next::Close
    });
    b.on_probe(|exchange| {
        let few = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(8);
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        exchange.write_then(format!("{few}{last}"), Next::Close)
    });
    let config = config(
        &[("a", a.address()), ("b", b.address())],
        "interval = \"60s\", fast_interval = \"60s\", timeout = \"60s\", fall = 1",
    );
    let balancer = Balancer::start(&config);
    // Long before the check's time is over.
    balancer.await_health("app", "a", "down");
    balancer.await_health("app", "b", "up");
    let reason = balancer.endpoint("app", "a")["reason"].to_string();
    assert!(reason.contains("no response, but "), "{reason}");
}

#[test]
fn probe_that_gets_garbage_or_a_reset_is_a_failure() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(&[("a", a.address()), ("b", b.address())], FAST));
    balancer.await_health("app", "a", "up");
    balancer.await_health("app", "b", "up");
    a.on_probe(|exchange| exchange.write_then("nonsense\r\n\r\n", Next::Close));
    b.on_probe(|_| Next::Reset);
    balancer.await_health("app", "a", "down");
    balancer.await_health("app", "b", "down");
}

#[test]
fn redirect_is_not_followed_and_not_a_pass() {
    let (a, other) = (Origin::named("a"), Origin::named("other"));
    let location = format!("http://{}/", other.address());
    a.on_probe(move |exchange| exchange.respond(302, &[("Location", &location)], ""));
    let balancer = Balancer::start(&config(&[("a", a.address())], FAST));
    balancer.await_health("app", "a", "down");
    assert_eq!(other.probe_count() + other.request_count(), 0);
}

#[test]
fn expected_status_is_what_the_file_says() {
    let a = Origin::named("a");
    a.probe_status(401);
    let balancer = Balancer::start(&config(
        &[("a", a.address())],
        &format!("expect_status = \"401-403\", {FAST}"),
    ));
    balancer.await_health("app", "a", "up");
    a.probe_status(200);
    balancer.await_health("app", "a", "down");
    a.probe_status(403);
    balancer.await_health("app", "a", "up");
}

#[test]
fn probe_asks_as_configured() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.full]
        endpoints = ["{}"]
        health = {{ path = "/healthz?deep=1", host = "health.test", headers = {{ X-Probe = "yes" }}, interval = "60s" }}
        [upstream.bare]
        endpoints = ["{}"]
        health = {{ interval = "60s" }}
        [[route]]
        path = "/full"
        upstream = "full"
        [[route]]
        upstream = "bare"
        "#,
        a.address(),
        b.address()
    );
    let _balancer = Balancer::start(&config);
    eventually("both are probed", || {
        a.probe_count() >= 1 && b.probe_count() >= 1
    });
    let full = &a.probes()[0].head;
    assert_eq!(full.start, "GET /healthz?deep=1 HTTP/1.1");
    assert_eq!(
        (full.field("host"), full.field("x-probe")),
        (Some("health.test"), Some("yes"))
    );
    let bare = &b.probes()[0].head;
    assert_eq!(bare.start, "GET / HTTP/1.1");
    assert_eq!(bare.field("host"), Some(b.address().to_string().as_str()));
    assert!(
        bare.field("user-agent")
            .is_some_and(|agent| agent.starts_with("balancer-health/")),
        "{bare:?}"
    );
}

#[test]
fn every_probe_has_a_connection_of_its_own() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(
        &[("a", a.address())],
        "interval = \"50ms\", fast_interval = \"50ms\", timeout = \"50ms\"",
    ));
    assert_eq!(get(balancer.http(), "/").text(), "a");
    eventually("enough probes", || a.probe_count() >= 10);
    let connections: BTreeSet<usize> = a
        .probes()
        .iter()
        .take(10)
        .map(|probe| probe.connection)
        .collect();
    assert!(
        connections.len() >= 10,
        "probes shared connections: {connections:?}"
    );
    assert!(
        !connections.contains(&a.requests()[0].connection),
        "a probe shared a connection with traffic"
    );
}

#[test]
fn tcp_check_asks_only_for_a_connection() {
    let mut a = Origin::named("a");
    a.on_probe(|_| panic!("a TCP check sends nothing"));
    let balancer = Balancer::start(&config(
        &[("a", a.address())],
        &format!("kind = \"tcp\", {FAST}"),
    ));
    balancer.await_health("app", "a", "up");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    a.stop();
    balancer.await_health("app", "a", "down");
    assert_eq!(get(balancer.http(), "/").status, 503);
    a.start_again();
    balancer.await_health("app", "a", "up");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(a.probe_count(), 0);
}

#[test]
fn all_down_is_503_with_retry_after() {
    let (mut a, refusing) = (Origin::named("a"), Refusing::new());
    let balancer = Balancer::start(&config(
        &[("a", a.address()), ("b", refusing.address())],
        FAST,
    ));
    balancer.await_health("app", "a", "up");
    a.stop();
    balancer.await_health("app", "a", "down");
    balancer.await_health("app", "b", "down");
    let reply = get(balancer.http(), "/");
    reply.assert_made_by_balancer(503);
    let retry_after = reply.field("retry-after").expect("Retry-After");
    assert!(
        retry_after
            .parse::<u32>()
            .is_ok_and(|seconds| (1..=3600).contains(&seconds)),
        "{retry_after}"
    );
    assert_eq!(
        balancer
            .metrics()
            .sum("balancer_requests_total", &[("code", "503")]),
        1.0
    );
    assert_eq!(
        balancer.ask("/readyz").status,
        200,
        "the balancer itself is ready"
    );
    a.start_again();
    balancer.await_health("app", "a", "up");
    assert_eq!(get(balancer.http(), "/").text(), "a");
}

#[test]
fn endpoint_that_goes_down_finishes_what_it_has() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    a.on_request({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let balancer = Balancer::start(&config(&[("a", a.address()), ("b", b.address())], FAST));
    balancer.await_health("app", "a", "up");
    balancer.await_health("app", "b", "up");
    let address = balancer.http();
    let slow = std::thread::spawn(move || [get(address, "/").text(), get(address, "/").text()]);
    eventually("a is asked", || a.request_count() == 1);
    a.probe_status(500);
    balancer.await_health("app", "a", "down");
    gate.open();
    assert!(slow.join().unwrap().contains(&"a".to_owned()));
}

#[test]
fn first_probes_of_added_endpoints_are_spread() {
    let origins: Vec<Origin> = (0..51).map(|_| Origin::named("a")).collect();
    let all: Vec<&Origin> = origins.iter().collect();
    let (before, added) = all.split_first().expect("an origin");
    let checked = "[upstream.app]\nhealth = { interval = \"60s\" }";
    let config = |origins: &[&Origin]| simple(origins).replace("[upstream.app]", checked);
    let balancer = Balancer::start(&config(&[before]));
    balancer.reloaded(&config(&all));
    eventually("every endpoint is probed", || {
        origins.iter().all(|origin| origin.probe_count() >= 1)
    });
    let times: Vec<_> = added.iter().map(|origin| origin.probes()[0].at).collect();
    let first = *times.iter().min().expect("fifty");
    let mut tenths = [0; 20];
    for time in times {
        let tenth = time.duration_since(first).as_millis() / 100;
        tenths[usize::try_from(tenth).unwrap().min(19)] += 1;
    }
    assert!(
        tenths.iter().filter(|count| **count > 0).count() >= 4,
        "first probes are bunched: {tenths:?}"
    );
    assert!(
        tenths.iter().all(|count| *count < 25),
        "first probes are bunched: {tenths:?}"
    );
}

#[test]
fn rounds_are_jittered() {
    let a = Origin::named("a");
    let _balancer = Balancer::start(&config(
        &[("a", a.address())],
        "interval = \"200ms\", fast_interval = \"200ms\", timeout = \"200ms\"",
    ));
    eventually("enough probes", || a.probe_count() >= 12);
    // The pause after the first probe is anything up to an interval, so that endpoints added together part.
    let times: Vec<_> = a.probes().iter().skip(1).map(|probe| probe.at).collect();
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort();
    // A probe that comes late on a busy machine is soon followed by the next: not so most of them.
    assert!(
        gaps[gaps.len() / 2] >= Duration::from_millis(150),
        "probes came faster than the interval: {gaps:?}"
    );
    assert!(
        gaps[gaps.len() - 1] - gaps[0] >= Duration::from_millis(5),
        "no jitter: {gaps:?}"
    );
}

#[test]
fn draining_endpoint_gets_nothing_new_but_is_checked_and_disabled_one_is_not() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let config = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.app]
        endpoints = [
            {{ name = "a", address = "{}", state = "active" }},
            {{ name = "b", address = "{}", state = "draining" }},
            {{ name = "c", address = "{}", state = "disabled" }},
        ]
        health = {{ {FAST} }}
        [[route]]
        upstream = "app"
        "#,
        a.address(),
        b.address(),
        c.address()
    );
    let balancer = Balancer::start(&config);
    eventually("a and b are probed", || {
        a.probe_count() >= 5 && b.probe_count() >= 5
    });
    assert_eq!(answers(&balancer, 10), set(&["a"]));
    assert_eq!(c.probe_count(), 0);
    for (name, mode, eligible) in [
        ("a", "active", true),
        ("b", "draining", false),
        ("c", "disabled", false),
    ] {
        let endpoint = balancer.endpoint("app", name);
        assert_eq!(
            (&endpoint["mode"], &endpoint["eligible"]),
            (&mode.into(), &eligible.into()),
            "{endpoint}"
        );
    }
    assert_eq!(balancer.endpoint("app", "b")["health"], "up");
    balancer.reloaded(&config.replace("state = \"active\"", "state = \"disabled\""));
    let reply = get(balancer.http(), "/");
    reply.assert_made_by_balancer(503);
    assert!(reply.head.has("retry-after"));
}
