//! Sockets that a service manager has opened (sd_listen_fds(3)) are used: what has queued up on them before the start is served.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::balancer::BINARY;
use crate::support::client::HOST;
use crate::support::{Balancer, Connection, Origin, eventually, get};

/// Starts a balancer with `socket` as its first descriptor after the standard ones, called `name`.
fn start(configuration: &str, socket: TcpListener, name: &str) -> Balancer {
    let mut shell = Command::new("sh");
    let script = format!(
        "LISTEN_FDS=1 LISTEN_FDNAMES={name} LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null"
    );
    shell.args(["-c", &script, BINARY]);
    let input = Stdio::from(OwnedFd::from(socket));
    Balancer::spawn_reading(input, configuration, |_| {}, shell).ready()
}

fn configuration(origin: &Origin, address: impl std::fmt::Display) -> String {
    format!(
        "[listener.http]\naddress = \"{address}\"\n[upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nupstream = \"app\"\n",
        origin.address()
    )
}

/// A client that has come too early.
fn waiting(socket: &TcpListener) -> Connection {
    let mut connection = Connection::open(socket.local_addr().unwrap());
    connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    connection
}

#[test]
fn socket_at_a_listeners_address_is_that_listeners_with_what_waits_there() {
    let origin = Origin::named("a");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut early = waiting(&socket);
    let mut balancer = start(&configuration(&origin, address), socket, "balancer.socket");
    assert_eq!(balancer.http(), address);
    assert_eq!(early.reply().text(), "a");
    // By all workers, and the next process.
    for _ in 0..10 {
        assert_eq!(get(address, "/").text(), "a");
    }
    let mut successors = crate::upgrading::Successors::default();
    successors.upgrade(&balancer);
    for _ in 0..10 {
        assert_eq!(get(address, "/").text(), "a");
    }
    drop(early);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert_eq!(get(address, "/").text(), "a");
}

#[test]
fn socket_with_a_listeners_name_is_that_listeners_wherever_it_is() {
    let origin = Origin::named("a");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut early = waiting(&socket);
    let balancer = start(&configuration(&origin, "127.0.0.1:0"), socket, "http");
    assert_eq!(balancer.http(), address);
    assert_eq!(early.reply().text(), "a");
}

#[test]
fn socket_that_is_no_listeners_is_closed_and_named() {
    let origin = Origin::named("a");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let balancer = start(&configuration(&origin, "127.0.0.1:0"), socket, "other");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    eventually("nobody listens there", || {
        std::net::TcpStream::connect(address).is_err()
    });
    let said = balancer.log().join("\n");
    assert!(said.contains(&address.to_string()) && said.contains("is no listener's and is closed"));
}

#[test]
fn regression_admins_socket_of_the_manager_is_answered_on_and_does_not_stop_the_rest() {
    let origin = Origin::named("a");
    // One that blocks, as systemd passes them.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let configuration = configuration(&origin, "127.0.0.1:0");
    let configuration = format!("{configuration}[admin]\naddress = \"{address}\"\n");
    let mut balancer = start(&configuration, socket, "balancer.socket");
    assert_eq!(balancer.admin(), address);
    for _ in 0..3 {
        assert_eq!(get(address, "/livez").status, 200);
    }
    assert_eq!(get(balancer.http(), "/").text(), "a");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
}
