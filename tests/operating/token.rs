//! `admin.token_file`: who knows the token takes endpoints out over TCP, and nobody else does.

use std::fs::{self, Permissions};
use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::{ask, command, config, told};
use crate::support::{Balancer, Connection, Origin, Reply, eventually, eventually_some};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "another-one-0123456789";
const ADMIN: &str =
    "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"token\"\naudit = \"audit.log\"";

fn write(folder: &Path, token: &str, mode: u32) {
    let path = folder.join("token");
    fs::write(&path, format!("{token}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn start(origin: &Origin) -> Balancer {
    Balancer::start_with(&config(&[origin], "", ADMIN), |folder| {
        write(folder, TOKEN, 0o600);
    })
}

/// Asks over TCP, with further fields.
fn post(balancer: &Balancer, path: &str, fields: &[(&str, &str)]) -> Reply {
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    let mut connection = Connection::open(balancer.admin());
    connection.send(format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n{fields}\r\n"
    ));
    connection.reply()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn path(action: &str) -> String {
    format!("/api/v1/endpoints/app/a/{action}")
}

#[test]
fn who_knows_the_token_may_change_endpoints_and_is_named_in_the_audit_log() {
    let origin = Origin::named("a");
    let balancer = start(&origin);
    assert_eq!(balancer.status()["admin"]["writable"], true);
    let with = bearer(TOKEN);
    let reply = post(&balancer, &path("drain"), &[("Authorization", &with)]);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(balancer.endpoint("app", "a")["mode"], "draining");
    // Our own page's scripts are told from others'.
    let own = [
        ("Authorization", &*with),
        ("Origin", "http://127.0.0.1"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    assert_eq!(post(&balancer, &path("resume"), &own).status, 200);
    for foreign in [
        ("Origin", "http://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let fields = [("Authorization", &*with), foreign];
        let reply = post(&balancer, &path("disable"), &fields);
        assert_eq!(reply.status, 403, "{foreign:?}: {reply:?}");
    }
    assert_eq!(balancer.endpoint("app", "a")["mode"], "active");
    // What concerns more than one endpoint is for those who may open the socket.
    for other in [
        "reload",
        "rollback",
        "upgrade",
        "upstreams/app/flip",
        "upstreams/app/flip/abort",
    ] {
        let reply = post(
            &balancer,
            &format!("/api/v1/{other}"),
            &[("Authorization", &with)],
        );
        assert_eq!(reply.status, 403, "{other}");
    }
    let file = balancer.directory().join("audit.log");
    let lines: Vec<Value> = eventually_some("both are noted", || {
        let text = fs::read_to_string(&file).ok()?;
        let lines = text.lines().map(|line| serde_json::from_str(line).ok());
        lines
            .collect::<Option<Vec<_>>>()
            .filter(|lines| lines.len() == 2)
    });
    for (line, action) in lines.iter().zip(["drain", "resume"]) {
        assert_eq!(
            (&line["by"], &line["action"]),
            (&json!("token"), &json!(action))
        );
        assert_eq!(line["client"], "127.0.0.1");
        assert_eq!(
            (&line["uid"], &line["result"]),
            (&Value::Null, &json!("done"))
        );
    }
}

#[test]
fn wrong_tokens_are_counted_and_after_ten_different_ones_none_is_looked_at_any_more() {
    let origin = Origin::named("a");
    let balancer = start(&origin);
    for nothing in [
        &[][..],
        &[("Cookie", "token=x")],
        &[("Authorization", "Basic eDp5")],
    ] {
        let reply = post(&balancer, &path("drain"), nothing);
        assert_eq!(
            (reply.status, reply.field("www-authenticate")),
            (401, Some("Bearer"))
        );
    }
    // The same one often is one.
    let different = (0..9).map(|number| format!("{OTHER}{number}"));
    for token in iter::repeat_n(OTHER.to_owned(), 12).chain(different) {
        let token = bearer(&token);
        let reply = post(&balancer, &path("drain"), &[("Authorization", &token)]);
        assert_eq!(reply.status, 401);
    }
    for token in [OTHER, TOKEN] {
        let reply = post(
            &balancer,
            &path("drain"),
            &[("Authorization", &bearer(token))],
        );
        assert_eq!(reply.status, 429, "{reply:?}");
        let seconds: u32 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(balancer.endpoint("app", "a")["mode"], "active");
    let counted = balancer
        .metrics()
        .find("balancer_admin_wrong_tokens_total", &[]);
    assert_eq!(counted, Some(21.0));
    let said = balancer.events("wrong token for the admin address");
    assert_eq!(said.len(), 21);
    assert_eq!(said[0]["client"], "127.0.0.1");
    // Whatever it was, it is not repeated.
    let log = balancer.log().join("\n");
    assert!(!log.contains(OTHER) && !log.contains(TOKEN), "{log}");
    // The socket asks for none.
    assert_eq!(ask(&balancer, "POST", &path("drain"), "").0, 200);
}

#[test]
fn token_is_read_again_at_a_reload_and_goes_with_its_key() {
    let origin = Origin::named("a");
    let balancer = start(&origin);
    let status = |token: &str| {
        let reply = post(
            &balancer,
            &path("drain"),
            &[("Authorization", &bearer(token))],
        );
        reply.status
    };
    write(balancer.directory(), OTHER, 0o600);
    assert_eq!(status(TOKEN), 200, "the one in use");
    balancer.reload_as_it_is();
    assert_eq!((status(TOKEN), status(OTHER)), (401, 200));
    // Refused, and what is in use stays.
    write(balancer.directory(), TOKEN, 0o644);
    let (code, said) = told(&command(&balancer, &["reload"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("admin.token_file: "), "{said}");
    assert!(said.contains("open to others (mode 0644)"), "{said}");
    assert_eq!(status(OTHER), 200);
    balancer.reload(&config(
        &[&origin],
        "",
        "[admin]\naddress = \"127.0.0.1:0\"",
    ));
    eventually("nobody may any more", || status(OTHER) == 403);
    assert_eq!(balancer.status()["admin"]["writable"], false);
    let (_, over_socket) = ask(&balancer, "GET", "/api/v1/status", "");
    assert_eq!(over_socket["admin"]["writable"], true);
}
