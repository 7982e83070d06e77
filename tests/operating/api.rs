//! The API behind the commands: strict about what it is asked, and read-only over TCP.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::{ask, command, config, done, socket};
use crate::support::{Balancer, Connection, DEADLINE, Origin, eventually, eventually_some};

const DRAIN: &str = "/api/v1/endpoints/app/a/drain";

#[test]
fn over_tcp_nothing_can_be_changed() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    for path in [
        "/api/v1/reload",
        "/api/v1/rollback",
        "/api/v1/upgrade",
        "/api/v1/upstreams/app/flip",
        "/api/v1/upstreams/app/flip/abort",
        DRAIN,
    ] {
        let mut connection = Connection::open(balancer.admin());
        connection.send(format!(
            "POST {path} HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n"
        ));
        let reply = connection.reply();
        assert_eq!(reply.status, 403, "{reply:?}");
        assert!(reply.text().contains("unix socket"), "{reply:?}");
    }
    let status = balancer.status();
    assert_eq!(status["generation"], 1);
    assert_eq!(balancer.endpoint("app", "a")["mode"], "active");
    // What stands in the file is for those who may open the socket.
    let over_tcp: Value =
        serde_json::from_slice(&balancer.ask("/api/v1/config").body.bytes).unwrap();
    let (_, over_socket) = ask(&balancer, "GET", "/api/v1/config", "");
    assert_eq!(over_tcp["text"], Value::Null);
    assert_eq!(over_tcp["hash"], over_socket["hash"]);
    let file = std::fs::read_to_string(balancer.directory().join("balancer.toml")).unwrap();
    assert_eq!(over_socket["text"], file);
    assert_eq!(over_socket["generation"], 1);
}

#[test]
fn regression_over_tcp_a_name_that_others_can_own_is_not_answered() {
    let origin = Origin::named("a");
    let hosts = "[admin]\naddress = \"127.0.0.1:0\"\nhosts = [\"lb.example.com\"]";
    let balancer = Balancer::start(&config(&[&origin], "", hosts));
    let mut connection = Connection::open(balancer.admin());
    let mut ask = |method: &str, path: &str, host: &str| {
        connection.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 0\r\n\r\n"
        ));
        let reply = connection.reply();
        assert_eq!(reply.field("access-control-allow-origin"), None);
        reply.status
    };
    for path in [
        "/api/v1/status",
        "/api/v1/config",
        "/metrics",
        "/api/v1/events",
    ] {
        assert_eq!(ask("GET", path, "evil.example:9900"), 421, "{path}");
    }
    // Whoever probes may say what they like.
    assert_eq!(ask("GET", "/readyz", "evil.example"), 200);
    for host in ["127.0.0.1:9900", "localhost:9900", "lb.example.com"] {
        assert_eq!(ask("GET", "/api/v1/status", host), 200, "{host}");
        assert_eq!(ask("OPTIONS", "/api/v1/status", host), 405, "{host}");
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_with_a_reason_and_changes_nothing() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(100_000));
    for (method, path, body, status) in [
        ("POST", DRAIN, "{\"forec\": true}", 422),
        ("POST", DRAIN, "[]", 422),
        ("POST", DRAIN, "{", 400),
        ("POST", DRAIN, "nonsense", 400),
        ("POST", DRAIN, &long, 413),
        ("POST", "/api/v1/endpoints/app/a/restart", "", 404),
        ("POST", "/api/v1/endpoints/app/b/drain", "", 404),
        ("POST", "/api/v1/endpoints/none/a/drain", "", 404),
        ("GET", DRAIN, "", 405),
        ("GET", "/api/v1/reload", "", 405),
        ("POST", "/api/v1/reload", "{\"dry_run\": 1}", 422),
        ("POST", "/api/v1/rollback", "{\"generation\": \"1\"}", 422),
        ("POST", "/api/v1/rollback", "{\"generation\": -1}", 422),
        ("POST", "/api/v1/rollback", "{\"generation\": 99}", 404),
        ("POST", "/api/v1/rollback", "{\"generation\": 1}", 409),
        ("POST", "/api/v1/rollback", "", 404),
        ("POST", "/api/v1/upgrade", "{\"binary\": \"balancer\"}", 422),
        ("POST", "/api/v1/upgrade", "{\"timeout_seconds\": 0}", 422),
        ("POST", "/api/v1/upgrade", "{\"program\": \"/x\"}", 422),
        ("GET", "/api/v2/status", "", 404),
        ("GET", "/api/v1/endpoints/app/b", "", 404),
    ] {
        let (got, problem) = ask(&balancer, method, path, body);
        assert_eq!(got, status, "{method} {path} {body:.40}: {problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(
            problem["detail"].as_str().is_some_and(|it| !it.is_empty()),
            "{problem}"
        );
        assert_eq!(problem["type"], "about:blank");
    }
    assert_eq!(balancer.status()["generation"], 1);
    assert_eq!(balancer.endpoint("app", "a")["mode"], "active");
}

#[test]
fn rejected_reload_names_every_problem_with_its_place() {
    let origin = Origin::named("a");
    let text = config(&[&origin], "", "");
    let balancer = Balancer::start(&text);
    balancer.write_configuration(
        &text.replace("upstream = \"app\"", "upstream = \"ap\"\npath = \"x\""),
    );
    let (status, problem) = ask(&balancer, "POST", "/api/v1/reload", "{}");
    assert_eq!(status, 422);
    let problems = problem["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{problem}");
    assert_eq!(problems[0]["key"], "route[0].upstream");
    assert_eq!(problems[0]["line"], 6, "{problem}");
    assert_eq!(balancer.status()["generation"], 1);
}

/// The events that come, as kind and data.
fn watch(balancer: &Balancer) -> impl FnMut(&str) -> Value {
    let mut stream = UnixStream::connect(socket(balancer)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    move |kind| {
        let wanted = format!("event: {kind}");
        // Something is said in any case, so that what never comes is no line that never ends.
        let end = Instant::now() + DEADLINE;
        let found = lines.find(|line| *line == wanted || Instant::now() > end);
        assert_eq!(found.as_ref(), Some(&wanted), "within the deadline");
        let data = lines.next().expect("its data");
        serde_json::from_str(data.strip_prefix("data: ").expect("data")).unwrap()
    }
}

#[test]
fn viewers_are_told_of_operators_reloads_and_endpoints() {
    let mut origin = Origin::named("a");
    let text = config(&[&origin], "", "").replace(
        "[upstream.app]",
        "[upstream.app]\nhealth = { interval = \"500ms\", fast_interval = \"100ms\", timeout = \"500ms\", fall = 1, rise = 1 }",
    );
    let balancer = Balancer::start(&text);
    balancer.await_health("app", "a", "up");
    let mut next = watch(&balancer);
    let begin = next("begin");
    assert_eq!(begin["generation"], 1);
    origin.stop();
    let down = loop {
        let told = next("endpoint");
        if told["state"] == "down" {
            break told;
        }
    };
    assert_eq!(down["before"], "up");
    assert_eq!(down["endpoint"], "a");
    done(&command(&balancer, &["drain", "app/a"]));
    let operator = next("operator");
    assert_eq!(operator["action"], "drain");
    assert_eq!(operator["target"], "app/a");
    assert_eq!(operator["uid"], rustix::process::geteuid().as_raw());
    // A check that was late may have been told of in between.
    while next("endpoint")["state"] != "draining" {}
    done(&command(&balancer, &["reload"]));
    let reload = next("reload");
    assert_eq!(
        (&reload["previous"], &reload["generation"]),
        (&json!(1), &json!(2))
    );
    balancer.reload("nonsense = 1");
    assert_eq!(next("reload")["result"], "rejected");
}

#[test]
fn viewer_that_never_reads_holds_nothing_up() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    let mut idle = UnixStream::connect(socket(&balancer)).unwrap();
    write!(idle, "GET /api/v1/events HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    let mut next = watch(&balancer);
    next("begin");
    for _ in 0..400 {
        assert_eq!(ask(&balancer, "POST", DRAIN, "").0, 200);
        assert_eq!(next("operator")["action"], "drain");
    }
    drop(idle);
}

#[test]
fn everything_an_operator_does_is_in_the_audit_log() {
    let origin = Origin::named("a");
    let audit = "[admin]\naddress = \"127.0.0.1:0\"\naudit = \"audit.log\"";
    let text = config(&[&origin], "", audit);
    let balancer = Balancer::start(&text);
    done(&command(&balancer, &["drain", "app/a"]));
    done(&command(&balancer, &["reload"]));
    balancer.write_configuration("nonsense = 1");
    assert_eq!(command(&balancer, &["reload"]).status.code(), Some(1));
    let path = balancer.directory().join("audit.log");
    let lines: Vec<Value> = eventually_some("three lines are there", || {
        let text = std::fs::read_to_string(&path).ok()?;
        let lines: Option<Vec<Value>> = text
            .lines()
            .map(|it| serde_json::from_str(it).ok())
            .collect();
        lines.filter(|lines| lines.len() == 3)
    });
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                &line["action"],
                &line["target"],
                &line["generation"],
                &line["result"],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (&json!("drain"), &json!("app/a"), &json!(1), &json!("done")),
            (&json!("reload"), &json!(""), &json!(2), &json!("done")),
            (&json!("reload"), &json!(""), &json!(2), &json!("refused")),
        ]
    );
    for line in &lines {
        assert_eq!(line["uid"], rustix::process::geteuid().as_raw());
        assert!(line["pid"].as_i64().is_some_and(|pid| pid > 0), "{line}");
        assert!(
            line["time"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
    }
    assert!(lines[2]["reason"].as_str().unwrap().contains("nonsense"));
    // In the log as well, whatever the file says.
    eventually("it is logged", || balancer.events("operator").len() == 3);
}

#[test]
fn who_asks_while_the_balancer_ends_is_told_so() {
    let origin = Origin::named("a");
    let more = "[process]\nshutdown_delay = \"20s\"\nworkers = 1\n";
    let balancer = Balancer::start(&config(&[&origin], "", more));
    balancer.signal(rustix::process::Signal::TERM);
    eventually("it is shutting down", || {
        !balancer.events("shutting down").is_empty()
    });
    let (status, problem) = ask(&balancer, "POST", DRAIN, "");
    assert_eq!(status, 503, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("shutting down")
    );
}
