//! What a client may do wrong: each fault gets its own answer and a closed connection, and disturbs no one else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls, connect};
use crate::support::h2::H2;
use crate::support::{Balancer, Connection, Next, Origin, Reply, eventually, get, simple};

/// [`simple`] with these keys on its listener.
fn config(origin: &Origin, keys: &str) -> String {
    simple(&[origin]).replace("[listener.http]", &format!("[listener.http]\n{keys}"))
}

/// Sends `request` and expects this status from the balancer itself, a close, and nothing at the origin.
#[track_caller]
fn assert_refused(balancer: &Balancer, origin: &Origin, request: &[u8], status: u16) -> Reply {
    let before = origin.request_count();
    let mut connection = Connection::open(balancer.http());
    connection.send(request);
    let reply = connection.reply();
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(
        connection.is_closed_by_peer(),
        "the connection is still open"
    );
    assert_eq!(get(balancer.http(), "/after").status, 200);
    assert_eq!(
        origin.request_count(),
        before + 1,
        "the refused request reached the origin"
    );
    reply
}

#[test]
fn head_beyond_header_bytes_is_431() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let head = |kibibytes: usize| {
        let fields: String = (0..kibibytes)
            .map(|number| format!("X-{number:04}: {}\r\n", "x".repeat(1024 - 10)))
            .collect();
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{fields}\r\n")
    };
    let mut connection = Connection::open(balancer.http());
    connection.send(head(60));
    assert_eq!(
        connection.reply().status,
        200,
        "60 KiB are within the default of 64 KiB"
    );
    assert_refused(&balancer, &origin, head(70).as_bytes(), 431);
    let one_field = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A: {}\r\n\r\n",
        "x".repeat(70 << 10)
    );
    assert_refused(&balancer, &origin, one_field.as_bytes(), 431);
}

#[test]
fn smaller_header_limit_is_kept() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &origin,
        "limits = { header_bytes = \"4KiB\", headers = 10 }",
    ));
    let field = |length: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nX-A: {}\r\n\r\n",
            "x".repeat(length)
        )
    };
    let mut connection = Connection::open(balancer.http());
    connection.send(field(3 << 10));
    assert_eq!(connection.reply().status, 200);
    assert_refused(&balancer, &origin, field(5 << 10).as_bytes(), 431);
    let fields: String = (0..12).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_refused(
        &balancer,
        &origin,
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").as_bytes(),
        431,
    );
}

#[test]
fn more_than_a_hundred_fields_are_431() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let head = |count: usize| {
        let fields: String = (1..count)
            .map(|number| format!("X-{number}: 1\r\n"))
            .collect();
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
    };
    let mut connection = Connection::open(balancer.http());
    connection.send(head(100));
    assert_eq!(connection.reply().status, 200);
    assert_refused(&balancer, &origin, head(101).as_bytes(), 431);
}

#[test]
fn header_limits_hold_for_http_2_too() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let tls = Tls::new(&authority, HOST);
    let with = |count: usize, length: usize| {
        let connection = H2::connect(balancer.address("https"), &tls);
        let mut request = http::Request::get(format!("https://{HOST}/"));
        for number in 0..count {
            request = request.header(format!("x-{number}"), "x".repeat(length));
        }
        connection
            .send(request.body(http_body_util::Full::default()).unwrap())
            .map(|reply| reply.status)
    };
    assert_eq!(with(90, 10).unwrap(), 200);
    for (count, length) in [(110, 1), (70, 1024)] {
        let status = with(count, length);
        assert!(
            !matches!(status, Ok(status) if status != 431),
            "{count} fields of {length}: {status:?}"
        );
    }
    assert_eq!(origin.request_count(), 1);
}

#[test]
fn target_beyond_uri_bytes_is_414() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let line = |length: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n",
            "x".repeat(length - 1)
        )
    };
    let mut connection = Connection::open(balancer.http());
    connection.send(line(8192));
    assert_eq!(connection.reply().status, 200);
    assert_refused(&balancer, &origin, line(8193).as_bytes(), 414);
    assert_refused(&balancer, &origin, line(40_000).as_bytes(), 414);
}

#[test]
fn head_that_takes_too_long_is_408_however_steadily_it_drips() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "timeouts = { header = \"500ms\" }"));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n");
    let reply = connection.reply();
    reply.assert_made_by_balancer(408);
    assert!(connection.is_closed_by_peer());

    let mut connection = Connection::open(balancer.http());
    let mut socket = connection.socket();
    let start = Instant::now();
    let dripping = thread::spawn(move || {
        // The pauses are the fault under test.
        let _ = socket.write_all(b"GET / HTTP/1.1\r\nX: ");
        while start.elapsed() < Duration::from_secs(15) && socket.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(connection.reply().status, 408);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "the deadline moved with every byte"
    );
    drop(connection);
    dripping.join().unwrap();
    assert_eq!(origin.request_count(), 0);
}

#[test]
fn second_head_on_a_connection_has_the_same_deadline() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &origin,
        "timeouts = { header = \"500ms\", keep_alive = \"60s\" }",
    ));
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/").status, 200);
    connection.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(connection.reply().status, 408);
    assert!(connection.is_closed_by_peer());
}

#[test]
fn connection_that_never_asks_is_closed() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "timeouts = { header = \"300ms\" }"));
    let mut connection = Connection::open(balancer.http());
    let rest = connection.rest();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
}

#[test]
fn idle_connection_is_closed_after_keep_alive_and_not_before() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &origin,
        "timeouts = { keep_alive = \"700ms\", header = \"200ms\" }",
    ));
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/").status, 200);
    let start = Instant::now();
    assert!(connection.is_closed_by_peer());
    assert!(
        start.elapsed() >= Duration::from_millis(600),
        "closed after {:?}, by the deadline of a head",
        start.elapsed()
    );
}

#[test]
fn garbage_is_400_and_a_close() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for garbage in [
        "garbage\r\n\r\n",
        "GET / banana\r\n\r\n",
        "GET / HTTP/1.1\r\nnonsense\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        assert_refused(&balancer, &origin, garbage.as_bytes(), 400);
    }
    assert_refused(&balancer, &origin, b"GET / HTTP/7.3\r\n\r\n", 505);
    for head in [
        "G\u{1}T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\na b: c\r\n\r\n",
    ] {
        let mut connection = Connection::open(balancer.http());
        connection.send(head);
        // Also what the HTTP library refuses by itself is answered in our words.
        connection.reply().assert_made_by_balancer(400);
    }
    let refused = balancer.metrics().sum("balancer_errors_total", &[]);
    assert!(refused >= 7.0, "refused heads are counted: {refused}");
}

#[test]
fn other_protocols_on_a_plain_listener_are_turned_away() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for greeting in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\r\n\r\n",
    ] {
        let mut connection = Connection::open(balancer.http());
        connection.send(greeting);
        connection.finish_sending();
        let rest = connection.rest();
        assert!(
            !rest.starts_with(b"HTTP/1.1 2"),
            "{greeting:?} got {:?}",
            String::from_utf8_lossy(&rest)
        );
    }
    assert_eq!(get(balancer.http(), "/").status, 200);
    assert_eq!(origin.request_count(), 1);
}

#[test]
fn tls_handshake_that_stalls_is_cut() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "timeouts = { handshake = \"500ms\" }");
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut socket = connect(balancer.address("https")).unwrap();
        socket.write_all(beginning).unwrap();
        let mut rest = Vec::new();
        let ended = socket.read_to_end(&mut rest);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "a stalled handshake is kept"
        );
    }
    let mut connection =
        Connection::secure(balancer.address("https"), &Tls::new(&authority, HOST)).unwrap();
    assert_eq!(connection.get("/").status, 200);
    assert!(
        balancer
            .metrics()
            .sum("balancer_tls_handshakes_total", &[("listener", "https")])
            >= 1.0
    );
}

#[test]
fn stalled_handshakes_do_not_hold_up_others() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let _stalled: Vec<TcpStream> = (0..100)
        .map(|_| connect(balancer.address("https")).unwrap())
        .collect();
    for _ in 0..5 {
        let mut connection =
            Connection::secure(balancer.address("https"), &Tls::new(&authority, HOST)).unwrap();
        assert_eq!(connection.get("/").status, 200);
    }
}

#[test]
fn plain_http_on_a_tls_listener_is_turned_away() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority, "");
    let mut connection = Connection::open(balancer.address("https"));
    connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let rest = connection.rest();
    assert!(
        !rest.starts_with(b"HTTP/1.1 2"),
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
    let mut connection =
        Connection::secure(balancer.address("https"), &Tls::new(&authority, HOST)).unwrap();
    assert_eq!(connection.get("/").status, 200);
    assert_eq!(origin.request_count(), 1);
}

#[test]
fn body_beyond_body_bytes_is_413_by_its_declared_length() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "limits = { body_bytes = \"1KiB\" }"));
    let post = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let mut connection = Connection::open(balancer.http());
    connection.send(post(1024));
    connection.send("x".repeat(1024));
    assert_eq!(connection.reply().status, 200);
    // The body is never sent: the head alone is enough.
    let reply = assert_refused(&balancer, &origin, post(1025).as_bytes(), 413);
    reply.assert_made_by_balancer(413);
}

#[test]
fn body_beyond_body_bytes_is_413_while_it_streams() {
    let origin = Origin::with("a", |exchange| {
        if exchange.method() == "POST" && !exchange.body().complete {
            return Next::Close;
        }
        exchange.respond_with_name()
    });
    let balancer = Balancer::start(&config(&origin, "limits = { body_bytes = \"1KiB\" }"));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{}\r\n",
        "x".repeat(1024)
    ));
    eventually("the origin is asked", || origin.request_count() == 1);
    connection.send("1\r\nx\r\n");
    let reply = connection.reply();
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(connection.is_closed_by_peer());
    assert_eq!(get(balancer.http(), "/").status, 200);
    eventually("the upstream request is aborted", || {
        origin.requests()[0].body.is_some()
    });
    assert!(
        !origin.requests()[0]
            .body
            .as_ref()
            .expect("it was awaited")
            .complete,
        "the origin took a cut body for a whole one"
    );
}

#[test]
fn body_that_stalls_is_408() {
    let origin = Origin::with("a", |exchange| {
        exchange.body();
        Next::Close
    });
    let balancer = Balancer::start(&config(&origin, "timeouts = { body_idle = \"300ms\" }"));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf"
    ));
    let reply = connection.reply();
    reply.assert_made_by_balancer(408);
    assert!(connection.is_closed_by_peer());
    eventually("the upstream request is aborted", || origin.open() == 0);
    assert!(
        !origin.last_request().body.expect("it was read").complete,
        "the origin took a cut body for a whole one"
    );
    assert_eq!(
        balancer
            .metrics()
            .sum("balancer_upstream_failures_total", &[]),
        0.0,
        "a client's stall is no failure of the endpoint"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::with("a", |exchange| {
        let target = exchange.target().to_owned();
        exchange.respond(200, &[], &target)
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    let requests: String = (0..20)
        .map(|number| match number % 3 {
            0 => format!("POST /{number} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello"),
            1 => format!("POST /{number} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            _ => format!("GET /{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        })
        .collect();
    connection.send(requests);
    for number in 0..20 {
        let reply = connection.reply();
        assert_eq!((reply.status, reply.text()), (200, format!("/{number}")));
    }
}

#[test]
fn one_request_in_single_bytes_is_a_request() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    for byte in b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi" {
        connection.send([*byte]);
    }
    assert_eq!(connection.reply().text(), "a");
    assert_eq!(origin.last_request().body.expect("a body").bytes, b"hi");
}

#[test]
fn running_out_of_descriptors_pauses_accepting_and_nothing_else() {
    let config = "[listener.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = { body = \"here\" }\n[process]\nworkers = 1";
    let mut balancer = Balancer::start_limited(config, "ulimit -n 48");
    let mut established = Connection::open(balancer.http());
    assert_eq!(established.get("/").text(), "here");

    let address = balancer.http();
    let mut crowd: Vec<Connection> = (0..60).map(|_| Connection::open(address)).collect();
    for connection in &mut crowd {
        connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    }
    eventually("accepting pauses", || {
        balancer.metrics().sum("balancer_accept_pauses_total", &[]) > 3.0
    });
    for _ in 0..20 {
        assert_eq!(established.get("/").text(), "here");
    }
    // The oldest are surely among the accepted.
    for connection in &mut crowd[..2] {
        assert_eq!(connection.reply().text(), "here");
    }
    crowd.drain(..40);
    for mut connection in crowd {
        assert_eq!(
            connection.reply().text(),
            "here",
            "accepting goes on when descriptors are there again"
        );
    }
    eventually("new connections are accepted", || {
        Connection::open(address).get("/").text() == "here"
    });
    assert!(balancer.is_running());
}

#[test]
fn connections_beyond_the_listeners_limit_wait_or_are_turned_away() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&format!(
        "{}\n[process]\nworkers = 1",
        config(&origin, "limits = { connections = 3 }")
    ));
    let mut within: Vec<Connection> = (0..3).map(|_| Connection::open(balancer.http())).collect();
    for connection in &mut within {
        assert_eq!(connection.get("/").status, 200);
    }
    let mut beyond = Connection::open(balancer.http());
    beyond.send("GET /beyond HTTP/1.1\r\nHost: app.test\r\n\r\n");
    for connection in &mut within {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!(
        origin
            .requests()
            .iter()
            .filter(|request| request.target() == "/beyond")
            .count(),
        0
    );
    drop(within);
    eventually("there is room again", || {
        let mut connection = Connection::open(balancer.http());
        connection.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        connection
            .try_reply("GET")
            .is_ok_and(|reply| reply.status == 200)
    });
}

fn start_secure(origin: &Origin, authority: &Authority, keys: &str) -> Balancer {
    let tls = "tls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let config = format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n{tls}\n{keys}\n{}",
        simple(&[origin])
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}
