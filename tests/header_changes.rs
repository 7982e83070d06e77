//! Routes change header fields both ways, whoever makes the response, and cannot change what is the balancer's own to say.

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{H2, get as h2_get};
use crate::support::{Balancer, Connection, Origin, Refusing, get};

/// A plain and a TLS listener, the origin's upstream `app`, and `routes`.
fn start(origin: &Origin, authority: &Authority, routes: &str) -> Balancer {
    let configuration = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [upstream.app]
        endpoints = ["{}"]
        {routes}
        "#,
        origin.address()
    );
    Balancer::start_with(&configuration, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}

const REQUEST_CHANGES: &str = r#"
    [[route]]
    upstream = "app"
    [route.request_headers]
    remove = ["cookie"]
    set = { host = "inner.test:81", x-set = "new", x-all = "$client_ip $host $path $request_id $scheme $$" }
    add = { x-added = "2" }
"#;

#[test]
fn requests_get_what_the_route_sets_adds_and_removes() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let balancer = start(&origin, &authority, REQUEST_CHANGES);
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET /a//b%7E?q HTTP/1.1\r\nHost: {HOST}:8080\r\nCookie: a=1\r\nX-Set: old\r\nX-Set: older\r\nX-Added: 1\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    let head = origin.last_request().head;
    assert_eq!(head.field("host"), Some("inner.test:81"));
    assert_eq!(
        head.field("x-forwarded-host"),
        Some(format!("{HOST}:8080").as_str())
    );
    assert!(!head.has("cookie"), "{head:?}");
    assert_eq!(head.field("x-set"), Some("new"));
    assert_eq!(head.all("x-added"), ["1", "2"]);
    let id = head.field("x-request-id").expect("a request id");
    assert_eq!(
        head.field("x-all"),
        Some(format!("127.0.0.1 {HOST} /a/b~ {id} http $").as_str())
    );

    let reply = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST))
        .send(h2_get("/x"))
        .unwrap();
    assert_eq!(reply.status, 200);
    let head = origin.last_request().head;
    assert_eq!(head.field("host"), Some("inner.test:81"));
    assert_eq!(head.field("x-forwarded-host"), Some(HOST));
    let id = head.field("x-request-id").expect("a request id");
    assert_eq!(
        head.field("x-all"),
        Some(format!("127.0.0.1 {HOST} /x {id} https $").as_str())
    );
}

#[test]
fn variables_are_what_trusted_proxies_say() {
    let origin = Origin::named("a");
    let configuration = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.1"]
        [upstream.app]
        endpoints = ["{}"]
        [[route]]
        upstream = "app"
        request_headers = {{ set = {{ x-who = "$client_ip $request_id" }} }}
        response_headers = {{ set = {{ x-id = "$request_id" }} }}
        "#,
        origin.address()
    );
    let balancer = Balancer::start(&configuration);
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 203.0.113.9\r\nX-Request-Id: given\r\n\r\n"
    ));
    assert_eq!(connection.reply().field("x-id"), Some("given"));
    assert_eq!(
        origin.last_request().head.field("x-who"),
        Some("203.0.113.9 given")
    );
}

#[test]
fn responses_are_changed_whoever_made_them() {
    let origin = Origin::with("a", |exchange| {
        exchange.respond(
            200,
            &[("Server", "x"), ("X-Set", "old"), ("Set-Cookie", "a=1")],
            "a",
        )
    });
    let refusing = Refusing::new();
    let authority = Authority::new("test");
    let changes = r#"response_headers = { remove = ["server"], set = { x-set = "new $path" }, add = { set-cookie = "b=2" } }"#;
    let routes = format!(
        r#"
        [upstream.broken]
        endpoints = ["{}"]
        [[route]]
        path = "/app"
        upstream = "app"
        {changes}
        [[route]]
        path = "/broken"
        upstream = "broken"
        {changes}
        [[route]]
        path = "/moved"
        redirect = {{ to = "/app" }}
        {changes}
        [[route]]
        path = "/said"
        respond = {{ status = 418, headers = {{ x-set = "old" }} }}
        {changes}
        "#,
        refusing.address()
    );
    let balancer = start(&origin, &authority, &routes);
    let h2 = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    for (path, status) in [
        ("/app", 200),
        ("/broken", 502),
        ("/moved", 308),
        ("/said", 418),
    ] {
        let reply = get(balancer.http(), path);
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(!reply.head.has("server"), "{reply:?}");
        assert_eq!(reply.field("x-set"), Some(format!("new {path}").as_str()));
        assert_eq!(reply.head.all("set-cookie").last(), Some(&"b=2"));
        let reply = h2.get(path).unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(!reply.headers.contains_key("server"), "{reply:?}");
        assert_eq!(reply.headers["x-set"], format!("new {path}"));
    }
    // The endpoint's cookie is still there.
    let cookies = get(balancer.http(), "/app");
    assert_eq!(cookies.head.all("set-cookie"), ["a=1", "b=2"]);
    // What reached no route is not changed.
    let reply = get(balancer.http(), "/none");
    reply.assert_made_by_balancer(404);
    assert!(!reply.head.has("x-set"), "{reply:?}");
}
