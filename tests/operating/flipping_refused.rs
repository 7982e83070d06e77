//! `flip` that cannot be, or is interrupted: each ends in a state that has a name, is safe, and is shown.

use std::io::Read;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::flipping::{CHECKED, asked, await_phase, flip, phase, sets, shown, started_with};
use super::rolling::begun;
use super::{ask, command, config, done, told};
use crate::support::origin::Refusing;
use crate::support::{Balancer, Connection, Gate, Origin, eventually};
use crate::upgrading::Successors;

/// Blue and green, checked, both up.
fn started(a: &Origin, b: &Origin) -> Balancer {
    started_with(&[(a, "blue"), (b, "green")], CHECKED)
}

#[track_caller]
fn refused(balancer: &Balancer, arguments: &[&str], why: &str) {
    let (code, said) = told(&command(balancer, arguments));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(why), "{said}");
    assert_eq!(shown(balancer)["flip"], json!(null), "nothing has begun");
}

#[test]
fn what_is_not_there_is_refused_with_a_hint() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started(&a, &b);
    refused(
        &balancer,
        &["flip", "app", "--to", "gren"],
        "upstream \"app\" has no endpoint in set \"gren\"; did you mean \"green\"?",
    );
    refused(
        &balancer,
        &["flip", "ap", "--to", "green"],
        "no upstream is named \"ap\"; did you mean \"app\"?",
    );
    refused(
        &balancer,
        &["flip", "app", "--abort"],
        "no flip of upstream \"app\" is under way",
    );
    refused(
        &balancer,
        &["flip", "app", "--to", "green", "--expect-version", "42"],
        "set green is not fit to take over: nobody asks endpoints of upstream \"app\" for their version: set health.version_header or health.version_pointer (--force",
    );
    // That it serves already is not all that was asked for.
    refused(
        &balancer,
        &["flip", "app", "--to", "blue", "--expect-version", "42"],
        "set blue serves already, and is not as it should be: nobody asks endpoints of upstream \"app\" for their version: set ",
    );
    for (more, why) in [
        (&[][..], "--to <SET>"),
        (&["--to", ""], "a value is required for '--to <SET>'"),
        (
            &["--to", "green", "--watch", "25h"],
            "expected a day at most",
        ),
        (
            &["--to", "green", "--watch", "99999h"],
            "expected a day at most",
        ),
    ] {
        let (code, said) = told(&command(&balancer, &[&["flip", "app"], more].concat()));
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(asked(&balancer, 3, "blue"), 3);
    balancer.reloaded(&config(&[&a], "", ""));
    refused(
        &balancer,
        &["flip", "app", "--to", "green"],
        "upstream \"app\" has no sets",
    );
}

/// Answers everything with the version it runs.
fn runs(origin: &Origin, version: &'static str) {
    let fields = [("X-App-Version", version)];
    origin.on_probe(move |exchange| exchange.respond(200, &fields, ""));
    origin.on_request(move |exchange| exchange.respond(200, &fields, version));
}

#[test]
fn set_that_does_not_run_the_version_that_is_expected_is_refused() {
    let [a, b, c] = ["blue", "green", "green"].map(Origin::named);
    runs(&a, "41");
    runs(&b, "42");
    runs(&c, "41");
    let checked = CHECKED.replace("rise = 1", "rise = 1, version_header = \"X-App-Version\"");
    let members = [(&a, "blue"), (&b, "green"), (&c, "green")];
    let balancer = started_with(&members, &checked);
    let expecting = ["--expect-version", "42"];
    refused(
        &balancer,
        &[&["flip", "app", "--to", "green"], &expecting[..]].concat(),
        "c: version 41, want 42",
    );
    runs(&c, "42");
    eventually("c runs another version", || {
        balancer.endpoint("app", "c")["version"] == "42"
    });
    done(&flip(
        &balancer,
        &[&expecting[..], &["--watch", "0s"]].concat(),
    ));
    assert_eq!(shown(&balancer)["active_set"], "green");
    // Who runs another version than the file wants is held, on standby as well.
    let expecting = checked.replace("rise = 1", "rise = 1, expect_version = \"42\"");
    balancer.reloaded(&sets(&members, &expecting));
    eventually("a is held", || {
        balancer.endpoint("app", "a")["state"] == "held"
    });
    let (code, said) = told(&command(&balancer, &["flip", "app", "--to", "blue"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a is held (version 41, want 42)"), "{said}");
}

#[test]
fn set_that_is_down_is_refused_and_one_that_is_partly_so_can_be_forced() {
    let (a, b, mut c) = (
        Origin::named("blue"),
        Origin::named("green"),
        Origin::named("green"),
    );
    let balancer = started_with(&[(&a, "blue"), (&b, "green"), (&c, "green")], CHECKED);
    c.stop();
    balancer.await_health("app", "c", "down");
    refused(
        &balancer,
        &["flip", "app", "--to", "green", "--watch", "0s"],
        "set green is not fit to take over: c is down",
    );
    let forced = ["--watch", "0s", "--force"];
    done(&flip(&balancer, &forced));
    assert_eq!(asked(&balancer, 4, "green"), 4);
    done(&command(
        &balancer,
        &["flip", "app", "--to", "blue", "--watch", "0s"],
    ));
    done(&command(&balancer, &["disable", "app/b"]));
    let (code, said) = told(&flip(&balancer, &forced));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody of set green may be asked"), "{said}");
    assert_eq!(asked(&balancer, 3, "blue"), 3);
}

#[test]
fn set_that_could_not_carry_the_load_is_refused() {
    let gate = Gate::new();
    let a = super::rolling::holding("blue", &gate);
    let b = Origin::named("green");
    let text = sets(&[(&a, "blue"), (&b, "green")], "")
        .replace("set = \"green\"", "set = \"green\", max_in_flight = 1");
    let balancer = Balancer::start(&text);
    let _held = [(); 2].map(|()| super::rolling::hold(&balancer));
    refused(
        &balancer,
        &["flip", "app", "--to", "green"],
        "set green could carry 1 requests at once",
    );
    gate.open();
}

#[test]
fn set_that_does_not_pass_its_probe_is_not_flipped_to() {
    let a = Origin::named("blue");
    let wrong = Refusing::new();
    // Nobody checks: that it is gone is found by the probe.
    let text = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nactive_set = \"blue\"\nendpoints = [{{ address = \"{}\", set = \"blue\" }}, {{ address = \"{}\", set = \"green\" }}]\n[[route]]\nupstream = \"app\"\n",
        a.address(),
        wrong.address()
    );
    let balancer = Balancer::start(&text);
    let (code, said) = told(&flip(&balancer, &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("not done, set blue serves: not warm"),
        "{said}"
    );
    assert_eq!(phase(&balancer), "refused");
    assert_eq!(asked(&balancer, 3, "blue"), 3);
}

#[test]
fn second_operator_is_told_who_was_first_and_either_can_end_it() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started(&a, &b);
    let mut first = begun(&balancer, &["flip", "app", "--to", "green"]);
    await_phase(&balancer, "watching");
    let (code, said) = told(&command(&balancer, &["flip", "app", "--to", "blue"]));
    assert_eq!(code, Some(1), "{said}");
    let uid = rustix::process::getuid().as_raw();
    let who = format!("user {uid} has begun to flip it from blue to green");
    assert!(said.contains(&who) && said.contains("watching"), "{said}");
    assert_eq!(asked(&balancer, 3, "green"), 3);
    let said = done(&command(&balancer, &["flip", "app", "--abort"]));
    assert!(said.contains("aborted, set blue serves"), "{said}");
    assert_eq!(asked(&balancer, 3, "blue"), 3);
    assert_eq!(first.wait().unwrap().code(), Some(1));
    assert_eq!(phase(&balancer), "aborted");
}

#[test]
fn operator_who_leaves_ends_nothing() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started(&a, &b);
    let arguments = [
        "flip",
        "app",
        "--to",
        "green",
        "--watch",
        "1s",
        "--min-requests",
        "0",
    ];
    let mut flip = begun(&balancer, &arguments);
    eventually("it has begun", || !phase(&balancer).is_empty());
    kill_process(Pid::from_child(&flip), Signal::INT).unwrap();
    flip.wait().unwrap();
    let mut said = String::new();
    flip.stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    // It comes to its end all the same.
    await_phase(&balancer, "kept");
    assert_eq!(asked(&balancer, 3, "green"), 3);
}

#[test]
fn balancer_that_is_killed_in_the_middle_comes_back_with_the_set_of_its_file() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let patient = CHECKED.replace("500ms", "20s");
    let members = [(&a, "blue"), (&b, "green")];
    let share = ["--percent", "50,100"];
    for (stage, more) in [
        ("warming", &[][..]),
        ("watching", &share),
        ("watching", &[]),
    ] {
        let mut balancer = started_with(&members, &patient);
        if stage == "warming" {
            // Its probe hangs.
            let gate = gate.clone();
            b.on_probe(move |exchange| {
                gate.wait();
                exchange.respond(200, &[], "")
            });
        }
        let mut flip = begun(
            &balancer,
            &[&["flip", "app", "--to", "green"], more].concat(),
        );
        await_phase(&balancer, stage);
        balancer.signal(Signal::KILL);
        balancer.wait_exit();
        if more.is_empty() && stage == "watching" {
            assert_eq!(flip.wait().unwrap().code(), Some(1), "nobody answers");
        }
        let _ = flip.kill();
        flip.wait().unwrap();
        gate.open();
        b.on_probe(|exchange| exchange.respond(200, &[], ""));
        let again = started_with(&members, &patient);
        assert_eq!(shown(&again)["active_set"], "blue");
        assert_eq!(shown(&again)["flip"], json!(null));
        assert_eq!(asked(&again, 4, "blue"), 4);
    }
}

#[test]
fn reload_in_the_middle_says_what_serves() {
    let (a, b, c) = (
        Origin::named("blue"),
        Origin::named("green"),
        Origin::named("green"),
    );
    let text = |origins: &[(&Origin, &str)]| sets(origins, "");
    let both = text(&[(&a, "blue"), (&b, "green")]);
    let balancer = Balancer::start(&both);
    let begin = || {
        done(&flip(&balancer, &["--watch", "30s", "--no-wait"]));
        await_phase(&balancer, "watching");
    };
    begin();
    // Others of the same set: it goes on.
    balancer.reloaded(&text(&[(&a, "blue"), (&c, "green")]));
    assert_eq!(asked(&balancer, 4, "green"), 4);
    assert_eq!(c.request_count(), 4);
    assert_eq!(phase(&balancer), "watching");
    // The set is gone, and somebody insists: what the file says holds.
    let verdict = || shown(&balancer)["flip"]["verdict"].clone();
    balancer.write_configuration(&text(&[(&a, "blue"), (&c, "red")]));
    done(&command(&balancer, &["reload", "--force"]));
    assert_eq!(asked(&balancer, 4, "blue"), 4);
    await_phase(&balancer, "overtaken");
    assert_eq!(verdict(), "a reload has removed set green; set blue serves");
    // The old one is gone, and with it the way back.
    balancer.reloaded(&both);
    begin();
    let green = text(&[(&b, "green")]).replace("active_set = \"blue\"", "active_set = \"green\"");
    balancer.reloaded(&green);
    await_phase(&balancer, "overtaken");
    assert_eq!(verdict(), "a reload has removed set blue; set green serves");
    assert_eq!(asked(&balancer, 4, "green"), 4);
    // The file says something else.
    balancer.reloaded(&both);
    begin();
    balancer.reloaded(&both.replace("active_set = \"blue\"", "active_set = \"green\""));
    balancer.reloaded(&both);
    assert_eq!(asked(&balancer, 4, "blue"), 4);
    await_phase(&balancer, "overtaken");
}

#[test]
fn set_without_a_way_back_goes_on() {
    let mut a = Origin::named("blue");
    let b = Origin::with("green", |exchange| exchange.respond(500, &[], "broken"));
    let balancer = started(&a, &b);
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    let mut flip = begun(&balancer, &["flip", "app", "--to", "green"]);
    await_phase(&balancer, "watching");
    a.stop();
    balancer.await_health("app", "a", "down");
    asked(&balancer, 150, "broken");
    await_phase(&balancer, "stranded");
    assert_eq!(flip.wait().unwrap().code(), Some(1));
    assert_eq!(shown(&balancer)["active_set"], "green");
    assert_eq!(asked(&balancer, 3, "broken"), 3);
}

#[test]
fn upgrade_in_the_middle_is_watched_on_by_the_new_process() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started(&a, &b);
    let mut kept = Connection::open(balancer.http());
    assert_eq!(kept.get("/").text(), "blue");
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    let mut first = begun(&balancer, &["flip", "app", "--to", "green"]);
    await_phase(&balancer, "watching");
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    assert_eq!(asked(&balancer, 20, "green"), 20);
    assert_eq!(phase(&balancer), "watching");
    // Whether it is the new process or the one before that finishes: what serves is the same.
    let old = kept.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    if let Ok(reply) = old.and_then(|()| kept.try_reply("GET")) {
        assert_eq!(reply.text(), "green");
    }
    b.on_request(|exchange| exchange.respond(500, &[], "broken"));
    eventually("it goes back", || {
        asked(&balancer, 20, "broken");
        phase(&balancer) == "flipped-back"
    });
    assert_eq!(first.wait().unwrap().code(), Some(3));
    assert_eq!(asked(&balancer, 4, "blue"), 4);
    // Through one more, what an operator wants goes on as well.
    done(&flip(&balancer, &["--watch", "0s"]));
    b.on_request(|exchange| exchange.respond_with_name());
    successors.upgrade(&balancer);
    assert_eq!(asked(&balancer, 4, "green"), 4);
    let (status, body) = ask(&balancer, "GET", "/api/v1/plan", "");
    assert_eq!(status, 200);
    assert_eq!(body["sets_by_operator"][0]["set"], "green", "{body}");
}
