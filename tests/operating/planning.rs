//! `plan`: what a reload would change, and that it then does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use super::{ask, command, config, done, told};
use crate::support::certificates::Authority;
use crate::support::client::HOST;
use crate::support::{Balancer, Connection, Gate, Next, Origin};

fn plan(balancer: &Balancer) -> Value {
    let output = command(balancer, &["plan", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{:?}", told(&output)))
}

#[test]
fn plan_of_the_same_file_is_empty_and_exits_0() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let text = config(&[&a, &b], "", "");
    let balancer = Balancer::start(&text);
    let expected = "nothing would change against generation 1\n";
    assert!(done(&command(&balancer, &["plan"])).starts_with(expected));
    balancer.write_configuration(&format!("# a comment\n\n{text}"));
    assert!(done(&command(&balancer, &["plan"])).starts_with(expected));
}

#[test]
fn plan_names_what_a_reload_then_does() {
    let gate = Gate::new();
    let holding = gate.clone();
    let a = Origin::with("a", move |exchange| {
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        holding.wait();
        exchange.write_then("lf", Next::Keep)
    });
    let (b, c) = (Origin::named("b"), Origin::named("c"));
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let mut held = Connection::open(balancer.http());
    held.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    held.final_head().unwrap();
    let next = format!(
        "{}\n[listener.more]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/x\"\nrespond = {{}}\n[process]\nworkers = 1\nshutdown_grace = \"9s\"\n",
        config(&[&b, &c], "", "")
    );
    balancer.write_configuration(&next);
    let (code, text) = told(&command(&balancer, &["plan"]));
    assert_eq!(code, Some(2), "{text}");
    for expected in [
        "against generation 1: endpoints: 0 kept (0 in flight), 2 added, 1 removed",
        "listeners\n  +  more\n",
        "-  app/a  finishes what it has: 1 in flight",
        "+  app/a\n",
        "+  app/b\n",
        "routes\n  +  /x\n",
        "settings\n",
        "process.shutdown_grace: unset -> \"9s\"",
        "change with a restart only\n  process.workers: 2 -> 1\n",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert_eq!(balancer.status()["generation"], 1, "nothing was changed");
    let counts = plan(&balancer)["counts"].clone();
    let said = done(&command(&balancer, &["reload"]));
    assert!(
        said.contains(&format!(
            "{} endpoints kept (0 in flight), {} added, {} draining",
            counts["kept"], counts["added"], counts["removed"]
        )),
        "{said}"
    );
    gate.open();
    assert!(
        done(&command(&balancer, &["plan"])).contains("nothing would change against generation 2")
    );
}

#[test]
fn plan_of_a_bad_file_is_refused_with_every_problem() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(&[&a], "", ""));
    balancer.write_configuration("[listener.http]\naddress = 5\nnonsense = 1\n");
    let (code, said) = told(&command(&balancer, &["plan"]));
    assert_eq!(code, Some(1), "{said}");
    for place in [
        ":2:11: listener.http.address: ",
        ":3:1: listener.http.nonsense: ",
    ] {
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn plan_shows_what_an_operator_has_set_and_when_the_file_ends_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(&[&a, &b], "", ""));
    done(&command(&balancer, &["drain", "app/a"]));
    let text = done(&command(&balancer, &["plan"]));
    assert!(
        text.contains("stay as an operator has set them\n  app/a  draining\n"),
        "{text}"
    );
    balancer.write_configuration(&config(&[&a, &b], ", state = \"active\"", ""));
    let (code, text) = told(&command(&balancer, &["plan"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("state: draining -> active"), "{text}");
    assert!(!text.contains("stay as"), "{text}");
}

#[test]
fn plan_tells_of_certificates_that_were_renewed() {
    let a = Origin::named("a");
    let authority = Authority::new("test");
    let tls =
        "tls = { certificates = [{ chain = \"leaf.pem\", key = \"leaf.key\" }] }\n[upstream.app]";
    let text = config(&[&a], "", "").replace("[upstream.app]", tls);
    let balancer = Balancer::start_with(&text, |directory| {
        authority.issue(&["app.test"]).write(directory, "leaf");
    });
    done(&command(&balancer, &["plan"]));
    let renewed = authority.issue(&["app.test"]);
    renewed.write(balancer.directory(), "leaf");
    let (code, text) = told(&command(&balancer, &["plan"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("files that hold something else"), "{text}");
    assert!(text.contains("leaf.key\n"), "{text}");
    done(&command(&balancer, &["reload"]));
    done(&command(&balancer, &["plan"]));
}

#[test]
fn regression_plan_compares_with_what_the_process_was_started_with() {
    let a = Origin::named("a");
    let text = |workers| config(&[&a], "", &format!("[process]\nworkers = {workers}\n"));
    let balancer = Balancer::start(&text(2));
    balancer.reloaded(&text(1));
    // The file is in use, and the process still has two.
    let said = done(&command(&balancer, &["plan"]));
    assert!(
        said.contains("nothing would change against generation 2"),
        "{said}"
    );
    let pending = "change with a restart only\n  process.workers: 2 -> 1\n";
    assert!(said.contains(pending), "{said}");
    let said = done(&command(&balancer, &["reload"]));
    assert!(
        said.contains("changes with a restart only: process.workers: 2 -> 1"),
        "{said}"
    );
    balancer.write_configuration(&text(2));
    let (code, said) = told(&command(&balancer, &["plan"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(!said.contains("restart"), "{said}");
}

#[test]
fn regression_plan_tells_of_every_file_that_is_named_and_has_changed() {
    let a = Origin::named("a");
    let keys = "affinity = { cookie = \"at\", key_file = \"affinity.key\" }\n";
    let text = config(&[&a], "", "[error_pages]\n\"404\" = \"404.html\"\n")
        .replace("[upstream.app]\n", &format!("[upstream.app]\n{keys}"));
    let balancer = Balancer::start_with(&text, |directory| {
        fs::write(directory.join("404.html"), "nothing").unwrap();
        fs::write(directory.join("affinity.key"), "k".repeat(64)).unwrap();
    });
    done(&command(&balancer, &["plan"]));
    for (file, content) in [
        ("404.html", "nothing here"),
        ("affinity.key", &"j".repeat(64)),
    ] {
        fs::write(balancer.directory().join(file), content).unwrap();
        assert_eq!(
            plan(&balancer)["files"].as_array().map(Vec::len),
            Some(1),
            "{file}"
        );
        let (code, said) = told(&command(&balancer, &["plan"]));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(file), "{said}");
        done(&command(&balancer, &["reload"]));
        done(&command(&balancer, &["plan"]));
    }
}

/// Port, weight and state.
type Endpoint = (u8, u8, u8);

/// A file by numbers: what is not there is `None`.
#[derive(Clone, Debug)]
struct Random {
    /// Whether it speaks TLS, and with which certificate.
    listeners: [Option<Option<bool>>; 2],
    /// Whether endpoints are asked over TLS, and they.
    upstreams: [Option<(bool, [Option<Endpoint>; 3])>; 2],
    /// What each answers, or which upstream it asks.
    routes: [Option<(bool, bool)>; 3],
}

fn random() -> impl Strategy<Value = Random> {
    let listener = || prop::option::of(prop::option::of(any::<bool>()));
    let endpoint = || prop::option::weighted(0.7, (0_u8..2, 1_u8..3, 0_u8..4));
    let upstream = || {
        let endpoints = [endpoint(), endpoint(), endpoint()];
        prop::option::weighted(0.7, (prop::bool::weighted(0.3), endpoints))
    };
    let route = || prop::option::of(any::<(bool, bool)>());
    let all = (
        [listener(), listener()],
        [upstream(), upstream()],
        [route(), route(), route()],
    );
    all.prop_map(|(listeners, upstreams, routes)| Random {
        listeners,
        upstreams,
        routes,
    })
}

fn text(random: &Random) -> String {
    let mut text = "[listener.always]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for (name, listener) in ["one", "two"].iter().zip(random.listeners) {
        let Some(tls) = listener else { continue };
        text += &format!("[listener.{name}]\naddress = \"127.0.0.1:0\"\n");
        if let Some(other) = tls {
            let file = if other { "other" } else { "leaf" };
            text += &format!(
                "tls = {{ certificates = [{{ chain = \"{file}.pem\", key = \"{file}.key\" }}] }}\n"
            );
        }
    }
    for (name, upstream) in ["first", "second"].iter().zip(&random.upstreams) {
        let Some((over_tls, endpoints)) = upstream else {
            continue;
        };
        text += &format!("[upstream.{name}]\n");
        if *over_tls {
            text += "tls = { verify = false }\n";
        }
        text += "endpoints = [\"127.0.0.1:9\",\n";
        for (index, endpoint) in endpoints.iter().enumerate() {
            let Some((port, weight, state)) = endpoint else {
                continue;
            };
            let port = 10 + 2 * index + usize::from(*port);
            let state = ["", "active", "draining", "disabled"][usize::from(*state)];
            let state = match state {
                "" => String::new(),
                state => format!(", state = \"{state}\""),
            };
            text += &format!(
                "{{ name = \"e{index}\", address = \"127.0.0.1:{port}\", weight = {weight}{state} }},\n"
            );
        }
        text += "]\n";
    }
    for (index, route) in random.routes.iter().enumerate() {
        let Some((asks, second)) = route else {
            continue;
        };
        let (place, name) = [(0, "first"), (1, "second")][usize::from(*second)];
        text += &format!("[[route]]\npath = \"/r{index}\"\n");
        text += &match &random.upstreams[place] {
            Some(_) if *asks => format!("upstream = \"{name}\"\n"),
            _ => format!("respond = {{ body = \"{name}\" }}\n"),
        };
    }
    text
}

/// What there is, by kind and name, and how it is as far as the status tells.
fn shown(status: &Value) -> BTreeMap<(&'static str, String), Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let mut found = BTreeMap::new();
    for listener in list(&status["listeners"]) {
        let how = [
            &listener["address"],
            &listener["tls"],
            &listener["certificates"],
        ];
        found.insert(
            ("listeners", name(&listener)),
            how.into_iter().cloned().collect(),
        );
    }
    for route in list(&status["routes"]) {
        found.insert(("routes", name(&route)), route["upstream"].clone());
    }
    for upstream in list(&status["upstreams"]) {
        found.insert(("upstreams", name(&upstream)), Value::Null);
        for endpoint in list(&upstream["endpoints"]) {
            let how = [&endpoint["address"], &endpoint["weight"], &endpoint["mode"]];
            let name = format!("{}/{}", name(&upstream), name(&endpoint));
            found.insert(("endpoints", name), how.into_iter().cloned().collect());
        }
    }
    found
}

/// Names of one kind in a plan that are said to change so.
fn said(plan: &Value, kind: &str, change: &str) -> BTreeSet<String> {
    let items = plan[kind].as_array().expect("a list").iter();
    let items = items.filter(|item| item["change"] == change);
    let name = |item: &Value| match item["endpoint"].as_str() {
        Some(endpoint) => format!(
            "{}/{endpoint}",
            item["upstream"].as_str().unwrap_or_default()
        ),
        None => item["name"].as_str().unwrap_or_default().to_owned(),
    };
    items.map(name).collect()
}

/// Plans and reloads so many random files one after the other.
fn agree(files: u32) {
    let authority = Authority::new("test");
    let balancer = Balancer::start_with(&text(&NOTHING), |directory| {
        for name in ["leaf", "other"] {
            authority.issue(&[HOST]).write(directory, name);
        }
    });
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut last = text(&NOTHING);
    for number in 0..files {
        let next = random().new_tree(&mut runner).unwrap().current();
        let next = text(&next);
        let context = format!("{number}:\n{last}\n-- then --\n{next}");
        balancer.write_configuration(&next);
        let (code, plan) = ask(&balancer, "GET", "/api/v1/plan", "");
        assert_eq!(code, 200, "{plan} {context}");
        let before = shown(&balancer.status());
        let (code, reloaded) = ask(&balancer, "POST", "/api/v1/reload", "");
        assert_eq!(code, 200, "{reloaded} {context}");
        let after = shown(&balancer.status());

        let counts = ["kept", "added", "removed"].map(|key| plan["counts"][key].clone());
        let told = ["kept", "added", "draining"].map(|key| reloaded[key].clone());
        assert_eq!(counts, told, "{context}");
        for kind in ["listeners", "routes", "upstreams", "endpoints"] {
            let [added, removed, changed] =
                ["added", "removed", "changed"].map(|change| said(&plan, kind, change));
            let of = |all: &BTreeMap<(&str, String), Value>| -> BTreeSet<String> {
                let own = all.keys().filter(|(other, _)| *other == kind);
                own.map(|(_, name)| name.clone()).collect()
            };
            let (was, is) = (of(&before), of(&after));
            // An endpoint that is reached in another way is a new one under an old name: both.
            let anew: BTreeSet<_> = added.intersection(&removed).cloned().collect();
            assert!(kind == "endpoints" || anew.is_empty(), "{kind} {context}");
            assert_eq!(&added - &anew, &is - &was, "{kind} {context}");
            assert_eq!(&removed - &anew, &was - &is, "{kind} {context}");
            for name in &was & &is {
                let key = (kind, name.clone());
                let is_other = before[&key] != after[&key];
                let is_said = changed.contains(&name) || anew.contains(&name);
                // More may be different than the status shows, such as what is answered.
                assert!(is_said || !is_other, "{kind} {name} {context}");
                let shows_all = kind == "endpoints" && !anew.contains(&name);
                assert!(
                    is_other || !is_said || !shows_all,
                    "{kind} {name} {context}"
                );
            }
        }
        // Then there is nothing left to do.
        let (_, plan) = ask(&balancer, "GET", "/api/v1/plan", "");
        for kind in ["listeners", "routes", "upstreams", "endpoints", "settings"] {
            assert_eq!(plan[kind], serde_json::json!([]), "{kind} {context}");
        }
        last = next;
    }
}

const NOTHING: Random = Random {
    listeners: [None; 2],
    upstreams: [None; 2],
    routes: [None; 3],
};

#[test]
fn plan_agrees_with_what_the_reload_of_random_files_then_does() {
    agree(40);
}

#[test]
#[ignore = "more of the same, for ten seconds; run after changes to plan or compile"]
fn plan_agrees_with_what_reloads_of_two_hundred_random_files_do() {
    agree(200);
}
