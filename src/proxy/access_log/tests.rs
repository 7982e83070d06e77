//! What lines look like, and that nobody can make them look like something else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{self, Field};

fn rule(settings: &str) -> Arc<AccessLogRule> {
    let text = format!(
        "[listener.a]\naddress = \"127.0.0.1:0\"\n[access_log]\ntarget = \"stdout\"\n{settings}\n"
    );
    let config = config::parse(&text, std::path::Path::new("f")).unwrap();
    AccessLogRule::of(&config.access_log, 3).expect("a log")
}

fn log(blocks: usize) -> (AccessLog, Receiver<Block>, Lost) {
    let (sender, receiver) = sync_channel(blocks);
    let lost = Lost::new(IntCounter::new("x", "x").unwrap());
    (
        AccessLog::new(Outlet::new(sender, lost.clone())),
        receiver,
        lost,
    )
}

/// What `line` is written as.
fn written(line: &Line<'_>, rule: &AccessLogRule) -> String {
    let (log, receiver, _) = log(1);
    log.write(line, rule);
    log.flush();
    let block = receiver.try_recv().expect("lines");
    assert_eq!(block.lines, 1);
    String::from_utf8(block.bytes).expect("UTF-8")
}

fn line(path: &str) -> Line<'_> {
    Line {
        request_id: "00ff",
        trace_id: None,
        client: "192.0.2.1",
        listener: "https",
        sni: None,
        protocol: "HTTP/2",
        method: "GET",
        host: b"example.com",
        path: None,
        raw_path: path,
        query: Some("a=\"b\""),
        user_agent: None,
        referer: None,
        headers: &[],
        route: "/",
        upstream: Some("app"),
        endpoint: Some("127.0.0.1:9001"),
        endpoint_version: None,
        attempts: 1,
        failed: &[],
        status: 200,
        who: "upstream",
        reason: None,
        request_bytes: 0,
        response_bytes: 12,
        tls: None,
        queued: None,
        connect: None,
        head: Some(Duration::from_micros(1500)),
        total: Duration::from_micros(2005),
    }
}

/// A line in which every member stands that can.
fn full<'a>(
    (agent, referer): (&'a HeaderValue, &'a HeaderValue),
    headers: &'a [(usize, HeaderValue)],
) -> Line<'a> {
    Line {
        trace_id: Some(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        sni: Some("example.com"),
        path: Some("/x"),
        raw_path: "//x",
        user_agent: Some(agent),
        referer: Some(referer),
        headers,
        endpoint_version: Some("42"),
        reason: Some("response_cut"),
        tls: Some(Duration::from_millis(3)),
        queued: Some(Duration::from_millis(4)),
        connect: Some(Duration::from_millis(5)),
        ..line("//x")
    }
}

#[test]
fn hostile_text_stays_inside_its_string() {
    let hostile =
        "/\"\\\n\u{7f}\u{1b}[31m\u{80}\u{9b}\u{9f}\u{2028}\u{2029}\u{2027}\u{a0}é中\u{e2}";
    let written = written(&line(hostile), &rule(""));
    assert_eq!(written.matches('\n').count(), 1);
    let parsed: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(parsed["path"], hostile);
    assert!(!written.trim_end_matches('\n').contains(|character: char| {
        character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
    }));
    assert!(written.contains(r"\u0080\u009b\u009f\u2028\u2029"));
    assert_eq!(parsed["total_ms"], 2.005);
    assert_eq!(parsed["status"], 200);
    assert!(parsed["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn full_channel_drops_lines_and_counts_them() {
    let (log, _receiver, lost) = log(1);
    for _ in 0..3 {
        log.write(&line("/"), &rule(""));
        log.write(&line("/"), &rule(""));
        log.flush();
    }
    assert_eq!(lost.count(), 4);
    assert_eq!(lost.metric.get(), 4);
}

#[test]
fn members_are_those_that_can_be_chosen_in_that_order() {
    let (agent, referer) = (
        HeaderValue::from_static("curl/8"),
        HeaderValue::from_static("https://example.com/"),
    );
    let headers = [(0, HeaderValue::from_static("a"))];
    let all = rule("headers = [\"x-tenant\"]");
    let written = written(&full((&agent, &referer), &headers), &all);
    let parsed: serde_json::Map<String, Value> = serde_json::from_str(&written).unwrap();
    let mut places = Vec::new();
    for (name, field) in Field::ALL {
        // Needs an endpoint: see the tests of retries.
        if field != Field::FailedAttempts {
            assert!(parsed.contains_key(name), "{name} in {written}");
            places.push(written.find(&format!("\"{name}\":")).unwrap());
        }
    }
    assert_eq!(parsed.len(), places.len(), "{written}");
    assert!(places.is_sorted(), "{written}");
}

#[test]
fn only_chosen_members_are_written() {
    let chosen = rule("fields = [\"status\", \"path\", \"query\"]");
    let path_comes_first = "{\"path\":\"/x\",\"query\":\"a=\\\"b\\\"\",\"status\":200}\n";
    assert_eq!(written(&line("/x"), &chosen), path_comes_first);
    let none_there = rule("fields = [\"reason\"]");
    assert_eq!(written(&line("/x"), &none_there), "{}\n");
}

#[test]
fn chosen_headers_are_joined_hidden_and_cut() {
    let rule =
        rule("fields = [\"headers\"]\nheaders = [\"x-tenant\", \"authorization\", \"x-long\"]");
    let long = "é".repeat(LONGEST_VALUE);
    let headers = [
        (0, HeaderValue::from_static("a")),
        (0, HeaderValue::from_static("b\"")),
        (1, HeaderValue::from_static("Bearer abc")),
        (2, HeaderValue::from_str(&long).unwrap()),
    ];
    let shown = "é".repeat(LONGEST_VALUE / 2) + "…";
    let line = Line {
        headers: &headers,
        ..line("/")
    };
    let expected = format!(
        "{{\"headers\":{{\"x-tenant\":\"a, b\\\"\",\"authorization\":\"***\",\"x-long\":\"{shown}\"}}}}\n"
    );
    assert_eq!(written(&line, &rule), expected);
}

#[test]
fn combined_lines_are_those_of_nginx() {
    let (agent, referer) = (
        HeaderValue::from_bytes(b"a\"\\\t[31m\xc2\x9b\xff").unwrap(),
        HeaderValue::from_static("https://example.com/?a=1"),
    );
    let combined = rule("format = \"combined\"");
    let text = written(&full((&agent, &referer), &[]), &combined);
    let (before, after) = text.split_once('[').unwrap();
    let (time, after) = after.split_once(']').unwrap();
    assert_eq!(before, "192.0.2.1 - - ");
    assert!(time.ends_with(" +0000") && time.len() == "21/Nov/2026:12:34:56 +0000".len());
    assert_eq!(
        after,
        " \"GET //x?a=\\x22b\\x22 HTTP/2.0\" 200 12 \"https://example.com/?a=1\" \"a\\x22\\x5C\\x09[31m\\xC2\\x9B\\xEF\\xBF\\xBD\"\n"
    );
    let unread = Line {
        method: "-",
        status: 400,
        ..line("/")
    };
    assert!(written(&unread, &combined).ends_with("] \"-\" 400 12 \"-\" \"-\"\n"));
}

proptest! {
    #[test]
    fn whatever_is_sent_is_one_line_of_its_format(
        path in "/[ -~]{0,12}",
        query in prop::option::of("[ -~]{0,12}"),
        agent in prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..20),
    ) {
        let agent = HeaderValue::from_bytes(&agent).expect("such bytes are valid");
        let line = Line {
            query: query.as_deref(),
            user_agent: Some(&agent),
            referer: Some(&agent),
            ..line(&path)
        };
        for settings in ["", "redact = { query = [\"token\"] }"] {
            let json = written(&line, &rule(settings));
            prop_assert!(!json.trim_end_matches('\n').contains(char::is_control));
            let parsed: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(parsed["status"].as_u64(), Some(200));
            let combined = written(&line, &rule(&format!("format = \"combined\"\n{settings}")));
            let text = combined.strip_suffix('\n').unwrap();
            prop_assert!(text.bytes().all(|byte| matches!(byte, 0x20..0x7f)), "{}", text);
            prop_assert_eq!(text.matches('"').count(), 6, "{}", text);
        }
    }

    #[test]
    fn secrets_stand_in_no_line(secret in "S[A-Z0-9]{11}", name in "(token|TOKEN|%74oken|tok%65n)") {
        let query = format!("a=1&{name}={secret}");
        let raw_path = format!("//a;{name}={secret}/b");
        let path = format!("/a;{name}={secret}/b");
        let referer = HeaderValue::from_str(&format!("https://h/x?{query}")).unwrap();
        let headers = [
            (0, HeaderValue::from_str(&secret).unwrap()),
            (1, HeaderValue::from_str(&secret).unwrap()),
            (2, referer.clone()),
        ];
        let line = Line {
            query: Some(&query),
            path: Some(&path),
            raw_path: &raw_path,
            ..full((&referer, &referer), &headers)
        };
        let redact = "redact = { query = [\"token\"], headers = [\"x-b\"] }";
        let json = written(&line, &rule(&format!("headers = [\"cookie\", \"x-b\", \"x-c\"]\n{redact}")));
        prop_assert!(!json.contains(&secret), "{}", json);
        let redact = "redact = { query = [\"token\"] }";
        let combined = written(&line, &rule(&format!("format = \"combined\"\n{redact}")));
        prop_assert!(!combined.contains(&secret), "{}", combined);
    }
}

#[test]
fn regression_lines_of_a_worker_that_panics_are_handed_over() {
    let (log, receiver, _) = log(1);
    let rule = rule("");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let log = log;
        log.write(&line("/"), &rule);
        assert!(
            receiver.try_recv().is_ok(),
            "a panic of the test's own making"
        );
    }));
    assert!(panicked.is_err());
    assert_eq!(receiver.try_recv().map(|block| block.lines), Ok(1));
}
