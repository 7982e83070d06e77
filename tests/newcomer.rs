//! A newcomer's first minutes: the demo and the three lines it prints, development certificates, an explanation of a
//! route, and every example that is shipped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::balancer::BINARY;
use crate::support::peers::peer;
use crate::support::{DEADLINE, eventually, eventually_some};

/// Runs the binary with `arguments` in `directory` to its end.
fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The demo, ended when dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn demo_prints_three_lines_that_work_as_they_stand() {
    let Some(_curl) = peer("curl", "curl") else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let mut child = Command::new(BINARY)
        .args(["demo", "--http", "0", "--https", "0", "--admin", "0"])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let mut demo = Demo(child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .for_each(|line| drop(sender.send(line)))
    });
    let mut commands: Vec<String> = Vec::new();
    while commands.len() < 3 {
        let line = receiver
            .recv_timeout(DEADLINE)
            .expect("three lines with curl");
        if let Some(start) = line.find("curl ") {
            commands.push(line[start..].to_owned());
        }
    }
    let mut answers: Vec<String> = Vec::new();
    for command in &commands {
        let output = eventually_some("the line works", || {
            let output = Command::new("sh")
                .args(["-c", command])
                .env("no_proxy", "*")
                .current_dir(directory.path())
                .output()
                .unwrap();
            output.status.success().then_some(output)
        });
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!answer.trim().is_empty(), "{command} prints nothing");
        answers.push(answer);
    }
    // Two clones and an authority, each answering with its name.
    for name in ["app-1", "app-2", "authority"] {
        assert!(
            answers.iter().any(|answer| answer.contains(name)),
            "nobody said {name}: {commands:?} answered {answers:?}"
        );
    }
    kill_process(Pid::from_child(&demo.0), Signal::INT).unwrap();
    let status = eventually_some("the demo ends", || demo.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn certs_are_made_once_and_replaced_only_when_told() {
    let directory = TempDir::new().unwrap();
    let output = run(directory.path(), &["certs"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let files = || -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(directory.path().join("certs")).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let first = files();
    let named = |name: &str| {
        first
            .iter()
            .any(|(path, _)| path.file_name().is_some_and(|file| file == name))
    };
    assert!(
        named("localhost.pem") && named("localhost.key"),
        "{first:?}"
    );

    let output = run(directory.path(), &["certs"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("--force"),
        "it says how to go on: {}",
        text(&output)
    );
    assert!(files() == first, "a refusal changed files");

    let output = run(directory.path(), &["certs", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(files() != first);
}

#[test]
fn keys_made_for_development_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let output = run(directory.path(), &["certs"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let mut keys = 0;
    for entry in fs::read_dir(directory.path().join("certs")).unwrap() {
        let entry = entry.unwrap();
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "key")
        {
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o077,
                0,
                "{:?}",
                entry.path()
            );
            keys += 1;
        }
    }
    assert!(keys >= 1);
}

#[test]
fn explain_names_the_route_and_the_canonical_path() {
    let directory = TempDir::new().unwrap();
    let config = r#"
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.app]
        endpoints = ["127.0.0.1:1"]
        [upstream.authority]
        endpoints = ["127.0.0.1:2"]
        [[route]]
        name = "boss"
        path = "/admin"
        upstream = "authority"
        exclusive = true
        [[route]]
        name = "rest"
        upstream = "app"
    "#;
    fs::write(directory.path().join("other.toml"), config).unwrap();
    let explain = |url: &str| {
        run(
            directory.path(),
            &["explain", "GET", url, "--config", "other.toml"],
        )
    };
    for (url, route, path) in [
        ("/admin", "boss", "/admin"),
        ("//x/../%61dmin/y", "boss", "/admin/y"),
        ("http://any.test/x/./y", "rest", "/x/y"),
    ] {
        let output = explain(url);
        assert_eq!(output.status.code(), Some(0), "{url}: {}", text(&output));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains(route) && told.contains(path), "{url}: {told}");
    }
    let told = text(&explain("/ADMIN"));
    assert!(
        told.contains("400"),
        "a refused spelling is explained as refused: {told}"
    );
}

#[test]
fn every_example_passes_its_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = TempDir::new().unwrap();
    let mut files = vec![root.join("balancer.toml")];
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    assert!(files.len() > 1, "there are examples");
    // As it stands in the tree: the examples beside the certificates of the folder above or of their own.
    let examples = directory.path().join("examples");
    fs::create_dir(&examples).unwrap();
    for place in [directory.path(), &examples] {
        let output = run(place, &["certs"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    let key = directory.path().join("certs/affinity.key");
    fs::write(key, "0123456789abcdef0123456789abcdef\n").unwrap();
    let pages = examples.join("pages");
    fs::create_dir(&pages).unwrap();
    for entry in fs::read_dir(root.join("examples/pages")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), pages.join(entry.file_name())).unwrap();
    }
    for file in files {
        let place = if file.parent() == Some(root) {
            directory.path()
        } else {
            &examples
        };
        let copy = place.join(file.file_name().expect("a file"));
        fs::copy(&file, &copy).unwrap();
        let output = run(
            directory.path(),
            &["check", "--config", copy.to_str().expect("UTF-8")],
        );
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}: {}",
            file.display(),
            text(&output)
        );
    }
}

#[test]
fn exit_codes_tell_usage_from_configuration() {
    let directory = TempDir::new().unwrap();
    fs::write(
        directory.path().join("good.toml"),
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = {}\n",
    )
    .unwrap();
    fs::write(
        directory.path().join("bad.toml"),
        "[listener.http]\naddress = \"nowhere\"\n",
    )
    .unwrap();
    for (arguments, code) in [
        (&["check", "--config", "good.toml"][..], 0),
        (&["check", "-c", "good.toml"], 0),
        (&["check", "--config", "bad.toml"], 78),
        (&["check", "--config", "missing.toml"], 78),
        (&["--config", "bad.toml"], 78),
        (&["run", "--config", "bad.toml"], 78),
        (&[], 78),
        (&["nonsense"], 64),
        (&["--nonsense"], 64),
        (&["explain"], 64),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let output = run(directory.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn without_a_file_named_the_one_in_the_current_directory_is_used() {
    let directory = TempDir::new().unwrap();
    let config = "[listener.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = {}\n[admin]\naddress = \"127.0.0.1:0\"\n";
    fs::write(directory.path().join("balancer.toml"), config).unwrap();
    let child = Command::new(BINARY)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    let lines = BufReader::new(demo.0.stderr.take().expect("stderr is piped")).lines();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .for_each(|line| drop(sender.send(line)))
    });
    eventually("it is ready", || {
        receiver
            .recv_timeout(DEADLINE)
            .expect("a line that says so")
            .contains("ready")
    });
    kill_process(Pid::from_child(&demo.0), Signal::TERM).unwrap();
    let status = eventually_some("it ends", || demo.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
