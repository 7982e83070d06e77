//! Endpoints that fail clients' requests are set aside (semantics §6): who is, who is not, and when they are back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::client::HOST;
use crate::support::deadline::settled;
use crate::support::h2_origin::{H2Origin, ready, text};
use crate::support::{Balancer, Connection, Gate, Next, Origin, Refusing, eventually, get};

/// One upstream `app` with endpoints `0`, `1`, … and these keys of `passive`; one worker, so that there is one pool.
fn config(endpoints: &[SocketAddr], passive: &str) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\npassive = {{ {passive} }}\n[[route]]\nupstream = \"app\"\n[process]\nworkers = 1\n",
        endpoints.join(", ")
    )
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(Origin::address).collect()
}

fn state(balancer: &Balancer, name: &str) -> String {
    let endpoint = balancer.endpoint("app", name);
    endpoint["state"].as_str().expect("a word").to_owned()
}

fn ejected(balancer: &Balancer) -> Vec<String> {
    let status = balancer.status();
    let endpoints = status["upstreams"][0]["endpoints"]
        .as_array()
        .expect("endpoints");
    endpoints
        .iter()
        .filter(|endpoint| endpoint["state"] == "ejected")
        .map(|endpoint| endpoint["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Sends requests until `condition` holds.
fn asking(balancer: &Balancer, what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || {
        let _ = get(balancer.http(), "/");
        condition()
    });
}

fn ejections(balancer: &Balancer, labels: &[(&str, &str)]) -> f64 {
    balancer
        .metrics()
        .sum("balancer_endpoint_ejections_total", labels)
}

fn failures(balancer: &Balancer) -> f64 {
    balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &[])
}

/// So few failures are enough that any that counts is seen.
const AT_ONCE: &str = "consecutive = 1, eject = \"5m\"";

#[test]
fn endpoint_that_refuses_five_connections_in_a_row_gets_no_more_without_anyone_checking() {
    let (refusing, origin) = (Refusing::new(), Origin::named("a"));
    let balancer = Balancer::start(&config(
        &[refusing.address(), origin.address()],
        "eject = \"5m\"",
    ));
    // No client notices.
    eventually("it is ejected", || {
        assert_eq!(get(balancer.http(), "/").text(), "a");
        state(&balancer, "0") == "ejected"
    });
    let before = failures(&balancer);
    assert!(before >= 5.0, "{before} failures");
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    assert_eq!(failures(&balancer), before);
    let endpoint = balancer.endpoint("app", "0");
    assert_eq!(endpoint["eligible"], false);
    assert_eq!(endpoint["ejected"]["reason"], "consecutive");
    assert!(
        endpoint["ejected"]["until"].as_u64() > endpoint["since"].as_u64(),
        "{endpoint}"
    );
    let labels = [("endpoint", "0"), ("reason", "consecutive")];
    assert_eq!(ejections(&balancer, &labels), 1.0);
    assert_eq!(
        balancer.metrics().find(
            "balancer_endpoint_state",
            &[("endpoint", "0"), ("state", "ejected")]
        ),
        Some(1.0)
    );
    let events = balancer.events("endpoint ejected");
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["endpoint"], &events[0]["because"]),
        (&"0".into(), &"consecutive".into())
    );
}

#[test]
fn burst_of_gateway_errors_ejects_and_answers_of_the_application_do_not() {
    let origins = [502, 503, 504]
        .map(|status| Origin::with("bad", move |exchange| exchange.respond(status, &[], "")));
    for origin in &origins {
        let well = Origin::named("well");
        let balancer = Balancer::start(&config(&[origin.address(), well.address()], ""));
        asking(&balancer, "it is ejected", || {
            state(&balancer, "0") == "ejected"
        });
        assert!(origin.request_count() >= 5);
        assert_eq!(state(&balancer, "1"), "unchecked");
    }
    for status in [400, 404, 429, 499, 500, 501, 505] {
        let app = Origin::with("app", move |exchange| exchange.respond(status, &[], ""));
        let well = Origin::named("well");
        let balancer = Balancer::start(&config(&[app.address(), well.address()], AT_ONCE));
        for _ in 0..10 {
            get(balancer.http(), "/");
        }
        assert_eq!(app.request_count(), 5, "{status}");
        assert_eq!(ejections(&balancer, &[]), 0.0, "{status}");
    }
}

#[test]
fn half_of_twenty_requests_that_fail_eject_where_never_many_fail_in_a_row() {
    let bad = Origin::with("bad", |exchange| {
        let status = if exchange.number % 2 == 0 { 200 } else { 503 };
        exchange.respond(status, &[], "")
    });
    let well = Origin::named("well");
    let balancer = Balancer::start(&config(
        &[bad.address(), well.address()],
        "window = \"60s\"",
    ));
    for _ in 0..38 {
        get(balancer.http(), "/");
    }
    assert_eq!(bad.request_count(), 19);
    assert_eq!(ejections(&balancer, &[]), 0.0, "19 are too few");
    asking(&balancer, "it is ejected", || {
        state(&balancer, "0") == "ejected"
    });
    let labels = [("endpoint", "0"), ("reason", "ratio")];
    assert_eq!(ejections(&balancer, &labels), 1.0);
}

#[test]
fn last_endpoint_is_never_ejected() {
    let (a, b) = (Refusing::new(), Refusing::new());
    let alone = Balancer::start(&config(&[a.address()], AT_ONCE));
    for _ in 0..10 {
        get(alone.http(), "/").assert_made_by_balancer(502);
    }
    eventually("it is said", || {
        !alone.events("endpoint fails and is not ejected").is_empty()
    });
    assert_eq!(state(&alone, "0"), "unchecked");
    let two = Balancer::start(&config(&[a.address(), b.address()], AT_ONCE));
    asking(&two, "one is ejected", || ejected(&two).len() == 1);
    for _ in 0..10 {
        get(two.http(), "/").assert_made_by_balancer(502);
    }
    assert_eq!(ejected(&two).len(), 1);
    let said = || two.events("endpoint fails and is not ejected").len();
    let times = settled("it goes on failing", Duration::from_secs(2), || {
        get(two.http(), "/").assert_made_by_balancer(502);
        said()
    });
    assert_eq!(times, 1, "once, not for every failure");
}

#[test]
fn regression_backup_sat_idle_while_the_last_of_two_others_was_spared() {
    let bad = || Origin::with("bad", |exchange| exchange.respond(503, &[], ""));
    let origins = [bad(), bad(), Origin::named("backup")];
    let backup = format!("\"{}\" }}]", origins[2].address());
    let file = config(&addresses(&origins), AT_ONCE)
        .replace(&backup, &backup.replace(" }]", ", backup = true }]"));
    let balancer = Balancer::start(&file);
    asking(&balancer, "both are ejected", || {
        ejected(&balancer) == ["0", "1"]
    });
    for _ in 0..10 {
        assert_eq!(get(balancer.http(), "/").text(), "backup");
    }
}

#[test]
fn half_of_ten_lost_at_once_are_all_found_and_one_more_stays() {
    let mut origins: Vec<Origin> = (0..10).map(|_| Origin::named("a")).collect();
    let balancer = Balancer::start(&config(
        &addresses(&origins),
        "consecutive = 2, eject = \"5m\"",
    ));
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    for origin in &mut origins[..3] {
        origin.stop();
    }
    for origin in &origins[3..5] {
        origin.on_request(|exchange| exchange.respond(503, &[], ""));
    }
    asking(&balancer, "all five are ejected", || {
        ejected(&balancer).len() == 5
    });
    assert_eq!(ejected(&balancer), ["0", "1", "2", "3", "4"]);
    for _ in 0..30 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    // A sixth would be more than half.
    origins[5].on_request(|exchange| exchange.respond(503, &[], ""));
    asking(&balancer, "it is spared", || {
        !balancer
            .events("endpoint fails and is not ejected")
            .is_empty()
    });
    assert_eq!(ejected(&balancer).len(), 5);
}

#[test]
fn endpoint_is_back_when_its_time_is_over_and_longer_away_the_next_time() {
    let bad = Arc::new(AtomicBool::new(true));
    let origin = Origin::with("flapping", {
        let bad = bad.clone();
        move |exchange| {
            let status = if bad.load(SeqCst) { 503 } else { 200 };
            exchange.respond(status, &[], "flapping")
        }
    });
    let well = Origin::named("well");
    let balancer = Balancer::start(&config(
        &[origin.address(), well.address()],
        "consecutive = 3, eject = \"300ms\"",
    ));
    // It fails, is away, is back, fails again.
    asking(&balancer, "it is ejected three times", || {
        balancer.events("endpoint ejected").len() >= 3
    });
    bad.store(false, SeqCst);
    eventually("it is back and well", || {
        get(balancer.http(), "/").text() == "flapping"
    });
    // It is picked before that is said.
    eventually("its return is said each time", || {
        balancer.events("endpoint no longer ejected").len()
            == balancer.events("endpoint ejected").len()
    });
    let times: Vec<f64> = balancer
        .events("endpoint ejected")
        .iter()
        .map(|event| {
            let time = event["time"].as_str().expect("a time");
            match time.strip_suffix("ms") {
                Some(time) => time.parse::<f64>().unwrap() / 1000.0,
                None => time.trim_end_matches('s').parse().unwrap(),
            }
        })
        .collect();
    // 300 and 900 ms, each up to a fifth longer or shorter.
    assert!((0.2..=0.4).contains(&times[0]), "{times:?}");
    assert!((0.7..=1.2).contains(&times[2]), "{times:?}");
}

#[test]
fn passing_check_ends_an_ejection() {
    let bad = Arc::new(AtomicBool::new(true));
    let origin = Origin::with("a", {
        let bad = bad.clone();
        move |exchange| {
            let status = if bad.load(SeqCst) { 503 } else { 200 };
            exchange.respond(status, &[], "a")
        }
    });
    let gate = Gate::new();
    let well = Origin::named("well");
    let config = config(
        &[origin.address(), well.address()],
        "consecutive = 2, eject = \"5m\"",
    )
    .replace(
        "[[route]]",
        "health = { interval = \"200ms\", timeout = \"200ms\", fast_interval = \"50ms\", fall = 1000 }\n[[route]]",
    );
    let balancer = Balancer::start(&config);
    balancer.await_health("app", "0", "up");
    // Its checks hang from now on: they would end the ejection before it is seen.
    origin.on_probe({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond(200, &[], "")
        }
    });
    asking(&balancer, "it is ejected", || {
        !balancer.events("endpoint ejected").is_empty()
    });
    bad.store(false, SeqCst);
    gate.open();
    eventually("it is back", || {
        let events = balancer.events("endpoint no longer ejected");
        events
            .iter()
            .any(|event| event["because"] == "a check passed")
    });
    eventually("it is asked", || get(balancer.http(), "/").text() == "a");
}

#[test]
fn client_that_leaves_says_nothing_of_the_endpoint() {
    let gate = Gate::new();
    let slow = Origin::with("slow", {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let other = Origin::with("other", {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let balancer = Balancer::start(&config(&[slow.address(), other.address()], AT_ONCE));
    for number in 1..=10 {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("it is asked", || {
            slow.request_count() + other.request_count() == number
        });
        connection.abort();
    }
    eventually("all have left", || {
        balancer
            .metrics()
            .sum("balancer_requests_total", &[("code", "499")])
            == 10.0
    });
    assert_eq!(ejections(&balancer, &[]), 0.0);
    gate.open();
}

#[test]
fn regression_clients_that_let_endpoints_wait_for_a_body_got_them_ejected() {
    // As servers do that wait for a body only so long.
    let impatient = |name| {
        Origin::with(name, |exchange| {
            if exchange.target() == "/stalls" {
                thread::sleep(Duration::from_millis(1500));
            }
            Next::Reset
        })
    };
    let origins = [impatient("one"), impatient("two")];
    let balancer = Balancer::start(&config(&addresses(&origins), AT_ONCE));
    let begin = |path: &str| {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\n12"
        ));
        connection
    };
    let stalling: Vec<_> = (0..4).map(|_| begin("/stalls")).collect();
    for mut connection in stalling {
        assert_eq!(connection.reply().status, 502);
    }
    assert_eq!(failures(&balancer), 4.0);
    assert_eq!(ejections(&balancer, &[]), 0.0);
    // Whoever does not even wait is to blame.
    assert_eq!(begin("/").reply().status, 502);
    eventually("one is ejected", || ejected(&balancer).len() == 1);
}

#[test]
fn reused_connection_that_turns_out_closed_says_nothing_of_the_endpoint() {
    // It cuts a connection when it is used again.
    let cut = |name| {
        Origin::with(name, |exchange| {
            if exchange.target() == "/again" {
                return Next::Reset;
            }
            exchange.respond_with_name()
        })
    };
    let (one, two) = (cut("one"), cut("two"));
    let addresses = [one.address(), two.address()];
    // The failure is what clients get.
    let text = config(&addresses, AT_ONCE).replace("passive =", "retry = false\npassive =");
    let balancer = Balancer::start(&text);
    for _ in 0..5 {
        // Both have a connection to be used again.
        for path in ["/", "/", "/again", "/again"] {
            get(balancer.http(), path);
        }
    }
    let stale = [("outcome", "failed")];
    let failed = balancer
        .metrics()
        .sum("balancer_upstream_stale_connection_total", &stale);
    assert_eq!(failed, 10.0, "every second connection was cut");
    assert_eq!(ejections(&balancer, &[]), 0.0);
}

#[test]
fn endpoint_that_stands_still_is_found_by_its_silence_on_connections_used_before() {
    let gate = Gate::new();
    let still = Arc::new(AtomicBool::new(false));
    let origin = Origin::with("a", {
        let (gate, still) = (gate.clone(), still.clone());
        move |exchange| {
            if still.load(SeqCst) {
                gate.wait();
            }
            exchange.respond_with_name()
        }
    });
    let well = Origin::named("well");
    let config = config(
        &[origin.address(), well.address()],
        "consecutive = 2, eject = \"5m\"",
    )
    .replace(
        "[[route]]",
        "timeouts = { response_head = \"1s\" }\n[[route]]",
    );
    let balancer = Balancer::start(&config);
    for _ in 0..4 {
        get(balancer.http(), "/");
    }
    still.store(true, SeqCst);
    asking(&balancer, "it is ejected", || {
        state(&balancer, "0") == "ejected"
    });
    gate.open();
}

#[test]
fn endpoint_over_http_2_that_is_gone_is_found_too() {
    let [gone, well] = ["gone", "well"].map(|name| H2Origin::new(move |_| ready(text(name))));
    let config = config(&[gone.address(), well.address()], "eject = \"5m\"")
        .replace("[[route]]", "protocol = \"h2\"\n[[route]]");
    let balancer = Balancer::start(&config);
    for _ in 0..4 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    drop(gone);
    asking(&balancer, "it is ejected", || {
        state(&balancer, "0") == "ejected"
    });
    for _ in 0..10 {
        assert_eq!(get(balancer.http(), "/").text(), "well");
    }
}

#[test]
fn passive_detection_can_be_switched_off_also_by_a_reload() {
    let (refusing, origin) = (Refusing::new(), Origin::named("a"));
    let on = config(&[refusing.address(), origin.address()], AT_ONCE);
    let off = on.replace(&format!("{{ {AT_ONCE} }}"), "\"off\"");
    assert!(off.contains("passive = \"off\""));
    let balancer = Balancer::start(&off);
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    assert_eq!(ejections(&balancer, &[]), 0.0);
    assert!(failures(&balancer) >= 10.0);
    balancer.reloaded(&on);
    asking(&balancer, "it is ejected", || {
        state(&balancer, "0") == "ejected"
    });
    // A reload that changes nothing of it keeps the ejection.
    balancer.reloaded(&format!("{on}startup_wait = \"3s\"\n"));
    assert_eq!(state(&balancer, "0"), "ejected");
    balancer.reloaded(&off);
    eventually("it is back", || state(&balancer, "0") == "unchecked");
}

#[test]
fn facts_tell_what_has_happened_to_an_endpoint() {
    let mut origin = Origin::named("a");
    let well = Origin::named("well");
    let balancer = Balancer::start(
        &config(&[origin.address(), well.address()], "eject = \"5m\"").replace(
            "[[route]]",
            "health = { interval = \"100ms\", timeout = \"100ms\", fast_interval = \"50ms\" }\n[[route]]",
        ),
    );
    balancer.await_health("app", "0", "up");
    origin.stop();
    balancer.await_health("app", "0", "down");
    origin.start_again();
    balancer.await_health("app", "0", "up");
    let reply = balancer.ask("/api/v1/endpoints/app/0/facts");
    assert_eq!(reply.status, 200);
    let facts: serde_json::Value = serde_json::from_slice(&reply.body.bytes).expect("JSON");
    assert_eq!(
        (&facts["upstream"], &facts["endpoint"], &facts["state"]),
        (&"app".into(), &"0".into(), &"up".into())
    );
    let story: Vec<&str> = facts["facts"]
        .as_array()
        .expect("facts")
        .iter()
        .filter(|fact| fact["kind"] == "health")
        .filter_map(|fact| fact["text"].as_str())
        .collect();
    assert_eq!(story, ["up", "down", "up"]);
    let refused = facts["facts"]
        .as_array()
        .expect("facts")
        .iter()
        .find(|fact| {
            let text = fact["text"].as_str().expect("text");
            text.starts_with("check failed: connect failed: Connection refused")
        })
        .expect("why it was down");
    assert!(
        refused["times"].as_u64() >= Some(1)
            && refused["last_ms"].as_u64() >= refused["first_ms"].as_u64()
    );
    assert_eq!(
        balancer.ask("/api/v1/endpoints/app/nobody/facts").status,
        404
    );
    assert_eq!(balancer.ask("/api/v1/endpoints/none/0/facts").status, 404);
}
