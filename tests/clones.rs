//! `clones`: every member of an upstream is asked the same thing, as the balancer would ask it, and what differs is shown.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::Server;
use crate::support::balancer::lettered;
use crate::support::certificates::Authority;
use crate::support::command::{self, command, done, run};
use crate::support::peers::peer;
use crate::support::{Balancer, Origin, Refusing};

/// A page with a token, the time, a session's cookie, and the release that `NAME` says.
const APP: &str = r#"
import os, time, uuid
def app(environ, start_response):
    name = os.environ["NAME"]
    body = ("<h1>Shop</h1>\n<input name=\"csrf\" value=\"%s\">\n<script src=\"/app-%s.js\"></script>\nat %.9f for %s\n" % (
        uuid.uuid4().hex, name, time.time(), environ["HTTP_HOST"])).encode()
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body))), ("X-App-Version", name),
        ("Set-Cookie", "sid=topsecret%s; Path=/" % uuid.uuid4().hex)])
    return [body]
"#;

/// An upstream `app` of `a`, `b`…
fn config(addresses: &[SocketAddr], more: &str) -> String {
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\n{more}\n[[route]]\nhosts = [\"shop.test\"]\nupstream = \"app\"\n",
        lettered(addresses)
    )
}

/// The same where no balancer runs.
fn at_rest(text: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("balancer.toml"), text).unwrap();
    directory
}

fn clones(directory: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["clones", "app"], arguments].concat();
    run(&directory.join("balancer.toml"), &arguments)
}

/// The exit code, and what was said.
fn told(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    command::told(&clones(directory, arguments))
}

fn as_json(directory: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = clones(directory, &[arguments, &["--json"]].concat());
    let said = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        said.unwrap_or_else(|error| panic!("{error}: {output:?}")),
    )
}

#[test]
fn clones_under_gunicorn_are_the_same_until_one_runs_another_release() {
    let Some(servers) = Server::gunicorns(APP, ["42", "42", "41"]) else {
        return;
    };
    let addresses = servers.each_ref().map(Server::address);
    let health = "health = { version_header = \"X-App-Version\" }";
    let balancer = Balancer::start(&config(&addresses, health));
    let (code, text) = told(balancer.directory(), &["--path", "/login?next=%2F"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with(
            "app: GET /login?next=%2F, each asked 3 times, as shop.test (of a route)\nall 3 say\n"
        ),
        "{text}"
    );
    assert!(text.contains("\n  cookies       sid\n"), "{text}");
    assert!(!text.contains("topsecret"), "{text}");
    assert!(
        text.contains("\n2 of 3 say: app/a, app/b\n  version  42\n"),
        "{text}"
    );
    assert!(
        text.contains("\napp/c says\n  version  41\n  body     "),
        "{text}"
    );
    assert!(text.contains(", differs first in line 3\n"), "{text}");
    assert!(
        text.contains("\n  body differs from itself, at a, b, c: 2 of "),
        "{text}"
    );
    assert!(
        text.ends_with("they differ in version and body\n"),
        "{text}"
    );

    let two = at_rest(&config(&addresses[..2], ""));
    let (code, text) = told(two.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("all 2 say the same\n"), "{text}");
}

#[test]
fn members_are_asked_as_the_balancer_asks_them() {
    let Some(nginx) = peer("nginx", "nginx") else {
        return;
    };
    let authority = Authority::new("test");
    let tls = "tls = { ca = \"ca.pem\", server_name = \"app.internal\" }";
    // How nginx listens, how it is asked, and the hash of `HTTP/2.0 https` or `HTTP/1.1 https`, which it says then.
    for (how, keys, protocol) in [
        (
            "ssl http2",
            "protocol = \"h2\"",
            "c79ec53d3d8361c62f31ac36a2faee117d52078d4415e174051db33fce5cd0b7",
        ),
        (
            "ssl proxy_protocol",
            "proxy_protocol = \"v2\"",
            "a84ff42b99efaa737990b3e1d09827dca0eec827c645833b2be26fcc8ed1ac1a",
        ),
    ] {
        let how = format!("{how}; ssl_certificate server.pem; ssl_certificate_key server.key");
        let served = |content: &str| {
            Server::nginx_that_listens(&nginx, content.as_bytes(), &how, |directory| {
                let leaf = authority.issue(&["app.internal"]);
                leaf.write(directory, "server");
            })
        };
        let servers = ["one\ntwo\n", "one\ntwo\n", "one\nthree\n"].map(served);
        let addresses = servers.each_ref().map(Server::address);
        let directory = at_rest(&config(&addresses, &format!("{keys}\n{tls}")));
        fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let asked = |path: &str| {
            as_json(
                directory.path(),
                &["--path", path, "--header", "content-type"],
            )
        };
        let (code, said) = asked("/protocol");
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said["members"][0]["body_sha256"], protocol, "{said}");
        let (code, said) = asked("/file");
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said["differs_in"], json!(["body"]));
        assert_eq!(said["groups"][1]["members"], json!(["c"]));
        assert_eq!(said["groups"][1]["differs_first_in_line"], 2);
        // As `printf 'one\ntwo\n' | sha256sum` has it.
        let hash = "c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8";
        assert_eq!(said["members"][0]["body_sha256"], hash);
        let head = ["--method", "HEAD", "--path", "/protocol"];
        let (code, text) = told(directory.path(), &head);
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("sha256"), "{text}");
    }
}

#[test]
fn who_does_not_answer_is_told_with_the_reason_and_who_is_disabled_is_not_asked() {
    let (a, b) = (Origin::named("same"), Origin::named("same"));
    let (nobody, other) = (Refusing::new(), Refusing::new());
    let addresses = [a.address(), b.address(), nobody.address(), other.address()];
    let balancer = Balancer::start(&config(&addresses, ""));
    done(&command(&balancer, &["disable", "app/d"]));
    let (code, text) = told(balancer.directory(), &["--rounds", "2"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("no answer: connect failed: "), "{text}");
    assert!(text.contains("all 2 that answered say\n"), "{text}");
    assert!(
        text.contains("  not asked, for it is disabled: d\n"),
        "{text}"
    );
    assert!(
        text.ends_with("all 2 say the same; 1 did not answer each time\n"),
        "{text}"
    );
    assert_eq!((a.request_count(), b.request_count()), (2, 2));
}

#[test]
fn regression_where_nobody_answers_nobody_says_the_same() {
    let (nobody, other) = (Refusing::new(), Refusing::new());
    let addresses = [&nobody, &other].map(Refusing::address);
    let directory = at_rest(&config(&addresses, ""));
    let (code, text) = told(directory.path(), &["--rounds", "2"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("\nnobody has answered; 2 did not answer each time\n"),
        "{text}"
    );
    let (code, said) = as_json(directory.path(), &["--rounds", "2"]);
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(
        (&said["equal"], &said["groups"]),
        (&Value::Null, &json!([])),
        "{said}"
    );
}

#[test]
fn member_that_hangs_costs_no_more_than_the_time_it_has() {
    let a = Origin::named("same");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [a.address(), silent.local_addr().unwrap()];
    let directory = at_rest(&config(&addresses, ""));
    let arguments = ["--rounds", "1", "--timeout", "200ms"];
    let (code, text) = told(directory.path(), &arguments);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("no answer: timed out after 200ms"), "{text}");
    assert!(text.contains("there is nobody to compare with"), "{text}");
}

#[test]
fn member_that_wavers_differs_and_what_is_ignored_does_not() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    a.on_request(|exchange| exchange.respond(200, &[], "served by a"));
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = Arc::clone(&turn);
    b.on_request(move |exchange| {
        let status = if turns.fetch_add(1, SeqCst) == 1 {
            500
        } else {
            200
        };
        exchange.respond(status, &[], "served by b")
    });
    let directory = at_rest(&config(&[&a, &b].map(Origin::address), ""));
    let ignoring = ["--ignore", "by [a-z]"];
    let (code, text) = told(directory.path(), &ignoring);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("app/b says\n  status  200 OK, then 500 Internal Server Error\n"),
        "{text}"
    );
    let (code, text) = told(directory.path(), &ignoring);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = told(directory.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("they differ in body\n"), "{text}");
}

#[test]
fn regression_bodies_that_change_as_a_whole_are_not_said_to_be_the_same() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (origin, name) in [(&a, "a"), (&b, "b")] {
        let turns = AtomicUsize::new(0);
        origin.on_request(move |exchange| {
            let turn = turns.fetch_add(1, SeqCst);
            let words: Vec<_> = (0..100).map(|word| format!("{name}{turn}{word}")).collect();
            exchange.respond(200, &[], &words.join(" "))
        });
    }
    let directory = at_rest(&config(&[&a, &b].map(Origin::address), ""));
    let (code, text) = told(directory.path(), &[]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains(
            "\nwhether all 2 say the same cannot be told: most of their bodies changes from answer to answer\n"
        ),
        "{text}"
    );
    let (code, json) = as_json(directory.path(), &[]);
    assert_eq!((code, &json["equal"]), (Some(4), &Value::Null));
    assert_eq!(json["members"][0]["body_sha256"], Value::Null);
    // What is left is compared.
    let (code, text) = told(directory.path(), &["--ignore", "[ab][0-9]+"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn everybody_is_asked_the_same_and_an_unsafe_method_once() {
    let (a, b) = (Origin::named("same"), Origin::named("same"));
    let directory = at_rest(&config(&[&a, &b].map(Origin::address), ""));
    let arguments = [
        "--method",
        "POST",
        "--path",
        "/x?y",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "Host: other.test",
        "-H",
        "X-Twice: 1",
        "-H",
        "X-Twice: 2",
    ];
    let (code, text) = told(directory.path(), &arguments);
    assert_eq!(code, Some(0), "{text}");
    for origin in [&a, &b] {
        assert_eq!(origin.request_count(), 1);
        let request = origin.last_request();
        assert_eq!((request.method(), request.target()), ("POST", "/x?y"));
        let field = |name| request.head.field(name).map(|it| it.to_owned());
        assert_eq!(field("host").as_deref(), Some("other.test"));
        assert_eq!(field("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(request.head.all("x-twice"), ["1", "2"]);
        assert!(field("user-agent").is_some_and(|it| it.starts_with("balancer-clones/")));
    }
}

#[test]
fn what_a_terminal_would_act_upon_and_values_of_cookies_are_not_shown() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evil = "HTTP/1.1 200 OK\r\nServer: x\u{9b}31m\u{202e}y\r\nSet-Cookie: a\u{202e}b=topsecret; Path=/\r\nContent-Length: 0\r\n\r\n";
    a.on_request(move |exchange| exchange.write_then(evil, crate::support::Next::Keep));
    b.on_request(|exchange| exchange.respond(200, &[], ""));
    let directory = at_rest(&config(&[&a, &b].map(Origin::address), ""));
    for arguments in [&[][..], &["--json"][..]] {
        let (code, text) = told(directory.path(), arguments);
        assert_eq!(code, Some(1), "{text}");
        let is_unfit = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.chars().any(is_unfit), "{text:?}");
        assert!(text.contains("x\u{fffd}31m\u{fffd}y"), "{text}");
        assert!(
            text.contains("a\u{fffd}b") && !text.contains("topsecret"),
            "{text}"
        );
    }
}

#[test]
fn the_file_in_use_counts_and_not_what_stands_there_by_now() {
    let (a, b, c) = (Origin::named("x"), Origin::named("x"), Origin::named("y"));
    let balancer = Balancer::start(&config(&[&a, &b].map(Origin::address), ""));
    balancer.write_configuration(&config(&[&a, &b, &c].map(Origin::address), ""));
    let (code, text) = told(balancer.directory(), &["--rounds", "1"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(c.request_count(), 0);
}

#[test]
fn what_cannot_be_asked_is_said_and_nobody_is_asked() {
    let a = Origin::named("a");
    let directory = at_rest(&config(&[&a].map(Origin::address), ""));
    for (arguments, said) in [
        (&["--path", "no-slash"][..], "--path"),
        (&["--header", "Set-Cookie"][..], "their values never"),
        (&["--header", "X-A: b"][..], "--header"),
        (&["-H", "no colon"][..], "header must be 'name: value'"),
        (&["-H", "Content-Length: 3"][..], "no body is sent"),
        (&["--host", "a/b"][..], "is not a host"),
        (&["--ignore", "("][..], "--ignore"),
        (&["--rounds", "0"][..], "--rounds"),
        (&["--method", "CONNECT"][..], "CONNECT"),
    ] {
        let (code, text) = told(directory.path(), arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let file = directory.path().join("balancer.toml");
    let (code, complaint) = command::told(&run(&file, &["clones", "ap"]));
    assert_eq!(code, Some(64), "{complaint}");
    assert!(
        complaint.contains("no upstream is named \"ap\"; did you mean"),
        "{complaint}"
    );
    assert_eq!(a.request_count(), 0);
    let bad = at_rest("[upstream.app]\n");
    let (code, text) = told(bad.path(), &[]);
    assert_eq!(code, Some(78), "{text}");
}

#[test]
fn regression_what_may_change_something_is_asked_of_no_standby_unless_that_is_forced() {
    let origin = Origin::named("a");
    let directory = at_rest(&config(
        &[&origin].map(Origin::address),
        "role = \"authoritative\"",
    ));
    let refused = clones(directory.path(), &["--method", "POST"]);
    assert_eq!(refused.status.code(), Some(64));
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("--force asks them all the same"), "{why}");
    assert_eq!(origin.request_count(), 0);
    for (arguments, count) in [
        (&["--rounds", "1"][..], 1),
        (&["--method", "POST", "--force"], 2),
    ] {
        let asked = clones(directory.path(), arguments);
        assert_eq!(origin.request_count(), count, "{asked:?}");
    }
}
