//! To endpoints.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{LOCAL, UNKNOWN, v1, v2};
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::H2;
use crate::support::{Balancer, Connection, DEADLINE, Refusing, eventually, eventually_some};

/// An endpoint that keeps every byte of every connection, and answers each request on it with 200, whatever comes first.
/// A body it takes for whole when that ends in [`BODY`].
struct Raw {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Raw {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let connections = Arc::clone(&received);
        // Ends with the process: nobody connects to it any more.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = {
                    let mut connections = connections.lock().unwrap();
                    connections.push(Vec::new());
                    connections.len() - 1
                };
                let connections = Arc::clone(&connections);
                thread::spawn(move || {
                    serve(stream, |bytes| {
                        connections.lock().unwrap()[number].extend_from_slice(bytes);
                    })
                });
            }
        });
        Self { address, received }
    }

    /// Every byte of each connection so far.
    fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().clone()
    }

    /// The only connection that brought a request for `path`; what came before the request.
    #[track_caller]
    fn before(&self, path: &str) -> Vec<u8> {
        let request = format!("GET {path} HTTP/1.1\r\n");
        let mut found = self.received().into_iter().filter_map(|bytes| {
            let at = find(&bytes, request.as_bytes())?;
            Some(bytes[..at].to_vec())
        });
        let before = found.next().unwrap_or_else(|| panic!("no {request:?}"));
        assert!(found.next().is_none(), "{path} was asked for twice");
        before
    }
}

fn serve(mut stream: TcpStream, mut keep: impl FnMut(&[u8])) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut buffer, mut unanswered) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        keep(&buffer[..read]);
        unanswered.extend_from_slice(&buffer[..read]);
        let end = match find(&unanswered, b"POST ") {
            Some(_) => BODY,
            None => b"\r\n\r\n",
        };
        if find(&unanswered, b" HTTP/1.1\r\n").is_some() && unanswered.ends_with(end) {
            unanswered.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }
}

const BODY: &[u8] = b"a whole body";

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A listener `http`, one `https`, one `passed_on` that requires headers, and an upstream with `keys`.
fn config(endpoints: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|it| format!("\"{it}\"")).collect();
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.9"]
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [listener.passed_on]
        address = "127.0.0.1:0"
        proxy_protocol = "required"
        proxy_protocol_from = ["127.0.0.1"]
        trusted_proxies = ["10.0.0.0/8"]
        [upstream.app]
        endpoints = [{}]
        {keys}
        [[route]]
        upstream = "app"
        "#,
        endpoints.join(", ")
    )
}

fn start(endpoints: &[SocketAddr], keys: &str, authority: &Authority) -> Balancer {
    Balancer::start_with(&config(endpoints, keys), |directory| {
        authority.issue(&[HOST]).write(directory, "server");
    })
}

type Write2 = fn(&str, &str) -> Vec<u8>;
const VERSIONS: [(&str, Write2, &[u8]); 2] = [("v1", v1, UNKNOWN), ("v2", v2, LOCAL)];

#[test]
fn endpoint_is_told_the_clients_address_before_the_request() {
    for (version, header, _) in VERSIONS {
        let raw = Raw::new();
        let keys = format!("proxy_protocol = \"{version}\"");
        let balancer = start(&[raw.address], &keys, &Authority::new("test"));
        let mut connection = Connection::open(balancer.http());
        assert_eq!(connection.get("/x").text(), "ok");
        let client = connection.socket().local_addr().unwrap();
        let expected = header(&client.to_string(), &balancer.http().to_string());
        assert_eq!(raw.before("/x"), expected);
    }
}

#[test]
fn client_of_a_listener_for_both_families_is_told_as_what_it_is() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        eprintln!("SKIPPED: no IPv6 here: {error}");
        return;
    }
    let raw = Raw::new();
    let keys = "proxy_protocol = \"v1\"";
    let config = config(&[raw.address], keys).replacen("127.0.0.1:0", "[::]:0", 1);
    let balancer = Balancer::start_with(&config, |directory| {
        Authority::new("test")
            .issue(&[HOST])
            .write(directory, "server");
    });
    let port = balancer.http().port();
    for (path, ip) in [("/4", "127.0.0.1"), ("/6", "[::1]")] {
        let address = format!("{ip}:{port}");
        let mut connection = Connection::open(address.parse().unwrap());
        assert_eq!(connection.get(path).text(), "ok");
        let client = connection.socket().local_addr().unwrap().to_string();
        assert_eq!(raw.before(path), v1(&client, &address));
    }
}

#[test]
fn no_connection_to_an_endpoint_serves_two_requests() {
    for (version, header, _) in VERSIONS {
        let (raw, authority) = (Raw::new(), Authority::new("test"));
        let keys = format!("proxy_protocol = \"{version}\"");
        let balancer = start(&[raw.address], &keys, &authority);
        let mut expected = Vec::new();
        let mut clients: Vec<_> = (0..3).map(|_| Connection::open(balancer.http())).collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                let path = format!("/{round}/{number}");
                assert_eq!(client.get(&path).text(), "ok");
                let source = client.socket().local_addr().unwrap();
                expected.push((
                    path,
                    header(&source.to_string(), &balancer.http().to_string()),
                ));
            }
        }
        for (path, expected) in &expected {
            assert_eq!(raw.before(path), *expected, "{path}");
        }
        let http2 = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
        let streams: Vec<_> = (0..3)
            .map(|number| http2.spawn(crate::support::h2::get(&format!("/h2/{number}"))))
            .collect();
        for stream in streams {
            assert_eq!(stream.wait().unwrap().text(), "ok");
        }
        let received = raw.received();
        assert_eq!(received.len(), 12);
        for bytes in received {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert_eq!(text.matches(" http/1.1\r\n").count(), 1, "{text}");
            assert_eq!(
                text.matches("\r\nconnection: close\r\n").count(),
                1,
                "{text}"
            );
        }
        let metrics = balancer.metrics();
        assert_eq!(
            metrics.sum("balancer_upstream_connection_reuse_total", &[]),
            0.0
        );
        eventually("none is kept", || {
            balancer.metrics().sum("balancer_upstream_connections", &[]) == 0.0
        });
    }
}

#[test]
fn what_a_header_told_us_is_told_on() {
    for (version, header, _) in VERSIONS {
        let raw = Raw::new();
        let keys = format!("proxy_protocol = \"{version}\"");
        let balancer = start(&[raw.address], &keys, &Authority::new("test"));
        for (number, (source, destination, field, expected)) in [
            ("192.0.2.1:56324", "198.51.100.2:443", "", "192.0.2.1:56324"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", "", "[2001:db8::1]:1"),
            // Of an address that a trusted proxy names nobody knows the port.
            ("10.0.0.1:1", "10.0.0.2:2", "203.0.113.9", "203.0.113.9:0"),
            ("10.0.0.1:1", "10.0.0.2:2", "", "10.0.0.1:1"),
            ("192.0.2.1:1", "10.0.0.2:2", "203.0.113.9", "192.0.2.1:1"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut connection = Connection::open(balancer.address("passed_on"));
            connection.send(v2(source, destination));
            connection.send(format!(
                "GET /{number} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: {field}\r\n\r\n"
            ));
            assert_eq!(connection.reply().status, 200);
            let expected = header(expected, destination);
            assert_eq!(
                raw.before(&format!("/{number}")),
                expected,
                "{source} {field}"
            );
        }
        // Two families: both as IPv6.
        let mut connection = Connection::open(balancer.address("passed_on"));
        connection.send(v1("10.0.0.1:1", "10.0.0.2:2"));
        let field = "X-Forwarded-For: 2001:db8::9";
        connection.send(format!(
            "GET /mixed HTTP/1.1\r\nHost: {HOST}\r\n{field}\r\n\r\n"
        ));
        assert_eq!(connection.reply().status, 200);
        let before = raw.before("/mixed");
        if version == "v1" {
            let line = b"PROXY TCP6 2001:db8::9 ::ffff:a00:2 0 2\r\n";
            assert_eq!(before, line);
        } else {
            assert_eq!(before, v2("[2001:db8::9]:0", "[::ffff:10.0.0.2]:2"));
        }
    }
}

#[test]
fn checks_speak_for_the_balancer_itself() {
    for (version, _, own) in VERSIONS {
        for (kind, after) in [("http", &b"GET / HTTP/1.1\r\n"[..]), ("tcp", b"")] {
            let raw = Raw::new();
            let keys = format!("proxy_protocol = \"{version}\"\nhealth = {{ kind = \"{kind}\" }}");
            let balancer = start(&[raw.address], &keys, &Authority::new("test"));
            balancer.await_health("app", &raw.address.to_string(), "up");
            let first = eventually_some("the check has sent something", || {
                raw.received()
                    .into_iter()
                    .find(|bytes| bytes.len() >= own.len() + after.len())
            });
            let (header, rest) = first.split_at(own.len());
            assert_eq!(header, own);
            assert!(rest.starts_with(after), "{rest:?}");
            assert!(!after.is_empty() || rest.is_empty(), "{rest:?}");
        }
    }
}

#[test]
fn second_endpoint_asked_is_told_the_same() {
    let (refusing, raw) = (Refusing::new(), Raw::new());
    let keys = "proxy_protocol = \"v2\"";
    let endpoints = [refusing.address(), raw.address];
    let balancer = start(&endpoints, keys, &Authority::new("test"));
    let mut connection = Connection::open(balancer.http());
    let client = connection.socket().local_addr().unwrap().to_string();
    for number in 0..4 {
        let path = format!("/{number}");
        assert_eq!(connection.get(&path).text(), "ok");
        assert_eq!(raw.before(&path), v2(&client, &balancer.http().to_string()));
    }
    let retries = balancer.metrics().sum("balancer_retries_total", &[]);
    assert!(retries > 0.0, "the other endpoint was asked, too");
}

#[test]
fn request_body_follows_header_and_head() {
    let raw = Raw::new();
    let balancer = start(
        &[raw.address],
        "proxy_protocol = \"v1\"",
        &Authority::new("test"),
    );
    let mut connection = Connection::open(balancer.http());
    let length = BODY.len();
    connection.send(format!(
        "POST /up HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n"
    ));
    connection.send(BODY);
    assert_eq!(connection.reply().status, 200);
    let client = connection.socket().local_addr().unwrap().to_string();
    let received = raw.received().concat();
    let expected = v1(&client, &balancer.http().to_string());
    assert!(received.starts_with(&[&expected[..], b"POST /up HTTP/1.1\r\n"].concat()));
    assert!(received.ends_with(&[b"\r\n\r\n", BODY].concat()));
}

#[test]
fn endpoint_that_expects_a_header_from_now_on_gets_no_connection_from_before() {
    let raw = Raw::new();
    let balancer = start(&[raw.address], "", &Authority::new("test"));
    let mut connection = Connection::open(balancer.http());
    let (client, here) = (connection.socket().local_addr().unwrap(), balancer.http());
    let expected = v1(&client.to_string(), &here.to_string());
    for (keys, paths) in [
        ("", ["/1", "/2"]),
        ("proxy_protocol = \"v1\"", ["/3", "/4"]),
        ("", ["/5", "/6"]),
    ] {
        balancer.reloaded(&config(&[raw.address], keys));
        for path in paths {
            assert_eq!(connection.get(path).text(), "ok");
        }
    }
    let received = raw.received();
    let count = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .matches(" HTTP/1.1\r\n")
            .count()
    };
    let shape: Vec<_> = received
        .iter()
        .map(|bytes| (bytes.starts_with(&expected), count(bytes)))
        .collect();
    assert_eq!(shape, [(false, 2), (true, 1), (true, 1), (false, 2)]);
}
