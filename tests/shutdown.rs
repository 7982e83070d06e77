//! Shutdown (semantics §11): what is in flight finishes, nothing new begins, and the exit is a clean one.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::balancer::BINARY;
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frames, H2, get as h2_get};
use crate::support::http1::Framing;
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get, simple};

/// An origin that answers `/held` in two halves: the head and the first two bytes at once, the rest when the gate opens;
/// `/late` only when the gate opens.
fn holding(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::with("a", move |exchange| match exchange.target() {
        "/held" => {
            let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
            gate.wait();
            exchange.write_then("lf", Next::Keep)
        }
        "/late" => {
            gate.wait();
            exchange.respond_with_name()
        }
        _ => exchange.respond_with_name(),
    })
}

/// Asks for `path` without waiting for the answer.
fn begin(balancer: &Balancer, origin: &Origin, path: &str) -> Connection {
    let before = origin.request_count();
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually("the origin is asked", || origin.request_count() > before);
    connection
}

fn refuses(balancer: &Balancer) -> bool {
    Connection::try_open(balancer.http()).is_err()
}

#[test]
fn response_in_flight_finishes_and_the_exit_code_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let gate = Gate::new();
        let origin = holding(&gate);
        let mut balancer = Balancer::start(&simple(&[&origin]));
        let mut held = begin(&balancer, &origin, "/held");
        held.final_head().unwrap();
        balancer.signal(signal);
        eventually("new connections are refused", || refuses(&balancer));
        assert!(balancer.is_running());
        gate.open();
        let body = held.body(Framing::Length(4));
        assert_eq!((body.bytes.as_slice(), body.complete), (&b"half"[..], true));
        assert!(held.is_closed_by_peer());
        assert_eq!(balancer.wait_exit().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn upload_in_flight_finishes() {
    let origin = Origin::with("a", |exchange| {
        let body = exchange.body();
        exchange.respond(200, &[], &String::from_utf8_lossy(&body.bytes))
    });
    let mut balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nfirst"
    ));
    eventually("the origin is asked", || origin.request_count() == 1);
    balancer.signal(Signal::TERM);
    eventually("new connections are refused", || refuses(&balancer));
    connection.send("later");
    assert_eq!(connection.reply().text(), "firstlater");
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn keep_alive_clients_are_told_that_the_connection_ends() {
    let gate = Gate::new();
    let origin = holding(&gate);
    let mut balancer = Balancer::start(&simple(&[&origin]));
    let mut idle = Connection::open(balancer.http());
    assert_eq!(idle.get("/").text(), "a");
    let mut late = begin(&balancer, &origin, "/late");
    balancer.signal(Signal::TERM);
    eventually("new connections are refused", || refuses(&balancer));
    gate.open();
    let reply = late.reply();
    assert_eq!(
        (
            reply.status,
            reply.text().as_str(),
            reply.field("connection")
        ),
        (200, "a", Some("close"))
    );
    assert!(late.is_closed_by_peer());
    assert!(idle.is_closed_by_peer());
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn http_2_clients_get_goaway_and_their_streams_finish() {
    let gate = Gate::new();
    let origin = holding(&gate);
    let authority = Authority::new("test");
    let mut balancer = start_secure(&origin, &authority, "");
    let tls = Tls::new(&authority, HOST);
    let connection = H2::connect(balancer.address("https"), &tls);
    let pending = connection.spawn(h2_get("/late"));
    let mut frames = Frames::open(balancer.address("https"), &tls);
    frames.request(
        1,
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", HOST),
            (":path", "/late"),
        ],
    );
    eventually("both are in flight", || origin.request_count() == 2);
    balancer.signal(Signal::TERM);
    let goaway = loop {
        let frame = frames.read().expect("a GOAWAY before the end");
        if frame.kind == Frames::GOAWAY {
            break frame.payload;
        }
    };
    assert_eq!(goaway[4..8], [0; 4], "the connection ends without an error");
    gate.open();
    assert_eq!(frames.ending(1), Ending::Reply(200, b"a".to_vec()));
    assert_eq!(pending.wait().unwrap().text(), "a");
    eventually("the connection ends", || connection.is_closed());
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let mut balancer = start_secure(
        &origin,
        &authority,
        "[process]\nworkers = 2\nshutdown_grace = \"60s\"",
    );
    let mut plain = Connection::open(balancer.http());
    assert_eq!(plain.get("/").text(), "a");
    let silent = Connection::open(balancer.http());
    let two = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    assert_eq!(two.get("/").unwrap().text(), "a");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    drop((plain, silent, two));
}

#[test]
fn readiness_ends_at_once_and_service_only_after_shutdown_delay() {
    let origin = Origin::named("a");
    let config = format!(
        "{}\n[process]\nworkers = 2\nshutdown_delay = \"2s\"",
        simple(&[&origin])
    );
    let mut balancer = Balancer::start(&config);
    assert_eq!(balancer.ask("/readyz").status, 200);
    assert_eq!(balancer.ask("/livez").status, 200);
    let mut kept = Connection::open(balancer.http());
    assert_eq!(kept.get("/").text(), "a");
    balancer.signal(Signal::TERM);
    let start = Instant::now();
    eventually("the balancer is not ready", || {
        balancer.ask("/readyz").status == 503
    });
    assert!(
        !balancer.ask("/readyz").text().trim().is_empty(),
        "with the reason"
    );
    assert_eq!(balancer.ask("/livez").status, 200);
    assert_eq!(
        get(balancer.http(), "/").text(),
        "a",
        "service goes on for shutdown_delay"
    );
    assert_eq!(kept.get("/").text(), "a");
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert!(
        start.elapsed() >= Duration::from_millis(1900),
        "ended after {:?}",
        start.elapsed()
    );
}

#[test]
fn what_exceeds_the_grace_is_cut_and_the_exit_code_is_0() {
    let gate = Gate::new();
    let origin = holding(&gate);
    let config = format!(
        "{}\n[process]\nworkers = 2\nshutdown_grace = \"500ms\"",
        simple(&[&origin])
    );
    let mut balancer = Balancer::start(&config);
    let mut held = begin(&balancer, &origin, "/held");
    held.final_head().unwrap();
    let start = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert!(
        start.elapsed() >= Duration::from_millis(450),
        "ended after {:?}",
        start.elapsed()
    );
    assert!(!held.body(Framing::Length(4)).complete);
    gate.open();
}

#[test]
fn second_signal_ends_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let gate = Gate::new();
        let origin = holding(&gate);
        let config = format!(
            "{}\n[process]\nworkers = 2\nshutdown_grace = \"10m\"",
            simple(&[&origin])
        );
        let mut balancer = Balancer::start(&config);
        let mut held = begin(&balancer, &origin, "/held");
        held.final_head().unwrap();
        balancer.signal(Signal::TERM);
        eventually("the drain has begun", || refuses(&balancer));
        assert!(balancer.is_running());
        balancer.signal(second);
        balancer.wait_exit();
        assert!(!held.body(Framing::Length(4)).complete);
        gate.open();
    }
}

#[test]
fn second_signal_ends_a_shutdown_delay_too() {
    let origin = Origin::named("a");
    let config = format!(
        "{}\n[process]\nworkers = 2\nshutdown_delay = \"10m\"",
        simple(&[&origin])
    );
    let mut balancer = Balancer::start(&config);
    balancer.signal(Signal::TERM);
    eventually("the shutdown has begun", || {
        balancer.ask("/readyz").status == 503
    });
    balancer.signal(Signal::TERM);
    balancer.wait_exit();
}

#[test]
fn reload_during_shutdown_changes_nothing() {
    let gate = Gate::new();
    let origin = holding(&gate);
    let mut balancer = Balancer::start(&simple(&[&origin]));
    let mut held = begin(&balancer, &origin, "/held");
    held.final_head().unwrap();
    balancer.signal(Signal::TERM);
    eventually("the drain has begun", || refuses(&balancer));
    balancer.signal(Signal::HUP);
    gate.open();
    assert!(held.body(Framing::Length(4)).complete);
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn address_in_use_ends_the_start_with_1_and_names_the_listener() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!("[listener.front]\naddress = \"{address}\"\n[[route]]\nrespond = {{}}");
    let mut balancer = Balancer::spawn(&config, |_| {}, Command::new(BINARY));
    assert_eq!(balancer.wait_exit().code(), Some(1));
    eventually("the log names it", || {
        let log = balancer.log().join("\n");
        log.contains("front") && log.contains(&address.to_string())
    });
}

#[test]
fn invalid_configuration_ends_the_start_with_78_and_every_problem() {
    let config =
        "[listener.http]\naddress = \"127.0.0.1:0\"\nadress = 1\n[[route]]\nupstream = \"none\"";
    let mut balancer = Balancer::spawn(config, |_| {}, Command::new(BINARY));
    assert_eq!(balancer.wait_exit().code(), Some(78));
    eventually("the problems are told", || {
        let log = balancer.log().join("\n");
        log.contains("balancer.toml:3:") && log.contains("balancer.toml:5:")
    });
    assert!(
        balancer.events("listener open").is_empty(),
        "nothing is bound"
    );
}

fn start_secure(origin: &Origin, authority: &Authority, more: &str) -> Balancer {
    let tls = "tls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let config = format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n{tls}\n{}\n{more}",
        simple(&[origin])
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}
