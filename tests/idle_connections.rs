//! What is not used costs little and is there when it is wanted: parked connections, held writes, even workers.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{self, Frames, H2};
use crate::support::{Balancer, Connection, Origin, eventually, simple};

/// Longer than a connection stays unused before it is parked.
const UNUSED: Duration = Duration::from_millis(1300);

/// A listener `http` with these keys and a listener `https`, one worker.
fn start(origin: &Origin, authority: &Authority, keys: &str) -> Balancer {
    let config = simple(&[origin]).replace("[listener.http]", &format!("[listener.http]\n{keys}"));
    let secure = r#"
        [listener.https]
        address = "127.0.0.1:0"
        tls = { certificates = [{ chain = "localhost.pem", key = "localhost.key" }] }

        [process]
        workers = 1
    "#;
    Balancer::start_with(&format!("{config}{secure}"), |directory| {
        authority.issue(&[HOST]).write(directory, "localhost");
    })
}

#[test]
fn unused_connections_give_their_memory_back_and_serve_on() {
    const CONNECTIONS: usize = 400;
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&origin, &authority, "");
    let tls = Tls::new(&authority, HOST);
    // What the first requests allocate once is not counted.
    for _ in 0..3 {
        assert_eq!(Connection::open(balancer.http()).get("/").status, 200);
    }
    let secure = balancer.address("https");
    assert_eq!(
        Connection::secure(secure, &tls).unwrap().get("/").status,
        200
    );
    type Open<'a> = &'a dyn Fn() -> Connection;
    let kinds: [(&str, Open<'_>, u64); 2] = [
        ("plain", &|| Connection::open(balancer.http()), 10),
        ("TLS", &|| Connection::secure(secure, &tls).unwrap(), 24),
    ];
    for (kind, open, limit) in kinds {
        thread::sleep(UNUSED);
        let before = balancer.resident();
        // Each is asked at once: on a busy machine it takes long to open them all, and the first head may not.
        let mut connections: Vec<Connection> = (0..CONNECTIONS)
            .map(|_| {
                let mut connection = open();
                assert_eq!(connection.get("/").status, 200);
                connection
            })
            .collect();
        eventually(
            &format!("at most {limit} KiB for each {kind} connection"),
            || balancer.resident().saturating_sub(before) < CONNECTIONS as u64 * limit * 1024,
        );
        for connection in &mut connections {
            assert_eq!(connection.get("/").text(), "a", "{kind}");
        }
    }
}

#[test]
fn parked_connection_serves_whatever_comes_next() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&origin, &authority, "");
    let tls = Tls::new(&authority, HOST);
    let mut connections = [
        Connection::open(balancer.http()),
        Connection::secure(balancer.address("https"), &tls).unwrap(),
    ];
    // Nothing was asked on them yet.
    thread::sleep(UNUSED);
    for connection in &mut connections {
        assert_eq!(connection.get("/").text(), "a");
    }
    thread::sleep(UNUSED);
    for connection in &mut connections {
        connection.send(format!("GET /half HTTP/1.1\r\nHost: {}", &HOST[..3]));
    }
    thread::sleep(UNUSED);
    for connection in &mut connections {
        connection.send(format!("{}\r\n\r\n", &HOST[3..]));
        assert_eq!(connection.reply().text(), "a", "a head in two parts");
    }
    thread::sleep(UNUSED);
    for connection in &mut connections {
        let get = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        connection.send(format!("\r\n{get}{get}{get}"));
        for _ in 0..3 {
            assert_eq!(connection.reply().text(), "a", "pipelined requests");
        }
    }
}

#[test]
fn regression_empty_lines_before_a_pause_stopped_the_worker() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&origin, &authority, "");
    let tls = Tls::new(&authority, HOST);
    let mut connections = [
        Connection::open(balancer.http()),
        Connection::secure(balancer.address("https"), &tls).unwrap(),
        Connection::open(balancer.http()),
    ];
    let [plain, secure, upload] = &mut connections;
    plain.send("\r\n");
    secure.send("\r\n");
    // What clients of old sent after a body.
    upload.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody\r\n"
    ));
    assert_eq!(upload.reply().status, 200);
    thread::sleep(UNUSED);
    assert_eq!(Connection::open(balancer.http()).get("/").text(), "a");
    for connection in &mut connections {
        assert_eq!(connection.get("/").text(), "a");
    }
}

#[test]
fn parked_connection_keeps_its_deadlines() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let keys = "timeouts = { keep_alive = \"3s\", header = \"1500ms\" }";
    let balancer = start(&origin, &authority, keys);
    let mut idle = Connection::open(balancer.http());
    let mut slow = Connection::open(balancer.http());
    assert_eq!(idle.get("/").status, 200);
    let start = Instant::now();
    assert_eq!(slow.get("/").status, 200);
    thread::sleep(UNUSED);
    slow.send("GET / HTTP/1.1\r\n");
    assert_eq!(slow.reply().status, 408);
    assert!(idle.is_closed_by_peer());
    assert!(
        start.elapsed() >= Duration::from_millis(2900),
        "closed after {:?}",
        start.elapsed()
    );
}

#[test]
fn parked_connections_do_not_hold_up_a_shutdown() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let mut balancer = start(&origin, &authority, "");
    let mut connections: Vec<Connection> =
        (0..5).map(|_| Connection::open(balancer.http())).collect();
    for connection in &mut connections {
        assert_eq!(connection.get("/").status, 200);
    }
    thread::sleep(UNUSED);
    balancer.signal(Signal::TERM);
    assert!(connections.iter_mut().all(Connection::is_closed_by_peer));
    assert!(balancer.wait_exit().success());
}

#[test]
fn http_2_connection_that_was_unused_serves_many_streams_whole() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let large = "x".repeat(700_000);
    let body = large.clone();
    origin.on_request(move |exchange| exchange.respond(200, &[], &body));
    let balancer = start(&origin, &authority, "");
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    for _ in 0..2 {
        let pending: Vec<_> = (0..12)
            .map(|_| connection.spawn(h2::get("/large")))
            .collect();
        for reply in pending {
            assert!(reply.wait().unwrap().text() == large);
        }
        thread::sleep(UNUSED);
    }
}

#[test]
fn http_2_download_by_a_slow_client_arrives_without_a_pause() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let large = "x".repeat(12 << 20);
    let body = large.clone();
    origin.on_request(move |exchange| exchange.respond(200, &[], &body));
    let balancer = start(&origin, &authority, "");
    let mut frames = Frames::open(balancer.address("https"), &Tls::new(&authority, HOST));
    frames.take_much_slowly();
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", HOST),
    ];
    frames.request(1, &fields);
    let start = Instant::now();
    let mut received = 0;
    while received < large.len() {
        let frame = frames.read().unwrap();
        if frame.kind == Frames::DATA {
            received += frame.payload.len();
        }
        thread::sleep(Duration::from_millis(1));
    }
    // What is stuck comes with the next PING, after 30 s.
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "took {:?}",
        start.elapsed()
    );
}

#[test]
fn few_connections_are_spread_evenly_over_the_workers() {
    const CONNECTIONS: usize = 12;
    let origin = Origin::named("a");
    let config = format!("{}\n[process]\nworkers = 3", simple(&[&origin]));
    let balancer = Balancer::start(&config);
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = Connection::open(balancer.http());
            assert_eq!(connection.get("/").text(), "a");
            connection
        })
        .collect();
    let counts: Vec<usize> = watched(&balancer).iter().map(BTreeSet::len).collect();
    assert_eq!(counts, [4, 4, 4], "connections of each worker");
    for connection in &mut connections {
        assert_eq!(connection.get("/").text(), "a");
    }
}

/// Client connections of the listener `http`, as descriptors, for each worker that watches some.
fn watched(balancer: &Balancer) -> HashSet<BTreeSet<String>> {
    let process = format!("/proc/{}", balancer.pid().as_raw_nonzero());
    let inodes = accepted(&process, balancer.http());
    let mut sockets = HashSet::new();
    let mut pollers = Vec::new();
    for entry in fs::read_dir(format!("{process}/fd")).unwrap() {
        let entry = entry.unwrap();
        let number = entry.file_name().into_string().unwrap();
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        if target == "anon_inode:[eventpoll]" {
            pollers.push(number);
        } else if let Some(inode) = target.strip_prefix("socket:[")
            && inodes.contains(inode.trim_end_matches(']'))
        {
            sockets.insert(number);
        }
    }
    // A worker has one epoll instance, maybe under several descriptors: as a set they are one.
    let watches = pollers.iter().map(|poller| {
        let info = fs::read_to_string(format!("{process}/fdinfo/{poller}")).unwrap();
        info.lines()
            .filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next())
            .filter(|descriptor| sockets.contains(*descriptor))
            .map(str::to_owned)
            .collect::<BTreeSet<String>>()
    });
    watches.filter(|sockets| !sockets.is_empty()).collect()
}

/// Inodes of the established connections to `address`, on the side that listens.
fn accepted(process: &str, address: SocketAddr) -> HashSet<String> {
    const ESTABLISHED: &str = "01";
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string(format!("{process}/net/tcp")).unwrap();
    let inodes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields[1].ends_with(&port) && fields[3] == ESTABLISHED).then(|| fields[9].to_owned())
    });
    inodes.collect()
}
