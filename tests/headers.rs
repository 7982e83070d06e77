//! Headers and framing (semantics §8): hop-by-hop fields end here, forwarding fields tell the truth, and a request that
//! could be read in two ways is refused before a byte of it reaches an origin.

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frames, H2, get as h2_get};
use crate::support::http1::Head;
use crate::support::{Balancer, Connection, Next, Origin, Reply, get, simple};

/// Sends one raw request on a connection of its own.
fn exchange(balancer: &Balancer, request: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(request);
    connection.reply()
}

/// What the origin saw of a `GET` with these lines (each ending in CRLF) after its Host.
fn seen(balancer: &Balancer, origin: &Origin, lines: &str) -> Head {
    let reply = exchange(
        balancer,
        &format!("GET /seen HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n"),
    );
    assert_eq!(reply.status, 200, "{lines:?}: {reply:?}");
    origin.last_request().head
}

/// Fails unless the request is answered 400 by the balancer itself, the connection closed, and nothing reached the origin.
fn assert_refused(balancer: &Balancer, origin: &Origin, request: &[u8]) {
    let shown = String::from_utf8_lossy(request);
    let before = origin.request_count();
    let mut connection = Connection::open(balancer.http());
    connection.send(request);
    let reply = connection
        .try_reply("GET")
        .unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert_eq!(reply.status, 400, "{shown:?}: {reply:?}");
    assert!(
        connection.is_closed_by_peer(),
        "{shown:?}: the connection is still open"
    );
    // Had anything been passed on, it would have come before this.
    assert_eq!(get(balancer.http(), "/after").status, 200);
    assert_eq!(
        origin.request_count(),
        before + 1,
        "{shown:?} reached the origin"
    );
    assert_eq!(origin.last_request().target(), "/after");
}

#[test]
fn hop_by_hop_fields_of_the_request_end_here() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let head = seen(
        &balancer,
        &origin,
        "Connection: keep-alive, X-Named, x-other\r\nX-Named: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         TE: gzip\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eA==\r\nX-Kept: 3\r\n",
    );
    for name in [
        "x-named",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "proxy-authorization",
        "transfer-encoding",
    ] {
        assert!(!head.has(name), "{name} was passed on: {head:?}");
    }
    assert!(
        head.all("connection")
            .iter()
            .all(|value| !value.contains("amed")),
        "{head:?}"
    );
    assert_eq!(head.field("x-kept"), Some("3"));
}

#[test]
fn willingness_to_take_trailers_is_all_that_is_left_of_te() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let head = seen(
        &balancer,
        &origin,
        "Connection: TE\r\nTE: trailers, deflate;q=0.5\r\n",
    );
    assert!(
        matches!(head.field("te"), None | Some("trailers")),
        "{head:?}"
    );
}

#[test]
fn hop_by_hop_fields_of_the_response_end_here() {
    let origin = Origin::with("a", |exchange| {
        exchange.respond(
            200,
            &[
                ("Connection", "keep-alive, X-Named"),
                ("X-Named", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Connection", "keep-alive"),
                ("Upgrade", "h2c"),
                ("X-Kept", "2"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
            ],
            "a",
        )
    });
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority);
    let reply = exchange(&balancer, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(reply.status, 200);
    for name in ["x-named", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!reply.head.has(name), "{name} was passed on: {reply:?}");
    }
    assert_eq!(reply.field("x-kept"), Some("2"));
    assert_eq!(reply.head.all("set-cookie"), ["a=1", "b=2"]);
    // In HTTP/2 such a field would make the whole response malformed.
    let reply = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST))
        .get("/")
        .unwrap();
    assert_eq!(reply.text(), "a");
    for name in [
        "connection",
        "x-named",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "transfer-encoding",
    ] {
        assert!(
            !reply.headers.contains_key(name),
            "{name} was passed on: {reply:?}"
        );
    }
}

#[test]
fn forwarding_fields_tell_who_asked_and_how() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority);
    let head = seen(&balancer, &origin, "");
    assert_eq!(head.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.field("x-forwarded-proto"), Some("http"));
    assert_eq!(head.field("x-forwarded-host"), Some(HOST));
    assert_eq!(
        head.field("x-forwarded-port"),
        Some(balancer.http().port().to_string().as_str())
    );
    assert_eq!(head.field("host"), Some(HOST));
    let via = head.field("via").expect("a Via field");
    assert!(via.starts_with("1.1 balancer"), "{via}");

    H2::connect(balancer.address("https"), &Tls::new(&authority, HOST))
        .send(h2_get("/"))
        .unwrap();
    let head = origin.last_request().head;
    assert_eq!(head.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.field("x-forwarded-proto"), Some("https"));
    assert_eq!(head.field("x-forwarded-host"), Some(HOST));
    let via = head.field("via").expect("a Via field");
    assert!(via.contains(" balancer"), "{via}");
}

const SPOOFED: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\n\
     X-Forwarded-Prefix: /evil\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n\
     X-Request-Id: spoofed\r\nProxy: http://evil.test\r\n";

#[test]
fn forwarding_fields_of_an_untrusted_peer_are_removed() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let head = seen(&balancer, &origin, SPOOFED);
    let raw = String::from_utf8_lossy(&head.raw).to_lowercase();
    for spoofed in [
        "203.0.113.9",
        "evil",
        "/admin",
        "spoofed",
        "x-forwarded-prefix",
        "\r\nproxy:",
    ] {
        assert!(!raw.contains(spoofed), "{spoofed} was passed on: {raw}");
    }
    assert_eq!(head.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.field("x-forwarded-proto"), Some("http"));
}

#[test]
fn forwarding_fields_of_a_trusted_proxy_are_kept_and_appended_to() {
    let origin = Origin::named("a");
    let config = simple(&[&origin]).replace(
        "[listener.http]",
        "[listener.http]\ntrusted_proxies = [\"127.0.0.0/8\"]",
    );
    let balancer = Balancer::start(&config);
    let head = seen(&balancer, &origin, SPOOFED);
    assert_eq!(
        head.all("x-forwarded-for").join(", "),
        "203.0.113.9, 127.0.0.1"
    );
    assert_eq!(head.field("x-forwarded-proto"), Some("https"));
    assert_eq!(head.field("x-forwarded-host"), Some("evil.test"));
    assert_eq!(head.field("x-request-id"), Some("spoofed"));
    assert!(
        !head.has("proxy"),
        "Proxy means nothing in HTTP and harm in CGI: {head:?}"
    );
}

#[test]
fn header_names_with_underscores_are_dropped() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let head = seen(
        &balancer,
        &origin,
        "X_Forwarded_For: 203.0.113.9\r\nX-Kept: 1\r\n",
    );
    assert!(
        !String::from_utf8_lossy(&head.raw).contains("203.0.113.9"),
        "{head:?}"
    );
    assert_eq!(head.field("x-kept"), Some("1"));
}

#[test]
fn traces_are_passed_on_unless_they_cannot_be_read() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let head = seen(
        &balancer,
        &origin,
        &format!("Traceparent: {valid}\r\nTracestate: a=1\r\nTracestate: b=2\r\n"),
    );
    assert_eq!(head.field("traceparent"), Some(valid));
    assert_eq!(head.all("tracestate"), ["a=1", "b=2"]);
    for invalid in [
        valid.to_uppercase(),
        valid.replace("00-4", "ff-4"),
        format!("{valid}\r\nTraceparent: {valid}"),
    ] {
        let lines = format!("Tracestate: a=1\r\nTraceparent: {invalid}\r\nX-Kept: 1\r\n");
        let head = seen(&balancer, &origin, &lines);
        assert!(
            !head.has("traceparent") && !head.has("tracestate"),
            "{head:?}"
        );
        assert_eq!(head.field("x-kept"), Some("1"));
    }
    assert!(!seen(&balancer, &origin, "").has("traceparent"));
}

#[test]
fn every_request_gets_an_id_of_its_own() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut connection = Connection::open(balancer.http());
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..20 {
        assert_eq!(connection.get("/").status, 200);
        ids.push(
            origin
                .last_request()
                .head
                .field("x-request-id")
                .expect("a request id")
                .to_owned(),
        );
    }
    assert!(ids.iter().all(|id| !id.is_empty()));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn host_is_preserved_with_its_port() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for host in ["app.test", "app.test:8080", "[::1]:8080", "127.0.0.1"] {
        assert_eq!(
            exchange(
                &balancer,
                &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
            )
            .status,
            200
        );
        assert_eq!(origin.last_request().head.field("host"), Some(host));
    }
}

#[test]
fn authority_of_an_absolute_form_target_replaces_host() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    assert_eq!(
        exchange(
            &balancer,
            "GET http://right.test/path?q HTTP/1.1\r\nHost: wrong.test\r\n\r\n"
        )
        .status,
        200
    );
    let head = origin.last_request().head;
    assert_eq!(head.start, "GET /path?q HTTP/1.1");
    assert_eq!(head.field("host"), Some("right.test"));
    assert_eq!(head.field("x-forwarded-host"), Some("right.test"));
}

#[test]
fn authority_with_user_information_is_refused() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    assert_refused(
        &balancer,
        &origin,
        b"GET http://right.test@wrong.test/ HTTP/1.1\r\nHost: right.test\r\n\r\n",
    );
}

#[test]
fn request_without_exactly_one_host_is_refused() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for hosts in [
        "",
        "Host: a.test\r\nHost: b.test\r\n",
        "Host: a.test\r\nHost: a.test\r\n",
        "Host: a.test, b.test\r\n",
        "Host: a.test/path\r\n",
        "Host: a test\r\n",
        "Host: user@a.test\r\n",
    ] {
        assert_refused(
            &balancer,
            &origin,
            format!("GET / HTTP/1.1\r\n{hosts}\r\n").as_bytes(),
        );
    }
}

#[test]
fn http_2_authority_and_host_must_agree() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority);
    let tls = Tls::new(&authority, HOST);
    let mut frames = Frames::open(balancer.address("https"), &tls);
    let head = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", HOST),
    ];
    frames.request(1, &[&head[..], &[("host", HOST)]].concat());
    assert!(matches!(frames.ending(1), Ending::Reply(200, _)));
    assert_eq!(origin.request_count(), 1);
    frames.request(3, &[&head[..], &[("host", "other.test")]].concat());
    let ending = frames.ending(3);
    assert!(
        matches!(ending, Ending::Reply(400, _) | Ending::Reset(_)),
        "{ending:?}"
    );
    assert_eq!(
        origin.request_count(),
        1,
        "a request with two hosts was passed on"
    );
}

#[test]
fn conflicting_or_invalid_framing_is_refused() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for (framing, body) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
        ),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("Content-Length: 5, 6\r\n", "hello!"),
        ("Content-Length: +5\r\n", "hello"),
        ("Content-Length: -5\r\n", "hello"),
        ("Content-Length: 0x5\r\n", "hello"),
        ("Content-Length: five\r\n", "hello"),
        ("Content-Length: 99999999999999999999999\r\n", "hello"),
        ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: gzip\r\n", "hello"),
        ("Transfer-Encoding: identity\r\n", "hello"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            "0\r\n\r\n",
        ),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("Content-Length : 5\r\n", "hello"),
        ("X-A: 1\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X-A: 1\r\n\tfolded\r\n", ""),
        (" X-A: 1\r\n", ""),
        ("X-A: a\0b\r\n", ""),
        ("X-A: a\rb\r\n", ""),
        ("X-A: a\rTransfer-Encoding: chunked\r\n", ""),
        ("X\0A: a\r\n", ""),
        ("X A: a\r\n", ""),
        ("X-No-Colon\r\n", ""),
        (": no name\r\n", ""),
    ] {
        assert_refused(
            &balancer,
            &origin,
            format!("POST / HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n{body}").as_bytes(),
        );
    }
    assert_refused(
        &balancer,
        &origin,
        b"POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
}

#[test]
fn http_2_length_is_one_number() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start_secure(&origin, &authority);
    let tls = Tls::new(&authority, HOST);
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", HOST),
    ];
    let mut frames = Frames::open(balancer.address("https"), &tls);
    frames.request(1, &[&head[..], &[("content-length", "0")]].concat());
    assert!(matches!(frames.ending(1), Ending::Reply(200, _)));
    assert_eq!(origin.request_count(), 1);
    // What the library behind us lets pass.
    frames.request(
        3,
        &[
            &head[..],
            &[("content-length", "0"), ("content-length", "0")],
        ]
        .concat(),
    );
    let ending = frames.ending(3);
    assert!(matches!(ending, Ending::Reply(400, _)), "{ending:?}");
    for lengths in [
        &["0", "5"][..],
        &["0, 0"],
        &["+0"],
        &["-0"],
        &[""],
        &["00000000000000000000"],
    ] {
        let mut frames = Frames::open(balancer.address("https"), &tls);
        let mut fields = head.to_vec();
        fields.extend(lengths.iter().map(|length| ("content-length", *length)));
        frames.request(1, &fields);
        let ending = frames.ending(1);
        assert!(
            matches!(ending, Ending::Reply(400, _) | Ending::Reset(_)),
            "{lengths:?}: {ending:?}"
        );
    }
    assert_eq!(
        origin.request_count(),
        1,
        "an ambiguous length was passed on"
    );
}

#[test]
fn malformed_chunks_never_become_a_whole_body() {
    let origin = Origin::with("a", |exchange| {
        if exchange.body().complete {
            exchange.respond_with_name()
        } else {
            Next::Close
        }
    });
    let balancer = Balancer::start(&simple(&[&origin]));
    for chunks in [
        "-1\r\n\r\n",
        "x\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n",
    ] {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        ));
        if let Ok(reply) = connection.try_reply("POST") {
            assert!((400..600).contains(&reply.status), "{chunks:?}: {reply:?}");
        }
        assert!(
            connection.is_closed_by_peer(),
            "{chunks:?}: the connection is still open"
        );
    }
    assert_eq!(get(balancer.http(), "/").status, 200);
    let whole = origin.requests().into_iter().filter(|request| {
        request.method() == "POST" && request.body.as_ref().is_some_and(|body| body.complete)
    });
    assert_eq!(
        whole.count(),
        0,
        "a malformed body was passed on as a whole one"
    );
}

/// A line that ends in a bare LF may be refused or read as a line; it may never be passed on as part of a value.
#[test]
fn bare_line_feed_never_reaches_the_origin() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for request in [
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-A: a\nX-B: b\r\n\r\n",
        "GET / HTTP/1.1\nHost: app.test\n\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-A: a\n\r\n\r\n",
    ] {
        let mut connection = Connection::open(balancer.http());
        connection.send(request);
        connection.finish_sending();
        let reply = connection.reply();
        assert!(matches!(reply.status, 200 | 400), "{request:?}: {reply:?}");
    }
    assert_eq!(get(balancer.http(), "/").status, 200);
    for request in origin.requests() {
        let raw = String::from_utf8_lossy(&request.head.raw).into_owned();
        assert_eq!(
            raw.matches('\n').count(),
            raw.matches("\r\n").count(),
            "{raw:?}"
        );
    }
}

#[test]
fn connection_field_may_not_strip_what_the_origin_relies_on() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    for name in [
        "Host",
        "host",
        "Authorization",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "Forwarded",
        "Cookie",
        "Content-Length",
        "Content-Type",
    ] {
        assert_refused(
            &balancer,
            &origin,
            format!("POST / HTTP/1.1\r\nHost: app.test\r\nConnection: close, {name}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        );
    }
}

#[test]
fn request_that_was_here_before_is_a_loop() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let via = seen(&balancer, &origin, "")
        .field("via")
        .expect("a Via field")
        .to_owned();
    for looped in [
        via.clone(),
        format!("1.1 other.test, {via}"),
        format!("{via}, 1.0 other.test"),
    ] {
        let reply = exchange(
            &balancer,
            &format!("GET / HTTP/1.1\r\nHost: app.test\r\nVia: {looped}\r\n\r\n"),
        );
        reply.assert_made_by_balancer(508);
    }
    assert_eq!(origin.request_count(), 1);
    let head = seen(&balancer, &origin, "Via: 1.1 other.test\r\n");
    assert_eq!(head.all("via").join(", "), format!("1.1 other.test, {via}"));
}

#[test]
fn balancer_that_forwards_to_itself_is_a_loop() {
    let origin = Origin::named("a");
    let config = simple(&[&origin]);
    let balancer = Balancer::start(&config);
    balancer.reloaded(&config.replace(&origin.address().to_string(), &balancer.http().to_string()));
    assert_eq!(get(balancer.http(), "/").status, 508);
}

#[test]
fn second_balancer_in_the_way_is_not_a_loop() {
    let origin = Origin::named("a");
    let inner = Balancer::start(&simple(&[&origin]));
    let config = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n[[route]]\nupstream = \"app\"",
        inner.http()
    );
    let outer = Balancer::start(&config);
    assert_eq!(get(outer.http(), "/").text(), "a");
}

#[test]
fn connect_method_is_refused() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let reply = exchange(
        &balancer,
        "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n",
    );
    assert!(matches!(reply.status, 400 | 405), "{reply:?}");
    assert_eq!(get(balancer.http(), "/").status, 200);
    assert_eq!(origin.request_count(), 1);
}

fn start_secure(origin: &Origin, authority: &Authority) -> Balancer {
    let tls = "tls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let config = format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n{tls}\n{}",
        simple(&[origin])
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}
