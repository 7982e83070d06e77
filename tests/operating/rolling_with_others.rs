//! `roll` where others are at work meanwhile: reloads, operators, servers that fail, another `roll`; and hooks that ask.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::rolling::{begun, checked, hold, holding, mode, restarting, started, stop};
use super::{command, done, told};
use crate::support::balancer::BINARY;
use crate::support::{Balancer, Gate, Origin, eventually, eventually_some};

/// Both with room for all that the tests hold.
fn roomy(origins: &[&Origin]) -> String {
    checked(origins, ", max_in_flight = 9")
        .replace("name = \"b\"", "name = \"b\", max_in_flight = 9")
}

/// What it has said when it has ended by itself, which must be soon.
fn ended(mut roll: Child) -> (Option<i32>, String) {
    eventually_some("roll ends", || roll.try_wait().unwrap());
    told(&roll.wait_with_output().unwrap())
}

/// A hook that leaves a mark.
fn marking(directory: &Path) -> (PathBuf, String) {
    let mark = directory.join("restarted");
    let hook = format!("touch {}", mark.display());
    (mark, hook)
}

#[test]
fn regression_endpoint_that_a_reload_readdresses_is_not_restarted_with_requests_in_flight() {
    let gate = Gate::new();
    let (a, b, c) = (holding("a", &gate), holding("b", &gate), Origin::named("c"));
    let balancer = started(&roomy(&[&a, &b]), &["a", "b"]);
    let _held = (hold(&balancer), hold(&balancer));
    let (mark, hook) = marking(balancer.directory());
    let roll = begun(&balancer, &["roll", "app", "--only", "a", "--hook", &hook]);
    eventually("it drains", || mode(&balancer, "a") == "draining");
    balancer.reloaded(&roomy(&[&c, &b]));
    let (code, said) = ended(roll);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("a is another or gone since a reload"),
        "{said}"
    );
    assert!(!mark.exists());
    assert_eq!(mode(&balancer, "a"), "active");
    gate.open();
}

#[test]
fn regression_endpoint_that_an_operator_takes_out_meanwhile_stays_out() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let directory = balancer.directory();
    let roll = begun(
        &balancer,
        &["roll", "app", "--hook", &restarting(directory)],
    );
    eventually("the hook runs", || directory.join("stop-a").exists());
    done(&command(&balancer, &["disable", "app/b", "--force"]));
    std::fs::write(directory.join("started-a"), "").unwrap();
    std::fs::write(directory.join("started-b"), "").unwrap();
    let (code, said) = ended(roll);
    assert_eq!(code, Some(0), "{said}");
    let left_out = "app/b: left out: it is disabled (--only takes it all the same)\n";
    assert!(said.contains(left_out), "{said}");
    assert!(said.contains("roll app: 1 endpoint done"), "{said}");
    assert!(!directory.join("stop-b").exists());
    assert_eq!(mode(&balancer, "b"), "disabled");
}

#[test]
fn regression_endpoint_that_was_out_before_is_not_put_into_service() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = started(&roomy(&[&a, &b]), &["a", "b"]);
    let _held = (hold(&balancer), hold(&balancer));
    done(&command(&balancer, &["drain", "app/a"]));
    let arguments = ["roll", "app", "--only", "a", "--hook", "true"];
    let mut roll = begun(&balancer, &arguments);
    // It has begun, and takes note of signals.
    let said = roll.stdout.as_mut().unwrap();
    said.read_exact(&mut [0; 1]).unwrap();
    stop(&mut roll, Signal::INT);
    let (code, _) = ended(roll);
    assert_eq!(code, Some(1));
    assert_eq!(mode(&balancer, "a"), "draining");
    gate.open();
    let said = done(&command(&balancer, &arguments));
    assert!(said.contains("app/a: draining as before\n"), "{said}");
    assert_eq!(mode(&balancer, "a"), "draining");
}

#[test]
fn regression_last_healthy_endpoint_is_not_restarted_where_others_fail_meanwhile() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = started(&roomy(&[&a, &b]), &["a", "b"]);
    let _held = (hold(&balancer), hold(&balancer));
    let (mark, hook) = marking(balancer.directory());
    let roll = begun(&balancer, &["roll", "app", "--hook", &hook]);
    eventually("it drains", || mode(&balancer, "a") == "draining");
    b.probe_status(500);
    let (code, said) = ended(roll);
    assert_eq!(code, Some(1), "{said}");
    // Down, or by now in use all the same, for nobody else is left.
    let why = "a not restarted: not all others are well: b is d";
    assert!(said.contains(why), "{said}");
    assert!(!mark.exists());
    assert_eq!(mode(&balancer, "a"), "active");
    gate.open();
}

#[test]
fn regression_second_roll_is_refused_while_the_first_is_at_work() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let directory = balancer.directory();
    let hook = restarting(directory);
    let first = begun(&balancer, &["roll", "app", "--hook", &hook]);
    eventually("the hook runs", || directory.join("stop-a").exists());
    for second in [
        &["roll", "app", "--force"][..],
        &["roll", "app", "--only", "a"],
    ] {
        let (code, said) = told(&command(&balancer, second));
        assert_eq!(code, Some(1), "{said}");
        let why = "another roll goes through this upstream; wait for its end\n";
        assert!(said.ends_with(why), "{said}");
    }
    assert_eq!(mode(&balancer, "a"), "disabled");
    for name in ["a", "b"] {
        std::fs::write(directory.join(format!("started-{name}")), "").unwrap();
    }
    let (code, said) = ended(first);
    assert_eq!(code, Some(0), "{said}");
    let left: Vec<_> = std::fs::read_dir(directory.join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("roll"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn regression_operator_who_is_at_work_on_the_same_endpoint_has_the_last_word() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let directory = balancer.directory();
    let roll = begun(
        &balancer,
        &["roll", "app", "--hook", &restarting(directory)],
    );
    eventually("the hook runs", || directory.join("stop-a").exists());
    done(&command(&balancer, &["drain", "app/a"]));
    std::fs::write(directory.join("started-a"), "").unwrap();
    let (code, said) = ended(roll);
    assert_eq!(code, Some(1), "{said}");
    let why = "a was draining and not disabled: somebody else is at work";
    assert!(said.contains(why), "{said}");
    assert_eq!(mode(&balancer, "a"), "draining");
}

#[test]
fn regression_hook_that_asks_finds_no_terminal_and_one_that_is_stopped_is_told() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let leads_a_session = "[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && ! read line";
    let roll = |hook, more: &[&str]| {
        let arguments = [&["roll", "app", "--only", "a", "--hook", hook], more].concat();
        told(&command(&balancer, &arguments))
    };
    let (code, said) = roll(leads_a_session, &[]);
    assert_eq!(code, Some(0), "{said}");
    // On a busy machine it may not come to that in its time: then once more.
    eventually("it is told of one that is stopped", || {
        let (code, said) = roll("kill -STOP $$", &["--hook-timeout", "200ms"]);
        assert_eq!(code, Some(1), "{said}");
        let ended = "a: the hook was ended: it took longer than";
        assert!(said.contains(ended), "{said}");
        said.contains("app/a: the hook was stopped, ")
    });
    assert_eq!(mode(&balancer, "a"), "draining");
}

#[test]
fn hook_that_takes_too_long_is_ended_with_all_it_has_started() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let pid = balancer.directory().join("pid");
    let hook = format!("sleep 60 & echo $! >{}; wait", pid.display());
    let roll = ["roll", "app", "--only", "a", "--hook", &hook];
    let arguments = [&roll[..], &["--hook-timeout", "500ms"]].concat();
    // On a busy machine it may start nothing in its time: then once more.
    let started = eventually_some("the hook starts something", || {
        let (code, said) = told(&command(&balancer, &arguments));
        assert_eq!(code, Some(1), "{said}");
        let started = std::fs::read_to_string(&pid).ok();
        started.filter(|pid| pid.ends_with('\n'))
    });
    eventually("what it has started has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.trim()));
        // One that nobody has waited for yet has ended all the same.
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

/// `roll` as [`begun`], with SIGHUP as `env` sets it.
fn begun_with(balancer: &Balancer, hangup: &str) -> Child {
    Command::new("env")
        .args([hangup, BINARY, "roll", "app", "--hook", "true", "--config"])
        .arg(balancer.directory().join("balancer.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn regression_terminal_that_is_closed_stops_it_in_order() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = started(&roomy(&[&a, &b]), &["a", "b"]);
    let _held = (hold(&balancer), hold(&balancer));
    let mut roll = begun_with(&balancer, "--default-signal=HUP");
    eventually("it drains", || mode(&balancer, "a") == "draining");
    // Nobody reads what it says any more.
    drop((roll.stdout.take(), roll.stderr.take()));
    // The system and the shell may both say that the terminal is gone.
    for _ in 0..2 {
        kill_process(Pid::from_child(&roll), Signal::HUP).unwrap();
    }
    let (code, _) = ended(roll);
    assert_eq!(code, Some(1));
    assert_eq!(mode(&balancer, "a"), "active");
    gate.open();
}

#[test]
fn roll_that_was_started_to_outlive_its_terminal_does() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = started(&roomy(&[&a, &b]), &["a", "b"]);
    let _held = (hold(&balancer), hold(&balancer));
    let roll = begun_with(&balancer, "--ignore-signal=HUP");
    eventually("it drains", || mode(&balancer, "a") == "draining");
    kill_process(Pid::from_child(&roll), Signal::HUP).unwrap();
    gate.open();
    let (code, said) = ended(roll);
    assert_eq!(code, Some(0), "{said}");
}
