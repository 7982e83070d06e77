//! When a claim counts no more because who made it is surely not there, and when it only may be so.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::{
    FAST, LASTING, Node, assert_refused, await_authority, await_refusal, config, said, shown,
    start, upstream,
};
use crate::support::certificates::Authority;
use crate::support::tls_origin::TlsFront;
use crate::support::{Balancer, Connection, eventually, get};

const BOTH: &str = "a and b claim to be the authority";

fn nodes() -> [Node; 2] {
    [Node::new("a", "authority"), Node::new("b", "replica")]
}

#[test]
fn regression_claim_made_after_a_refusal_counts_before_its_maker_has_risen() {
    let mut nodes = nodes();
    let slow = format!("{}, {LASTING}", FAST.replace("rise = 1", "rise = 50"));
    let balancer = Balancer::start(&config(&[&nodes[0], &nodes[1]], &slow, ""));
    await_authority(&balancer, "a");
    nodes[0].origin.stop();
    nodes[1].say("authority");
    await_authority(&balancer, "b");
    nodes[0].origin.start_again();
    await_refusal(&balancer, "two_authorities", BOTH);
    assert_eq!(shown(&balancer, "a")[0], "down", "not risen yet");
}

#[test]
fn regression_claim_of_one_that_was_gone_does_not_come_back_when_its_port_falls_silent() {
    let mut nodes = nodes();
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    nodes[0].origin.stop();
    nodes[1].say("authority");
    await_authority(&balancer, "b");
    let _silent = nodes[0].fall_silent();
    nodes[0].origin.start_again();
    eventually("a is silent", || {
        let why = shown(&balancer, "a")[1].to_string();
        why.contains("timed out")
    });
    assert_eq!(upstream(&balancer)["authority"], "b");
    assert_eq!(get(balancer.http(), "/admin").text(), "b");
}

/// Passes bytes on to `behind`. Where it is torn it takes connections and ends them at once, where it is held it lets them wait.
struct Way {
    address: SocketAddr,
    is_torn: Arc<AtomicBool>,
    is_held: Arc<AtomicBool>,
}

impl Way {
    fn to(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [is_torn, is_held] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (torn, held) = (Arc::clone(&is_torn), Arc::clone(&is_held));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !torn.load(SeqCst) {
                    let held = Arc::clone(&held);
                    thread::spawn(move || pass(client, behind, &held));
                }
            }
        });
        Self {
            address,
            is_torn,
            is_held,
        }
    }
}

fn pass(client: TcpStream, behind: SocketAddr, held: &AtomicBool) {
    while held.load(SeqCst) {
        thread::sleep(Duration::from_millis(5));
    }
    let Ok(server) = TcpStream::connect(behind) else {
        return;
    };
    let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
    for (mut from, mut to) in [(client, server), back] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

/// `a`, behind a way, and `b`, both behind TLS.
struct Secured {
    nodes: [Node; 2],
    way: Way,
    _fronts: [TlsFront; 2],
    balancer: Balancer,
}

impl Secured {
    fn start() -> Self {
        let nodes = nodes();
        let authority = Authority::new("the test");
        let leaf = authority.issue(&["app.test"]);
        let fronts = nodes
            .each_ref()
            .map(|node| TlsFront::new(node.origin.address(), &leaf));
        let way = Way::to(fronts[0].address());
        let [a, b] = nodes
            .each_ref()
            .map(|node| node.origin.address().to_string());
        let health = format!("{FAST}, {LASTING}");
        let more = "tls = { ca = \"ca.pem\", server_name = \"app.test\" }\ntimeouts = { connect = \"30s\" }";
        let text = config(&[&nodes[0], &nodes[1]], &health, more)
            .replace(&a, &way.address.to_string())
            .replace(&b, &fronts[1].address().to_string());
        let balancer = Balancer::start_with(&text, |directory| {
            std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
        });
        await_authority(&balancer, "a");
        Self {
            nodes,
            way,
            _fronts: fronts,
            balancer,
        }
    }

    fn requests(&self) -> [usize; 2] {
        self.nodes
            .each_ref()
            .map(|node| node.origin.request_count())
    }
}

#[test]
fn regression_torn_handshake_voids_no_claim() {
    let secured = Secured::start();
    let balancer = &secured.balancer;
    secured.way.is_torn.store(true, SeqCst);
    balancer.await_health("app", "a", "down");
    secured.nodes[1].say("authority");
    await_refusal(balancer, "two_authorities", BOTH);
    assert_eq!(secured.requests(), [0, 0]);
}

#[test]
fn regression_what_was_picked_is_not_sent_once_another_one_serves() {
    let secured = Secured::start();
    let balancer = &secured.balancer;
    secured.way.is_held.store(true, SeqCst);
    let mut connection = Connection::open(balancer.http());
    connection.send("POST /admin HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n");
    eventually("it is picked", || {
        balancer.endpoint("app", "a")["in_flight"] == 1
    });
    said(balancer, &["disable", "app/a", "--force"]);
    secured.nodes[1].say("authority");
    await_authority(balancer, "b");
    secured.way.is_held.store(false, SeqCst);
    assert_refused(balancer, &connection.reply(), "no_authority");
    assert_eq!(secured.requests(), [0, 0]);
}
