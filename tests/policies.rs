//! What policies promise at the real binary: keys stay with their endpoint, backups wait, newcomers are eased in, and who
//! fails fast does not get the most.

use std::collections::BTreeMap;

use crate::support::http1::Framing;
use crate::support::{Balancer, Connection, Gate, Next, Origin, Refusing, eventually, get};

fn config(keys: &str, endpoints: &[(&Origin, &str)]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|((origin, more), name)| {
            let address = origin.address();
            format!("{{ name = \"{name}\", address = \"{address}\"{more} }}")
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\n{keys}\nendpoints = [{}]\n[[route]]\nupstream = \"app\"",
        endpoints.join(", ")
    )
}

fn ask(balancer: &Balancer, path: &str, field: &str) -> String {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nHost: app.test\r\n{field}\r\n"
    ));
    let reply = connection.reply();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.text()
}

/// Who answers each of forty requests of different keys.
fn owners(balancer: &Balancer, request: impl Fn(usize) -> (String, String)) -> Vec<String> {
    let asked = (0..40).map(request);
    asked
        .map(|(path, field)| ask(balancer, &path, &field))
        .collect()
}

fn shares(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for answer in answers {
        *shares.entry(answer.as_str()).or_default() += 1;
    }
    shares
}

#[test]
fn key_stays_with_its_endpoint_on_every_balancer() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let by_cookie = |number: usize| {
        let field = format!("Cookie: other=1; sid=user-{number}\r\n");
        ("/".to_owned(), field)
    };
    let by_header = |number: usize| ("/".to_owned(), format!("X-User: user-{number}\r\n"));
    let by_query = |number: usize| (format!("/?q=1&user=user-{number}"), String::new());
    let by_path = |number: usize| (format!("/user-{number}?any"), String::new());
    for (key, request) in [
        (
            "cookie:sid",
            &by_cookie as &dyn Fn(usize) -> (String, String),
        ),
        ("header:x-user", &by_header),
        ("query:user", &by_query),
        ("path", &by_path),
    ] {
        let file = config(
            &format!("policy = \"hash\"\nhash = {{ key = \"{key}\" }}"),
            &[(&a, ""), (&b, ""), (&c, "")],
        );
        let balancer = Balancer::start(&file);
        let found = owners(&balancer, request);
        assert_eq!(shares(&found).len(), 3, "{key}: {found:?}");
        assert_eq!(owners(&balancer, request), found, "{key}: again");
        let other = Balancer::start(&file);
        assert_eq!(owners(&other, request), found, "{key}: on another balancer");
    }
}

#[test]
fn requests_without_the_key_go_by_the_client() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(
        "policy = \"hash\"\nhash = { key = \"cookie:sid\" }",
        &[(&a, ""), (&b, "")],
    ));
    let answers = owners(&balancer, |_| ("/".to_owned(), String::new()));
    assert_eq!(shares(&answers).len(), 1, "one client: {answers:?}");
}

#[test]
fn keys_of_an_endpoint_that_is_out_move_and_come_back() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let file = |state: &str| {
        let [a, b, c] = &origins;
        config(
            "policy = \"hash\"\nhash = { key = \"path\" }",
            &[(a, ""), (b, state), (c, "")],
        )
    };
    let request = |number: usize| (format!("/{number}"), String::new());
    let balancer = Balancer::start(&file(""));
    let before = owners(&balancer, request);
    balancer.reloaded(&file(", state = \"draining\""));
    for (now, before) in owners(&balancer, request).iter().zip(&before) {
        assert!(
            now != "b" && (before == "b" || now == before),
            "{before} to {now}"
        );
    }
    balancer.reloaded(&file(""));
    assert_eq!(owners(&balancer, request), before);
}

#[test]
fn every_policy_uses_every_endpoint() {
    for policy in ["two-choices", "peak-ewma", "random"] {
        let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
        let balancer = Balancer::start(&config(
            &format!("policy = \"{policy}\""),
            &[(&a, ""), (&b, ""), (&c, "")],
        ));
        let mut connection = Connection::open(balancer.http());
        for _ in 0..300 {
            assert_eq!(connection.get("/").status, 200);
        }
        let counts = [&a, &b, &c].map(Origin::request_count);
        assert!(
            counts.iter().all(|count| *count > 0),
            "{policy}: {counts:?}"
        );
        let status = balancer.status();
        assert_eq!(status["upstreams"][0]["policy"], policy);
    }
}

#[test]
fn backup_waits_until_no_other_can_be_picked() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let file = |state: &str| {
        config(
            "slow_start = \"0s\"",
            &[(&a, state), (&b, ", backup = true")],
        )
    };
    let balancer = Balancer::start(&file(""));
    assert!((0..10).all(|_| get(balancer.http(), "/").text() == "a"));
    let backup = balancer.endpoint("app", "b");
    assert_eq!(
        (&backup["backup"], &backup["eligible"]),
        (&true.into(), &false.into())
    );
    assert_eq!(balancer.status()["upstreams"][0]["available"], 1);
    balancer.reloaded(&file(", state = \"draining\""));
    assert!((0..10).all(|_| get(balancer.http(), "/").text() == "b"));
    assert_eq!(balancer.endpoint("app", "b")["eligible"], true);
    balancer.reloaded(&file(""));
    assert!((0..10).all(|_| get(balancer.http(), "/").text() == "a"));
}

#[test]
fn regression_backup_that_was_down_counted_as_up_in_the_metrics() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    b.probe_status(500);
    let backup = ", backup = true";
    let endpoints = [(&a, ""), (&b, backup), (&c, backup)];
    let balancer = Balancer::start(&config("health = {}", &endpoints));
    balancer.await_health("app", "a", "up");
    balancer.await_health("app", "b", "down");
    balancer.await_health("app", "c", "up");
    let metrics = balancer.metrics();
    let up = |name| {
        let labels = [("upstream", "app"), ("endpoint", name)];
        metrics.find("balancer_endpoint_up", &labels)
    };
    assert_eq!(
        [up("a"), up("b"), up("c")],
        [Some(1.0), Some(0.0), Some(1.0)]
    );
}

#[test]
fn backup_takes_a_request_that_the_only_primary_could_not() {
    let (nobody, b) = (Refusing::new(), Origin::named("b"));
    let file = config("", &[(&b, ", backup = true")]);
    let primary = format!("endpoints = [\"{}\", ", nobody.address());
    let balancer = Balancer::start(&file.replace("endpoints = [", &primary));
    assert!((0..5).all(|_| get(balancer.http(), "/").text() == "b"));
}

#[test]
fn backups_join_below_the_share_of_spill_below() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let file = |out: usize| {
        let state = |index: usize| {
            if index < out {
                ", state = \"disabled\""
            } else {
                ""
            }
        };
        let [a, b, c, d] = &origins;
        config(
            "spill_below = 0.5",
            &[
                (a, state(0)),
                (b, state(1)),
                (c, state(2)),
                (d, ", backup = true"),
            ],
        )
    };
    let balancer = Balancer::start(&file(1));
    assert!(
        (0..10).all(|_| get(balancer.http(), "/").text() != "d"),
        "two of three are there"
    );
    balancer.reloaded(&file(2));
    let answers: Vec<String> = (0..40).map(|_| get(balancer.http(), "/").text()).collect();
    assert_eq!(shares(&answers).into_keys().collect::<Vec<_>>(), ["c", "d"]);
}

#[test]
fn endpoint_that_is_added_is_eased_in() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config("slow_start = \"1h\"", &[(&a, "")]));
    assert_eq!(
        balancer.endpoint("app", "a")["slow_start"],
        serde_json::Value::Null
    );
    balancer.reloaded(&config("slow_start = \"1h\"", &[(&a, ""), (&b, "")]));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..110 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!(
        (a.request_count(), b.request_count()),
        (100, 10),
        "a tenth of its share"
    );
    assert!(balancer.endpoint("app", "b")["slow_start"].as_f64() < Some(0.1));
    balancer.reloaded(&config("slow_start = \"0s\"", &[(&a, ""), (&b, "")]));
    for _ in 0..20 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!((a.request_count(), b.request_count()), (110, 20));
    assert_eq!(
        balancer.endpoint("app", "b")["slow_start"],
        serde_json::Value::Null
    );
}

#[test]
fn slow_start_comes_to_an_end() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config("slow_start = \"1s\"", &[(&a, "")]));
    balancer.reloaded(&config("slow_start = \"1s\"", &[(&a, ""), (&b, "")]));
    eventually("it has its share", || {
        balancer.endpoint("app", "b")["slow_start"].is_null()
    });
    let before = b.request_count();
    (0..20).for_each(|_| assert_eq!(get(balancer.http(), "/").status, 200));
    assert_eq!(b.request_count() - before, 10);
}

#[test]
fn nobody_is_eased_in_at_the_start() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config(
        "slow_start = \"1h\"\nhealth = {}",
        &[(&a, ""), (&b, "")],
    ));
    for name in ["a", "b"] {
        eventually("it is up", || {
            balancer.endpoint("app", name)["state"] == "up"
        });
        assert_eq!(
            balancer.endpoint("app", name)["slow_start"],
            serde_json::Value::Null
        );
    }
}

/// A server that fails at once, beside one that takes its time: by requests in flight alone the first would always look
/// idle.
#[test]
fn endpoint_that_fails_fast_does_not_get_the_most() {
    let gate = Gate::new();
    let held = gate.clone();
    let good = Origin::with("good", move |exchange| {
        if exchange.target() != "/held" {
            return exchange.respond_with_name();
        }
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        held.wait();
        exchange.write_then("lf", Next::Keep)
    });
    let bad = Origin::with("bad", |exchange| {
        exchange.write_then("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", Next::Keep)
    });
    let balancer = Balancer::start(&config(
        "policy = \"least-connections\"",
        &[(&good, ""), (&bad, "")],
    ));
    // Two requests are always with the good one, so it never looks idle.
    let mut holding = Vec::new();
    while holding.len() < 2 {
        let mut connection = Connection::open(balancer.http());
        connection.send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
        if connection.final_head().unwrap().start.contains(" 200 ") {
            let mut half = [0; 2];
            connection.read_exact(&mut half).unwrap();
            holding.push(connection);
        }
    }
    let before = bad.request_count();
    let began = std::time::Instant::now();
    let mut connection = Connection::open(balancer.http());
    for _ in 0..200 {
        connection.get("/");
    }
    let halves = began.elapsed().as_millis() as usize / 500 + 2;
    let failed = bad.request_count() - before;
    // At most as many as the other has in flight, and ties, for every time failures fade.
    assert!(
        failed <= 4 * halves,
        "{failed} of 200 in {:?}",
        began.elapsed()
    );
    gate.open();
    assert!(
        holding
            .iter_mut()
            .all(|held| held.body(Framing::Length(2)).complete)
    );
}
