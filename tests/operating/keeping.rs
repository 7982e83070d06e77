//! What a reload keeps and what it begins anew, for every piece of state there is: one table (semantics: an endpoint is the same
//! while its name and the way it is reached are).

use serde_json::{Value, json};

use super::{command, done};
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::http1::Framing;
use crate::support::{Balancer, Connection, Gate, Next, Origin, Refusing, eventually, get};

/// Everything that has state, in use.
struct Stage {
    balancer: Balancer,
    origins: Origins,
    gate: Gate,
    /// Half of an answer of `held/a` has come.
    half: Connection,
    /// It waits for room at `held/a`.
    waiting: Connection,
    tunnel: Connection,
    /// Idle connections of the listener `quiet`.
    _quiet: [Connection; 2],
    tls: Tls,
    cookie: String,
}

struct Origins {
    a: Origin,
    b: Origin,
    /// Where others move to.
    c: Origin,
    /// It takes its time.
    slow: Origin,
    /// It answers 503, all the time.
    bad: Origin,
    refusing: Refusing,
}

/// What the files of the table differ in.
#[derive(Clone, Copy)]
struct File {
    weight: u16,
    rate: u16,
    /// Whether endpoints `b`, and `held/a`, have moved.
    has_moved: bool,
    /// What is said of `drained/b`.
    state: &'static str,
    more: &'static str,
}

const FIRST: File = File {
    weight: 1,
    rate: 1,
    has_moved: false,
    state: "",
    more: "",
};

impl Origins {
    fn new(gate: &Gate) -> Self {
        let held = gate.clone();
        let well = |name: &str| {
            let held = held.clone();
            Origin::with(name, move |exchange| {
                if exchange.head.field("upgrade").is_some() {
                    return exchange.echo();
                }
                if exchange.target() == "/held" {
                    let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
                    held.wait();
                    return exchange.write_then("lf", Next::Keep);
                }
                exchange.respond_with_name()
            })
        };
        Self {
            a: well("a"),
            b: well("b"),
            c: well("c"),
            slow: Origin::with("slow", |exchange| {
                std::thread::sleep(std::time::Duration::from_millis(150));
                exchange.respond_with_name()
            }),
            bad: Origin::with("bad", |exchange| exchange.respond(503, &[], "no")),
            refusing: Refusing::new(),
        }
    }

    fn file(&self, file: File) -> String {
        let (a, slow) = (self.a.address(), self.slow.address());
        let File {
            weight,
            rate,
            has_moved,
            state,
            more,
        } = file;
        let (b, bad, refusing, held) = if has_moved {
            let c = self.c.address();
            (c, c, c, c)
        } else {
            let (bad, refusing) = (self.bad.address(), self.refusing.address());
            (self.b.address(), bad, refusing, a)
        };
        format!(
            r#"
[listener.http]
address = "127.0.0.1:0"
[listener.quiet]
address = "127.0.0.1:0"
[listener.https]
address = "127.0.0.1:0"
tls = {{ certificates = [{{ chain = "leaf.pem", key = "leaf.key" }}] }}

[upstream.held]
endpoints = [{{ name = "a", address = "{held}", max_in_flight = 2 }}]
queue = {{ length = 10, wait = "60s" }}
[upstream.turns]
endpoints = [{{ name = "a", address = "{a}" }}, {{ name = "b", address = "{b}" }}]
timeouts = {{ pool_idle = "60s" }}
[upstream.checked]
endpoints = [{{ name = "a", address = "{a}", weight = {weight} }}, {{ name = "b", address = "{refusing}" }}]
health = {{ interval = "60s", fast_interval = "60s", fall = 1 }}
[upstream.ejecting]
endpoints = [{{ name = "a", address = "{a}" }}, {{ name = "b", address = "{bad}" }}]
[upstream.drained]
endpoints = [{{ name = "a", address = "{a}" }}, {{ name = "b", address = "{b}"{state} }}]
[upstream.quick]
policy = "peak-ewma"
endpoints = [{{ name = "a", address = "{a}" }}, {{ name = "slow", address = "{slow}" }}]
[upstream.sticky]
endpoints = [{{ name = "a", address = "{a}" }}, {{ name = "b", address = "{b}" }}]
affinity = {{ cookie = "stay", key_file = "affinity.key" }}

[[route]]
path = "/held"
upstream = "held"
[[route]]
path = "/turns"
upstream = "turns"
[[route]]
path = "/checked"
upstream = "checked"
[[route]]
name = "ejecting"
path = "/ejecting"
upstream = "ejecting"
[[route]]
path = "/drained"
upstream = "drained"
[[route]]
path = "/quick"
upstream = "quick"
[[route]]
path = "/sticky"
upstream = "sticky"
[[route]]
path = "/rated"
respond = {{}}
limits = {{ rate = {{ requests = {rate}, per = "1h", key = "route" }} }}
{more}
[process]
workers = 1
"#
        )
    }
}

impl Stage {
    fn start() -> Self {
        let gate = Gate::new();
        let origins = Origins::new(&gate);
        let authority = Authority::new("test");
        let balancer = Balancer::start_with(&origins.file(FIRST), |directory| {
            authority.issue(&[HOST]).write(directory, "leaf");
            std::fs::write(directory.join("affinity.key"), "5e".repeat(32)).unwrap();
        });
        let http = balancer.http();

        let send = |request: &str| {
            let mut connection = Connection::open(http);
            connection.send(request);
            connection
        };
        let mut tunnel = send(
            "GET /held/chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        assert!(tunnel.head().unwrap().start.contains(" 101 "));
        let mut half = send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
        half.final_head().unwrap();
        half.read_exact(&mut [0; 2]).unwrap();
        let waiting = send("GET /held/next HTTP/1.1\r\nHost: app.test\r\n\r\n");

        balancer.await_health("checked", "a", "up");
        balancer.await_health("checked", "b", "down");
        eventually("it is ejected", || {
            get(http, "/ejecting");
            balancer.endpoint("ejecting", "b")["ejected"] != Value::Null
        });
        done(&command(&balancer, &["drain", "drained/b"]));
        for _ in 0..4 {
            get(http, "/turns");
        }
        // Both have answered, so that both are known.
        eventually("the slow one was asked", || {
            get(http, "/quick").text() == "slow"
        });
        assert_eq!(get(http, "/quick").text(), "a");
        assert_eq!(get(http, "/rated").status, 200);
        let reply = get(http, "/sticky");
        let cookie = reply.field("set-cookie").expect("a cookie");
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let cookie = format!("{cookie}#{}", reply.text());
        let tls = Tls::new(&authority, HOST).resuming();
        Connection::secure(balancer.address("https"), &tls)
            .unwrap()
            .get("/turns");
        let quiet = balancer.address("quiet");
        let quiet = [(); 2].map(|()| Connection::open(quiet));
        let stage = Self {
            balancer,
            origins,
            gate,
            half,
            waiting,
            tunnel,
            _quiet: quiet,
            tls,
            cookie,
        };
        eventually("all is in place", || {
            stage.upstream("held")["queued"] == 1 && stage.open_connections() == 2
        });
        stage
    }

    fn reload(&self, file: File) {
        self.balancer.reloaded(&self.origins.file(file));
    }

    fn upstream(&self, name: &str) -> Value {
        let status = self.balancer.status();
        let mut upstreams = status["upstreams"].as_array().expect("upstreams").iter();
        let found = upstreams.find(|upstream| upstream["name"] == name);
        found.expect("the upstream").clone()
    }

    fn open_connections(&self) -> Value {
        let status = self.balancer.status();
        let mut listeners = status["listeners"].as_array().expect("listeners").iter();
        let found = listeners.find(|listener| listener["name"] == "quiet");
        found.expect("the listener")["open_connections"].clone()
    }

    /// These parts of an endpoint's status.
    fn endpoint(&self, upstream: &str, name: &str, keys: &[&str]) -> Value {
        let endpoint = self.balancer.endpoint(upstream, name);
        keys.iter().map(|key| endpoint[key].clone()).collect()
    }

    fn text(&self, path: &str) -> String {
        get(self.balancer.http(), path).text()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Value {
        json!(self.balancer.metrics().find(name, labels))
    }

    fn facts(&self, upstream: &str, name: &str) -> Value {
        let reply = self
            .balancer
            .ask(&format!("/api/v1/endpoints/{upstream}/{name}/facts"));
        let facts: Value = serde_json::from_slice(&reply.body.bytes).expect("JSON");
        facts["facts"].clone()
    }
}

/// A piece of state: how it is looked at, and what that says after `b` has moved: `None`, the same as before.
struct Row {
    what: &'static str,
    look: fn(&Stage) -> Value,
    moved: Option<fn() -> Value>,
}

const fn kept(what: &'static str, look: fn(&Stage) -> Value) -> Row {
    Row {
        what,
        look,
        moved: None,
    }
}

const fn reset(what: &'static str, look: fn(&Stage) -> Value, moved: fn() -> Value) -> Row {
    Row {
        what,
        look,
        moved: Some(moved),
    }
}

/// In this order: what asks comes after what counts.
const TABLE: &[Row] = &[
    reset(
        "requests in flight, tunnels among them",
        |stage| stage.endpoint("held", "a", &["in_flight", "tunnels"]),
        // Those of the one before are its own. Tunnels are counted by name.
        || json!([0, 1]),
    ),
    // A request goes by the configuration it came under to its end: it waits for the one it knows.
    kept("requests that wait for room", |stage| {
        stage.upstream("held")["queued"].clone()
    }),
    kept("connections of a listener", Stage::open_connections),
    kept("idle connections to an endpoint", |stage| {
        let labels = [("upstream", "turns"), ("endpoint", "a"), ("state", "idle")];
        stage.metric("balancer_upstream_connections", &labels)
    }),
    kept("health of one that is up, and since when", |stage| {
        stage.endpoint("checked", "a", &["health", "since", "reason"])
    }),
    reset(
        "health of one that is down, and why",
        |stage| {
            // What was moved is checked anew.
            eventually("it is checked", || {
                stage.endpoint("checked", "b", &["health"]) != json!(["unknown"])
            });
            let down = stage.endpoint("checked", "b", &["health", "evidence", "reason"]);
            json!([down, stage.origins.a.probe_count() > 0])
        },
        || json!([["up", null, null], true]),
    ),
    reset(
        "an ejection, and until when",
        |stage| stage.endpoint("ejecting", "b", &["ejected", "state"]),
        || json!([null, "unchecked"]),
    ),
    reset(
        "the facts about an endpoint",
        |stage| stage.facts("ejecting", "b"),
        || json!([]),
    ),
    kept("what an operator has set", |stage| {
        stage.endpoint("drained", "b", &["mode", "eligible"])
    }),
    kept("weights are those of the file", |stage| {
        stage.endpoint("checked", "a", &["weight"])
    }),
    kept("counters of requests", |stage| {
        stage.metric("balancer_requests_total", &[("route", "ejecting")])
    }),
    kept("counters of an endpoint, by its name", |stage| {
        let labels = [("upstream", "ejecting"), ("endpoint", "b")];
        stage.metric("balancer_endpoint_ejections_total", &labels)
    }),
    kept("histograms", |stage| {
        stage.metric(
            "balancer_upstream_response_seconds_count",
            &[("endpoint", "slow")],
        )
    }),
    kept("whose turn it is", |stage| {
        let (first, second) = (stage.text("/turns"), stage.text("/turns"));
        let third = stage.text("/turns");
        // The fourth is left for the next look: its turn goes on where this one ended.
        stage.text("/turns");
        json!([first, second, third])
    }),
    kept("how quick each has been", |stage| {
        (0..6).map(|_| stage.text("/quick")).collect()
    }),
    kept("a client's rate", |stage| {
        get(stage.balancer.http(), "/rated").status.into()
    }),
    kept("who an affinity cookie means", |stage| {
        let (cookie, first) = stage.cookie.split_once('#').expect("both");
        let mut connection = Connection::open(stage.balancer.http());
        connection.send(format!(
            "GET /sticky HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        ));
        json!([connection.reply().text(), first])
    }),
    kept("keys of session tickets", |stage| {
        let https = stage.balancer.address("https");
        let mut connection = Connection::secure(https, &stage.tls).unwrap();
        connection.get("/rated");
        connection.is_resumed().into()
    }),
];

fn look(stage: &Stage) -> Vec<Value> {
    TABLE.iter().map(|row| (row.look)(stage)).collect()
}

#[test]
fn every_piece_of_state_is_kept_while_what_it_is_about_stays() {
    let mut stage = Stage::start();
    let before = look(&stage);
    assert!(!before.contains(&Value::Null), "{before:?}");
    // Something else changes; once more so that what is taken over is taken over again.
    for more in ["[[route]]\npath = \"/new\"\nrespond = {}", ""] {
        stage.reload(File { more, ..FIRST });
        for ((row, before), after) in TABLE.iter().zip(&before).zip(look(&stage)) {
            assert_eq!(&after, before, "{}", row.what);
        }
    }

    // Nothing that was open has noticed.
    stage.tunnel.send("hello");
    let mut heard = [0; 5];
    stage.tunnel.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    stage.gate.open();
    assert!(stage.half.body(Framing::Length(2)).complete);
    assert_eq!(stage.waiting.reply().text(), "a");
}

#[test]
fn endpoint_that_moves_begins_anew_and_the_rest_does_not() {
    let mut stage = Stage::start();
    let before = look(&stage);
    stage.reload(File {
        has_moved: true,
        ..FIRST
    });
    for (row, before) in TABLE.iter().zip(&before) {
        // Who owns what a cookie or a turn names has moved, too.
        if ["whose turn it is", "who an affinity cookie means"].contains(&row.what) {
            continue;
        }
        let expected = row.moved.map_or_else(|| before.clone(), |moved| moved());
        let after = (row.look)(&stage);
        assert_eq!(after, expected, "{}", row.what);
    }
    stage.gate.open();
    assert!(stage.half.body(Framing::Length(2)).complete);
    assert_eq!(stage.waiting.reply().text(), "a");
}

#[test]
fn what_the_file_says_anew_holds_from_the_reload_on() {
    let stage = Stage::start();
    assert_eq!(
        stage.text("/rated"),
        get(stage.balancer.http(), "/rated").text()
    );
    stage.reload(File {
        weight: 7,
        rate: 2,
        state: ", state = \"active\"",
        ..FIRST
    });
    let weight = stage.endpoint("checked", "a", &["weight", "health"]);
    assert_eq!(weight, json!([7, "up"]));
    let mode = stage.endpoint("drained", "b", &["mode", "eligible"]);
    assert_eq!(
        mode,
        json!(["active", true]),
        "the file beats what an operator has set"
    );
    assert_eq!(
        get(stage.balancer.http(), "/rated").status,
        200,
        "another rate begins anew"
    );
    stage.gate.open();
}
