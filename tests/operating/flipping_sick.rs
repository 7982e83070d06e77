//! `flip` to a set of which somebody, or everybody, is lost on the way.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::flipping::{CHECKED, asked, await_phase, flip, phase, sets, shown, started_with};
use super::rolling::begun;
use super::{command, done, told};
use crate::support::{Balancer, Connection, Gate, Origin, eventually, get};

fn verdict(balancer: &Balancer) -> String {
    let shown = shown(balancer);
    let verdict = shown["flip"]["verdict"].as_str();
    verdict.unwrap_or_default().to_owned()
}

/// Begins, and does not wait for the end.
fn begin(balancer: &Balancer, more: &[&str]) {
    done(&flip(balancer, &[&["--no-wait"], more].concat()));
}

#[test]
fn regression_set_that_is_gone_is_flipped_back_though_nobody_could_count_its_failures() {
    let (a, mut b) = (Origin::named("blue"), Origin::named("green"));
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], CHECKED);
    let mut flip = begun(&balancer, &["flip", "app", "--to", "green"]);
    await_phase(&balancer, "watching");
    assert_eq!(asked(&balancer, 3, "green"), 3);
    b.stop();
    await_phase(&balancer, "flipped-back");
    assert_eq!(flip.wait().unwrap().code(), Some(3));
    let verdict = verdict(&balancer);
    let why = "nobody of set green may be asked: b is down";
    assert!(verdict.starts_with(why), "{verdict}");
    assert_eq!(asked(&balancer, 4, "blue"), 4);
}

/// Sixteen clients that ask on and on, and wait for each answer for so long at most, until `work` is done.
fn among_clients<T>(balancer: &Balancer, patience: Duration, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let mut client = Connection::open(balancer.http());
                    client.socket().set_read_timeout(Some(patience)).unwrap();
                    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                    let _ = client.try_reply("GET");
                }
            });
        }
        let done = work();
        stop.store(true, SeqCst);
        done
    })
}

/// One whose every second request is answered when the gate opens; the first one is one of them.
fn half_hanging(gate: &Gate) -> Origin {
    let (origin, held, count) = (Origin::named("green"), gate.clone(), AtomicUsize::new(0));
    origin.on_request(move |exchange| {
        if count.fetch_add(1, SeqCst) % 2 == 0 {
            held.wait();
        }
        exchange.respond_with_name()
    });
    origin
}

#[test]
fn regression_set_that_hangs_is_flipped_back_though_its_clients_leave_before_it_is_found_out() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("blue"), half_hanging(&gate));
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    assert_eq!(asked(&balancer, 300, "blue"), 300);
    let (code, said) = among_clients(&balancer, Duration::from_millis(300), || {
        let said = told(&flip(&balancer, &["--min-requests", "20"]));
        gate.open();
        said
    });
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("were given up after more than"), "{said}");
}

#[test]
fn regression_requests_that_run_into_the_time_of_their_route_have_failed() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("blue"), half_hanging(&gate));
    let config = sets(&[(&a, "blue"), (&b, "green")], "");
    let balancer = Balancer::start(&format!("{config}timeouts = {{ request = \"500ms\" }}\n"));
    assert_eq!(asked(&balancer, 300, "blue"), 300);
    let (code, said) = among_clients(&balancer, Duration::from_secs(20), || {
        let said = told(&flip(&balancer, &["--min-requests", "20"]));
        gate.open();
        said
    });
    assert_eq!(code, Some(3), "{said}");
    let reason = [("endpoint", "b"), ("reason", "request_timeout")];
    let failures = balancer
        .metrics()
        .sum("balancer_upstream_failures_total", &reason);
    assert!(failures >= 10.0, "{failures}");
}

#[test]
fn regression_requests_that_find_no_room_are_failures_of_the_set_that_serves() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let held = gate.clone();
    b.on_request(move |exchange| {
        held.wait();
        exchange.respond_with_name()
    });
    let config = sets(&[(&a, "blue"), (&b, "green")], "");
    let limited = "set = \"green\", max_in_flight = 16 }";
    let config = config.replace("set = \"green\" }", limited);
    let balancer = Balancer::start(&config);
    assert_eq!(asked(&balancer, 300, "blue"), 300);
    among_clients(&balancer, Duration::from_secs(20), || {
        begin(&balancer, &["--min-requests", "20"]);
        await_phase(&balancer, "watching");
        // With the sixteen there is no room for anybody else.
        eventually("it is flipped back", || {
            get(balancer.http(), "/");
            phase(&balancer) == "flipped-back"
        });
        gate.open();
    });
    let verdict = verdict(&balancer);
    assert!(verdict.contains("requests failed"), "{verdict}");
}

#[test]
fn regression_clients_that_are_slow_to_ask_and_quick_to_leave_say_nothing_of_a_set() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    for origin in [&a, &b] {
        origin.on_request(|exchange| {
            thread::sleep(Duration::from_millis(100));
            exchange.respond_with_name()
        });
    }
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], "");
    let (code, said) = among_clients(&balancer, Duration::from_secs(20), || {
        let answered = || {
            balancer
                .metrics()
                .sum("balancer_upstream_requests_total", &[("endpoint", "a")])
        };
        eventually("there is something to compare with", || answered() >= 100.0);
        begin(&balancer, &["--watch", "3s", "--min-requests", "20"]);
        await_phase(&balancer, "watching");
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    let mut client = Connection::open(balancer.http());
                    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
                    thread::sleep(Duration::from_millis(1100));
                    client.send("b");
                });
            }
        });
        await_phase(&balancer, "kept");
        told(&command(&balancer, &["flip", "app", "--status"]))
    });
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn regression_requests_that_wait_in_vain_for_one_connection_are_counted_one_by_one() {
    let (gate, a) = (Gate::new(), Origin::named("blue"));
    // Accepts connections, and never says that it speaks HTTP/2.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = gate.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            held.wait();
            drop(stream);
        }
    });
    let balancer = Balancer::start(&format!(
        "[process]\nworkers = 1\n[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nactive_set = \"blue\"\nprotocol = \"h2\"\nretry = {{ attempts = 1 }}\ntimeouts = {{ connect = \"60s\" }}\nendpoints = [{{ name = \"a\", address = \"{}\", set = \"blue\" }}, {{ name = \"b\", address = \"{address}\", set = \"green\" }}]\n[[route]]\nupstream = \"app\"\n",
        a.address()
    ));
    begin(&balancer, &["--watch", "30s"]);
    await_phase(&balancer, "watching");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(get(balancer.http(), "/").status, 502));
        }
        let in_flight = || balancer.endpoint("app", "b")["in_flight"].as_u64();
        eventually("all wait", || in_flight() == Some(8));
        gate.open();
    });
    let counted = || shown(&balancer)["flip"]["after"]["errors"].as_u64();
    eventually("all are counted", || counted() == Some(8));
}

#[test]
fn regression_sicker_set_does_not_stay_where_too_few_requests_tell() {
    let (a, b, mut c) = (
        Origin::named("blue"),
        Origin::named("green"),
        Origin::named("green"),
    );
    let members = [(&a, "blue"), (&b, "green"), (&c, "green")];
    let hasty = format!("{CHECKED}\ntimeouts = {{ response_head = \"100ms\" }}");
    let (balancer, hasty) = (started_with(&members, CHECKED), sets(&members, &hasty));
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    // It is waited for requests as long as a response may take.
    begin(&balancer, &["--watch", "100ms"]);
    await_phase(&balancer, "watching");
    c.stop();
    balancer.await_health("app", "c", "down");
    assert_eq!(asked(&balancer, 4, "green"), 4);
    balancer.reloaded(&hasty);
    await_phase(&balancer, "unclear");
    let verdict = verdict(&balancer);
    assert!(
        verdict.contains("set green is not well: c is down"),
        "{verdict}"
    );
    assert_eq!(asked(&balancer, 4, "blue"), 4);
}

#[test]
fn regression_set_that_is_taken_out_while_it_is_probed_gets_no_request() {
    let gate = Gate::new();
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let patient = CHECKED.replace("500ms", "20s");
    let balancer = started_with(&[(&a, "blue"), (&b, "green")], &patient);
    let hangs = gate.clone();
    b.on_probe(move |exchange| {
        hangs.wait();
        exchange.respond(200, &[], "")
    });
    begin(&balancer, &["--force"]);
    await_phase(&balancer, "warming");
    done(&command(&balancer, &["disable", "app/b"]));
    gate.open();
    await_phase(&balancer, "refused");
    let verdict = verdict(&balancer);
    assert!(
        verdict.contains("nobody of set green may be asked"),
        "{verdict}"
    );
    assert_eq!(asked(&balancer, 4, "blue"), 4);
}

#[test]
fn regression_set_that_is_not_fit_any_more_gets_no_larger_share() {
    let (a, b, mut c) = (
        Origin::named("blue"),
        Origin::named("green"),
        Origin::named("green"),
    );
    let balancer = started_with(&[(&a, "blue"), (&b, "green"), (&c, "green")], CHECKED);
    assert_eq!(asked(&balancer, 200, "blue"), 200);
    // The first step lasts until there are enough requests.
    begin(
        &balancer,
        &[
            "--watch",
            "100ms",
            "--percent",
            "50,100",
            "--ignore-latency",
        ],
    );
    await_phase(&balancer, "watching");
    c.stop();
    balancer.await_health("app", "c", "down");
    eventually("it goes back", || {
        asked(&balancer, 100, "blue");
        phase(&balancer) == "flipped-back"
    });
    let verdict = verdict(&balancer);
    assert!(
        verdict.contains("set green is not fit any more: c is down"),
        "{verdict}"
    );
    assert_eq!(asked(&balancer, 4, "blue"), 4);
}

#[test]
fn regression_what_an_endpoint_did_in_the_old_set_is_no_merit_of_the_new_one() {
    let (a, b, c) = (
        Origin::named("blue"),
        Origin::named("blue"),
        Origin::named("green"),
    );
    let text = |of_a| sets(&[(&a, of_a), (&b, "blue"), (&c, "green")], "");
    let balancer = Balancer::start(&text("blue"));
    begin(&balancer, &["--watch", "1h", "--percent", "1,100"]);
    await_phase(&balancer, "watching");
    assert_eq!(asked(&balancer, 200, "blue"), 198);
    balancer.reloaded(&text("green"));
    let counted = |of: &str| shown(&balancer)["flip"][of]["requests"].as_u64();
    eventually("all are counted", || counted("before") >= Some(198));
    assert_eq!((counted("before"), counted("after")), (Some(198), Some(2)));
}
