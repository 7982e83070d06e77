//! Whatever goes wrong with the new process, the running one goes on as if nothing had happened, and says why.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal};

use super::{Successors, asked, await_end, begin, upgrade};
use crate::support::balancer::BINARY;
use crate::support::command::told;
use crate::support::{Balancer, Origin, eventually, eventually_some, get, simple};

/// A program that is no balancer.
fn script(balancer: &Balancer, text: &str) -> String {
    let path: PathBuf = balancer.directory().join(format!("script-{}", text.len()));
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// An upgrade whose new process waits for an endpoint that does not answer its check.
struct Starting {
    upgrade: Child,
    pid: Pid,
    _unanswered: TcpStream,
}

/// Begins one, with `workers`, and returns once the new process has all open that it will.
fn begin_and_wait(balancer: &Balancer, origin: &Origin, workers: usize) -> Starting {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    balancer.write_configuration(&format!(
        "[process]\nworkers = {workers}\nstartup_wait = \"60s\"\n{}\n[upstream.silent]\nendpoints = [\"{}\"]\n\
         health = {{ interval = \"60s\", timeout = \"60s\" }}\n",
        simple(&[origin]),
        silent.local_addr().unwrap()
    ));
    let upgrade = begin(balancer, &[]);
    let (unanswered, _) = eventually_some("the new process checks its endpoints", || {
        silent.accept().ok()
    });
    let pid = balancer.status()["upgrade"]["pid"].as_i64();
    let pid = pid.and_then(|it| Pid::from_raw(i32::try_from(it).ok()?));
    Starting {
        upgrade,
        pid: pid.expect("one is under way"),
        _unanswered: unanswered,
    }
}

impl Starting {
    /// Ends the new process; the upgrade has to fail.
    fn end(self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).unwrap();
        let (code, text) = told(&self.upgrade.wait_with_output().unwrap());
        assert_eq!(code, Some(1), "{text}");
    }
}

#[test]
fn regression_more_workers_take_no_connection_before_they_can_serve_it() {
    let origin = Origin::named("a");
    let one = format!("[process]\nworkers = 1\n{}", simple(&[&origin]));
    let balancer = Balancer::start(&one);
    let starting = begin_and_wait(&balancer, &origin, 4);
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    starting.end(Signal::KILL);
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
}

#[test]
fn regression_new_process_that_is_told_to_end_leaves_the_admin_socket() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for signal in [Signal::TERM, Signal::INT] {
        begin_and_wait(&balancer, &origin, 2).end(signal);
        let (code, text) = asked(&balancer, &["status"]);
        assert_eq!(code, Some(0), "{text}");
    }
}

#[test]
fn new_process_that_fails_leaves_the_running_one_as_it_was() {
    let origin = Origin::named("a");
    let configuration = simple(&[&origin]);
    let mut balancer = Balancer::start(&configuration);
    let exits = script(&balancer, "exit 3");
    let hangs = script(&balancer, "exec sleep 100");
    let closes = script(&balancer, "exec sleep 101 </dev/null");
    let odd = script(
        &balancer,
        "printf '\\000\\000\\000\\002{}' >&0; exec sleep 100",
    );
    let mut tried = 0;
    let mut refused = |arguments: &[&str], expected: &str| {
        let (code, text) = upgrade(&balancer, arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(expected), "{expected} in {text}");
        assert_eq!(get(balancer.http(), "/").text(), "a");
        assert_eq!(balancer.status()["generation"], 1);
        assert!(balancer.status()["upgrade"].is_null());
        tried += 1;
    };
    refused(&["--binary", &exits], "exit status: 3");
    refused(
        &["--binary", &hangs, "--timeout", "1s"],
        "was not ready within 1s",
    );
    refused(&["--binary", &closes], "ended (signal: 9");
    refused(&["--binary", &odd], "could not be spoken with");
    refused(&["--binary", "/no/such/file"], "cannot be started");
    let broken = configuration.replace("endpoints", "endpoint");
    balancer.write_configuration(&broken);
    refused(&[], "balancer.toml:6:");
    let no_key = configuration.replace(
        "[upstream",
        "tls = { certificates = [{ chain = \"x\", key = \"y\" }] }\n[upstream",
    );
    balancer.write_configuration(&no_key);
    refused(&[], "certificate chain");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    balancer.write_configuration(&format!(
        "{configuration}\n[listener.more]\naddress = \"{address}\"\n"
    ));
    refused(&[], &format!("listener `more` cannot listen on {address}"));
    assert_eq!(balancer.events("operator").len(), tried);
    assert!(
        balancer
            .events("operator")
            .iter()
            .all(|event| event["action"] == "upgrade" && event["result"] == "refused")
    );

    // And then it works.
    balancer.write_configuration(&configuration);
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn regression_file_that_holds_out_everybody_is_taken_over_by_nobody_unless_somebody_insists() {
    let origin = Origin::named("a");
    let version = [("X-App-Version", "42")];
    origin.on_probe(move |exchange| exchange.respond(200, &version, ""));
    let expecting = |what: &str| {
        let health = format!("health = {{ version_header = \"X-App-Version\"{what} }}");
        simple(&[&origin]).replace("[[route]]", &format!("{health}\n[[route]]"))
    };
    let balancer = Balancer::start(&expecting(""));
    eventually("its version is known", || {
        balancer.endpoint("app", &origin.address().to_string())["version"] == "42"
    });
    let other = expecting(", expect_version = \"43\"");
    balancer.write_configuration(&other);
    let (code, text) = upgrade(&balancer, &[]);
    assert_eq!(code, Some(1), "{text}");
    let why = "upstream.app.health.expect_version: app: holds out 1 of 1 endpoint (it runs 42, want 43), and nobody is left";
    assert!(text.contains(why), "{text}");
    assert!(text.contains("insist with `--force`"), "{text}");
    assert_eq!(get(balancer.http(), "/").text(), "a");

    let mut successors = Successors::default();
    let (code, text) = upgrade(&balancer, &["--force"]);
    assert_eq!(code, Some(0), "{text}");
    successors.add(&text);
    get(balancer.http(), "/").assert_made_by_balancer(503);
    // Nobody is held out by the next one who was in use until then.
    successors.upgrade(&balancer);
}

#[test]
fn while_one_upgrade_is_under_way_nothing_else_changes_and_the_end_ends_both() {
    let origin = Origin::named("a");
    let mut balancer = Balancer::start(&simple(&[&origin]));
    let hangs = script(&balancer, "exec sleep 100");
    let first = begin(&balancer, &["--binary", &hangs]);
    let pid = eventually_some("the status tells of it", || {
        let upgrade = &balancer.status()["upgrade"];
        (upgrade["state"] == "starting").then(|| upgrade["pid"].as_i64())?
    });
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    let (code, text) = upgrade(&balancer, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("an upgrade is under way"), "{text}");
    let (code, text) = asked(&balancer, &["reload"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("an upgrade is under way"), "{text}");
    // A signal to reload waits.
    balancer.signal(Signal::HUP);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert!(balancer.events("configuration reloaded").is_empty());

    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    await_end(pid);
    let (code, text) = told(&first.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{text}");
}

#[test]
fn regression_loss_of_the_process_that_took_over_ends_the_one_before_soon_and_with_an_error() {
    let origin = Origin::with("a", |exchange| exchange.echo());
    let configuration = format!(
        "[process]\nworkers = 1\nshutdown_grace = \"1s\"\n{}",
        simple(&[&origin])
    );
    let mut balancer = Balancer::start(&configuration);
    let mut connection = crate::support::Connection::open(balancer.http());
    connection.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    connection.head().unwrap();
    let mut successors = Successors::default();
    let pid = successors.upgrade(&balancer);
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // Long before the 10 minutes that the tunnel would have.
    assert_eq!(balancer.wait_exit().code(), Some(1));
    assert_eq!(balancer.events("the process that took over is lost; nobody accepts connections, and this one ends soon").len(), 1);
    let told = "the process that serves now cannot be told what is left here";
    assert!(balancer.events(told).len() <= 1);
}

#[test]
fn regression_balancer_that_a_manager_follows_by_its_number_alone_is_upgraded_only_when_forced() {
    let origin = Origin::named("a");
    // As systemd starts a service with Type=exec.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "SYSTEMD_EXEC_PID=$$ exec \"$0\" \"$@\"", BINARY]);
    command.env_remove("NOTIFY_SOCKET");
    let mut balancer = Balancer::spawn(&simple(&[&origin]), |_| {}, command).ready();
    let (code, text) = upgrade(&balancer, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("systemd follows this process alone"),
        "{text}"
    );
    assert!(text.contains("--force"), "{text}");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    let (code, text) = upgrade(&balancer, &["--force"]);
    assert_eq!(code, Some(0), "{text}");
    let mut successors = Successors::default();
    successors.add(&text);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert_eq!(get(balancer.http(), "/").text(), "a");
}

#[test]
fn process_that_has_handed_over_ends_with_its_grace_when_told_to() {
    let origin = Origin::with("a", |exchange| exchange.echo());
    let configuration = format!(
        "[process]\nworkers = 1\nshutdown_grace = \"1s\"\n{}",
        simple(&[&origin])
    );
    let mut balancer = Balancer::start(&configuration);
    let mut connection = crate::support::Connection::open(balancer.http());
    connection.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    connection.head().unwrap();
    let mut successors = Successors::default();
    let pid = successors.upgrade(&balancer);
    eventually("the status tells of the one before", || {
        balancer.status()["upgrade"]["connections"] == 1
    });
    assert!(balancer.is_running());
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
    eventually("the status tells no more", || {
        balancer.status()["upgrade"].is_null()
    });
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    await_end(pid);
    assert!(
        !balancer.directory().join("run/balancer.sock").exists(),
        "the socket goes with the last one"
    );
}
