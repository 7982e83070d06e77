//! When a request is sent once more and when it is not: an origin that fails at exactly one moment, for every moment there is,
//! over HTTP/1.1 and HTTP/2; and that nothing is delivered twice which may not be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::HOST;
use crate::support::h2::Frames;
use crate::support::h2_origin::RawH2;
use crate::support::origin::{Exchange, Unanswering};
use crate::support::{
    Balancer, Connection, DEADLINE, Gate, Next, Origin, Refusing, Reply, eventually, get,
};

/// One worker, one upstream `app` of these addresses with these keys, and one route with these.
fn config(addresses: &[SocketAddr], upstream: &str, route: &str) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\npassive = \"off\"\n{upstream}\n[[route]]\nupstream = \"app\"\n{route}\n[process]\nworkers = 1\n[access_log]\ntarget = \"stdout\"\n",
        endpoints.join(", ")
    )
}

fn request(method: &str, fields: &str, body: &str) -> String {
    format!(
        "{method} /x HTTP/1.1\r\nHost: {HOST}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(balancer: &Balancer, method: &str, fields: &str, body: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(request(method, fields, body));
    connection.reply()
}

fn retries(balancer: &Balancer, reason: &str) -> f64 {
    let labels = [("upstream", "app"), ("reason", reason)];
    balancer.metrics().sum("balancer_retries_total", &labels)
}

fn denied(balancer: &Balancer, why: &str) -> f64 {
    let labels = [("upstream", "app"), ("why", why)];
    balancer
        .metrics()
        .sum("balancer_retries_denied_total", &labels)
}

const SAFE: [&str; 3] = ["GET", "PUT", "DELETE"];
const UNSAFE: [&str; 2] = ["POST", "PATCH"];

/// How an endpoint fails the first request it gets in a round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fails {
    /// Row D: it closes after it has read the request.
    Close,
    /// The same with a reset.
    Reset,
    /// Row I, seen from the endpoint: it closes within the head.
    InHead,
    /// Row F.
    Status(u16),
    /// Row F with a wish.
    Busy(u16),
    /// Row G.
    TooEarly,
    /// Row H.
    Silence,
}

/// What a client gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gets {
    /// The answer of another attempt; counted so.
    Another(&'static str),
    /// This status, after a single attempt.
    Only(u16),
}

/// An origin that fails the first request after each [`arm`](Self::arm), and records all of them.
struct Failing {
    origin: Origin,
    armed: Arc<AtomicBool>,
}

impl Failing {
    fn new(fails: Fails) -> Self {
        let armed = Arc::new(AtomicBool::new(false));
        let is_armed = armed.clone();
        let origin = Origin::with("failing", move |exchange| {
            exchange.body();
            if is_armed.swap(false, SeqCst) {
                fail(exchange, fails)
            } else {
                exchange.respond_with_name()
            }
        });
        Self { origin, armed }
    }

    fn arm(&self) {
        self.armed.store(true, SeqCst);
    }
}

fn fail(exchange: &mut Exchange<'_>, fails: Fails) -> Next {
    match fails {
        Fails::Close => Next::Close,
        Fails::Reset => Next::Reset,
        Fails::InHead => exchange.write_then("HTTP/1.1 200 OK\r\nX-A:", Next::Close),
        Fails::Status(status) => exchange.respond(status, &[("Retry-After", "0")], "failed"),
        Fails::Busy(status) => exchange.respond(status, &[("Retry-After", "3")], "failed"),
        Fails::TooEarly => exchange.respond(425, &[], "failed"),
        Fails::Silence => {
            exchange.is_left_by_balancer();
            Next::Close
        }
    }
}

/// The matrix of the documentation, rows C, D, F, G, H; all of them with a body and without, with one endpoint (which then gets
/// the second attempt, too) and with two, on a new connection and on a kept one.
#[test]
fn matrix_over_http_1() {
    use Fails::{Busy, Close, InHead, Reset, Silence, Status, TooEarly};
    use Gets::{Another, Only};
    const NOTHING: &str = "";
    const STATUSES: &str = "retry = { statuses = [429, 502, 503, 504] }";
    const ON_TIMEOUT: &str = "retry = { on_timeout = true, attempt_timeout = \"200ms\" }";
    const SHORT: &str = "timeouts = { response_head = \"200ms\" }";
    for (fails, keys, idempotent, other) in [
        (Close, NOTHING, Another("closed"), Only(502)),
        (Reset, NOTHING, Another("closed"), Only(502)),
        (InHead, NOTHING, Another("closed"), Only(502)),
        (Close, "retry = false", Only(502), Only(502)),
        (Close, "retry = { attempts = 1 }", Only(502), Only(502)),
        (Status(503), NOTHING, Only(503), Only(503)),
        (Status(503), STATUSES, Another("status"), Only(503)),
        (Status(429), STATUSES, Another("status"), Only(429)),
        (Status(500), STATUSES, Only(500), Only(500)),
        (Busy(503), STATUSES, Only(503), Only(503)),
        (
            TooEarly,
            NOTHING,
            Another("too_early"),
            Another("too_early"),
        ),
        (TooEarly, "retry = false", Only(425), Only(425)),
        (Silence, SHORT, Only(504), Only(504)),
        (Silence, ON_TIMEOUT, Another("timeout"), Another("")),
    ] {
        let failing = Failing::new(fails);
        let well = Origin::named("well");
        for addresses in [
            &[failing.origin.address()][..],
            &[failing.origin.address(), well.address()],
        ] {
            // Where nothing would end an attempt for long, those are left out.
            let methods = SAFE.map(|method| (method, idempotent));
            let others = UNSAFE.map(|method| (method, other));
            let skipped = Another("");
            let balancer = Balancer::start(&config(addresses, keys, ""));
            for (method, expected) in methods.into_iter().chain(others) {
                for body in ["", "a body"] {
                    let is_kept = expected != Another("too_early")
                        || body.is_empty()
                        || SAFE.contains(&method);
                    if expected == skipped || !is_kept {
                        continue;
                    }
                    let case = format!("{fails:?} {keys:?} {method} {body:?} of {addresses:?}");
                    round(&balancer, &failing, &well, (method, body), expected, &case);
                }
            }
        }
    }
}

/// One request that meets the failure.
fn round(
    balancer: &Balancer,
    failing: &Failing,
    well: &Origin,
    (method, body): (&str, &str),
    expected: Gets,
    case: &str,
) {
    let count = || failing.origin.request_count() + well.request_count();
    let reason = match expected {
        Gets::Another(reason) => reason,
        Gets::Only(_) => "none",
    };
    failing.arm();
    loop {
        let (before, retried) = (count(), retries(balancer, reason));
        let reply = ask(balancer, method, "", body);
        if failing.armed.load(SeqCst) {
            // It was the other's turn.
            assert_eq!(reply.status, 200, "{case}");
            continue;
        }
        let delivered = count() - before;
        match expected {
            Gets::Another(reason) => {
                assert_eq!((reply.status, delivered), (200, 2), "{case}: {reply:?}");
                assert_eq!(retries(balancer, reason), retried + 1.0, "{case}");
                for origin in [&failing.origin, well] {
                    if origin.request_count() > 0 {
                        let asked = origin.last_request();
                        let read = asked.body.map(|body| body.bytes).unwrap_or_default();
                        assert_eq!(read, body.as_bytes(), "{case}");
                        assert_eq!(
                            (
                                asked.head.field("host"),
                                asked.head.all("x-request-id").len()
                            ),
                            (Some(HOST), 1),
                            "{case}"
                        );
                    }
                }
            }
            Gets::Only(status) => {
                assert_eq!((reply.status, delivered), (status, 1), "{case}: {reply:?}");
            }
        }
        return;
    }
}

/// Row A: whatever the method, and whichever way there is no connection.
#[test]
fn connection_that_cannot_be_opened_is_tried_elsewhere_with_any_method() {
    let (refusing, unanswering) = (Refusing::new(), Unanswering::new());
    for address in [refusing.address(), unanswering.address()] {
        let well = Origin::named("well");
        let balancer = Balancer::start(&config(
            &[address, well.address()],
            "timeouts = { connect = \"200ms\" }",
            "",
        ));
        for method in SAFE.into_iter().chain(UNSAFE) {
            for _ in 0..2 {
                assert_eq!(
                    ask(&balancer, method, "", "body").text(),
                    "well",
                    "{method}"
                );
                let body = well.last_request().body.expect("a body").bytes;
                assert_eq!(body, b"body", "{method}");
            }
        }
        assert!(retries(&balancer, "connect") >= 5.0);
        assert_eq!(well.request_count(), 10);
    }
}

/// Row C: the kept connection is closed while the request is on its way. The next attempt goes over a new one, and nothing that
/// was kept is used any more.
#[test]
fn lost_kept_connection_is_replaced_by_a_new_one_for_what_may_be_sent_twice() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[origin.address()], "", ""));
    // Three kept connections.
    let gate = Gate::new();
    origin.on_request({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let mut clients: Vec<Connection> = (0..3)
        .map(|_| {
            let mut client = Connection::open(balancer.http());
            client.send(request("GET", "", ""));
            client
        })
        .collect();
    eventually("all are asked", || origin.request_count() == 3);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
    let seen = Arc::new(AtomicUsize::new(0));
    origin.on_request({
        let seen = seen.clone();
        move |exchange| {
            if seen.fetch_add(1, SeqCst) == 0 {
                return Next::Reset;
            }
            exchange.respond_with_name()
        }
    });
    assert_eq!(ask(&balancer, "GET", "", "").status, 200);
    assert_eq!(seen.load(SeqCst), 2);
    let connections: Vec<usize> = origin
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections.last(), Some(&3), "a new one: {connections:?}");
    assert_eq!(retries(&balancer, "closed"), 1.0);
    let stale = [("upstream", "app"), ("outcome", "retried")];
    let metrics = balancer.metrics();
    assert_eq!(
        metrics.sum("balancer_upstream_stale_connection_total", &stale),
        1.0
    );
    eventually("the other kept ones are closed", || origin.open() <= 1);
}

/// The rows of HTTP/2: E by RST_STREAM and by GOAWAY is held in `upstream_h2`; here those that depend on the method.
#[test]
fn matrix_over_http_2() {
    const INTERNAL_ERROR: u32 = 2;
    for fails in ["reset", "goaway", "close", "silence"] {
        let armed = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (is_armed, counted) = (armed.clone(), asked.clone());
        let origin = RawH2::new(move |_, wire| {
            loop {
                let (stream, body) = wire.request()?;
                counted.fetch_add(1, SeqCst);
                if !is_armed.swap(false, SeqCst) {
                    wire.answer(stream, &body)?;
                    continue;
                }
                match fails {
                    "reset" => wire.reset(stream, INTERNAL_ERROR)?,
                    // It counts the stream among those it may have processed.
                    "goaway" => {
                        wire.go_away(stream, INTERNAL_ERROR)?;
                        return Ok(());
                    }
                    "close" => return Ok(()),
                    _ => {
                        wire.reset_of(stream)?;
                    }
                }
            }
        });
        let keys = "protocol = \"h2\"\nretry = { on_timeout = true, attempt_timeout = \"200ms\" }\ntimeouts = { response_head = \"500ms\" }";
        let balancer = Balancer::start(&config(&[origin.address()], keys, ""));
        for method in SAFE.into_iter().chain(UNSAFE) {
            for body in ["", "a body"] {
                let before = asked.load(SeqCst);
                armed.store(true, SeqCst);
                let reply = ask(&balancer, method, "", body);
                let delivered = asked.load(SeqCst) - before;
                let case = format!("{fails} {method} {body:?}: {reply:?}");
                if SAFE.contains(&method) {
                    assert_eq!((reply.text().as_str(), delivered), (body, 2), "{case}");
                } else {
                    let status = if fails == "silence" { 504 } else { 502 };
                    reply.assert_made_by_balancer(status);
                    assert_eq!(delivered, 1, "{case}");
                }
            }
        }
        assert_eq!(denied(&balancer, "unsafe"), 4.0, "{fails}");
    }
}

#[test]
fn client_may_promise_that_its_request_can_be_sent_twice_where_the_route_believes_it() {
    let failing = Failing::new(Fails::Close);
    for (route, delivered) in [("", 1), ("retry = { idempotency_key = true }", 2)] {
        let balancer = Balancer::start(&config(&[failing.origin.address()], "", route));
        let before = failing.origin.request_count();
        failing.arm();
        let reply = ask(&balancer, "POST", "Idempotency-Key: \"1\"\r\n", "a body");
        assert_eq!(failing.origin.request_count() - before, delivered);
        assert_eq!(reply.status, if delivered == 2 { 200 } else { 502 });
        if delivered == 2 {
            let asked = failing.origin.last_request();
            assert_eq!(asked.body.expect("a body").bytes, b"a body");
            assert_eq!(asked.head.field("idempotency-key"), Some("\"1\""));
        }
        failing.arm();
        assert_eq!(ask(&balancer, "POST", "", "a body").status, 502);
    }
}

#[test]
fn body_longer_than_what_is_kept_is_not_sent_again() {
    let failing = Failing::new(Fails::Close);
    let keys = "retry = { body_bytes = \"1KiB\" }";
    let balancer = Balancer::start(&config(&[failing.origin.address()], keys, ""));
    for (length, status) in [(1024, 200), (1025, 502)] {
        failing.arm();
        assert_eq!(
            ask(&balancer, "PUT", "", &"x".repeat(length)).status,
            status
        );
    }
    assert_eq!(denied(&balancer, "body"), 1.0);
}

#[test]
fn route_may_say_something_else_than_its_upstream() {
    let failing = Failing::new(Fails::Status(503));
    let keys = "retry = { statuses = [503] }";
    for (route, status) in [
        ("", 200),
        ("retry = { attempts = 3 }", 200),
        ("retry = false", 503),
        ("retry = { statuses = [] }", 503),
    ] {
        let balancer = Balancer::start(&config(&[failing.origin.address()], keys, route));
        failing.arm();
        assert_eq!(ask(&balancer, "GET", "", "").status, status, "{route}");
    }
}

/// Row I.
#[test]
fn nothing_is_sent_again_once_the_response_has_begun() {
    let origin = Origin::with("a", |exchange| {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
        exchange.write_then(answer, Next::Close)
    });
    let balancer = Balancer::start(&config(&[origin.address()], "", ""));
    let reply = ask(&balancer, "GET", "", "");
    assert_eq!((reply.status, reply.body.complete), (200, false));
    assert_eq!(origin.request_count(), 1);
}

/// When everything fails, the retries are not what breaks it.
#[test]
fn requests_grow_by_little_when_every_endpoint_fails() {
    let asked = Arc::new(AtomicUsize::new(0));
    let failing = |fails: Fails| {
        let asked = asked.clone();
        Origin::with("failing", move |exchange| {
            asked.fetch_add(1, SeqCst);
            fail(exchange, fails)
        })
    };
    for fails in [Fails::Reset, Fails::Status(503)] {
        let (first, second) = (failing(fails), failing(fails));
        let keys = "retry = { statuses = [503], budget_min = 1 }";
        let balancer = Balancer::start(&config(&[first.address(), second.address()], keys, ""));
        let (before, begun) = (asked.load(SeqCst), Instant::now());
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let address = balancer.http();
                thread::spawn(move || {
                    for _ in 0..100 {
                        assert!(get(address, "/").status >= 502);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        let sent = (asked.load(SeqCst) - before) as f64;
        // A tenth of the budget is what there was before anything was asked, and what came by the second.
        let free = 10.0 + begun.elapsed().as_secs_f64();
        assert!(
            sent <= 800.0 * 1.2 + free + 1.0,
            "{fails:?}: {sent} for 800"
        );
        assert!(sent > 800.0, "{fails:?}: some were tried again");
        assert!(denied(&balancer, "budget") > 0.0);
    }
}

#[test]
fn retries_that_help_are_not_limited() {
    let (refusing, well) = (Refusing::new(), Origin::named("well"));
    let keys = "retry = { budget = 0.01, budget_min = 1 }";
    let balancer = Balancer::start(&config(&[refusing.address(), well.address()], keys, ""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..200 {
        assert_eq!(connection.get("/").text(), "well");
    }
    assert_eq!(denied(&balancer, "budget"), 0.0);
}

/// Half of the endpoints are gone, and that is not known yet of all of them.
#[test]
fn further_attempt_goes_where_the_last_request_did_not_fail() {
    let (gone, well) = ([Refusing::new(), Refusing::new()], Origin::named("well"));
    let addresses = [gone[0].address(), gone[1].address(), well.address()];
    let watched = "passive = { consecutive = 1000, min_requests = 10000 }";
    let config = config(&addresses, "", "").replace("passive = \"off\"", watched);
    let balancer = Balancer::start(&config);
    let mut connection = Connection::open(balancer.http());
    for _ in 0..6 {
        connection.get("/"); // each of them has failed once
    }
    for _ in 0..60 {
        assert_eq!(connection.get("/").text(), "well");
    }
}

#[test]
fn origin_that_closes_idle_connections_costs_no_request_of_any_method() {
    ask_between_pauses(24, 6);
}

#[test]
#[ignore = "takes five minutes: 100,000 requests"]
fn origin_that_closes_idle_connections_costs_none_of_a_hundred_thousand_requests() {
    ask_between_pauses(400, 250);
}

/// The origin closes what is idle for a second, as some servers do; so many clients ask so often, after pauses around that.
fn ask_between_pauses(clients: u64, rounds: u64) {
    let origin = Origin::with("a", |exchange| {
        exchange.close_when_idle_for(Duration::from_secs(1));
        exchange.respond_with_name()
    });
    let balancer = Balancer::start(&config(&[origin.address()], "", ""));
    let address = balancer.http();
    let clients: Vec<_> = (0..clients)
        .map(|number| {
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for round in 0..rounds {
                    let method = ["GET", "POST"][(number + round) as usize % 2];
                    connection.send(request(method, "", "body"));
                    let reply = connection.reply();
                    assert_eq!(reply.status, 200, "{method} {reply:?}");
                    // The pause is what is tested.
                    thread::sleep(Duration::from_millis(
                        700 + (number * 97 + round * 131) % 600,
                    ));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

/// The endpoint's patience begins with its answer, not when a balancer reads that which had to wait for a core.
#[test]
fn regression_post_was_lost_on_a_connection_whose_last_answer_was_read_late() {
    let gate = Gate::new();
    let origin = Origin::with("a", {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let balancer = Balancer::start(&config(&[origin.address()], "", ""));
    let mut client = Connection::open(balancer.http());
    client.send(request("GET", "", ""));
    eventually("the origin is asked", || origin.request_count() == 1);
    balancer.signal(Signal::STOP);
    gate.open();
    thread::sleep(Duration::from_millis(600));
    balancer.signal(Signal::CONT);
    assert_eq!(client.reply().status, 200);
    thread::sleep(Duration::from_millis(450));
    assert_eq!(ask(&balancer, "POST", "", "body").status, 200);
    let post = origin.last_request();
    assert_eq!((post.method(), post.connection), ("POST", 1), "a new one");
}

#[test]
fn what_the_endpoint_says_of_its_patience_is_kept_to() {
    let origin = Origin::with("a", |exchange| {
        exchange.respond(200, &[("Keep-Alive", "timeout=1, max=100")], "a")
    });
    let balancer = Balancer::start(&config(&[origin.address()], "", ""));
    let mut connection = Connection::open(balancer.http());
    assert_eq!(connection.get("/").text(), "a");
    thread::sleep(Duration::from_millis(900)); // more than four fifths of what it says
    assert_eq!(connection.get("/").text(), "a");
    assert_eq!(origin.connections(), 2);
}

/// One of two app servers dies and comes back, again and again, while it is asked: nobody sees it.
#[test]
fn death_of_one_of_two_endpoints_is_not_seen_by_who_may_ask_twice() {
    let (mut dying, well) = (Origin::named("dying"), Origin::named("well"));
    let balancer = Balancer::start(&config(&[dying.address(), well.address()], "", ""));
    let (address, stop) = (balancer.http(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                let mut asked = 0;
                while !stop.load(SeqCst) {
                    let reply = connection.get("/");
                    assert_eq!(reply.status, 200, "{reply:?}");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    // So many answers are worth a retry for each of the clients.
    eventually("requests are answered", || well.request_count() > 40);
    let begun = Instant::now();
    for _ in 0..5 {
        for is_alive in [false, true] {
            let before = (dying.request_count(), well.request_count());
            if is_alive {
                dying.start_again();
            } else {
                // Every connection is reset, as the system does for a process that is killed.
                dying.stop();
            }
            eventually("requests go on", || {
                well.request_count() > before.1 + 20
                    && (!is_alive || dying.request_count() > before.0)
            });
        }
    }
    assert!(begun.elapsed() < DEADLINE * 5);
    stop.store(true, SeqCst);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    assert!(retries(&balancer, "connect") > 0.0);
}

#[test]
fn regression_with_two_of_three_endpoints_dead_the_third_is_found_whoever_belongs_where() {
    let (first, second) = (Refusing::new(), Refusing::new());
    let well = Origin::named("well");
    let addresses = [first.address(), second.address(), well.address()];
    let keys = "retry = { attempts = 3, budget_min = 1000 }";
    for policy in [
        "",
        "policy = \"hash\"\nhash = { key = \"header:x-client\" }",
        "policy = \"least-connections\"",
    ] {
        let balancer = Balancer::start(&config(&addresses, &format!("{policy}\n{keys}"), ""));
        for client in 0..20 {
            let reply = ask(&balancer, "POST", &format!("X-Client: {client}\r\n"), "x");
            assert_eq!(reply.text(), "well", "{policy}");
        }
    }
}

#[test]
fn regression_response_that_another_attempt_follows_costs_no_connection() {
    let stuck = Gate::new();
    let held = stuck.clone();
    let busy = Origin::with("busy", move |exchange| {
        let (target, long) = (exchange.target().to_owned(), "x".repeat(100_000));
        exchange.body();
        match &*target {
            "/long" => exchange.respond(503, &[], &long),
            "/slow" => {
                let _ = exchange.write("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nha");
                held.wait();
                Next::Close
            }
            _ => exchange.respond(503, &[], "not now"),
        }
    });
    let well = Origin::named("well");
    let addresses = [busy.address(), well.address()];
    let keys = "retry = { statuses = [503], budget = 1.0 }\nslow_start = \"0s\"";
    let balancer = Balancer::start(&config(&addresses, keys, ""));
    let name = busy.address().to_string();
    let connections = |state: &str| {
        let labels = [("endpoint", &*name), ("state", state)];
        let metrics = balancer.metrics();
        metrics.sum("balancer_upstream_connections", &labels)
    };
    // Until it is the busy one's turn.
    let ask_busy = |method: &str, path: &str, body: &str| {
        let before = busy.request_count();
        eventually("the busy one is asked", || {
            let mut connection = Connection::open(balancer.http());
            connection.send(request(method, "", body).replace("/x", path));
            assert_eq!(connection.reply().text(), "well");
            busy.request_count() > before
        });
    };
    for (method, body) in [("GET", ""), ("PUT", "abc"), ("GET", ""), ("PUT", "def")] {
        ask_busy(method, "/x", body);
        eventually("the rest was read", || connections("idle") == 1.0);
    }
    assert_eq!(busy.connections(), 1);
    assert_eq!(well.last_request().body.expect("a body").bytes, b"def");
    // What is long, or does not come, is not waited for.
    for path in ["/long", "/slow"] {
        ask_busy("GET", path, "");
        eventually("its connection is closed", || {
            connections("idle") + connections("active") == 0.0
        });
        let endpoint = balancer.endpoint("app", &name);
        assert_eq!(endpoint["in_flight"], 0);
    }
    stuck.open();
}

#[test]
fn regression_answer_that_nobody_else_has_room_to_better_reaches_the_client() {
    let gate = Gate::new();
    let origins = [(); 2].map(|()| {
        let gate = gate.clone();
        Origin::with("a", move |exchange| {
            if exchange.target() == "/held" {
                gate.wait();
                return exchange.respond_with_name();
            }
            fail(exchange, Fails::Status(503))
        })
    });
    let addresses = origins.each_ref().map(Origin::address);
    let mut text = config(&addresses, "retry = { statuses = [503] }", "");
    for address in addresses {
        let limited = format!("{{ address = \"{address}\", max_in_flight = 1 }}");
        text = text.replace(&format!("\"{address}\""), &limited);
    }
    let balancer = Balancer::start(&text);
    let mut held = Connection::open(balancer.http());
    held.send(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually("one is busy", || {
        origins.iter().any(|origin| origin.request_count() == 1)
    });
    let reply = get(balancer.http(), "/");
    assert_eq!((reply.status, reply.text().as_str()), (503, "failed"));
    assert_eq!(retries(&balancer, "status"), 0.0);
    gate.open();
    assert_eq!(held.reply().status, 200);
}

#[test]
fn regression_upload_that_is_sent_anew_does_not_end_well_where_it_began() {
    let first_ended = Arc::new(std::sync::Mutex::new(None));
    let ended = first_ended.clone();
    let origin = RawH2::new(move |_, wire| {
        let first = wire.head()?;
        while wire.read()?.kind != Frames::DATA {}
        // :status 503 without indexing, its name by place in the static table (RFC 7541 Appendix A).
        let busy = b"\x08\x03503";
        wire.write(Frames::HEADERS, 4 | Frames::END_STREAM, first, busy)?;
        loop {
            let frame = wire.read()?;
            let is_end = frame.kind == Frames::DATA && frame.flags & Frames::END_STREAM != 0;
            if frame.stream == first {
                if is_end || frame.kind == Frames::RST_STREAM {
                    *ended.lock().unwrap() = Some(frame.kind);
                }
            } else if is_end {
                wire.answer(frame.stream, b"whole")?;
            }
        }
    });
    let keys = "protocol = \"h2\"\nretry = { statuses = [503] }";
    let balancer = Balancer::start(&config(&[origin.address()], keys, ""));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 20\r\n\r\n0123456789"
    ));
    eventually("it is sent once more", || {
        retries(&balancer, "status") > 0.0
    });
    connection.send("0123456789");
    assert_eq!(connection.reply().text(), "whole");
    eventually("the first ends", || first_ended.lock().unwrap().is_some());
    assert_eq!(*first_ended.lock().unwrap(), Some(Frames::RST_STREAM));
}

/// An endpoint that is stopped (SIGSTOP) still has its connections accepted by the system, and says nothing.
#[test]
fn silence_of_one_of_two_endpoints_is_not_seen_where_timeouts_are_retried() {
    let gate = Gate::new();
    let silent = Origin::with("silent", {
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Next::Close
        }
    });
    let well = Origin::named("well");
    let keys = "retry = { on_timeout = true, attempt_timeout = \"100ms\" }";
    let balancer = Balancer::start(&config(&[silent.address(), well.address()], keys, ""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..10 {
        assert_eq!(connection.get("/").text(), "well");
    }
    // Whose turn it is after a further attempt is the policy's business.
    assert!(retries(&balancer, "timeout") >= 5.0);
    gate.open();
}

/// Whatever fails in whichever way: what may not be done twice is never delivered twice.
#[test]
fn nothing_that_may_not_be_done_twice_is_delivered_twice() {
    let delivered = Arc::new(std::sync::Mutex::new(std::collections::HashMap::<
        String,
        usize,
    >::new()));
    let origins: Vec<Origin> = (0..3)
        .map(|number| {
            let (delivered, turn) = (delivered.clone(), AtomicUsize::new(number));
            Origin::with("a", move |exchange| {
                let id = exchange.head.field("x-id").unwrap_or_default().to_owned();
                *delivered.lock().unwrap().entry(id).or_default() += 1;
                match turn.fetch_add(1, SeqCst) % 8 {
                    0 => Next::Reset,
                    1 => Next::Close,
                    2 => {
                        exchange.body();
                        Next::Reset
                    }
                    3 => fail(exchange, Fails::InHead),
                    4 => fail(exchange, Fails::Status(503)),
                    5 => {
                        exchange.respond_with_name();
                        Next::Close
                    }
                    _ => exchange.respond_with_name(),
                }
            })
        })
        .collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let keys = "retry = { attempts = 5, statuses = [503], on_timeout = true, budget = 1.0 }";
    let balancer = Balancer::start(&config(&addresses, keys, ""));
    let address = balancer.http();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            thread::spawn(move || {
                for number in 0..100 {
                    let mut connection = Connection::open(address);
                    let method = UNSAFE[number % 2];
                    let body = "x".repeat(number * 50);
                    let id = format!("X-Id: {client}-{number}\r\n");
                    connection.send(request(method, &id, &body));
                    let _ = connection.try_reply(method);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let delivered = delivered.lock().unwrap();
    assert!(delivered.len() > 300, "they were asked");
    let twice: Vec<_> = delivered.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(denied(&balancer, "unsafe") > 0.0);
}

#[test]
fn access_log_tells_of_every_attempt() {
    let (refusing, well) = (Refusing::new(), Origin::named("well"));
    let balancer = Balancer::start(&config(&[refusing.address(), well.address()], "", ""));
    for _ in 0..2 {
        assert_eq!(get(balancer.http(), "/").text(), "well");
    }
    let records = || -> Vec<serde_json::Value> {
        let lines = balancer.output();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    eventually("both are logged", || records().len() == 2);
    let of = |attempts: u64| {
        let mut found = records()
            .into_iter()
            .filter(|record| record["attempts"] == attempts);
        found.next().expect("a record")
    };
    let second = of(2);
    let failed = second["failed_attempts"].as_array().expect("a list");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["endpoint"], refusing.address().to_string());
    assert_eq!(failed[0]["error"], "connect_refused");
    assert_eq!(failed[0]["reused"], false);
    assert!(failed[0]["ms"].as_f64().is_some_and(|ms| ms >= 0.0));
    assert_eq!(second["endpoint"], well.address().to_string());
    assert!(of(1).get("failed_attempts").is_none());
}
