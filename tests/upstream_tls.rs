//! TLS to endpoints: requests go only to who proves to be the endpoint, and nothing of a request to anyone else.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::balancer::BINARY;
use crate::support::certificates::{Authority, Leaf};
use crate::support::client::HOST;
use crate::support::http1::Framing;
use crate::support::origin::Unanswering;
use crate::support::tls_origin::{TlsFront, TlsFrontOptions};
use crate::support::{Balancer, Connection, Next, Origin, Outcome, Reply, eventually, get};

const NAME: &str = "app.internal";

/// A configuration with one worker and one upstream `app` of these addresses, with these keys in its `tls`.
fn config(addresses: &[SocketAddr], tls: &str) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\ntls = {{ {tls} }}\n[[route]]\nupstream = \"app\"\n[process]\nworkers = 1\n",
        endpoints.join(", ")
    )
}

/// The usual keys: an authority of one's own, and a name.
fn trusting() -> String {
    format!("ca = \"ca.pem\", server_name = \"{NAME}\"")
}

fn start(config: &str, authority: &Authority) -> Balancer {
    Balancer::start_with(config, |directory| write_ca(directory, authority))
}

fn write_ca(directory: &Path, authority: &Authority) {
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
}

fn post(balancer: &Balancer, body: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    connection.reply()
}

fn failures(balancer: &Balancer, reason: &str) -> f64 {
    balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &[("reason", reason)])
}

/// What the log says of endpoints that cannot be reached over TLS.
fn said(balancer: &Balancer) -> Vec<String> {
    let events = balancer.events("endpoint cannot be reached over TLS");
    events
        .iter()
        .map(|event| {
            assert_eq!(
                (&event["level"], &event["upstream"]),
                (&"WARN".into(), &"app".into())
            );
            event["reason"].as_str().expect("a reason").to_owned()
        })
        .collect()
}

#[test]
fn endpoint_that_proves_its_name_is_asked_and_its_connection_kept() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let options = TlsFrontOptions {
        protocols: &["h2", "http/1.1"],
        ..TlsFrontOptions::default()
    };
    let front = TlsFront::with(origin.address(), &authority.issue(&[NAME]), &options);
    let balancer = start(&config(&[front.address()], &trusting()), &authority);
    for _ in 0..5 {
        assert_eq!(get(balancer.http(), "/x").text(), "a");
        assert_eq!(post(&balancer, "body").text(), "a");
    }
    let shaken = front.shaken();
    assert_eq!(shaken.len(), 1, "one connection for all: {shaken:?}");
    assert_eq!(shaken[0].name.as_deref(), Some(NAME));
    assert_eq!(shaken[0].protocol.as_deref(), Some("http/1.1"));
    assert!(!shaken[0].client_certificate);
    assert_eq!(origin.last_request().head.field("host"), Some(HOST));
    assert_eq!(origin.last_request().target(), "/");
    assert_eq!(
        origin.last_request().head.field("x-forwarded-proto"),
        Some("http"),
        "the client's, not the endpoint's"
    );
}

#[test]
fn sessions_are_resumed() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let front = TlsFront::new(origin.address(), &authority.issue(&[NAME]));
    let balancer = start(&config(&[front.address()], &trusting()), &authority);
    for connections in 1..4 {
        assert_eq!(get(balancer.http(), "/").status, 200);
        origin.close_connections(Next::Close);
        eventually("it is closed", || front.closed() == connections);
        assert_eq!(front.shaken().len(), connections);
    }
    let resumed: Vec<bool> = front.shaken().iter().map(|shaken| shaken.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn who_does_not_prove_to_be_the_endpoint_gets_nothing_of_a_request() {
    let authority = Authority::new("ca");
    let stranger = Authority::new("stranger").issue(&[NAME]);
    let cases: [(Leaf, &str); 3] = [
        (
            stranger,
            "its certificate is signed by no authority that is trusted here",
        ),
        (
            authority.issue_expired(&[NAME]),
            "its certificate has expired",
        ),
        (
            authority.issue(&["other.internal", "127.0.0.1"]),
            "its certificate is not for app.internal",
        ),
    ];
    for (leaf, wrong) in cases {
        let origin = Origin::named("a");
        let front = TlsFront::new(origin.address(), &leaf);
        let balancer = start(&config(&[front.address()], &trusting()), &authority);
        for _ in 0..3 {
            let reply = get(balancer.http(), "/");
            reply.assert_made_by_balancer(502);
            assert_eq!(
                reply.field("proxy-status"),
                Some("balancer; error=tls_certificate_error")
            );
            post(&balancer, "body").assert_made_by_balancer(502);
        }
        assert_eq!((origin.request_count(), origin.connections()), (0, 0));
        assert!(failures(&balancer, "tls_certificate") >= 6.0);
        assert_eq!(said(&balancer), [wrong], "said once, not per request");
    }
}

#[test]
fn endpoint_given_by_address_is_verified_by_it() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let right = TlsFront::new(origin.address(), &authority.issue(&["127.0.0.1"]));
    let wrong = TlsFront::new(origin.address(), &authority.issue(&["127.0.0.2", NAME]));
    let balancer = start(&config(&[right.address()], "ca = \"ca.pem\""), &authority);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(right.shaken()[0].name, None, "an address is no SNI");
    balancer.reloaded(&config(&[wrong.address()], "ca = \"ca.pem\""));
    get(balancer.http(), "/").assert_made_by_balancer(502);
    assert_eq!(said(&balancer), ["its certificate is not for 127.0.0.1"]);
}

#[test]
fn endpoint_given_by_name_is_verified_by_it() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let front = TlsFront::new(origin.address(), &authority.issue(&["localhost"]));
    let by_name = config(&[front.address()], "ca = \"ca.pem\"").replace("127.0.0.1:", "localhost:");
    let by_name = by_name.replace("localhost:0", "127.0.0.1:0");
    let balancer = start(&by_name, &authority);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(front.shaken()[0].name.as_deref(), Some("localhost"));
}

#[test]
fn another_endpoint_is_asked_where_a_handshake_fails_whatever_the_method() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    // Speaks plain text, as a server does that is asked in TLS.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_address = plain.local_addr().unwrap();
    thread::spawn(move || {
        for stream in plain.incoming().map_while(Result::ok) {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let good = TlsFront::new(origin.address(), &authority.issue(&[NAME]));
    let bad = TlsFront::new(origin.address(), &authority.issue_expired(&[NAME]));
    let balancer = start(
        &config(&[bad.address(), good.address(), plain_address], &trusting()),
        &authority,
    );
    // Two endpoints are asked for one request, and both may be the bad ones.
    let answers: Vec<u16> = (0..30).map(|_| post(&balancer, "body").status).collect();
    assert!(answers.iter().filter(|status| **status == 200).count() >= 8);
    assert!(
        answers.iter().all(|status| [200, 502].contains(status)),
        "{answers:?}"
    );
    assert!(failures(&balancer, "tls_certificate") >= 1.0);
    assert!(failures(&balancer, "tls_failed") >= 1.0);
    let retries = [("upstream", "app"), ("reason", "connect")];
    assert!(balancer.metrics().sum("balancer_retries_total", &retries) >= 1.0);
    balancer.reloaded(&config(&[bad.address(), good.address()], &trusting()));
    for _ in 0..10 {
        assert_eq!(post(&balancer, "body").text(), "a");
    }
}

#[test]
fn handshake_that_does_not_end_is_a_connect_timeout() {
    let authority = Authority::new("ca");
    // Accepts into its queue, and never says anything.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let config = config(&[silent], &trusting())
        .replace("[[route]]", "timeouts = { connect = \"300ms\" }\n[[route]]");
    let balancer = start(&config, &authority);
    let begin = std::time::Instant::now();
    get(balancer.http(), "/").assert_made_by_balancer(504);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(failures(&balancer, "connect_timeout") >= 1.0);
    let unanswering = Unanswering::new();
    balancer.reloaded(&config.replace(&silent.to_string(), &unanswering.address().to_string()));
    get(balancer.http(), "/").assert_made_by_balancer(504);
}

#[test]
fn client_certificate_is_shown_to_endpoints_that_ask() {
    let (authority, clients, origin) = (
        Authority::new("ca"),
        Authority::new("clients"),
        Origin::named("a"),
    );
    let options = TlsFrontOptions {
        clients: Some(&clients),
        ..TlsFrontOptions::default()
    };
    let front = TlsFront::with(origin.address(), &authority.issue(&[NAME]), &options);
    let without = config(&[front.address()], &trusting());
    let shown = format!(
        "{}, client_certificate = {{ chain = \"me.pem\", key = \"me.key\" }}",
        trusting()
    );
    let balancer = Balancer::start_with(&without, |directory| {
        write_ca(directory, &authority);
        clients.issue(&["balancer"]).write(directory, "me");
    });
    get(balancer.http(), "/").assert_made_by_balancer(502);
    assert_eq!(origin.request_count(), 0);
    balancer.reloaded(&config(&[front.address()], &shown));
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert!(front.shaken()[0].client_certificate);
    // Another certificate in the same place is another identity.
    clients
        .issue(&["balancer"])
        .write(balancer.directory(), "me");
    balancer.reload_as_it_is();
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(front.shaken().len(), 2);
    Authority::new("strangers")
        .issue(&["balancer"])
        .write(balancer.directory(), "me");
    balancer.reload_as_it_is();
    get(balancer.http(), "/").assert_made_by_balancer(502);
}

#[test]
fn without_verification_anyone_is_asked_and_a_warning_says_so() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let expired = Authority::new("stranger").issue_expired(&["other"]);
    let front = TlsFront::new(origin.address(), &expired);
    let balancer = start(&config(&[front.address()], "verify = false"), &authority);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert!(
        balancer
            .log()
            .iter()
            .any(|line| line.contains("WARN") && line.contains("NOT verified")),
        "{:?}",
        balancer.log()
    );
}

#[test]
fn reload_that_changes_who_is_trusted_uses_no_connection_from_before() {
    let (old, new, origin) = (
        Authority::new("old"),
        Authority::new("new"),
        Origin::named("a"),
    );
    let front = TlsFront::new(origin.address(), &old.issue(&[NAME]));
    let balancer = start(&config(&[front.address()], &trusting()), &old);
    let mut client = Connection::open(balancer.http());
    assert_eq!(client.get("/").text(), "a");
    // The same file read again is the same identity.
    balancer.reload_as_it_is();
    assert_eq!(client.get("/").text(), "a");
    assert_eq!(front.shaken().len(), 1);
    // The same path, another authority.
    write_ca(balancer.directory(), &new);
    balancer.reload_as_it_is();
    client.get("/").assert_made_by_balancer(502);
    write_ca(balancer.directory(), &old);
    balancer.reload_as_it_is();
    assert_eq!(client.get("/").text(), "a");
    let shaken = front.shaken();
    assert!(!shaken.last().expect("a handshake").resumed, "{shaken:?}");
    // And so is another name.
    let other = config(&[front.address()], &trusting().replace(NAME, "other.test"));
    balancer.reloaded(&other);
    client.get("/").assert_made_by_balancer(502);
}

#[test]
fn end_of_a_session_is_noticed_before_use_and_tickets_are_not_taken_for_it() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let front = TlsFront::new(origin.address(), &authority.issue(&[NAME]));
    let balancer = start(&config(&[front.address()], &trusting()), &authority);
    for round in 1..=20 {
        assert_eq!(post(&balancer, "body").status, 200);
        assert_eq!(post(&balancer, "body").status, 200);
        origin.close_connections(Next::Close);
        eventually("it is closed", || front.closed() == round);
    }
    let metrics = balancer.metrics();
    let stale = |outcome| {
        metrics.sum(
            "balancer_upstream_stale_connection_total",
            &[("outcome", outcome)],
        )
    };
    assert_eq!(stale("failed"), 0.0);
    assert_eq!(
        metrics.sum("balancer_upstream_connection_reuse_total", &[]),
        20.0
    );
}

#[test]
fn large_bodies_pass_whole_and_cut_ones_are_seen_to_be_cut() {
    const LENGTH: usize = 16 << 20;
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    origin.on_request(|exchange| match exchange.target() {
        "/up" => {
            let (length, complete) = exchange.body_length(|_, _| {});
            exchange.respond(200, &[], &format!("{length} {complete}"))
        }
        "/down" => exchange.respond(200, &[], &"x".repeat(LENGTH)),
        _ => exchange.write_then(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
            Next::Close,
        ),
    });
    let front = TlsFront::new(origin.address(), &authority.issue(&[NAME]));
    let balancer = start(&config(&[front.address()], &trusting()), &authority);
    let mut client = Connection::open(balancer.http());
    client.send(format!(
        "POST /up HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    for _ in 0..LENGTH / 65536 {
        client.send(vec![b'x'; 65536]);
    }
    assert_eq!(client.reply().text(), format!("{LENGTH} true"));
    client.send(format!("GET /down HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let head = client.final_head().unwrap();
    // A client that takes its time.
    thread::sleep(Duration::from_millis(300));
    let framing = Framing::of_response(&head, 200, "GET");
    assert_eq!(
        client.body_length(framing, |_, _| {}),
        (LENGTH as u64, true)
    );
    let reply = get(balancer.http(), "/cut");
    assert_eq!((reply.status, reply.body.complete), (200, false));
}

#[test]
fn checks_of_every_kind_go_over_tls() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let good = TlsFront::new(origin.address(), &authority.issue(&[NAME]));
    let bad = TlsFront::new(origin.address(), &authority.issue(&["other"]));
    let checked = |health: &str| {
        config(&[good.address(), bad.address()], &trusting()).replace(
            "[[route]]",
            &format!("health = {{ interval = \"200ms\", fast_interval = \"100ms\", timeout = \"200ms\", {health} }}\n[[route]]"),
        )
    };
    let balancer = start(&checked("path = \"/well\""), &authority);
    let (good_name, bad_name) = (good.address().to_string(), bad.address().to_string());
    balancer.await_health("app", &good_name, "up");
    balancer.await_health("app", &bad_name, "down");
    let reason = balancer.endpoint("app", &bad_name)["reason"].clone();
    assert!(
        reason
            .as_str()
            .is_some_and(|reason| reason.contains("its certificate is not for app.internal")),
        "{reason}"
    );
    assert_eq!(origin.probes()[0].target(), "/well");
    for _ in 0..5 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    let asked = origin.probe_count();
    balancer.reloaded(&checked("kind = \"tcp\", rise = 1"));
    let shaken = good.shaken().len();
    eventually("both are checked", || good.shaken().len() >= shaken + 3);
    assert_eq!(balancer.endpoint("app", &good_name)["health"], "up");
    assert_eq!(balancer.endpoint("app", &bad_name)["health"], "down");
    // One of the kind before may have been under way.
    assert!(origin.probe_count() <= asked + 1);
}

#[test]
fn authorities_of_the_system_are_trusted_by_default() {
    let (authority, origin) = (Authority::new("ca"), Origin::named("a"));
    let front = TlsFront::new(origin.address(), &authority.issue(&[NAME]));
    let config = config(&[front.address()], &format!("server_name = \"{NAME}\""));
    let start = |bundle: &str| {
        let mut command = Command::new(BINARY);
        command.env("SSL_CERT_FILE", bundle);
        Balancer::spawn(
            &config,
            |directory| write_ca(directory, &authority),
            command,
        )
    };
    let balancer = start("ca.pem").ready();
    assert_eq!(get(balancer.http(), "/").text(), "a");
    let mut balancer = start("nowhere.pem");
    assert_eq!(balancer.wait_exit().code(), Some(78));
    eventually("the log says why", || {
        let log = balancer.log().join("\n");
        log.contains("upstream.app.tls: ") && log.contains("nowhere.pem does not exist")
    });
}

#[test]
fn files_that_cannot_be_used_are_configuration_errors() {
    let authority = Authority::new("ca");
    let address = "127.0.0.1:1".parse().unwrap();
    let balancer = start(&config(&[address], &trusting()), &authority);
    let broken = format!(
        "{}, client_certificate = {{ chain = \"no.pem\", key = \"no.key\" }}",
        trusting().replace("ca.pem", "no-ca.pem")
    );
    let Outcome::Rejected(problems) = balancer.reload(&config(&[address], &broken)) else {
        panic!("accepted")
    };
    for part in [
        "upstream.app.tls.ca: ",
        "no-ca.pem does not exist",
        "upstream.app.tls.client_certificate: ",
        "no.pem does not exist",
        "no.key does not exist",
    ] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
    fs::write(balancer.directory().join("ca.pem"), "nothing").unwrap();
    assert!(matches!(balancer.reload_as_it_is(), Outcome::Rejected(_)));
}
