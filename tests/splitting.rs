//! A route shares its requests among upstreams: exactly by weight, or client by client; cookies and headers make exceptions.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::balancer::BINARY;
use crate::support::client::HOST;
use crate::support::{Balancer, Connection, Origin, get};

fn configuration(stable: &Origin, canary: &Origin, routes: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.1"]
        [upstream.stable]
        endpoints = ["{}"]
        [upstream.canary]
        endpoints = ["{}"]
        {routes}
        "#,
        stable.address(),
        canary.address()
    )
}

/// A route that shares by these weights.
fn split(stable: u16, canary: u16, more: &str) -> String {
    format!(
        "[[route]]\nsplit = [{{ upstream = \"stable\", weight = {stable} }}, {{ upstream = \"canary\", weight = {canary} }}]\n{more}"
    )
}

fn origins() -> (Origin, Origin) {
    (Origin::named("stable"), Origin::named("canary"))
}

/// Who answers a request with these further header lines.
fn ask(balancer: &Balancer, lines: &str) -> String {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}Connection: close\r\n\r\n"
    ));
    let reply = connection.reply();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.text()
}

fn ask_as(balancer: &Balancer, client: &str) -> String {
    ask(balancer, &format!("X-Forwarded-For: {client}\r\n"))
}

#[test]
fn requests_are_shared_exactly_by_weight() {
    let (stable, canary) = origins();
    let balancer = Balancer::start(&configuration(&stable, &canary, &split(3, 1, "")));
    let answers: Vec<String> = (0..40).map(|_| get(balancer.http(), "/").text()).collect();
    for four in answers.chunks(4) {
        let canaries = four.iter().filter(|answer| *answer == "canary").count();
        assert_eq!(canaries, 1, "{answers:?}");
    }
    let requests = |upstream| {
        let labels = [("upstream", upstream)];
        balancer
            .metrics()
            .sum("balancer_upstream_requests_total", &labels)
    };
    assert_eq!((requests("stable"), requests("canary")), (30.0, 10.0));
}

#[test]
fn a_reload_changes_the_shares_and_keeps_the_turn() {
    let (stable, canary) = origins();
    let balancer = Balancer::start(&configuration(&stable, &canary, &split(1, 1, "")));
    let mut before = get(balancer.http(), "/").text();
    for _ in 0..3 {
        balancer.reloaded(&configuration(&stable, &canary, &split(1, 1, "")));
        let after = get(balancer.http(), "/").text();
        assert_ne!(before, after, "they take turns");
        before = after;
    }
    balancer.reloaded(&configuration(&stable, &canary, &split(0, 1, "")));
    for _ in 0..4 {
        assert_eq!(get(balancer.http(), "/").text(), "canary");
    }
    balancer.reloaded(&configuration(&stable, &canary, &split(1, 0, "")));
    for _ in 0..4 {
        assert_eq!(get(balancer.http(), "/").text(), "stable");
    }
}

#[test]
fn clients_stay_on_their_side_and_only_the_growing_side_gains() {
    let (stable, canary) = origins();
    let by_client = |percent: u16| {
        let split = split(100 - percent, percent, "split_by = \"client\"\n");
        configuration(&stable, &canary, &split)
    };
    let clients: Vec<String> = (1..=60)
        .map(|number| format!("198.51.100.{number}"))
        .chain((1..=20).map(|number| format!("2001:db8::{number}")))
        .collect();
    let balancer = Balancer::start(&by_client(30));
    let sides = || -> BTreeMap<&str, String> {
        let sides = clients
            .iter()
            .map(|client| (&**client, ask_as(&balancer, client)));
        sides.collect()
    };
    let before = sides();
    assert_eq!(before, sides(), "the same side each time");
    let canaries = before.values().filter(|side| *side == "canary").count();
    assert!((5..60).contains(&canaries), "{canaries} of 80 are 30 %");
    balancer.reloaded(&by_client(60));
    let after = sides();
    assert_ne!(before, after);
    for (client, side) in before {
        if side == "canary" {
            assert_eq!(after[client], "canary", "{client}");
        }
    }
}

#[test]
fn an_upstream_that_is_down_keeps_its_share() {
    let (stable, mut canary) = origins();
    let balancer = Balancer::start(&configuration(&stable, &canary, &split(1, 1, "")));
    canary.stop();
    let mut statuses: Vec<u16> = (0..4).map(|_| get(balancer.http(), "/").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
}

#[test]
fn the_access_log_names_the_upstream_that_was_asked() {
    let (stable, canary) = origins();
    let configuration = format!(
        "{}[access_log]\ntarget = \"stdout\"\n",
        configuration(&stable, &canary, &split(0, 1, ""))
    );
    let balancer = Balancer::start(&configuration);
    get(balancer.http(), "/");
    crate::support::eventually("the line is there", || {
        let lines = balancer.output();
        lines
            .iter()
            .any(|line| line.contains("\"upstream\":\"canary\""))
    });
    let routes = balancer.status()["routes"].clone();
    assert_eq!(routes[0]["split"][1]["upstream"], "canary");
    assert_eq!(routes[0]["split"][1]["weight"], 1);
}

#[test]
fn cookies_and_headers_send_testers_to_the_canary() {
    let (stable, canary) = origins();
    let routes = r#"
        [[route]]
        upstream = "stable"
        [[route]]
        name = "by-cookie"
        cookies = { try = "canary" }
        upstream = "canary"
        [[route]]
        name = "by-header"
        headers = { x-try = "canary" }
        cookies = { try = "stable" }
        upstream = "canary"
    "#;
    let balancer = Balancer::start(&configuration(&stable, &canary, routes));
    for (lines, expected) in [
        ("", "stable"),
        ("Cookie: try=canary\r\n", "canary"),
        ("Cookie: a=b; try=canary; c=d\r\n", "canary"),
        ("Cookie: try=x\r\nCookie: try=canary\r\n", "canary"),
        ("Cookie: try=canaryy\r\n", "stable"),
        ("Cookie: Try=canary\r\n", "stable"),
        ("Cookie: xtry=canary\r\n", "stable"),
        ("X-Try: canary\r\n", "stable"),
        ("X-Try: canary\r\nCookie: try=stable\r\n", "canary"),
    ] {
        assert_eq!(ask(&balancer, lines), expected, "{lines:?}");
    }
}

#[test]
fn regression_no_endpoint_sees_the_affinity_cookie_of_another_upstream() {
    let (stable, canary) = origins();
    let kept = |name: &str| {
        let affinity = format!("affinity = {{ cookie = \"{name}\", key_file = \"kept.key\" }}");
        format!("[upstream.{name}]\n{affinity}")
    };
    let configuration = configuration(&stable, &canary, &split(1, 1, ""))
        .replace("[upstream.stable]", &kept("stable"))
        .replace("[upstream.canary]", &kept("canary"));
    let balancer = Balancer::start_with(&configuration, |directory| {
        std::fs::write(directory.join("kept.key"), "6".repeat(64)).unwrap();
    });
    for _ in 0..2 {
        ask(&balancer, "Cookie: stable=1; x=1; canary=1\r\n");
    }
    for origin in [&stable, &canary] {
        let asked = origin.last_request();
        assert_eq!(asked.head.field("cookie"), Some("x=1"));
    }
}

#[test]
fn explain_tells_shares_cookies_mirrors_and_pauses() {
    let (stable, canary) = origins();
    let routes = format!(
        "{}[[route]]\nname = \"testers\"\ncookies = {{ try = \"secret\" }}\nupstream = \"canary\"\n",
        split(9, 1, "split_by = \"client\"\n")
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("balancer.toml");
    let routes = routes.replacen(
        "[[route]]",
        "state = \"paused\"\n[[route]]\nmirror = { upstream = \"canary\", percent = 12.5, methods = [\"GET\", \"HEAD\"] }",
        1,
    );
    std::fs::write(&file, configuration(&stable, &canary, &routes)).unwrap();
    let output = Command::new(BINARY)
        .arg("--config")
        .arg(&file)
        .args(["explain", "GET", "/"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "split by client: 9 of 10 to upstream stable, round-robin: {}; 1 of 10 to upstream canary (paused), round-robin: {}",
        stable.address(),
        canary.address()
    );
    assert!(text.contains(&expected), "{text}");
    let mirror = "mirror    12.5 % to upstream canary, GET or HEAD, bodies of up to 64KiB";
    assert!(text.contains(mirror), "{text}");
    assert!(text.contains("testers  cookie try is missing"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
