//! The unix socket: whose it is, when it is there, and what commands say when it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;

use super::{ask, command, config, done, run, socket, told};
use crate::support::balancer::BINARY;
use crate::support::{Balancer, Origin, eventually};

#[test]
fn socket_is_its_owners_alone_and_goes_with_the_process() {
    let origin = Origin::named("a");
    let mut balancer = Balancer::start(&config(&[&origin], "", ""));
    let path = socket(&balancer);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    balancer.signal(Signal::TERM);
    assert!(balancer.wait_exit().success());
    assert!(!path.exists());
}

#[test]
fn socket_of_a_dead_process_is_replaced() {
    let origin = Origin::named("a");
    let text = config(&[&origin], "", "");
    let mut balancer = Balancer::start(&text);
    balancer.signal(Signal::KILL);
    balancer.wait_exit();
    let path = socket(&balancer);
    assert!(path.exists());
    let (code, said) = told(&command(&balancer, &["status"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no balancer runs with"), "{said}");
    assert!(said.contains("has ended"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let next = Balancer::start_with(&text, |directory| {
        fs::create_dir(directory.join("run")).unwrap();
        // Its listener is dropped, its file stays.
        std::os::unix::net::UnixListener::bind(directory.join("run/balancer.sock")).unwrap();
    });
    assert!(done(&command(&next, &["status"])).contains("upstream app"));
}

#[test]
fn socket_in_use_is_refused_where_it_was_asked_for_and_done_without_where_not() {
    let origin = Origin::named("a");
    let first = Balancer::start(&config(&[&origin], "", ""));
    let taken = socket(&first);
    let asked = config(
        &[&origin],
        "",
        &format!(
            "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"{}\"",
            taken.display()
        ),
    );
    let mut second = Balancer::spawn(&asked, |_| {}, Command::new(BINARY));
    assert_eq!(second.wait_exit().code(), Some(1));
    eventually("it says why", || {
        let log = second.log().join("\n");
        log.contains("admin.socket cannot listen on") && log.contains("another process answers")
    });
    // A second one with the same file: the usual socket is taken.
    let mut shell = Command::new(BINARY);
    shell
        .arg("--config")
        .arg(first.directory().join("balancer.toml"));
    shell.stderr(std::process::Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let without = lines.find(|line| line.as_ref().unwrap().contains("no admin socket"));
    let ready = lines.find(|line| line.as_ref().unwrap().contains("\"ready\""));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(without.is_some() && ready.is_some());
    assert!(UnixStream::connect(&taken).is_ok(), "the first goes on");
    assert_eq!(ask(&first, "GET", "/api/v1/status", "").0, 200);
}

#[test]
fn without_a_socket_there_are_no_commands() {
    let origin = Origin::named("a");
    let off = "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"off\"";
    let balancer = Balancer::start(&config(&[&origin], "", off));
    assert!(!socket(&balancer).exists());
    let (code, said) = told(&command(&balancer, &["reload"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("admin.socket is \"off\""), "{said}");
}

#[test]
fn without_a_balancer_every_command_says_so_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("balancer.toml");
    // The file need not be valid: whoever mends it asks for the status as well.
    fs::write(&path, "nonsense").unwrap();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["plan"],
        &["reload"],
        &["rollback"],
        &["drain", "app/a"],
        &["resume", "app/a"],
        &["disable", "app/a"],
        &["why", "app/a"],
        &["roll", "app"],
    ] {
        let (code, said) = told(&run(&path, arguments));
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("balancer: no balancer runs with "),
            "{said}"
        );
        assert!(said.contains("run/balancer.sock"), "{said}");
    }
}

#[test]
fn who_may_not_open_the_socket_is_told_so() {
    if rustix::process::geteuid().is_root() {
        // Root may open everything: as somebody else, through a shell that becomes one.
        let Ok(output) = Command::new("setpriv").arg("--version").output() else {
            return;
        };
        assert!(output.status.success());
    }
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    let mut asking = if rustix::process::geteuid().is_root() {
        let open = |path: &std::path::Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        open(balancer.directory());
        open(&balancer.directory().join("run"));
        let mut asking = Command::new("setpriv");
        asking.args(["--reuid", "65534", "--clear-groups", BINARY]);
        asking
    } else {
        let denied = fs::Permissions::from_mode(0o0);
        fs::set_permissions(socket(&balancer), denied).unwrap();
        Command::new(BINARY)
    };
    let config = balancer.directory().join("balancer.toml");
    let output = asking.arg("status").arg("--config").arg(config).output();
    let (code, said) = told(&output.unwrap());
    assert_ne!(code, Some(0), "{said}");
    if !said.starts_with("setpriv") {
        assert!(said.contains("permission denied"), "{said}");
    }
}

#[test]
fn balancer_of_another_version_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("run")).unwrap();
    let listener =
        std::os::unix::net::UnixListener::bind(folder.path().join("run/balancer.sock")).unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        let body = "{\"detail\":\"there is nothing at this path\"}";
        let length = body.len();
        write!(stream, "HTTP/1.1 404 Not Found\r\nServer: balancer/9.9.9\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    });
    let (code, said) = told(&run(&folder.path().join("balancer.toml"), &["status"]));
    other.join().unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("balancer/9.9.9"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn regression_balancer_is_found_after_its_file_was_edited_or_broken() {
    let origin = Origin::named("a");
    let text = config(&[&origin], "", "");
    let balancer = Balancer::start(&text);
    let status = |arguments: &[&str]| told(&command(&balancer, arguments));
    let admin =
        |socket| format!("{text}[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"{socket}\"\n");
    for other in ["elsewhere.sock", "off"] {
        balancer.write_configuration(&admin(other));
        let (code, said) = status(&["status"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("note: ") && said.contains("upstream app"),
            "{said}"
        );
    }
    balancer.write_configuration("[[[nonsense");
    let (code, said) = status(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    // By its socket from anywhere.
    let folder = tempfile::tempdir().unwrap();
    let path = socket(&balancer);
    let elsewhere = |arguments: &[&str]| {
        let arguments = [arguments, &["--socket", path.to_str().unwrap()]].concat();
        told(&run(&folder.path().join("none.toml"), &arguments))
    };
    for arguments in [
        &["status"][..],
        &["drain", "app/a", "--wait", "--force"],
        &["resume", "app/a"],
        &["disable", "app/a", "--force"],
        &["why", "app/a"],
        &["rollback", "--list"],
    ] {
        let (code, said) = elsewhere(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
    for arguments in [&["plan"][..], &["reload"], &["rollback"]] {
        let (code, said) = elsewhere(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(!said.contains("no balancer"), "{said}");
    }
}

#[test]
fn socket_that_was_named_and_leads_to_nobody_is_told_of_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    for (name, expected) in [
        ("none.sock", "there is no such file"),
        ("left.sock", "has ended"),
    ] {
        let path = folder.path().join(name);
        let arguments = ["status", "--socket", path.to_str().unwrap()];
        let (code, said) = told(&run(&folder.path().join("none.toml"), &arguments));
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("balancer: no balancer has the socket "),
            "{said}"
        );
        assert!(said.contains(expected), "{said}");
    }
}
