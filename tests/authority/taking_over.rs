//! Another member becomes the authority: the one before is asked no more, and no request is done twice or by a clone.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{FAST, LASTING, Node, await_authority, await_refusal, config, start, upstream};
use crate::support::{Balancer, Connection, eventually, get};
use crate::upgrading::Successors;

#[test]
fn standby_takes_over_when_it_alone_claims_it() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    nodes[0].say("replica");
    await_refusal(
        &balancer,
        "no_authority",
        "no endpoint claims to be the authority",
    );
    nodes[1].say("authority");
    await_authority(&balancer, "b");
    assert_eq!(get(balancer.http(), "/admin").text(), "b");
    assert_eq!(nodes[0].origin.request_count(), 0);
}

#[test]
fn who_is_not_there_any_more_keeps_nobody_waiting() {
    let mut nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    nodes[0].origin.stop();
    nodes[1].say("authority");
    // For all that its claim would count for an hour.
    await_authority(&balancer, "b");
    assert_eq!(get(balancer.http(), "/admin").text(), "b");
    // And is one of two when it is back.
    nodes[0].origin.start_again();
    await_refusal(
        &balancer,
        "two_authorities",
        "a and b claim to be the authority",
    );
}

#[test]
fn who_cannot_be_asked_may_go_on_and_is_followed_only_when_its_claim_has_lapsed() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    let _silent = nodes[0].fall_silent();
    nodes[1].say("authority");
    await_refusal(
        &balancer,
        "two_authorities",
        "a and b claim to be the authority",
    );
    balancer.await_health("app", "a", "down");
    assert_eq!(upstream(&balancer)["authority"], serde_json::Value::Null);
    let health = format!("{FAST}, claim_ttl = \"1100ms\"");
    balancer.reloaded(&config(&[&nodes[0], &nodes[1]], &health, ""));
    await_authority(&balancer, "b");
    assert_eq!(get(balancer.http(), "/admin").text(), "b");
}

#[test]
fn upgraded_process_knows_who_serves_from_its_first_moment() {
    let nodes = [
        Node::new("a", "authority"),
        Node::new("b", "replica"),
        Node::new("c", "replica"),
    ];
    let _silent = nodes[2].fall_silent();
    let mut balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    // One that was never heard: at a start nobody would serve for an hour.
    let health = format!("{FAST}, {LASTING}");
    balancer.reloaded(&config(&[&nodes[0], &nodes[1], &nodes[2]], &health, ""));
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    assert_eq!(get(balancer.http(), "/admin").text(), "a");
    assert_eq!(upstream(&balancer)["authority"], "a");
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert_eq!(get(balancer.http(), "/admin").text(), "a");
}

#[test]
fn regression_process_before_sends_nothing_to_who_was_the_authority_when_it_was_replaced() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let mut balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    // Requests of which it has a part already, and so does the rest.
    let mut begun: Vec<_> = (0..40)
        .map(|_| {
            let mut connection = Connection::open(balancer.http());
            connection.send("GET /admin HTTP/1.1\r\nHost: app.");
            connection
        })
        .collect();
    eventually("it has taken all of them", || {
        balancer.metrics().sum("balancer_connections", &[]) >= 40.0
    });
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    nodes[0].say("replica");
    nodes[1].say("authority");
    await_authority(&balancer, "b");
    eventually("the process before knows it", || {
        thread::sleep(Duration::from_millis(100));
        let mut connection = begun.pop().expect("soon");
        connection.send("test\r\n\r\n");
        connection.reply().text() == "b"
    });
    drop(begun);
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn regression_tunnels_of_who_is_the_authority_no_more_end_in_time() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    for node in &nodes {
        node.origin.on_request(|exchange| exchange.echo());
    }
    let health = format!("{FAST}, {LASTING}");
    let more = "[process]\ndrain_tunnel_timeout = \"100ms\"";
    let balancer = Balancer::start(&config(&[&nodes[0], &nodes[1]], &health, more));
    await_authority(&balancer, "a");
    let tunnel = || {
        let mut connection = Connection::open(balancer.http());
        connection.send("GET /admin HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
        assert!(connection.head().unwrap().start.contains(" 101 "));
        connection
    };
    let at = |name| balancer.endpoint("app", name)["tunnels"].as_u64();
    let mut first = tunnel();
    eventually("it is at a", || at("a") == Some(1));
    nodes[0].say("replica");
    nodes[1].say("authority");
    await_authority(&balancer, "b");
    let mut second = tunnel();
    eventually("those of a have ended", || at("a") == Some(0));
    assert!(first.is_closed_by_peer());
    // And back: it has its time anew.
    nodes[1].say("replica");
    nodes[0].say("authority");
    await_authority(&balancer, "a");
    let mut third = tunnel();
    eventually("those of b have ended", || at("b") == Some(0));
    assert!(second.is_closed_by_peer());
    third.send("word");
    let mut word = [0; 4];
    third.read_exact(&mut word).unwrap();
    assert_eq!((&word, at("a")), (b"word", Some(1)));
}

/// A cluster of two of which one is the authority, and does what it is asked. The other one refuses that.
struct Cluster {
    nodes: [Node; 2],
    authority: Arc<AtomicUsize>,
    done: Arc<Mutex<Vec<(String, usize)>>>,
    refused: Arc<AtomicUsize>,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self {
            nodes: [Node::new("a", "authority"), Node::new("b", "replica")],
            authority: Arc::new(AtomicUsize::new(0)),
            done: Arc::default(),
            refused: Arc::default(),
        };
        for (index, node) in cluster.nodes.iter().enumerate() {
            let (authority, done) = (Arc::clone(&cluster.authority), Arc::clone(&cluster.done));
            let refused = Arc::clone(&cluster.refused);
            node.origin.on_request(move |exchange| {
                let body = exchange.body().bytes;
                if authority.load(SeqCst) != index {
                    refused.fetch_add(1, SeqCst);
                    return exchange.respond(409, &[], "");
                }
                let id = String::from_utf8(body).unwrap();
                done.lock().unwrap().push((id, index));
                exchange.respond(200, &[], "done")
            });
        }
        cluster
    }

    /// As a cluster's manager does: nobody is, then the other one is.
    fn hand_over(&self, balancer: &Balancer, to: usize) {
        self.nodes[1 - to].say("replica");
        eventually("nobody serves", || {
            upstream(balancer)["authority"].is_null()
        });
        self.authority.store(to, SeqCst);
        self.nodes[to].say("authority");
        await_authority(balancer, ["a", "b"][to]);
    }
}

const CLIENTS: usize = 4;
const MOVES: [usize; 3] = [1, 0, 1];

#[test]
fn no_request_is_done_twice_or_by_a_clone_while_the_authority_moves_under_load() {
    let cluster = Cluster::new();
    let balancer = start(&[&cluster.nodes[0], &cluster.nodes[1]], LASTING);
    await_authority(&balancer, "a");
    let stop = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, balancer) = (&stop, &balancer);
                scope.spawn(move || {
                    let mut connection = Connection::open(balancer.http());
                    let mut answered = Vec::new();
                    for number in 0.. {
                        if stop.load(SeqCst) {
                            break;
                        }
                        let id = format!("{client}-{number}");
                        let length = id.len();
                        connection.send(format!(
                            "POST /admin HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n{id}"
                        ));
                        match connection.reply().status {
                            200 => answered.push(id),
                            409 => {}
                            status => {
                                assert_eq!(status, 503);
                                connection = Connection::open(balancer.http());
                            }
                        }
                    }
                    answered
                })
            })
            .collect();
        for to in MOVES {
            cluster.hand_over(&balancer, to);
        }
        stop.store(true, SeqCst);
        let clients = clients.into_iter();
        clients
            .flat_map(|client| client.join().unwrap())
            .collect::<HashSet<_>>()
    });
    let done = cluster.done.lock().unwrap();
    let ids: HashSet<_> = done.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), done.len(), "nothing is done twice");
    assert_eq!(ids, answered, "what is done is answered so");
    assert!(done.iter().any(|(_, index)| *index == 1));
    // Those alone that were on their way when it was known that nobody serves.
    let refused = cluster.refused.load(SeqCst);
    assert!(refused <= CLIENTS * MOVES.len(), "{refused}");
}
