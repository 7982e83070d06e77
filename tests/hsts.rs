//! `Strict-Transport-Security` stands on every response of a listener that is told to say it, and on no other.

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::H2;
use crate::support::{Balancer, Connection, Origin, Refusing, get};

const FIELD: &str = "strict-transport-security";

fn start(origin: &Origin, refusing: &Refusing, authority: &Authority, hsts: &str) -> Balancer {
    let configuration = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        {hsts}
        [upstream.app]
        endpoints = ["{}"]
        [upstream.broken]
        endpoints = ["{}"]
        [[route]]
        path = "/app"
        upstream = "app"
        [[route]]
        path = "/broken"
        upstream = "broken"
        [[route]]
        path = "/moved"
        redirect = {{ to = "/app" }}
        [[route]]
        path = "/own"
        respond = {{}}
        response_headers = {{ set = {{ {FIELD} = "max-age=1" }} }}
        [[route]]
        path = "/without"
        respond = {{}}
        response_headers = {{ remove = ["{FIELD}"] }}
        "#,
        origin.address(),
        refusing.address()
    );
    Balancer::start_with(&configuration, |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    })
}

#[test]
fn every_response_of_the_listener_says_it() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let refusing = Refusing::new();
    let balancer = start(&origin, &refusing, &authority, "hsts = {}");
    let tls = Tls::new(&authority, HOST);
    let address = balancer.address("https");
    let h2 = H2::connect(address, &tls);
    for (path, status, expected) in [
        ("/app", 200, Some("max-age=31536000")),
        ("/broken", 502, Some("max-age=31536000")),
        ("/moved", 308, Some("max-age=31536000")),
        ("/none", 404, Some("max-age=31536000")),
        ("/%", 400, Some("max-age=31536000")),
        // A route has the last word.
        ("/own", 200, Some("max-age=1")),
        ("/without", 200, None),
    ] {
        let reply = Connection::secure(address, &tls).unwrap().get(path);
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.field(FIELD), expected, "{path}");
        let reply = h2.get(path).unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
        let given: Vec<_> = reply.headers.get_all(FIELD).iter().collect();
        assert_eq!(given, expected.into_iter().collect::<Vec<_>>(), "{path}");
        assert!(!get(balancer.http(), "/app").head.has(FIELD));
    }
    // What never became a request is told it, too.
    let mut connection = Connection::secure(address, &tls).unwrap();
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n");
    let reply = connection.reply();
    reply.assert_made_by_balancer(400);
    assert_eq!(reply.field(FIELD), Some("max-age=31536000"));
}

#[test]
fn what_an_endpoint_says_of_it_stays() {
    let origin = Origin::with("a", |exchange| {
        exchange.respond(200, &[("Strict-Transport-Security", "max-age=5")], "a")
    });
    let authority = Authority::new("test");
    let hsts = "hsts = { max_age = \"1h\", include_subdomains = true, preload = true }";
    let balancer = start(&origin, &Refusing::new(), &authority, hsts);
    let tls = Tls::new(&authority, HOST);
    let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
    assert_eq!(connection.get("/app").field(FIELD), Some("max-age=5"));
    assert_eq!(
        connection.get("/moved").field(FIELD),
        Some("max-age=3600; includeSubDomains; preload")
    );
}
