//! Balancing (semantics §2, §3): shares are exact, load counts from the choice to the end of the response body.

use std::collections::BTreeMap;
use std::thread;

use crate::support::http1::Framing;
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get, simple};

/// A configuration with one upstream `app` of named, weighted origins.
fn config(policy: &str, origins: &[(&str, u16, &Origin)]) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .map(|(name, weight, origin)| {
            format!(
                "{{ name = \"{name}\", address = \"{}\", weight = {weight} }}",
                origin.address()
            )
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\npolicy = \"{policy}\"\nendpoints = [{}]\n[[route]]\nupstream = \"app\"",
        endpoints.join(", ")
    )
}

/// The answers to `count` requests one after the other, each on a connection of its own.
fn sequence(balancer: &Balancer, count: usize) -> Vec<String> {
    let answers = (0..count).map(|_| get(balancer.http(), "/")).map(|reply| {
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.text()
    });
    answers.collect()
}

fn shares(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for answer in answers {
        *shares.entry(answer.as_str()).or_default() += 1;
    }
    shares
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
fn hold(balancer: &Balancer) -> Connection {
    let mut connection = Connection::open(balancer.http());
    connection.send("GET /held HTTP/1.1\r\nHost: app.test\r\n\r\n");
    connection.final_head().unwrap();
    let mut half = [0; 2];
    connection.read_exact(&mut half).unwrap();
    connection
}

#[test]
fn equal_weights_alternate_strictly() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config("round-robin", &[("a", 1, &a), ("b", 1, &b)]));
    let answers = sequence(&balancer, 20);
    assert!(
        answers.windows(2).all(|pair| pair[0] != pair[1]),
        "{answers:?}"
    );
}

#[test]
fn round_robin_is_the_default_and_takes_everyone_in_turn() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let balancer = Balancer::start(&simple(&[&origins[0], &origins[1], &origins[2]]));
    let answers = sequence(&balancer, 12);
    assert!(
        answers.windows(3).all(|three| shares(three).len() == 3),
        "{answers:?}"
    );
}

#[test]
fn weights_of_five_one_one_give_exact_and_smooth_shares() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let balancer = Balancer::start(&config(
        "round-robin",
        &[("a", 5, &a), ("b", 1, &b), ("c", 1, &c)],
    ));
    let answers = sequence(&balancer, 70);
    assert_eq!(
        shares(&answers),
        BTreeMap::from([("a", 50), ("b", 10), ("c", 10)])
    );
    for seven in answers.windows(7) {
        assert_eq!(
            shares(seven),
            BTreeMap::from([("a", 5), ("b", 1), ("c", 1)]),
            "{seven:?}"
        );
    }
    let longest = answers
        .chunk_by(|one, other| one == other)
        .map(<[String]>::len)
        .max();
    assert!(longest <= Some(5), "{answers:?}");
    assert!(
        !answers
            .windows(2)
            .any(|pair| pair[0] != "a" && pair[1] != "a"),
        "b and c are spread: {answers:?}"
    );
}

#[test]
fn shares_are_exact_for_many_clients_at_once() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&config("round-robin", &[("a", 3, &a), ("b", 1, &b)]));
    let address = balancer.http();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for _ in 0..50 {
                    assert_eq!(connection.get("/").status, 200);
                }
            });
        }
    });
    assert_eq!((a.request_count(), b.request_count()), (300, 100));
}

#[test]
fn least_connections_prefers_the_idle_one() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = Balancer::start(&config("least-connections", &[("a", 1, &a), ("b", 1, &b)]));
    let mut held = hold(&balancer);
    let idle = if a.request_count() == 1 { "b" } else { "a" };
    assert!(
        sequence(&balancer, 10).iter().all(|name| name == idle),
        "the busy one was chosen"
    );
    gate.open();
    assert_eq!(held.body(Framing::Length(2)).bytes, b"lf");
    // And with both idle again, both are used: ties do not always go to the first.
    eventually("nothing is in flight", || in_flight(&balancer) == [0, 0]);
    assert_eq!(shares(&sequence(&balancer, 10)).len(), 2);
}

#[test]
fn request_counts_until_its_response_body_has_ended() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = Balancer::start(&config("least-connections", &[("a", 1, &a), ("b", 1, &b)]));
    let mut held = hold(&balancer);
    let expected = [
        u64::from(a.request_count() == 1),
        u64::from(b.request_count() == 1),
    ];
    assert_eq!(
        in_flight(&balancer),
        expected,
        "the head is answered, the body is not"
    );
    let name = if expected[0] == 1 { "a" } else { "b" };
    assert_eq!(
        balancer.metrics().find(
            "balancer_upstream_in_flight",
            &[("upstream", "app"), ("endpoint", name)]
        ),
        Some(1.0)
    );
    gate.open();
    held.body(Framing::Length(2));
    eventually("the body's end is counted", || {
        in_flight(&balancer) == [0, 0]
    });
}

#[test]
fn request_whose_client_has_left_is_no_longer_counted() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = Balancer::start(&config("least-connections", &[("a", 1, &a), ("b", 1, &b)]));
    let held = hold(&balancer);
    assert_eq!(in_flight(&balancer).iter().sum::<u64>(), 1);
    held.abort();
    eventually("the client's leaving is counted", || {
        in_flight(&balancer) == [0, 0]
    });
    gate.open();
}

#[test]
fn least_connections_fills_by_weight() {
    let gate = Gate::new();
    let (a, b) = (holding("a", &gate), holding("b", &gate));
    let balancer = Balancer::start(&config("least-connections", &[("a", 3, &a), ("b", 1, &b)]));
    let mut held: Vec<Connection> = (0..8).map(|_| hold(&balancer)).collect();
    assert_eq!(in_flight(&balancer), [6, 2]);
    gate.open();
    assert!(
        held.iter_mut()
            .all(|connection| connection.body(Framing::Length(2)).complete)
    );
}

#[test]
fn two_hundred_endpoints_share_evenly() {
    let origins: Vec<Origin> = (0..200).map(|_| Origin::named("a")).collect();
    let all: Vec<&Origin> = origins.iter().collect();
    let balancer = Balancer::start(&simple(&all));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..1000 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert!(origins.iter().all(|origin| origin.request_count() == 5));
}

fn in_flight(balancer: &Balancer) -> [u64; 2] {
    ["a", "b"].map(|name| {
        balancer.endpoint("app", name)["in_flight"]
            .as_u64()
            .expect("a number")
    })
}
