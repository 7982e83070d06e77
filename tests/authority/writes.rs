//! A route that parts requests by method: what may change something goes to the authority and never to a clone, what only reads
//! to the clones; and who has just written reads at the authority.

use std::thread;
use std::time::{Duration, Instant};

use super::{FAST, LASTING, Node, await_authority, await_refusal};
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{H2, get as h2_get};
use crate::support::{Balancer, Connection, Reply, eventually, get};

/// Clones `c`, of which every node is one, and an upstream `app` with an authority; `more` are keys of the route.
fn config(nodes: &[Node], more: &str) -> String {
    let nodes: Vec<&Node> = nodes.iter().collect();
    let text = super::config(&nodes, &format!("{FAST}, {LASTING}"), "");
    let clone = nodes[1].origin.address();
    text.replace(
        "[[route]]\nupstream = \"app\"\n",
        &format!(
            "[upstream.clones]\nendpoints = [\"{clone}\"]\n[[route]]\nupstream = \"clones\"\nwrites = \"app\"\n{more}\n"
        ),
    )
}

/// RFC 9110 §9.2.1, and RFC 10008 for QUERY.
const SAFE: [&str; 5] = ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"];

fn nodes() -> [Node; 2] {
    [Node::new("a", "authority"), Node::new("b", "replica")]
}

fn send(balancer: &Balancer, method: &str, fields: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    connection.send(format!(
        "{method} /things HTTP/1.1\r\nHost: app.test\r\n{length}{fields}\r\n"
    ));
    connection.try_reply(method).unwrap()
}

/// The cookie that a client is told when it has written.
fn written(balancer: &Balancer) -> String {
    let reply = send(balancer, "POST", "");
    assert_eq!(reply.text(), "a");
    let said = reply.field("set-cookie").expect("a cookie");
    said.split(';').next().unwrap().to_owned()
}

fn reads_at(balancer: &Balancer, cookie: &str) -> String {
    send(balancer, "GET", &format!("Cookie: x=1; {cookie}\r\n")).text()
}

#[test]
fn what_may_change_something_goes_to_the_authority_and_the_rest_to_clones() {
    let nodes = nodes();
    let balancer = Balancer::start(&config(&nodes, ""));
    await_authority(&balancer, "a");
    for method in ["POST", "PUT", "PATCH", "DELETE", "BREW", "get"] {
        let reply = send(&balancer, method, "");
        assert_eq!((reply.status, &*reply.text()), (200, "a"), "{method}");
        assert_eq!(reply.field("set-cookie"), None);
    }
    for method in SAFE {
        assert_eq!(
            send(&balancer, method, "").field("x-origin"),
            Some("b"),
            "{method}"
        );
    }
    // What a client says of its method elsewhere is not believed: it reads.
    let override_ = "X-HTTP-Method-Override: DELETE\r\n";
    assert_eq!(send(&balancer, "GET", override_).text(), "b");
    let asked = nodes[1].origin.requests();
    assert!(asked.iter().all(|request| SAFE.contains(&request.method())));
    let routes = balancer.status()["routes"].clone();
    assert_eq!(
        (&routes[0]["upstream"], &routes[0]["writes"]),
        (&"clones".into(), &"app".into())
    );

    // With nobody to write to, reading goes on.
    nodes[1].say("authority");
    await_two(&balancer);
    send(&balancer, "POST", "").assert_made_by_balancer(503);
    assert_eq!(get(balancer.http(), "/things").text(), "b");
}

fn await_two(balancer: &Balancer) {
    eventually("two claim it", || {
        super::upstream(balancer)["no_authority"] == "a and b claim to be the authority"
    });
}

#[test]
fn who_has_just_written_reads_at_the_authority_for_a_while() {
    let nodes = nodes();
    let balancer = Balancer::start(&config(&nodes, "read_your_writes = \"1h\""));
    await_authority(&balancer, "a");
    let reply = send(&balancer, "POST", "");
    let said = reply.field("set-cookie").unwrap().to_owned();
    assert!(said.starts_with("wrote="), "{said}");
    assert!(
        said.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
        "{said}"
    );
    let cookie = said.split(';').next().unwrap();
    assert_eq!(reads_at(&balancer, cookie), "a");
    let asked = nodes[0].origin.last_request();
    assert_eq!(
        asked.head.field("cookie"),
        Some("x=1"),
        "ours is none of theirs"
    );
    // Others read at clones, and so does who makes up a cookie, or changes it.
    assert_eq!(get(balancer.http(), "/things").text(), "b");
    let mut forged = cookie.to_owned();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    for forged in [&*forged, "wrote=", "wrote=AAAA", "Wrote=x"] {
        assert_eq!(reads_at(&balancer, forged), "b", "{forged}");
    }
    // Who has it from another client is as that one: it reads, and at a place where it may read.
    assert_eq!(reads_at(&balancer, cookie), "a");
    // To read is not to write: nothing is said.
    let reply = send(&balancer, "GET", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(reply.field("set-cookie"), None);
    // A reload changes nothing, and a shorter time counts for who has written before, too.
    balancer.reloaded(&config(
        &nodes,
        "read_your_writes = { window = \"1h\", path = \"/\" }",
    ));
    assert_eq!(reads_at(&balancer, cookie), "a");
    balancer.reloaded(&config(&nodes, "read_your_writes = \"1m\""));
    assert_eq!(reads_at(&balancer, cookie), "b");
    // It may have been done, whatever is said of it.
    nodes[0]
        .origin
        .on_request(|exchange| exchange.respond(500, &[], ""));
    let failed = send(&balancer, "POST", "");
    assert_eq!(failed.status, 500);
    assert!(failed.field("set-cookie").is_some());
    // What was not sent has not.
    nodes[1].say("authority");
    await_two(&balancer);
    let refused = send(&balancer, "POST", "");
    refused.assert_made_by_balancer(503);
    assert_eq!(refused.field("set-cookie"), None);
}

#[test]
fn cookie_that_has_expired_reads_at_clones() {
    let nodes = nodes();
    let balancer = Balancer::start(&config(&nodes, "read_your_writes = \"300ms\""));
    await_authority(&balancer, "a");
    let begun = Instant::now();
    let cookie = written(&balancer);
    eventually("it has expired", || reads_at(&balancer, &cookie) == "b");
    thread::sleep(Duration::from_millis(300).saturating_sub(begun.elapsed()));
    assert_eq!(reads_at(&balancer, &cookie), "b");
}

#[test]
fn balancers_with_the_same_key_know_each_others_cookies() {
    let nodes = nodes();
    let key = "6c6f6e6720656e6f75676820746f2062652061206b6579206f662031323862697";
    let more =
        "read_your_writes = { window = \"1h\", cookie = \"fresh\", key_file = \"wrote.key\" }";
    let start = || {
        Balancer::start_with(&config(&nodes, more), |directory| {
            std::fs::write(directory.join("wrote.key"), key).unwrap();
        })
    };
    let (one, other) = (start(), start());
    for balancer in [&one, &other] {
        await_authority(balancer, "a");
    }
    let cookie = written(&one);
    assert!(cookie.starts_with("fresh="));
    assert_eq!(reads_at(&other, &cookie), "a");
    // And those with a key of their own do not.
    let stranger = Balancer::start(&config(
        &nodes,
        "read_your_writes = { window = \"1h\", cookie = \"fresh\" }",
    ));
    await_authority(&stranger, "a");
    assert_eq!(reads_at(&stranger, &cookie), "b");
}

#[test]
fn over_http2_it_is_the_same() {
    let (nodes, authority) = (nodes(), Authority::new("the test"));
    let listener = "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }\n";
    let text = config(&nodes, "read_your_writes = \"1h\"");
    let balancer = Balancer::start_with(&format!("{listener}{text}"), |directory| {
        authority.issue(&[HOST]).write(directory, "server");
    });
    await_authority(&balancer, "a");
    let tls = Tls::new(&authority, HOST);
    let connection = H2::connect(balancer.address("https"), &tls);
    assert_eq!(connection.send(h2_get("/")).unwrap().text(), "b");
    let mut post = h2_get("/");
    *post.method_mut() = http::Method::POST;
    let reply = connection.send(post).unwrap();
    let said = reply.headers["set-cookie"].to_str().unwrap().to_owned();
    assert_eq!(reply.text(), "a");
    assert!(said.contains("; Secure; HttpOnly"), "{said}");
    let mut request = h2_get("/");
    // In crumbs, as browsers send it (RFC 9113 §8.2.3).
    for crumb in ["x=1", said.split(';').next().unwrap()] {
        request
            .headers_mut()
            .append("cookie", crumb.parse().unwrap());
    }
    assert_eq!(connection.send(request).unwrap().text(), "a");
}

#[test]
fn exclusive_path_reaches_the_authority_alone_however_it_is_spelled() {
    let nodes = nodes();
    let text = config(&nodes, "").replace(
        "[[route]]\nupstream = \"clones\"\nwrites = \"app\"\n",
        "[[route]]\npath = \"/admin\"\nexclusive = true\nupstream = \"app\"\n[[route]]\nupstream = \"clones\"\n",
    );
    let balancer = Balancer::start(&text);
    await_authority(&balancer, "a");
    for path in [
        "/admin",
        "//admin",
        "/%61dmin",
        "/x/../admin",
        "/x/%2e%2e/admin",
    ] {
        assert_eq!(get(balancer.http(), path).text(), "a", "{path}");
    }
    for path in [
        "/ADMIN",
        "/admin;x",
        "/x/..;/admin",
        "/%2561dmin",
        "/x%2f..%2fadmin",
    ] {
        get(balancer.http(), path).assert_made_by_balancer(400);
    }
    assert_eq!(nodes[1].origin.request_count(), 0);
    nodes[0].say("replica");
    await_refusal(
        &balancer,
        "no_authority",
        "no endpoint claims to be the authority",
    );
    assert_eq!(get(balancer.http(), "/else").text(), "b");
    assert_eq!(nodes[1].origin.request_count(), 1);
}

#[test]
fn regression_writing_on_an_exclusive_path_is_not_rewritten_to_a_clone() {
    let nodes = nodes();
    let text = config(&nodes, "").replace(
        "[[route]]\nupstream = \"clones\"\nwrites = \"app\"\n",
        r#"
        [[route]]
        path = "/admin"
        exclusive = true
        upstream = "clones"
        writes = "app"
        [[route]]
        name = "clones"
        path = "/things"
        upstream = "clones"
        rewrite = { prefix = "/admin" }
        [[route]]
        name = "both"
        path = "/both"
        upstream = "clones"
        writes = "app"
        rewrite = { prefix = "/admin" }
        "#,
    );
    let balancer = Balancer::start(&text);
    await_authority(&balancer, "a");
    for method in ["POST", "DELETE", "BREW"] {
        send(&balancer, method, "").assert_made_by_balancer(500);
    }
    assert_eq!(nodes[1].origin.request_count(), 0);
    assert_eq!(send(&balancer, "GET", "").text(), "b");
    // By a route that parts them in the same way both get there.
    let mut connection = Connection::open(balancer.http());
    connection.send("POST /both HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(connection.try_reply("POST").unwrap().text(), "a");
    assert_eq!(nodes[0].origin.last_request().target(), "/admin");
    assert_eq!(get(balancer.http(), "/both").text(), "b");
    let explained =
        |method: &str| super::said(&balancer, &["explain", method, "http://app.test/things"]);
    assert!(
        explained("POST").contains("refused"),
        "{}",
        explained("POST")
    );
    assert!(
        !explained("GET").contains("refused"),
        "{}",
        explained("GET")
    );
}

#[test]
fn regression_routes_that_write_to_the_same_upstream_know_each_others_cookies() {
    let nodes = nodes();
    let route = |name: &str, path: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"{path}\"\nupstream = \"clones\"\nwrites = \"app\"\nread_your_writes = \"1h\"\n"
        )
    };
    let with = |name: &str| {
        let more = format!("read_your_writes = \"1h\"\n{}", route(name, "/others"));
        config(&nodes, &more)
    };
    let balancer = Balancer::start(&with("others"));
    await_authority(&balancer, "a");
    let cookie = written(&balancer);
    let reads_others = |balancer: &Balancer| {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "GET /others HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\n\r\n"
        ));
        connection.try_reply("GET").unwrap().text()
    };
    assert_eq!(reads_others(&balancer), "a");
    // The key is the process's: a route of another name knows them, too.
    balancer.reloaded(&with("renamed"));
    assert_eq!(reads_others(&balancer), "a");
}

#[test]
fn regression_who_sent_a_part_of_what_was_refused_may_have_written() {
    let nodes = nodes();
    let text = config(
        &nodes,
        "read_your_writes = \"1h\"\nlimits = { body_bytes = \"8B\" }",
    );
    let balancer = Balancer::start(&text);
    await_authority(&balancer, "a");
    let mut connection = Connection::open(balancer.http());
    connection.send(
        "POST /things HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    );
    eventually("it is sent on", || {
        balancer.endpoint("app", "a")["in_flight"] == 1
    });
    connection.send("5\r\nworld\r\n0\r\n\r\n");
    let reply = connection.try_reply("POST").unwrap();
    reply.assert_made_by_balancer(413);
    assert!(reply.field("set-cookie").is_some());
    // Of one that is too large from the beginning nothing was sent.
    let mut connection = Connection::open(balancer.http());
    connection.send("POST /things HTTP/1.1\r\nHost: app.test\r\nContent-Length: 9\r\n\r\n");
    let reply = connection.try_reply("POST").unwrap();
    reply.assert_made_by_balancer(413);
    assert_eq!(reply.field("set-cookie"), None);
}

#[test]
fn regression_neither_upstream_sees_the_others_affinity_cookie() {
    let nodes = nodes();
    let text = config(&nodes, "").replace(
        "[[route]]\n",
        "affinity = { cookie = \"kept\", key_file = \"kept.key\" }\n[[route]]\n",
    );
    let balancer = Balancer::start_with(&text, |directory| {
        std::fs::write(directory.join("kept.key"), "6".repeat(64)).unwrap();
    });
    await_authority(&balancer, "a");
    let said = send(&balancer, "GET", "");
    let said = said.field("set-cookie").expect("a cookie").to_owned();
    let cookie = said.split(';').next().unwrap();
    for (node, method) in [(0, "POST"), (1, "GET")] {
        send(&balancer, method, &format!("Cookie: x=1; {cookie}\r\n"));
        let asked = nodes[node].origin.last_request();
        assert_eq!(asked.head.field("cookie"), Some("x=1"), "{method}");
    }
}
