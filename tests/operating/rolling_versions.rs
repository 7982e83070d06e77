//! `roll` to a version: what is waited for, what is said when it does not come, and what is refused because it cannot.

use rustix::process::{Pid, Signal, kill_process};

use super::rolling::{at, begun, checked, mode, restarting, started};
use super::{command, done, socket, told};
use crate::support::{Balancer, Origin, eventually};

/// Both are asked which version they run, and for `more`.
fn asking(origins: [&Origin; 2], more: &str) -> String {
    let asking = format!("rise = 1, version_header = \"x-v\"{more} }}");
    checked(&origins, "").replace("rise = 1 }", &asking)
}

/// Both say which version they run.
fn versioned(origins: [&Origin; 2]) -> Balancer {
    started(&asking(origins, ""), &["a", "b"])
}

fn run_version(origin: &Origin, version: &'static str) {
    origin.on_probe(move |exchange| exchange.respond(200, &[("x-v", version)], ""));
}

#[test]
fn expected_version_is_waited_for_and_a_second_roll_goes_on_where_the_first_has_stopped() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    run_version(&a, "41");
    run_version(&b, "41");
    let balancer = versioned([&a, &b]);
    let roll = |more: &[&str]| {
        let hook = restarting(balancer.directory());
        let expected = ["roll", "app", "--hook", &hook, "--expect-version", "42"];
        begun(&balancer, &[&expected, more].concat())
    };
    let restarted = |origin: &Origin, version| {
        let file = |what: &str, name: &str| balancer.directory().join(format!("{what}-{name}"));
        let name = if std::ptr::eq(origin, &a) { "a" } else { "b" };
        eventually("its hook runs", || file("stop", name).exists());
        run_version(origin, version);
        std::fs::write(file("started", name), "").unwrap();
    };
    let first = roll(&[]);
    restarted(&a, "42");
    restarted(&b, "41");
    // It is up, and that is not enough.
    eventually("it is resumed", || mode(&balancer, "b") == "active");
    balancer.await_health("app", "b", "up");
    eventually("its version is known", || {
        balancer.endpoint("app", "b")["version"] == "41"
    });
    // Whoever has no patience ends it; the next goes on.
    kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
    let (code, text) = told(&first.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("app/a: up, version 42\n"), "{text}");
    assert!(!text.contains("app/b: up"), "{text}");
    for name in ["stop-b", "started-b"] {
        std::fs::remove_file(balancer.directory().join(name)).unwrap();
    }
    let second = roll(&["--continue"]);
    restarted(&b, "42");
    let (code, text) = told(&second.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("app/a: left out: it runs version 42 already\n"),
        "{text}"
    );
    assert!(text.contains("app/b: up, version 42\n"), "{text}");
}

#[test]
fn version_that_is_never_reached_ends_it_with_what_was_seen() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    run_version(&a, "41");
    run_version(&b, "41");
    let balancer = versioned([&a, &b]);
    let arguments = [
        "roll",
        "app",
        "--hook",
        "true",
        "--expect-version",
        "42",
        "--timeout",
        "700ms",
    ];
    let (code, text) = told(&command(&balancer, &arguments));
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("app/a: is up again, but runs version 41, want 42; waits 0 s more at most\n"),
        "{text}"
    );
    let hint = "the hook has not brought it; is the package there, and does the link lead to it?";
    let late = format!("roll app: a is up, version 41, want 42 after 0 s: {hint}\n");
    assert!(text.contains(&late), "{text}");
    let go_on = "balancer roll app --hook true --timeout 700ms --expect-version 42 --continue";
    let end = format!("not reached: b; to go on: {go_on}{}\n", at(&balancer));
    assert!(text.ends_with(&end), "{text}");
    assert_eq!(mode(&balancer, "a"), "draining");
    // Nobody is asked for a version: that is told at once.
    let unasked = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let (code, text) = told(&command(
        &unasked,
        &["roll", "app", "--expect-version", "42"],
    ));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("set health.version_header"), "{text}");
    let (code, _) = told(&command(&unasked, &["roll", "app", "--continue"]));
    assert_eq!(code, Some(64));
}

#[test]
fn regression_version_that_the_file_would_hold_out_is_refused_before_anybody_is_drained() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    run_version(&a, "42");
    run_version(&b, "42");
    let balancer = versioned([&a, &b]);
    balancer.reloaded(&asking([&a, &b], ", expect_version = \"42\""));
    let roll = ["roll", "app", "--hook", "true", "--expect-version", "43"];
    let (code, text) = told(&command(&balancer, &roll));
    assert_eq!(code, Some(1), "{text}");
    let file = balancer.directory().join("balancer.toml");
    let place = format!("balancer: roll app: {}:", file.display());
    assert!(text.starts_with(&place), "{text}");
    let why = "upstream.app.health.expect_version: \"42\" holds out who runs 43: take that out and reload, then roll, then set it to \"43\" and reload\n";
    assert!(text.ends_with(why), "{text}");
    // Where it is not known to be the file of what runs, no place in it is told.
    let socket = socket(&balancer);
    let by_socket = [&roll[..], &["--socket", socket.to_str().unwrap()]].concat();
    let (code, text) = told(&command(&balancer, &by_socket));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("roll app: upstream.app.health.expect_version of what runs: \"42\" holds"),
        "{text}"
    );
    // The right order.
    balancer.reloaded(&asking([&a, &b], ""));
    run_version(&a, "43");
    run_version(&b, "43");
    done(&command(&balancer, &roll));
    balancer.reloaded(&asking([&a, &b], ", expect_version = \"43\""));
    for name in ["a", "b"] {
        assert_eq!(balancer.endpoint("app", name)["state"], "up");
    }
}

#[test]
fn regression_version_that_nothing_brings_is_refused_before_anybody_is_drained() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    run_version(&a, "42");
    run_version(&b, "41");
    let balancer = versioned([&a, &b]);
    let roll = ["roll", "app", "--expect-version", "42", "--timeout", "5s"];
    for more in [&[][..], &["--continue"], &["--dry-run"]] {
        let (code, text) = told(&command(&balancer, &[&roll[..], more].concat()));
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("nothing brings version 42 to b (version 41): say with --hook"),
            "{text}"
        );
    }
    for name in ["a", "b"] {
        assert_eq!(mode(&balancer, name), "active");
    }
    // Who has it already needs nothing.
    done(&command(&balancer, &[&roll[..], &["--only", "a"]].concat()));
}
