//! `process.auto_rollback`: a reload that makes things worse is taken back.

use serde_json::json;

use super::{command, config, done, told};
use crate::support::balancer::Outcome;
use crate::support::origin::Refusing;
use crate::support::{Balancer, Gate, Next, Origin, eventually, get};

/// Of these origins, with a window of so many seconds.
fn watched(origins: &[&Origin], seconds: u32, more: &str) -> String {
    let more = format!(
        "[process]\nworkers = 2\nauto_rollback = {{ min_requests = 20, window = \"{seconds}s\"{more} }}\n\
         [admin]\naddress = \"127.0.0.1:0\"\naudit = \"audit.log\"\n"
    );
    config(origins, "", &more)
}

/// Asks as often as that tells something; how many were answered with `status`.
fn ask_often(balancer: &Balancer, status: u16) -> usize {
    let asked = (0..40).map(|_| get(balancer.http(), "/").status);
    asked.filter(|it| *it == status).count()
}

#[test]
fn reload_that_points_at_a_wrong_port_is_taken_back_once_and_loudly() {
    let a = Origin::named("a");
    let good = watched(&[&a], 30, "");
    let balancer = Balancer::start(&good);
    assert_eq!(ask_often(&balancer, 200), 40);
    let wrong = Refusing::new();
    let bad = good.replace(&a.address().to_string(), &wrong.address().to_string());
    assert_eq!(balancer.reloaded(&bad), 2);
    eventually("it is taken back", || {
        let status = get(balancer.http(), "/").status;
        status == 200 && balancer.status()["generation"] == 3
    });
    let said = "configuration rolled back automatically; the file still holds what failed";
    eventually("that is said everywhere", || {
        let audit = std::fs::read_to_string(balancer.directory().join("audit.log"));
        let entry = "\"action\":\"auto-rollback\",\"target\":\"2\"";
        audit.is_ok_and(|audit| audit.contains(entry)) && !balancer.events(said).is_empty()
    });
    let event = &balancer.events(said)[0];
    assert_eq!(event["level"], "ERROR");
    assert_eq!(
        (&event["given_up"], &event["back_to"], &event["generation"]),
        (&json!(2), &json!(1), &json!(3))
    );
    let why = event["why"].as_str().unwrap();
    assert!(why.contains("requests failed within"), "{why}");
    let last = balancer.status()["last_reload"].clone();
    assert_eq!(
        (&last["by"], &last["result"], &last["why"]),
        (&json!("auto-rollback"), &json!("accepted"), &json!(why))
    );
    let (_, said) = told(&command(&balancer, &["status"]));
    assert!(said.contains("rolled back automatically"), "{said}");
    let metrics = balancer.metrics();
    assert_eq!(
        metrics.sum("balancer_config_auto_rollbacks_total", &[]),
        1.0
    );
    assert_eq!(
        metrics.sum("balancer_config_last_reload_successful", &[]),
        0.0
    );

    // The same file is not taken again, unless somebody insists.
    let (code, said) = told(&command(&balancer, &["plan"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("balancer reload --force"), "{said}");
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("it was taken again");
    };
    assert!(
        problems.contains("rolled back automatically from generation 2"),
        "{problems}"
    );
    assert!(problems.contains("balancer reload --force"), "{problems}");
    let (code, said) = told(&command(&balancer, &["reload"]));
    assert_eq!(code, Some(1), "{said}");
    done(&command(&balancer, &["reload", "--force"]));
    assert_eq!(balancer.status()["generation"], 4);
    // Then it is as good as any other.
    assert!(matches!(balancer.reload_as_it_is(), Outcome::Accepted(5)));
    assert_eq!(balancer.reloaded(&good), 6);
    assert_eq!(ask_often(&balancer, 200), 40);
}

#[test]
fn rollback_by_hand_after_an_automatic_one_goes_further_back_and_not_to_what_failed() {
    let (oldest, a) = (Origin::named("oldest"), Origin::named("a"));
    let balancer = Balancer::start(&watched(&[&oldest], 30, ""));
    let good = watched(&[&a], 30, "");
    assert_eq!(balancer.reloaded(&good), 2);
    // Not on trial any more, and what comes counts as the time before.
    done(&command(&balancer, &["reload", "--force"]));
    assert_eq!(ask_often(&balancer, 200) + ask_often(&balancer, 200), 80);
    let wrong = Refusing::new();
    let bad = good.replace(&a.address().to_string(), &wrong.address().to_string());
    assert_eq!(balancer.reloaded(&bad), 4);
    eventually("it is taken back", || {
        let status = get(balancer.http(), "/").status;
        status == 200 && balancer.status()["generation"] == 5
    });
    let listed = done(&command(&balancer, &["rollback", "--list"]));
    let entry = listed.lines().find(|line| line.starts_with("5 "));
    let entry = entry.unwrap_or_else(|| panic!("{listed}"));
    assert!(entry.contains("auto-rollback"), "{listed}");
    assert!(entry.ends_with("as in generation 2"), "{listed}");
    done(&command(&balancer, &["rollback"]));
    assert_eq!(get(balancer.http(), "/").text(), "oldest");
    // The file's own words come back, and that is said.
    let (_, said) = told(&command(&balancer, &["reload", "--force"]));
    assert!(
        said.contains("holds what it held in generation 4"),
        "{said}"
    );
}

#[test]
fn good_reload_is_kept() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&watched(&[&a], 2, ""));
    assert_eq!(ask_often(&balancer, 200), 40);
    assert_eq!(balancer.reloaded(&watched(&[&b], 2, "")), 2);
    assert_eq!(ask_often(&balancer, 200), 40);
    eventually("its time is over", || {
        !balancer.events("configuration kept").is_empty()
    });
    let kept = &balancer.events("configuration kept")[0];
    assert_eq!(
        (&kept["generation"], &kept["failed"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(balancer.status()["generation"], 2);
}

/// Answers 500 once the gate is open.
fn failing(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::with("f", move |exchange| {
        gate.wait();
        exchange.write_then("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Next::Keep)
    })
}

#[test]
fn application_that_fails_anyway_is_no_reason() {
    let gate = Gate::new();
    gate.open();
    let origin = failing(&gate);
    let text = watched(&[&origin], 2, ", errors = \"all\"");
    let balancer = Balancer::start(&text);
    assert_eq!(ask_often(&balancer, 500), 40);
    assert_eq!(balancer.reloaded(&format!("{text}\n# the same\n")), 2);
    assert_eq!(ask_often(&balancer, 500), 40);
    eventually("its time is over", || {
        !balancer.events("configuration kept").is_empty()
    });
    assert_eq!(balancer.status()["generation"], 2);
}

#[test]
fn failures_of_the_application_count_where_they_are_asked_for() {
    let gate = Gate::new();
    gate.open();
    let (a, origin) = (Origin::named("a"), failing(&gate));
    let balancer = Balancer::start(&watched(&[&a], 30, ", errors = \"all\""));
    assert_eq!(ask_often(&balancer, 200), 40);
    assert_eq!(
        balancer.reloaded(&watched(&[&origin], 30, ", errors = \"all\"")),
        2
    );
    eventually("it is taken back", || {
        let status = get(balancer.http(), "/").status;
        status == 200 && balancer.status()["generation"] == 3
    });
    assert_eq!(ask_often(&balancer, 200), 40);
}

#[test]
fn regression_reload_under_which_every_request_hangs_is_taken_back() {
    let (a, gate) = (Origin::named("a"), Gate::new());
    let silent = failing(&gate);
    let short = |text: String| {
        let timeouts = "timeouts.response_head = \"3s\"\n[[route]]";
        text.replace("[[route]]", timeouts)
    };
    let balancer = Balancer::start(&short(watched(&[&a], 2, "")));
    assert_eq!(ask_often(&balancer, 200), 40);
    assert_eq!(balancer.reloaded(&short(watched(&[&silent], 2, ""))), 2);
    // None of them has failed when the window is over.
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| get(balancer.http(), "/"));
        }
    });
    eventually("it is taken back", || balancer.status()["generation"] == 3);
    assert_eq!(ask_often(&balancer, 200), 40);
    assert!(balancer.events("configuration kept").is_empty());
    gate.open();
}
