//! Routes rewrite the path endpoints are asked for: by prefix or regex, never into an exclusive route of another upstream.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::balancer::BINARY;
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::H2;
use crate::support::{Balancer, Origin, eventually_some, get};

const ROUTES: &str = r#"
    [[route]]
    path = "/admin"
    exclusive = true
    upstream = "authority"

    [[route]]
    name = "old-admin"
    path = "/old-admin"
    upstream = "authority"
    rewrite = { prefix = "/admin" }

    [[route]]
    path = "/api"
    upstream = "app"
    rewrite = { prefix = "/v2" }

    [[route]]
    name = "strip"
    path = "/strip"
    upstream = "app"
    rewrite = { prefix = "/" }

    [[route]]
    path_regex = "^/users/"
    upstream = "app"
    rewrite = { regex = "^/users/([^/]+)/(.*)$", to = "/$2/of/$1" }

    [[route]]
    path_regex = "^/raw"
    upstream = "app"
    rewrite = { regex = "^/raw(.*)$", to = "/$1" }
"#;

fn configuration(app: &Origin, authority: &Origin) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [access_log]
        target = "access.log"
        [upstream.app]
        endpoints = ["{}"]
        [upstream.authority]
        endpoints = ["{}"]
        {ROUTES}
        "#,
        app.address(),
        authority.address()
    )
}

fn start(app: &Origin, authority: &Origin, issuer: &Authority) -> Balancer {
    Balancer::start_with(&configuration(app, authority), |directory| {
        issuer.issue(&[HOST]).write(directory, "server")
    })
}

#[test]
fn endpoints_are_asked_for_the_rewritten_path() {
    let (app, authority) = (Origin::named("app"), Origin::named("authority"));
    let issuer = Authority::new("test");
    let balancer = start(&app, &authority, &issuer);
    let h2 = H2::connect(balancer.address("https"), &Tls::new(&issuer, HOST));
    for (asked, sent) in [
        ("/api", "/v2"),
        ("/api/", "/v2/"),
        ("/api/x?a=/api&b", "/v2/x?a=/api&b"),
        ("/api//x/../y", "/v2/y"),
        ("/strip", "/"),
        ("/strip/x", "/x"),
        ("/strip?q", "/?q"),
        ("/users/ann/docs", "/docs/of/ann"),
        ("/users/ann", "/users/ann"),
    ] {
        assert_eq!(get(balancer.http(), asked).text(), "app", "{asked}");
        assert_eq!(app.last_request().target(), sent, "{asked}");
        assert_eq!(h2.get(asked).unwrap().text(), "app", "{asked}");
        assert_eq!(app.last_request().target(), sent, "{asked}");
    }
    assert_eq!(app.request_count(), 18);
    assert_eq!(authority.request_count(), 0);
}

#[test]
fn what_is_made_of_a_path_goes_to_the_upstream_of_its_own_route() {
    let (app, authority) = (Origin::named("app"), Origin::named("authority"));
    let balancer = start(&app, &authority, &Authority::new("test"));
    // A route of the same upstream may lead into an exclusive one.
    assert_eq!(get(balancer.http(), "/old-admin/x").text(), "authority");
    assert_eq!(authority.last_request().target(), "/admin/x");
}

#[test]
fn no_rewrite_leads_into_an_exclusive_route_of_another_upstream() {
    let (app, authority) = (Origin::named("app"), Origin::named("authority"));
    let issuer = Authority::new("test");
    let balancer = start(&app, &authority, &issuer);
    let h2 = H2::connect(balancer.address("https"), &Tls::new(&issuer, HOST));
    for path in [
        "/strip/admin",
        "/strip/admin/x",
        "/strip//admin",
        "/users/x/admin",
        // What only a lenient server reads as one.
        "/strip/ADMIN",
        "/strip/admin;x",
        "/strip/%2561dmin",
        "/users/x/Admin",
    ] {
        get(balancer.http(), path).assert_made_by_balancer(500);
        assert_eq!(h2.get(path).unwrap().status, 500, "{path}");
    }
    assert_eq!((app.request_count(), authority.request_count()), (0, 0));
}

#[test]
fn what_is_no_canonical_path_is_an_error_of_our_own() {
    let (app, authority) = (Origin::named("app"), Origin::named("authority"));
    let balancer = start(&app, &authority, &Authority::new("test"));
    assert_eq!(get(balancer.http(), "/raw").text(), "app");
    for path in ["/raw/x", "/raw../x"] {
        let reply = get(balancer.http(), path);
        reply.assert_made_by_balancer(500);
        assert_eq!(
            reply.field("proxy-status"),
            Some("balancer; error=proxy_configuration_error")
        );
    }
    assert_eq!(app.request_count(), 1);
    let errors = balancer
        .metrics()
        .sum("balancer_errors_total", &[("reason", "rewrite")]);
    assert_eq!(errors, 2.0);
}

#[test]
fn path_that_a_rule_makes_longer_than_a_clients_may_be_is_our_error() {
    let app = Origin::named("app");
    let balancer = Balancer::start(&format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n\
         [[route]]\nupstream = \"app\"\nrewrite = {{ regex = \"^/(.*)$\", to = \"/$1$1$1$1\" }}\n",
        app.address()
    ));
    assert_eq!(
        get(balancer.http(), &format!("/{}", "x".repeat(1000))).status,
        200
    );
    assert_eq!(
        get(balancer.http(), &format!("/{}", "x".repeat(4000))).status,
        500
    );
    assert_eq!(app.request_count(), 1);
}

#[test]
fn access_log_keeps_the_path_that_was_asked_for() {
    let (app, authority) = (Origin::named("app"), Origin::named("authority"));
    let balancer = start(&app, &authority, &Authority::new("test"));
    get(balancer.http(), "/api//x?q");
    get(balancer.http(), "/raw/x");
    let lines = eventually_some("the access log is written", || {
        let text = fs::read_to_string(balancer.directory().join("access.log")).unwrap_or_default();
        let mut lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        // Two workers write as they come.
        lines.sort_by_key(|line| line["path"].to_string());
        (lines.len() >= 2).then_some(lines)
    });
    assert_eq!(
        (&lines[0]["path"], &lines[0]["raw_path"], &lines[0]["query"]),
        (&"/api/x".into(), &"/api//x".into(), &"q".into())
    );
    assert_eq!(
        (&lines[1]["path"], &lines[1]["reason"], &lines[1]["status"]),
        (&"/raw/x".into(), &"rewrite".into(), &500.into())
    );
}

#[test]
fn explain_tells_what_the_endpoint_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balancer.toml");
    let (app, authority) = (Origin::named("app"), Origin::named("authority"));
    fs::write(&file, configuration(&app, &authority)).unwrap();
    let explain = |path: &str| {
        let output = Command::new(BINARY)
            .args(["explain", "--config", file.to_str().unwrap(), "GET", path])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = explain("/api/x");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("sent path  /v2/x\n"), "{text}");
    let (code, text) = explain("/strip/admin");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("500, the rewritten path belongs to the exclusive route /admin\n"),
        "{text}"
    );
    let (code, text) = explain("/raw/x");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("500, the rewritten path is not canonical\n"),
        "{text}"
    );
}
