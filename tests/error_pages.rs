//! Errors of the balancer's own: a page where one is configured, else a short message in the form the client likes best.

use std::fs;
use std::path::Path;
use std::process::Command;

use http::header::ACCEPT;
use http::{HeaderValue, Method};

use crate::support::balancer::BINARY;
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{H2, get as h2_get};
use crate::support::{Balancer, Connection, Origin, Outcome, Refusing, Reply, get};

fn configuration(origin: &Origin, refusing: &Refusing, pages: &str) -> String {
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [error_pages]
        {pages}
        [upstream.app]
        endpoints = ["{}"]
        [upstream.broken]
        endpoints = ["{}"]
        [upstream.disabled]
        endpoints = [{{ address = "127.0.0.1:1", state = "disabled" }}]
        [[route]]
        path = "/app"
        upstream = "app"
        [[route]]
        path = "/broken"
        upstream = "broken"
        [[route]]
        path = "/disabled"
        upstream = "disabled"
        [[route]]
        path = "/said"
        respond = {{ status = 502, body = "said" }}
        "#,
        origin.address(),
        refusing.address()
    )
}

const PAGES: &str = r#"
    "502" = "pages/502.html"
    503 = "503.json"
    "400" = "400.txt"
"#;

fn write_pages(directory: &Path) {
    fs::create_dir(directory.join("pages")).unwrap();
    fs::write(directory.join("pages/502.html"), "<h1>sörry</h1>").unwrap();
    fs::write(directory.join("503.json"), "{\"later\": true}").unwrap();
    fs::write(directory.join("400.txt"), "what?").unwrap();
}

fn asked(balancer: &Balancer, method: &str, path: &str, accept: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    ));
    connection.try_reply(method).unwrap()
}

#[test]
fn configured_pages_take_the_place_of_short_messages() {
    let origin = Origin::with("a", |exchange| exchange.respond(502, &[], "the endpoint's"));
    let (refusing, authority) = (Refusing::new(), Authority::new("test"));
    let balancer = Balancer::start_with(&configuration(&origin, &refusing, PAGES), |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        write_pages(directory);
    });
    let h2 = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    for (path, status, content_type, body) in [
        ("/broken", 502, "text/html; charset=utf-8", "<h1>sörry</h1>"),
        ("/disabled", 503, "application/json", "{\"later\": true}"),
        ("/%", 400, "text/plain; charset=utf-8", "what?"),
        ("/none", 404, "text/plain; charset=utf-8", "404 Not Found\n"),
    ] {
        // Whatever the client accepts.
        for accept in ["text/plain", "text/plain;q=0.5, image/png"] {
            let reply = asked(&balancer, "GET", path, accept);
            reply.assert_made_by_balancer(status);
            assert_eq!(reply.field("content-type"), Some(content_type));
            assert_eq!(
                (reply.text().as_str(), reply.body.complete),
                (body, true),
                "{path}"
            );
        }
        let reply = h2.get(path).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (status, body));
        assert_eq!(reply.headers["content-type"], content_type);
        assert!(reply.headers.contains_key("proxy-status"));
    }
    assert_eq!(
        get(balancer.http(), "/disabled").field("retry-after"),
        Some("5")
    );
    // What others say with the same status stays.
    assert_eq!(get(balancer.http(), "/app").text(), "the endpoint's");
    assert_eq!(get(balancer.http(), "/said").text(), "said");
    // What never became a request is told the page, too.
    let mut connection = Connection::open(balancer.http());
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n");
    let reply = connection.reply();
    reply.assert_made_by_balancer(400);
    assert_eq!(reply.text(), "what?");
}

#[test]
fn short_messages_come_in_the_form_the_client_likes_best() {
    let (origin, refusing, authority) =
        (Origin::named("a"), Refusing::new(), Authority::new("test"));
    let balancer = Balancer::start_with(&configuration(&origin, &refusing, ""), |directory| {
        authority.issue(&[HOST]).write(directory, "server")
    });
    let h2 = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, content_type, body) in [
        ("*/*", "text/plain; charset=utf-8", "502 Bad Gateway\n"),
        (
            browser,
            "text/html; charset=utf-8",
            "<h1>502 Bad Gateway</h1>",
        ),
        (
            "application/json",
            "application/json",
            "{\"type\":\"about:blank\",\"title\":\"Bad Gateway\",\"status\":502}\n",
        ),
        (
            "application/json, application/problem+json",
            "application/problem+json",
            "\"status\":502",
        ),
        (
            "image/png",
            "text/plain; charset=utf-8",
            "502 Bad Gateway\n",
        ),
    ] {
        let reply = asked(&balancer, "GET", "/broken", accept);
        reply.assert_made_by_balancer(502);
        assert_eq!(reply.field("content-type"), Some(content_type), "{accept}");
        assert_eq!(reply.field("vary"), Some("accept"));
        assert!(reply.text().contains(body), "{accept}: {reply:?}");

        let mut request = h2_get("/broken");
        let value = HeaderValue::from_static(accept);
        request.headers_mut().insert(ACCEPT, value);
        let reply = h2.send(request).unwrap();
        assert_eq!(reply.status, 502);
        assert_eq!(reply.headers["content-type"], content_type, "{accept}");
        assert!(reply.text().contains(body), "{accept}: {reply:?}");
    }
    // Also where the request was sent, and no answer came.
    origin.on_request(|_| crate::support::Next::Close);
    let reply = asked(&balancer, "POST", "/app", "application/json");
    reply.assert_made_by_balancer(502);
    assert_eq!(reply.field("content-type"), Some("application/json"));
}

#[test]
fn head_is_told_how_long_a_message_is_and_gets_none() {
    let (origin, refusing, authority) =
        (Origin::named("a"), Refusing::new(), Authority::new("test"));
    let balancer = Balancer::start_with(&configuration(&origin, &refusing, PAGES), |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        write_pages(directory);
    });
    let h2 = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    for (path, status, length) in [("/broken", 502, "15"), ("/none", 404, "14")] {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        ));
        let head = connection.final_head().unwrap();
        assert!(head.start.contains(&status.to_string()), "{head:?}");
        assert_eq!(head.field("content-length"), Some(length));
        assert_eq!(connection.rest(), b"", "{path}");

        let mut request = h2_get(path);
        *request.method_mut() = Method::HEAD;
        let reply = h2.send(request).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (status, ""));
        assert_eq!(reply.headers["content-length"], length);
    }
}

#[test]
fn reload_reads_pages_again_and_refuses_what_is_none() {
    let (origin, refusing, authority) =
        (Origin::named("a"), Refusing::new(), Authority::new("test"));
    let text = configuration(&origin, &refusing, PAGES);
    let balancer = Balancer::start_with(&text, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        write_pages(directory);
    });
    let file = balancer.directory().join("pages/502.html");
    assert_eq!(get(balancer.http(), "/broken").text(), "<h1>sörry</h1>");
    fs::write(&file, "new").unwrap();
    assert!(matches!(balancer.reload_as_it_is(), Outcome::Accepted(2)));
    assert_eq!(get(balancer.http(), "/broken").text(), "new");
    fs::remove_file(&file).unwrap();
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("a missing page was accepted")
    };
    assert!(problems.contains("502.html does not exist"), "{problems}");
    assert_eq!(get(balancer.http(), "/broken").text(), "new");
}

#[test]
fn check_reports_every_page_that_cannot_be_used_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("large.html"), "x".repeat(64 * 1024 + 1)).unwrap();
    fs::write(path("just-fits.html"), "x".repeat(64 * 1024)).unwrap();
    fs::write(path("latin.txt"), b"s\xf6rry").unwrap();
    fs::write(path("broken.json"), "{").unwrap();
    fs::create_dir(path("folder.html")).unwrap();
    fs::write(
        path("balancer.toml"),
        r#"[error_pages]
400 = "none.html"
404 = "large.html"
405 = "latin.txt"
500 = "broken.json"
502 = "folder.html"
503 = "just-fits.html"
[listener.http]
address = "127.0.0.1:0"
[[route]]
respond = {}
"#,
    )
    .unwrap();
    let output = Command::new(BINARY)
        .args(["check", "--config", path("balancer.toml").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    let problems: Vec<&str> = said.lines().collect();
    for (problem, (place, message)) in problems.iter().zip([
        ("2:7: error_pages.400: ", "none.html does not exist"),
        ("3:7: error_pages.404: ", "large.html is larger than 64KiB"),
        ("4:7: error_pages.405: ", "latin.txt is not UTF-8"),
        ("5:7: error_pages.500: ", "broken.json is not JSON: "),
        ("6:7: error_pages.502: ", "folder.html is no file"),
    ]) {
        assert!(
            problem.contains(place) && problem.contains(message),
            "{said}"
        );
    }
    assert_eq!(problems.len(), 5, "{said}");
}
