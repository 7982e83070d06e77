//! `flip`: another set of endpoints serves, from one request to the next; one that is worse goes back by itself.

use std::io::{BufRead, BufReader, Write};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Scope, ScopedJoinHandle};

use serde_json::{Value, json};

use super::rolling::begun;
use super::{ask, command, done, told};
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get};

/// Endpoints `a`, `b`… with the sets they are in, of which blue serves; further keys of the upstream.
pub(super) fn sets(origins: &[(&Origin, &str)], keys: &str) -> String {
    let endpoint = |((origin, set), name): (&(&Origin, &str), char)| {
        let address = origin.address();
        format!("{{ name = \"{name}\", address = \"{address}\", set = \"{set}\" }}")
    };
    let endpoints: Vec<_> = origins.iter().zip('a'..).map(endpoint).collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nactive_set = \"blue\"\nendpoints = [{}]\n{keys}\n[[route]]\nupstream = \"app\"\n",
        endpoints.join(", ")
    )
}

/// Runs with these, all up where they are checked.
pub(super) fn started_with(origins: &[(&Origin, &str)], keys: &str) -> Balancer {
    let balancer = Balancer::start(&sets(origins, keys));
    let is_checked = keys.contains("health");
    let names = ('a'..).take(if is_checked { origins.len() } else { 0 });
    names.for_each(|name| balancer.await_health("app", &name.to_string(), "up"));
    balancer
}

/// Flips to green, to the end.
pub(super) fn flip(balancer: &Balancer, more: &[&str]) -> Output {
    command(
        balancer,
        &[&["flip", "app", "--to", "green"], more].concat(),
    )
}

pub(super) fn await_phase(balancer: &Balancer, expected: &str) {
    eventually(expected, || phase(balancer) == expected);
}

pub(super) const CHECKED: &str = "slow_start = \"0s\"\nhealth = { interval = \"500ms\", fast_interval = \"100ms\", timeout = \"500ms\", rise = 1 }";

/// What is told of the upstream's sets.
#[track_caller]
pub(super) fn shown(balancer: &Balancer) -> Value {
    let (status, shown) = ask(balancer, "GET", "/api/v1/upstreams/app/flip", "");
    assert_eq!(status, 200, "{shown}");
    shown
}

pub(super) fn phase(balancer: &Balancer) -> String {
    shown(balancer)["flip"]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Asks so often; how many answers have this text.
pub(super) fn asked(balancer: &Balancer, count: usize, text: &str) -> usize {
    let mut connection = Connection::open(balancer.http());
    let answers = (0..count).map(|_| {
        let sent = connection.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let reply = sent.and_then(|()| connection.try_reply("GET"));
        let reply = reply.unwrap_or_else(|_| {
            // A process that has handed over closes connections between two requests.
            connection = Connection::open(balancer.http());
            connection.get("/")
        });
        reply.text()
    });
    answers.filter(|answer| answer == text).count()
}

/// Asks on and on until told to stop; how many requests failed.
pub(super) fn load<'s>(
    scope: &'s Scope<'s, '_>,
    balancer: &'s Balancer,
    stop: &'s AtomicBool,
) -> ScopedJoinHandle<'s, usize> {
    scope.spawn(|| {
        let mut connection = Connection::open(balancer.http());
        let mut failed = 0;
        while !stop.load(SeqCst) {
            failed += usize::from(connection.get("/").status != 200);
        }
        failed
    })
}

#[test]
fn every_request_goes_to_the_new_set_from_one_moment_to_the_next_and_none_fails() {
    let (a, b, c) = (
        Origin::named("blue"),
        Origin::named("blue"),
        Origin::named("green"),
    );
    let balancer = started_with(&[(&a, "blue"), (&b, "blue"), (&c, "green")], CHECKED);
    let standby = balancer.endpoint("app", "c");
    assert_eq!(
        (&standby["state"], &standby["set"], &standby["eligible"]),
        (&json!("standby"), &json!("green"), &json!(false))
    );
    assert_eq!(asked(&balancer, 40, "blue"), 40);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..3).map(|_| load(scope, &balancer, &stop)).collect();
        let said = done(&flip(&balancer, &["--watch", "0s"]));
        assert!(said.contains("done, set green serves"), "{said}");
        // What was in flight is over once every client has asked again.
        let count = c.request_count();
        eventually("all go on", || c.request_count() > count + 30);
        let old = a.request_count() + b.request_count();
        let count = c.request_count();
        eventually("all go on", || c.request_count() > count + 100);
        assert_eq!(a.request_count() + b.request_count(), old);
        stop.store(true, SeqCst);
        for client in clients {
            assert_eq!(client.join().unwrap(), 0, "requests failed");
        }
    });
    let whole = ask(&balancer, "GET", "/api/v1/openapi.json", "").1;
    for (path, real) in [
        (
            "/api/v1/upstreams/{upstream}/flip",
            "/api/v1/upstreams/app/flip",
        ),
        ("/api/v1/status", "/api/v1/status"),
    ] {
        let answer = ask(&balancer, "GET", real, "");
        super::openapi::hold(&whole, "get", path, answer);
    }
    let told = shown(&balancer);
    assert_eq!(told["active_set"], "green");
    assert_eq!(told["flip"]["phase"], "kept");
    assert!(told["flip"]["change_seconds"].as_f64().is_some(), "{told}");
    assert_eq!(balancer.endpoint("app", "a")["state"], "standby");
    let metrics = balancer.metrics();
    let serves = |set| metrics.find("balancer_upstream_active_set", &[("set", set)]);
    assert_eq!((serves("blue"), serves("green")), (Some(0.0), Some(1.0)));
    let flips = metrics.find("balancer_flips_total", &[("result", "kept")]);
    assert_eq!(flips, Some(1.0));
    let up = metrics.find("balancer_endpoint_up", &[("endpoint", "a")]);
    assert_eq!(up, Some(1.0), "one on standby is well, and no alarm");
    let said = done(&command(&balancer, &["status"]));
    assert!(said.contains("last flip: done, set green serves"), "{said}");
    assert!(said.contains("standby (set blue)"), "{said}");
    let said = done(&command(&balancer, &["why", "app/c"]));
    assert!(said.contains("its set serves"), "{said}");
    let said = done(&command(
        &balancer,
        &["explain", "GET", "http://x/", "--live"],
    ));
    assert!(said.contains("of set blue, and set green serves"), "{said}");
}

#[test]
fn request_in_flight_ends_where_it_began() {
    let gate = Gate::new();
    let (a, b) = (
        super::rolling::holding("blue", &gate),
        Origin::named("green"),
    );
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    let mut held = super::rolling::hold(&balancer);
    done(&flip(&balancer, &["--watch", "0s"]));
    assert_eq!(asked(&balancer, 3, "green"), 3);
    gate.open();
    held.read_exact(&mut [0; 2]).unwrap();
}

#[test]
fn flip_outlives_a_reload_until_the_file_says_something_else_and_ends_with_the_process() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let text = sets(&[(&a, "blue"), (&b, "green")], "");
    let balancer = Balancer::start(&text);
    done(&flip(&balancer, &["--watch", "0s"]));
    let (_, planned) = told(&command(&balancer, &["plan"]));
    assert!(
        planned.contains("set green serves, the file says blue"),
        "{planned}"
    );
    balancer.reloaded(&(text.clone() + "[process]\nworkers = 2\n"));
    assert_eq!(asked(&balancer, 4, "green"), 4);
    // It says so by now: nothing is left of the wish.
    balancer.reloaded(&text.replace("active_set = \"blue\"", "active_set = \"green\""));
    assert_eq!(asked(&balancer, 4, "green"), 4);
    let planned = done(&command(&balancer, &["plan"]));
    assert!(!planned.contains("set green serves"), "{planned}");
    balancer.reloaded(&text);
    assert_eq!(asked(&balancer, 4, "blue"), 4);
    // There is nothing to do.
    let said = done(&command(&balancer, &["flip", "app", "--to", "blue"]));
    assert!(said.contains("set blue serves already"), "{said}");
}

#[test]
fn set_that_serves_and_is_not_the_files_is_told_wherever_one_looks() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let blue = sets(&[(&a, "blue"), (&b, "green")], "");
    let green = blue.replace("active_set = \"blue\"", "active_set = \"green\"");
    let balancer = Balancer::start(&blue);
    let differs = || {
        let metrics = balancer.metrics();
        metrics.find("balancer_upstream_set_differs", &[("upstream", "app")])
    };
    let looked = || done(&command(&balancer, &["flip", "app", "--status"]));
    assert_eq!(differs(), Some(0.0));
    let said = done(&flip(&balancer, &["--watch", "0s"]));
    let told = "flip app: the file says active_set = \"blue\": a reload leaves set green in use, a restart lets set blue serve at once, unwatched. To keep set green: active_set = \"green\" there\n";
    assert!(said.ends_with(told), "{said}");
    let status = done(&command(&balancer, &["status"]));
    let line = "set green serves, the file says blue: a restart lets that serve; last flip: done";
    assert!(status.contains(line), "{status}");
    assert_eq!(shown(&balancer)["file_set"], "blue");
    assert_eq!(differs(), Some(1.0));
    let warning = "the file names another set than the one that serves: a reload leaves that, a restart does not";
    assert_eq!(balancer.events(warning)[0]["file"], "blue");
    // Written down, and not read yet.
    balancer.write_configuration(&green);
    assert!(!looked().contains("the file says"));
    balancer.reload_as_it_is();
    assert_eq!(shown(&balancer)["file_set"], json!(null));
    assert_eq!(differs(), Some(0.0));
    // What was changed since it was read waits for the next reload.
    balancer.write_configuration(&blue);
    let said = looked();
    let reload = "a reload or a restart lets set blue serve at once";
    assert!(said.contains(reload), "{said}");
    balancer.reload_as_it_is();
    // A file that is ahead of a flip that is gone back from.
    done(&flip(&balancer, &["--watch", "1h", "--no-wait"]));
    await_phase(&balancer, "watching");
    balancer.reloaded(&green);
    let said = done(&command(&balancer, &["flip", "app", "--abort"]));
    assert!(said.contains("aborted, set blue serves"), "{said}");
    assert!(said.contains("a restart lets set green serve"), "{said}");
    assert_eq!(differs(), Some(1.0));
}

#[test]
fn set_whose_requests_fail_is_flipped_back_by_itself_and_why_is_said() {
    let a = Origin::named("blue");
    let b = Origin::with("green", |exchange| exchange.respond(500, &[], "broken"));
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = load(scope, &balancer, &stop);
        let (code, said) = told(&flip(&balancer, &[]));
        stop.store(true, SeqCst);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("flipped back, set blue serves"), "{said}");
        assert!(said.contains("requests failed (100.0 %)"), "{said}");
        client.join().unwrap();
    });
    assert_eq!(asked(&balancer, 10, "blue"), 10);
    let shown = shown(&balancer);
    assert_eq!(
        (&shown["active_set"], &shown["flip"]["phase"]),
        (&json!("blue"), &json!("flipped-back"))
    );
    assert!(
        shown["flip"]["after"]["errors"].as_u64() >= Some(100),
        "{shown}"
    );
    let flips = balancer
        .metrics()
        .find("balancer_flips_total", &[("result", "flipped-back")]);
    assert_eq!(flips, Some(1.0));
    assert_eq!(
        balancer.events("flipped back automatically")[0]["level"],
        "ERROR"
    );
    // Nothing is left of the wish: the file has said so all the time.
    let planned = done(&command(&balancer, &["plan"]));
    assert!(!planned.contains("an operator has set"), "{planned}");
}

#[test]
fn set_that_answers_late_is_flipped_back_too_unless_that_does_not_matter() {
    let a = Origin::named("blue");
    let b = Origin::with("green", |exchange| {
        // So late that a busy machine is no match for it.
        thread::sleep(std::time::Duration::from_millis(300));
        exchange.respond_with_name()
    });
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| load(scope, &balancer, &stop)).collect();
        eventually("it is known how it was", || a.request_count() > 2000);
        let watched = |time| ["--min-requests", "50", "--watch", time];
        let (code, said) = told(&flip(&balancer, &watched("5s")));
        let ignoring = [&watched("400ms")[..], &["--ignore-latency"]].concat();
        let (ignored, told) = told(&flip(&balancer, &ignoring));
        stop.store(true, SeqCst);
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("answers took longer than"), "{said}");
        assert_eq!(ignored, Some(0), "{told}");
    });
}

#[test]
fn good_set_is_kept_when_its_time_is_over_and_too_few_requests_tell_nothing() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let hasty = "timeouts = { response_head = \"200ms\" }";
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], hasty);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = load(scope, &balancer, &stop);
        eventually("it is known how it was", || a.request_count() > 200);
        let (code, said) = told(&flip(&balancer, &["--watch", "1s", "--ignore-latency"]));
        stop.store(true, SeqCst);
        assert_eq!(client.join().unwrap(), 0);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("watched for 1s"), "{said}");
    });
    // Nobody asks now.
    let back = ["flip", "app", "--to", "blue", "--watch", "100ms"];
    let (code, said) = told(&command(&balancer, &back));
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("too little to tell, set blue serves"),
        "{said}"
    );
    // And none where none are asked for.
    done(&flip(
        &balancer,
        &["--watch", "50ms", "--min-requests", "0"],
    ));
}

#[test]
fn new_set_gets_its_share_step_by_step() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    let share = ["--percent", "25,100", "--watch", "1h"];
    let arguments = [&["flip", "app", "--to", "green"], &share[..]].concat();
    let mut flip = begun(&balancer, &arguments);
    await_phase(&balancer, "watching");
    assert_eq!(asked(&balancer, 200, "green"), 50);
    let said = done(&command(&balancer, &["flip", "app", "--status"]));
    assert!(said.contains("set green gets 25 % of requests"), "{said}");
    assert!(said.contains("set blue gets 75 % of requests"), "{said}");
    // Neither is on standby.
    for name in ["a", "b"] {
        assert_eq!(balancer.endpoint("app", name)["eligible"], true);
    }
    // Through a reload, too.
    balancer.reload_as_it_is();
    assert_eq!(asked(&balancer, 200, "green"), 50);
    b.on_request(|exchange| exchange.respond(503, &[], "broken"));
    // At most a quarter is harmed until it is seen.
    eventually("it goes back", || {
        asked(&balancer, 20, "blue");
        phase(&balancer) == "flipped-back"
    });
    assert_eq!(flip.wait().unwrap().code(), Some(3));
    assert_eq!(asked(&balancer, 20, "blue"), 20);
}

#[test]
fn steps_go_on_to_all_of_it() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = load(scope, &balancer, &stop);
        eventually("it is known how it was", || a.request_count() > 200);
        let watched = ["--watch", "500ms", "--min-requests", "20"];
        let steps = ["--percent", "50,100", "--ignore-latency"];
        let (code, said) = told(&flip(&balancer, &[&watched[..], &steps].concat()));
        stop.store(true, SeqCst);
        client.join().unwrap();
        assert_eq!(code, Some(0), "{said}");
        for share in ["50 % of requests go to set green", "100 % of requests"] {
            assert!(said.contains(share), "{share} in {said}");
        }
    });
    // A share that nobody can judge is not widened.
    let back = ["flip", "app", "--to", "blue"];
    let arguments = [&back[..], &["--percent", "1,100", "--watch", "10ms"]].concat();
    let quick = "[upstream.app]\ntimeouts = { response_head = \"100ms\" }";
    let text = sets(&[(&a, "blue"), (&b, "green")], "").replace("[upstream.app]", quick);
    balancer.reloaded(&text);
    let (code, said) = told(&command(&balancer, &arguments));
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(asked(&balancer, 5, "green"), 5);
}

#[test]
fn clients_stay_where_they_are_while_both_sets_serve_and_move_when_one_does() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let keys = "affinity = { cookie = \"stay\", key_file = \"key\" }";
    let text = sets(&[(&a, "blue"), (&b, "green")], keys);
    let balancer = Balancer::start_with(&text, |directory| {
        std::fs::write(directory.join("key"), "5".repeat(64)).unwrap();
    });
    let reply = get(balancer.http(), "/");
    let cookie = reply.field("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let text = || {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        ));
        connection.reply().text()
    };
    let share = ["--watch", "1h", "--percent", "90,100", "--no-wait"];
    done(&flip(&balancer, &share));
    await_phase(&balancer, "watching");
    for _ in 0..20 {
        assert_eq!(text(), "blue");
    }
    done(&command(&balancer, &["flip", "app", "--abort"]));
    done(&flip(&balancer, &["--watch", "0s"]));
    assert_eq!(text(), "green");
    let repins = balancer
        .metrics()
        .sum("balancer_sticky_repins_total", &[("why", "standby")]);
    assert_eq!(repins, 1.0);
}

#[test]
fn set_whose_connections_are_reset_is_flipped_back() {
    let a = Origin::named("blue");
    let b = Origin::with("green", |_| Next::Reset);
    // The check of the kind used here is a connection, which is accepted.
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                get(balancer.http(), "/");
            }
        });
        let (code, said) = told(&flip(&balancer, &[]));
        stop.store(true, SeqCst);
        assert_eq!(code, Some(3), "{said}");
    });
    assert_eq!(asked(&balancer, 5, "blue"), 5);
}

#[test]
fn regression_posts_that_die_on_connections_used_before_count_against_the_new_set() {
    let a = Origin::named("blue");
    let asked_for = AtomicUsize::new(0);
    let b = Origin::with("green", move |exchange| {
        match asked_for.fetch_add(1, SeqCst) % 8 {
            // The connection has carried others.
            7 => Next::Close,
            _ => exchange.respond_with_name(),
        }
    });
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    assert_eq!(asked(&balancer, 300, "blue"), 300);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = Connection::open(balancer.http());
            while !stop.load(SeqCst) {
                connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
                if connection.try_reply("POST").is_err() {
                    connection = Connection::open(balancer.http());
                }
            }
        });
        let (code, said) = told(&flip(&balancer, &[]));
        stop.store(true, SeqCst);
        assert_eq!(code, Some(3), "{said}");
    });
}

/// Answers every request on `listener`, of whatever endpoint, with this text.
fn serve_all(listener: std::net::TcpListener, text: &'static str, count: &'static AtomicUsize) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        count.fetch_add(1, SeqCst);
                        let length = text.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
                        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
}

/// Flips `count` endpoints under load. How long the change took.
fn flip_many(count: usize) -> f64 {
    let counts: [&AtomicUsize; 2] = [(); 2].map(|()| &*Box::leak(Box::default()));
    let ports = [("blue", counts[0]), ("green", counts[1])].map(|(name, count)| {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        serve_all(listener, name, count);
        port
    });
    let endpoint = |number: usize| {
        let (set, port) = [("blue", ports[0]), ("green", ports[1])][number % 2];
        let (high, low) = (number / 250, number % 250 + 1);
        format!("{{ address = \"127.0.{high}.{low}:{port}\", set = \"{set}\" }}")
    };
    let endpoints: Vec<_> = (0..count).map(endpoint).collect();
    let balancer = Balancer::start(&format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nactive_set = \"blue\"\nendpoints = [{}]\n[[route]]\nupstream = \"app\"\n",
        endpoints.join(", ")
    ));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| load(scope, &balancer, &stop)).collect();
        eventually("they ask", || counts[0].load(SeqCst) > 200);
        done(&flip(&balancer, &["--watch", "0s"]));
        let green = counts[1].load(SeqCst);
        eventually("they go on", || counts[1].load(SeqCst) > green + 50);
        let blue = counts[0].load(SeqCst);
        let green = counts[1].load(SeqCst);
        eventually("they go on", || counts[1].load(SeqCst) > green + 1000);
        assert_eq!(counts[0].load(SeqCst), blue, "requests to the old set");
        stop.store(true, SeqCst);
        for client in clients {
            assert_eq!(client.join().unwrap(), 0, "requests failed");
        }
    });
    shown(&balancer)["flip"]["change_seconds"].as_f64().unwrap()
}

#[test]
fn flip_of_many_endpoints_is_one_change_too() {
    flip_many(60);
}

#[test]
#[ignore = "a figure, for a machine at rest: cargo test --release --test balancer flip_of_a_thousand -- --ignored --nocapture"]
fn flip_of_a_thousand_endpoints_takes_five_milliseconds_at_most() {
    let seconds = flip_many(1000);
    println!("1000 endpoints: {:.3} ms", seconds * 1000.0);
    assert!(seconds <= 0.005, "{seconds}");
}
