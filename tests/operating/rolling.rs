//! `roll`: endpoints restarted one after the other, while clients notice nothing; and every way in which it stops.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{command, config, done, told};
pub(super) use crate::support::command::begun;
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, eventually_some, get};

/// Checks that notice soon, and for which no busy machine is too slow; no slow start.
pub(super) fn checked(origins: &[&Origin], of_a: &str) -> String {
    config(origins, of_a, "").replace(
        "[upstream.app]",
        "[upstream.app]\nslow_start = \"0s\"\nhealth = { interval = \"500ms\", fast_interval = \"50ms\", timeout = \"500ms\", rise = 1 }",
    )
}

/// An origin that holds requests for `/held` until the gate opens.
pub(super) fn holding(name: &'static str, gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::with(name, move |exchange| {
        if exchange.target() == "/held" {
            let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
            gate.wait();
            return exchange.write_then("lf", Next::Keep);
        }
        exchange.respond_with_name()
    })
}

/// Asks for `/held` and reads half of the answer.
pub(super) fn hold(balancer: &Balancer) -> Connection {
    let mut connection = Connection::open(balancer.http());
    connection.send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection.final_head().unwrap();
    connection.read_exact(&mut [0; 2]).unwrap();
    connection
}

/// Ready, and every endpoint found up.
pub(super) fn started(text: &str, endpoints: &[&str]) -> Balancer {
    let balancer = Balancer::start(text);
    for name in endpoints {
        balancer.await_health("app", name, "up");
    }
    balancer
}

/// A hook that has the test restart the endpoint's origin: it makes one file and waits for another.
pub(super) fn restarting(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "touch {directory}/stop-$BALANCER_ENDPOINT; until [ -e {directory}/started-$BALANCER_ENDPOINT ] || [ ! -d {directory} ]; do sleep 0.01; done; echo restarted $BALANCER_UPSTREAM/$BALANCER_ENDPOINT"
    )
}

/// Without what is chance: durations, and what was in flight.
fn without_chance(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.rsplit_once(" after ").map_or(line, |(line, _)| line);
        let line = line
            .split_once(", ")
            .filter(|(line, _)| line.ends_with(": draining"))
            .map_or(line, |(line, _)| line);
        format!("{line}\n")
    });
    lines.collect()
}

/// What leads to `balancer` in a command that is to be typed.
pub(super) fn at(balancer: &Balancer) -> String {
    let file = balancer.directory().join("balancer.toml");
    format!(" --config {}", file.display())
}

pub(super) fn mode(balancer: &Balancer, name: &str) -> String {
    let endpoint = balancer.endpoint("app", name);
    endpoint["mode"].as_str().unwrap().to_owned()
}

#[test]
fn every_endpoint_is_restarted_in_turn_and_no_client_notices() {
    let (mut a, mut b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(
        &checked(&[&a, &b], ", max_in_flight = 100")
            .replace("name = \"b\"", "name = \"b\", max_in_flight = 100"),
        &["a", "b"],
    );
    let over = AtomicBool::new(false);
    let directory = balancer.directory();
    let hook = restarting(directory);
    let (text, asked) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(SeqCst) {
                assert_eq!(get(balancer.http(), "/").status, 200);
                asked += 1;
            }
            asked
        });
        let rolling = scope.spawn(|| command(&balancer, &["roll", "app", "--hook", &hook]));
        for (name, origin) in [("a", &mut a), ("b", &mut b)] {
            eventually("the hook runs", || {
                directory.join(format!("stop-{name}")).exists()
            });
            assert_eq!(balancer.endpoint("app", name)["state"], "disabled");
            origin.stop();
            origin.start_again();
            std::fs::write(directory.join(format!("started-{name}")), "").unwrap();
        }
        let text = done(&rolling.join().unwrap());
        over.store(true, SeqCst);
        (text, asking.join().unwrap())
    });
    assert_eq!(
        without_chance(&text),
        "roll app: 2 endpoints, 1 at a time\n\
         app/a: draining\n\
         app/a: nothing is in flight\n\
         app/a: the hook runs\n\
         restarted app/a\n\
         app/a: the hook is done\n\
         app/a: resumed\n\
         app/a: up\n\
         app/a: done, 1 of 2\n\
         app/b: draining\n\
         app/b: nothing is in flight\n\
         app/b: the hook runs\n\
         restarted app/b\n\
         app/b: the hook is done\n\
         app/b: resumed\n\
         app/b: up\n\
         app/b: done, 2 of 2\n\
         roll app: 2 endpoints done\n"
    );
    assert!(asked > 0);
    for name in ["a", "b"] {
        assert_eq!(mode(&balancer, name), "active");
    }
}

#[test]
fn scripts_are_told_an_object_per_line_and_hooks_do_not_come_between() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let output = command(
        &balancer,
        &[
            "roll",
            "app",
            "--only",
            "app/b",
            "--hook",
            "echo noise",
            "--json",
        ],
    );
    let steps: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let words: Vec<_> = steps
        .iter()
        .map(|it| it["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        words,
        [
            "begin",
            "draining",
            "empty",
            "hook",
            "hook-done",
            "resumed",
            "well",
            "done",
            "finished"
        ]
    );
    assert!(steps[1..8].iter().all(|step| step["endpoint"] == "b"));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "noise\n");
}

#[test]
fn hook_that_fails_ends_it_and_leaves_its_endpoint_drained() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let (code, text) = told(&command(&balancer, &["roll", "app", "--hook", "exit 7"]));
    assert_eq!(code, Some(1), "{text}");
    let at = at(&balancer);
    assert!(
        text.ends_with(&format!(
            "balancer: roll app: a: the hook failed: exit status: 7\n\
             balancer: app/a: left draining; when it is well, `balancer resume app/a{at}` gives it requests again\n\
             balancer: roll app: not reached: b; to go on: balancer roll app --hook 'exit 7' --only b{at}\n"
        )),
        "{text}"
    );
    assert_eq!(mode(&balancer, "a"), "draining");
    assert_eq!(mode(&balancer, "b"), "active");
    // What it has left is in the way of the next one, until somebody has seen to it.
    let (code, text) = told(&command(&balancer, &["roll", "app", "--only", "b"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("b not taken out: not all others are well: a is draining"),
        "{text}"
    );
    done(&command(
        &balancer,
        &["roll", "app", "--only", "a", "--hook", "true"],
    ));
    assert_eq!(mode(&balancer, "a"), "draining");
    done(&command(&balancer, &["resume", "app/a"]));
    balancer.await_health("app", "a", "up");
    done(&command(&balancer, &["roll", "app", "--hook", "true"]));
}

#[test]
fn endpoint_that_does_not_come_back_is_drained_again() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    a.probe_status(500);
    let hook = ["roll", "app", "--hook", "true", "--timeout", "400ms"];
    let (code, text) = told(&command(&balancer, &hook));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("app/a: resumed\n"), "{text}");
    assert!(!text.contains("app/a: up"), "{text}");
    assert!(text.contains("balancer: app/a: left draining; "), "{text}");
    assert_eq!(mode(&balancer, "a"), "draining");
    assert_eq!(get(balancer.http(), "/").text(), "b");
}

#[test]
fn what_is_in_flight_for_too_long_ends_it() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = started(
        &checked(&[&a, &b], ", max_in_flight = 9")
            .replace("name = \"b\"", "name = \"b\", max_in_flight = 9"),
        &["a", "b"],
    );
    let _held = (hold(&balancer), hold(&balancer));
    let (code, text) = told(&command(&balancer, &["roll", "app", "--timeout", "0s"]));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("app/a: draining, 1 in flight\n"), "{text}");
    assert!(
        text.contains("roll app: a has 1 in flight after 0 s\n"),
        "{text}"
    );
    assert_eq!(mode(&balancer, "a"), "draining");
    gate.open();
}

#[test]
fn it_is_refused_where_the_rest_could_not_carry_the_load() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let text = checked(&[&a, &b], ", max_in_flight = 2")
        .replace("name = \"b\"", "name = \"b\", max_in_flight = 2");
    let balancer = started(&text, &["a", "b"]);
    let status = done(&command(&balancer, &["status"]));
    let could = "2 of 2 available, could lose 1 of 2 (by max_in_flight)\n";
    assert!(status.contains(could), "{status}");
    let held = [hold(&balancer), hold(&balancer), hold(&balancer)];
    let status = done(&command(&balancer, &["status"]));
    let could = "2 of 2 available, could lose 0 of 2 (by max_in_flight)\n";
    assert!(status.contains(could), "{status}");
    let headroom = balancer.metrics();
    let family = "balancer_upstream_headroom_endpoints";
    assert_eq!(headroom.find(family, &[("upstream", "app")]), Some(0.0));
    let why = "the others may have 2 requests at once (max_in_flight), and 3 were in flight within the last minute";
    let (code, said) = told(&command(&balancer, &["roll", "app"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "balancer: roll app: a not taken out: {why} (--force goes on all the same)\n"
        )),
        "{said}"
    );
    assert_eq!(mode(&balancer, "a"), "active");
    let (code, said) = told(&command(&balancer, &["roll", "app", "--dry-run"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("app/b: would be refused: {why}\n")),
        "{said}"
    );
    let said = done(&command(
        &balancer,
        &["roll", "app", "--dry-run", "--force"],
    ));
    let although = format!("app/a: would be taken out although {why}\n");
    assert!(said.contains(&although), "{said}");
    gate.open();
    drop(held);
    let said = done(&command(&balancer, &["roll", "app", "--force"]));
    assert!(said.contains("roll app: 2 endpoints done"), "{said}");
}

#[test]
fn several_are_out_together_where_that_is_allowed() {
    let origins: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(Origin::named)
        .collect();
    let all: Vec<&Origin> = origins.iter().collect();
    let balancer = started(&checked(&all, ""), &["a", "b", "c", "d"]);
    let directory = balancer.directory();
    // Each hook ends only when its partner's runs as well.
    let hook = format!(
        "cd {}; touch on-$BALANCER_ENDPOINT; case $BALANCER_ENDPOINT in a) other=b;; b) other=a;; c) other=d;; d) other=c;; esac; until [ -e on-$other ]; do sleep 0.01; done",
        directory.display()
    );
    let said = done(&command(
        &balancer,
        &["roll", "app", "--max-unavailable", "50%", "--hook", &hook],
    ));
    assert!(
        said.starts_with("roll app: 4 endpoints, 2 at a time\n"),
        "{said}"
    );
    assert!(said.contains("app/d: done, 4 of 4\n"), "{said}");
}

#[test]
fn signal_before_the_hook_undoes_the_drain() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = started(
        &checked(&[&a, &b], ", max_in_flight = 9")
            .replace("name = \"b\"", "name = \"b\", max_in_flight = 9"),
        &["a", "b"],
    );
    let _held = (hold(&balancer), hold(&balancer));
    let roll = begun(&balancer, &["roll", "app", "--hook", "true"]);
    eventually("it drains", || mode(&balancer, "a") == "draining");
    kill_process(Pid::from_child(&roll), Signal::INT).unwrap();
    let (code, said) = told(&roll.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{said}");
    let at = at(&balancer);
    assert!(
        said.ends_with(&format!(
            "balancer: roll app: stopped by a signal, before anything was restarted\n\
             balancer: app/a: left in use, up\n\
             balancer: roll app: not reached: a, b; to go on: balancer roll app --hook true --only a --only b{at}\n"
        )),
        "{said}"
    );
    assert_eq!(mode(&balancer, "a"), "active");
    gate.open();
}

/// Sends `signal`, and waits until it was taken note of.
pub(super) fn stop(roll: &mut Child, signal: Signal) -> BufReader<ChildStderr> {
    kill_process(Pid::from_child(roll), signal).unwrap();
    let mut said = BufReader::new(roll.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let expected = "balancer: stopping in order; another signal ends this at once\n";
    assert_eq!(line, expected);
    said
}

#[test]
fn signal_during_the_hook_lets_it_end_and_resumes_what_it_restarted() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let directory = balancer.directory();
    let mut roll = begun(
        &balancer,
        &["roll", "app", "--hook", &restarting(directory)],
    );
    eventually("the hook runs", || directory.join("stop-a").exists());
    let mut said = stop(&mut roll, Signal::TERM);
    std::fs::write(directory.join("started-a"), "").unwrap();
    let mut end = String::new();
    said.read_to_string(&mut end).unwrap();
    let (code, text) = told(&roll.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("restarted app/a\n"), "{text}");
    assert!(end.contains("stopped by a signal, after the hook"), "{end}");
    assert!(end.contains("app/a: left in use, "), "{end}");
    assert!(!directory.join("stop-b").exists());
    balancer.await_health("app", "a", "up");
}

#[test]
fn second_signal_ends_it_at_once() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let directory = balancer.directory();
    let mut roll = begun(
        &balancer,
        &["roll", "app", "--hook", &restarting(directory)],
    );
    eventually("the hook runs", || directory.join("stop-a").exists());
    let _said = stop(&mut roll, Signal::INT);
    kill_process(Pid::from_child(&roll), Signal::INT).unwrap();
    let code = eventually_some("it ends", || roll.try_wait().unwrap()).code();
    assert_eq!(code, Some(1));
    assert_eq!(mode(&balancer, "a"), "disabled");
    std::fs::write(directory.join("started-a"), "").unwrap();
}

#[test]
fn roll_that_is_killed_leaves_an_endpoint_out_and_nothing_else() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    let directory = balancer.directory();
    let mut roll = begun(
        &balancer,
        &["roll", "app", "--hook", &restarting(directory)],
    );
    eventually("the hook runs", || directory.join("stop-a").exists());
    roll.kill().unwrap();
    roll.wait().unwrap();
    std::fs::write(directory.join("started-a"), "").unwrap();
    assert_eq!(mode(&balancer, "a"), "disabled");
    for _ in 0..5 {
        assert_eq!(get(balancer.http(), "/").text(), "b");
    }
    done(&command(&balancer, &["resume", "app/a"]));
    balancer.await_health("app", "a", "up");
}

#[test]
fn wrong_names_and_wishes_are_refused() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = started(&checked(&[&a, &b], ""), &["a", "b"]);
    for (arguments, code, hint) in [
        (
            &["roll", "apq"][..],
            1,
            "balancer: no upstream is named \"apq\"; did you mean \"app\"?\n",
        ),
        (
            &["roll", "app", "--only", "c"],
            1,
            "upstream \"app\" has no endpoint \"c\"",
        ),
        (
            &["roll", "app", "--max-unavailable", "0"],
            64,
            "expected a number from 1, or a share such as 25%",
        ),
        (&["roll", "app", "--pause", "5"], 64, "must be a duration"),
        (&["roll"], 64, "<UPSTREAM>"),
    ] {
        let (got, said) = told(&command(&balancer, arguments));
        assert_eq!(got, Some(code), "{said}");
        assert!(said.contains(hint), "{said}");
    }
    let said = done(&command(&balancer, &["roll", "app", "--dry-run"]));
    assert_eq!(
        said,
        "roll app: 2 endpoints, 1 at a time; nothing is changed\n\
         app/a: would be drained, restarted and resumed\n\
         app/b: would be drained, restarted and resumed\n"
    );
    assert_eq!(mode(&balancer, "a"), "active");
}
