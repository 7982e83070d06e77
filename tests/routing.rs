//! Routing (semantics §12): one canonical spelling is matched and forwarded, the most specific route wins, and no
//! spelling of an exclusive path reaches anyone but its owner.

use std::collections::BTreeSet;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frames};
use crate::support::{Balancer, Connection, Origin, Reply, get};

/// Sends one raw request line and host.
fn ask(balancer: &Balancer, request_line: &str, fields: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!("{request_line} HTTP/1.1\r\n{fields}\r\n"));
    connection.reply()
}

/// The body of the answer to a `GET` of `path` on `host`, or the status where that is not 200.
fn answer(balancer: &Balancer, host: &str, path: &str) -> String {
    let reply = ask(
        balancer,
        &format!("GET {path}"),
        &format!("Host: {host}\r\n"),
    );
    if reply.status == 200 {
        reply.text()
    } else {
        reply.status.to_string()
    }
}

/// A configuration whose routes answer by themselves, with their own name: `(name, matchers)`.
fn responding(routes: &[(&str, &str)]) -> String {
    let mut config = "[listener.http]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for (name, matchers) in routes {
        config.push_str(&format!("[[route]]\nname = \"{name}\"\n{matchers}\nrespond = {{ status = 200, body = \"{name}\" }}\n"));
    }
    config
}

/// Who gets a request, and as what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    Authority(&'static str),
    App(&'static str),
    Refused,
}

use Expected::{App, Refused};

/// The table of semantics §12, in front of an exclusive `/admin`.
const SPELLINGS: &[(&str, Expected)] = &[
    ("/admin", Expected::Authority("/admin")),
    ("/admin/", Expected::Authority("/admin/")),
    ("/admin/x", Expected::Authority("/admin/x")),
    ("/admin?x=1", Expected::Authority("/admin?x=1")),
    ("/administrator", App("/administrator")),
    ("/admin-x", App("/admin-x")),
    ("//admin", Expected::Authority("/admin")),
    ("///admin//x", Expected::Authority("/admin/x")),
    ("/%61dmin", Expected::Authority("/admin")),
    ("/%61%64%6D%69%6e", Expected::Authority("/admin")),
    ("/x/../admin", Expected::Authority("/admin")),
    ("/x/%2e%2e/admin", Expected::Authority("/admin")),
    ("/x/%2E./admin", Expected::Authority("/admin")),
    ("/./admin", Expected::Authority("/admin")),
    ("/admin/../x", App("/x")),
    ("/admin/%2e%2e/x", App("/x")),
    ("/x%2f..%2fadmin", Refused),
    ("/x%2F..%2Fadmin", Refused),
    ("/x%5c..%5cadmin", Refused),
    ("/%2fadmin", Refused),
    ("/admin%2fx", Refused),
    ("/ADMIN", Refused),
    ("/Admin/x", Refused),
    ("/%41dmin", Refused),
    ("/admin;x", Refused),
    ("/admin;x/y", Refused),
    ("/x/..;/admin", Refused),
    ("/;x/admin", Refused),
    ("/%2561dmin", Refused),
    ("/%252561dmin", Refused),
    ("/admin.", Refused),
    ("/admin%20", Refused),
    ("/%20admin", Refused),
    ("/admin%C2%A0", Refused),
    ("/admin%C2%85", Refused),
    ("/admin%A0", Refused),
    ("/admin%85", Refused),
    ("/adm%C4%B1n", Refused),
    ("/adm%C4%B0n", Refused),
    ("/%EF%BD%81dmin", Refused),
    ("/x%EF%BC%8F..%EF%BC%8Fadmin", Refused),
    ("/x/%EF%BC%8E%EF%BC%8E/admin", Refused),
    ("/%EF%BC%8561dmin", Refused),
    ("/x%C0%AFadmin", Refused),
    ("/x%E0%80%AFadmin", Refused),
    ("/..", Refused),
    ("/../admin", Refused),
    ("/x/../../admin", Refused),
    ("/%2e%2e/admin", Refused),
    ("/x%00", Refused),
    ("/admin%00", Refused),
    ("/x%0a", Refused),
    ("/x%0d%0aadmin", Refused),
    ("/x%7f", Refused),
    ("/%", Refused),
    ("/%6", Refused),
    ("/%zz", Refused),
    ("/x?q=/../admin", App("/x?q=/../admin")),
    ("/x?q=%2Fadmin;%zz", App("/x?q=%2Fadmin;%zz")),
    ("/X", App("/X")),
    ("/x;y", App("/x;y")),
    ("/x%20y", App("/x%20y")),
    ("/caf%C3%A9", App("/caf%C3%A9")),
    ("/%E4%B8%AD%E6%96%87", App("/%E4%B8%AD%E6%96%87")),
];

fn exclusive_admin(authority: &Origin, app: &Origin, listener: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        {listener}

        [upstream.app]
        endpoints = ["{}"]

        [upstream.authority]
        endpoints = ["{}"]

        [[route]]
        name = "admin"
        path = "/admin"
        upstream = "authority"
        exclusive = true

        [[route]]
        name = "app"
        path = "/"
        upstream = "app"
        "#,
        app.address(),
        authority.address()
    )
}

/// Who was asked since the last time, and for what.
struct Watch<'a> {
    authority: &'a Origin,
    app: &'a Origin,
    seen: [usize; 2],
}

impl Watch<'_> {
    fn news(&mut self) -> Vec<(&'static str, String)> {
        let mut news = Vec::new();
        for (index, (name, origin)) in [("authority", self.authority), ("app", self.app)]
            .into_iter()
            .enumerate()
        {
            let requests = origin.requests();
            news.extend(
                requests[self.seen[index]..]
                    .iter()
                    .map(|request| (name, request.target().to_owned())),
            );
            self.seen[index] = requests.len();
        }
        news
    }

    #[track_caller]
    fn assert(&mut self, input: &str, expected: Expected, status: u16) {
        let news = self.news();
        let (expected_status, expected_news) = match expected {
            Expected::Authority(target) => (200, vec![("authority", target.to_owned())]),
            App(target) => (200, vec![("app", target.to_owned())]),
            Refused => (400, vec![]),
        };
        assert_eq!((status, news), (expected_status, expected_news), "{input}");
    }
}

#[test]
fn no_spelling_of_an_exclusive_path_reaches_anyone_but_its_owner() {
    let (authority, app) = (Origin::named("authority"), Origin::named("app"));
    let balancer = Balancer::start(&exclusive_admin(&authority, &app, ""));
    let mut watch = Watch {
        authority: &authority,
        app: &app,
        seen: [0; 2],
    };
    for (path, expected) in SPELLINGS {
        let reply = ask(&balancer, &format!("GET {path}"), "Host: app.test\r\n");
        watch.assert(path, *expected, reply.status);
        if *expected == Refused {
            reply.assert_made_by_balancer(400);
        }
    }
    assert!(
        balancer.metrics().sum("balancer_ambiguous_path_total", &[]) >= 8.0,
        "refused spellings are counted"
    );
}

#[test]
fn no_spelling_of_an_exclusive_path_reaches_anyone_but_its_owner_over_http_2() {
    let (authority, app) = (Origin::named("authority"), Origin::named("app"));
    let signer = Authority::new("test");
    let tls = "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let balancer = Balancer::start_with(&exclusive_admin(&authority, &app, tls), |directory| {
        signer.issue(&[HOST]).write(directory, "server")
    });
    let mut frames = Frames::open(balancer.address("https"), &Tls::new(&signer, HOST));
    let mut watch = Watch {
        authority: &authority,
        app: &app,
        seen: [0; 2],
    };
    for (index, (path, expected)) in SPELLINGS.iter().enumerate() {
        let stream = u32::try_from(index).unwrap() * 2 + 1;
        frames.request(
            stream,
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", HOST),
                (":path", path),
            ],
        );
        let Ending::Reply(status, _) = frames.ending(stream) else {
            panic!("{path}: no reply")
        };
        watch.assert(path, *expected, status);
    }
}

#[test]
fn absolute_form_is_routed_by_its_path_alone() {
    let (authority, app) = (Origin::named("authority"), Origin::named("app"));
    let balancer = Balancer::start(&exclusive_admin(&authority, &app, ""));
    let mut watch = Watch {
        authority: &authority,
        app: &app,
        seen: [0; 2],
    };
    for (target, expected) in [
        ("http://h/admin", Expected::Authority("/admin")),
        ("http://h/%61dmin/x", Expected::Authority("/admin/x")),
        ("http://h/x", App("/x")),
        ("http://h", App("/")),
        ("http://h?q", App("/?q")),
        ("http://h/ADMIN", Refused),
    ] {
        let reply = ask(&balancer, &format!("GET {target}"), "Host: h\r\n");
        watch.assert(target, expected, reply.status);
    }
}

#[test]
fn target_that_is_no_path_is_refused() {
    let (authority, app) = (Origin::named("authority"), Origin::named("app"));
    let balancer = Balancer::start(&exclusive_admin(&authority, &app, ""));
    for line in [
        "GET admin",
        "GET *",
        "GET ?x",
        "GET /a b",
        "GET /a\\..\\admin",
        "GET \\admin",
        "GET /a#b",
        "GET /admin#",
        "GET /\u{e4}",
        "GET /a\u{1}",
        "GET /a\tb",
        "GET  /a",
        "GET",
        "G@T /",
        "GET \u{7f}",
    ] {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!("{line} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        let reply = connection
            .try_reply("GET")
            .unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(reply.status, 400, "{line:?}: {reply:?}");
    }
    assert_eq!(get(balancer.http(), "/good").status, 200);
    assert_eq!(
        (app.request_count(), authority.request_count()),
        (1, 0),
        "only the good one was passed on"
    );
}

#[test]
fn without_exclusive_routes_encoded_slashes_stay_encoded_and_opaque() {
    let app = Origin::named("app");
    let config = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nupstream = \"app\"\n\
         [[route]]\npath = \"/x/y\"\nrespond = {{ status = 418 }}",
        app.address()
    );
    let balancer = Balancer::start(&config);
    for (path, forwarded) in [
        ("/x%2fy", "/x%2Fy"),
        ("/x%2F..%2fy", "/x%2F..%2Fy"),
        ("/x%5cy", "/x%5Cy"),
        ("/%7Euser/%2d%5F%2E", "/~user/-_."),
        ("/a//b/./c/../d", "/a/b/d"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/%e4%bd%a0", "/%E4%BD%A0"),
        ("/A/b", "/A/b"),
        ("/", "/"),
        ("/a?", "/a?"),
        ("/a?b=%2e%2E//%61", "/a?b=%2e%2E//%61"),
    ] {
        assert_eq!(get(balancer.http(), path).status, 200, "{path}");
        assert_eq!(app.last_request().target(), forwarded, "{path}");
    }
    assert_eq!(get(balancer.http(), "/x/y").status, 418);
}

#[test]
fn hosts_are_matched_exactly_then_by_the_longest_wildcard_then_at_all() {
    let balancer = Balancer::start(&responding(&[
        ("any", ""),
        ("wide", "hosts = [\"*.example.test\"]"),
        ("narrow", "hosts = [\"*.deep.example.test\"]"),
        ("exact", "hosts = [\"one.example.test\", \"other.test\"]"),
    ]));
    for (host, expected) in [
        ("one.example.test", "exact"),
        ("ONE.Example.TEST", "exact"),
        ("one.example.test:8080", "exact"),
        ("one.example.test.", "exact"),
        ("other.test", "exact"),
        ("two.example.test", "wide"),
        ("a.b.example.test", "wide"),
        ("x.deep.example.test", "narrow"),
        ("y.x.deep.example.test:80", "narrow"),
        ("deep.example.test", "wide"),
        ("example.test", "any"),
        ("notexample.test", "any"),
        ("unknown", "any"),
        ("127.0.0.1", "any"),
        ("[::1]:80", "any"),
    ] {
        assert_eq!(answer(&balancer, host, "/"), expected, "{host}");
    }
}

#[test]
fn host_beats_path() {
    let balancer = Balancer::start(&responding(&[
        ("path", "path = \"/very/long\""),
        ("host", "hosts = [\"one.test\"]"),
    ]));
    assert_eq!(answer(&balancer, "one.test", "/very/long"), "host");
    assert_eq!(answer(&balancer, "two.test", "/very/long"), "path");
    assert_eq!(answer(&balancer, "two.test", "/"), "404");
}

#[test]
fn paths_are_matched_exactly_then_exclusively_then_by_regex_then_by_the_longest_prefix() {
    let balancer = Balancer::start(&responding(&[
        ("root", "path = \"/\""),
        ("prefix", "path = \"/a\""),
        ("longer", "path = \"/a/b\""),
        ("first-regex", "path_regex = \"^/a/b/[0-9]+$\""),
        ("second-regex", "path_regex = \"^/a/.*/7\""),
        ("greedy-regex", "path_regex = \"^/own\""),
        ("exact", "path_exact = \"/a/b/1\""),
        ("own", "path = \"/own\"\nexclusive = true"),
        ("exact-in-own", "path_exact = \"/own/exact\""),
    ]));
    for (path, expected) in [
        ("/", "root"),
        ("/b", "root"),
        ("/ab", "root"),
        ("/a", "prefix"),
        ("/a/", "prefix"),
        ("/a/bc", "prefix"),
        ("/a/b", "longer"),
        ("/a/b/c", "longer"),
        ("/a/b/1", "exact"),
        ("/a/b/1/", "longer"),
        ("/a/b/2", "first-regex"),
        ("/a/b/7", "first-regex"),
        ("/a/c/7", "second-regex"),
        ("/own", "own"),
        ("/own/x", "own"),
        ("/own/exact", "exact-in-own"),
        ("/ownership", "greedy-regex"),
        ("/x/../a/./b/%31", "exact"),
    ] {
        assert_eq!(answer(&balancer, "any.test", path), expected, "{path}");
    }
}

#[test]
fn methods_and_headers_narrow_a_route_and_more_of_them_win() {
    let balancer = Balancer::start(&responding(&[
        ("plain", "path = \"/a\""),
        ("write", "path = \"/a\"\nmethods = [\"POST\", \"PUT\"]"),
        (
            "beta",
            "path = \"/a\"\nmethods = [\"GET\"]\nheaders = { X-Beta = \"yes\" }",
        ),
        (
            "beta-write",
            "path = \"/a\"\nmethods = [\"POST\"]\nheaders = { X-Beta = \"yes\" }",
        ),
        ("only-post", "path = \"/b\"\nmethods = [\"POST\"]"),
    ]));
    let ask = |line: &str, fields: &str| {
        let reply = ask(&balancer, line, &format!("Host: app.test\r\n{fields}"));
        if reply.status == 200 {
            reply.text()
        } else {
            reply.status.to_string()
        }
    };
    assert_eq!(ask("GET /a", ""), "plain");
    assert_eq!(ask("DELETE /a", ""), "plain");
    assert_eq!(ask("POST /a", ""), "write");
    assert_eq!(ask("PUT /a", ""), "write");
    assert_eq!(ask("GET /a", "x-beta: yes\r\n"), "beta");
    assert_eq!(ask("GET /a", "X-Beta: no\r\n"), "plain");
    assert_eq!(ask("POST /a", "X-Beta: yes\r\n"), "beta-write");
    assert_eq!(ask("PUT /a", "X-Beta: yes\r\n"), "write");
    assert_eq!(ask("POST /b", ""), "only-post");
    assert_eq!(ask("GET /b", ""), "404");
    assert_eq!(ask("post /b", ""), "404", "methods are case-sensitive");
}

#[test]
fn route_may_be_bound_to_listeners() {
    let config = responding(&[
        ("everywhere", ""),
        ("inside", "path = \"/inside\"\nlisteners = [\"internal\"]"),
    ]);
    let balancer = Balancer::start(&format!(
        "[listener.internal]\naddress = \"127.0.0.1:0\"\n{config}"
    ));
    assert_eq!(
        get(balancer.address("internal"), "/inside").text(),
        "inside"
    );
    assert_eq!(get(balancer.address("internal"), "/").text(), "everywhere");
    assert_eq!(
        get(balancer.address("http"), "/inside").text(),
        "everywhere"
    );
}

#[test]
fn request_without_a_route_gets_404_from_the_balancer() {
    let balancer = Balancer::start(&responding(&[("a", "path = \"/a\"")]));
    get(balancer.http(), "/b").assert_made_by_balancer(404);
    assert_eq!(get(balancer.http(), "/a").status, 200);
}

#[test]
fn traffic_listeners_do_not_answer_admin_paths() {
    let balancer = Balancer::start(&responding(&[("a", "path = \"/a\"")]));
    for path in ["/metrics", "/livez", "/readyz", "/api/v1/status"] {
        assert_eq!(
            balancer.ask(path).status,
            200,
            "{path} on the admin listener"
        );
        assert_eq!(
            get(balancer.http(), path).status,
            404,
            "{path} on a traffic listener"
        );
    }
    assert_eq!(
        balancer.ask("/a").status,
        404,
        "the admin listener does not forward"
    );
}

#[test]
fn redirect_fills_in_host_path_and_query() {
    let balancer = Balancer::start(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [[route]]
        path = "/whole"
        redirect = { to = "https://{host}{path}{query}" }
        [[route]]
        path = "/moved"
        redirect = { to = "/new{path}", status = 301 }
        [[route]]
        path = "/plain"
        redirect = { to = "https://other.test/", status = 302 }
        "#,
    );
    for (path, status, location) in [
        ("/whole/x?y=%2Fz", 308, "https://app.test/whole/x?y=%2Fz"),
        ("/whole", 308, "https://app.test/whole"),
        ("//whole/./x", 308, "https://app.test/whole/x"),
        ("/moved/x?y", 301, "/new/moved/x"),
        ("/plain/x?y", 302, "https://other.test/"),
    ] {
        let reply = get(balancer.http(), path);
        assert_eq!(
            (reply.status, reply.field("location")),
            (status, Some(location)),
            "{path}"
        );
    }
}

#[test]
fn response_of_a_route_is_given_as_configured() {
    let balancer = Balancer::start(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [[route]]
        respond = { status = 418, body = "short and stout", headers = { Content-Type = "text/plain", X-Pot = "tea" } }
        [[route]]
        path = "/empty"
        respond = {}
        "#,
    );
    let reply = get(balancer.http(), "/");
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (418, "short and stout")
    );
    assert_eq!(
        (reply.field("content-type"), reply.field("x-pot")),
        (Some("text/plain"), Some("tea"))
    );
    let reply = get(balancer.http(), "/empty");
    assert_eq!((reply.status, reply.text().as_str()), (200, ""));
    let mut connection = Connection::open(balancer.http());
    connection.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(connection.try_reply("HEAD").unwrap().status, 418);
    assert_eq!(connection.get("/empty").status, 200);
    connection.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(connection.reply().status, 418);
}

#[test]
fn plain_listener_may_redirect_everything_to_https() {
    let origin = Origin::named("a");
    let config = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\nredirect_to_https = true\n[upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nupstream = \"app\"",
        origin.address()
    );
    let balancer = Balancer::start(&config);
    for line in ["GET /x?y=1", "POST /x?y=1"] {
        let reply = ask(&balancer, line, "Host: app.test\r\nContent-Length: 0\r\n");
        assert_eq!(
            (reply.status, reply.field("location")),
            (308, Some("https://app.test/x?y=1")),
            "{line}"
        );
    }
    assert_eq!(origin.request_count(), 0);
}

#[test]
fn ten_thousand_routes_are_told_apart() {
    let mut config = "[listener.http]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for number in 0..10_000 {
        let matcher = match number % 4 {
            0 => format!("path = \"/p/{number}\""),
            1 => format!("path_exact = \"/e/{number}\""),
            2 => format!("hosts = [\"h{number}.test\"]"),
            _ => format!("hosts = [\"*.w{number}.test\"]\npath = \"/w\""),
        };
        config.push_str(&format!(
            "[[route]]\nname = \"r{number}\"\n{matcher}\nrespond = {{ body = \"{number}\" }}\n"
        ));
    }
    let balancer = Balancer::start(&config);
    let mut answers = BTreeSet::new();
    for number in (0..10_000).step_by(97) {
        let (host, path) = match number % 4 {
            0 => (HOST.to_owned(), format!("/p/{number}/x")),
            1 => (HOST.to_owned(), format!("/e/{number}")),
            2 => (format!("h{number}.test"), "/".to_owned()),
            _ => (format!("a.w{number}.test"), "/w/x".to_owned()),
        };
        assert_eq!(answer(&balancer, &host, &path), number.to_string());
        answers.insert(number % 4);
    }
    assert_eq!(answers.len(), 4, "every kind was asked for");
}
