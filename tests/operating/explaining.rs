//! `explain --live`: it tells what then happens, for ten thousand requests of every kind, and why endpoints are passed over.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use balancer::admin::explain::{Asked, Explained, explain};
use balancer::config;
use balancer::metrics::Metrics;
use balancer::snapshot::Snapshot;
use balancer::snapshot::compile::{Compiler, apply};
use balancer::tls::Tickets;
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use super::{ask, command, config as simple, done, told};
use crate::support::{Balancer, Connection, Origin, Reply, get};

/// Upstreams with every policy whose choice is fixed by the request, and some whose is not; each with endpoints `1` to `4` of
/// which `3` drains and `4` is a backup.
const UPSTREAMS: [(&str, &str); 8] = [
    ("turns", ""),
    ("least", "policy = \"least-connections\""),
    ("chance", "policy = \"random\""),
    (
        "by-user",
        "policy = \"hash\"\nhash = { key = \"header:x-user\" }",
    ),
    (
        "by-sid",
        "policy = \"hash\"\nhash = { key = \"cookie:sid\" }",
    ),
    ("by-path", "policy = \"hash\"\nhash = { key = \"path\" }"),
    (
        "by-item",
        "policy = \"hash\"\nhash = { key = \"query:item\" }",
    ),
    (
        "by-client",
        "policy = \"hash\"\nhash = { key = \"client-address\" }",
    ),
];

const ROUTES: &str = r#"
[listener.http]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.0/8"]
[listener.plain]
address = "127.0.0.1:0"
[listener.moved]
address = "127.0.0.1:0"
redirect_to_https = true
[[route]]
name = "admin"
path = "/admin"
exclusive = true
upstream = "least"
[[route]]
name = "everything"
upstream = "turns"
[[route]]
name = "api"
path = "/api"
upstream = "by-user"
[[route]]
name = "api-writes"
path = "/api"
methods = ["POST", "PUT"]
upstream = "by-item"
[[route]]
name = "exact"
path_exact = "/api/v1"
upstream = "by-path"
[[route]]
name = "digits"
path_regex = "^/[0-9]+/"
upstream = "chance"
[[route]]
name = "shop"
hosts = ["shop.test", "*.shop.test"]
upstream = "by-sid"
[[route]]
name = "shop-api"
hosts = ["*.shop.test"]
path = "/api"
upstream = "by-client"
[[route]]
name = "blue"
headers = { x-team = "blue" }
path = "/team"
upstream = "by-item"
[[route]]
name = "tester"
cookies = { try = "new" }
methods = ["GET", "POST"]
path = "/team"
upstream = "by-path"
[[route]]
name = "split"
path = "/split"
split = [{ upstream = "by-path", weight = 3 }, { upstream = "by-user", weight = 1 }]
split_by = "client"
[[route]]
name = "turnwise"
path = "/split/turns"
split = [{ upstream = "by-path", weight = 3 }, { upstream = "by-user", weight = 1 }]
[[route]]
name = "rewritten"
path = "/old"
rewrite = { prefix = "/" }
upstream = "by-path"
[[route]]
name = "elsewhere"
path = "/gone"
redirect = { to = "/new" }
[[route]]
name = "fixed"
path = "/fixed"
respond = { status = 418, body = "short" }
[[route]]
name = "of-plain"
listeners = ["plain"]
path = "/team"
upstream = "least"
[[route]]
name = "kept"
path = "/kept"
upstream = "kept"
[[route]]
name = "out"
path = "/out"
upstream = "out"
"#;

/// Every route tells its name in a field of responses.
fn configuration(origins: &[(String, Origin)]) -> String {
    let mut text = String::new();
    for line in ROUTES.lines() {
        text.push_str(line);
        text.push('\n');
        if let Some(name) = line.strip_prefix("name = ") {
            text.push_str(&format!(
                "response_headers = {{ set = {{ x-route = {name} }} }}\n"
            ));
        }
    }
    let affinity = (
        "kept",
        "affinity = { cookie = \"stay\", key_file = \"affinity.key\" }",
    );
    for (upstream, keys) in UPSTREAMS.iter().chain([&affinity]) {
        let of_it = origins
            .iter()
            .filter(|(name, _)| name.starts_with(&format!("{upstream}.")));
        let endpoints: Vec<_> = of_it
            .map(|(name, origin)| {
                let more = match name.rsplit_once('.') {
                    Some((_, "3")) => ", state = \"draining\"",
                    Some((_, "4")) => ", backup = true",
                    _ => "",
                };
                format!(
                    "{{ name = \"{name}\", address = \"{}\"{more} }}",
                    origin.address()
                )
            })
            .collect();
        text.push_str(&format!(
            "[upstream.{upstream}]\n{keys}\nendpoints = [{}]\n",
            endpoints.join(", ")
        ));
    }
    text.push_str(
        "[upstream.out]\nendpoints = [{ address = \"127.0.0.1:9\", state = \"disabled\" }]\n",
    );
    text
}

struct Setting {
    balancer: Balancer,
    /// The same configuration, in this process.
    snapshot: Snapshot,
    _origins: Vec<(String, Origin)>,
}

impl Setting {
    fn start() -> Self {
        let names = UPSTREAMS.iter().map(|(name, _)| *name).chain(["kept"]);
        let origins: Vec<_> = names
            .flat_map(|upstream| (1..=4).map(move |number| format!("{upstream}.{number}")))
            .map(|name| (name.clone(), Origin::named(&name)))
            .collect();
        let balancer = Balancer::start_with(&configuration(&origins), |directory| {
            fs::write(directory.join("affinity.key"), "0123456789abcdef".repeat(4)).unwrap();
        });
        Self {
            snapshot: snapshot(&balancer.directory().join("balancer.toml")),
            balancer,
            _origins: origins,
        }
    }
}

fn snapshot(file: &Path) -> Snapshot {
    let config = config::load(file).unwrap_or_else(|errors| panic!("{errors}"));
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    let compiled = compiler.compile(&config, None);
    let snapshot = compiled
        .unwrap_or_else(|errors| panic!("{errors}"))
        .snapshot;
    apply(&snapshot, &config);
    snapshot
}

/// One of the requests, as a client would make it.
struct Made {
    listener: &'static str,
    method: &'static str,
    host: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
}

/// Numbers that look random and are the same every time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

impl Made {
    fn at_random(numbers: &mut Numbers, cookies: &[String]) -> Self {
        let mut path = numbers
            .one(&[
                "",
                "/admin",
                "//admin",
                "/%61dmin",
                "/ADMIN",
                "/administrator",
                "/x/../admin",
                "/x/%2e%2e/admin",
                "/admin;x",
                "/api",
                "/api/v1",
                "/API",
                "/api/",
                "/4711/",
                "/4711",
                "/team",
                "/split",
                "/split/turns",
                "/old",
                "/old/admin",
                "/old/x",
                "/gone",
                "/fixed",
                "/kept",
                "/kept",
                "/out",
                "/%zz",
                "/a/../..",
                "/%2fadmin",
                "/x%5cy",
            ])
            .to_owned();
        path.push_str(numbers.one(&[
            "", "", "/", "/x", "/y/z", "/%7Eme", "/a%2Fb", "/..", "//", "/x;y", "/v1",
        ]));
        if path.is_empty() {
            path.push('/');
        }
        let query = [
            "",
            "?",
            "?item=1",
            "?x=y&item=22",
            "?item=",
            "?item=333&item=4",
        ];
        let mut made = Self {
            listener: numbers.one(&["http", "http", "http", "plain", "plain", "moved"]),
            method: numbers.one(&["GET", "GET", "POST", "PUT", "DELETE", "OPTIONS"]),
            host: numbers.one(&[
                "a.test",
                "shop.test",
                "www.shop.test",
                "a.b.shop.test",
                "SHOP.test.",
                "shop.test:8080",
                "[::1]",
            ]),
            target: path + numbers.one(&query[..]),
            fields: Vec::new(),
        };
        let user = numbers.below(50).to_string();
        let client = format!("192.0.2.{}", numbers.below(256));
        let sid = format!("sid={}", numbers.below(50));
        let stay = &cookies[numbers.below(cookies.len())];
        for (name, value) in [
            ("x-user", &*user),
            ("x-team", numbers.one(&["blue", "green"])),
            ("x-forwarded-for", &*client),
            ("cookie", &*sid),
            ("cookie", "a=b; try=new"),
            ("cookie", numbers.one(&["try=old", "sid="])),
            ("cookie", &**stay),
            ("cookie", "stay=forged"),
        ] {
            if numbers.below(3) == 0 {
                made.fields.push((name, value.to_owned()));
            }
        }
        made
    }

    fn asked(&self) -> Asked {
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let mut asked = Asked::new(method, &self.target);
        asked.listener = Some(self.listener.to_owned());
        asked.headers.append("host", self.host.parse().unwrap());
        for (name, value) in &self.fields {
            let value: HeaderValue = value.parse().unwrap();
            asked.headers.append(HeaderName::from_static(name), value);
        }
        asked
    }

    fn bytes(&self) -> String {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n"
    }
}

/// Whether the choice between endpoints is fixed by what a request says.
fn is_fixed(explained: &Explained) -> bool {
    let forward = explained.forward.as_ref().unwrap();
    forward.by == "affinity" || forward.by.starts_with("hash")
}

/// What is told must have happened.
#[track_caller]
fn compare(made: &Made, explained: &Explained, reply: &Reply) {
    let context = || format!("{}\n{explained:#?}\n{reply:?}", made.bytes());
    let route = reply.head.field("x-route");
    assert_eq!(route, explained.route.as_deref(), "{}", context());
    if let Some(answer) = &explained.answer {
        assert_eq!(reply.status, answer.status, "{}", context());
        return;
    }
    assert_eq!(reply.status, 200, "{}", context());
    let forward = explained.forward.as_ref().unwrap();
    let by = reply.text();
    let (upstream, _) = by.split_once('.').expect("an origin has answered");
    if explained.route.as_deref() == Some("turnwise") {
        return; // whose turn it is, is not known here
    }
    assert_eq!(upstream, forward.upstream, "{}", context());
    if is_fixed(explained) {
        assert_eq!(Some(&*by), forward.endpoint.as_deref(), "{}", context());
    }
    let found = forward
        .candidates
        .iter()
        .find(|it| it.endpoint == by)
        .unwrap();
    assert_eq!(found.why_not, None, "{}", context());
}

/// `count` requests over connections that are kept, each explained and made.
fn agree(setting: &Setting, count: usize) {
    let Setting {
        balancer, snapshot, ..
    } = setting;
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let cookies: Vec<_> = (0..8).map(|_| cookie(balancer)).collect();
    let mut connections: Vec<(&str, Connection)> = Vec::new();
    let (mut answered, mut fixed) = (0, 0);
    for _ in 0..count {
        let made = Made::at_random(&mut numbers, &cookies);
        let explained = explain(snapshot, &made.asked()).unwrap();
        let place = connections
            .iter()
            .position(|(name, _)| *name == made.listener);
        let (_, mut connection) = place.map_or_else(
            || {
                (
                    made.listener,
                    Connection::open(balancer.address(made.listener)),
                )
            },
            |place| connections.swap_remove(place),
        );
        connection.send(made.bytes());
        let reply = connection
            .try_reply(made.method)
            .unwrap_or_else(|error| panic!("{}: {error}", made.bytes()));
        compare(&made, &explained, &reply);
        answered += usize::from(explained.answer.is_some());
        fixed += usize::from(explained.answer.is_none() && is_fixed(&explained));
        if reply.head.field("connection") != Some("close") {
            connections.push((made.listener, connection));
        }
    }
    // The requests are of all kinds.
    assert!(
        answered > count / 10 && fixed > count / 10,
        "{answered} {fixed}"
    );
}

/// What keeps a client with an endpoint of `kept`.
fn cookie(balancer: &Balancer) -> String {
    let reply = get(balancer.address("http"), "/kept");
    let cookie = reply.head.field("set-cookie").expect("a cookie");
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn what_is_explained_is_what_happens() {
    agree(&Setting::start(), 2_500);
}

#[test]
#[ignore = "10,000 requests take several seconds; the same test with fewer is not ignored"]
fn what_is_explained_is_what_happens_ten_thousand_times() {
    agree(&Setting::start(), 10_000);
}

#[test]
fn endpoint_that_is_told_is_the_one_the_next_request_gets() {
    let setting = Setting::start();
    let balancer = &setting.balancer;
    for path in ["/", "/1/", "/api", "/split/turns", "/team"] {
        for _ in 0..8 {
            let (status, told) = ask(
                balancer,
                "GET",
                &format!("/api/v1/explain?url={}", path.replace('/', "%2F")),
                "",
            );
            // Asking takes nobody's turn.
            assert_eq!(status, 200, "{told}");
            let reply = get(balancer.address("http"), path);
            assert_eq!(told["forward"]["endpoint"], reply.text(), "{told}");
        }
    }
}

#[test]
fn candidates_are_told_with_what_speaks_against_them() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let text = simple(&[&a, &b], ", max_in_flight = 1", "");
    let balancer = Balancer::start(&text);
    done(&command(&balancer, &["drain", "app/b"]));
    let said = done(&command(
        &balancer,
        &[
            "explain",
            "GET",
            "http://a.test/x",
            "--live",
            "-H",
            "x-a: b",
        ],
    ));
    assert!(
        said.starts_with("request     GET http://a.test/x\ngeneration  1\n"),
        "{said}"
    );
    for line in [
        "upstream    app, round-robin\n",
        "endpoint    a, by round-robin\n",
        "  a         unchecked  0          1\n",
        "  b         draining   0          1       draining\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    done(&command(&balancer, &["drain", "app/a", "--force"]));
    let (code, said) = told(&command(
        &balancer,
        &["explain", "GET", "http://a.test/x", "--live"],
    ));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("refused     503, no endpoint may be asked\n"),
        "{said}"
    );
    let json = command(
        &balancer,
        &[
            "explain",
            "GET",
            "/x",
            "--live",
            "--json",
            "--client",
            "192.0.2.1",
        ],
    );
    let explained: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(explained["answer"]["status"], 503);
    assert_eq!(explained["client"], "192.0.2.1");
    assert_eq!(explained["forward"]["candidates"][0]["why_not"], "draining");
}

#[test]
fn what_is_no_question_is_refused() {
    let a = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&a], "", ""));
    for (arguments, reason) in [
        (
            &["ftp://x/"][..],
            "url must begin with http://, https:// or /, got ftp://x/",
        ),
        (
            &["/", "--listener", "x"],
            "there is no listener x; there is http",
        ),
        (&["/", "-H", "x"], "header must be 'name: value', got \"x\""),
        (&["http://a b/"], "a b is not a host"),
        (&["http:///x"], "url must name a host, got http:///x"),
    ] {
        let arguments = [&["explain", "GET", "--live"], arguments].concat();
        let (code, said) = told(&command(&balancer, &arguments));
        assert_eq!((code, said), (Some(1), format!("balancer: {reason}\n")));
    }
    let (status, problem) = ask(&balancer, "GET", "/api/v1/explain?colour=red", "");
    assert_eq!(status, 400, "{problem}");
    let (status, problem) = ask(&balancer, "GET", "/api/v1/explain?url=/&url=/x", "");
    assert_eq!(status, 400, "{problem}");
    // Read-only: over TCP as well.
    assert_eq!(balancer.ask("/api/v1/explain?url=/").status, 200);
}
