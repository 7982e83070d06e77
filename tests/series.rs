//! What is scraped: no more series than `balancer check` says, in the format that is asked for, however many there are, and at
//! nobody's cost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::balancer::Metrics;
use crate::support::client::HOST;
use crate::support::command::{done, run};
use crate::support::{Balancer, Connection, Origin, Refusing, eventually, get};

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// As Prometheus 2.42 asks.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

fn config(origin: &Origin, refusing: &Refusing) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.other]
        address = "127.0.0.1:0"

        [upstream.app]
        endpoints = [{{ name = "11", address = "{}" }}, {{ name = "2", address = "{}" }}]
        passive = "off"

        [upstream.app1]
        endpoints = [{{ name = "1", address = "{}" }}]

        [[route]]
        name = "teapot"
        path = "/teapot"
        respond = {{ status = 418, body = "short" }}

        [[route]]
        name = "copied"
        path = "/copied"
        upstream = "app1"
        mirror = {{ upstream = "app" }}

        [[route]]
        name = "main"
        upstream = "app"
        "#,
        origin.address(),
        refusing.address(),
        origin.address(),
    )
}

/// Two numbers: with the usual mix, and with anything.
fn said(config: &str) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("balancer.toml");
    std::fs::write(&path, config).unwrap();
    let text = done(&run(&path, &["check"]));
    let line = text.lines().find(|line| line.starts_with("metrics: "));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    let numbers: Vec<usize> = line
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert!(text.contains("most of them: balancer_"), "{text}");
    (numbers[0], numbers[3])
}

fn series(metrics: &Metrics) -> usize {
    let lines = metrics.text.lines();
    lines.filter(|line| !line.starts_with('#')).count()
}

#[test]
fn busy_balancer_has_no_more_series_than_check_says() {
    let origin = Origin::with("a", |exchange| {
        let status = exchange.target().trim_start_matches("/").parse();
        exchange.respond(status.unwrap_or(200), &[], "hello")
    });
    let refusing = Refusing::new();
    let config = config(&origin, &refusing);
    let (usual, any) = said(&config);
    let balancer = Balancer::start(&config);
    let fresh = series(&balancer.metrics());
    assert!(fresh <= usual && usual < any, "{fresh}, {usual}, {any}");

    let ask = |request: String| {
        let mut connection = Connection::open(balancer.http());
        connection.send(request);
        connection.reply();
    };
    for method in ["GET", "POST", "BREW"] {
        for path in ["/200", "/404", "/503", "/teapot", "/copied", "/418"] {
            ask(format!(
                "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
    }
    for bad in [
        "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        ask(bad.to_owned());
    }
    eventually("all are counted", || {
        balancer.metrics().sum("balancer_requests_total", &[]) == 20.0
    });
    let busy = series(&balancer.metrics());
    assert!(fresh < busy && busy <= usual, "{fresh}, {busy}, {usual}");

    for status in 200..600 {
        ask(format!("GET /{status} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    }
    let hostile = series(&balancer.metrics());
    assert!(
        usual < hostile && hostile <= any,
        "{usual}, {hostile}, {any}"
    );
}

#[test]
fn regression_endpoints_whose_names_read_alike_behind_their_upstreams_are_counted_apart() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, &Refusing::new()));
    for _ in 0..3 {
        assert_eq!(get(balancer.http(), "/copied").status, 200);
    }
    eventually("all are counted", || {
        let of = [("upstream", "app1"), ("endpoint", "1")];
        balancer
            .metrics()
            .sum("balancer_upstream_requests_total", &of)
            == 3.0
    });
    let up = |upstream, endpoint| {
        let of = [("upstream", upstream), ("endpoint", endpoint)];
        balancer.metrics().find("balancer_endpoint_up", &of)
    };
    assert_eq!(up("app1", "1"), Some(1.0));
    assert_eq!(up("app", "11"), Some(1.0));
}

#[test]
fn openmetrics_is_written_for_those_who_prefer_it() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, &Refusing::new()));
    assert_eq!(get(balancer.http(), "/teapot").status, 418);
    let scrape = |accept: &str| {
        let mut connection = Connection::open(balancer.admin());
        connection.send(format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}Connection: close\r\n\r\n"
        ));
        let reply = connection.reply();
        assert_eq!(reply.status, 200);
        let kind = reply.field("content-type").unwrap_or_default().to_owned();
        (kind, reply.text())
    };
    for plain in [
        "",
        "Accept: */*\r\n",
        "Accept: text/plain\r\n",
        "Accept: nonsense\r\n",
    ] {
        let (kind, text) = scrape(plain);
        assert_eq!(kind, "text/plain; version=0.0.4", "{plain}");
        assert!(
            !text.contains("# EOF") && !text.contains("# UNIT"),
            "{plain}"
        );
    }
    let (kind, text) = scrape(&format!("Accept: {PROMETHEUS}\r\n"));
    assert_eq!(kind, OPEN);
    let (mut kinds, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut family = "";
    for line in text.strip_suffix("# EOF\n").expect("an end").lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} stands twice");
            family = name;
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(
                name == family && name.ends_with(&format!("_{unit}")),
                "{line}"
            );
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(sample), "{line} stands twice");
            let name = sample.split('{').next().unwrap();
            let suffixes: &[&str] = match kinds[family] {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "gauge" | "unknown" => &[""],
                other => panic!("{other}"),
            };
            let is_of_it = |suffix: &&str| name.strip_suffix(*suffix) == Some(family);
            assert!(suffixes.iter().any(is_of_it), "{line} is not of {family}");
        }
    }
    assert_eq!(kinds["balancer_requests"], "counter");
    assert_eq!(kinds["balancer_connections"], "gauge");
    assert_eq!(
        kinds["balancer_connections_total"], "unknown",
        "names are unique"
    );
    // The same series in both, whichever is asked for.
    let names = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
        names.collect()
    };
    assert_eq!(names(&scrape("").1), names(&text));
}

#[test]
fn build_and_configuration_in_use_are_told() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, &Refusing::new()));
    let hash = |metrics: &Metrics| {
        let lines = metrics.text.lines();
        let of: Vec<_> = lines
            .filter_map(|line| line.strip_prefix("balancer_config_hash_info{hash=\""))
            .collect();
        assert_eq!(of.len(), 1, "{of:?}");
        of[0].split('"').next().unwrap().to_owned()
    };
    let metrics = balancer.metrics();
    let build = metrics
        .text
        .lines()
        .find(|line| line.starts_with("balancer_build_info{"));
    let build = build.expect("the build");
    assert!(
        build.contains("rustc=\"1.") && build.ends_with(" 1"),
        "{build}"
    );
    let before = hash(&metrics);
    let file = balancer.directory().join("balancer.toml");
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    assert!(String::from_utf8(sum.stdout).unwrap().starts_with(&before));
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("# changed\n");
    balancer.reloaded(&text);
    eventually("the hash is another", || {
        hash(&balancer.metrics()) != before
    });
}

/// 200 routes and `endpoints` in 10 upstreams.
fn large(endpoints: usize) -> String {
    let mut text = "[listener.http]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for upstream in 0..10 {
        let _ = writeln!(text, "[upstream.u{upstream}]\nendpoints = [");
        for endpoint in 0..endpoints / 10 {
            let _ = writeln!(text, "\"127.0.{}.{}:9\",", upstream + 1, endpoint + 1);
        }
        text.push_str("]\n");
    }
    for route in 0..200 {
        let upstream = route % 10;
        let _ = writeln!(
            text,
            "[[route]]\npath = \"/r{route}\"\nupstream = \"u{upstream}\""
        );
    }
    text
}

/// How long the fastest of a few scrapes takes.
fn scraped(endpoints: usize) -> (Duration, usize) {
    let balancer = Balancer::start(&large(endpoints));
    let once = || {
        let begun = Instant::now();
        let reply = balancer.ask("/metrics");
        (begun.elapsed(), reply.body.bytes.len())
    };
    (0..10).map(|_| once()).min().expect("some")
}

#[test]
fn scrape_of_many_endpoints_is_whole() {
    let (_, bytes) = scraped(200);
    assert!(bytes > 200 * 50 * 60, "{bytes}");
}

#[test]
#[ignore = "a figure: `cargo test --release --test balancer scrape_of_1000 -- --ignored --nocapture`, on a quiet machine"]
fn scrape_of_1000_endpoints_and_200_routes_takes_less_than_50_ms() {
    let (fastest, bytes) = scraped(1000);
    println!("{fastest:?} for {bytes} bytes");
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}
