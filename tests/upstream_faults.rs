//! What an upstream may do wrong, and what the client sees of it: another endpoint's answer where nothing was lost, an
//! honest error where something was, and never a truncated answer that looks whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frames, H2, get as h2_get};
use crate::support::http1::Framing;
use crate::support::origin::Unanswering;
use crate::support::{
    Balancer, Connection, Gate, Next, Origin, Refusing, Reply, eventually, get, simple,
};

/// One worker, so that there is one pool to reason about.
const ONE_WORKER: &str = "\n[process]\nworkers = 1\n";

/// A configuration with one upstream `app` of these addresses and these keys.
fn config(addresses: &[std::net::SocketAddr], keys: &str) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\n{keys}\n[[route]]\nupstream = \"app\"{ONE_WORKER}",
        endpoints.join(", ")
    )
}

fn post(balancer: &Balancer, body: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    connection.reply()
}

fn failures(balancer: &Balancer) -> f64 {
    balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &[("upstream", "app")])
}

#[test]
fn refused_connection_is_tried_on_the_other_endpoint_whatever_the_method() {
    let (refusing, origin) = (Refusing::new(), Origin::named("a"));
    let balancer = Balancer::start(&config(&[refusing.address(), origin.address()], ""));
    for number in 0..10 {
        let reply = get(balancer.http(), "/");
        assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
        let body = format!("body {number}");
        let reply = post(&balancer, &body);
        assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
        assert_eq!(
            origin.last_request().body.expect("a body").bytes,
            body.as_bytes()
        );
    }
    assert_eq!(origin.request_count(), 20);
    let metrics = balancer.metrics();
    let refused = [
        ("upstream", "app"),
        ("endpoint", &refusing.address().to_string()),
    ];
    assert!(
        metrics.sum("balancer_upstream_failures_total", &refused) >= 5.0,
        "refusals are counted where they happen"
    );
    assert!(
        metrics.sum("balancer_retries_total", &[("upstream", "app")]) >= 5.0,
        "and so are the further attempts"
    );
}

#[test]
fn upload_in_progress_is_not_lost_when_the_first_endpoint_refuses() {
    let (refusing, origin) = (Refusing::new(), Origin::named("a"));
    origin.on_request(|exchange| {
        let (length, complete) = exchange.body_length(|_, _| {});
        exchange.respond(200, &[], &format!("{length} {complete}"))
    });
    let balancer = Balancer::start(&config(&[refusing.address(), origin.address()], ""));
    for _ in 0..4 {
        assert_eq!(
            post(&balancer, &"x".repeat(3 << 20)).text(),
            format!("{} true", 3 << 20)
        );
    }
}

#[test]
fn nobody_accepting_is_502() {
    let (first, second) = (Refusing::new(), Refusing::new());
    let balancer = Balancer::start(&config(&[first.address(), second.address()], ""));
    get(balancer.http(), "/").assert_made_by_balancer(502);
    post(&balancer, "body").assert_made_by_balancer(502);
    assert!(failures(&balancer) >= 2.0);
    assert!(balancer.metrics().sum("balancer_errors_total", &[]) >= 2.0);
}

#[test]
fn garbage_is_502() {
    for garbage in [
        "garbage\r\n\r\n",
        "HTTP/1.1 banana\r\n\r\n",
        "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        "<html>an answer of HTTP/0.9</html>",
        "HTTP/1.1 200 OK\r\nBad Header: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0",
    ] {
        let origin = Origin::with("a", move |exchange| {
            exchange.write_then(garbage, Next::Close)
        });
        let balancer = Balancer::start(&config(&[origin.address()], ""));
        let reply = get(balancer.http(), "/");
        assert_eq!(reply.status, 502, "{garbage:?}: {reply:?}");
        reply.assert_made_by_balancer(502);
        post(&balancer, "body").assert_made_by_balancer(502);
        assert!(failures(&balancer) >= 2.0, "{garbage:?}");
    }
}

#[test]
fn response_without_one_valid_length_is_502() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: five\r\n",
        "Content-Length: 99999999999999999999999\r\n",
    ] {
        assert_not_believed(fields, "hello!");
    }
}

#[test]
fn response_with_both_a_length_and_a_transfer_coding_is_502() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        assert_not_believed(fields, "5\r\nhello\r\n0\r\n\r\n");
    }
}

#[track_caller]
fn assert_not_believed(fields: &'static str, body: &'static str) {
    let origin = Origin::with("a", move |exchange| {
        exchange.write_then(
            format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"),
            Next::Close,
        )
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let reply = get(balancer.http(), "/");
    assert_eq!(reply.status, 502, "{fields:?}: {reply:?}");
    reply.assert_made_by_balancer(502);
}

#[test]
fn endless_response_head_is_502_and_not_collected() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write("HTTP/1.1 200 OK\r\n");
        let line = format!("X-A: {}\r\n", "a".repeat(1000));
        for _ in 0..64 * 1024 {
            if exchange.write(&line).is_err() {
                break;
            }
        }
        Next::Close
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let before = balancer.resident();
    get(balancer.http(), "/").assert_made_by_balancer(502);
    assert!(
        balancer.resident() < before + (30 << 20),
        "resident memory grew from {before} to {}",
        balancer.resident()
    );
}

#[test]
fn reset_or_close_before_the_head_is_502() {
    for (next, part) in [
        (Next::Reset, ""),
        (Next::Close, ""),
        (Next::Reset, "HTTP/1.1 200 OK\r\nX-A:"),
        (Next::Close, "HTTP/1.1 200 OK\r\nX-A:"),
    ] {
        let origin = Origin::with("a", move |exchange| {
            exchange.body();
            exchange.write_then(part, next)
        });
        let balancer = Balancer::start(&config(&[origin.address()], ""));
        get(balancer.http(), "/").assert_made_by_balancer(502);
        post(&balancer, "body").assert_made_by_balancer(502);
        assert!(origin.request_count() >= 2, "the origin was asked");
        assert_eq!(
            origin
                .requests()
                .iter()
                .filter(|request| request.method() == "POST")
                .count(),
            1,
            "a POST that may have been seen is not repeated"
        );
    }
}

#[test]
fn silent_origin_is_504_after_response_head() {
    let origin = Origin::with("a", |exchange| {
        exchange.body();
        exchange.is_left_by_balancer();
        Next::Close
    });
    let balancer = Balancer::start(&config(
        &[origin.address()],
        "timeouts = { response_head = \"300ms\" }",
    ));
    get(balancer.http(), "/").assert_made_by_balancer(504);
    post(&balancer, "body").assert_made_by_balancer(504);
    eventually("the silent connections are given up", || origin.open() == 0);
    assert_eq!(failures(&balancer), 2.0);
}

#[test]
fn regression_clients_that_stall_in_an_upload_cost_no_endpoint_its_place() {
    let origin = Origin::with("a", |exchange| {
        exchange.body();
        exchange.respond_with_name()
    });
    let keys = "timeouts = { response_head = \"500ms\" }\nadaptive = { latency = \"400ms\" }\npassive = { consecutive = 3 }";
    let balancer = Balancer::start(&config(&[origin.address()], keys));
    let mut clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = Connection::open(balancer.http());
            client.send(format!(
                "PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 20\r\n\r\n0123456789"
            ));
            client
        })
        .collect();
    thread::sleep(std::time::Duration::from_millis(1200)); // longer than an endpoint may take
    for client in &mut clients {
        client.send("0123456789");
        assert_eq!(client.reply().text(), "a");
    }
    assert_eq!(origin.request_count(), 5, "none was sent twice");
    assert_eq!(failures(&balancer), 0.0);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    let took = balancer.metrics();
    let took = took.sum(
        "balancer_upstream_response_seconds_sum",
        &[("upstream", "app")],
    );
    assert!(took < 4.0, "the stalls are not the endpoint's: {took}");
}

#[test]
fn late_answer_is_never_given_to_another_request() {
    let gate = Gate::new();
    let origin = Origin::with("a", {
        let gate = gate.clone();
        move |exchange| {
            if exchange.target() == "/slow" {
                gate.wait();
            }
            let target = exchange.target().to_owned();
            exchange.respond(200, &[], &target)
        }
    });
    let balancer = Balancer::start(&config(
        &[origin.address()],
        "timeouts = { response_head = \"300ms\" }",
    ));
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/slow").status, 504);
    gate.open();
    for number in 0..10 {
        let path = format!("/{number}");
        assert_eq!(get(balancer.http(), &path).text(), path);
    }
}

#[test]
fn bytes_beyond_a_response_are_never_the_next_answer() {
    for surplus in [
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned",
        "surplus",
    ] {
        let origin = Origin::with("a", move |exchange| {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                exchange.target().len(),
                exchange.target()
            );
            exchange.write_then(format!("{answer}{surplus}"), Next::Keep)
        });
        let balancer = Balancer::start(&config(&[origin.address()], ""));
        let mut connection = Connection::open(balancer.http());
        for number in 0..10 {
            let path = format!("/{number}");
            let reply = connection.get(&path);
            assert_eq!((reply.status, reply.text()), (200, path));
        }
        assert_eq!(
            origin.connections(),
            10,
            "a connection out of step was used again"
        );
    }
}

#[test]
fn truncated_response_is_seen_to_be_truncated() {
    for (head, framing) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            Framing::Length(100),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            Framing::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
            Framing::Chunked,
        ),
    ] {
        for next in [Next::Close, Next::Reset] {
            let gate = Gate::new();
            let origin = Origin::with("a", {
                let gate = gate.clone();
                move |exchange| {
                    let _ = exchange.write(head);
                    gate.wait();
                    next
                }
            });
            let authority = Authority::new("test");
            let balancer = start_secure(&origin, &authority);

            let mut connection = Connection::open(balancer.http());
            connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            assert!(connection.final_head().unwrap().start.contains(" 200"));
            let mut frames = Frames::open(balancer.address("https"), &Tls::new(&authority, HOST));
            frames.request(
                1,
                &[
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":authority", HOST),
                    (":path", "/"),
                ],
            );
            eventually("both are asked", || origin.request_count() == 2);
            gate.open();

            let body = connection.body(framing);
            assert!(!body.complete, "{head:?} {next:?}: {body:?}");
            assert_eq!(body.bytes, b"half", "{head:?} {next:?}");
            assert!(connection.is_closed_by_peer());
            let ending = frames.ending(1);
            assert!(
                matches!(ending, Ending::Reset(code) if code != 0),
                "{head:?} {next:?}: {ending:?}"
            );
            assert_eq!(failures(&balancer), 2.0, "{head:?} {next:?}");
        }
    }
}

#[test]
fn response_that_ends_with_its_connection_is_whole_unless_it_is_reset() {
    let origin = Origin::with("a", |exchange| {
        let next = if exchange.target() == "/whole" {
            Next::Close
        } else {
            Next::Reset
        };
        exchange.write_then("HTTP/1.1 200 OK\r\n\r\nuntil the end", next)
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let reply = get(balancer.http(), "/whole");
    assert_eq!(
        (reply.status, reply.text().as_str(), reply.body.complete),
        (200, "until the end", true)
    );
}

#[test]
fn pause_in_a_response_beyond_stream_idle_is_cut() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        assert!(
            exchange.is_left_by_balancer(),
            "the connection to a stalled origin is kept"
        );
        Next::Close
    });
    let balancer = Balancer::start(&config(
        &[origin.address()],
        "timeouts = { stream_idle = \"300ms\" }",
    ));
    let reply = get(balancer.http(), "/");
    assert_eq!((reply.status, reply.body.complete), (200, false));
    eventually("the origin is left", || origin.open() == 0);
}

#[test]
fn slow_but_steady_response_is_not_cut() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            thread::sleep(std::time::Duration::from_millis(100)); // the slowness is what is tested
            let _ = exchange.write("x");
        }
        Next::Keep
    });
    let balancer = Balancer::start(&config(
        &[origin.address()],
        "timeouts = { stream_idle = \"500ms\", response_head = \"500ms\" }",
    ));
    let reply = get(balancer.http(), "/");
    assert_eq!(
        (reply.text().as_str(), reply.body.complete),
        ("xxxxxxxxxx", true)
    );
}

/// Row B: the origin closes idle connections; no client may ever see that.
#[test]
fn stale_pooled_connection_is_never_seen_by_the_client() {
    for how in [Next::Close, Next::Reset] {
        let origin = Origin::named("a");
        let balancer = Balancer::start(&config(&[origin.address()], ""));
        let mut connection = Connection::open(balancer.http());
        for number in 0..50 {
            let (method, body) = if number % 2 == 0 {
                ("GET", "")
            } else {
                ("POST", "hello")
            };
            connection.send(format!(
                "{method} /{number} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            let reply = connection.reply();
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (200, "a"),
                "{how:?} {number}"
            );
            origin.close_connections(how);
            eventually("the origin has closed what was idle", || origin.open() == 0);
        }
        assert_eq!(origin.request_count(), 50, "each request was made once");
        assert_eq!(origin.connections(), 50);
    }
}

#[test]
fn several_stale_connections_at_once_are_never_seen_by_clients() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    for round in 0..10 {
        let gate = Gate::new();
        origin.on_request({
            let gate = gate.clone();
            move |exchange| {
                gate.wait();
                exchange.respond_with_name()
            }
        });
        let before = origin.request_count();
        let address = balancer.http();
        let clients: Vec<_> = (0..8)
            .map(|number| {
                thread::spawn(move || {
                    let mut connection = Connection::open(address);
                    let method = if number % 2 == 0 { "GET" } else { "POST" };
                    connection.send(format!(
                        "{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi"
                    ));
                    connection.reply().status
                })
            })
            .collect();
        // One that is answered before the gate opens has failed; its status says how.
        eventually("all are in flight", || {
            origin.request_count() >= before + 8
                || clients.iter().any(thread::JoinHandle::is_finished)
        });
        gate.open();
        let statuses: Vec<u16> = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect();
        assert_eq!(statuses, [200; 8], "round {round}");
        assert_eq!(origin.request_count(), before + 8, "round {round}");
        origin.close_connections(Next::Close);
        eventually("the origin has closed what was idle", || origin.open() == 0);
    }
}

#[test]
fn connection_the_origin_announces_to_close_is_not_used_again() {
    let origin = Origin::with("a", |exchange| {
        exchange.respond(200, &[("Connection", "close")], "a");
        exchange.is_left_by_balancer();
        Next::Close
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..5 {
        let reply = connection.get("/");
        assert_eq!(reply.text(), "a");
        assert_ne!(
            reply.field("connection"),
            Some("close"),
            "the client's connection is not the origin's"
        );
    }
    assert_eq!(origin.connections(), 5);
}

#[test]
fn idle_connection_is_given_up_after_pool_idle() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &[origin.address()],
        "timeouts = { pool_idle = \"200ms\" }",
    ));
    assert_eq!(get(balancer.http(), "/").text(), "a");
    eventually("the idle connection is closed", || origin.open() == 0);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn early_answer_reaches_the_client_that_is_still_sending() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write(
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\nenough",
        );
        exchange.body_length(|_, _| {});
        Next::Close
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n",
        64 << 20
    ));
    connection.send("x".repeat(64 << 10));
    let reply = connection.reply();
    assert_eq!((reply.status, reply.text().as_str()), (403, "enough"));
    connection.abort();
    assert_eq!(get(balancer.http(), "/").status, 403);
}

#[test]
fn unasked_switch_of_protocols_is_502() {
    let origin = Origin::with("a", |exchange| {
        exchange.write_then(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            Next::Keep,
        )
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let head = connection.head().unwrap();
    assert!(head.start.starts_with("HTTP/1.1 502"), "{head:?}");
    eventually("the connection is given up", || origin.open() == 0);
}

#[test]
fn interim_responses_do_not_replace_the_final_one() {
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.write(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
        );
        exchange.respond(200, &[], "final")
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..3 {
        let reply = connection.get("/");
        assert_eq!((reply.status, reply.text().as_str()), (200, "final"));
    }
}

#[test]
fn endpoint_that_does_not_complete_connections_is_504() {
    let unanswering = Unanswering::new();
    let balancer = Balancer::start(&config(
        &[unanswering.address()],
        "timeouts = { connect = \"300ms\" }",
    ));
    get(balancer.http(), "/").assert_made_by_balancer(504);
    post(&balancer, "body").assert_made_by_balancer(504);
}

#[test]
fn endpoint_that_does_not_complete_connections_is_passed_over() {
    let (unanswering, origin) = (Unanswering::new(), Origin::named("a"));
    let balancer = Balancer::start(&config(
        &[unanswering.address(), origin.address()],
        "timeouts = { connect = \"300ms\" }",
    ));
    for _ in 0..2 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
        assert_eq!(post(&balancer, "body").text(), "a");
    }
    assert_eq!(origin.request_count(), 4);
}

#[test]
fn client_that_leaves_mid_upload_takes_its_upstream_request_with_it() {
    let whole = Arc::new(AtomicUsize::new(0));
    let origin = Origin::with("a", {
        let whole = whole.clone();
        move |exchange| {
            if exchange.method() == "GET" {
                return exchange.respond_with_name();
            }
            let (_, complete) = exchange.body_length(|_, _| {});
            whole.fetch_add(usize::from(complete), SeqCst);
            Next::Close
        }
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        for abort in [true, false] {
            let before = origin.request_count();
            let mut connection = Connection::open(balancer.http());
            connection.send(format!(
                "POST / HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n5\r\nhello\r\n"
            ));
            eventually("the origin is asked", || {
                origin.request_count() == before + 1
            });
            if abort {
                connection.abort();
            } else {
                drop(connection);
            }
            eventually("the upstream request is aborted", || origin.open() == 0);
        }
    }
    assert_eq!(
        whole.load(SeqCst),
        0,
        "a cut body was passed on as a whole one"
    );
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(
        failures(&balancer),
        0.0,
        "a client that leaves is no failure of the endpoint"
    );
}

#[test]
fn client_that_leaves_mid_download_takes_its_upstream_request_with_it() {
    let sent = Arc::new(AtomicU64::new(0));
    let origin = Origin::with("a", {
        let sent = sent.clone();
        move |exchange| {
            if exchange.target() == "/after" {
                return exchange.respond_with_name();
            }
            let _ = exchange.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                1_u64 << 40
            ));
            while exchange.write([b'x'; 65536]).is_ok() {
                sent.fetch_add(65536, SeqCst);
            }
            Next::Close
        }
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection.final_head().unwrap();
    eventually("the download is under way", || sent.load(SeqCst) > 0);
    connection.abort();
    eventually("the upstream request is aborted", || origin.open() == 0);
    assert_eq!(get(balancer.http(), "/after").text(), "a");
    assert_eq!(
        origin.connections(),
        2,
        "the connection of the aborted request was used again"
    );
    assert_eq!(
        failures(&balancer),
        0.0,
        "a client that leaves is no failure of the endpoint"
    );
}

#[test]
fn http_2_client_that_resets_its_stream_takes_its_upstream_request_with_it() {
    let origin = Origin::with("a", |exchange| {
        if exchange.target() == "/after" {
            return exchange.respond_with_name();
        }
        assert!(
            exchange.is_left_by_balancer(),
            "the upstream request of a reset stream is kept"
        );
        Next::Close
    });
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority);
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    let pending = connection.spawn(h2_get("/"));
    eventually("the origin is asked", || origin.request_count() == 1);
    pending.abandon();
    eventually("the upstream request is aborted", || origin.open() == 0);
    assert_eq!(connection.get("/after").unwrap().text(), "a");
}

#[test]
fn client_that_leaves_while_the_origin_thinks_takes_its_upstream_request_with_it() {
    let origin = Origin::with("a", |exchange| {
        assert!(
            exchange.is_left_by_balancer(),
            "the upstream request of a client that left is kept"
        );
        Next::Close
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    for _ in 0..3 {
        let before = origin.request_count();
        let mut connection = Connection::open(balancer.http());
        connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        eventually("the origin is asked", || {
            origin.request_count() == before + 1
        });
        connection.abort();
        eventually("the upstream request is aborted", || origin.open() == 0);
    }
    assert_eq!(failures(&balancer), 0.0);
}

#[test]
fn codes_of_the_origin_pass_untouched() {
    let origin = Origin::with("a", |exchange| {
        let status = exchange.target()[1..].parse().expect("a status");
        exchange.respond(status, &[("Retry-After", "7")], "mine")
    });
    let balancer = Balancer::start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    for status in [200, 201, 302, 400, 404, 429, 500, 502, 503, 504, 599] {
        let reply = connection.get(&format!("/{status}"));
        assert_eq!(
            (
                reply.status,
                reply.text().as_str(),
                reply.field("retry-after")
            ),
            (status, "mine", Some("7"))
        );
        assert!(
            !reply.head.has("proxy-status"),
            "the balancer claims an answer that is not its own: {reply:?}"
        );
    }
    assert_eq!(
        origin.request_count(),
        11,
        "no answer was taken for a failure"
    );
}

fn start_secure(origin: &Origin, authority: &Authority) -> Balancer {
    let tls = "tls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let config = format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n{tls}\n{}",
        simple(&[origin])
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}
