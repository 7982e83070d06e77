//! A second endpoint is asked where the first takes its time: who answers first is passed on, the other is let go of; over
//! HTTP/1.1 and HTTP/2. Nothing that changes something is ever sent to two.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::HOST;
use crate::support::h2_origin::{Answering, H2Origin, ready, text};
use crate::support::origin::{Exchange, Unanswering};
use crate::support::{Balancer, Connection, Gate, Next, Origin, Reply, eventually, get};

/// One worker, one upstream `app` of these endpoints with these keys, and one route with these.
fn config(endpoints: &[String], upstream: &str, route: &str) -> String {
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\npassive = \"off\"\n{upstream}\n[[route]]\nupstream = \"app\"\n{route}\n[process]\nworkers = 1\n[access_log]\ntarget = \"stdout\"\n",
        endpoints.join(", ")
    )
}

fn quoted(addresses: &[SocketAddr]) -> Vec<String> {
    let quoted = |address| format!("\"{address}\"");
    addresses.iter().map(quoted).collect()
}

const SOON: &str = "hedge = { after = \"20ms\" }";
/// One client asks the same endpoint first, each time.
const HASHED: &str = "policy = \"hash\"\nhash = { bounded_load = \"off\" }";
/// Where that one alone is asked.
const UNHEDGED: &str = "/unhedged";
/// As many as there may be.
const FREELY: &str = "retry = { statuses = [503], budget_min = 1000 }";

fn sum(balancer: &Balancer, name: &str, labels: &[(&str, &str)]) -> f64 {
    balancer.metrics().sum(name, labels)
}

fn hedges(balancer: &Balancer, result: &str) -> f64 {
    let labels = [("upstream", "app"), ("result", result)];
    sum(balancer, "balancer_hedges_total", &labels)
}

fn in_flight(balancer: &Balancer) -> f64 {
    sum(balancer, "balancer_upstream_in_flight", &[])
}

/// What an endpoint does with an attempt, when its gate is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Does {
    Answer,
    /// Nothing, until it is let go of.
    Hold,
    /// It closes the connection.
    Close,
    Status(u16),
}

/// One request: what comes of its first and its second attempt.
struct Scene {
    does: [Does; 2],
    /// Who is asked first. Which attempt arrives first on a busy machine says nothing of that.
    first: SocketAddr,
    gates: [Gate; 2],
    asked: Mutex<Vec<SocketAddr>>,
    let_go: [AtomicBool; 2],
}

impl Scene {
    /// In the order in which they have come.
    fn asked(&self) -> Vec<SocketAddr> {
        self.asked.lock().unwrap().clone()
    }

    /// An attempt arrives: which.
    fn arrive(&self, address: SocketAddr) -> usize {
        self.asked.lock().unwrap().push(address);
        usize::from(address != self.first)
    }

    fn is_let_go(&self, attempt: usize) -> bool {
        self.let_go[attempt].load(SeqCst)
    }
}

/// Two endpoints that play one scene after the other, and say who they are where there is none.
struct Stage {
    /// Who is asked first, and the other one.
    addresses: [SocketAddr; 2],
    scene: Arc<Mutex<Option<Arc<Scene>>>>,
    _origins: Origins,
}

enum Origins {
    Http1 { _two: [Origin; 2] },
    Http2 { _two: [H2Origin; 2] },
}

impl Stage {
    fn http1() -> Self {
        let scene = Arc::<Mutex<Option<Arc<Scene>>>>::default();
        let origins = [(); 2].map(|()| Origin::named("a"));
        let addresses = origins.each_ref().map(Origin::address);
        for (origin, address) in origins.iter().zip(addresses) {
            let scene = scene.clone();
            origin.on_request(move |exchange| {
                let Some(scene) = scene.lock().unwrap().clone() else {
                    return exchange.respond(200, &[], &address.to_string());
                };
                let attempt = scene.arrive(address);
                play(&scene, attempt, exchange)
            });
        }
        Self {
            addresses,
            scene,
            _origins: Origins::Http1 { _two: origins },
        }
    }

    fn http2() -> Self {
        let scene = Arc::<Mutex<Option<Arc<Scene>>>>::default();
        let addresses = [(); 2].map(|()| Arc::<Mutex<Option<SocketAddr>>>::default());
        let origins = addresses.each_ref().map(|address| {
            let (scene, address) = (scene.clone(), address.clone());
            H2Origin::new(move |_| {
                let address = address.lock().unwrap().expect("known by now");
                let Some(scene) = scene.lock().unwrap().clone() else {
                    return ready(text(address.to_string()));
                };
                let attempt = scene.arrive(address);
                play_h2(scene, attempt)
            })
        });
        for (origin, address) in origins.iter().zip(&addresses) {
            *address.lock().unwrap() = Some(origin.address());
        }
        Self {
            addresses: origins.each_ref().map(H2Origin::address),
            scene,
            _origins: Origins::Http2 { _two: origins },
        }
    }

    /// Finds out who is asked first, of a balancer that is [`HASHED`].
    fn learn(&mut self, balancer: &Balancer) {
        let first = get(balancer.http(), UNHEDGED).text();
        let is_other = |address: &SocketAddr| address.to_string() != first;
        self.addresses.sort_by_key(is_other);
    }

    fn begin(&self, does: [Does; 2]) -> Arc<Scene> {
        let scene = Arc::new(Scene {
            does,
            first: self.addresses[0],
            gates: [Gate::new(), Gate::new()],
            asked: Mutex::default(),
            let_go: [AtomicBool::new(false), AtomicBool::new(false)],
        });
        *self.scene.lock().unwrap() = Some(scene.clone());
        scene
    }
}

fn play(scene: &Scene, attempt: usize, exchange: &mut Exchange<'_>) -> Next {
    let name = ["first", "second"][attempt];
    if scene.does[attempt] == Does::Hold {
        scene.let_go[attempt].store(exchange.is_left_by_balancer(), SeqCst);
        return Next::Close;
    }
    scene.gates[attempt].wait();
    match scene.does[attempt] {
        Does::Answer | Does::Hold => exchange.respond(200, &[], name),
        Does::Status(status) => exchange.respond(status, &[], name),
        Does::Close => Next::Close,
    }
}

/// Tells of its end.
struct Dropped(Arc<Scene>, usize);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.let_go[self.1].store(true, SeqCst);
    }
}

fn play_h2(scene: Arc<Scene>, attempt: usize) -> Answering {
    Box::pin(async move {
        if scene.does[attempt] == Does::Hold {
            let _end = Dropped(scene, attempt);
            std::future::pending::<()>().await;
            unreachable!("it is dropped when its stream is reset");
        }
        let (gate, does) = (scene.gates[attempt].clone(), scene.does[attempt]);
        let _ = tokio::task::spawn_blocking(move || gate.wait()).await;
        let mut answer = text(["first", "second"][attempt]);
        if let Does::Status(status) = does {
            *answer.status_mut() = status.try_into().unwrap();
        }
        answer
    })
}

/// Whose turn it is to do something first, and what then happens.
struct Case {
    does: [Does; 2],
    /// This one does its part; the other one when that has come to something.
    begins: usize,
    status: u16,
    text: &'static str,
    hedge: &'static str,
    /// The attempts in `failed_attempts`, and what is said of them.
    failed: &'static [(usize, &'static str)],
}

const ANSWERED_BY_SECOND: Case = Case {
    does: [Does::Hold, Does::Answer],
    begins: 1,
    status: 200,
    text: "second",
    hedge: "won",
    failed: &[(0, "outrun")],
};

const ANSWERED_BY_FIRST: Case = Case {
    does: [Does::Answer, Does::Hold],
    begins: 0,
    text: "first",
    hedge: "outrun",
    failed: &[(1, "outrun")],
    ..ANSWERED_BY_SECOND
};

/// The other way round it is no hedge, but a retry.
const FIRST_IS_BUSY: Case = Case {
    does: [Does::Status(503), Does::Answer],
    begins: 0,
    failed: &[(0, "status")],
    ..ANSWERED_BY_SECOND
};

const SECOND_IS_BUSY: Case = Case {
    does: [Does::Answer, Does::Status(503)],
    begins: 1,
    text: "first",
    hedge: "failed",
    failed: &[(1, "status")],
    ..ANSWERED_BY_SECOND
};

/// The last one to answer is passed on, as after a retry.
const BOTH_ARE_BUSY: Case = Case {
    does: [Does::Status(503), Does::Status(503)],
    begins: 0,
    status: 503,
    failed: &[(0, "status")],
    ..ANSWERED_BY_SECOND
};

const FIRST_FAILS: Case = Case {
    does: [Does::Close, Does::Answer],
    begins: 0,
    failed: &[(0, "closed")],
    ..ANSWERED_BY_SECOND
};

const SECOND_FAILS: Case = Case {
    does: [Does::Answer, Does::Close],
    begins: 1,
    text: "first",
    hedge: "failed",
    failed: &[(1, "closed")],
    ..ANSWERED_BY_SECOND
};

const BOTH_FAIL: Case = Case {
    does: [Does::Close, Does::Close],
    begins: 1,
    status: 502,
    text: "",
    hedge: "failed",
    failed: &[(1, "closed"), (0, "closed")],
};

#[test]
fn first_answer_is_passed_on_over_http_1() {
    let cases = [
        ANSWERED_BY_SECOND,
        ANSWERED_BY_FIRST,
        FIRST_IS_BUSY,
        SECOND_IS_BUSY,
        BOTH_ARE_BUSY,
        FIRST_FAILS,
        SECOND_FAILS,
        BOTH_FAIL,
    ];
    play_all(Stage::http1(), "", &cases);
}

#[test]
fn first_answer_is_passed_on_over_http_2() {
    let cases = [
        ANSWERED_BY_SECOND,
        ANSWERED_BY_FIRST,
        FIRST_IS_BUSY,
        SECOND_IS_BUSY,
        BOTH_ARE_BUSY,
    ];
    play_all(Stage::http2(), "protocol = \"h2\"", &cases);
}

/// How many attempts were answered, and how many have failed.
fn came_to(balancer: &Balancer) -> (f64, f64) {
    let metrics = balancer.metrics();
    (
        metrics.sum("balancer_upstream_requests_total", &[]),
        metrics.sum("balancer_upstream_failures_total", &[]),
    )
}

fn play_all(mut stage: Stage, protocol: &str, cases: &[Case]) {
    let keys = format!("{protocol}\n{FREELY}\n{HASHED}");
    let routes = format!("{SOON}\n[[route]]\npath = \"{UNHEDGED}\"\nupstream = \"app\"");
    let balancer = &Balancer::start(&config(&quoted(&stage.addresses), &keys, &routes));
    stage.learn(balancer);
    let mut client = Connection::open(balancer.http());
    let (mut answered, mut failed) = (1.0, 0.0);
    for (number, case) in cases.iter().enumerate() {
        let what = format!("{:?}", case.does);
        let scene = stage.begin(case.does);
        let before = hedges(balancer, case.hedge);
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("both are asked", || scene.asked().len() == 2);
        assert_eq!(in_flight(balancer), 2.0, "{what}");
        scene.gates[case.begins].open();
        match case.does[case.begins] {
            Does::Close => failed += 1.0,
            Does::Answer | Does::Hold | Does::Status(_) => answered += 1.0,
        }
        eventually(&what, || came_to(balancer) == (answered, failed));
        let other = 1 - case.begins;
        scene.gates[other].open();
        match case.does[other] {
            Does::Close => failed += 1.0,
            Does::Answer | Does::Status(_) => answered += 1.0,
            Does::Hold => {}
        }
        let reply = client.reply();
        assert_eq!(reply.status, case.status, "{what}: {reply:?}");
        if case.text.is_empty() {
            reply.assert_made_by_balancer(case.status);
        } else {
            assert_eq!(reply.text(), case.text, "{what}");
        }
        if case.does[other] == Does::Hold {
            eventually("it is let go of", || scene.is_let_go(other));
        }
        eventually(&what, || {
            hedges(balancer, case.hedge) == before + 1.0 && in_flight(balancer) == 0.0
        });
        // Who is let go of has neither answered nor failed.
        assert_eq!(came_to(balancer), (answered, failed), "{what}");
        let mut asked = scene.asked();
        asked.sort_by_key(|address| *address != stage.addresses[0]);
        assert_eq!(asked, stage.addresses, "{what}");
    }
    let counted = sum(balancer, "balancer_upstream_response_seconds_count", &[]);
    assert_eq!(counted, answered, "latencies");
    let retries = sum(balancer, "balancer_retries_total", &[]);
    assert_eq!(retries, 0.0, "a hedge is no retry");
    check_log(balancer, cases, stage.addresses);
}

fn records(balancer: &Balancer) -> Vec<serde_json::Value> {
    let lines = balancer.output();
    let read = |line: &String| serde_json::from_str(line).ok();
    lines.iter().filter_map(read).collect()
}

/// The access log tells who was asked, who has answered, and what became of the others.
fn check_log(balancer: &Balancer, cases: &[Case], asked: [SocketAddr; 2]) {
    let hedged = || {
        let mut records = records(balancer);
        records.retain(|record| record["path"] != UNHEDGED);
        records
    };
    eventually("all are logged", || hedged().len() == cases.len());
    for (number, record) in hedged().iter().enumerate() {
        let case = &cases[number];
        assert_eq!(record["path"], format!("/{number}"));
        assert_eq!(record["attempts"], 2, "{record}");
        let failed: Vec<(String, String)> = record["failed_attempts"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|attempt| {
                let word = |key: &str| attempt[key].as_str().unwrap().to_owned();
                (word("endpoint"), word("error"))
            })
            .collect();
        let expected: Vec<(String, String)> = case
            .failed
            .iter()
            .map(|(attempt, error)| (asked[*attempt].to_string(), (*error).to_owned()))
            .collect();
        assert_eq!(failed, expected, "{record}");
        let answered = match case.text {
            "second" => asked[1],
            _ => asked[0],
        };
        assert_eq!(record["endpoint"], answered.to_string(), "{record}");
    }
}

#[test]
fn endpoint_that_answers_in_time_is_the_only_one_that_is_asked() {
    let origins = [(); 2].map(|()| Origin::named("a"));
    let addresses = origins.each_ref().map(Origin::address);
    let route = "hedge = { after = \"10s\" }";
    let balancer = Balancer::start(&config(&quoted(&addresses), "", route));
    let mut client = Connection::open(balancer.http());
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    let asked: usize = origins.iter().map(Origin::request_count).sum();
    assert_eq!(asked, 20);
    assert_eq!(sum(&balancer, "balancer_hedges_total", &[]), 0.0);
}

/// It counts from the attempt's begin, whatever that waits for.
#[test]
fn endpoint_that_cannot_be_connected_to_in_time_is_made_good_too() {
    let (unanswering, well) = (Unanswering::new(), Origin::named("well"));
    let addresses = [unanswering.address(), well.address()];
    let balancer = Balancer::start(&config(&quoted(&addresses), FREELY, SOON));
    let mut client = Connection::open(balancer.http());
    eventually("a hedge has won", || {
        assert_eq!(client.get("/").text(), "well");
        hedges(&balancer, "won") > 0.0
    });
    eventually("nothing is left", || in_flight(&balancer) == 0.0);
    assert_eq!(
        sum(&balancer, "balancer_upstream_failures_total", &[]),
        0.0,
        "nobody has waited for the end of that"
    );
}

#[test]
fn client_that_leaves_ends_both_attempts() {
    for stage in [Stage::http1(), Stage::http2()] {
        let is_h2 = matches!(stage._origins, Origins::Http2 { .. });
        let protocol = if is_h2 { "protocol = \"h2\"" } else { "" };
        let balancer = Balancer::start(&config(&quoted(&stage.addresses), protocol, SOON));
        let scene = stage.begin([Does::Hold, Does::Hold]);
        let mut client = Connection::open(balancer.http());
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("both are asked", || scene.asked().len() == 2);
        client.abort();
        eventually("both are let go of", || {
            scene.is_let_go(0) && scene.is_let_go(1)
        });
        eventually("nothing is left", || in_flight(&balancer) == 0.0);
        assert_eq!(hedges(&balancer, "outrun"), 1.0);
        let left = [("code", "499")];
        eventually("it is counted", || {
            sum(&balancer, "balancer_requests_total", &left) == 1.0
        });
        assert_eq!(
            sum(&balancer, "balancer_upstream_failures_total", &[]),
            0.0,
            "it is no endpoint's fault"
        );
    }
}

#[test]
fn deadline_of_the_whole_request_ends_both_attempts() {
    let stage = Stage::http1();
    let route = format!("{SOON}\ntimeouts = {{ request = \"1s\" }}");
    let balancer = Balancer::start(&config(&quoted(&stage.addresses), "", &route));
    let scene = stage.begin([Does::Hold, Does::Hold]);
    get(balancer.http(), "/").assert_made_by_balancer(504);
    eventually("those that were asked are let go of", || {
        let asked = scene.asked().len();
        asked > 0 && (0..asked).all(|attempt| scene.is_let_go(attempt))
    });
    eventually("nothing is left", || in_flight(&balancer) == 0.0);
}

/// What changes something, and what has a body, waits for whom it was sent to.
#[test]
fn nothing_that_changes_something_is_sent_to_two_at_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let origins = [(); 2].map(|()| {
        let seen = seen.clone();
        Origin::with("a", move |exchange| {
            seen.lock().unwrap().push(exchange.method().to_owned());
            // Far more than the hedge waits.
            thread::sleep(Duration::from_millis(60));
            exchange.respond_with_name()
        })
    });
    let addresses = origins.each_ref().map(Origin::address);
    let keys = "retry = { idempotency_key = true, budget_min = 1000 }";
    let route = "hedge = { after = \"1ms\" }";
    let balancer = Balancer::start(&config(&quoted(&addresses), keys, route));
    for (method, fields, body) in [
        ("POST", "", ""),
        ("POST", "Idempotency-Key: \"1\"\r\n", ""),
        ("PUT", "", ""),
        ("DELETE", "", ""),
        ("PATCH", "", ""),
        ("GET", "", "a body"),
        (
            "GET",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "",
        ),
    ] {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let mut client = Connection::open(balancer.http());
        client.send(format!(
            "{method} / HTTP/1.1\r\nHost: {HOST}\r\n{fields}{length}\r\n{body}"
        ));
        assert_eq!(client.reply().status, 200, "{method} {fields}");
        let asked = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(asked, [method], "{fields}{body}");
    }
    assert_eq!(sum(&balancer, "balancer_hedges_total", &[]), 0.0);
    // What could be, is: otherwise this says nothing.
    eventually("a GET is sent to two", || {
        seen.lock().unwrap().clear();
        assert_eq!(get(balancer.http(), "/").status, 200);
        seen.lock().unwrap().len() == 2
    });
}

#[test]
fn hedges_are_taken_from_the_budget_of_retries_for_good() {
    let gate = Gate::new();
    let origins = [(); 2].map(|()| {
        let gate = gate.clone();
        Origin::with("a", move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        })
    });
    let addresses = origins.each_ref().map(Origin::address);
    let keys = "retry = { budget = 0.0, budget_min = 1 }";
    let balancer = Balancer::start(&config(&quoted(&addresses), keys, SOON));
    let begun = Instant::now();
    let mut clients: Vec<Connection> = (0..8)
        .map(|_| {
            let mut client = Connection::open(balancer.http());
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            client
        })
        .collect();
    let count = || origins.iter().map(Origin::request_count).sum::<usize>();
    eventually("each is decided on", || {
        hedges(&balancer, "budget") as usize + count() == 16
    });
    // One that was there, and what has come since.
    let most = 1 + begun.elapsed().as_secs() as usize;
    assert!(
        (9..=8 + most).contains(&count()),
        "{} for 8 with {most}",
        count()
    );
    gate.open();
    let replies: Vec<Reply> = clients.iter_mut().map(Connection::reply).collect();
    assert!(replies.iter().all(|reply| reply.status == 200));
    eventually("nothing is left", || in_flight(&balancer) == 0.0);
}

/// A hedge takes no place that others want, and waits for none.
#[test]
fn no_hedge_goes_where_there_is_no_room() {
    let gate = Gate::new();
    let origins = [(); 2].map(|()| {
        let gate = gate.clone();
        Origin::with("a", move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        })
    });
    let limited = |origin: &Origin| {
        let address = origin.address();
        format!("{{ address = \"{address}\", max_in_flight = 1 }}")
    };
    let endpoints = origins.each_ref().map(limited);
    let keys = format!("{FREELY}\nqueue = {{ length = 10, wait = \"15s\" }}");
    let routes = format!("{SOON}\n[[route]]\npath = \"/held\"\nupstream = \"app\"");
    let balancer = Balancer::start(&config(&endpoints, &keys, &routes));
    let count = || origins.iter().map(Origin::request_count).sum::<usize>();
    let mut clients = ["/held", "/"].map(|path| {
        let before = count();
        let mut client = Connection::open(balancer.http());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("it is asked", || count() == before + 1);
        client
    });
    eventually("it is decided on", || {
        hedges(&balancer, "no_endpoint") == 1.0
    });
    assert_eq!(origins.each_ref().map(Origin::request_count), [1, 1]);
    assert_eq!(sum(&balancer, "balancer_queue_length", &[]), 0.0);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(sum(&balancer, "balancer_retries_denied_total", &[]), 0.0);
}

#[test]
fn no_hedge_goes_to_a_backup_or_to_who_is_drained() {
    let stage = Stage::http1();
    let [first, second] = stage.addresses;
    for key in ["backup = true", "state = \"draining\""] {
        let endpoints = [
            format!("\"{first}\""),
            format!("{{ address = \"{second}\", {key} }}"),
        ];
        let balancer = Balancer::start(&config(&endpoints, FREELY, SOON));
        let scene = stage.begin([Does::Answer, Does::Answer]);
        let mut client = Connection::open(balancer.http());
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("it is decided on", || {
            hedges(&balancer, "no_endpoint") == 1.0
        });
        scene.gates[0].open();
        assert_eq!(client.reply().text(), "first", "{key}");
        assert_eq!(scene.asked(), [first], "{key}");
    }
}

#[test]
fn no_hedge_goes_to_an_upstream_that_is_paused() {
    let stage = Stage::http1();
    let route = "hedge = { after = \"700ms\" }";
    let balancer = Balancer::start(&config(&quoted(&stage.addresses), FREELY, route));
    loop {
        let scene = stage.begin([Does::Answer, Does::Answer]);
        let mut client = Connection::open(balancer.http());
        let begun = Instant::now();
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("it is asked", || !scene.asked().is_empty());
        let paused = format!("{FREELY}\nstate = \"paused\"");
        balancer.reloaded(&config(&quoted(&stage.addresses), &paused, route));
        let was_in_time = begun.elapsed() < Duration::from_millis(600);
        if was_in_time {
            eventually("it is decided on", || {
                hedges(&balancer, "no_endpoint") == 1.0
            });
        }
        scene.gates.iter().for_each(Gate::open);
        assert_eq!(client.reply().status, 200);
        if was_in_time {
            assert_eq!(scene.asked().len(), 1);
            return;
        }
        // The machine is busy: once more.
        balancer.reloaded(&config(&quoted(&stage.addresses), FREELY, route));
    }
}

/// With three attempts a third one follows where two at once have failed; there is never more than one hedge.
#[test]
fn attempts_that_are_left_follow_when_both_have_failed() {
    let origins = [(); 3].map(|()| Origin::named("a"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::new();
    for origin in &origins {
        let (seen, gate, address) = (seen.clone(), gate.clone(), origin.address());
        origin.on_request(move |exchange| {
            let mut asked = seen.lock().unwrap();
            asked.push(address);
            if asked.len() < 3 {
                drop(asked);
                gate.wait();
                return Next::Close;
            }
            drop(asked);
            // Longer than a hedge waits.
            thread::sleep(Duration::from_millis(100));
            exchange.respond_with_name()
        });
    }
    let addresses = origins.each_ref().map(Origin::address);
    let keys = "retry = { attempts = 4, budget_min = 1000 }";
    let balancer = Balancer::start(&config(&quoted(&addresses), keys, SOON));
    let mut client = Connection::open(balancer.http());
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually("two are asked", || seen.lock().unwrap().len() == 2);
    gate.open();
    assert_eq!(client.reply().status, 200);
    let mut asked = seen.lock().unwrap().clone();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 3, "each once");
    assert_eq!(seen.lock().unwrap().len(), 3);
    assert_eq!(sum(&balancer, "balancer_retries_total", &[]), 1.0);
    assert_eq!(hedges(&balancer, "failed"), 1.0);
}
