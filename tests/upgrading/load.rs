//! Clients notice nothing: those that keep a connection, those that open new ones, those that resume TLS sessions, and
//! WebSockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use super::Successors;
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::{Balancer, Connection, Origin, eventually};

/// Clients that ask as fast as they get answers.
struct Load {
    ended: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Each of `clients` asks with a connection that it opens with `open`, and keeps where `keep` says so.
    fn new() -> Self {
        Self {
            ended: Arc::default(),
            answered: Arc::default(),
            clients: Vec::new(),
        }
    }

    fn ask(&mut self, address: SocketAddr, tls: Option<Tls>, keep: bool) {
        let (ended, answered) = (Arc::clone(&self.ended), Arc::clone(&self.answered));
        let open = move || match &tls {
            Some(tls) => Connection::secure(address, tls),
            None => Connection::try_open(address),
        };
        self.clients.push(thread::spawn(move || {
            let mut failures = Vec::new();
            let mut kept: Option<Connection> = None;
            while !ended.load(SeqCst) {
                let mut connection = match kept.take().map_or_else(&open, Ok) {
                    Ok(connection) => connection,
                    Err(error) => {
                        failures.push(format!("connect: {error}"));
                        continue;
                    }
                };
                let close = if keep { "" } else { "Connection: close\r\n" };
                let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{close}\r\n");
                let reply = connection.try_send(request);
                match reply.and_then(|()| connection.try_reply("GET")) {
                    Ok(reply) if reply.status == 200 => {
                        answered.fetch_add(1, SeqCst);
                        // A connection that ends says so first.
                        if reply.field("connection") != Some("close") {
                            kept = Some(connection);
                        }
                    }
                    Ok(reply) => failures.push(format!("status {}", reply.status)),
                    Err(error) => failures.push(format!("request: {error}")),
                }
            }
            failures
        }));
    }

    /// Waits until so many more are answered.
    #[track_caller]
    fn go_on(&self, more: u64) {
        let goal = self.answered.load(SeqCst) + more;
        eventually("requests are answered", || {
            self.answered.load(SeqCst) >= goal
        });
    }

    fn end(self) -> (u64, Vec<String>) {
        self.ended.store(true, SeqCst);
        let failures = self.clients.into_iter().map(|it| it.join().unwrap());
        let failures = failures.flatten().collect();
        (self.answered.load(SeqCst), failures)
    }
}

fn echo() -> Origin {
    Origin::with("a", |exchange| match exchange.head.field("upgrade") {
        Some("websocket") => exchange.echo(),
        _ => exchange.respond_with_name(),
    })
}

fn open_websocket(balancer: &Balancer) -> Connection {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ));
    let head = connection.head().unwrap();
    assert!(head.start.starts_with("HTTP/1.1 101 "), "{head:?}");
    connection
}

fn assert_echoes(connection: &mut Connection) {
    connection.send("word");
    let mut heard = [0; 4];
    connection.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"word");
}

/// So many WebSockets are open at once, each to a process of its own.
const KEPT: usize = 5;

/// Upgrades `rounds` times, with other numbers of workers, while clients go on. How many requests were answered.
fn upgrade_under_load(rounds: usize) -> u64 {
    let origin = echo();
    let authority = Authority::new("test");
    let config = |workers: usize| {
        format!(
            "[listener.http]\naddress = \"127.0.0.1:0\"\n[listener.https]\naddress = \"127.0.0.1:0\"\n\
             tls = {{ certificates = [{{ chain = \"leaf.pem\", key = \"leaf.key\" }}] }}\n\
             [upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nname = \"main\"\nupstream = \"app\"\n\
             [process]\nworkers = {workers}\nstartup_wait = \"2s\"\n",
            origin.address()
        )
    };
    let mut balancer = Balancer::start_with(&config(2), |folder| {
        authority.issue(&[HOST]).write(folder, "leaf");
    });
    let (http, https) = (balancer.http(), balancer.address("https"));
    let tls = || Tls::new(&authority, HOST);
    let mut load = Load::new();
    load.ask(http, None, true);
    load.ask(http, None, false);
    load.ask(https, Some(tls()), true);
    load.ask(https, Some(tls().resuming()), false);
    let resuming = tls().resuming();
    let ask_secure = |round: usize| {
        let mut connection = Connection::secure(https, &resuming).unwrap();
        assert_eq!(connection.get("/").text(), "a");
        assert_eq!(connection.is_resumed(), round > 0, "round {round}");
    };
    ask_secure(0);
    let mut successors = Successors::default();
    let mut websockets = vec![open_websocket(&balancer)];
    for round in 1..=rounds {
        load.go_on(20);
        balancer.write_configuration(&config([2, 3, 1][round % 3]));
        successors.upgrade(&balancer);
        assert_eq!(balancer.http(), http);
        ask_secure(round);
        // Processes that have one are still there; not too many of them.
        websockets.push(open_websocket(&balancer));
        if websockets.len() > KEPT {
            websockets.remove(0);
        }
        websockets.iter_mut().for_each(assert_echoes);
    }
    load.go_on(20);
    let (answered, failures) = load.end();
    assert!(
        failures.is_empty(),
        "{} of {answered}: {failures:?}",
        failures.len()
    );
    if rounds < KEPT {
        assert!(balancer.is_running(), "it has a WebSocket");
    }
    assert_eq!(balancer.status()["upgrade"]["state"], "draining");

    // Every request was counted once, wherever it was served. Those that a process has counted last come at its end.
    drop(websockets);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    eventually("all is counted", || {
        let labels = [("route", "main"), ("code", "200")];
        let counted = balancer.metrics().sum("balancer_requests_total", &labels);
        counted == (answered + rounds as u64 + 1) as f64
    });
    answered
}

#[test]
fn no_request_is_lost_and_no_websocket_cut_while_processes_change() {
    upgrade_under_load(4);
}

#[test]
#[ignore = "takes a minute; run by hand, for the figure"]
fn fifty_upgrades_under_load() {
    let answered = upgrade_under_load(50);
    println!("50 upgrades, {answered} requests, no failure");
}
