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
fn hold(whole: &Value, method: &str, described: &str, (status, answer): (u16, Value)) {
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
    let asked = |method: &str, path: &str, described: &str, body: &str| {
        hold(
            &whole,
            method,
            described,
            ask(&balancer, method, path, body),
        );
    };
    // One that is ejected, one that is down, and what changes them.
    a.stop();
    for _ in 0..4 {
        get(balancer.http(), "/");
    }
    for path in ["/api/v1/status", "/api/v1/config", "/api/v1/plan"] {
        asked("GET", path, path, "");
    }
    for endpoint in ["app/a", "app/b", "app2/127.0.0.1:1", "app/none", "%ff/a"] {
        asked("GET", &of(endpoint), &one, "");
        asked("GET", &of(&format!("{endpoint}/facts")), &facts, "");
    }
    for (path, body) in [
        ("app/a/drain", ""),
        ("app/b/disable", "{}"),
        ("app/b/resume", "{\"x\":1}"),
        ("app/none/drain", ""),
        ("app/a/%ff", ""),
    ] {
        asked("POST", &of(path), &action, body);
    }
    // Everything changes: listeners, upstreams, endpoints, routes, settings.
    let next = text
        .replace("consecutive = 1", "consecutive = 2")
        .replace("name = \"b\"", "weight = 2, name = \"b\"")
        .replace("127.0.0.1:1\"", "127.0.0.1:2\"")
        .replace("path = \"/s\"", "path = \"/t\"");
    balancer.write_configuration(&format!(
        "{next}\n[process]\nworkers = 1\nshutdown_grace = \"9s\"\n[listener.x]\naddress = \"127.0.0.1:0\"\n"
    ));
    let plan = "/api/v1/plan";
    asked("GET", plan, plan, "");
    for query in ["?expect_generation=7", "?expect_generation=x", "?other=1"] {
        asked("GET", &format!("{plan}{query}"), plan, "");
    }
    let (reload, rollback) = ("/api/v1/reload", "/api/v1/rollback");
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(100_000));
    for body in [
        "",
        "{\"force\":true}",
        "{\"expect_generation\":1}",
        "{\"force\":1}",
        "nonsense",
        &long,
    ] {
        asked("POST", reload, reload, body);
    }
    for body in [
        "",
        "{\"generation\":1}",
        "{\"generation\":99}",
        "{\"generation\":\"x\"}",
    ] {
        asked("POST", rollback, rollback, body);
    }
    balancer.write_configuration("nonsense = 1\n[listener.http]\naddress = 5\n");
    asked("POST", reload, reload, "");
    asked("GET", plan, plan, "");
    asked("GET", "/api/v1/status", "/api/v1/status", "");
    // Over TCP nothing changes.
    let reply = balancer.ask(plan);
    let answer = serde_json::from_slice(&reply.body.bytes).unwrap();
    hold(&whole, "GET", plan, (reply.status, answer));
    assert_eq!(reply.status, 403);
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
