//! What was in the last quarter of an hour, asked for and told.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::{ask, config, openapi};
use crate::support::{Balancer, DEADLINE, Origin, eventually_some, get};

/// The first event of this kind that comes over TCP.
fn await_event(balancer: &Balancer, kind: &str) -> Value {
    let mut stream = TcpStream::connect(balancer.admin()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let wanted = format!("event: {kind}");
    lines.find(|line| *line == wanted).expect("such an event");
    let data = lines.next().expect("its data");
    serde_json::from_str(data.strip_prefix("data: ").expect("data")).unwrap()
}

#[test]
fn what_routes_upstreams_and_endpoints_did_is_told_and_viewers_get_every_point() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let begun = Instant::now();
    let balancer = Balancer::start(&config(&[&a, &b], "", ""));
    let path = "/api/v1/recent";
    // From the start there is an answer, though nothing to tell.
    let (status, nothing) = ask(&balancer, "GET", path, "");
    assert_eq!((status, &nothing["step_seconds"]), (200, &json!(5)));
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    // Whoever watches is told the point when it is taken.
    let point = await_event(&balancer, "point");
    let total = |it: &Value| (it["requests"].as_f64().unwrap() * 5.0).round();
    let upstream = &point["upstreams"][0];
    assert_eq!(upstream["name"], "app", "{point}");
    let (_, whole) = ask(&balancer, "GET", "/api/v1/openapi.json", "");
    let asked = |query: &str| {
        let answer = ask(&balancer, "GET", &format!("{path}{query}"), "");
        openapi::hold(&whole, "GET", path, answer.clone());
        answer
    };
    let sum = |list: &Value| {
        let rates = list.as_array().unwrap().iter();
        (rates.map(|rate| rate.as_f64().unwrap()).sum::<f64>() * 5.0).round()
    };
    // Steps may be a little longer where the machine is busy.
    let near = |sum: f64| {
        assert!(
            (1.0..=20.0).contains(&sum),
            "{sum} of 20, after {:?}",
            begun.elapsed()
        )
    };
    let all = asked("").1;
    assert_eq!(all["endpoints"], Value::Null);
    let routes = all["routes"].as_array().unwrap();
    let route = routes.iter().find(|route| route["name"] == "/");
    near(sum(&route.expect("it is listed")["requests"]));
    near(sum(&all["upstreams"][0]["requests"]));
    let endpoints = asked("?upstream=app").1;
    assert_eq!(endpoints["upstreams"], Value::Null);
    let names = |list: &Value| -> Vec<(Value, Value)> {
        let list = list.as_array().unwrap().iter();
        list.map(|it| (it["upstream"].clone(), it["name"].clone()))
            .collect()
    };
    let expected = ["a", "b"].map(|name| (json!("app"), json!(name)));
    assert_eq!(names(&endpoints["endpoints"]), expected);
    near(sum(&endpoints["endpoints"][0]["requests"]) * 2.0);
    assert!(total(upstream) <= 20.0);
    let one = asked("?upstream=app&points=1").1;
    assert_eq!(one["endpoints"][1]["p50"].as_array().unwrap().len(), 1);
    for (query, expected) in [
        ("?points=0", 400),
        ("?points=181", 400),
        ("?other=1", 400),
        ("?upstream=ap", 404),
    ] {
        assert_eq!(asked(query).0, expected, "{query}");
    }
    // Over TCP the same.
    let over_tcp = eventually_some("no point came in between", || {
        let over_tcp: Value = serde_json::from_slice(&balancer.ask(path).body.bytes).unwrap();
        (over_tcp == asked("").1).then_some(over_tcp)
    });
    assert!(over_tcp["until"].as_u64() >= point["until"].as_u64());
}
