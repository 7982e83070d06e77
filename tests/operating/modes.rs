//! Draining, disabling and resuming endpoints of a running balancer.

use std::time::Duration;

use super::{ask, command, config, done, rolling, told};
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get};

/// An origin that holds requests for `/held` until the gate opens, and echoes over WebSocket.
fn origin(name: &'static str, gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::with(name, move |exchange| {
        if exchange.head.field("upgrade").is_some() {
            return exchange.echo();
        }
        if exchange.target() == "/held" {
            let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
            gate.wait();
            return exchange.write_then("lf", Next::Keep);
        }
        exchange.respond_with_name()
    })
}

/// Asks for `/held` until it is at `origin`, and waits until half of the answer is there.
fn hold(balancer: &Balancer, origin: &Origin) -> Connection {
    let before = origin.request_count();
    let mut connection = Connection::open(balancer.http());
    connection.send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection.final_head().unwrap();
    connection.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(origin.request_count(), before + 1);
    connection
}

fn tunnel(balancer: &Balancer) -> Connection {
    let mut connection = Connection::open(balancer.http());
    connection.send(UPGRADE);
    assert!(connection.head().unwrap().start.contains(" 101 "));
    connection
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn endpoint_that_the_load_needs_is_taken_out_by_force_only() {
    let gate = Gate::new();
    let (a, b) = (origin("a", &gate), origin("b", &gate));
    let of_each = ", max_in_flight = 1";
    let text = config(&[&a, &b], of_each, "");
    let text = text.replace("\" }]", "\", max_in_flight = 1 }]");
    let balancer = Balancer::start(&text);
    let held = [rolling::hold(&balancer), rolling::hold(&balancer)];
    for action in ["drain", "disable"] {
        let (code, said) = told(&command(&balancer, &[action, "app/a"]));
        let why = "balancer: app/a stays: the others may have 1 requests at once (max_in_flight), and 2 were in flight within the last minute; --force takes it out all the same\n";
        assert_eq!((code, &*said), (Some(1), why));
    }
    assert_eq!(balancer.endpoint("app", "a")["mode"], "active");
    let forced = command(&balancer, &["drain", "app/a", "--force"]);
    assert_eq!(done(&forced), "app/a: draining (1 in flight), was active\n");
    // Whoever gets no requests is missed by nobody.
    assert!(done(&command(&balancer, &["disable", "app/a"])).contains("was draining"));
    let (code, said) = told(&command(&balancer, &["drain", "app/b"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("app/b stays: no other endpoint is left to take requests"),
        "{said}"
    );
    gate.open();
    drop(held);
}

#[test]
fn drained_endpoint_gets_nothing_new_and_resumed_it_does_again() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(&[&a, &b], "", ""));
    assert_eq!(
        done(&command(&balancer, &["drain", "app/a"])),
        "app/a: draining, was active\n"
    );
    for _ in 0..10 {
        assert_eq!(get(balancer.http(), "/").text(), "b");
    }
    // Its idle connections are closed.
    eventually("nobody is connected to it", || a.open() == 0);
    assert!(done(&command(&balancer, &["drain", "app/a"])).contains("as it was"));
    assert_eq!(
        done(&command(&balancer, &["resume", "app/a"])),
        "app/a: unchecked, was draining\n"
    );
    eventually("it is asked again", || {
        get(balancer.http(), "/").text() == "a"
    });
}

#[test]
fn disabled_endpoint_is_not_checked_and_comes_back_through_a_check() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let text = config(&[&a, &b], "", "").replace(
        "[upstream.app]",
        "[upstream.app]\nhealth = { path = \"/check\", interval = \"100ms\", fast_interval = \"100ms\", timeout = \"100ms\" }",
    );
    let balancer = Balancer::start(&text);
    balancer.await_health("app", "a", "up");
    done(&command(&balancer, &["disable", "app/a"]));
    assert_eq!(balancer.endpoint("app", "a")["state"], "disabled");
    eventually("the last check is over", || a.open() == 0);
    let checks = a.probe_count();
    let others = b.probe_count();
    eventually("others are checked on", || b.probe_count() > others + 5);
    assert_eq!(a.probe_count(), checks);
    done(&command(&balancer, &["resume", "app/a"]));
    balancer.await_health("app", "a", "up");
}

#[test]
fn drain_waits_for_what_is_in_flight_and_gives_up_in_time() {
    let gate = Gate::new();
    let a = origin("a", &gate);
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let mut held = hold(&balancer, &a);
    let (code, text) = told(&command(
        &balancer,
        &["drain", "app/a", "--force", "--wait", "--timeout", "0"],
    ));
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("app/a: draining (1 in flight), was active"),
        "{text}"
    );
    assert!(text.contains("app/a: 1 in flight after 0 s"), "{text}");
    let status = done(&command(&balancer, &["status"]));
    assert!(status.contains("draining (1 in flight)"), "{status}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| command(&balancer, &["drain", "app/a", "--force", "--wait"]));
        gate.open();
        held.read_exact(&mut [0; 2]).unwrap();
        let text = done(&waiting.join().unwrap());
        assert!(text.ends_with("app/a: nothing is in flight\n"), "{text}");
    });
}

#[test]
fn waiting_ends_when_somebody_resumes_the_endpoint() {
    let gate = Gate::new();
    let a = origin("a", &gate);
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let _held = hold(&balancer, &a);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| command(&balancer, &["drain", "app/a", "--force", "--wait"]));
        eventually("it drains", || {
            balancer.endpoint("app", "a")["mode"] == "draining"
        });
        done(&command(&balancer, &["resume", "app/a"]));
        let (code, text) = told(&waiting.join().unwrap());
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("somebody has resumed it"), "{text}");
    });
    gate.open();
}

#[test]
fn regression_waiting_is_for_the_endpoint_that_drains_and_not_for_its_name() {
    let gate = Gate::new();
    let (a, b) = (origin("a", &gate), origin("b", &gate));
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let mut held = hold(&balancer, &a);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| command(&balancer, &["drain", "app/a", "--force", "--wait"]));
        eventually("it drains", || {
            balancer.endpoint("app", "a")["mode"] == "draining"
        });
        let drained = balancer.endpoint("app", "a")["id"].clone();
        // Another one takes its name, and gets requests at once.
        balancer.reloaded(&config(&[&b], ", state = \"active\"", ""));
        assert_ne!(balancer.endpoint("app", "a")["id"], drained);
        let path = format!("/api/v1/endpoints/app/a?id={drained}");
        let (status, left) = ask(&balancer, "GET", &path, "");
        assert_eq!(
            (status, &left["gone"], &left["in_flight"]),
            (200, &true.into(), &1.into())
        );
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished(), "something is in flight");
        gate.open();
        held.read_exact(&mut [0; 2]).unwrap();
        let text = done(&waiting.join().unwrap());
        assert!(
            text.ends_with("app/a: is gone, and nothing is in flight\n"),
            "{text}"
        );
    });
    let (status, problem) = ask(&balancer, "GET", "/api/v1/endpoints/app/a?id=999", "");
    assert_eq!(status, 410, "{problem}");
    assert_eq!(
        ask(&balancer, "GET", "/api/v1/endpoints/app/a?id=x", "").0,
        400
    );
}

#[test]
fn tunnels_of_a_drained_endpoint_end_in_time_and_others_do_not() {
    let gate = Gate::new();
    let (a, b) = (origin("a", &gate), origin("b", &gate));
    let text = config(
        &[&a, &b],
        "",
        "[process]\ndrain_tunnel_timeout = \"300ms\"\nworkers = 2\n",
    );
    let balancer = Balancer::start(&text);
    // They take turns: two at each.
    let mut tunnels: Vec<_> = (0..4).map(|_| tunnel(&balancer)).collect();
    let at = |name: &str| balancer.endpoint("app", name)["tunnels"].as_u64();
    assert_eq!((at("a"), at("b")), (Some(2), Some(2)));
    let text = done(&command(&balancer, &["drain", "app/a", "--force"]));
    assert!(text.contains("draining (0 in flight, 2 tunnels)"), "{text}");
    eventually("its tunnels have ended", || at("a") == Some(0));
    assert_eq!(at("b"), Some(2));
    assert_eq!(balancer.endpoint("app", "a")["in_flight"], 0);
    let ended = tunnels
        .iter_mut()
        .map(|tunnel| {
            tunnel.send("word");
            let mut word = [0; 4];
            tunnel.read_exact(&mut word).is_err()
        })
        .filter(|ended| *ended)
        .count();
    assert_eq!(ended, 2);
}

#[test]
fn regression_tunnels_of_an_endpoint_removed_by_a_reload_end_in_time() {
    let gate = Gate::new();
    let (a, b) = (origin("a", &gate), origin("b", &gate));
    let more = "[process]\ndrain_tunnel_timeout = \"300ms\"\nworkers = 2\n";
    let balancer = Balancer::start(&config(&[&a], "", more));
    let mut tunnel = tunnel(&balancer);
    // Its name stays, its address does not.
    balancer.reloaded(&config(&[&b], "", more));
    assert!(tunnel.is_closed_by_peer(), "after its time");
    eventually("nobody is connected to it", || a.open() == 0);
}

#[test]
fn regression_tunnel_that_begins_after_the_farewell_ends_at_once() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = Origin::with("a", move |exchange| {
        held.wait();
        exchange.echo()
    });
    let more = "[process]\ndrain_tunnel_timeout = \"100ms\"\nworkers = 2\n";
    let balancer = Balancer::start(&config(&[&a], "", more));
    let mut asking = Connection::open(balancer.http());
    asking.send(UPGRADE);
    eventually("it is asked", || a.request_count() == 1);
    done(&command(&balancer, &["drain", "app/a", "--force"]));
    // Its farewell is over by then.
    std::thread::sleep(Duration::from_millis(400));
    gate.open();
    assert!(asking.head().unwrap().start.contains(" 101 "));
    assert!(asking.is_closed_by_peer());
    eventually("nothing is in flight", || {
        balancer.endpoint("app", "a")["in_flight"] == 0
    });
}

#[test]
fn tunnels_go_on_while_there_is_time() {
    let gate = Gate::new();
    let a = origin("a", &gate);
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let mut tunnel = tunnel(&balancer);
    done(&command(&balancer, &["drain", "app/a", "--force"]));
    std::thread::sleep(Duration::from_millis(500));
    tunnel.send("word");
    tunnel.read_exact(&mut [0; 4]).unwrap();
}

#[test]
fn what_an_operator_wants_survives_a_reload_unless_the_file_says_otherwise() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let silent = config(&[&a, &b], "", "");
    let balancer = Balancer::start(&silent);
    let mode = || balancer.endpoint("app", "a")["mode"].clone();
    done(&command(&balancer, &["drain", "app/a"]));
    balancer.reloaded(&silent.replace("weight = 1", "weight = 2"));
    assert_eq!(mode(), "draining");
    for _ in 0..6 {
        assert_eq!(get(balancer.http(), "/").text(), "b");
    }
    let says = config(&[&a, &b], ", state = \"active\"", "");
    balancer.reloaded(&says);
    assert_eq!(mode(), "active");
    balancer.reloaded(&silent);
    assert_eq!(mode(), "active", "the wish is forgotten");
}

#[test]
fn refused_reload_forgets_no_wish() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let silent = config(&[&a, &b], "", "");
    let balancer = Balancer::start(&silent);
    done(&command(&balancer, &["drain", "app/a"]));
    balancer.reload(&(config(&[&a, &b], ", state = \"active\"", "") + "nonsense = 1\n"));
    assert_eq!(balancer.endpoint("app", "a")["mode"], "draining");
    balancer.reloaded(&silent);
    assert_eq!(balancer.endpoint("app", "a")["mode"], "draining");
}

#[test]
fn wrong_names_get_a_hint_and_change_nothing() {
    let a = Origin::named("web-1");
    let text = config(&[&a], "", "").replace("name = \"a\"", "name = \"web-1\"");
    let balancer = Balancer::start(&text);
    for (target, hint) in [
        (
            "app/wbe-1",
            "upstream \"app\" has no endpoint \"wbe-1\"; did you mean \"web-1\"?",
        ),
        (
            "apq/web-1",
            "no upstream is named \"apq\"; did you mean \"app\"?",
        ),
    ] {
        for action in ["drain", "resume", "disable"] {
            let (code, text) = told(&command(&balancer, &[action, target]));
            assert_eq!((code, text.contains(hint)), (Some(1), true), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    let (code, text) = told(&command(&balancer, &["drain", "app"]));
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("expected UPSTREAM/ENDPOINT"), "{text}");
    assert_eq!(balancer.endpoint("app", "web-1")["mode"], "active");
}

#[test]
fn facts_about_an_endpoint_tell_why_it_is_as_it_is() {
    let mut a = Origin::named("a");
    let text = config(&[&a], "", "").replace(
        "[upstream.app]",
        "[upstream.app]\nhealth = { interval = \"100ms\", fast_interval = \"100ms\", timeout = \"100ms\", fall = 1 }",
    );
    let balancer = Balancer::start(&text);
    balancer.await_health("app", "a", "up");
    a.stop();
    balancer.await_health("app", "a", "down");
    done(&command(&balancer, &["drain", "app/a", "--force"]));
    let said = done(&command(&balancer, &["why", "app/a"]));
    assert!(said.starts_with("app/a: draining for "), "{said}");
    for fact in [
        "health  up",
        "health  down",
        "check failed: ",
        "mode    draining",
    ] {
        assert!(said.contains(fact), "{fact} in {said}");
    }
    let json = done(&command(&balancer, &["why", "app/a", "--json"]));
    let facts: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(facts["endpoint"], "a");
    let (code, said) = told(&command(&balancer, &["why", "app/b"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has no endpoint \"b\""), "{said}");
}
