//! How often, how much, how long: limits of routes, of clients and of connections, kept over all workers and reloads.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls, connect};
use crate::support::h2::H2;
use crate::support::{Balancer, Connection, DEADLINE, Gate, Next, Origin, eventually, get, simple};

/// [`simple`] with these keys on its listener and on its route.
fn config(origin: &Origin, listener: &str, route: &str) -> String {
    simple(&[origin]).replace("[listener.http]", &format!("[listener.http]\n{listener}"))
        + &format!("\n{route}\n")
}

fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n")
}

/// The statuses of so many requests with this header, each on a connection of its own.
fn statuses(address: SocketAddr, count: usize, header: &str) -> Vec<u16> {
    let status = |_| {
        let mut connection = Connection::open(address);
        connection.send(format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\n{header}Connection: close\r\n\r\n"
        ));
        connection.reply().status
    };
    (0..count).map(status).collect()
}

#[test]
fn more_than_the_rate_is_429_and_told_when_to_come_again() {
    let origin = Origin::named("a");
    let rate = "limits = { rate = { requests = 1, per = \"1h\", burst = 3 } }";
    let balancer = Balancer::start(&config(&origin, "", rate));
    // Each connection may be another worker's.
    assert_eq!(statuses(balancer.http(), 5, ""), [200, 200, 200, 429, 429]);
    let reply = get(balancer.http(), "/");
    reply.assert_made_by_balancer(429);
    let seconds: u32 = reply.field("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    assert_eq!(origin.request_count(), 3);
    let metrics = balancer.metrics();
    let refused = metrics.sum("balancer_errors_total", &[("reason", "rate_limited")]);
    assert_eq!(refused, 3.0);
    // Keep-alive goes on: the client did nothing that cannot be understood.
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/").status, 429);
    assert_eq!(connection.get("/").status, 429);
}

#[test]
fn after_a_while_there_may_be_another() {
    let origin = Origin::named("a");
    let rate = "limits = { rate = { requests = 1, per = \"2s\" } }";
    let balancer = Balancer::start(&config(&origin, "", rate));
    eventually("one is refused", || get(balancer.http(), "/").status == 429);
    eventually("one is served again", || {
        get(balancer.http(), "/").status == 200
    });
}

#[test]
fn clients_are_told_apart_by_the_address_that_a_trusted_proxy_names() {
    let origin = Origin::named("a");
    let rate = "limits = { rate = { requests = 1, per = \"1h\" } }";
    let trusting = "trusted_proxies = [\"127.0.0.1\"]";
    let balancer = Balancer::start(&config(&origin, trusting, rate));
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1"] {
        let named = format!("X-Forwarded-For: {client}\r\n");
        assert_eq!(statuses(balancer.http(), 2, &named), [200, 429], "{client}");
    }
    let neighbour = "X-Forwarded-For: 2001:db8:0:1::2\r\n";
    assert_eq!(statuses(balancer.http(), 1, neighbour), [429]);
}

#[test]
fn untrusted_fields_do_not_make_another_client() {
    let origin = Origin::named("a");
    let rate = "limits = { rate = { requests = 1, per = \"1h\" } }";
    let balancer = Balancer::start(&config(&origin, "", rate));
    assert_eq!(statuses(balancer.http(), 1, ""), [200]);
    let forged = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(statuses(balancer.http(), 1, forged), [429]);
}

#[test]
fn a_key_in_a_header_has_a_rate_of_its_own() {
    let origin = Origin::named("a");
    let rate = "limits = { rate = { requests = 1, per = \"1h\", key = \"header:X-Api-Key\" } }";
    let balancer = Balancer::start(&config(&origin, "", rate));
    for key in ["X-Api-Key: one\r\n", "X-Api-Key: two\r\n", ""] {
        assert_eq!(statuses(balancer.http(), 2, key), [200, 429], "{key}");
    }
}

#[test]
fn a_reload_forgets_nothing_of_a_rate_that_stays() {
    let origin = Origin::named("a");
    let rate = "limits = { rate = { requests = 1, per = \"1h\", key = \"route\" } }";
    let file = config(&origin, "", rate);
    let balancer = Balancer::start(&file);
    assert_eq!(statuses(balancer.http(), 2, ""), [200, 429]);
    balancer.reloaded(&file);
    assert_eq!(statuses(balancer.http(), 1, ""), [429]);
    balancer.reloaded(&file.replace("requests = 1", "requests = 2"));
    assert_eq!(statuses(balancer.http(), 1, ""), [200]);
}

#[test]
fn a_route_has_no_more_in_flight_than_it_may() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with("a", move |exchange| {
        held.wait();
        exchange.respond_with_name()
    });
    let other = "limits = { in_flight = 2 }\n[[route]]\npath = \"/other\"\nrespond = {}";
    let file = config(&origin, "", other);
    let balancer = Balancer::start(&file);
    let mut held: Vec<_> = (0..2)
        .map(|_| {
            let mut connection = Connection::open(balancer.http());
            connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            connection
        })
        .collect();
    eventually("two are in flight", || origin.request_count() == 2);
    let reply = get(balancer.http(), "/");
    reply.assert_made_by_balancer(503);
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert_eq!(get(balancer.http(), "/other").status, 200);
    // Those that are in flight count under a new configuration.
    balancer.reloaded(&file);
    assert_eq!(get(balancer.http(), "/").status, 503);
    gate.open();
    for connection in &mut held {
        assert_eq!(connection.reply().status, 200);
    }
    eventually("places are free", || {
        get(balancer.http(), "/").status == 200
    });
    let metrics = balancer.metrics();
    let refused = metrics.sum("balancer_errors_total", &[("reason", "route_full")]);
    assert!(refused >= 2.0, "{refused}");
}

#[test]
fn a_client_that_leaves_gives_back_its_place_on_the_route() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with("a", move |exchange| {
        if exchange.target() == "/held" {
            held.wait();
        }
        exchange.respond_with_name()
    });
    let balancer = Balancer::start(&config(&origin, "", "limits = { in_flight = 1 }"));
    let mut leaving = Connection::open(balancer.http());
    leaving.send(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually("it is in flight", || origin.request_count() == 1);
    assert_eq!(get(balancer.http(), "/").status, 503);
    drop(leaving);
    eventually("its place is free", || {
        get(balancer.http(), "/").status == 200
    });
    gate.open();
}

#[test]
fn a_route_takes_larger_or_smaller_bodies_than_its_listener() {
    let origin = Origin::named("a");
    let routes = "limits = { body_bytes = \"2KiB\" }\n[[route]]\npath = \"/small\"\nupstream = \"app\"\nlimits = { body_bytes = \"512B\" }\n[[route]]\npath = \"/plain\"\nupstream = \"app\"";
    let listener = "limits = { body_bytes = \"1KiB\" }";
    let balancer = Balancer::start(&config(&origin, listener, routes));
    for (path, most) in [("/", 2048), ("/small", 512), ("/plain", 1024)] {
        let mut connection = Connection::open(balancer.http());
        connection.send(post(path, most) + &"x".repeat(most));
        assert_eq!(connection.reply().status, 200, "{path}");
        connection.send(post(path, most + 1));
        connection.reply().assert_made_by_balancer(413);
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n",
            most + 1,
            "x".repeat(most + 1)
        ));
        assert_eq!(connection.reply().status, 413, "{path}, streamed");
    }
}

#[test]
fn a_client_has_no_more_connections_than_it_may() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &origin,
        "limits = { connections_per_client = 3 }",
        "",
    ));
    let mut open: Vec<_> = (0..3).map(|_| Connection::open(balancer.http())).collect();
    for connection in &mut open {
        assert_eq!(connection.get("/").status, 200);
    }
    assert!(Connection::open(balancer.http()).is_closed_by_peer());
    let refused = "balancer_connections_refused_total";
    assert_eq!(balancer.metrics().sum(refused, &[]), 1.0);
    open.pop();
    eventually("one that ends makes room", || {
        let mut connection = Connection::open(balancer.http());
        connection
            .try_send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
            .is_ok()
            && connection
                .try_reply("GET")
                .is_ok_and(|reply| reply.status == 200)
    });
    assert_eq!(open[0].get("/").status, 200);
}

#[test]
fn behind_the_proxy_protocol_its_clients_are_counted() {
    let origin = Origin::named("a");
    let keys = "proxy_protocol = \"required\"\nproxy_protocol_from = [\"127.0.0.1\"]\nlimits = { connections_per_client = 1 }";
    let balancer = Balancer::start(&config(&origin, keys, ""));
    let from = |client: &str| {
        let mut connection = Connection::over(connect(balancer.http()).unwrap());
        connection.send(format!(
            "PROXY TCP4 {client} 192.0.2.9 1 80\r\nGET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        ));
        connection
    };
    let mut one = from("192.0.2.1");
    assert_eq!(one.reply().status, 200);
    assert!(from("192.0.2.1").is_closed_by_peer());
    let mut other = from("192.0.2.2");
    assert_eq!(other.reply().status, 200);
    drop(one);
    eventually("its place is free", || {
        from("192.0.2.1")
            .try_reply("GET")
            .is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn a_connection_ends_with_its_last_request() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &origin,
        "limits = { requests_per_connection = 3 }",
        "",
    ));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..2 {
        assert_eq!(connection.get("/").field("connection"), None);
    }
    let last = connection.get("/");
    assert_eq!(
        (last.status, last.field("connection")),
        (200, Some("close"))
    );
    assert!(connection.is_closed_by_peer());
}

#[test]
fn a_connection_that_is_too_old_ends_with_its_next_response() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "timeouts = { max_age = \"300ms\" }", ""));
    let begun = Instant::now();
    let mut connection = Connection::open(balancer.http());
    while connection.get("/").field("connection") != Some("close") {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never ends");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(connection.is_closed_by_peer());
}

#[test]
fn an_http_2_connection_ends_with_its_last_request_too() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let tls = "tls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let listener = format!("{tls}\nlimits = {{ requests_per_connection = 3 }}");
    let balancer = Balancer::start_with(&config(&origin, &listener, ""), |directory| {
        authority.issue(&[HOST]).write(directory, "server");
    });
    let connection = H2::connect(balancer.http(), &Tls::new(&authority, HOST));
    for _ in 0..3 {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    eventually("the connection ends", || connection.is_closed());
    assert_eq!(origin.request_count(), 3);
}

#[test]
fn a_body_that_trickles_is_408() {
    let origin = Origin::with("a", |exchange| {
        exchange.body();
        Next::Close
    });
    let slow = "timeouts = { body_rate = \"1KiB\", body_grace = \"300ms\" }";
    let balancer = Balancer::start(&config(&origin, slow, ""));
    let begun = Instant::now();
    let mut connection = Connection::open(balancer.http());
    connection.send(post("/", 10_000));
    let mut socket = connection.socket();
    let trickling = thread::spawn(move || {
        // No pause is long; they add up.
        while std::io::Write::write_all(&mut socket, b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
            if begun.elapsed() > Duration::from_secs(20) {
                return;
            }
        }
    });
    connection.reply().assert_made_by_balancer(408);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    drop(connection);
    trickling.join().unwrap();
    eventually("the upstream request is aborted", || origin.open() == 0);
    assert!(!origin.last_request().body.expect("it was read").complete);
}

#[test]
fn a_whole_request_has_a_deadline() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with("a", move |exchange| {
        match exchange.target() {
            "/silent" => held.wait(),
            "/endless" => {
                let _ = exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while exchange.write("1\r\nx\r\n").is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
                return Next::Close;
            }
            "/stalls" => {
                let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
                held.wait();
                return Next::Close;
            }
            _ => true,
        };
        exchange.respond_with_name()
    });
    let balancer = Balancer::start(&config(&origin, "", "timeouts = { request = \"1500ms\" }"));
    assert_eq!(get(balancer.http(), "/quick").status, 200);
    get(balancer.http(), "/silent").assert_made_by_balancer(504);
    for path in ["/endless", "/stalls"] {
        let reply = get(balancer.http(), path);
        assert_eq!(reply.status, 200);
        assert!(!reply.body.complete, "{path}");
    }
    eventually("they are counted", || {
        let metrics = balancer.metrics();
        metrics.sum("balancer_errors_total", &[("reason", "request_timeout")]) == 3.0
    });
    eventually("nothing is left in flight", || {
        balancer.endpoint("app", &origin.address().to_string())["in_flight"] == 0
    });
    gate.open();
}

#[test]
fn regression_clients_that_read_slowly_are_no_failures_of_an_endpoint() {
    let long = "x".repeat(64 << 20);
    let origin = Origin::with("a", move |exchange| exchange.respond(200, &[], &long));
    let balancer = Balancer::start(&config(&origin, "", "timeouts = { request = \"500ms\" }"));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut socket = connection.socket();
    let mut some = [0; 64 << 10];
    let begun = Instant::now();
    while std::io::Read::read(&mut socket, &mut some).is_ok_and(|read| read > 0) {
        thread::sleep(Duration::from_millis(5));
        assert!(begun.elapsed() < DEADLINE, "it is cut");
    }
    let late = [("reason", "request_timeout")];
    eventually("it is counted", || {
        balancer.metrics().sum("balancer_errors_total", &late) == 1.0
    });
    assert_eq!(
        balancer
            .metrics()
            .sum("balancer_upstream_failures_total", &late),
        0.0
    );
}

#[test]
fn the_timeouts_of_a_route_come_before_those_of_its_upstream() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with("a", move |exchange| {
        if exchange.target().ends_with("/stalls") {
            let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
        }
        held.wait();
        Next::Close
    });
    let route = "timeouts = { response_head = \"1s\", stream_idle = \"200ms\" }";
    let balancer = Balancer::start(&config(&origin, "", route));
    get(balancer.http(), "/silent").assert_made_by_balancer(504);
    let reply = get(balancer.http(), "/stalls");
    assert!(reply.status == 200 && !reply.body.complete);
    let metrics = balancer.metrics();
    for reason in ["response_timeout", "response_idle"] {
        let count = metrics.sum("balancer_errors_total", &[("reason", reason)]);
        assert_eq!(count, 1.0, "{reason}");
    }
    gate.open();
}
