//! What a service manager is told (sd_notify(3)): when the balancer serves, what came of a reload, that it ends, and that it
//! still turns. The manager is a socket of the test's own.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::support::balancer::BINARY;
use crate::support::{Balancer, Connection, DEADLINE, Origin, Outcome, get, simple};

/// Reads what the balancer says.
struct Manager {
    socket: UnixDatagram,
    /// As `NOTIFY_SOCKET` names it.
    name: String,
    _directory: TempDir,
}

impl Manager {
    fn at_a_path() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::new(socket, path.display().to_string(), directory)
    }

    fn at_an_abstract_name() -> Self {
        let directory = TempDir::new().unwrap();
        let name = directory.path().display().to_string(); // nobody else has it
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::new(
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{name}"),
            directory,
        )
    }

    fn new(socket: UnixDatagram, name: String, directory: TempDir) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            name,
            _directory: directory,
        }
    }

    /// Starts a balancer that is told of this manager, and of `more`.
    fn start(&self, configuration: &str, more: &[(&str, &str)]) -> Balancer {
        let mut command = Command::new(BINARY);
        command.env("NOTIFY_SOCKET", &self.name);
        command.envs(more.iter().copied());
        Balancer::spawn(configuration, |_| {}, command)
    }

    /// The next message, by variable.
    #[track_caller]
    fn told(&self) -> BTreeMap<String, String> {
        let mut buffer = [0; 8192];
        let length = self.socket.recv(&mut buffer).expect("a message");
        let text = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
        text.lines()
            .map(|line| line.split_once('=').expect("NAME=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

#[test]
fn readiness_is_told_once_connections_are_accepted() {
    let origin = Origin::named("a");
    for manager in [Manager::at_a_path(), Manager::at_an_abstract_name()] {
        let balancer = manager.start(&simple(&[&origin]), &[]);
        let told = manager.told();
        assert_eq!(told["READY"], "1", "{told:?}");
        assert_eq!(
            told["STATUS"],
            "serving; listeners: 1, routes: 1, endpoints: 1"
        );
        assert_eq!(get(balancer.ready().http(), "/").text(), "a");
    }
}

#[test]
fn reload_is_told_with_what_came_of_it() {
    let origin = Origin::named("a");
    let manager = Manager::at_a_path();
    let configuration = simple(&[&origin]);
    let balancer = manager.start(&configuration, &[]);
    manager.told();
    let balancer = balancer.ready();
    let more = format!("{configuration}\n[[route]]\npath = \"/more\"\nupstream = \"app\"\n");
    let broken = configuration.replace("endpoints", "endpoint");
    for (file, accepted) in [(&broken, false), (&more, true), (&broken, false)] {
        let outcome = balancer.reload(file);
        assert_eq!(matches!(outcome, Outcome::Accepted(_)), accepted);
        let begun = manager.told();
        assert_eq!(begun["RELOADING"], "1", "{begun:?}");
        let now = clock_gettime(ClockId::Monotonic);
        let at: i64 = begun["MONOTONIC_USEC"].parse().expect("microseconds");
        assert!(at > 0 && at <= now.tv_sec * 1_000_000 + now.tv_nsec / 1_000);
        let done = manager.told();
        assert_eq!(done["READY"], "1", "{done:?}");
        let status = &done["STATUS"];
        if accepted {
            assert_eq!(status, "serving; listeners: 1, routes: 2, endpoints: 1");
        } else {
            assert!(
                status.starts_with("reload rejected, the configuration before it stays in use:")
                    && status.contains("balancer.toml:5:9: upstream.app"),
                "the problem and its place: {status}"
            );
        }
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
}

#[test]
fn end_is_told_with_the_time_it_may_take() {
    let origin = Origin::named("a");
    let manager = Manager::at_a_path();
    let configuration = format!(
        "{}\n[process]\nworkers = 2\nshutdown_delay = \"1m\"\nshutdown_grace = \"9m\"\n",
        simple(&[&origin])
    );
    let balancer = manager.start(&configuration, &[]);
    manager.told();
    let mut balancer = balancer.ready();
    balancer.signal(Signal::TERM);
    let told = manager.told();
    assert_eq!(told["STOPPING"], "1", "{told:?}");
    let limit: u64 = told["EXTEND_TIMEOUT_USEC"].parse().expect("microseconds");
    assert!(
        (601_000_000..700_000_000).contains(&limit),
        "a little more than the ten minutes of the file: {limit}"
    );
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn signs_of_life_come_while_it_serves_and_while_it_ends() {
    let origin = Origin::named("a");
    let manager = Manager::at_a_path();
    let configuration = format!(
        "{}\n[process]\nworkers = 2\nshutdown_delay = \"1m\"\n",
        simple(&[&origin])
    );
    let balancer = manager.start(&configuration, &[("WATCHDOG_USEC", "20000")]);
    assert!(manager.told().contains_key("READY"));
    for _ in 0..3 {
        assert_eq!(manager.told()["WATCHDOG"], "1");
    }
    let mut balancer = balancer.ready();
    balancer.signal(Signal::TERM);
    while !manager.told().contains_key("STOPPING") {}
    for _ in 0..3 {
        assert_eq!(manager.told()["WATCHDOG"], "1");
    }
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn manager_that_cannot_be_told_is_no_reason_to_fail() {
    let origin = Origin::named("a");
    for name in [
        "/nowhere/notify",
        "@nobody-listens-here",
        "vsock:2:1",
        "nonsense",
    ] {
        let mut command = Command::new(BINARY);
        command.env("NOTIFY_SOCKET", name);
        let balancer = Balancer::spawn(&simple(&[&origin]), |_: &Path| {}, command).ready();
        assert_eq!(Connection::open(balancer.http()).get("/").text(), "a");
        assert!(
            !balancer.events("service manager cannot be told").is_empty(),
            "{name}"
        );
    }
}

#[test]
fn upgrade_is_told_by_the_one_process_first_and_then_by_the_other() {
    let origin = Origin::named("a");
    let manager = Manager::at_a_path();
    let mut balancer = manager.start(&simple(&[&origin]), &[]);
    manager.told();
    balancer = balancer.ready();
    let mut successors = crate::upgrading::Successors::default();
    let pid = successors.upgrade(&balancer);
    let told = manager.told();
    assert_eq!(told["MAINPID"], pid.to_string(), "{told:?}");
    let told = manager.told();
    assert_eq!(told["READY"], "1", "{told:?}");
    assert_eq!(balancer.wait_exit().code(), Some(0));
    // The service goes on: nobody has said that it ends, until it does.
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(manager.told()["STOPPING"], "1");
}
