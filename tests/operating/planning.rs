//! `plan`: what a reload would change, and that it then does.

use std::fs;

use serde_json::Value;

use super::{command, config, done, told};
use crate::support::certificates::Authority;
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
