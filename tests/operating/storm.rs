//! Reload after reload under load: nothing that is open is cut, nothing fails, and nothing is left behind.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::client::HOST;
use crate::support::http1::Framing;
use crate::support::{Balancer, Connection, Next, Origin, eventually};

/// Each kind of client so many times.
const CLIENTS: usize = 3;
/// Reloads before memory is looked at: what is only ever made once is there by then.
const WARM_UP: u32 = 100;

/// Echoes over WebSocket; sends of `/long` a little again and again until it is told to stop; answers with its name.
fn origin(name: &'static str, over: &'static AtomicBool) -> Origin {
    Origin::with(name, |exchange| {
        if exchange.head.field("upgrade").is_some() {
            return exchange.echo();
        }
        if exchange.target() != "/long" {
            return exchange.respond_with_name();
        }
        let _ = exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while !over.load(SeqCst) {
            if exchange.write("4\r\nmore\r\n").is_err() {
                return Next::Close;
            }
            thread::sleep(Duration::from_millis(5));
        }
        exchange.write_then("0\r\n\r\n", Next::Keep)
    })
}

/// One of two files: the policy, weights, order, a route, a listener and an endpoint are others.
fn file(number: u32, [a, b, c]: [&Origin; 3]) -> String {
    let (a, b, c) = (a.address(), b.address(), c.address());
    let (upstream, more) = if number.is_multiple_of(2) {
        (
            format!("endpoints = [\"{a}\", \"{b}\"]"),
            "[listener.more]\naddress = \"127.0.0.1:0\"",
        )
    } else {
        (
            format!(
                "endpoints = [{{ address = \"{b}\", weight = 3 }}, \"{c}\", \"{a}\"]\npolicy = \"least-connections\""
            ),
            "[[route]]\npath = \"/more\"\nrespond = {}",
        )
    };
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\ntimeouts = {{ pool_idle = \"200ms\" }}\n{upstream}\n\
         [[route]]\nupstream = \"app\"\n{more}\n"
    )
}

/// File descriptors that the balancer has open.
fn descriptors(balancer: &Balancer) -> usize {
    let folder = format!("/proc/{}/fd", balancer.pid().as_raw_nonzero());
    fs::read_dir(folder).unwrap().count()
}

/// Says words over a WebSocket and hears them again, until `over`. How many.
fn talk(balancer: &Balancer, over: &AtomicBool) -> u64 {
    let mut connection = Connection::open(balancer.http());
    connection.send(
        "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert!(connection.head().unwrap().start.contains(" 101 "));
    let mut words = 0_u64;
    while !over.load(SeqCst) {
        let word = words.to_be_bytes();
        connection.try_send(word).expect("the tunnel is open");
        let mut heard = [0; 8];
        connection
            .read_exact(&mut heard)
            .expect("the tunnel is open");
        assert_eq!(heard, word);
        words += 1;
        thread::sleep(Duration::from_millis(2));
    }
    words
}

/// Downloads what ends only when the origins are told so. How many bytes.
fn download(balancer: &Balancer) -> u64 {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("GET /long HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    connection.final_head().unwrap();
    let (length, complete) = connection.body_length(Framing::Chunked, |_, piece| {
        assert!(piece.iter().all(|byte| b"more".contains(byte)));
    });
    assert!(complete, "a download was cut after {length} bytes");
    length
}

/// Asks again and again on one connection, until `over`. How often.
fn ask(balancer: &Balancer, over: &AtomicBool) -> u64 {
    let mut connection = Connection::open(balancer.http());
    let mut asked = 0;
    while !over.load(SeqCst) {
        let method = ["GET", "POST"][usize::from(asked % 2 == 1)];
        connection
            .try_send(format!(
                "{method} /{asked} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi"
            ))
            .expect("the connection is kept");
        let reply = connection
            .try_reply(method)
            .expect("the connection is kept");
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.body.complete);
        asked += 1;
        thread::sleep(Duration::from_millis(1));
    }
    asked
}

/// Resident memory after the warm-up, if there is one, and at the end.
fn storm(reloads: u32) -> Option<(u64, u64)> {
    let over: &'static AtomicBool = Box::leak(Box::default());
    let origins = ["a", "b", "c"].map(|name| origin(name, over));
    let file = |number| file(number, origins.each_ref());
    let balancer = Balancer::start(&file(0));
    balancer.reloaded(&file(1));
    balancer.reloaded(&file(2));
    let before = descriptors(&balancer);
    let (words, bytes, asked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let mut resident = None;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| words.fetch_add(talk(&balancer, over), SeqCst));
            scope.spawn(|| bytes.fetch_add(download(&balancer), SeqCst));
            scope.spawn(|| asked.fetch_add(ask(&balancer, over), SeqCst));
        }
        // If a reload fails, the clients must still be told to stop.
        let stopping = StopOnDrop(over);
        for number in 0..reloads {
            assert_eq!(balancer.reloaded(&file(number)), u64::from(number) + 4);
            if number == WARM_UP {
                resident = Some(balancer.resident());
            }
        }
        drop(stopping);
    });
    for (what, count) in [("words", &words), ("bytes", &bytes), ("requests", &asked)] {
        assert!(count.load(SeqCst) > 0, "no {what}");
    }
    let metrics = balancer.metrics();
    assert_eq!(metrics.sum("balancer_errors_total", &[]), 0.0);
    let reloaded = metrics.sum("balancer_config_reloads_total", &[("result", "accepted")]);
    assert_eq!(reloaded, f64::from(reloads + 2));
    // With the same listeners as then.
    balancer.reloaded(&file(2));
    eventually("as many descriptors are open as before", || {
        descriptors(&balancer) <= before
    });
    resident.map(|resident| (resident, balancer.resident()))
}

struct StopOnDrop(&'static AtomicBool);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn reloads_cut_no_tunnel_no_download_and_no_request_and_leave_no_descriptor_open() {
    assert_eq!(storm(40), None);
}

#[test]
#[ignore = "takes a minute, and memory is only that of the balancer where nothing else presses on it; run before a release"]
fn thousand_reloads_cut_nothing_and_take_no_more_memory() {
    let (before, after) = storm(1000).expect("there was a warm-up");
    let mebibytes = |bytes: u64| bytes / 1024 / 1024;
    println!("{} MiB, then {} MiB", mebibytes(before), mebibytes(after));
    assert!(
        after <= before + before / 10,
        "{before} bytes, then {after}"
    );
}
