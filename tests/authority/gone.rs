//! When a claim counts no more because who made it is surely not there, and when it only may be so.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use super::{FAST, LASTING, Node, await_authority, await_refusal, config, shown, start, upstream};
use crate::support::certificates::Authority;
use crate::support::tls_origin::TlsFront;
use crate::support::{Balancer, eventually, get};

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

/// Passes bytes on to `behind`, until it is torn: then it takes connections and ends them at once.
struct Way {
    address: SocketAddr,
    is_torn: Arc<AtomicBool>,
}

impl Way {
    fn to(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_torn = Arc::new(AtomicBool::new(false));
        let torn = Arc::clone(&is_torn);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if torn.load(SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(behind) else {
                    continue;
                };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (mut from, mut to) in [(client, server), back] {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self { address, is_torn }
    }
}

#[test]
fn regression_torn_handshake_voids_no_claim() {
    let nodes = nodes();
    let authority = Authority::new("the test");
    let leaf = authority.issue(&["app.test"]);
    let fronts = nodes
        .each_ref()
        .map(|node| TlsFront::new(node.origin.address(), &leaf));
    let way = Way::to(fronts[0].address());
    let health = format!("{FAST}, {LASTING}");
    let tls = "tls = { ca = \"ca.pem\", server_name = \"app.test\" }";
    let text = config(&[&nodes[0], &nodes[1]], &health, tls)
        .replace(
            &nodes[0].origin.address().to_string(),
            &way.address.to_string(),
        )
        .replace(
            &nodes[1].origin.address().to_string(),
            &fronts[1].address().to_string(),
        );
    let balancer = Balancer::start_with(&text, |directory| {
        std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    });
    await_authority(&balancer, "a");
    way.is_torn.store(true, SeqCst);
    balancer.await_health("app", "a", "down");
    nodes[1].say("authority");
    await_refusal(&balancer, "two_authorities", BOTH);
    let requests = nodes.each_ref().map(|node| node.origin.request_count());
    assert_eq!(requests, [0, 0]);
}
