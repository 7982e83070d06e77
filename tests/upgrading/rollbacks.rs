//! A file that was rolled back does not come back by an upgrade; and what endpoints were seen to carry is known still.

use super::{Successors, asked};
use crate::support::origin::Refusing;
use crate::support::{Balancer, Connection, Gate, Next, Origin, eventually, get, simple};

#[test]
fn regression_rollback_goes_on_through_upgrades_until_a_reload() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&simple(&[&a]));
    assert_eq!(balancer.reloaded(&simple(&[&b])), 2);
    assert_eq!(asked(&balancer, &["rollback"]).0, Some(0));
    let mut successors = Successors::default();
    for generation in 4..6 {
        successors.upgrade(&balancer);
        assert_eq!(balancer.status()["generation"], generation);
        assert_eq!(get(balancer.http(), "/").text(), "a");
        let said = "the rollback to generation 1 goes on; a reload takes the file as it is now";
        eventually("that is said", || {
            balancer.events(said).len() == generation as usize - 3
        });
    }
    let (code, text) = asked(&balancer, &["reload"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("the rollback to generation 1 has ended"),
        "{text}"
    );
    assert_eq!(get(balancer.http(), "/").text(), "b");
}

#[test]
fn regression_file_that_was_rolled_back_by_itself_is_not_taken_again_after_an_upgrade() {
    let a = Origin::named("a");
    let good = format!(
        "{}[process]\nauto_rollback = {{ min_requests = 20, window = \"30s\" }}\n",
        simple(&[&a])
    );
    let balancer = Balancer::start(&good);
    for _ in 0..40 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    let refusing = Refusing::new();
    let bad = good.replace(&a.address().to_string(), &refusing.address().to_string());
    assert_eq!(balancer.reloaded(&bad), 2);
    eventually("it is taken back", || {
        let status = get(balancer.http(), "/").status;
        status == 200 && balancer.status()["generation"] == 3
    });
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    let successful = balancer
        .metrics()
        .sum("balancer_config_last_reload_successful", &[]);
    assert_eq!(successful, 0.0, "the file is not what is in use");
    let (code, text) = asked(&balancer, &["reload"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("rolled back automatically from generation 2"),
        "{text}"
    );
    assert_eq!(get(balancer.http(), "/").text(), "a");
}

#[test]
fn regression_what_endpoints_were_seen_to_carry_is_known_after_an_upgrade() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let origin = Origin::with("a", move |exchange| {
        if exchange.target() == "/quick" {
            return exchange.respond_with_name();
        }
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        waiting.wait();
        exchange.write_then("lf", Next::Keep)
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    let clients = (0..3).map(|_| {
        let mut connection = Connection::open(balancer.http());
        connection.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        connection.final_head().unwrap();
        connection
    });
    let clients: Vec<_> = clients.collect();
    let load = || {
        let upstream = balancer.status()["upstreams"][0].clone();
        let endpoint = &upstream["endpoints"][0];
        let numbers = [
            &endpoint["in_flight"],
            &endpoint["peak_in_flight"],
            &upstream["headroom"]["load"],
            &upstream["headroom"]["peak"],
        ];
        numbers.map(|it| it.as_u64().unwrap())
    };
    eventually("it was seen", || load() == [3; 4]);
    // What is in flight is noted twice a second, and was carried where others are answered as usual after it.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(4) {
        get(balancer.http(), "/quick");
    }
    gate.open();
    drop(clients);
    eventually("nothing is in flight", || load()[0] == 0);
    let seen = load();
    assert!(seen[1..].iter().all(|peak| *peak >= 3), "{seen:?}");
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    eventually("nothing is in flight before", || load()[0] == 0);
    let known = load();
    assert!(known[1] >= 3, "{known:?}");
    assert_eq!(known[2..], seen[2..]);
}
