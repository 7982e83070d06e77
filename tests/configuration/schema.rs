//! The JSON Schema names the keys that the reader takes, and takes the files we ship.

use std::collections::BTreeSet;
use std::path::Path;

use balancer::config::{self, schema::schema};
use serde_json::{Value, json};

use super::samples::uncommented;

/// What `value` has against `schema`, of which only those parts are known that ours uses.
fn problems(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| {
            let mut found = Vec::new();
            problems(choice, value, path, &mut found);
            found.is_empty()
        });
        if !fits {
            found.push(format!("{path}: {value} fits none of {choices:?}"));
        }
        return;
    }
    let fits = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("unknown type {other}"),
        None => match (&schema["enum"], &schema["const"]) {
            (Value::Array(words), _) => words.contains(value),
            (_, only) => value == only,
        },
    };
    let fits =
        fits && schema["pattern"].as_str().is_none_or(|pattern| {
            let pattern = regex::Regex::new(pattern).unwrap();
            value.as_str().is_some_and(|text| pattern.is_match(text))
        }) && schema["minimum"]
            .as_f64()
            .is_none_or(|low| value.as_f64() >= Some(low))
            && schema["maximum"]
                .as_f64()
                .is_none_or(|high| value.as_f64() <= Some(high));
    if !fits {
        found.push(format!("{path}: {value} is not {schema}"));
        return;
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        problems(
            &schema["items"],
            element,
            &format!("{path}[{index}]"),
            found,
        );
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => found.push(format!("{path}: unknown")),
            (Value::Null, schema) | (schema, _) => problems(schema, value, &path, found),
        }
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        let key = key.as_str().unwrap();
        if value.get(key).is_none() {
            found.push(format!("{path}: needs {key}"));
        }
    }
}

fn of_text(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap();
    let mut found = Vec::new();
    problems(&schema(), &json!(table), "", &mut found);
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_we_ship_fits() {
    let default = read(&top().join("balancer.toml"));
    assert_eq!(of_text(&default), Vec::<String>::new());
    assert_eq!(of_text(&uncommented(&default)), Vec::<String>::new());
    let mut samples = 0;
    for entry in std::fs::read_dir(top().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "toml") {
            assert_eq!(
                of_text(&read(&path)),
                Vec::<String>::new(),
                "{}",
                path.display()
            );
            samples += 1;
        }
    }
    assert!(samples > 20);
}

/// Every key of tables in `schema`, under its path; names are `*`.
fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        keys(choice, path, found);
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        found.insert(path.clone());
        keys(schema, &path, found);
    }
    if schema["additionalProperties"].is_object() {
        keys(&schema["additionalProperties"], &format!("{path}.*"), found);
    }
    if schema["items"].is_object() {
        keys(&schema["items"], path, found);
    }
}

/// A file in which nothing but the table at `path` has an unknown key, as TOML.
fn with_unknown_key(path: &str) -> String {
    let mut text = String::from("zzzzzzzzzzzz = 1");
    for part in path.rsplit('.').filter(|part| !part.is_empty()) {
        let name = if part == "*" { "name" } else { part };
        let is_list = matches!(name, "route" | "certificates" | "endpoints" | "split");
        text = if is_list {
            format!("{name} = [{{ {text} }}]")
        } else {
            format!("{name} = {{ {text} }}")
        };
    }
    // Some tables are only looked at where there is somebody they are about.
    let upstream = "upstream = { name = { ";
    let of_endpoints = format!("{upstream}endpoints");
    if text.starts_with(&of_endpoints) {
        return text;
    }
    text.replace(upstream, &format!("{of_endpoints} = [\"127.0.0.1:1\"], "))
}

#[test]
fn reader_takes_the_keys_of_the_schema_and_no_others() {
    let mut all = BTreeSet::new();
    keys(&schema(), "", &mut all);
    assert!(all.len() > 150, "{}", all.len());
    let mut tables: BTreeSet<&str> = all
        .iter()
        .filter_map(|key| key.rsplit_once('.').map(|(table, _)| table))
        .collect();
    // Names of certificates, endpoints and shares stand in lists; what has only names has no keys.
    tables.retain(|table| !table.ends_with(".*.*"));
    for table in tables {
        let text = with_unknown_key(table);
        let errors = config::parse(&text, Path::new("f")).unwrap_err();
        let message = errors
            .0
            .iter()
            .find(|problem| problem.place.key.ends_with("zzzzzzzzzzzz"))
            .unwrap_or_else(|| panic!("{table}: {errors}"));
        let listed = message
            .message
            .split("allowed here: ")
            .nth(1)
            .unwrap_or_else(|| panic!("{table}: {}", message.message));
        let listed: BTreeSet<&str> = listed.split(", ").map(|it| it.trim_matches('`')).collect();
        let known: BTreeSet<&str> = all
            .iter()
            .filter_map(|key| key.rsplit_once('.'))
            .filter(|(of, _)| *of == table)
            .map(|(_, key)| key)
            .chain(
                BELONG_ELSEWHERE
                    .iter()
                    .filter(|(of, _)| *of == table)
                    .map(|(_, key)| *key),
            )
            .collect();
        assert_eq!(listed, known, "{table}");
    }
}

/// Keys that the reader knows in order to say where they belong.
const BELONG_ELSEWHERE: &[(&str, &str)] = &[
    (".route.retry", "budget"),
    (".route.retry", "budget_min"),
    (".route.timeouts", "max_age"),
    (".route.timeouts", "pool_idle"),
];

#[test]
fn what_does_not_belong_is_found() {
    let base = "[listener.http]\naddress = \"127.0.0.1:1\"\n";
    assert_eq!(of_text(base), Vec::<String>::new());
    for (more, expected) in [
        ("wrong = 1", ".listener.http.wrong: unknown"),
        ("[upstream.a]", ".upstream.a: needs endpoints"),
        ("[process]\nworkers = 0", ".process.workers: 0 is not"),
        (
            "[process]\nshutdown_grace = \"5\"",
            ".process.shutdown_grace: \"5\" is not",
        ),
        ("[log]\nlevel = \"loud\"", ".log.level: \"loud\" is not"),
    ] {
        let found = of_text(&format!("{base}{more}\n"));
        assert!(
            found.iter().any(|it| it.starts_with(expected)),
            "{more}: {found:?}"
        );
    }
}
