//! What is seen (semantics §13): counters that match what was sent, an exposition any scraper reads, and an access log
//! with one honest line per request.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::H2;
use crate::support::{
    Balancer, Connection, Next, Origin, Refusing, eventually, eventually_some, get, simple,
};

/// A configuration with named things and an access log.
fn config(origin: &Origin, access_log: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"

        [access_log]
        {access_log}

        [upstream.app]
        endpoints = [{{ name = "a", address = "{}" }}]

        [[route]]
        name = "teapot"
        path = "/teapot"
        respond = {{ status = 418, body = "short" }}

        [[route]]
        name = "main"
        upstream = "app"
        "#,
        origin.address()
    )
}

/// The lines of an access log so far; fails on one that is not a JSON object.
fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    whole
        .lines()
        .map(parse)
        .inspect(|record| assert!(record.is_object()))
        .collect()
}

fn await_records(file: &Path, count: usize) -> Vec<Value> {
    eventually_some("the access log is written", || {
        Some(records(file)).filter(|records| records.len() >= count)
    })
}

#[test]
fn counters_match_what_was_sent() {
    let origin = Origin::with("a", |exchange| {
        let status = if exchange.target() == "/500" {
            500
        } else {
            200
        };
        exchange.respond(status, &[], "hello")
    });
    let balancer = Balancer::start(&config(&origin, "target = \"off\""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..5 {
        assert_eq!(connection.get("/").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(connection.get("/500").status, 500);
    }
    for _ in 0..2 {
        connection.send(format!(
            "POST /teapot HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(connection.reply().status, 418);
    }
    connection.send(format!("PURGE / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(connection.reply().status, 200);
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 7\r\n\r\n1234567"
    ));
    assert_eq!(connection.reply().status, 200);

    eventually("all are counted", || {
        balancer.metrics().sum("balancer_requests_total", &[]) == 12.0
    });
    let metrics = balancer.metrics();
    for (labels, expected) in [
        (
            vec![("route", "main"), ("code", "200"), ("method", "GET")],
            5.0,
        ),
        (
            vec![("route", "main"), ("code", "500"), ("method", "GET")],
            3.0,
        ),
        (
            vec![("route", "teapot"), ("code", "418"), ("method", "POST")],
            2.0,
        ),
        (
            vec![("route", "main"), ("code", "200"), ("method", "other")],
            1.0,
        ),
        (
            vec![("route", "main"), ("code", "200"), ("method", "POST")],
            1.0,
        ),
        (vec![("listener", "http")], 12.0),
    ] {
        assert_eq!(
            metrics.sum("balancer_requests_total", &labels),
            expected,
            "{labels:?}"
        );
    }
    let endpoint = [("upstream", "app"), ("endpoint", "a")];
    assert_eq!(
        metrics.sum("balancer_upstream_requests_total", &endpoint),
        10.0
    );
    assert_eq!(
        metrics.sum(
            "balancer_upstream_requests_total",
            &[("endpoint", "a"), ("code", "500")]
        ),
        3.0
    );
    assert_eq!(
        metrics.find("balancer_upstream_in_flight", &endpoint),
        Some(0.0)
    );
    assert_eq!(metrics.find("balancer_endpoint_up", &endpoint), Some(1.0));
    assert_eq!(
        metrics.find("balancer_requests_in_flight", &[("route", "main")]),
        Some(0.0)
    );
    assert_eq!(
        metrics.sum(
            "balancer_request_duration_seconds_count",
            &[("route", "main")]
        ),
        10.0
    );
    assert_eq!(
        metrics.sum("balancer_request_bytes_total", &[("route", "main")]),
        7.0
    );
    assert_eq!(
        metrics.sum("balancer_response_bytes_total", &[("route", "main")]),
        50.0
    );
    assert_eq!(
        metrics.sum("balancer_response_bytes_total", &[("route", "teapot")]),
        10.0
    );
    assert_eq!(
        metrics.sum("balancer_upstream_failures_total", &[]),
        0.0,
        "a 500 is an answer, not a failure"
    );
    assert_eq!(
        metrics.sum("balancer_connections_total", &[("listener", "http")]),
        1.0
    );
    assert_eq!(
        metrics.sum("balancer_connections", &[("listener", "http")]),
        1.0
    );
    assert_eq!(
        metrics.sum("balancer_upstream_connection_reuse_total", &endpoint),
        9.0
    );
    drop(connection);
    eventually("the connection's end is counted", || {
        balancer
            .metrics()
            .sum("balancer_connections", &[("listener", "http")])
            == 0.0
    });
}

#[test]
fn core_families_are_there() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"off\""));
    assert_eq!(get(balancer.http(), "/").status, 200);
    eventually("the request is counted", || {
        balancer.metrics().sum("balancer_requests_total", &[]) == 1.0
    });
    let metrics = balancer.metrics();
    for name in [
        "balancer_build_info",
        "balancer_config_generation",
        "balancer_config_last_reload_successful",
        "balancer_config_last_reload_success_timestamp_seconds",
        "balancer_connections",
        "balancer_connections_total",
        "balancer_requests_total",
        "balancer_request_duration_seconds_bucket",
        "balancer_requests_in_flight",
        "balancer_request_bytes_total",
        "balancer_response_bytes_total",
        "balancer_upstream_requests_total",
        "balancer_upstream_in_flight",
        "balancer_endpoint_up",
        "balancer_endpoint_weight",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(metrics.find(name, &[]).is_some(), "{name} is missing");
    }
    assert_eq!(
        metrics.find(
            "balancer_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))]
        ),
        Some(1.0)
    );
    assert_eq!(metrics.find("balancer_config_generation", &[]), Some(1.0));
}

#[test]
fn exposition_is_what_a_scraper_expects() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"off\""));
    assert_eq!(get(balancer.http(), "/").status, 200);
    let reply = balancer.ask("/metrics");
    assert!(
        reply
            .field("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain")),
        "{:?}",
        reply.head
    );
    let metrics = balancer.metrics();
    let (mut types, mut helped, mut series) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let mut family = "";
    for line in metrics.text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(!text.trim().is_empty() && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(types.insert(name, kind).is_none(), "{name} stands twice");
            family = name;
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a series and a value");
            assert!(value.parse::<f64>().is_ok() || value == "+Inf", "{line}");
            let name = sample.split('{').next().unwrap_or(sample);
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|_| types[family] == "histogram");
            assert_eq!(
                base.unwrap_or(name),
                family,
                "{line} stands outside of its family"
            );
            assert!(helped.contains(family), "{family} has no help");
            assert!(series.insert(sample.to_owned()), "{sample} stands twice");
            assert!(
                types[family] != "counter" || name.ends_with("_total"),
                "counter {name} does not end in _total"
            );
        }
    }
    assert!(series.len() > 30, "{}", metrics.text);
}

#[test]
fn nothing_a_client_sends_becomes_a_label() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"off\""));
    let mut connection = Connection::open(balancer.http());
    for number in 0..20 {
        connection.send(format!("MARKER{number} /marker{number} HTTP/1.1\r\nHost: marker{number}.test\r\nUser-Agent: marker\r\n\r\n"));
        assert_eq!(connection.reply().status, 200);
    }
    eventually("the requests are counted", || {
        balancer
            .metrics()
            .sum("balancer_requests_total", &[("method", "other")])
            == 20.0
    });
    assert!(!balancer.metrics().text.to_lowercase().contains("marker"));
}

#[test]
fn own_errors_are_counted_by_reason() {
    let refusing = Refusing::new();
    let config = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nname = \"main\"\npath = \"/main\"\nupstream = \"app\"",
        refusing.address()
    );
    let balancer = Balancer::start(&config);
    assert_eq!(get(balancer.http(), "/main").status, 502);
    assert_eq!(get(balancer.http(), "/none").status, 404);
    eventually("both are counted", || {
        balancer.metrics().sum("balancer_errors_total", &[]) == 2.0
    });
    let metrics = balancer.metrics();
    assert_eq!(
        metrics.sum("balancer_errors_total", &[("route", "main")]),
        1.0
    );
    assert_eq!(
        metrics.sum(
            "balancer_requests_total",
            &[("code", "502"), ("route", "main")]
        ),
        1.0
    );
    assert_eq!(
        metrics.sum("balancer_requests_total", &[("code", "404")]),
        1.0
    );
}

#[test]
fn access_log_has_one_record_per_request_with_what_happened() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"access.log\""));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST //x/./y?q=1 HTTP/1.1\r\nHost: {HOST}:80\r\nContent-Length: 5\r\n\r\nhello"
    ));
    assert_eq!(connection.reply().status, 200);
    let id = origin
        .last_request()
        .head
        .field("x-request-id")
        .expect("a request id")
        .to_owned();
    assert_eq!(connection.get("/teapot").status, 418);
    let records = await_records(&balancer.directory().join("access.log"), 2);
    assert_eq!(records.len(), 2);

    let first = &records[0];
    for (key, expected) in [
        ("generation", Value::from(1)),
        ("request_id", Value::from(id)),
        ("listener", Value::from("http")),
        ("method", Value::from("POST")),
        ("path", Value::from("/x/y")),
        ("route", Value::from("main")),
        ("upstream", Value::from("app")),
        ("endpoint", Value::from("a")),
        ("status", Value::from(200)),
        ("who", Value::from("upstream")),
        ("request_bytes", Value::from(5)),
        ("response_bytes", Value::from(1)),
    ] {
        assert_eq!(first[key], expected, "{key} in {first}");
    }
    assert!(
        first["client"]
            .as_str()
            .is_some_and(|client| client.starts_with("127.0.0.1")),
        "{first}"
    );
    assert!(
        first["host"]
            .as_str()
            .is_some_and(|host| host.starts_with(HOST)),
        "{first}"
    );
    assert!(
        first["raw_path"]
            .as_str()
            .is_some_and(|path| path.starts_with("//x/./y")),
        "{first}"
    );
    assert!(
        first["protocol"]
            .as_str()
            .is_some_and(|protocol| protocol.contains("1.1")),
        "{first}"
    );
    assert!(
        first["total_ms"]
            .as_f64()
            .is_some_and(|ms| (0.0..60_000.0).contains(&ms)),
        "{first}"
    );
    assert!(
        !first["time"].is_null() && !first["attempts"].is_null(),
        "{first}"
    );

    let second = &records[1];
    assert_eq!(
        (&second["status"], &second["who"], &second["route"]),
        (&418.into(), &"balancer".into(), &"teapot".into())
    );
    assert_eq!(second["path"], "/teapot");
    assert!(
        second.get("raw_path").is_none_or(Value::is_null),
        "the raw path is there only if it differs: {second}"
    );
    assert!(
        second["upstream"].is_null() && second["endpoint"].is_null(),
        "{second}"
    );
}

#[test]
fn access_log_may_go_to_stdout() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"stdout\""));
    for number in 0..10 {
        assert_eq!(get(balancer.http(), &format!("/{number}")).status, 200);
    }
    eventually("the records are written", || balancer.output().len() >= 10);
    let records: Vec<Value> = balancer
        .output()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let paths: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| record["path"].as_str())
        .collect();
    assert_eq!(
        (records.len(), paths.len()),
        (10, 10),
        "one record per request, one line per record"
    );
}

#[test]
fn http_2_and_failures_are_recorded_too() {
    let refusing = Refusing::new();
    let authority = Authority::new("test");
    let config = format!(
        r#"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [access_log]
        target = "access.log"
        [upstream.app]
        endpoints = [{{ name = "a", address = "{}" }}]
        [[route]]
        upstream = "app"
        "#,
        refusing.address()
    );
    let balancer = Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    });
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    assert_eq!(connection.get("/x").unwrap().status, 502);
    let record = &await_records(&balancer.directory().join("access.log"), 1)[0];
    assert_eq!(
        (&record["status"], &record["who"]),
        (&502.into(), &"balancer".into()),
        "{record}"
    );
    assert!(
        record["protocol"]
            .as_str()
            .is_some_and(|protocol| protocol.contains('2')),
        "{record}"
    );
    assert!(
        record["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{record}"
    );
}

#[test]
fn hostile_characters_stay_within_their_record() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"access.log\""));
    let requests = [
        "GET /%22%7d%7b%22who%22:%22me HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /\"},{\"status\":200 HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /\\u000a\\n HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\"},{\"x\":\"\r\n\r\n",
        "G\"T / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /\x1b[31m HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /a%0ab HTTP/1.1\r\nHost: app.test\r\n\r\n",
    ];
    for request in requests {
        let mut connection = Connection::open(balancer.http());
        connection.send(request);
        let reply = connection.reply();
        assert!(matches!(reply.status, 200 | 400), "{request:?}: {reply:?}");
    }
    assert_eq!(get(balancer.http(), "/last").status, 200);
    let file = balancer.directory().join("access.log");
    eventually("the last is recorded", || {
        records(&file)
            .iter()
            .any(|record| record["path"] == "/last")
    });
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.chars()
            .all(|character| character == '\n' || !character.is_control()),
        "{text:?}"
    );
    assert!(
        records(&file).len() <= requests.len() + 1,
        "a request made more than one record: {text}"
    );
    assert!(records(&file).iter().all(|record| record["who"] != "me"));
}

#[test]
fn only_errors_are_recorded_where_that_is_asked_for() {
    let origin = Origin::with("a", |exchange| {
        let status = if exchange.target() == "/500" {
            500
        } else {
            200
        };
        exchange.respond(status, &[], "")
    });
    let balancer = Balancer::start(&config(
        &origin,
        "target = \"access.log\"\nonly = \"errors\"",
    ));
    for path in ["/", "/teapot", "/500", "/", "/500"] {
        get(balancer.http(), path);
    }
    let records = await_records(&balancer.directory().join("access.log"), 2);
    assert_eq!(
        records
            .iter()
            .map(|record| record["status"].as_u64())
            .collect::<Vec<_>>(),
        [Some(500), Some(500)]
    );
}

#[test]
fn sample_thins_what_went_well_and_keeps_every_error() {
    let origin = Origin::with("a", |exchange| {
        let status = if exchange.target() == "/500" {
            500
        } else {
            200
        };
        exchange.respond(status, &[], "")
    });
    let balancer = Balancer::start(&config(&origin, "target = \"access.log\"\nsample = 0.1"));
    let mut connection = Connection::open(balancer.http());
    for number in 0..500 {
        connection.get(if number % 50 == 0 { "/500" } else { "/" });
    }
    // The last error is the last record that must come.
    connection.get("/500");
    let file = balancer.directory().join("access.log");
    let errors = |records: &[Value]| {
        records
            .iter()
            .filter(|record| record["status"] == 500)
            .count()
    };
    eventually("every error is recorded", || errors(&records(&file)) == 11);
    let well = records(&file).len() - 11;
    assert!(
        (10..150).contains(&well),
        "{well} of 490 at a sample of 0.1"
    );
}

#[test]
fn client_that_leaves_is_recorded_as_499() {
    let origin = Origin::with("a", |exchange| {
        exchange.is_left_by_balancer();
        Next::Close
    });
    let balancer = Balancer::start(&config(&origin, "target = \"access.log\""));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("GET /left HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually("the origin is asked", || origin.request_count() == 1);
    connection.abort();
    let record = &await_records(&balancer.directory().join("access.log"), 1)[0];
    assert_eq!(
        (&record["status"], &record["path"]),
        (&499.into(), &"/left".into()),
        "{record}"
    );
    eventually("it is counted", || {
        balancer
            .metrics()
            .sum("balancer_requests_total", &[("code", "499")])
            == 1.0
    });
}

#[test]
fn truncated_response_is_recorded_with_a_reason() {
    let origin = Origin::with("a", |exchange| {
        exchange.write_then(
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            Next::Close,
        )
    });
    let balancer = Balancer::start(&config(&origin, "target = \"access.log\""));
    assert!(!get(balancer.http(), "/").body.complete);
    let record = &await_records(&balancer.directory().join("access.log"), 1)[0];
    assert!(
        record["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{record}"
    );
    assert_eq!(record["response_bytes"], 4, "{record}");
}

#[test]
fn reload_reopens_the_access_log() {
    let origin = Origin::named("a");
    let config = config(&origin, "target = \"access.log\"");
    let balancer = Balancer::start(&config);
    let (file, rotated) = (
        balancer.directory().join("access.log"),
        balancer.directory().join("access.log.1"),
    );
    assert_eq!(get(balancer.http(), "/before").status, 200);
    await_records(&file, 1);
    fs::rename(&file, &rotated).unwrap();
    balancer.reloaded(&config);
    eventually("a new file appears", || file.exists());
    assert_eq!(get(balancer.http(), "/after").status, 200);
    let record = &await_records(&file, 1)[0];
    assert_eq!(
        (&record["path"], &record["generation"]),
        (&"/after".into(), &2.into())
    );
    assert_eq!(records(&rotated).len(), 1);
}

#[test]
fn client_address_is_the_right_most_that_is_not_trusted() {
    let origin = Origin::named("a");
    let config = config(&origin, "target = \"access.log\"").replace(
        "[listener.http]",
        // One of them as IPv6 has it: the same network.
        "[listener.http]\ntrusted_proxies = [\"127.0.0.0/8\", \"::ffff:10.0.0.0/104\"]",
    );
    let balancer = Balancer::start(&config);
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.1, 203.0.113.9, 10.1.2.3\r\n\r\n"));
    assert_eq!(connection.reply().status, 200);
    let record = &await_records(&balancer.directory().join("access.log"), 1)[0];
    assert!(
        record["client"]
            .as_str()
            .is_some_and(|client| client.starts_with("203.0.113.9")),
        "{record}"
    );
}

#[test]
fn own_log_is_json_lines() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for line in balancer.log() {
        let event: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            event["level"].is_string()
                && event["message"].is_string()
                && event["timestamp"].is_string(),
            "{line}"
        );
    }
    assert_eq!(balancer.events("ready")[0]["generation"], 1);
}

#[test]
fn status_shows_listeners_upstreams_and_routes() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"off\""));
    let status = balancer.status();
    assert_eq!(status["generation"], 1);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let listener = &status["listeners"][0];
    assert_eq!(
        (&listener["name"], &listener["tls"]),
        (&"http".into(), &false.into()),
        "{status}"
    );
    assert_eq!(listener["address"], balancer.http().to_string());
    let upstream = &status["upstreams"][0];
    assert_eq!(
        (&upstream["name"], &upstream["policy"]),
        (&"app".into(), &"round-robin".into())
    );
    let endpoint = &upstream["endpoints"][0];
    assert_eq!(
        (
            &endpoint["name"],
            &endpoint["weight"],
            &endpoint["in_flight"]
        ),
        (&"a".into(), &1.into(), &0.into())
    );
    assert_eq!(endpoint["address"], origin.address().to_string());
    let routes = status["routes"].as_array().expect("routes");
    assert!(
        routes
            .iter()
            .any(|route| route["name"] == "main" && route["upstream"] == "app"),
        "{status}"
    );
    assert!(
        routes
            .iter()
            .any(|route| route["name"] == "teapot" && route["upstream"].is_null()),
        "{status}"
    );
}

#[test]
fn regression_response_with_trailers_was_counted_as_one_that_its_client_left() {
    let origin = Origin::with("a", |exchange| {
        exchange.write_then(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
             3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
            Next::Keep,
        )
    });
    let balancer = Balancer::start(&config(&origin, "target = \"access.log\""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..3 {
        connection.send(format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\n\r\n"
        ));
        assert_eq!(connection.reply().text(), "abc");
    }
    for record in await_records(&balancer.directory().join("access.log"), 3) {
        assert_eq!(record["status"], 200, "{record}");
        assert!(record["reason"].is_null(), "{record}");
    }
    assert_eq!(
        origin.connections() - origin.probe_count(),
        1,
        "the connection is used again"
    );
}

#[test]
fn request_without_a_route_is_no_error_of_ours() {
    let balancer = Balancer::start(
        r#"
        [listener.http]
        address = "127.0.0.1:0"

        [access_log]
        target = "access.log"
        only = "errors"

        [[route]]
        path = "/here"
        respond = { body = "here" }

        [[route]]
        path = "/gone"
        respond = { status = 503 }
        "#,
    );
    for path in ["/here", "/nowhere", "/gone"] {
        get(balancer.http(), path);
    }
    let records = await_records(&balancer.directory().join("access.log"), 1);
    let paths: Vec<_> = records
        .iter()
        .map(|record| record["path"].as_str())
        .collect();
    assert_eq!(paths, [Some("/gone")]);
}
