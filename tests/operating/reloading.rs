//! `reload`, `rollback` and `status`.

use std::thread;

use super::{command, config, done, told};
use crate::support::{Balancer, Origin, eventually, eventually_some, get};

#[test]
fn reload_tells_what_became_of_endpoints() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let balancer = Balancer::start(&config(&[&a, &b], "", ""));
    balancer.write_configuration(&config(&[&c, &b], "", "[process]\nworkers = 1"));
    let said = done(&command(&balancer, &["reload"]));
    assert!(
        said.starts_with(
            "generation 1 -> 2: 1 endpoint kept (0 in flight), 1 added, 1 draining\n\
             changes with a restart only: process.workers: 2 -> 1\n"
        ),
        "{said}"
    );
    assert!(said.contains("warning: "), "{said}");
    // It is new: its share grows.
    eventually("the new one is asked", || {
        get(balancer.http(), "/").text() == "c"
    });
    let event = eventually_some("it is logged", || {
        balancer.events("configuration reloaded").into_iter().next()
    });
    assert_eq!(
        (&event["previous"], &event["generation"]),
        (&1.into(), &2.into())
    );
}

#[test]
fn rejected_reload_prints_every_problem_and_exits_1() {
    let a = Origin::named("a");
    let text = config(&[&a], "", "");
    let balancer = Balancer::start(&text);
    balancer.write_configuration(
        &text.replace("upstream = \"app\"", "upstream = \"ap\"\npath = \"x\""),
    );
    let (code, said) = told(&command(&balancer, &["reload"]));
    assert_eq!(code, Some(1), "{said}");
    let file = balancer.directory().join("balancer.toml");
    for place in [
        "6:12: route[0].upstream: no upstream is named \"ap\"",
        "7:8: route[0].path: ",
    ] {
        assert!(
            said.contains(&format!("{}:{place}", file.display())),
            "{said}"
        );
    }
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(balancer.status()["generation"], 1);
}

#[test]
fn reloads_that_come_together_all_get_an_answer() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(&[&a], "", ""));
    thread::scope(|scope| {
        let reloads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| command(&balancer, &["reload"])))
            .collect();
        for reload in reloads {
            assert!(done(&reload.join().unwrap()).starts_with("generation "));
        }
    });
    let generation = balancer.status()["generation"].as_u64().unwrap();
    assert!((2..=7).contains(&generation), "{generation}");
}

#[test]
fn rollback_brings_an_accepted_file_back() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let text = |origin| config(&[origin], "", "");
    let balancer = Balancer::start(&text(&a));
    let (code, said) = told(&command(&balancer, &["rollback"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no other file has been accepted"), "{said}");
    balancer.reloaded(&text(&b));
    balancer.reload("nonsense = 1");
    balancer.reloaded(&text(&c));
    assert_eq!(get(balancer.http(), "/").text(), "c");
    let said = done(&command(&balancer, &["rollback"]));
    assert!(said.starts_with("generation 3 -> 4: "), "{said}");
    assert!(said.contains("still holds what it held"), "{said}");
    assert_eq!(get(balancer.http(), "/").text(), "b");
    done(&command(&balancer, &["rollback", "1"]));
    assert_eq!(get(balancer.http(), "/").text(), "a");
    let (code, said) = told(&command(&balancer, &["rollback", "77"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("generation 77 is not kept; these are: 1, 2, 3, 4, 5"),
        "{said}"
    );
    // The file on disk was never touched.
    done(&command(&balancer, &["reload"]));
    assert_eq!(get(balancer.http(), "/").text(), "c");
}

#[test]
fn regression_rollback_twice_goes_back_twice_and_not_to_the_bad_file() {
    let (a, b, bad) = (Origin::named("a"), Origin::named("b"), Origin::named("bad"));
    let text = |origin| config(&[origin], "", "");
    let balancer = Balancer::start(&text(&a));
    balancer.reloaded(&text(&b));
    balancer.reloaded(&text(&bad));
    for name in ["b", "a"] {
        done(&command(&balancer, &["rollback"]));
        assert_eq!(get(balancer.http(), "/").text(), name);
    }
    let (code, said) = told(&command(&balancer, &["rollback"]));
    assert_eq!(code, Some(1), "{said}");
    let expected = "nothing before generation 1, whose file is in use, is kept; name one of these: 1, 2, 3, 4, 5";
    assert!(said.contains(expected), "{said}");
    let said = done(&command(&balancer, &["rollback", "--list"]));
    assert!(said.contains("in use: generation 5\n"), "{said}");
    let by = format!("rollback (uid {})", rustix::process::geteuid().as_raw());
    assert_eq!(said.matches(&by).count(), 2, "{said}");
    assert!(said.contains(", as in generation 1\n"), "{said}");
    // A signal reads the file, and what that brings back is said.
    balancer.reload_as_it_is();
    assert_eq!(get(balancer.http(), "/").text(), "bad");
    let expected = "the rollback to generation 1 has ended: the file is in use again, and holds what it held in generation 3";
    eventually("it is said", || !balancer.events(expected).is_empty());
}

#[test]
fn rollback_tells_of_files_that_hold_something_else_by_now() {
    let a = Origin::named("a");
    let page = "[error_pages]\n\"404\" = \"404.html\"\n";
    let balancer = Balancer::start_with(&config(&[&a], "", page), |directory| {
        std::fs::write(directory.join("404.html"), "old").unwrap();
    });
    balancer.reloaded(&config(&[&a], "", ""));
    std::fs::write(balancer.directory().join("404.html"), "new").unwrap();
    let said = done(&command(&balancer, &["rollback"]));
    let expected = "404.html holds something else than when generation 1 was taken over";
    assert!(said.contains(expected), "{said}");
    let said = done(&command(&balancer, &["rollback", "2"]));
    assert!(!said.contains("something else"), "{said}");
}

#[test]
fn status_is_for_people_and_for_scripts() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let text = done(&command(&balancer, &["status"]));
    assert!(text.starts_with("balancer "), "{text}");
    assert!(text.contains(", generation 1, up "), "{text}");
    assert!(
        text.contains("upstream app (round-robin): 1 of 1 available"),
        "{text}"
    );
    assert!(
        !text.contains('\x1b'),
        "no colour but on a terminal: {text:?}"
    );
    let json = done(&command(&balancer, &["status", "--json"]));
    let mut status: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut over_tcp = balancer.status();
    for status in [&mut status, &mut over_tcp] {
        // How many are connected changes; and over the socket more may be done.
        status["listeners"] = serde_json::Value::Null;
        status["admin"] = serde_json::Value::Null;
    }
    assert_eq!(status, over_tcp);
}

#[test]
fn status_of_one_upstream_leaves_the_others_out() {
    let a = Origin::named("a");
    let other = "[upstream.other]\nendpoints = [\"127.0.0.1:9\"]";
    let balancer = Balancer::start(&config(&[&a], "", other));
    let text = done(&command(&balancer, &["status", "--upstream", "other"]));
    assert!(
        text.contains("upstream other ") && !text.contains("upstream app "),
        "{text}"
    );
    let arguments = ["status", "--json", "--upstream", "app"];
    let status: serde_json::Value =
        serde_json::from_str(&done(&command(&balancer, &arguments))).unwrap();
    let names: Vec<_> = status["upstreams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["app"]);
    let (code, said) = told(&command(&balancer, &["status", "--upstream", "othr"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no upstream is named \"othr\"; did you mean"),
        "{said}"
    );
}
