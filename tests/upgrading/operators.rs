//! What operators do while the process before still finishes what it has: that one hears of it, and what it has in flight counts.

use std::fs;

use super::{Successors, asked, begin};
use crate::support::collector::Collector;
use crate::support::command::{begun, told};
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get};

/// An origin that holds requests for `/held` until the gate opens.
fn holding(name: &'static str, gate: &Gate) -> Origin {
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

fn config(origins: [&Origin; 2]) -> String {
    let [a, b] = origins.map(Origin::address);
    format!(
        "[process]\nworkers = 1\n[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nslow_start = \"0s\"\n\
         endpoints = [{{ name = \"a\", address = \"{a}\" }}, {{ name = \"b\", address = \"{b}\" }}]\n\
         [[route]]\nname = \"main\"\nupstream = \"app\"\n"
    )
}

/// Asks for `/held` of `a`, and reads half of the answer.
fn hold(balancer: &Balancer) -> Connection {
    assert_eq!(asked(balancer, &["disable", "app/b"]).0, Some(0));
    let mut connection = Connection::open(balancer.http());
    connection.send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection.final_head().unwrap();
    connection.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(asked(balancer, &["resume", "app/b"]).0, Some(0));
    connection
}

#[test]
fn regression_what_the_process_before_has_in_flight_is_waited_for() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), Origin::named("b"));
    let balancer = Balancer::start(&config([&a, &b]));
    let mut held = hold(&balancer);
    let mut before = begun(&balancer, &["drain", "app/a", "--wait"]);
    eventually("it drains", || {
        balancer.endpoint("app", "a")["mode"] == "draining"
    });
    let mut successors = Successors::default();
    // Over two changes, too: the first process is the one before the one before.
    for _ in 0..2 {
        successors.upgrade(&balancer);
        eventually("it is known what is in flight", || {
            balancer.endpoint("app", "a")["in_flight"] == 1
                && balancer.endpoint("app", "b")["in_flight"] == 0
        });
        let (code, text) = asked(&balancer, &["drain", "app/a", "--wait", "--timeout", "1"]);
        assert_eq!(code, Some(4), "{text}");
        assert!(text.contains("1 in flight after 1 s"), "{text}");
    }
    let hook = balancer.directory().join("hook");
    let touch = format!("touch {}", hook.display());
    let roll = ["roll", "app", "--hook", &touch, "--only", "a"];
    let (code, text) = asked(&balancer, &[&roll[..], &["--timeout", "1s"]].concat());
    assert_eq!(code, Some(4), "{text}");
    assert!(!hook.exists(), "{text}");
    assert!(before.try_wait().unwrap().is_none(), "it waits still");

    gate.open();
    held.read_exact(&mut [0; 2]).unwrap();
    let (code, text) = told(&before.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("nothing is in flight"), "{text}");
    let (code, text) = asked(&balancer, &roll);
    assert_eq!(code, Some(0), "{text}");
    assert!(hook.exists());
}

#[test]
fn regression_process_before_sends_nothing_more_where_an_operator_wants_nothing() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config([&a, &b]));
    let kept = (0..12).map(|_| {
        let mut connection = Connection::open(balancer.http());
        assert_eq!(connection.get("/").status, 200);
        connection
    });
    let mut kept: Vec<_> = kept.collect();
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    assert_eq!(asked(&balancer, &["disable", "app/a"]).0, Some(0));
    for connection in &mut kept {
        // Some are closed by now.
        let reply = connection.try_send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        if let Ok(reply) = reply.and_then(|()| connection.try_reply("GET")) {
            assert_eq!(reply.text(), "b");
            assert_eq!(reply.field("connection"), Some("close"));
        }
    }
}

#[test]
fn regression_roll_goes_on_after_an_upgrade_that_was_under_way_and_the_audit_says_what_was_refused()
{
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config([&a, &b]));
    let file = |name: &str| balancer.directory().join(name);
    let hook = format!(
        "touch {}; until [ -e {} ]; do sleep 0.01; done",
        file("begun").display(),
        file("goes-on").display()
    );
    let roll = begun(&balancer, &["roll", "app", "--force", "--hook", &hook]);
    eventually("the hook runs", || file("begun").exists());
    let hangs = file("hangs");
    fs::write(&hangs, "#!/bin/sh\nexec sleep 100\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&hangs, executable).unwrap();
    let hangs = hangs.display().to_string();
    let upgrade = begin(&balancer, &["--binary", &hangs, "--timeout", "2s"]);
    eventually("the upgrade is under way", || {
        balancer.status()["upgrade"]["state"] == "starting"
    });
    let refused = asked(&balancer, &["drain", "app/b", "--force"]);
    assert!(refused.1.contains("an upgrade is under way"), "{refused:?}");
    let refused = asked(&balancer, &["rollback", "7"]);
    assert!(refused.1.contains("an upgrade is under way"), "{refused:?}");
    fs::write(file("goes-on"), "").unwrap();
    // It is refused at least once.
    eventually("the resume is refused", || {
        let events = balancer.events("operator");
        let is_it = |event: &serde_json::Value| event["target"] == "app/a";
        events
            .iter()
            .any(|it| is_it(it) && it["action"] == "resume" && it["result"] == "refused")
    });
    assert_eq!(told(&upgrade.wait_with_output().unwrap()).0, Some(1));
    let (code, text) = told(&roll.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    for name in ["a", "b"] {
        assert_eq!(balancer.endpoint("app", name)["mode"], "active");
    }
    let refused = balancer.events("operator").into_iter();
    let refused = refused.filter(|event| event["result"] == "refused");
    let refused: Vec<_> = refused
        .map(|event| format!("{} {}", event["action"], event["target"]))
        .collect();
    for expected in ["\"drain\" \"app/b\"", "\"rollback\" \"7\""] {
        assert!(
            refused.iter().any(|it| it == expected),
            "{expected} in {refused:?}"
        );
    }
    assert_eq!(get(balancer.http(), "/").status, 200);
}

/// What comes of a roll through `a`, whose hook ends with `code`, after the balancer was upgraded while it ran.
fn rolled_over_an_upgrade(code: u8) -> (Balancer, Successors, (Option<i32>, String)) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config([&a, &b]));
    let file = |name: &str| balancer.directory().join(name);
    let hook = format!(
        "touch {}; until [ -e {} ]; do sleep 0.01; done; exit {code}",
        file("begun").display(),
        file("goes-on").display()
    );
    let arguments = ["roll", "app", "--only", "a", "--hook", &hook];
    let roll = begun(&balancer, &arguments);
    eventually("the hook runs", || file("begun").exists());
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    assert_eq!(balancer.endpoint("app", "a")["mode"], "disabled");
    fs::write(file("goes-on"), "").unwrap();
    let ended = told(&roll.wait_with_output().unwrap());
    (balancer, successors, ended)
}

#[test]
fn regression_whose_hook_failed_is_left_draining_after_an_upgrade_while_it_ran() {
    let (balancer, _successors, (code, text)) = rolled_over_an_upgrade(1);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("app/a: left draining"), "{text}");
    assert_eq!(balancer.endpoint("app", "a")["mode"], "draining");
}

#[test]
fn regression_roll_goes_on_with_the_same_endpoint_after_an_upgrade_while_its_hook_ran() {
    let (balancer, _successors, (code, text)) = rolled_over_an_upgrade(0);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("app/a: done, 1 of 1"), "{text}");
    assert_eq!(balancer.endpoint("app", "a")["mode"], "active");
}

#[test]
fn regression_spans_that_the_process_before_sends_at_its_very_end_are_counted() {
    let (collector, gate) = (Collector::new(), Gate::new());
    let (a, b) = (holding("a", &gate), Origin::named("b"));
    let tracing = format!(
        "[tracing]\nendpoint = \"http://{}\"\nsample = 1\n",
        collector.address()
    );
    let balancer = Balancer::start(&(tracing + &config([&a, &b])));
    let mut held = hold(&balancer);
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    gate.open();
    held.read_exact(&mut [0; 2]).unwrap();
    // The process before has nothing else to do, and ends at once.
    collector.await_spans(2);
    eventually("the new one goes on counting from there", || {
        balancer.metrics().sum("balancer_spans_exported_total", &[]) == 2.0
    });
}
