//! Tunnels: WebSocket over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), and other protocols where a route allows them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use balancer::message::upgrade::websocket_accept;
use rustix::process::Signal;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Frames, H2};
use crate::support::http1::Head;
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get};

/// Echoes over WebSocket, `/slow` only when the gate opens; says no to others.
fn echo_when(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::with("a", move |exchange| {
        if exchange.target() == "/slow" {
            gate.wait();
        }
        match (exchange.head.field("upgrade"), exchange.target()) {
            (Some("websocket"), "/no") => exchange.respond(426, &[("Upgrade", "other")], "no"),
            (Some("websocket"), "/plain") => exchange.respond(200, &[], "as if nothing was asked"),
            (Some("websocket"), "/liar") => exchange.write_then(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: eHh4\r\n\r\n",
                Next::Keep,
            ),
            (Some("websocket"), "/other") => exchange.write_then(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
                Next::Keep,
            ),
            (Some("websocket"), _) => exchange.echo(),
            _ => exchange.respond_with_name(),
        }
    })
}

fn echo() -> Origin {
    let gate = Gate::new();
    gate.open();
    echo_when(&gate)
}

fn config(origin: &Origin, listener: &str, upstream: &str, route: &str) -> String {
    format!(
        "[access_log]\ntarget = \"access.log\"\n[process]\nshutdown_grace = \"3s\"\n\
         [listener.http]\naddress = \"127.0.0.1:0\"\n{listener}\n\
         [upstream.app]\nendpoints = [\"{}\"]\n{upstream}\n[[route]]\nupstream = \"app\"\n{route}\n\
         [admin]\naddress = \"127.0.0.1:0\"\n",
        origin.address()
    )
}

fn start(origin: &Origin) -> Balancer {
    Balancer::start(&config(origin, "", "", ""))
}

const TLS: &str = "tls = { certificates = [{ chain = \"leaf.pem\", key = \"leaf.key\" }] }";

fn start_secure(origin: &Origin, upstream: &str, route: &str) -> (Balancer, Tls) {
    let authority = Authority::new("test");
    let leaf = authority.issue(&[HOST]);
    let balancer = Balancer::start_with(&config(origin, TLS, upstream, route), |folder| {
        leaf.write(folder, "leaf");
    });
    (balancer, Tls::new(&authority, HOST))
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The head of the 101 that comes next.
fn await_101(connection: &mut Connection) -> Head {
    let head = connection.head().unwrap();
    assert!(head.start.starts_with("HTTP/1.1 101 "), "{head:?}");
    head
}

/// Opens a tunnel to an echo.
fn open(balancer: &Balancer) -> Connection {
    let mut connection = Connection::open(balancer.http());
    connection.send(request("/chat"));
    await_101(&mut connection);
    connection
}

fn assert_echoes(connection: &mut Connection, word: &str) {
    connection.send(word);
    let mut heard = vec![0; word.len()];
    connection.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word.as_bytes());
}

fn tunnels(balancer: &Balancer) -> f64 {
    balancer.metrics().sum(
        "balancer_tunnels",
        &[("endpoint", &balancer_endpoint(balancer))],
    )
}

fn balancer_endpoint(balancer: &Balancer) -> String {
    balancer.status()["upstreams"][0]["endpoints"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn in_flight(balancer: &Balancer) -> u64 {
    balancer.status()["upstreams"][0]["endpoints"][0]["in_flight"]
        .as_u64()
        .unwrap()
}

fn access_log(balancer: &Balancer) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(balancer.directory().join("access.log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn websocket_passes_both_ways_after_101() {
    let origin = echo();
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    connection.send(request("/chat?x=1"));
    let head = await_101(&mut connection);
    assert_eq!(head.all("upgrade"), ["websocket"]);
    assert_eq!(head.all("connection"), ["upgrade"]);
    // RFC 6455 §1.3: what the endpoint has made of the client's key.
    assert_eq!(
        head.field("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    let asked = origin.last_request().head;
    assert_eq!(asked.start, "GET /chat?x=1 HTTP/1.1");
    assert_eq!(asked.all("upgrade"), ["websocket"]);
    assert_eq!(asked.all("connection"), ["upgrade"]);
    assert_eq!(asked.field("sec-websocket-version"), Some("13"));
    assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
    for word in ["hello", "\0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", "bye"] {
        assert_echoes(&mut connection, word);
    }
    connection.finish_sending();
    assert_eq!(connection.rest(), b"");
    eventually("the endpoint is left", || origin.open() == 0);
    eventually("it is logged", || access_log(&balancer).len() == 1);
    let line = &access_log(&balancer)[0];
    assert_eq!(
        (&line["status"], &line["who"]),
        (&101.into(), &"upstream".into())
    );
    assert_eq!(line["request_bytes"], 32);
    assert_eq!(line["response_bytes"], 32);
}

#[test]
fn websocket_passes_over_tls() {
    let origin = echo();
    let (balancer, tls) = start_secure(&origin, "", "");
    let mut connection = Connection::secure(balancer.http(), &tls).unwrap();
    connection.send(request("/"));
    await_101(&mut connection);
    for _ in 0..3 {
        assert_echoes(&mut connection, "hello");
    }
}

#[test]
fn tunnel_counts_as_in_flight_until_it_ends() {
    let origin = echo();
    let balancer = start(&origin);
    let connection = open(&balancer);
    assert_eq!((tunnels(&balancer), in_flight(&balancer)), (1.0, 1));
    connection.abort();
    eventually("it has ended", || {
        (tunnels(&balancer), in_flight(&balancer)) == (0.0, 0)
    });
    eventually("the endpoint is left", || origin.open() == 0);
}

#[test]
fn route_without_upgrades_passes_an_ordinary_request() {
    let origin = echo();
    let balancer = Balancer::start(&config(&origin, "", "", "upgrades = []"));
    let mut connection = Connection::open(balancer.http());
    connection.send(request("/"));
    assert_eq!(connection.reply().status, 200);
    let asked = origin.last_request().head;
    assert_eq!(
        (asked.has("upgrade"), asked.has("connection")),
        (false, false)
    );
}

#[test]
fn other_protocols_need_a_route_that_allows_them() {
    let origin = Origin::with("a", |exchange| match exchange.head.field("upgrade") {
        Some("chess/2") => {
            let _ = exchange.write(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chess/2\r\nConnection: Upgrade\r\n\r\ne4",
            );
            exchange.echo_bytes()
        }
        _ => exchange.respond_with_name(),
    });
    let ask = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: go, chess/2\r\n\r\n"
    );
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    connection.send(&ask);
    assert_eq!(connection.reply().status, 200);
    let balancer = Balancer::start(&config(&origin, "", "", "upgrades = [\"chess\"]"));
    let mut connection = Connection::open(balancer.http());
    connection.send(&ask);
    await_101(&mut connection);
    let mut first = [0; 2];
    connection.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"e4", "what came with the 101");
    assert_echoes(&mut connection, "e5");
}

#[test]
fn refusal_passes_and_the_connection_goes_on() {
    let origin = echo();
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    for (path, status) in [("/no", 426), ("/plain", 200)] {
        connection.send(request(path));
        assert_eq!(connection.reply().status, status);
        assert_eq!(connection.get("/").text(), "a");
    }
}

#[test]
fn nothing_passes_before_the_endpoint_has_agreed() {
    let gate = Gate::new();
    let origin = echo_when(&gate);
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    // A second request on the heels of the first: CVE-2026-2833 took it for the other protocol's.
    connection.send(format!(
        "{}GET /second HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        request("/slow").replace("websocket", "nothing")
    ));
    eventually("the first is asked", || origin.request_count() == 1);
    gate.open();
    assert_eq!(connection.reply().status, 200);
    assert_eq!(connection.reply().text(), "a");
    assert_eq!(origin.last_request().target(), "/second");

    // Agreed: then it was the other protocol's.
    let gate = Gate::new();
    let origin = echo_when(&gate);
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    let early = format!("GET /second HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    connection.send(format!("{}{early}", request("/slow")));
    eventually("the first is asked", || origin.request_count() == 1);
    gate.open();
    await_101(&mut connection);
    let mut heard = vec![0; early.len()];
    connection.read_exact(&mut heard).unwrap();
    assert_eq!(heard, early.as_bytes());
    assert_eq!(origin.request_count(), 1);
}

#[test]
fn switch_to_something_else_is_502() {
    let origin = echo();
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    connection.send(request("/other"));
    connection.reply().assert_made_by_balancer(502);
    eventually("the endpoint is left", || origin.open() == 0);
}

#[test]
fn request_with_a_body_is_no_request_for_a_tunnel() {
    let origin = echo();
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    connection.send(request("/").replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nab"));
    assert_eq!(connection.reply().status, 200);
    assert!(!origin.last_request().head.has("upgrade"));
}

#[test]
fn silence_ends_a_tunnel_after_tunnel_idle() {
    let origin = echo();
    let balancer = Balancer::start(&config(
        &origin,
        "",
        "timeouts = { tunnel_idle = \"600ms\" }",
        "",
    ));
    let mut connection = open(&balancer);
    let begun = Instant::now();
    for _ in 0..4 {
        // The pace is what is tested: a word begins the time anew.
        thread::sleep(Duration::from_millis(250));
        assert_echoes(&mut connection, "still here");
    }
    assert!(begun.elapsed() > Duration::from_millis(900));
    assert!(connection.is_closed_by_peer());
    eventually("the endpoint is left", || origin.open() == 0);
    eventually("it is logged", || access_log(&balancer).len() == 1);
    assert_eq!(access_log(&balancer)[0]["reason"], "tunnel_idle");
}

#[test]
fn tunnel_of_a_removed_endpoint_goes_on() {
    let (old, new) = (echo(), echo());
    let balancer = start(&old);
    let mut connection = open(&balancer);
    balancer.reloaded(&config(&new, "", "", "upgrades = []"));
    assert_echoes(&mut connection, "hello");
    assert_eq!(get(balancer.http(), "/").status, 200);
    assert_eq!(new.request_count(), 1);
}

#[test]
fn shutdown_lets_tunnels_go_on_until_the_grace_ends() {
    let origin = echo();
    let mut balancer = start(&origin);
    let mut connection = open(&balancer);
    balancer.signal(Signal::TERM);
    eventually("new connections are refused", || {
        Connection::try_open(balancer.http()).is_err()
    });
    assert_echoes(&mut connection, "hello");
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert!(connection.is_closed_by_peer());
}

#[test]
fn shutdown_does_not_wait_once_the_last_tunnel_has_ended() {
    let origin = echo();
    let long = config(&origin, "", "", "").replace("\"3s\"", "\"60s\"");
    let mut balancer = Balancer::start(&long);
    let connection = open(&balancer);
    balancer.signal(Signal::TERM);
    eventually("new connections are refused", || {
        Connection::try_open(balancer.http()).is_err()
    });
    let begun = Instant::now();
    connection.abort();
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn endpoint_that_breaks_off_breaks_the_tunnel() {
    let origin = echo();
    let balancer = start(&origin);
    let mut connection = open(&balancer);
    assert_echoes(&mut connection, "hello");
    origin.close_connections(Next::Reset);
    assert!(connection.is_closed_by_peer());
    eventually("it has ended", || in_flight(&balancer) == 0);
}

#[test]
fn much_passes_whole_at_the_pace_of_the_slower() {
    const MUCH: usize = 8 << 20;
    let origin = echo();
    let balancer = start(&origin);
    let mut connection = open(&balancer);
    let mut socket = connection.socket();
    let writer = thread::spawn(move || {
        let data: Vec<u8> = (0..MUCH).map(|index| (index / 7) as u8).collect();
        Write::write_all(&mut socket, &data).unwrap();
    });
    let mut heard = vec![0; MUCH];
    connection.read_exact(&mut heard).unwrap();
    writer.join().unwrap();
    assert!(
        heard
            .iter()
            .enumerate()
            .all(|(index, byte)| *byte == (index / 7) as u8)
    );
}

#[test]
fn websocket_passes_over_http_2() {
    let origin = echo();
    let (balancer, tls) = start_secure(&origin, "", "");
    let client = H2::connect(balancer.http(), &tls);
    let (status, tunnel) = client.tunnel("websocket", "/chat?x=1");
    assert_eq!(status, 200);
    let mut tunnel = tunnel.unwrap();
    let asked = origin.last_request().head;
    assert_eq!(asked.start, "GET /chat?x=1 HTTP/1.1");
    assert_eq!(asked.field("host"), Some(HOST));
    assert_eq!(asked.all("upgrade"), ["websocket"]);
    assert_eq!(asked.all("connection"), ["upgrade"]);
    assert_eq!(asked.field("sec-websocket-key").map(str::len), Some(24));
    assert_eq!(asked.field("origin"), Some("https://page.test"));
    // Requests and tunnels share the connection.
    for word in [&b"hello"[..], b"bye"] {
        tunnel.send(word);
        let mut heard = vec![0; word.len()];
        tunnel.read_exact(&mut heard);
        assert_eq!(heard, word);
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    assert_eq!(in_flight(&balancer), 1);
    assert_eq!(tunnel.finish(), b"");
    eventually("it has ended", || in_flight(&balancer) == 0);
    assert!(!client.is_closed());
    eventually("it is logged", || {
        access_log(&balancer)
            .iter()
            .any(|line| line["request_bytes"] == 8 && line["response_bytes"] == 8)
    });
}

#[test]
fn http_2_client_that_resets_its_tunnel_leaves_the_endpoint() {
    let origin = echo();
    let (balancer, tls) = start_secure(&origin, "", "");
    let client = H2::connect(balancer.http(), &tls);
    let (_, tunnel) = client.tunnel("websocket", "/");
    assert_eq!(in_flight(&balancer), 1);
    drop(tunnel);
    eventually("it has ended", || in_flight(&balancer) == 0);
    eventually("the endpoint is left", || origin.open() == 0);
}

#[test]
fn regression_tunnels_that_http_2_clients_reset_lived_on_for_a_minute() {
    // An endpoint that does not end when its client has.
    let origin = Origin::with("a", |exchange| {
        let next = exchange.echo();
        thread::sleep(Duration::from_secs(20));
        next
    });
    let (balancer, tls) = start_secure(&origin, "", "");
    for is_whole_connection in [false, true] {
        let mut frames = Frames::open(balancer.http(), &tls);
        for stream in [1, 3, 5] {
            frames.begin_request(
                stream,
                &[
                    (":method", "CONNECT"),
                    (":protocol", "websocket"),
                    (":scheme", "https"),
                    (":path", "/"),
                    (":authority", HOST),
                ],
            );
        }
        eventually("they are open", || in_flight(&balancer) == 3);
        for stream in [1, 3, 5] {
            if !is_whole_connection {
                const CANCEL: [u8; 4] = [0, 0, 0, 8];
                frames
                    .write(Frames::RST_STREAM, 0, stream, &CANCEL)
                    .unwrap();
            }
        }
        if is_whole_connection {
            drop(frames);
        }
        let begun = Instant::now();
        eventually("they have ended", || in_flight(&balancer) == 0);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn bytes_before_the_101_are_not_lost_without_a_word() {
    let gate = Gate::new();
    let origin = echo_when(&gate);
    let balancer = start(&origin);
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("{}no\nhttp\n", request("/slow")));
    eventually("the origin is asked", || origin.request_count() == 1);
    gate.open();
    // Maybe after the 101.
    let _ = connection.head();
    assert!(connection.is_closed_by_peer());
}

#[test]
fn what_shutdown_cuts_is_logged() {
    let origin = echo();
    let mut balancer = start(&origin);
    let mut connection = open(&balancer);
    assert_echoes(&mut connection, "hello");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    let lines = access_log(&balancer);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["path"], "/chat");
}

#[test]
fn headers_of_a_route_are_changed_on_the_way_into_a_tunnel_too() {
    let origin = echo();
    let (balancer, tls) = start_secure(
        &origin,
        "",
        "response_headers = { set = { x-set = \"1\" }, remove = [\"sec-websocket-accept\"] }",
    );
    let mut connection = Connection::secure(balancer.http(), &tls).unwrap();
    connection.send(request("/"));
    let head = await_101(&mut connection);
    assert_eq!(head.field("x-set"), Some("1"));
    assert!(!head.has("sec-websocket-accept"));
}

#[test]
fn length_of_a_101_is_not_passed_on() {
    let origin = Origin::with("a", |exchange| {
        let key = exchange.head.field("sec-websocket-key").unwrap();
        let accept = websocket_accept(&key.parse().unwrap());
        let _ = exchange.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept.to_str().unwrap()
        ));
        exchange.echo_bytes()
    });
    let (balancer, tls) = start_secure(&origin, "", "");
    let mut connection = Connection::secure(balancer.http(), &tls).unwrap();
    connection.send(request("/"));
    assert!(!connection.head().unwrap().has("content-length"));
    assert_echoes(&mut connection, "hello");
}

#[test]
fn fixed_response_is_no_tunnel() {
    let origin = echo();
    let (balancer, tls) = start_secure(
        &origin,
        "",
        "[[route]]\npath = \"/static\"\nrespond = { status = 200 }",
    );
    let client = H2::connect(balancer.http(), &tls);
    assert_eq!(client.tunnel("websocket", "/static").0, 501);
}

#[test]
fn answers_that_are_no_tunnel_are_no_success_over_http_2() {
    let origin = echo();
    let (balancer, tls) = start_secure(&origin, "", "");
    let client = H2::connect(balancer.http(), &tls);
    for (protocol, path, status) in [
        ("websocket", "/no", 426),
        ("websocket", "/plain", 502),
        ("websocket", "/liar", 502),
        ("websocket", "/other", 502),
        ("connect-udp", "/", 501),
    ] {
        assert_eq!(client.tunnel(protocol, path).0, status, "{protocol} {path}");
    }
    let (_, tunnel) = client.tunnel("websocket", "/");
    assert!(tunnel.is_some());
}

#[test]
fn tunnels_are_offered_only_where_a_route_has_them() {
    let origin = echo();
    let (balancer, tls) = start_secure(&origin, "", "upgrades = []");
    assert!(!Frames::open(balancer.http(), &tls).offers_tunnels());
    let (balancer, tls) = start_secure(
        &origin,
        "",
        "upgrades = []\n[[route]]\npath = \"/chat\"\nupstream = \"app\"",
    );
    assert!(Frames::open(balancer.http(), &tls).offers_tunnels());
    let client = H2::connect(balancer.http(), &tls);
    assert_eq!(client.tunnel("websocket", "/").0, 501);
    assert_eq!(client.tunnel("websocket", "/chat").0, 200);
}

#[test]
fn exclusive_paths_are_exclusive_for_tunnels_too() {
    let (app, authority) = (echo(), echo());
    let balancer = Balancer::start(&format!(
        "{}[upstream.authority]\nendpoints = [\"{}\"]\n[[route]]\npath = \"/admin\"\nexclusive = true\nupstream = \"authority\"\n",
        config(&app, "", "", ""),
        authority.address()
    ));
    for (path, status) in [("/admin/ws", 101), ("//admin/ws", 101), ("/ADMIN/ws", 400)] {
        let mut connection = Connection::open(balancer.http());
        connection.send(request(path));
        let head = connection.head().unwrap();
        assert!(
            head.start.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {head:?}"
        );
    }
    assert_eq!((app.request_count(), authority.request_count()), (0, 2));
}

#[test]
fn tunnel_to_an_endpoint_that_expects_the_proxy_protocol() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = endpoint.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
            .unwrap();
        String::from_utf8(asked).unwrap()
    });
    let balancer = Balancer::start(&format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{address}\"]\n\
         proxy_protocol = \"v1\"\n[[route]]\nupstream = \"app\"\n"
    ));
    let mut connection = Connection::open(balancer.http());
    connection.send(request("/"));
    await_101(&mut connection);
    let mut heard = [0; 2];
    connection.read_exact(&mut heard).unwrap();
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
        "{asked}"
    );
    assert!(asked.contains("\r\nconnection: upgrade\r\n"), "{asked}");
}

#[test]
fn idle_tunnels_keep_no_buffers() {
    const COUNT: u64 = 200;
    let origin = Origin::with("a", |exchange| {
        let _ = exchange.echo();
        Next::Close
    });
    let balancer = start(&origin);
    let connections: Vec<_> = (0..20).map(|_| open(&balancer)).collect();
    let before = balancer.resident();
    let more: Vec<_> = (0..COUNT)
        .map(|_| {
            let mut connection = open(&balancer);
            assert_echoes(&mut connection, "hello");
            connection
        })
        .collect();
    let each = balancer.resident().saturating_sub(before) / COUNT;
    assert!(each < 48 << 10, "{each} bytes for each tunnel");
    drop((connections, more));
}
