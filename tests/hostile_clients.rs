//! Clients that say nothing, take nothing, or try to slip something in hold little, and not for long.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::{Balancer, Connection, Next, Origin, eventually, get};

/// One plain listener and one endpoint; `listener`, `upstream` and `more` are further keys.
fn config(origin: &Origin, listener: &str, upstream: &str, more: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        {listener}

        [upstream.app]
        endpoints = ["{}"]
        {upstream}

        [[route]]
        upstream = "app"

        {more}
        "#,
        origin.address()
    )
}

const BODY: usize = 4 << 20;

/// An endpoint whose answers do not fit the buffers on their way.
fn large() -> Origin {
    Origin::with("a", |exchange| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
        let _ = exchange.write(head);
        exchange.write_then(vec![b'x'; BODY], Next::Keep)
    })
}

/// A client that takes little at a time.
fn narrow(balancer: &Balancer, request: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&balancer.http().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn in_flight(balancer: &Balancer) -> u64 {
    balancer.status()["upstreams"][0]["endpoints"][0]["in_flight"]
        .as_u64()
        .unwrap()
}

#[test]
fn regression_tail_of_a_slow_download_was_cut_by_keep_alive() {
    let origin = large();
    let balancer = Balancer::start(&config(
        &origin,
        "timeouts = { keep_alive = \"300ms\" }",
        "",
        "",
    ));
    let mut stream = narrow(
        &balancer,
        &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
    );
    let (mut taken, mut piece) = (0, vec![0; 64 * 1024]);
    let begun = Instant::now();
    loop {
        // The pace is what is tested: the last of it waits in the balancer for longer than keep_alive.
        thread::sleep(Duration::from_millis(15));
        match stream.read(&mut piece).unwrap() {
            0 => break,
            read => taken += read,
        }
    }
    assert!(taken > BODY, "cut after {taken} bytes");
    assert!(
        begun.elapsed() > Duration::from_millis(600),
        "it was not slow"
    );
}

#[test]
fn client_that_takes_nothing_gives_its_endpoint_back() {
    let origin = large();
    let upstream = "timeouts = { stream_idle = \"500ms\" }";
    let balancer = Balancer::start(&config(&origin, "", upstream, ""));
    let clients: Vec<_> = (0..5)
        .map(|_| {
            narrow(
                &balancer,
                &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            )
        })
        .collect();
    // What stays true: on a busy machine the first may be given up before the last is served.
    eventually("they are served", || origin.request_count() == 5);
    eventually("they are given up", || in_flight(&balancer) == 0);
    eventually("their connections are closed", || origin.open() == 0);
    drop(clients);
}

#[test]
fn http_2_that_never_speaks_is_not_waited_for() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let leaf = authority.issue(&[HOST]);
    let listener = "tls = { certificates = [{ chain = \"leaf.pem\", key = \"leaf.key\" }] }\n\
                    timeouts = { header = \"500ms\" }";
    let mut balancer = Balancer::start_with(&config(&origin, listener, "", ""), |folder| {
        leaf.write(folder, "leaf");
    });
    let tls = Tls::new(&authority, HOST).offering(&["h2"]);
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut silent = tls.connect(balancer.http()).unwrap();
        silent.write_all(said).unwrap();
        silent.flush().unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "held for {:?}",
            begun.elapsed()
        );
    }
    let _silent = tls.connect(balancer.http()).unwrap();
    let begun = Instant::now();
    balancer.signal(rustix::process::Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "shutdown waited {:?}",
        begun.elapsed()
    );
}

#[test]
fn cut_response_is_no_end_to_http_1_0() {
    let origin = Origin::with("a", |exchange| {
        exchange.write_then(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Next::Close,
        )
    });
    let balancer = Balancer::start(&config(&origin, "", "", ""));
    let mut stream = narrow(
        &balancer,
        &format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n"),
    );
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all);
    assert!(
        end.is_err(),
        "looks whole: {:?}",
        String::from_utf8_lossy(&all)
    );
}

#[test]
fn trailers_say_no_more_than_heads_may() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let origin = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while !ends_chunked(&all) {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                read => all.extend_from_slice(&piece[..read]),
            }
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&all).to_lowercase()
    });
    let balancer = Balancer::start(&format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{address}\"]\n\
         [[route]]\nupstream = \"app\""
    ));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum, X-Real-IP, X-Forwarded-For, Proxy, Cookie, X_A\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nProxy: p\r\n\
         Cookie: c\r\nX_A: a\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    let received = origin.join().unwrap();
    let (_, trailers) = received.split_once("\r\n0\r\n").expect("a last chunk");
    assert_eq!(trailers, "x-sum: 1\r\n\r\n");
}

/// Whether the last chunk and its trailers are there.
fn ends_chunked(all: &[u8]) -> bool {
    let text = String::from_utf8_lossy(all);
    text.split_once("\r\n0\r\n")
        .is_some_and(|(_, trailers)| trailers.ends_with("\r\n"))
}

#[test]
fn own_shortage_of_descriptors_is_no_evidence_against_endpoints() {
    let origin = Origin::named("a");
    let health = "health = { kind = \"tcp\", interval = \"100ms\", fast_interval = \"50ms\", timeout = \"100ms\", fall = 1 }";
    let balancer = Balancer::start_limited(
        &config(&origin, "", health, "[process]\nworkers = 1"),
        "ulimit -n 64",
    );
    let mut established = Connection::open(balancer.http());
    assert_eq!(established.get("/").text(), "a");
    let address = balancer.http();
    let mut crowd: Vec<Connection> = (0..80).map(|_| Connection::open(address)).collect();
    for connection in &mut crowd {
        connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    }
    eventually("accepting pauses", || {
        balancer.metrics().sum("balancer_accept_pauses_total", &[]) > 3.0
    });
    let probes = balancer.metrics().sum("balancer_health_checks_total", &[]);
    eventually("checks go on", || {
        balancer.metrics().sum("balancer_health_checks_total", &[]) > probes + 5.0
    });
    for _ in 0..20 {
        assert_eq!(established.get("/").text(), "a");
    }
    assert_eq!(
        balancer.status()["upstreams"][0]["endpoints"][0]["health"],
        "up"
    );
    crowd.drain(..40);
    for mut connection in crowd {
        assert_eq!(connection.reply().text(), "a", "accepting goes on");
    }
}

#[test]
fn regression_access_log_that_nobody_reads_froze_the_control_thread() {
    let origin = Origin::named("a");
    let with_log = |target: &str| {
        config(
            &origin,
            "",
            "",
            &format!("[access_log]\ntarget = \"{target}\""),
        )
    };
    let balancer = Balancer::start_with(&with_log("off"), |folder| {
        assert!(
            Command::new("mkfifo")
                .arg(folder.join("pipe"))
                .status()
                .unwrap()
                .success()
        );
    });
    balancer.write_configuration(&with_log("pipe"));
    balancer.signal(rustix::process::Signal::HUP);
    eventually("the reload is refused", || {
        !balancer.events("configuration rejected").is_empty()
    });
    assert_eq!(get(balancer.admin(), "/livez").status, 200);
    assert_eq!(get(balancer.http(), "/").text(), "a");
}

#[test]
fn listener_beyond_its_limits_is_told_by_check() {
    let origin = Origin::named("a");
    let more = "[listener.wide]\naddress = \"0.0.0.0:45678\"\n[listener.narrow]\naddress = \"127.0.0.1:45678\"";
    let text = config(&origin, "", "", more);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balancer.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(crate::support::balancer::BINARY)
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("127.0.0.1:45678 overlaps 0.0.0.0:45678"),
        "{said}"
    );
}
