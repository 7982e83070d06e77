//! The description of the API says what the API answers: every answer here is held against it, field by field.

use serde_json::{Value, json};

use super::{ask, command, config, done};
use crate::support::{Balancer, Origin, get};

/// What `value` has against `schema`. A field that is not described is a fault, too: somebody may look for it there.
fn faults(whole: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').expect("of this document");
        let schema = whole.pointer(pointer).expect("it is there");
        return faults(whole, schema, value, path, found);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let of_choice = |choice: &Value| {
            let mut found = Vec::new();
            faults(whole, choice, value, path, &mut found);
            found
        };
        let all: Vec<_> = choices.iter().map(of_choice).collect();
        if all.iter().all(|found| !found.is_empty()) {
            found.extend(all.into_iter().flatten());
        }
        return;
    }
    let fits = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some("null") => value.is_null(),
        Some(other) => panic!("unknown type {other}"),
        None => schema["enum"].as_array().expect("words").contains(value),
    };
    if !fits {
        found.push(format!("{path}: {value} is not {schema}"));
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        let path = format!("{path}[{index}]");
        faults(whole, &schema["items"], element, &path, found);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match &schema["properties"][key] {
            Value::Null => found.push(format!("{path}.{key} is not described: {value}")),
            schema => faults(whole, schema, value, &format!("{path}.{key}"), found),
        }
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if value.get(key.as_str().unwrap()).is_none() {
            found.push(format!("{path} has no {key}"));
        }
    }
}

/// Holds an answer against what is described for it.
#[track_caller]
pub(super) fn hold(whole: &Value, method: &str, described: &str, (status, answer): (u16, Value)) {
    let responses = &whole["paths"][described][method.to_lowercase()]["responses"];
    let content = responses[status.to_string()]["content"].as_object();
    let content =
        content.unwrap_or_else(|| panic!("{method} {described}: {status} is not described"));
    let schema = &content.values().next().unwrap()["schema"];
    let mut found = Vec::new();
    faults(whole, schema, &answer, described, &mut found);
    assert_eq!(
        found,
        Vec::<String>::new(),
        "{method} {described}: {answer:#}"
    );
}

#[test]
fn every_answer_is_as_it_is_described() {
    let mut a = Origin::named("a");
    let b = Origin::named("b");
    let passive = "[upstream.app]\npassive = { consecutive = 1 }\n";
    let more = "[[route]]\npath = \"/s\"\nsplit = [{ upstream = \"app\", weight = 1 }, { upstream = \"app2\", weight = 1 }]\n\
                [upstream.app2]\nendpoints = [\"127.0.0.1:1\"]\nhealth = {}\n";
    let text = config(&[&a, &b], "", more).replace("[upstream.app]\n", passive);
    let balancer = Balancer::start(&text);
    let described: Value =
        serde_json::from_str(&done(&command(&balancer, &["schema", "--openapi"]))).unwrap();
    let (_, whole) = ask(&balancer, "GET", "/api/v1/openapi.json", "");
    assert_eq!(whole, described);
    let over_tcp: Value =
        serde_json::from_slice(&balancer.ask("/api/v1/openapi.json").body.bytes).unwrap();
    assert_eq!(whole, over_tcp);

    let of = |names: &str| format!("/api/v1/endpoints/{names}");
    let one = of("{upstream}/{endpoint}");
    let (facts, action) = (format!("{one}/facts"), format!("{one}/{{action}}"));
    let asked = |method: &str, path: &str, described: &str, body: &str, expected: u16| {
        let answer = ask(&balancer, method, path, body);
        assert_eq!(answer.0, expected, "{method} {path} {body}: {:#}", answer.1);
        hold(&whole, method, described, answer);
    };
    // One that is ejected, one that is down, and what changes them.
    a.stop();
    for _ in 0..4 {
        get(balancer.http(), "/");
    }
    for path in ["/api/v1/status", "/api/v1/config", "/api/v1/plan"] {
        asked("GET", path, path, "", 200);
    }
    for (endpoint, expected) in [
        ("app/a", 200),
        ("app/b", 200),
        ("app2/127.0.0.1:1", 200),
        ("app/none", 404),
        ("%ff/a", 400),
    ] {
        asked("GET", &of(endpoint), &one, "", expected);
        asked(
            "GET",
            &of(&format!("{endpoint}/facts")),
            &facts,
            "",
            expected,
        );
    }
    for (query, expected) in [("id=999", 410), ("id=x", 400), ("id=1&id=1", 400)] {
        asked("GET", &of(&format!("app/a?{query}")), &one, "", expected);
    }
    let explain = "/api/v1/explain";
    for (query, expected) in [
        ("url=/", 200),
        (
            "url=http://h/s%3Fx&method=POST&header=a:+b&header=c:d&client=::1",
            200,
        ),
        ("url=/%2520&listener=http", 200),
        ("url=/%25zz", 200),
        ("url=/&listener=none", 400),
        ("", 400),
        ("other=1", 400),
    ] {
        asked("GET", &format!("{explain}?{query}"), explain, "", expected);
    }
    for (path, body, expected) in [
        ("app/a/drain", "", 200),
        ("app/b/disable", "{}", 200),
        ("app/b/resume", "{\"x\":1}", 422),
        ("app/none/drain", "", 404),
        ("app/a/%ff", "", 400),
    ] {
        asked("POST", &of(path), &action, body, expected);
    }
    // Everything changes: listeners, upstreams, endpoints, routes, settings, and what needs a restart.
    let next = text
        .replace("consecutive = 1", "consecutive = 2")
        .replace("name = \"b\"", "weight = 2, name = \"b\"")
        .replace("127.0.0.1:1\"", "127.0.0.1:2\"")
        .replace("path = \"/s\"", "path = \"/t\"");
    balancer.write_configuration(&format!(
        "{next}\n[process]\nworkers = 1\nshutdown_grace = \"9s\"\n[listener.x]\naddress = \"127.0.0.1:0\"\n"
    ));
    let plan = "/api/v1/plan";
    asked("GET", plan, plan, "", 200);
    for (query, expected) in [
        ("expect_generation=1", 200),
        ("expect_generation=7", 409),
        ("expect_generation=x", 400),
        ("other=1", 400),
    ] {
        asked("GET", &format!("{plan}?{query}"), plan, "", expected);
    }
    let (reload, rollback) = ("/api/v1/reload", "/api/v1/rollback");
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(100_000));
    for (body, expected) in [
        ("", 200),
        ("{\"force\":true}", 200),
        ("{\"expect_generation\":1}", 409),
        ("{\"force\":1}", 422),
        ("nonsense", 400),
        (&long, 413),
    ] {
        asked("POST", reload, reload, body, expected);
    }
    for (body, expected) in [
        ("", 200),
        ("", 404),
        ("{\"generation\":2}", 200),
        ("{\"generation\":99}", 404),
        ("{\"generation\":\"x\"}", 422),
    ] {
        asked("POST", rollback, rollback, body, expected);
    }
    balancer.write_configuration("nonsense = 1\n[listener.http]\naddress = 5\n");
    asked("POST", reload, reload, "", 422);
    asked("GET", plan, plan, "", 422);
    for path in ["/api/v1/status", "/api/v1/config"] {
        asked("GET", path, path, "", 200);
    }
    // Over TCP nothing changes.
    let reply = balancer.ask(plan);
    let answer = serde_json::from_slice(&reply.body.bytes).unwrap();
    hold(&whole, "GET", plan, (reply.status, answer));
    assert_eq!(reply.status, 403);
    for path in ["/api/v1/status", "/api/v1/config"] {
        let reply = balancer.ask(path);
        let answer = serde_json::from_slice(&reply.body.bytes).unwrap();
        hold(&whole, "GET", path, (reply.status, answer));
    }
}

#[test]
fn what_cannot_be_read_in_a_path_is_refused_as_everything_is() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&config(&[&a], "", ""));
    let (status, problem) = ask(&balancer, "GET", "/api/v1/endpoints/%ff/a", "");
    assert_eq!(status, 400);
    assert_eq!(problem["type"], json!("about:blank"));
    assert!(
        problem["detail"].as_str().unwrap().contains("UTF-8"),
        "{problem}"
    );
}
