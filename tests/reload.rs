//! Reload (semantics §1, §11): one step from the old configuration to the new, or none; nothing in flight is cut and
//! nothing learned is forgotten.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::deadline::settled;
use crate::support::h2::H2;
use crate::support::http1::Framing;
use crate::support::{
    Balancer, Connection, Gate, Next, Origin, Outcome, Refusing, eventually, get, simple,
};

/// One upstream `app` with named, weighted endpoints.
fn config(endpoints: &[(&str, SocketAddr, u16)], more: &str) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|(name, address, weight)| {
            format!("{{ name = \"{name}\", address = \"{address}\", weight = {weight} }}")
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\n{more}\n[[route]]\nupstream = \"app\"",
        endpoints.join(", ")
    )
}

/// An origin that holds requests for `/held` until the gate opens, after having sent half of its answer.
fn holding(name: &'static str, gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::with(name, move |exchange| {
        if exchange.target() != "/held" {
            return exchange.respond_with_name();
        }
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        gate.wait();
        exchange.write_then("lf", Next::Keep)
    })
}

/// Asks for `/held` and waits until half of the answer is there.
fn hold(address: SocketAddr) -> Connection {
    let mut connection = Connection::open(address);
    connection.send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection.final_head().unwrap();
    let mut half = [0; 2];
    connection.read_exact(&mut half).unwrap();
    connection
}

fn last_reload_successful(balancer: &Balancer) -> Option<f64> {
    balancer
        .metrics()
        .find("balancer_config_last_reload_successful", &[])
}

#[test]
fn sixty_reloads_at_twenty_a_second_under_load_fail_no_request() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let authority = Authority::new("test");
    let tls = "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }\n";
    let one = format!(
        "{tls}{}",
        config(&[("a", a.address(), 1), ("b", b.address(), 1)], "")
    );
    let two = format!(
        "{}\n[upstream.other]\nendpoints = [\"{}\"]\n[[route]]\npath = \"/other\"\nupstream = \"other\"\n{tls}",
        config(&[("b", b.address(), 3), ("a", a.address(), 1)], ""),
        b.address()
    );
    let balancer = Balancer::start_with(&one, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    });
    let (plain, secure) = (balancer.http(), balancer.address("https"));
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..6 {
            let (stop, served) = (&stop, &served);
            scope.spawn(move || {
                let mut connection = Connection::open(plain);
                while !stop.load(SeqCst) {
                    let method = if number % 2 == 0 { "GET" } else { "POST" };
                    connection
                        .try_send(format!("{method} /{number} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi"))
                        .expect("the connection is kept");
                    let reply = connection.try_reply(method).expect("the connection is kept");
                    assert_eq!(reply.status, 200, "{reply:?}");
                    assert!(reply.body.complete);
                    served.fetch_add(1, SeqCst);
                }
            });
        }
        for _ in 0..2 {
            let (stop, served, tls) = (&stop, &served, Tls::new(&authority, HOST));
            scope.spawn(move || {
                let connection = H2::connect(secure, &tls);
                while !stop.load(SeqCst) {
                    let reply = connection.get("/two").expect("the connection is kept");
                    assert_eq!((reply.status, reply.text().len()), (200, 1), "{reply:?}");
                    served.fetch_add(1, SeqCst);
                }
            });
        }
        // If a reload fails, the clients must still be told to stop.
        let stopping = StopOnDrop(&stop);
        let start = Instant::now();
        for number in 0..60_u32 {
            let generation = balancer.reloaded(if number % 2 == 0 { &two } else { &one });
            assert_eq!(generation, u64::from(number) + 2);
            // The pace is part of the promise: twenty a second.
            thread::sleep(
                (start + Duration::from_millis(50) * (number + 1))
                    .saturating_duration_since(Instant::now()),
            );
        }
        drop(stopping);
    });
    assert!(
        served.load(SeqCst) > 200,
        "only {} requests were made",
        served.load(SeqCst)
    );
    assert_eq!(
        balancer.metrics().sum("balancer_config_reloads_total", &[]),
        60.0
    );
    assert_eq!(
        balancer.metrics().find("balancer_config_generation", &[]),
        Some(61.0)
    );
    assert_eq!(balancer.status()["generation"], 61);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn bad_file_changes_nothing_and_says_why() {
    let origin = Origin::named("a");
    let good = simple(&[&origin]);
    let mut balancer = Balancer::start(&good);
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/").text(), "a");
    for (bad, expected) in [
        (
            good.replace("upstream = \"app\"", "upstream = \"none\""),
            "none",
        ),
        (good.replace("endpoints =", "endponts ="), "endpoints"),
        (
            good.replace("[listener.http]", "[listener.http"),
            "balancer.toml",
        ),
        (
            good.replace(&origin.address().to_string(), "nonsense"),
            "nonsense",
        ),
        (String::new(), "listener"),
    ] {
        let Outcome::Rejected(problems) = balancer.reload(&bad) else {
            panic!("accepted: {bad}")
        };
        assert!(problems.contains(expected), "{problems}");
        assert!(balancer.is_running());
        assert_eq!(connection.get("/").text(), "a");
        assert_eq!(get(balancer.http(), "/").text(), "a");
        assert_eq!(last_reload_successful(&balancer), Some(0.0));
        assert_eq!(balancer.status()["generation"], 1);
    }
    assert_eq!(
        balancer.events("configuration rejected")[0]["level"],
        "ERROR"
    );
    assert_eq!(balancer.reloaded(&good), 2);
    assert_eq!(last_reload_successful(&balancer), Some(1.0));
    assert_eq!(connection.get("/").text(), "a");
}

#[test]
fn every_problem_of_a_bad_file_is_told_at_once() {
    let origin = Origin::named("a");
    let good = simple(&[&origin]);
    let balancer = Balancer::start(&good);
    let bad = good
        .replace("[upstream.app]", "[upstream.app]\npolcy = \"round-robin\"")
        .replace("[[route]]", "[[route]]\npath = \"no-slash\"");
    let Outcome::Rejected(problems) = balancer.reload(&bad) else {
        panic!("accepted")
    };
    assert!(
        problems.contains("polcy") && problems.contains("no-slash"),
        "{problems}"
    );
    assert!(
        problems.contains("balancer.toml:"),
        "with file, line and column: {problems}"
    );
}

#[test]
fn missing_file_is_a_rejected_reload() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    std::fs::remove_file(balancer.directory().join("balancer.toml")).unwrap();
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("accepted")
    };
    assert!(problems.contains("balancer.toml"), "{problems}");
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(last_reload_successful(&balancer), Some(0.0));
}

#[test]
fn new_configuration_applies_to_connections_that_are_already_open() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&simple(&[&a]));
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/").text(), "a");
    balancer.reloaded(&simple(&[&b]));
    assert_eq!(connection.get("/").text(), "b");
}

#[test]
fn round_robin_keeps_its_position() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = simple(&[&a, &b]);
    let balancer = Balancer::start(&config);
    let mut last = get(balancer.http(), "/").text();
    for _ in 0..10 {
        balancer.reloaded(&config);
        let next = get(balancer.http(), "/").text();
        assert_ne!(next, last, "the position was lost");
        last = next;
    }
}

#[test]
fn health_is_not_forgotten() {
    let (a, refusing) = (Origin::named("a"), Refusing::new());
    // After its first fall or pass an endpoint is not checked again while the test lasts.
    let health = "health = { interval = \"60s\", fast_interval = \"60s\", fall = 1 }";
    let with = |weight| {
        config(
            &[("a", a.address(), weight), ("b", refusing.address(), 1)],
            health,
        )
    };
    let balancer = Balancer::start(&with(1));
    balancer.await_health("app", "a", "up");
    balancer.await_health("app", "b", "down");
    let before = (balancer.endpoint("app", "a"), balancer.endpoint("app", "b"));
    for weight in 2..6 {
        balancer.reloaded(&with(weight));
        let (a, b) = (balancer.endpoint("app", "a"), balancer.endpoint("app", "b"));
        assert_eq!((&a["health"], &b["health"]), (&"up".into(), &"down".into()));
        assert_eq!(
            (&a["since"], &b["since"]),
            (&before.0["since"], &before.1["since"])
        );
        assert_eq!(b["reason"], before.1["reason"]);
        assert_eq!(a["weight"], weight);
        for _ in 0..4 {
            assert_eq!(get(balancer.http(), "/").text(), "a");
        }
    }
    // The second probe may come at any time within the interval; four more do not.
    assert!(
        a.probe_count() < 4,
        "an unchanged check starts again with each reload"
    );
}

#[test]
fn regression_checks_added_to_endpoints_in_use_took_them_out_with_their_first_failure() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    a.probe_status(500);
    let with = |health| config(&[("a", a.address(), 1), ("b", b.address(), 1)], health);
    let balancer = Balancer::start(&with(""));
    balancer.reloaded(&with(
        "health = { interval = \"60s\", fast_interval = \"60s\", fall = 2 }",
    ));
    balancer.await_health("app", "b", "up");
    eventually("it has failed", || {
        balancer.endpoint("app", "a")["reason"] != serde_json::Value::Null
    });
    let endpoint = balancer.endpoint("app", "a");
    assert_eq!(
        (&endpoint["health"], &endpoint["eligible"]),
        (&"unchecked".into(), &true.into()),
        "{endpoint}"
    );
    // The next one that fails is one too many.
    balancer.reloaded(&with(
        "health = { interval = \"200ms\", fast_interval = \"200ms\", timeout = \"200ms\", fall = 2 }",
    ));
    balancer.await_health("app", "a", "down");
}

#[test]
fn requests_in_flight_stay_counted_and_are_not_cut() {
    let gate = Gate::new();
    let a = holding("a", &gate);
    let with = |weight| {
        config(
            &[("a", a.address(), weight)],
            "policy = \"least-connections\"",
        )
    };
    let balancer = Balancer::start(&with(1));
    let mut held = hold(balancer.http());
    for weight in 2..5 {
        balancer.reloaded(&with(weight));
        assert_eq!(balancer.endpoint("app", "a")["in_flight"], 1);
    }
    gate.open();
    let rest = held.body(Framing::Length(2));
    assert!(rest.complete, "a request in flight was cut");
    eventually("its end is counted", || {
        balancer.endpoint("app", "a")["in_flight"] == 0
    });
    assert_eq!(held.get("/").text(), "a", "and its connection is kept");
}

#[test]
fn pooled_connections_of_unchanged_endpoints_survive() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let process = "\n[process]\nworkers = 1\n";
    let one = config(&[("a", a.address(), 1)], "") + process;
    let two = config(&[("a", a.address(), 1)], "")
        + &format!(
            "\n[upstream.b]\nendpoints = [\"{}\"]\n[[route]]\npath = \"/b\"\nupstream = \"b\"",
            b.address()
        )
        + process;
    let balancer = Balancer::start(&one);
    let mut connection = Connection::open(balancer.http());
    for number in 0..10 {
        assert_eq!(connection.get("/").text(), "a");
        balancer.reloaded(if number % 2 == 0 { &two } else { &one });
    }
    assert_eq!(a.connections(), 1, "a reload threw warm connections away");
}

#[test]
fn weight_changes_in_place() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let with = |weight| config(&[("a", a.address(), weight), ("b", b.address(), 1)], "");
    let balancer = Balancer::start(&with(1));
    let share = || {
        (0..12)
            .filter(|_| get(balancer.http(), "/").text() == "a")
            .count()
    };
    assert_eq!(share(), 6);
    balancer.reloaded(&with(3));
    assert_eq!(share(), 9);
    balancer.reloaded(&with(2));
    assert_eq!(share(), 8);
}

#[test]
fn removed_endpoint_finishes_its_slow_response_and_gets_nothing_new() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), Origin::named("b"));
    let balancer = Balancer::start(&config(&[("a", a.address(), 1)], ""));
    let mut held = hold(balancer.http());
    balancer.reloaded(&config(&[("b", b.address(), 1)], ""));
    let asked = a.request_count();
    for _ in 0..10 {
        assert_eq!(get(balancer.http(), "/").text(), "b");
    }
    assert_eq!(a.request_count(), asked);
    let in_flight = || {
        let labels = [("upstream", "app"), ("endpoint", "a")];
        balancer
            .metrics()
            .find("balancer_upstream_in_flight", &labels)
    };
    assert_eq!(in_flight(), Some(1.0), "it is gone, its request is not");
    gate.open();
    let rest = held.body(Framing::Length(2));
    assert_eq!((rest.bytes.as_slice(), rest.complete), (&b"lf"[..], true));
    eventually("its last request is counted out", || {
        in_flight() == Some(0.0)
    });
    eventually("idle connections to a removed endpoint are closed", || {
        a.open() == 0
    });
}

#[test]
fn endpoint_that_moves_starts_anew_under_its_name() {
    let (refusing, a) = (Refusing::new(), Origin::named("a"));
    let health = "health = { interval = \"60s\", fast_interval = \"60s\", fall = 1 }";
    let balancer = Balancer::start(&config(&[("app-1", refusing.address(), 1)], health));
    balancer.await_health("app", "app-1", "down");
    balancer.reloaded(&config(&[("app-1", a.address(), 1)], health));
    balancer.await_health("app", "app-1", "up");
    assert_eq!(get(balancer.http(), "/").text(), "a");
}

#[test]
fn listeners_are_added_kept_and_removed() {
    let gate = Gate::new();
    let a = holding("a", &gate);
    let one = config(&[("a", a.address(), 1)], "");
    let two = format!("[listener.extra]\naddress = \"127.0.0.1:0\"\n{one}");
    let balancer = Balancer::start(&one);
    let http = balancer.http();
    let mut kept = Connection::open(http);
    assert_eq!(kept.get("/").text(), "a");

    balancer.reloaded(&two);
    let extra = balancer.address("extra");
    assert_eq!(get(extra, "/").text(), "a");
    assert_eq!(
        balancer.http(),
        http,
        "the old listener has kept its socket"
    );
    assert_eq!(kept.get("/").text(), "a");
    let listeners = || {
        balancer.status()["listeners"]
            .as_array()
            .expect("listeners")
            .len()
    };
    assert_eq!(listeners(), 2);

    let mut held = hold(extra);
    balancer.reloaded(&one);
    eventually("the removed listener refuses", || {
        Connection::try_open(extra).is_err()
    });
    assert_eq!(listeners(), 1);
    assert_eq!(get(http, "/").text(), "a");
    assert_eq!(kept.get("/").text(), "a");
    gate.open();
    assert!(
        held.body(Framing::Length(2)).complete,
        "a request of a removed listener was cut"
    );
    assert!(held.is_closed_by_peer(), "and then its connection ends");
}

#[test]
fn settings_of_a_kept_listener_change() {
    let a = Origin::named("a");
    let one = simple(&[&a]);
    let two = one.replace(
        "[listener.http]",
        "[listener.http]\nlimits = { uri_bytes = \"100B\" }",
    );
    let balancer = Balancer::start(&one);
    let long = format!("/{}", "x".repeat(200));
    assert_eq!(get(balancer.http(), &long).status, 200);
    balancer.reloaded(&two);
    eventually("the new limit holds", || {
        get(balancer.http(), &long).status == 414
    });
    balancer.reloaded(&one);
    eventually("the old limit holds again", || {
        get(balancer.http(), &long).status == 200
    });
}

#[test]
fn new_listener_on_a_taken_address_rejects_the_reload() {
    let a = Origin::named("a");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let one = simple(&[&a]);
    let two = format!(
        "[listener.extra]\naddress = \"{address}\"\n{}",
        one.replace("upstream = \"app\"", "respond = { status = 418 }")
    );
    let balancer = Balancer::start(&one);
    let Outcome::Rejected(problems) = balancer.reload(&two) else {
        panic!("accepted")
    };
    assert!(
        problems.contains(&address.to_string()) && problems.contains("extra"),
        "{problems}"
    );
    assert_eq!(
        get(balancer.http(), "/").text(),
        "a",
        "nothing of the new file applies"
    );
    assert_eq!(balancer.status()["generation"], 1);
    assert_eq!(last_reload_successful(&balancer), Some(0.0));
    drop(taken);
    eventually("the address is free", || {
        matches!(balancer.reload(&two), Outcome::Accepted(2))
    });
    assert_eq!(get(address, "/").status, 418);
}

#[test]
fn regression_rejected_reload_takes_no_metrics_of_what_was_just_removed() {
    let a = Origin::named("a");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let first = simple(&[&a]);
    let both = format!("{first}\n[[route]]\nname = \"gone\"\npath = \"/gone\"\nupstream = \"app\"");
    let balancer = Balancer::start(&both);
    assert_eq!(get(balancer.http(), "/gone").status, 200);
    let count = || {
        let labels = [("route", "gone")];
        balancer
            .metrics()
            .find("balancer_response_bytes_total", &labels)
    };
    eventually("it is counted", || count() > Some(0.0));
    let before = count();
    balancer.reloaded(&first);
    assert_eq!(count(), before);
    let rejected = format!("[listener.more]\naddress = \"{address}\"\n{both}");
    assert!(matches!(balancer.reload(&rejected), Outcome::Rejected(_)));
    assert_eq!(count(), before);
}

#[test]
fn regression_rejected_reload_leaves_no_metrics_of_what_never_was() {
    let a = Origin::named("a");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let one = simple(&[&a]);
    let never = |listener: &str| {
        format!(
            "[listener.never]\naddress = {listener}\n{one}\n[upstream.never]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nname = \"never\"\npath = \"/never\"\nupstream = \"never\"\nmirror = {{ upstream = \"app\" }}"
        )
    };
    let balancer = Balancer::start(&one);
    for listener in [
        format!("\"{address}\""),
        "\"127.0.0.1:0\"\nredirect_to_https = true\n[listener.other]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"no.pem\", key = \"no.key\" }] }".to_owned(),
    ] {
        let Outcome::Rejected(_) = balancer.reload(&never(&listener)) else {
            panic!("accepted: {listener}")
        };
        let metrics = balancer.ask("/metrics").text();
        assert!(!metrics.contains("\"never\""), "{metrics}");
        assert!(metrics.contains("\"app\""), "{metrics}");
    }
}

#[test]
fn certificates_are_read_again() {
    let a = Origin::named("a");
    let authority = Authority::new("test");
    let tls = "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }\n";
    let config = format!("{tls}{}", simple(&[&a]));
    let (first, second) = (authority.issue(&[HOST]), authority.issue(&[HOST]));
    let balancer = Balancer::start_with(&config, |directory| first.write(directory, "server"));
    let client = Tls::new(&authority, HOST);
    let mut old = Connection::secure(balancer.address("https"), &client).unwrap();
    assert!(old.certificate() == first.certificate);

    second.write(balancer.directory(), "server");
    balancer.reloaded(&config);
    let mut new = Connection::secure(balancer.address("https"), &client).unwrap();
    assert!(
        new.certificate() == second.certificate,
        "the old certificate is still shown"
    );
    assert_eq!(new.get("/").text(), "a");
    assert_eq!(old.get("/").text(), "a", "a connection made before goes on");

    // A key that does not belong to its chain changes nothing.
    std::fs::write(balancer.directory().join("server.key"), &first.key).unwrap();
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("accepted")
    };
    assert!(
        problems.contains("server.key") || problems.contains("server.pem"),
        "{problems}"
    );
    let newer = Connection::secure(balancer.address("https"), &client).unwrap();
    assert!(newer.certificate() == second.certificate);
}

#[test]
fn storm_of_signals_is_coalesced_and_ends_with_the_last_file() {
    let a = Origin::named("a");
    let mut balancer = Balancer::start(&simple(&[&a]));
    let served = Arc::new(AtomicBool::new(true));
    for number in 0..300 {
        balancer.write_configuration(&simple(&[&a]).replace(
            "upstream = \"app\"",
            &format!("respond = {{ body = \"{number}\" }}"),
        ));
        balancer.signal(Signal::HUP);
        served.fetch_and(get(balancer.http(), "/").status == 200, SeqCst);
    }
    eventually("the last file applies", || {
        get(balancer.http(), "/").text() == "299"
    });
    assert!(served.load(SeqCst), "a request failed");
    let reloads = settled("reloads end", Duration::from_millis(300), || {
        balancer.events("configuration reloaded").len()
    });
    assert!((1..=300).contains(&reloads));
    assert!(balancer.events("configuration rejected").is_empty());
    assert!(balancer.is_running());
}

#[test]
fn counters_never_go_back() {
    let a = Origin::named("a");
    let config = simple(&[&a]);
    let balancer = Balancer::start(&config);
    for number in 1..5 {
        assert_eq!(get(balancer.http(), "/").status, 200);
        eventually("the request is counted", || {
            balancer
                .metrics()
                .sum("balancer_requests_total", &[("code", "200")])
                == f64::from(number)
        });
        balancer.reloaded(&config);
        assert_eq!(
            balancer
                .metrics()
                .sum("balancer_requests_total", &[("code", "200")]),
            f64::from(number)
        );
    }
}
