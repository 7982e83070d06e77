//! The balancer serves: plain and TLS, HTTP/1.1 and HTTP/2, bodies of any size both ways without collecting them,
//! each TLS name with its certificate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls, TlsOptions};
use crate::support::deadline::settled;
use crate::support::h2::{self, H2};
use crate::support::http1::Framing;
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get, simple};

const MIB: u64 = 1 << 20;

#[test]
fn plain_http_1_1_request_gets_the_origins_answer() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let reply = get(balancer.http(), "/hello?x=1");
    assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
    assert_eq!(reply.field("x-origin"), Some("a"));
    assert_eq!(origin.last_request().target(), "/hello?x=1");
    assert_eq!(origin.last_request().method(), "GET");
    assert!(origin.last_request().head.start.ends_with(" HTTP/1.1"));
}

#[test]
fn tls_http_1_1_request_gets_the_origins_answer() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let mut connection =
        Connection::secure(balancer.address("https"), &Tls::new(&authority, HOST)).unwrap();
    assert_eq!(connection.alpn().as_deref(), Some(&b"http/1.1"[..]));
    for _ in 0..3 {
        assert_eq!(connection.get("/").text(), "a");
    }
}

#[test]
fn http_2_is_chosen_by_alpn_over_tls() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    let reply = connection.get("/two?x=1").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
    let request = origin.last_request();
    assert_eq!(request.head.start, "GET /two?x=1 HTTP/1.1");
    assert_eq!(request.head.field("host"), Some(HOST));
}

#[test]
fn http_2_is_preferred_where_the_client_offers_both() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let tls = Tls::new(&authority, HOST);
    let connection = Connection::secure(
        balancer.address("https"),
        &tls.offering(&["http/1.1", "h2"]),
    )
    .unwrap();
    assert_eq!(connection.alpn().as_deref(), Some(&b"h2"[..]));
    // Without ALPN at all it is HTTP/1.1.
    let mut connection = Connection::secure(balancer.address("https"), &tls.offering(&[])).unwrap();
    assert_eq!(connection.get("/").text(), "a");
}

#[test]
fn listener_without_h2_never_agrees_to_it() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "protocols = [\"http/1.1\"]");
    let tls = Tls::new(&authority, HOST);
    let mut connection = Connection::secure(
        balancer.address("https"),
        &tls.offering(&["h2", "http/1.1"]),
    )
    .unwrap();
    assert_eq!(connection.alpn().as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(connection.get("/").text(), "a");
}

#[test]
fn many_http_2_requests_share_a_connection_at_the_same_time() {
    let gate = Gate::new();
    let origin = Origin::with("a", {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            let target = exchange.target().to_owned();
            exchange.respond(200, &[], &target)
        }
    });
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    let pending: Vec<_> = (0..50)
        .map(|number| connection.spawn(h2::get(&format!("/{number}"))))
        .collect();
    eventually("all requests reach the origin", || {
        origin.request_count() == 50
    });
    gate.open();
    for (number, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap().text(), format!("/{number}"));
    }
}

#[test]
fn connections_are_kept_alive_on_both_sides() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&format!("{}\n[process]\nworkers = 1", simple(&[&origin])));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..20 {
        let reply = connection.get("/");
        assert_eq!(reply.text(), "a");
        assert_ne!(reply.field("connection"), Some("close"));
    }
    assert_eq!(origin.request_count(), 20);
    assert_eq!(origin.connections(), 1);
    // A second client uses the same connection to the origin.
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn client_that_asks_for_a_close_gets_it() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.reply().text(), "a");
    assert!(connection.is_closed_by_peer());
}

#[test]
fn http_1_0_client_gets_a_body_without_chunks_and_a_close() {
    let origin = Origin::with("a", |exchange| {
        exchange.write_then("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", Next::Keep)
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let reply = connection.reply();
    assert_eq!(reply.status, 200);
    assert!(
        !reply.head.has("transfer-encoding"),
        "HTTP/1.0 knows no transfer codings: {reply:?}"
    );
    assert_eq!(reply.text(), "abcdef");
    assert!(connection.is_closed_by_peer());
    assert!(
        origin.last_request().head.start.ends_with("HTTP/1.1"),
        "the origin is asked in our own version"
    );
}

#[test]
fn download_of_64_mib_passes_without_being_collected() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            64 * MIB
        ));
        for at in 0..64 * 16 {
            if exchange.write(piece(at)).is_err() {
                return Next::Close;
            }
        }
        Next::Keep
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let before = balancer.resident();
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let head = connection.final_head().unwrap();
    assert_eq!(head.field("content-length"), Some("67108864"));
    let mut most = 0;
    let (length, complete) = connection.body_length(Framing::Length(64 * MIB), |at, bytes| {
        check_pieces(at, bytes);
        if at % (4 * MIB) < bytes.len() as u64 {
            most = most.max(balancer.resident());
        }
    });
    assert!(complete);
    assert_eq!(length, 64 * MIB);
    assert!(
        most > 0 && most < before + 60 * MIB,
        "resident memory grew from {before} to {most}"
    );
    assert_eq!(origin.request_count(), 1);
}

#[test]
fn upload_of_64_mib_passes_without_being_collected() {
    let origin = Origin::with("a", |exchange| {
        let (length, complete) = exchange.body_length(check_pieces);
        let text = format!("{length} {complete}");
        exchange.respond(200, &[], &text)
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let before = balancer.resident();
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n",
        64 * MIB
    ));
    let mut most = 0;
    for at in 0..64 * 16 {
        connection.try_send(piece(at)).unwrap();
        if at % 64 == 0 {
            most = most.max(balancer.resident());
        }
    }
    assert_eq!(connection.reply().text(), "67108864 true");
    assert!(
        most < before + 60 * MIB,
        "resident memory grew from {before} to {most}"
    );
}

#[test]
fn big_bodies_pass_both_ways_over_http_2() {
    let origin = Origin::with("a", |exchange| {
        let body = exchange.body();
        assert!(body.complete);
        let _ = exchange.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            body.bytes.len()
        ));
        exchange.write_then(body.bytes, Next::Keep)
    });
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    let body: Vec<u8> = (0..128).flat_map(piece).collect();
    let request = Request::post(format!("https://{HOST}/"))
        .body(Full::new(Bytes::from(body.clone())))
        .unwrap();
    let reply = connection.send(request).unwrap();
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.expect("a whole body") == body,
        "the body came back changed"
    );
}

#[test]
fn client_that_does_not_read_holds_the_origin_back() {
    let sent = Arc::new(AtomicU64::new(0));
    let origin = Origin::with("a", {
        let sent = sent.clone();
        move |exchange| {
            let _ = exchange.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                128 * MIB
            ));
            for at in 0..128 * 16 {
                if exchange.write(piece(at)).is_err() {
                    return Next::Close;
                }
                sent.fetch_add(PIECE, SeqCst);
            }
            Next::Keep
        }
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let before = balancer.resident();
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("the origin sends", || sent.load(SeqCst) > 0);
    let held = settled(
        "the origin is held back",
        Duration::from_millis(500),
        || sent.load(SeqCst),
    );
    // What the kernel's four socket buffers may take is theirs; the process takes next to nothing.
    assert!(
        held < 64 * MIB,
        "{held} bytes were taken from the origin for a client that reads nothing"
    );
    assert!(
        balancer.resident() < before + 20 * MIB,
        "resident memory grew from {before} to {}",
        balancer.resident()
    );
    connection.final_head().unwrap();
    let (length, complete) = connection.body_length(Framing::Length(128 * MIB), check_pieces);
    assert!(complete && length == 128 * MIB, "{length} {complete}");
}

#[test]
fn origin_that_does_not_read_holds_the_client_back() {
    let gate = Gate::new();
    let origin = Origin::with("a", {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            let (length, complete) = exchange.body_length(check_pieces);
            let text = format!("{length} {complete}");
            exchange.respond(200, &[], &text)
        }
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let before = balancer.resident();
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n",
        128 * MIB
    ));
    let sent = Arc::new(AtomicU64::new(0));
    let sending = thread::spawn({
        let sent = sent.clone();
        move || {
            for at in 0..128 * 16 {
                connection.try_send(piece(at)).unwrap();
                sent.fetch_add(PIECE, SeqCst);
            }
            connection
        }
    });
    eventually("the origin is asked", || origin.request_count() == 1);
    let held = settled(
        "the client is held back",
        Duration::from_millis(500),
        || sent.load(SeqCst),
    );
    assert!(
        held < 64 * MIB,
        "{held} bytes were taken from the client for an origin that reads nothing"
    );
    assert!(
        balancer.resident() < before + 20 * MIB,
        "resident memory grew from {before} to {}",
        balancer.resident()
    );
    gate.open();
    assert_eq!(
        sending.join().unwrap().reply().text(),
        format!("{} true", 128 * MIB)
    );
}

#[test]
fn response_body_is_passed_on_as_it_comes() {
    let gate = Gate::new();
    let origin = Origin::with("a", {
        let gate = gate.clone();
        move |exchange| {
            let _ = exchange
                .write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            gate.wait();
            exchange.write_then("6\r\nsecond\r\n0\r\n\r\n", Next::Keep)
        }
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(
        connection.final_head().unwrap().field("transfer-encoding"),
        Some("chunked")
    );
    let mut first = [0; 10];
    connection.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"5\r\nfirst\r\n");
    gate.open();
    let rest = connection.body(Framing::Chunked);
    assert!(rest.complete);
    assert_eq!(rest.bytes, b"second");
}

#[test]
fn request_body_is_passed_on_as_it_comes() {
    let origin = Origin::with("a", |exchange| {
        let mut text = Vec::new();
        exchange.body_length(|_, bytes| text.extend(bytes));
        exchange.respond(200, &[], &String::from_utf8_lossy(&text))
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 11\r\n\r\nfirst");
    eventually("the origin is asked before the body has ended", || {
        origin.request_count() == 1
    });
    connection.send("second");
    assert_eq!(connection.reply().text(), "firstsecond");
}

#[test]
fn answers_without_a_body_have_none_and_keep_the_connection() {
    let origin = Origin::with("a", |exchange| match exchange.target() {
        "/204" => exchange.write_then("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", Next::Keep),
        "/304" => exchange.write_then(
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
            Next::Keep,
        ),
        _ if exchange.method() == "HEAD" => {
            exchange.write_then("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Next::Keep)
        }
        _ => exchange.respond(200, &[], "hello"),
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..2 {
        connection.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let reply = connection.try_reply("HEAD").unwrap();
        assert_eq!(
            (reply.status, reply.field("content-length")),
            (200, Some("5"))
        );
        assert_eq!(connection.get("/").text(), "hello");
        let reply = connection.get("/204");
        assert_eq!((reply.status, reply.field("x-a")), (204, Some("1")));
        assert!(
            !reply.head.has("transfer-encoding") && !reply.head.has("content-length"),
            "{reply:?}"
        );
        assert_eq!(connection.get("/").text(), "hello");
        let reply = connection.get("/304");
        assert_eq!((reply.status, reply.field("etag")), (304, Some("\"x\"")));
        assert_eq!(connection.get("/").text(), "hello");
    }
}

#[test]
fn answer_to_head_over_http_2_has_no_body() {
    let origin = Origin::with("a", |exchange| exchange.respond(200, &[], "hello"));
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    let reply = connection
        .send(
            Request::head(format!("https://{HOST}/"))
                .body(Full::default())
                .unwrap(),
        )
        .unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-length"], "5");
    assert!(reply.body.unwrap().is_empty());
    assert_eq!(connection.get("/").unwrap().text(), "hello");
}

#[test]
fn request_bodies_arrive_whole_however_they_are_framed() {
    let origin = Origin::with("a", |exchange| {
        let body = exchange.body();
        exchange.respond(200, &[], &String::from_utf8_lossy(&body.bytes))
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    for (framing, expected) in [
        ("Content-Length: 5\r\n\r\nhello", "hello"),
        ("Content-Length: 0\r\n\r\n", ""),
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "hello",
        ),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
        ("\r\n", ""),
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            connection.send(format!(
                "{method} / HTTP/1.1\r\nHost: app.test\r\n{framing}"
            ));
            let reply = connection.reply();
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (200, expected),
                "{method} {framing:?}"
            );
            let request = origin.last_request();
            assert_eq!(request.method(), method);
            assert!(
                request.body.is_some_and(|body| body.complete),
                "{method} {framing:?}"
            );
        }
    }
}

#[test]
fn client_that_waits_for_100_continue_gets_it() {
    let origin = Origin::with("a", |exchange| {
        let body = exchange.body();
        exchange.respond(200, &[], &String::from_utf8_lossy(&body.bytes))
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert!(connection.head().unwrap().start.starts_with("HTTP/1.1 100"));
    connection.send("hello");
    assert_eq!(connection.reply().text(), "hello");
    assert_eq!(connection.get("/").text(), "");
}

/// Holds its body back until it is asked for.
const HELD_BACK: &str =
    "POST /x HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn body_is_asked_for_when_the_origin_asks() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.body();
        exchange.respond(200, &[], &String::from_utf8_lossy(&body.bytes))
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    let mut soonest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        connection.send(HELD_BACK);
        assert!(connection.head().unwrap().start.starts_with("HTTP/1.1 100"));
        soonest = soonest.min(begun.elapsed());
        assert_eq!(
            origin.last_request().head.field("expect"),
            Some("100-continue")
        );
        connection.send("hello");
        assert_eq!(connection.reply().text(), "hello");
    }
    assert!(
        soonest < Duration::from_secs(1),
        "only when the balancer's patience was over: {soonest:?}"
    );
}

#[test]
fn body_that_the_origin_refuses_is_never_asked_for() {
    let origin = Origin::with("a", |exchange| {
        exchange.write_then(
            "HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno",
            Next::Close,
        )
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send(HELD_BACK);
    let head = connection.head().unwrap();
    assert!(head.start.starts_with("HTTP/1.1 417"), "{head:?}");
    assert_eq!(head.field("connection"), Some("close"));
    assert!(connection.body(Framing::Length(2)).complete);
    // The body may be on its way all the same: it is not the next request (RFC 9110 §10.1.1).
    connection.send("hello");
    assert!(connection.is_closed_by_peer());
}

#[test]
fn expectation_on_two_lines_is_one() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.body();
        exchange.respond(200, &[], &String::from_utf8_lossy(&body.bytes))
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    connection.send(HELD_BACK.replace("\r\n\r\n", "\r\nExpect: 100-Continue\r\n\r\n"));
    assert!(connection.head().unwrap().start.starts_with("HTTP/1.1 100"));
    connection.send("hello");
    assert_eq!(connection.reply().text(), "hello");
}

#[test]
fn what_nobody_has_defined_cannot_be_expected() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for expectation in ["foo", "100-continue, foo", "foo\r\nExpect: 100-continue"] {
        let mut connection = Connection::open(balancer.http());
        connection.send(HELD_BACK.replace("100-continue", expectation));
        let reply = connection.reply();
        assert_eq!(reply.status, 417, "{expectation}");
        assert_eq!(
            reply.field("proxy-status"),
            Some("balancer; error=http_request_error; details=\"unknown expectation\"")
        );
        assert_eq!(reply.field("connection"), Some("close"));
    }
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\nExpect: foo\r\n\r\n");
    assert_eq!(connection.reply().status, 417);
    assert_eq!(connection.get("/").status, 200, "there was no body to come");
    assert_eq!(origin.request_count(), 1, "the others reached no endpoint");
}

#[test]
fn certificate_is_chosen_by_exact_name_then_wildcard_then_default() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let first = authority.issue(&["first.test", "127.0.0.1"]);
    let exact = authority.issue(&["one.example.test"]);
    let wildcard = authority.issue(&["*.example.test"]);
    let balancer = Balancer::start_with(
        &secure(
            &origin,
            r#"tls = { certificates = [
                { chain = "first.pem", key = "first.key" },
                { chain = "wildcard.pem", key = "wildcard.key" },
                { chain = "exact.pem", key = "exact.key" },
            ] }"#,
        ),
        |directory| {
            first.write(directory, "first");
            exact.write(directory, "exact");
            wildcard.write(directory, "wildcard");
        },
    );
    for (name, expected, why) in [
        ("first.test", &first, "exact name of the first"),
        ("one.example.test", &exact, "an exact name beats a wildcard"),
        (
            "ONE.Example.Test",
            &exact,
            "names are compared without case",
        ),
        ("two.example.test", &wildcard, "wildcard"),
        (
            "a.b.example.test",
            &first,
            "a certificate's wildcard covers one label",
        ),
        (
            "example.test",
            &first,
            "a wildcard does not cover its own suffix",
        ),
        ("unknown.test", &first, "the first is the default"),
        ("127.0.0.1", &first, "no server name at all"),
    ] {
        let tls = TlsOptions {
            any_certificate: true,
            ..TlsOptions::default()
        }
        .build(&authority, name);
        let connection = Connection::secure(balancer.address("https"), &tls)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            connection.certificate() == expected.certificate,
            "{name}: {why}"
        );
    }
    // And to a client that checks, each is good.
    for name in [
        "first.test",
        "one.example.test",
        "two.example.test",
        "127.0.0.1",
    ] {
        Connection::secure(balancer.address("https"), &Tls::new(&authority, name)).unwrap();
    }
}

#[test]
fn tls_1_2_and_1_3_are_both_served() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let tls = TlsOptions {
            versions: vec![version],
            ..TlsOptions::default()
        }
        .build(&authority, HOST);
        let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
        assert_eq!(connection.tls_version(), expected);
        assert_eq!(connection.get("/").text(), "a");
    }
}

#[test]
fn minimum_version_1_3_refuses_1_2() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let config = secure(
        &origin,
        r#"tls = { certificates = [{ chain = "server.pem", key = "server.key" }], min_version = "1.3" }"#,
    );
    let balancer = Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    });
    let with = |version| {
        TlsOptions {
            versions: vec![version],
            ..TlsOptions::default()
        }
        .build(&authority, HOST)
    };
    assert!(Connection::secure(balancer.address("https"), &with(&TLS12)).is_err());
    let mut connection = Connection::secure(balancer.address("https"), &with(&TLS13)).unwrap();
    assert_eq!(connection.get("/").text(), "a");
}

#[test]
fn required_client_certificate_must_be_shown_and_signed_by_the_right_authority() {
    let origin = Origin::named("a");
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let balancer = start_with_client_auth(&origin, &authority, "required");
    let address = balancer.address("https");
    let (right, wrong) = (
        authority.issue(&["client.test"]),
        other.issue(&["client.test"]),
    );
    for version in [&TLS12, &TLS13] {
        let with = |identity| {
            TlsOptions {
                versions: vec![version],
                identity,
                ..TlsOptions::default()
            }
            .build(&authority, HOST)
        };
        assert!(
            !is_served(address, &with(None)),
            "no certificate, {version:?}"
        );
        assert!(
            !is_served(address, &with(Some(&wrong))),
            "certificate of another authority, {version:?}"
        );
        assert!(is_served(address, &with(Some(&right))), "{version:?}");
    }
    assert_eq!(
        origin.request_count(),
        2,
        "only those served were passed on"
    );
}

#[test]
fn optional_client_certificate_is_verified_when_shown() {
    let origin = Origin::named("a");
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let balancer = start_with_client_auth(&origin, &authority, "optional");
    let address = balancer.address("https");
    let (right, wrong) = (
        authority.issue(&["client.test"]),
        other.issue(&["client.test"]),
    );
    let with = |identity| {
        TlsOptions {
            identity,
            ..TlsOptions::default()
        }
        .build(&authority, HOST)
    };
    assert!(is_served(address, &with(None)));
    assert!(!is_served(address, &with(Some(&wrong))));
    assert!(is_served(address, &with(Some(&right))));
}

/// A listener `https` for [`HOST`] in front of `origin`, with further keys.
fn start_secure(origin: &Origin, authority: &Authority, keys: &str) -> Balancer {
    let config = secure(
        origin,
        &format!(
            "tls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}] }}\n{keys}"
        ),
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}

fn start_with_client_auth(origin: &Origin, authority: &Authority, mode: &str) -> Balancer {
    let tls = format!(
        "tls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}], client_ca = \"ca.pem\", client_auth = \"{mode}\" }}"
    );
    Balancer::start_with(&secure(origin, &tls), |directory: &Path| {
        authority.issue(&[HOST]).write(directory, "server");
        std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    })
}

fn secure(origin: &Origin, keys: &str) -> String {
    format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n{keys}\n{}",
        simple(&[origin])
    )
}

/// With TLS 1.3 a client learns only after its handshake that its certificate was refused.
fn is_served(address: std::net::SocketAddr, tls: &Tls) -> bool {
    let Ok(mut connection) = Connection::secure(address, tls) else {
        return false;
    };
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection
        .try_reply("GET")
        .is_ok_and(|reply| reply.status == 200)
}

/// Bodies are made of numbered pieces, so that one lost, doubled or moved is seen.
const PIECE: u64 = 64 * 1024;

fn piece(number: u64) -> Vec<u8> {
    vec![marker(number); usize::try_from(PIECE).unwrap()]
}

fn marker(number: u64) -> u8 {
    u8::try_from(number % 251).unwrap()
}

fn check_pieces(at: u64, bytes: &[u8]) {
    let (last, middle) = (bytes.len() as u64 - 1, bytes.len() as u64 / 2);
    for offset in [0, middle, last] {
        assert_eq!(
            bytes[usize::try_from(offset).unwrap()],
            marker((at + offset) / PIECE),
            "the body changed at {}",
            at + offset
        );
    }
}
