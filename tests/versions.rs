//! Versions: which code each endpoint runs is known and shown, another than expected is held out, and a client that is kept with a
//! version never sees an older one again while a cluster is rolled.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::command::command;
use crate::support::h2::{H2, get as h2_get};
use crate::support::{
    Balancer, Connection, Origin, Outcome, Reply, eventually, eventually_some, get,
};

/// Checks that notice within moments.
const FAST: &str = "interval = \"200ms\", fast_interval = \"50ms\", timeout = \"200ms\", rise = 1, version_header = \"X-App-Version\"";
const KEY: &str = "6c6f6e6720656e6f75676820746f2062652061206b6579206f662031323862697\n";

/// An origin that says in every answer which version it runs; requests are answered with it, too.
fn running(version: &'static str) -> Origin {
    let origin = Origin::named(version);
    run(&origin, version);
    origin
}

/// Another version is started in its place.
fn run(origin: &Origin, version: &'static str) {
    let fields = [("X-App-Version", version)];
    origin.on_probe(move |exchange| exchange.respond(200, &fields, ""));
    origin.on_request(move |exchange| exchange.respond(200, &fields, version));
}

/// An upstream `app` of `e0`, `e1`…
fn config(origins: &[Origin], health: &str, more: &str) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .enumerate()
        .map(|(index, origin)| {
            format!(
                "{{ name = \"e{index}\", address = \"{}\" }}",
                origin.address()
            )
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nslow_start = \"0s\"\nendpoints = [{}]\nhealth = {{ {health} }}\n{more}\n[[route]]\nupstream = \"app\"\n",
        endpoints.join(", ")
    )
}

fn await_version(balancer: &Balancer, name: &str, version: &str) {
    eventually(&format!("{name} is known to run {version}"), || {
        balancer.endpoint("app", name)["version"] == version
    });
}

fn upstream(balancer: &Balancer) -> Value {
    balancer.status()["upstreams"][0].clone()
}

fn said(balancer: &Balancer, arguments: &[&str]) -> String {
    let output = command(balancer, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn operators_see_which_endpoint_runs_which_version_and_for_how_long_there_are_two() {
    let origins = [running("41"), running("42")];
    let log = "[access_log]\ntarget = \"access.log\"\n";
    let balancer = Balancer::start(&format!("{log}{}", config(&origins, FAST, "")));
    await_version(&balancer, "e0", "41");
    await_version(&balancer, "e1", "42");
    let answered = get(balancer.http(), "/").text();
    let line = eventually_some("it is logged", || {
        let text = fs::read_to_string(balancer.directory().join("access.log")).ok()?;
        serde_json::from_str::<Value>(text.lines().next()?).ok()
    });
    assert_eq!(line["endpoint_version"], *answered);
    eventually("both serve", || {
        upstream(&balancer)["versions"]
            == json!([{ "version": "41", "endpoints": 1, "serving": 1 }, { "version": "42", "endpoints": 1, "serving": 1 }])
    });
    assert!(upstream(&balancer)["skew_since"].is_u64());
    let metrics = balancer.metrics();
    let app = [("upstream", "app")];
    assert_eq!(metrics.find("balancer_upstream_versions", &app), Some(2.0));
    let info = |version: &str| {
        let labels = [
            ("upstream", "app"),
            ("endpoint", "e0"),
            ("version", version),
        ];
        let metrics = balancer.metrics();
        metrics.find("balancer_endpoint_version_info", &labels)
    };
    assert_eq!(info("41"), Some(1.0));
    let status = said(&balancer, &["status"]);
    assert!(status.contains(", 2 versions serve since "), "{status}");
    assert!(status.contains("weight  version  reason\n"), "{status}");
    let explained = said(&balancer, &["explain", "--live", "GET", "http://app.test/"]);
    assert!(explained.contains("version  why not\n"), "{explained}");

    run(&origins[0], "42");
    await_version(&balancer, "e0", "42");
    assert_eq!((info("41"), info("42")), (None, Some(1.0)));
    assert_eq!(upstream(&balancer)["skew_since"], Value::Null);
    let metrics = balancer.metrics();
    assert_eq!(metrics.find("balancer_upstream_versions", &app), Some(1.0));
    let skew = metrics.find("balancer_upstream_skew_seconds", &app);
    assert_eq!(skew, Some(0.0));
    let why = said(&balancer, &["why", "app/e0"]);
    assert!(why.contains("version 41 → 42"), "{why}");
}

#[test]
fn version_is_read_from_the_body_and_what_is_none_is_unknown_with_the_reason() {
    let origins = [Origin::named("a"), Origin::named("b")];
    origins[0].on_probe(|exchange| {
        exchange.respond(200, &[], r#"{ "build": { "version": "42-rc.1" } }"#)
    });
    let health = FAST.replace(
        "version_header = \"X-App-Version\"",
        "version_pointer = \"/build/version\"",
    );
    let balancer = Balancer::start(&config(&origins, &health, ""));
    await_version(&balancer, "e0", "42-rc.1");
    let unknown = || balancer.endpoint("app", "e1")["version_unknown"].clone();
    eventually("it is known why", || {
        unknown() == "the first 64 KiB of the answer's body are not JSON"
    });
    assert_eq!(balancer.endpoint("app", "e1")["version"], Value::Null);
    assert_eq!(balancer.endpoint("app", "e1")["state"], "up");
    let long = format!(r#"{{ "build": {{ "version": "{}" }} }}"#, "x".repeat(65));
    origins[1].on_probe(move |exchange| exchange.respond(200, &[], &long));
    eventually("a long one is none", || {
        unknown().as_str().is_some_and(|why| {
            why == "what the answer's body has at \"/build/version\" is longer than 64 bytes"
        })
    });
}

#[test]
fn endpoint_that_runs_another_version_than_expected_is_held_out() {
    let origins = [running("41"), running("42"), Origin::named("mute")];
    let expecting = |version: &str| {
        let health = format!("{FAST}, expect_version = \"{version}\"");
        config(&origins, &health, "min_available = 1.0")
    };
    let balancer = Balancer::start(&expecting("42"));
    balancer.await_health("app", "e0", "up");
    balancer.await_health("app", "e2", "up");
    let held = |name: &str| {
        let endpoint = balancer.endpoint("app", name);
        json!([
            endpoint["state"],
            endpoint["reason"],
            endpoint["evidence"],
            endpoint["eligible"]
        ])
    };
    assert_eq!(
        held("e0"),
        json!(["held", "version 41, want 42", "hard", false])
    );
    let mute = "version unknown: the answer has no x-app-version, want 42";
    assert_eq!(held("e2"), json!(["held", mute, "hard", false]));
    for _ in 0..6 {
        assert_eq!(get(balancer.http(), "/").text(), "42");
    }
    let labels = [("endpoint", "e0"), ("state", "held")];
    let metrics = balancer.metrics();
    assert_eq!(metrics.find("balancer_endpoint_state", &labels), Some(1.0));

    // What is known already counts at once.
    balancer.reloaded(&expecting("41"));
    assert_eq!(get(balancer.http(), "/").text(), "41");
    assert_eq!(held("e1")[1], "version 42, want 41");
    // It is hard evidence: with nobody left nobody is asked.
    balancer.write_configuration(&expecting("43"));
    said(&balancer, &["reload", "--force"]);
    let reply = get(balancer.http(), "/");
    reply.assert_made_by_balancer(503);
    // And who is restarted with it is in with the next check.
    run(&origins[0], "43");
    balancer_answers(&balancer, "43");
}

#[test]
fn regression_expecting_a_version_that_nobody_runs_takes_no_upstream_away_unless_somebody_insists()
{
    let origins = [running("42"), running("42")];
    let expecting = |version: &str| {
        let health = format!("{FAST}, expect_version = \"{version}\"");
        config(&origins, &health, "")
    };
    let balancer = Balancer::start(&config(&origins, FAST, ""));
    await_version(&balancer, "e0", "42");
    await_version(&balancer, "e1", "42");
    let held = "app: holds out 2 of 2 endpoints (they run 42, want 43)";
    let refused = |arguments: &[&str]| {
        let output = command(&balancer, arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("upstream.app.health.expect_version: app: holds out 2 of 2"),
            "{text}"
        );
        assert!(text.contains("insist with `--force`"), "{text}");
        assert_eq!(get(balancer.http(), "/").text(), "42");
    };
    balancer.write_configuration(&expecting("43"));
    let planned = String::from_utf8(command(&balancer, &["plan"]).stderr).unwrap();
    assert!(
        planned.contains("warning: a reload would be refused: ") && planned.contains(held),
        "{planned}"
    );
    refused(&["reload"]);
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("nobody has insisted");
    };
    assert!(problems.contains(held), "{problems}");
    // Where somebody is left it is done, and said.
    run(&origins[1], "43");
    await_version(&balancer, "e1", "43");
    let one = "warning: app: holds out 1 of 2 endpoints (it runs 42, want 43)\n";
    let planned = String::from_utf8(command(&balancer, &["plan"]).stderr).unwrap();
    assert_eq!(planned, one);
    let reloaded = command(&balancer, &["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert_eq!(String::from_utf8(reloaded.stderr).unwrap(), one);
    // An earlier file may be no better.
    balancer.reloaded(&config(&origins, FAST, ""));
    run(&origins[1], "42");
    await_version(&balancer, "e1", "42");
    refused(&["rollback"]);
    said(&balancer, &["rollback", "--force"]);
    get(balancer.http(), "/").assert_made_by_balancer(503);
    // Nobody is held out that was not in use.
    balancer.reloaded(&expecting("42"));
    assert_eq!(get(balancer.http(), "/").text(), "42");
}

fn balancer_answers(balancer: &Balancer, version: &str) {
    eventually("it is let in", || {
        get(balancer.http(), "/").text() == version
    });
}

#[test]
fn change_that_a_client_has_been_answered_with_is_checked_before_the_next_check_is_due() {
    let origins = [running("41")];
    let health = "interval = \"1h\", version_header = \"X-App-Version\", live_version = true";
    let balancer = Balancer::start(&config(&origins, health, ""));
    await_version(&balancer, "e0", "41");
    run(&origins[0], "42");
    assert_eq!(get(balancer.http(), "/").text(), "42");
    await_version(&balancer, "e0", "42");
    eventually("it is a fact, too", || {
        said(&balancer, &["why", "app/e0"]).contains("version 41 → 42")
    });
    // A page that something before the application has made says nothing.
    origins[0].on_request(|exchange| exchange.respond(200, &[], "a page"));
    assert_eq!(get(balancer.http(), "/").text(), "a page");
    assert_eq!(balancer.endpoint("app", "e0")["version"], "42");
}

#[test]
fn regression_stale_answer_holds_nobody_out_whose_checks_say_the_expected_version() {
    let origins = [running("42")];
    let health = format!("{FAST}, live_version = true, expect_version = \"42\"");
    let balancer = Balancer::start(&config(&origins, &health, ""));
    await_version(&balancer, "e0", "42");
    balancer.await_health("app", "e0", "up");
    let probes = origins[0].probe_count();
    // From a cache that does not say so, or what a client has sent is repeated.
    let stale = [("X-App-Version", "41")];
    origins[0].on_request(move |exchange| exchange.respond(200, &stale, "stale"));
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").text(), "stale");
    }
    eventually("it has been checked", || {
        origins[0].probe_count() > probes + 1
    });
    assert_eq!(get(balancer.http(), "/").text(), "stale");
    assert_eq!(balancer.endpoint("app", "e0")["version"], "42");
}

#[test]
fn many_versions_share_a_label() {
    const VERSIONS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let origins = VERSIONS.map(running);
    let balancer = Balancer::start(&config(&origins, FAST, ""));
    for (index, version) in VERSIONS.iter().enumerate() {
        await_version(&balancer, &format!("e{index}"), version);
    }
    let metrics = balancer.metrics();
    let count = |labels: &[(&str, &str)]| metrics.sum("balancer_endpoint_version_info", labels);
    assert_eq!(count(&[("upstream", "app")]), 10.0);
    let own: f64 = VERSIONS
        .iter()
        .map(|version| count(&[("version", version)]))
        .sum();
    assert_eq!((own, count(&[("version", "other")])), (8.0, 2.0));
}

/// A client that sends back what it was told last.
struct Client {
    cookie: Option<String>,
}

impl Client {
    fn new() -> Self {
        Self { cookie: None }
    }

    fn ask(&mut self, balancer: &Balancer) -> Reply {
        let cookie = self.cookie.iter();
        let cookie: String = cookie.map(|it| format!("Cookie: {it}\r\n")).collect();
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\n{cookie}Connection: close\r\n\r\n"
        ));
        let reply = connection.reply();
        assert_eq!(reply.status, 200, "{reply:?}");
        self.heed(reply.field("set-cookie"));
        reply
    }

    fn heed(&mut self, said: Option<&str>) {
        if let Some(said) = said {
            assert!(
                said.starts_with("code=") && said.contains("; HttpOnly"),
                "{said}"
            );
            self.cookie = said.split(';').next().map(str::to_owned);
        }
    }

    fn sees(&mut self, balancer: &Balancer) -> String {
        self.ask(balancer).text()
    }
}

const BY_VERSION: &str =
    "affinity = { by = \"version\", cookie = \"code\", key_file = \"affinity.key\" }";

fn kept(origins: &[Origin], more: &str) -> Balancer {
    let configuration = config(origins, FAST, &format!("{BY_VERSION}\n{more}"));
    let balancer = Balancer::start_with(&configuration, |directory| {
        fs::write(directory.join("affinity.key"), KEY).unwrap();
    });
    for index in 0..origins.len() {
        balancer.await_health("app", &format!("e{index}"), "up");
    }
    balancer
}

fn repins(balancer: &Balancer, why: &str) -> f64 {
    let labels = [("upstream", "app"), ("why", why)];
    balancer
        .metrics()
        .sum("balancer_sticky_repins_total", &labels)
}

#[test]
fn client_stays_with_its_version_and_not_with_its_server_until_nobody_runs_that() {
    let origins = [running("1"), running("2"), running("1"), running("2")];
    let balancer = kept(&origins, "");
    let (mut old, mut new) = (Client::new(), Client::new());
    while old.cookie.is_none() || old.sees(&balancer) != "1" {
        old = Client::new();
        old.sees(&balancer);
    }
    while new.cookie.is_none() || new.sees(&balancer) != "2" {
        new = Client::new();
        new.sees(&balancer);
    }
    let before: Vec<_> = origins.iter().map(Origin::request_count).collect();
    for _ in 0..8 {
        let reply = old.ask(&balancer);
        assert_eq!(reply.text(), "1");
        assert_eq!(reply.field("set-cookie"), None, "it is said once");
        assert_eq!(new.sees(&balancer), "2");
    }
    // Each server of a version has its share of that version's clients.
    let now = origins.iter().map(Origin::request_count);
    let got: Vec<_> = now.zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(got, [4, 4, 4, 4]);
    let head = origins[0].last_request().head;
    assert!(!head.has("cookie"), "it is ours");

    said(&balancer, &["drain", "app/e0"]);
    assert_eq!(old.sees(&balancer), "1", "another one runs it");
    said(&balancer, &["drain", "app/e2"]);
    assert_eq!(repins(&balancer, "version"), 0.0);
    assert_eq!(old.sees(&balancer), "2", "its version has drained");
    assert_eq!(repins(&balancer, "version"), 1.0);
    said(&balancer, &["resume", "app/e0"]);
    said(&balancer, &["resume", "app/e2"]);
    for _ in 0..8 {
        assert_eq!(old.sees(&balancer), "2", "and it does not come back");
    }
}

#[test]
fn page_of_before_the_roll_gets_its_assets_from_the_same_code_and_nobody_sees_v1_after_v2() {
    let origins = [running("1"), running("1"), running("1")];
    let balancer = kept(&origins, "");
    let mut clients: Vec<Client> = (0..6).map(|_| Client::new()).collect();
    let mut newest = ["1"; 6].map(str::to_owned);
    for client in &mut clients {
        assert_eq!(client.sees(&balancer), "1");
        assert!(client.cookie.is_some(), "told while one version serves");
    }
    for (index, origin) in origins.iter().enumerate() {
        let name = format!("app/e{index}");
        said(&balancer, &["drain", &name]);
        let mut ask_all = || {
            for (client, newest) in clients.iter_mut().zip(&mut newest) {
                let seen = client.sees(&balancer);
                assert!(seen >= *newest, "{seen} after {newest}");
                if index < 2 {
                    assert_eq!(seen, "1", "somebody still runs it");
                }
                *newest = seen;
            }
        };
        ask_all();
        run(origin, "2");
        await_version(&balancer, &format!("e{index}"), "2");
        said(&balancer, &["resume", &name]);
        ask_all();
    }
    assert_eq!(newest, ["2"; 6]);
    assert_eq!(repins(&balancer, "version"), 6.0);
}

/// Stops it, and waits until its last connection has ended.
fn stop(origin: &mut Origin) {
    origin.stop();
    eventually("its connections have ended", || origin.open() == 0);
}

#[test]
fn request_that_fails_is_tried_with_the_same_version_first_and_moves_its_client_where_it_must() {
    let mut origins = [running("1"), running("2"), running("1")];
    let configuration = config(
        &origins,
        "interval = \"1h\", version_header = \"X-App-Version\"",
        &format!("{BY_VERSION}\npassive = \"off\"\nretry = {{ attempts = 4, budget_min = 1000 }}"),
    );
    let balancer = Balancer::start_with(&configuration, |directory| {
        fs::write(directory.join("affinity.key"), KEY).unwrap();
    });
    for (name, version) in [("e0", "1"), ("e1", "2"), ("e2", "1")] {
        await_version(&balancer, name, version);
    }
    let mut client = Client::new();
    while client.sees(&balancer) != "1" {
        client = Client::new();
    }
    stop(&mut origins[0]);
    for _ in 0..6 {
        assert_eq!(client.sees(&balancer), "1");
    }
    stop(&mut origins[2]);
    assert_eq!(client.sees(&balancer), "2");
    assert_eq!(repins(&balancer, "version"), 1.0);
}

#[test]
fn clients_over_http2_are_kept_with_their_version() {
    let origins = [running("1"), running("2")];
    let authority = Authority::new("test");
    let configuration = format!(
        "{}\n[listener.https]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}] }}\n",
        config(&origins, FAST, BY_VERSION)
    );
    let balancer = Balancer::start_with(&configuration, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        fs::write(directory.join("affinity.key"), KEY).unwrap();
    });
    await_version(&balancer, "e0", "1");
    await_version(&balancer, "e1", "2");
    let tls = Tls::new(&authority, HOST);
    let connection = H2::connect(balancer.address("https"), &tls);
    let first = connection.send(h2_get("/")).unwrap();
    let said = first.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(said.contains("; Secure; HttpOnly"), "{said}");
    let cookie = said.split(';').next().unwrap();
    let first_seen = first.body.unwrap();
    for _ in 0..6 {
        let mut request = h2_get("/");
        request
            .headers_mut()
            .append("cookie", cookie.parse().unwrap());
        let reply = connection.send(request).unwrap();
        assert_eq!(reply.body.unwrap(), first_seen);
    }
}

#[test]
fn forged_cookie_is_replaced_and_a_reload_forgets_no_version() {
    let origins = [running("1"), running("1")];
    let balancer = kept(&origins, "");
    let mut client = Client::new();
    client.sees(&balancer);
    let own = client.cookie.clone().unwrap();
    let mut forged = own.clone().into_bytes();
    let last = forged.len() - 1;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    client.cookie = Some(String::from_utf8(forged).unwrap());
    client.sees(&balancer);
    assert_eq!(client.cookie.as_ref(), Some(&own));
    assert_eq!(repins(&balancer, "unknown_cookie"), 1.0);
    // The version is gone; a reload between does not make its clients unknown.
    for (index, origin) in origins.iter().enumerate() {
        run(origin, "2");
        await_version(&balancer, &format!("e{index}"), "2");
    }
    let text = fs::read_to_string(balancer.directory().join("balancer.toml")).unwrap();
    balancer.reloaded(&format!("{text}\n# once more\n"));
    assert_eq!(client.sees(&balancer), "2");
    assert_eq!(repins(&balancer, "version"), 1.0);
    let seen: BTreeSet<_> = (0..4).map(|_| client.sees(&balancer)).collect();
    assert_eq!(seen.len(), 1);
}
