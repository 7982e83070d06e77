//! Rotation of the access log: SIGUSR1 has a file that was renamed let go of, and no line is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::HOST;
use crate::support::{Balancer, Connection, Gate, Origin, eventually, get, simple};

const ROTATIONS: usize = 5;

fn configuration(origin: &Origin) -> String {
    format!(
        "{}\n[access_log]\ntarget = \"log/access.log\"\n",
        simple(&[origin])
    )
}

fn start(origin: &Origin) -> (Balancer, PathBuf) {
    let balancer = Balancer::start_with(&configuration(origin), |directory| {
        fs::create_dir(directory.join("log")).unwrap();
    });
    let folder = balancer.directory().join("log");
    (balancer, folder)
}

/// The paths that were asked for, by the lines in `file`; fails on a line that is not whole.
fn paths(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let path = |line: &str| {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        record["path"].as_str().expect("a path").to_owned()
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(path).collect()
}

#[test]
fn every_request_has_its_line_while_files_are_rotated() {
    let origin = Origin::named("a");
    let (balancer, folder) = start(&origin);
    let file = folder.join("access.log");
    let done = AtomicBool::new(false);
    let asked: usize = thread::scope(|scope| {
        let ask = |client: usize| {
            let (balancer, done) = (&balancer, &done);
            move || {
                let mut connection = Connection::open(balancer.http());
                let mut count = 0;
                while !done.load(SeqCst) {
                    assert_eq!(connection.get(&format!("/{client}/{count}")).status, 200);
                    count += 1;
                }
                count
            }
        };
        let clients = [scope.spawn(ask(0)), scope.spawn(ask(1))];
        for rotation in 0..ROTATIONS {
            eventually("lines are written", || !paths(&file).is_empty());
            fs::rename(&file, folder.join(format!("access.log.{rotation}"))).unwrap();
            balancer.signal(Signal::USR1);
            eventually("a new file is opened", || file.exists());
        }
        done.store(true, SeqCst);
        clients.map(|client| client.join().unwrap()).iter().sum()
    });
    let lines = || -> Vec<String> {
        let files = fs::read_dir(&folder).unwrap();
        files
            .flat_map(|file| paths(&file.unwrap().path()))
            .collect()
    };
    eventually("all lines are written", || lines().len() >= asked);
    let lines = lines();
    let different: BTreeSet<&String> = lines.iter().collect();
    assert_eq!((lines.len(), different.len()), (asked, asked));
    assert_eq!(balancer.events("access log reopened").len(), ROTATIONS);
    assert_eq!(
        balancer.status()["generation"],
        1,
        "the file is reopened, the configuration not read"
    );
}

#[test]
fn old_file_goes_on_where_no_new_one_can_be_opened() {
    let origin = Origin::named("a");
    let (balancer, folder) = start(&origin);
    let file = folder.join("access.log");
    let moved = balancer.directory().join("moved");
    fs::rename(&folder, &moved).unwrap();
    balancer.signal(Signal::USR1);
    eventually("that is said", || {
        !balancer
            .events("access log cannot be reopened; lines go on into the file that is open")
            .is_empty()
    });
    assert_eq!(get(balancer.http(), "/old").status, 200);
    eventually("the line is written", || {
        paths(&moved.join("access.log")) == ["/old"]
    });
    fs::create_dir(&folder).unwrap();
    balancer.signal(Signal::USR1);
    eventually("a new file is opened", || file.exists());
    assert_eq!(get(balancer.http(), "/new").status, 200);
    eventually("the line is written", || paths(&file) == ["/new"]);
}

#[test]
fn regression_files_are_rotated_while_the_balancer_ends() {
    let (gate, origin) = gated();
    let (balancer, folder) = start(&origin);
    let file = folder.join("access.log");
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("GET /last HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually("it is in flight", || origin.request_count() == 1);
    balancer.signal(Signal::TERM);
    eventually("the end has begun", || {
        !balancer.events("shutting down").is_empty()
    });
    fs::rename(&file, folder.join("access.log.1")).unwrap();
    balancer.signal(Signal::USR1);
    eventually("a new file is opened", || file.exists());
    gate.open();
    assert_eq!(connection.reply().status, 200);
    eventually("the line is in the new file", || paths(&file) == ["/last"]);
}

/// An origin that answers when the gate is opened.
fn gated() -> (Gate, Origin) {
    let gate = Gate::new();
    let shut = gate.clone();
    let origin = Origin::with("gated", move |exchange| {
        shut.wait();
        exchange.respond_with_name()
    });
    (gate, origin)
}

#[test]
fn signal_without_a_file_changes_nothing() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    balancer.signal(Signal::USR1);
    eventually("it is heard", || {
        !balancer.events("access log reopened").is_empty()
    });
    assert_eq!(get(balancer.http(), "/").status, 200);
}
