//! `Forwarded` (RFC 7239): said to endpoints where the file asks for it, and read from proxies that are trusted.

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{H2, get as h2_get};
use crate::support::http1::Head;
use crate::support::{Balancer, Connection, Origin};

/// Listeners `http` and `https` with `keys`, and a route that says who the client is.
fn start(origin: &Origin, authority: &Authority, keys: &str) -> Balancer {
    let configuration = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        {keys}
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        {keys}
        [upstream.app]
        endpoints = ["{}"]
        [[route]]
        upstream = "app"
        request_headers = {{ set = {{ x-client = "$client_ip" }} }}
        "#,
        origin.address()
    );
    Balancer::start_with(&configuration, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}

/// What the origin sees of a request with `fields` (each ending in CRLF).
fn seen(balancer: &Balancer, origin: &Origin, fields: &str) -> Head {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}:8080\r\n{fields}\r\n"
    ));
    assert_eq!(connection.reply().status, 200, "{fields:?}");
    origin.last_request().head
}

const OWN: &str = "for=127.0.0.1;host=\"app.test:8080\";proto=http";

#[test]
fn forwarded_is_not_said_unless_asked_for() {
    let origin = Origin::named("a");
    let balancer = start(&origin, &Authority::new("test"), "");
    let head = seen(&balancer, &origin, "Forwarded: for=6.6.6.6\r\n");
    assert!(!head.has("forwarded"), "{head:?}");
    assert_eq!(head.field("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn forwarded_takes_the_place_of_the_other_fields_or_stands_beside_them() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let strangers =
        "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n";
    let balancer = start(&origin, &authority, "forwarded = \"forwarded\"");
    let head = seen(&balancer, &origin, strangers);
    assert_eq!(head.field("forwarded"), Some(OWN));
    for name in ["for", "proto", "port", "host"] {
        assert!(!head.has(&format!("x-forwarded-{name}")), "{head:?}");
    }
    assert!(head.has("x-request-id"), "{head:?}");

    let balancer = start(&origin, &authority, "forwarded = \"both\"");
    let head = seen(&balancer, &origin, strangers);
    assert_eq!(head.field("forwarded"), Some(OWN));
    assert_eq!(head.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.field("x-forwarded-proto"), Some("http"));
    H2::connect(balancer.address("https"), &Tls::new(&authority, HOST))
        .send(h2_get("/"))
        .unwrap();
    assert_eq!(
        origin.last_request().head.field("forwarded"),
        Some("for=127.0.0.1;host=app.test;proto=https")
    );
}

#[test]
fn forwarded_of_a_trusted_proxy_is_read_and_appended_to() {
    let origin = Origin::named("a");
    let keys = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nforwarded = \"both\"";
    let balancer = start(&origin, &Authority::new("test"), keys);
    for (fields, client, forwarded, x_forwarded_for) in [
        (
            "Forwarded: for=6.6.6.6;proto=https, for=\"[2001:db8::9]:4711\"\r\nForwarded: for=10.0.0.2\r\n",
            "2001:db8::9",
            "for=6.6.6.6;proto=https, for=\"[2001:db8::9]:4711\", for=10.0.0.2, ",
            "6.6.6.6, 2001:db8::9, 10.0.0.2, ",
        ),
        (
            "Forwarded: for=203.0.113.9, for=unknown, for=10.0.0.2\r\n",
            "10.0.0.2",
            "for=203.0.113.9, for=unknown, for=10.0.0.2, ",
            "203.0.113.9, unknown, 10.0.0.2, ",
        ),
        // X-Forwarded-For counts where both are there.
        (
            "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9",
            "for=203.0.113.9, ",
            "203.0.113.9, ",
        ),
        (
            // Nor do host and proto, which a proxy that knows X-Forwarded-For only has from its client.
            "Forwarded: for=203.0.113.9;host=evil.test;proto=https\r\nX-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9",
            "for=203.0.113.9, ",
            "203.0.113.9, ",
        ),
        (
            "X-Forwarded-For: 203.0.113.9, 10.0.0.2\r\n",
            "203.0.113.9",
            "for=203.0.113.9, for=10.0.0.2, ",
            "203.0.113.9, 10.0.0.2, ",
        ),
        // What cannot be read leads nowhere.
        (
            "Forwarded: for=\"203.0.113.9\r\n",
            "127.0.0.1",
            "for=unknown, ",
            "unknown, ",
        ),
    ] {
        let head = seen(&balancer, &origin, fields);
        assert_eq!(head.field("x-client"), Some(client), "{fields:?}");
        assert_eq!(
            head.field("forwarded"),
            Some(format!("{forwarded}{OWN}").as_str())
        );
        assert_eq!(
            head.field("x-forwarded-for"),
            Some(format!("{x_forwarded_for}127.0.0.1").as_str())
        );
    }
}
