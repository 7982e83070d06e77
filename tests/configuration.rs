//! Promises about configuration files: every problem is reported at once, with its place, its value and what to do;
//! defaults are the documented ones; no input ends in a panic.
#![allow(clippy::unwrap_used)] // in helpers of tests, too

mod command;
mod defaults;
mod messages;
mod samples;
mod schema;
mod warnings;

use std::path::Path;

use balancer::config::{self, Config};
use proptest::prelude::*;

/// A valid start of a file, on seven lines.
const BASE: &str = r#"[listener.http]
address = "0.0.0.0:8080"
[listener.https]
address = "0.0.0.0:8443"
tls = { certificates = [{ chain = "a.pem", key = "a.key" }] }
[upstream.app]
endpoints = ["127.0.0.1:9001"]
"#;

/// The problems of `text`, as `line:column: key: message`.
fn problems(text: &str) -> Vec<String> {
    match config::parse(text, Path::new("f")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .0
            .iter()
            .map(|problem| problem.to_string()["f:".len()..].to_owned())
            .collect(),
    }
}

/// The problems of `BASE` with `text` behind it, lines counted from where `text` begins.
fn problems_behind_base(text: &str) -> Vec<String> {
    let lines = BASE.lines().count();
    let shifted = |problem: String| {
        let (line, rest) = problem.split_once(':').unwrap();
        format!("{}:{rest}", line.parse::<usize>().unwrap() - lines)
    };
    problems(&format!("{BASE}{text}"))
        .into_iter()
        .map(shifted)
        .collect()
}

fn valid(text: &str) -> Config {
    config::parse(text, Path::new("f")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn valid_behind_base(text: &str) -> Config {
    valid(&format!("{BASE}{text}"))
}

#[test]
fn every_problem_is_reported_at_once_in_file_order() {
    let text = r#"[listener.http]
adress = "0.0.0.0:8080"
protocols = ["h3"]

[upstream.api]
endpoints = ["127.0.0.1:1", "127.0.0.1:2", { address = "127.0.0.1:3", weight = 0 }]
health = { interval = 5 }

[[route]]
path = "/a//b"
upstream = "apl"

[proces]
"#;
    assert_eq!(
        problems(text),
        [
            r#"1:1: listener.http: needs `address`, such as address = "0.0.0.0:8080""#,
            "2:1: listener.http.adress: unknown key; did you mean `address`?",
            r#"3:14: listener.http.protocols[0]: must be "h2" or "http/1.1", got "h3"; did you mean "h2"?"#,
            "6:80: upstream.api.endpoints[2].weight: must be 1–1000, got 0",
            r#"7:23: upstream.api.health.interval: must be a duration such as "5s", got 5"#,
            r#"10:8: route[0].path: must be in canonical spelling: write "/a/b", got "/a//b""#,
            r#"11:12: route[0].upstream: no upstream is named "apl"; did you mean "api"?"#,
            "13:2: proces: unknown key; did you mean `process`?",
        ]
    );
}

#[test]
fn a_problem_names_the_file_as_the_operator_did() {
    let errors = config::parse("x = 1\n", Path::new("some/where.toml")).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("some/where.toml:1:1: x: unknown key"),
        "{errors}"
    );
}

#[test]
fn columns_count_characters() {
    let route = "[[route]]\nrespond = { body = \"äöü\", stat = 1 }\n";
    assert_eq!(
        problems_behind_base(route),
        ["2:27: route[0].respond.stat: unknown key; did you mean `status`?"]
    );
    let with_mark = "\u{feff}x = 1\r\ny = 2\r\n";
    let problems = problems(with_mark);
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("1:1: x:")),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("2:1: y:")),
        "{problems:?}"
    );
}

#[test]
fn broken_syntax_has_a_place_too() {
    let found = problems("[listener.http]\naddress = \n[upstream.app\nendpoints = []\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("2:"), "{found:?}");
    assert!(found[1].starts_with("3:"), "{found:?}");
    assert_eq!(
        problems(&format!(
            "{BASE}[listener.http]\n[process]\nworkers = 1\nworkers = 2\n"
        )),
        [
            "8:11: duplicate key `http`",
            "11:1: duplicate key `workers`"
        ]
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = format!("{BASE}[access_log]\ntarget = \"log/access\"\n");
    let config = config::parse(&text, Path::new("/etc/balancer/b.toml")).unwrap();
    let certificate = &config.listeners[1].tls.as_ref().unwrap().certificates[0];
    assert_eq!(certificate.chain, Path::new("/etc/balancer/a.pem"));
    assert_eq!(
        config.access_log.target,
        config::AccessLogTarget::File("/etc/balancer/log/access".into())
    );
    let text = text.replace("\"a.pem\"", "\"/tls/a.pem\"");
    let config = config::parse(&text, Path::new("b.toml")).unwrap();
    let certificate = &config.listeners[1].tls.as_ref().unwrap().certificates[0];
    assert_eq!(certificate.chain, Path::new("/tls/a.pem"));
    assert_eq!(certificate.key, Path::new("a.key"));
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let message = config::load(&missing).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{}:1:1: cannot be read: ", missing.display())),
        "{message}"
    );

    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"a = 1\nb = \"\xff\"\n").unwrap();
    let message = config::load(&binary).unwrap_err().to_string();
    assert_eq!(message, format!("{}:2:6: is not UTF-8", binary.display()));
}

/// A file that uses everything, for mutation.
fn whole_file() -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/balancer.toml"));
    samples::uncommented(&text.unwrap())
}

proptest! {
    #[test]
    fn no_text_ends_in_a_panic(text in "\\PC*") {
        let _ = problems(&text);
    }

    #[test]
    fn no_toml_like_text_ends_in_a_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "[", "]", "[[", "]]", "{", "}", "=", ",", ".", "\"", "'", "\n", " ", "#", "listener", "upstream",
                "route", "path", "tls", "x", "1", "-1", "0x1", "1.5", "true", "\"/a\"", "\"5s\"", "1979-05-27", "é",
                "endpoints", "certificates", "health", "process", "headers", "inf", "nan", "\u{0}", "\r",
            ]),
            0..60,
        )
    ) {
        let _ = problems(&words.concat());
    }

    #[test]
    fn no_damaged_file_ends_in_a_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[\\PC\n]{0,4}"), 1..8)
    ) {
        let mut text: Vec<char> = whole_file().chars().collect();
        for (index, length, insert) in cuts {
            let start = index.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let lines = text.lines().count() + 1;
        if let Err(errors) = config::parse(&text, Path::new("f")) {
            prop_assert!(!errors.0.is_empty());
            let places: Vec<_> = errors.0.iter().map(|problem| (problem.place.line, problem.place.column)).collect();
            prop_assert!(places.is_sorted());
            prop_assert!(errors.0.iter().all(|problem| problem.place.line as usize <= lines));
        }
    }

    /// Each value in turn replaced by one of another type.
    #[test]
    fn no_value_of_another_type_ends_in_a_panic(
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "1", "-1", "0", "99999999999999999999", "1.5", "nan", "true", "\"\"", "\"é\"", "\"\\u0000\"", "[]", "{}",
            "[[]]", "[{}]", "{ a = 1 }", "1979-05-27", "\"//\"", "\":\"", "\"%\"", "\"{\"", "\"*.\"", "\"(\"",
        ])
    ) {
        let text = whole_file();
        let keys: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.contains(" = ")).collect();
        let (chosen, _) = keys[line.index(keys.len())];
        let replaced = |(index, line): (usize, &str)| match line.split_once(" = ") {
            Some((key, _)) if index == chosen => format!("{key} = {value}\n"),
            _ => format!("{line}\n"),
        };
        let _ = problems(&text.lines().enumerate().map(replaced).collect::<String>());
    }
}
