//! On listeners.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{LOCAL, UNKNOWN, v1, v2, v2_of};
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls, connect};
use crate::support::h2::H2;
use crate::support::{Balancer, Connection, Origin, eventually, eventually_some, get, simple};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
const REJECTED: &str = "balancer_proxy_protocol_rejected_total";

/// The plain configuration with a header required from `networks`, and `more` keys.
fn required_from(networks: &str, more: &str, origin: &Origin) -> String {
    simple(&[origin]).replace(
        "[listener.http]",
        &format!(
            "[listener.http]\nproxy_protocol = \"required\"\nproxy_protocol_from = [{networks}]\n{more}"
        ),
    )
}

fn required(more: &str, origin: &Origin) -> String {
    required_from("\"127.0.0.0/8\"", more, origin)
}

/// A listener `https` with a header required, beside the plain one without.
fn start_secure(origin: &Origin, authority: &Authority, more: &str) -> Balancer {
    let config = format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n{more}\nproxy_protocol = \"required\"\nproxy_protocol_from = [\"127.0.0.1\"]\n\
         tls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}] }}\n{}",
        simple(&[origin])
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
    })
}

/// A connection on which these bytes were sent.
fn connection_with(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address).unwrap();
    let _ = stream.write_all(bytes);
    stream
}

/// What the last request said of its client: address and port asked at.
fn client_seen(origin: &Origin) -> (String, String) {
    let head = origin.last_request().head;
    let field = |name| head.field(name).unwrap_or_default().to_owned();
    (field("x-forwarded-for"), field("x-forwarded-port"))
}

fn rejected(balancer: &Balancer, listener: &str, reason: &str) -> f64 {
    let labels = [("listener", listener), ("reason", reason)];
    balancer
        .metrics()
        .find(REJECTED, &labels)
        .expect("the series is there from the start")
}

/// Headers of both versions and families, with the client and the port that they name.
fn headers() -> [(Vec<u8>, &'static str, &'static str); 5] {
    let with_values = [
        &[192, 0, 2, 1, 198, 51, 100, 2, 0, 1, 0x01, 0xbb][..],
        &[2, 0, 8],
        b"app.test",
        &[4, 0, 0],
    ];
    [
        (
            v1("192.0.2.1:56324", "198.51.100.2:443"),
            "192.0.2.1",
            "443",
        ),
        (
            v1("[2001:db8::1]:1", "[2001:db8::2]:8443"),
            "2001:db8::1",
            "8443",
        ),
        (
            v2("192.0.2.9:56324", "198.51.100.2:444"),
            "192.0.2.9",
            "444",
        ),
        (
            v2("[2001:db8::9]:1", "[2001:db8::2]:65535"),
            "2001:db8::9",
            "65535",
        ),
        (v2_of(0x11, &with_values.concat()), "192.0.2.1", "443"),
    ]
}

#[test]
fn header_says_who_the_client_is() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&required("", &origin));
    for (header, client, port) in headers() {
        let mut connection = Connection::open(balancer.http());
        // Header and request in one segment, then a further request on the same connection.
        for request in [&[&header[..], GET].concat(), GET] {
            connection.send(request);
            assert_eq!(connection.reply().text(), "a");
            assert_eq!(client_seen(&origin), (client.to_owned(), port.to_owned()));
        }
    }
}

#[test]
fn header_comes_before_tls() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start_secure(&origin, &authority, "");
    let (address, tls) = (balancer.address("https"), Tls::new(&authority, HOST));
    for (header, client, port) in headers() {
        let expected = (client.to_owned(), port.to_owned());
        let stream = tls.over(connection_with(address, &header)).unwrap();
        assert_eq!(Connection::over(stream).get("/").text(), "a");
        assert_eq!(client_seen(&origin), expected);
        let http2 = H2::over(connection_with(address, &header), &tls);
        assert_eq!(http2.get("/").unwrap().text(), "a");
        assert_eq!(client_seen(&origin), expected);
    }
    assert_eq!(
        get(balancer.http(), "/").status,
        200,
        "the other listener takes none"
    );
}

#[test]
fn header_may_come_in_pieces() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start_secure(&origin, &authority, "");
    let config = required("", &origin);
    let plain = Balancer::start(&config);
    let tls = Tls::new(&authority, HOST);
    for (header, client, port) in headers() {
        let expected = (client.to_owned(), port.to_owned());
        for size in [1, 7, 16, header.len() - 1] {
            let in_pieces = |address| {
                let mut stream = connect(address).unwrap();
                for piece in header.chunks(size) {
                    stream.write_all(piece).unwrap();
                    thread::yield_now();
                }
                stream
            };
            let mut connection = Connection::over(in_pieces(plain.http()));
            assert_eq!(connection.get("/").text(), "a");
            assert_eq!(client_seen(&origin), expected);
            let stream = tls.over(in_pieces(balancer.address("https"))).unwrap();
            assert_eq!(Connection::over(stream).get("/").text(), "a");
            assert_eq!(client_seen(&origin), expected);
        }
    }
}

#[test]
fn header_without_addresses_leaves_the_connections_own() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&required("", &origin));
    let own = ("127.0.0.1".to_owned(), balancer.http().port().to_string());
    for header in [
        LOCAL,
        UNKNOWN,
        b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n",
        &v2_of(0x00, b"anything"),
        &v2_of(0x12, &[1; 12]),
    ] {
        let mut connection = Connection::open(balancer.http());
        connection.send([header, GET].concat());
        assert_eq!(connection.reply().status, 200, "{header:?}");
        assert_eq!(client_seen(&origin), own, "{header:?}");
    }
}

#[test]
fn connection_without_a_valid_header_is_closed_without_a_reply() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&required("", &origin));
    let mut long = b"PROXY UNKNOWN ".to_vec();
    long.resize(200, b'x');
    let checked = [1, 1, 1, 1, 2, 2, 2, 2, 0, 1, 0, 2, 3, 0, 4, 0, 0, 0, 0];
    let invalid: [&[u8]; 9] = [
        GET,
        b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n",
        &[b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", GET].concat(),
        &long,
        &v2_of(0x11, &[0; 11]),
        &v2_of(0x11, &[0; 5000]),
        &v2_of(0x11, &checked),
        &v2_of(0x77, &[]),
    ];
    for bytes in invalid {
        let mut connection = Connection::open(balancer.http());
        connection.send(bytes);
        assert!(connection.is_closed_by_peer(), "{bytes:?}");
    }
    // Half a header, and no more to come.
    let mut connection = Connection::open(balancer.http());
    connection.send(&v2("192.0.2.1:1", "192.0.2.2:2")[..20]);
    connection.finish_sending();
    assert!(connection.is_closed_by_peer());
    let expected = invalid.len() as f64 + 1.0;
    eventually("all are counted", || {
        rejected(&balancer, "http", "malformed") == expected
    });
    // Who only looks whether the port is open has done no wrong.
    let mut connection = Connection::open(balancer.http());
    connection.finish_sending();
    assert!(connection.is_closed_by_peer());
    assert_eq!(rejected(&balancer, "http", "malformed"), expected);
    assert_eq!(origin.request_count(), 0);
    let metrics = balancer.metrics();
    assert_eq!(metrics.sum("balancer_requests_total", &[]), 0.0);
    assert_eq!(metrics.sum("balancer_connections_total", &[]), 0.0);
}

#[test]
fn connection_on_which_no_header_comes_is_closed_in_time() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let timeouts = "timeouts = { handshake = \"300ms\" }";
    let balancer = start_secure(&origin, &authority, timeouts);
    let header = v2("192.0.2.1:1", "192.0.2.2:2");
    for bytes in [&b""[..], b"P", b"PROXY TCP4 ", &header[..27]] {
        let mut connection = Connection::open(balancer.address("https"));
        connection.send(bytes);
        assert!(connection.is_closed_by_peer(), "{bytes:?}");
    }
    assert_eq!(rejected(&balancer, "https", "timeout"), 4.0);
    // With a header, it is the handshake that does not come.
    let mut connection = Connection::open(balancer.address("https"));
    connection.send(&header);
    assert!(connection.is_closed_by_peer());
    handshake_timed_out(&balancer);
    assert_eq!(balancer.metrics().sum(REJECTED, &[]), 4.0);
}

/// Waits until one handshake on `https` is counted as not finished in time.
#[track_caller]
fn handshake_timed_out(balancer: &Balancer) {
    let labels = [("listener", "https"), ("result", "timeout")];
    eventually("the handshake is counted", || {
        let metrics = balancer.metrics();
        metrics.sum("balancer_tls_handshakes_total", &labels) == 1.0
    });
}

#[test]
fn header_and_handshake_share_their_time() {
    const LIMIT: Duration = Duration::from_secs(3);
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let timeouts = "timeouts = { handshake = \"3s\" }";
    let balancer = start_secure(&origin, &authority, timeouts);
    let begun = Instant::now();
    let mut connection = Connection::open(balancer.address("https"));
    // What a slow sender uses up for its header is gone for the handshake.
    thread::sleep(LIMIT * 2 / 3);
    connection.send(v1("192.0.2.1:1", "192.0.2.2:2"));
    assert!(connection.is_closed_by_peer());
    assert!(begun.elapsed() < LIMIT * 3 / 2, "{:?}", begun.elapsed());
    handshake_timed_out(&balancer);
}

#[test]
fn source_that_is_not_listed_is_closed_whatever_it_sends() {
    let origin = Origin::named("a");
    let networks = "\"192.0.2.0/24\", \"127.0.0.2\", \"::1\"";
    let log = "\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
    let balancer = Balancer::start(&(required_from(networks, "", &origin) + log));
    let header = v1("192.0.2.1:1", "192.0.2.2:2");
    for bytes in [&[&header[..], GET].concat()[..], GET, b""] {
        let mut connection = Connection::open(balancer.http());
        connection.send(bytes);
        assert!(connection.is_closed_by_peer());
    }
    assert_eq!(rejected(&balancer, "http", "source"), 3.0);
    assert_eq!(origin.request_count(), 0);
    let event = eventually_some("it is logged", || {
        balancer.events("no PROXY protocol header").pop()
    });
    assert_eq!(event["listener"], "http");
    assert_eq!(event["reason"], "not in proxy_protocol_from");

    // One that is.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let source: SocketAddr = "127.0.0.2:0".parse().unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&balancer.http().into()).unwrap();
    let mut connection = Connection::over(TcpStream::from(socket));
    connection.send([&header[..], GET].concat());
    assert_eq!(connection.reply().status, 200);
    assert_eq!(client_seen(&origin).0, "192.0.2.1");
}

#[test]
fn ipv4_sender_is_recognised_on_a_listener_for_both_families() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        eprintln!("SKIPPED: no IPv6 here: {error}");
        return;
    }
    let origin = Origin::named("a");
    let networks = "\"127.0.0.1\"";
    let config = required_from(networks, "", &origin).replacen("127.0.0.1:0", "[::]:0", 1);
    let balancer = Balancer::start(&config);
    let port = balancer.http().port();
    for header in [v1("192.0.2.1:1", "192.0.2.2:2"), LOCAL.to_vec()] {
        let stream = connection_with(SocketAddr::from(([127, 0, 0, 1], port)), &header);
        assert_eq!(Connection::over(stream).get("/").status, 200);
    }
    assert_eq!(
        client_seen(&origin),
        ("127.0.0.1".to_owned(), port.to_string())
    );
    let stream = connection_with(format!("[::1]:{port}").parse().unwrap(), LOCAL);
    assert!(Connection::over(stream).is_closed_by_peer());
    assert_eq!(rejected(&balancer, "http", "source"), 1.0);
}

#[test]
fn address_in_the_header_is_the_peer_of_trusted_proxies_and_access_log() {
    let origin = Origin::named("a");
    // The sender of the header is in both lists: that it may say who the client is does not make the client trusted.
    let trusted = "trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.0/8\"]";
    let log = "\n[access_log]\ntarget = \"stdout\"\n";
    let balancer = Balancer::start(&(required(trusted, &origin) + log));
    let local = LOCAL.to_vec();
    for (number, (header, sent, client)) in [
        (v1("192.0.2.1:1", "192.0.2.2:2"), "192.0.2.1", "192.0.2.1"),
        (
            v2("10.0.0.1:1", "192.0.2.2:2"),
            "203.0.113.9, 10.0.0.1",
            "203.0.113.9",
        ),
        (local, "203.0.113.9, 127.0.0.1", "203.0.113.9"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut connection = Connection::open(balancer.http());
        let request = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
        connection.send([&header[..], request.as_bytes()].concat());
        assert_eq!(connection.reply().status, 200);
        assert_eq!(client_seen(&origin).0, sent);
        let line = eventually_some("it is logged", || balancer.output().get(number).cloned());
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["client"], client);
    }
}

#[test]
fn listener_that_requires_none_takes_none() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for (header, ..) in headers() {
        let mut connection = Connection::open(balancer.http());
        connection.send([&header[..], GET].concat());
        assert_eq!(connection.reply().status, 400, "{header:?}");
    }
    assert_eq!(origin.request_count(), 0);
}

#[test]
fn every_worker_reads_headers_of_what_is_handed_to_it() {
    let origin = Origin::named("a");
    let config = required("", &origin) + "\n[process]\nworkers = 3\n";
    let balancer = Balancer::start(&config);
    let mut connections: Vec<_> = (1..=40)
        .map(|number| {
            let mut connection = Connection::open(balancer.http());
            let source = format!("192.0.2.{number}:1");
            connection.send([&v2(&source, "192.0.2.200:2")[..], GET].concat());
            (number, connection)
        })
        .collect();
    for (_, connection) in &mut connections {
        assert_eq!(connection.reply().status, 200);
    }
    for (number, connection) in &mut connections {
        assert_eq!(connection.get("/").status, 200);
        let expected = format!("192.0.2.{number}");
        assert_eq!(client_seen(&origin).0, expected);
    }
}

#[test]
fn reload_decides_for_connections_that_come_after_it() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut before = Connection::open(balancer.http());
    assert_eq!(before.get("/").status, 200);
    balancer.reloaded(&required("", &origin));
    assert_eq!(before.get("/").status, 200);
    assert_eq!(client_seen(&origin).0, "127.0.0.1");
    let mut after = Connection::open(balancer.http());
    after.send(GET);
    assert!(after.is_closed_by_peer());
    let mut after = Connection::open(balancer.http());
    after.send([&v1("192.0.2.1:1", "192.0.2.2:2")[..], GET].concat());
    assert_eq!(after.reply().status, 200);
    assert_eq!(client_seen(&origin).0, "192.0.2.1");
}
