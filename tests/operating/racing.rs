//! Several operators at once, and signals in heaps.

use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ask, command, config, done, told};
use crate::support::{Balancer, Origin, eventually, eventually_some, get};

const AUDIT: &str = "[admin]\naddress = \"127.0.0.1:0\"\naudit = \"audit.log\"";

/// Action, target and result of what stands in the audit log, once `number` lines do.
fn audit(balancer: &Balancer, number: usize) -> Vec<(Value, Value, Value)> {
    let path = balancer.directory().join("audit.log");
    eventually_some("everything is in the audit log", || {
        let text = std::fs::read_to_string(&path).ok()?;
        let lines: Option<Vec<Value>> = text
            .lines()
            .map(|line| serde_json::from_str(line).ok())
            .collect();
        let lines = lines.filter(|lines| lines.len() == number)?;
        let told = |line: &Value| {
            (
                line["action"].clone(),
                line["target"].clone(),
                line["result"].clone(),
            )
        };
        Some(lines.iter().map(told).collect())
    })
}

#[test]
fn who_expects_a_generation_is_refused_when_somebody_was_quicker() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(&[&a], "", AUDIT));
    let said = done(&command(&balancer, &["plan", "--expect-generation", "1"]));
    assert!(said.contains("against generation 1"), "{said}");
    done(&command(&balancer, &["reload", "--expect-generation", "1"]));
    for action in ["plan", "reload"] {
        let (code, said) = told(&command(&balancer, &[action, "--expect-generation", "1"]));
        assert_eq!(code, Some(1), "{action}: {said}");
        assert_eq!(
            said,
            "balancer: generation 2 is in use, not 1: somebody was quicker; plan again\n"
        );
    }
    assert_eq!(balancer.status()["generation"], 2);
    let entry = |result: &str| (json!("reload"), json!(""), json!(result));
    assert_eq!(audit(&balancer, 2), [entry("done"), entry("refused")]);
}

#[test]
fn of_those_who_expect_the_same_generation_one_comes_first() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(&[&a], "", AUDIT));
    let body = "{\"expect_generation\": 1}";
    let mut codes: Vec<u16> = thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ask(&balancer, "POST", "/api/v1/reload", body).0))
            .collect();
        asking.into_iter().map(|it| it.join().unwrap()).collect()
    });
    codes.sort_unstable();
    assert_eq!(codes, [200, 409, 409, 409]);
    assert_eq!(balancer.status()["generation"], 2);
    assert_eq!(audit(&balancer, 4).len(), 4);
}

#[test]
fn last_of_two_operators_wins_and_both_are_in_the_audit_log() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(&[&a, &b], "", AUDIT));
    thread::scope(|scope| {
        for action in ["drain", "disable"] {
            scope.spawn({
                let balancer = &balancer;
                move || done(&command(balancer, &[action, "app/a"]))
            });
        }
    });
    let entries = audit(&balancer, 2);
    let mode = match entries[1].0.as_str() {
        Some("drain") => "draining",
        Some("disable") => "disabled",
        other => panic!("{other:?}"),
    };
    assert_eq!(balancer.endpoint("app", "a")["mode"], mode);
    let mut actions: Vec<_> = entries.iter().map(|entry| entry.0.as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, [Some("disable"), Some("drain")]);
}

/// A file that takes a while to be taken over, and what it answers.
fn large(answer: &str) -> String {
    let mut text = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = {{ body = \"{answer}\" }}\n"
    );
    for number in 0..1500 {
        text.push_str(&format!(
            "[[route]]\npath = \"/{number}\"\nrespond = {{ body = \"x\" }}\n"
        ));
    }
    text
}

#[test]
fn signals_that_come_while_a_reload_runs_are_one_more() {
    let balancer = Balancer::start(&large("first"));
    let begun = Instant::now();
    balancer.reloaded(&large("first"));
    let one = begun.elapsed();
    balancer.signal(Signal::HUP);
    balancer.write_configuration(&large("second"));
    let begun = Instant::now();
    for _ in 0..100 {
        balancer.signal(Signal::HUP);
    }
    // On a busy machine that may have taken as long as several reloads.
    let most = 2 + begun.elapsed().as_millis() / one.as_millis().max(1);
    eventually("what the last signal found is in use", || {
        get(balancer.http(), "/").text() == "second"
    });
    // Whatever signal were left, it would come before one of these.
    for _ in 0..3 {
        done(&command(&balancer, &["reload"]));
    }
    let generation = balancer.status()["generation"].as_u64().unwrap();
    let by_signals = u128::from(generation) - 2 - 3;
    assert!((1..=most).contains(&by_signals), "{by_signals} of {most}");
}
