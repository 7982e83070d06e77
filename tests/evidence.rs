//! What checks are worth (semantics §4): soft evidence leaves enough endpoints in use, hard evidence does not; an application can
//! take itself out; and what checks may ask for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::support::certificates::Authority;
use crate::support::deadline::settled;
use crate::support::h2_origin::{H2Origin, ready, text, with_trailers};
use crate::support::tls_origin::{TlsFront, TlsFrontOptions};
use crate::support::{Balancer, Gate, Next, Origin, eventually, get};

/// Fast enough for a test, slow enough for a busy machine.
const FAST: &str = "interval = \"300ms\", fast_interval = \"50ms\", timeout = \"300ms\"";

/// One upstream `app` with endpoints `0`, `1`, … and these keys of `health`.
fn config(endpoints: &[SocketAddr], health: &str, keys: &str) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\nhealth = {{ {health}, {FAST} }}\nslow_start = \"0s\"\n{keys}\n[[route]]\nupstream = \"app\"\n",
        endpoints.join(", ")
    )
}

fn state(balancer: &Balancer, name: &str) -> String {
    let endpoint = balancer.endpoint("app", name);
    endpoint["state"].as_str().expect("a word").to_owned()
}

fn await_state(balancer: &Balancer, name: &str, expected: &str) {
    eventually(&format!("{name} is {expected}"), || {
        state(balancer, name) == expected
    });
}

fn answers(balancer: &Balancer, count: usize) -> BTreeSet<String> {
    (0..count)
        .map(|_| get(balancer.http(), "/").text())
        .collect()
}

fn degraded_picks(balancer: &Balancer) -> f64 {
    balancer
        .metrics()
        .sum("balancer_degraded_picks_total", &[("upstream", "app")])
}

const NAMES: [&str; 4] = ["0", "1", "2", "3"];

fn four() -> [Origin; 4] {
    NAMES.map(Origin::named)
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(Origin::address).collect()
}

#[test]
fn soft_evidence_leaves_half_in_use_and_all_where_nothing_else_is_left() {
    let origins = four();
    let balancer = Balancer::start(&config(&addresses(&origins), "path = \"/\"", ""));
    for name in NAMES {
        balancer.await_health("app", name, "up");
    }
    origins[0].probe_status(500);
    origins[1].probe_status(500);
    for name in ["0", "1"] {
        await_state(&balancer, name, "down");
    }
    assert_eq!(answers(&balancer, 8), set(&["2", "3"]));
    assert_eq!(degraded_picks(&balancer), 0.0);
    assert_eq!(balancer.endpoint("app", "0")["evidence"], "soft");
    // A third one: fewer than half would be left, so one of the three stays: the one that was well last.
    origins[2].probe_status(500);
    await_state(&balancer, "2", "degraded");
    let endpoint = balancer.endpoint("app", "2");
    assert_eq!(
        (&endpoint["health"], &endpoint["eligible"]),
        (&"down".into(), &true.into())
    );
    assert_eq!(answers(&balancer, 8), set(&["2", "3"]));
    assert_eq!(degraded_picks(&balancer), 4.0);
    assert_eq!(balancer.status()["upstreams"][0]["degraded"], true);
    assert_eq!(
        balancer
            .metrics()
            .find("balancer_upstream_available_endpoints", &[]),
        Some(2.0)
    );
    origins[3].probe_status(500);
    for name in NAMES {
        await_state(&balancer, name, "degraded");
    }
    assert_eq!(answers(&balancer, 8), set(&NAMES));
    for origin in &origins {
        origin.probe_status(200);
    }
    for name in NAMES {
        await_state(&balancer, name, "up");
    }
    assert_eq!(balancer.status()["upstreams"][0]["degraded"], false);
    let before = degraded_picks(&balancer);
    assert_eq!(answers(&balancer, 8), set(&NAMES));
    assert_eq!(degraded_picks(&balancer), before);
    assert!(
        !balancer
            .events("upstream degraded: endpoints stay in use although they seem unwell")
            .is_empty()
    );
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn hard_evidence_leaves_nobody() {
    let mut origins = four();
    let balancer = Balancer::start(&config(&addresses(&origins), "path = \"/\"", ""));
    for name in NAMES {
        balancer.await_health("app", name, "up");
    }
    for origin in &mut origins {
        origin.stop();
    }
    for name in NAMES {
        await_state(&balancer, name, "down");
        eventually("it is surely not there", || {
            balancer.endpoint("app", name)["evidence"] == "hard"
        });
    }
    let reply = get(balancer.http(), "/");
    reply.assert_made_by_balancer(503);
    assert!(reply.head.has("retry-after"));
    assert_eq!(degraded_picks(&balancer), 0.0);
}

#[test]
fn what_is_found_out_later_counts_too() {
    let mut origins = four();
    let balancer = Balancer::start(&config(&addresses(&origins[..1]), "path = \"/\"", ""));
    balancer.await_health("app", "0", "up");
    origins[0].probe_status(500);
    await_state(&balancer, "0", "degraded");
    assert_eq!(get(balancer.http(), "/").text(), "0");
    origins[0].stop();
    await_state(&balancer, "0", "down");
    get(balancer.http(), "/").assert_made_by_balancer(503);
    let transitions = balancer
        .metrics()
        .sum("balancer_health_transitions_total", &[("to", "down")]);
    assert_eq!(transitions, 1.0, "it was down all the time");
}

#[test]
fn upstream_of_an_exclusive_route_fails_closed() {
    let origins = four();
    let with = |route: &str| {
        format!(
            "{}path = \"/admin\"\n{route}",
            config(&addresses(&origins[..2]), "path = \"/\"", "")
        )
    };
    let balancer = Balancer::start(&with("exclusive = true\n"));
    for name in ["0", "1"] {
        balancer.await_health("app", name, "up");
    }
    for origin in &origins[..2] {
        origin.probe_status(500);
    }
    for name in ["0", "1"] {
        await_state(&balancer, name, "down");
    }
    get(balancer.http(), "/admin").assert_made_by_balancer(503);
    assert_eq!(degraded_picks(&balancer), 0.0);
    // Not for its own sake: the same upstream without such a route.
    balancer.reloaded(&with(""));
    for name in ["0", "1"] {
        assert_eq!(state(&balancer, name), "degraded");
    }
    assert_eq!(get(balancer.http(), "/admin").status, 200);
}

#[test]
fn share_that_stays_in_use_is_what_the_file_says() {
    let origins = four();
    let with = |share: &str| {
        config(
            &addresses(&origins),
            "path = \"/\"",
            &format!("min_available = {share}"),
        )
    };
    let balancer = Balancer::start(&with("1.0"));
    for name in NAMES {
        balancer.await_health("app", name, "up");
    }
    origins[0].probe_status(500);
    await_state(&balancer, "0", "degraded");
    balancer.reloaded(&with("0.75"));
    assert_eq!(state(&balancer, "0"), "down");
}

#[test]
fn application_that_asks_for_it_gets_no_new_requests_and_finishes_what_it_has() {
    let gate = Gate::new();
    let (leaving, staying) = (Origin::named("leaving"), Origin::named("staying"));
    leaving.on_request({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.respond_with_name()
        }
    });
    let addresses = [leaving.address(), staying.address()];
    let balancer = Balancer::start(&config(&addresses, "fall = 1000", ""));
    for name in ["0", "1"] {
        balancer.await_health("app", name, "up");
    }
    let address = balancer.http();
    let slow = std::thread::spawn(move || [get(address, "/").text(), get(address, "/").text()]);
    eventually("it is asked", || leaving.request_count() == 1);
    // At once, although a thousand failures would be needed.
    leaving.on_probe(|exchange| exchange.respond(503, &[("Retry-After", "30")], ""));
    balancer.await_health("app", "0", "draining");
    assert_eq!(state(&balancer, "0"), "draining");
    assert_eq!(answers(&balancer, 6), set(&["staying"]));
    gate.open();
    assert!(slow.join().unwrap().contains(&"leaving".to_owned()));
    assert_eq!(
        balancer
            .metrics()
            .sum("balancer_health_transitions_total", &[("to", "draining")]),
        1.0
    );
    // Other failures do not change that: who asks to be left alone is.
    let failures = leaving.probe_status(500);
    eventually("it is checked again", || failures.load(SeqCst) >= 3);
    assert_eq!(state(&balancer, "0"), "draining");
    leaving.probe_status(200);
    balancer.await_health("app", "0", "up");
    assert_eq!(answers(&balancer, 6), set(&["leaving", "staying"]));
    // And with a field, whatever the status; then it is gone.
    leaving.on_probe(|exchange| exchange.respond(200, &[("X-Drain", "1")], ""));
    balancer.await_health("app", "0", "draining");
    let mut leaving = leaving;
    leaving.stop();
    balancer.await_health("app", "0", "down");
}

#[test]
fn all_that_drain_are_not_asked_although_nobody_is_left() {
    let origin = Origin::named("a");
    origin.on_probe(|exchange| exchange.respond(503, &[("Retry-After", "30")], ""));
    let balancer = Balancer::start(&config(&[origin.address()], "path = \"/\"", ""));
    balancer.await_health("app", "0", "draining");
    get(balancer.http(), "/").assert_made_by_balancer(503);
}

#[test]
fn response_must_have_the_fields_and_the_text_that_are_expected() {
    let origin = Origin::named("a");
    let (asked, text) = ("x".repeat(60_000), "database: ok");
    let page = move |state: &str, text: &str| {
        let (state, body) = (state.to_owned(), format!("{asked}{text}"));
        move |exchange: &mut crate::support::origin::Exchange<'_>| {
            exchange.respond(200, &[("X-State", &state)], &body)
        }
    };
    origin.on_probe(page("ready", text));
    let health = "expect_header = { x-state = \"ready\" }, expect_body = \"database: ok\"";
    let balancer = Balancer::start(&config(&[origin.address()], health, ""));
    balancer.await_health("app", "0", "up");
    origin.on_probe(page("ready", "database: gone"));
    let await_reason = |expected: &str| {
        balancer.await_health("app", "0", "down");
        eventually(expected, || {
            let endpoint = balancer.endpoint("app", "0");
            let said = endpoint["reason"].as_str().unwrap_or_default();
            said.contains(expected)
        });
    };
    await_reason("the response's body is not as expected");
    origin.on_probe(page("ready", text));
    balancer.await_health("app", "0", "up");
    origin.on_probe(page("starting", text));
    await_reason("the response has no x-state as expected");
    // What is looked for must stand in the first 64 KiB.
    origin.on_probe(page("ready", text));
    balancer.await_health("app", "0", "up");
    origin.on_probe(page("ready", &format!("{}{text}", "y".repeat(6_000))));
    balancer.await_health("app", "0", "down");
}

#[test]
fn endpoint_that_hangs_in_the_middle_of_its_page_is_not_well() {
    let origin = Origin::named("a");
    origin.on_probe(|exchange| {
        let _ = exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        exchange.is_left_by_balancer();
        Next::Close
    });
    let balancer = Balancer::start(&config(&[origin.address()], "expect_body = \"half\"", ""));
    balancer.await_health("app", "0", "down");
    assert!(
        balancer.endpoint("app", "0")["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("timed out")),
    );
    // Who wants nothing of the body does not wait for it.
    balancer.reloaded(&config(&[origin.address()], "path = \"/\"", ""));
    balancer.await_health("app", "0", "up");
}

#[test]
fn checks_rest_while_clients_show_that_an_endpoint_is_well() {
    let origin = Origin::named("a");
    let text = config(&[origin.address()], "busy_interval = \"60s\"", "");
    let balancer = Balancer::start(&text);
    balancer.await_health("app", "0", "up");
    let checks = settled("checks rest", Duration::from_secs(1), || {
        assert_eq!(get(balancer.http(), "/").text(), "a");
        origin.probe_count()
    });
    assert!(checks >= 1);
}

/// A gRPC server whose health service answers so: a status of the call, and what is served.
fn grpc(status: &'static str, serving: &'static [u8]) -> H2Origin {
    H2Origin::checked(
        |_| ready(text("traffic")),
        move |request| {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            if status == "0" {
                return ready(with_trailers(
                    std::str::from_utf8(serving).expect("ASCII"),
                    trailers,
                ));
            }
            let mut answer = text(Bytes::new());
            *answer.headers_mut() = trailers;
            ready(answer)
        },
    )
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];

#[test]
fn grpc_health_protocol_is_spoken() {
    for (server, health, reason) in [
        (grpc("0", SERVING), "up", ""),
        (grpc("0", NOT_SERVING), "down", "NOT_SERVING"),
        (grpc("12", b""), "down", "UNIMPLEMENTED: it does not offer"),
        (
            grpc("5", b""),
            "down",
            "NOT_FOUND: it does not know the service \"shop.v1.Basket\"",
        ),
    ] {
        let balancer = Balancer::start(&config(
            &[server.address()],
            "kind = \"grpc\", service = \"shop.v1.Basket\", host = \"shop.test\"",
            "protocol = \"h2\"",
        ));
        balancer.await_health("app", "0", health);
        eventually(reason, || {
            let endpoint = balancer.endpoint("app", "0");
            let said = endpoint["reason"].as_str().unwrap_or_default();
            said.contains(reason)
        });
        let asked = &server.probes()[0].head;
        assert_eq!(asked.method, "POST");
        assert_eq!(asked.uri.authority().unwrap(), "shop.test");
        // NOT_SERVING is soft evidence, and there is nobody else.
        assert_eq!(get(balancer.http(), "/").text(), "traffic");
    }
}

#[test]
fn grpc_health_protocol_is_spoken_over_tls() {
    let (authority, server) = (Authority::new("ca"), grpc("0", SERVING));
    let options = TlsFrontOptions {
        protocols: &["h2"],
        ..TlsFrontOptions::default()
    };
    let leaf = authority.issue(&["app.internal"]);
    let front = TlsFront::with(server.address(), &leaf, &options);
    let balancer = Balancer::start_with(
        &config(
            &[front.address()],
            "kind = \"grpc\"",
            "protocol = \"h2\"\ntls = { ca = \"ca.pem\", server_name = \"app.internal\" }",
        ),
        |directory| std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap(),
    );
    balancer.await_health("app", "0", "up");
    assert_eq!(server.probes()[0].head.uri.scheme_str(), Some("https"));
}
