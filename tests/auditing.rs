//! Audits of affinity: a share of what kept clients read comes from another endpoint, and what that answers tells whether sessions
//! live on single members.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::peers::Server;
use crate::support::balancer::lettered;
use crate::support::command::{command, done, told};
use crate::support::{Balancer, Connection, Origin, Outcome, Reply};

const KEY: &str = "6c6f6e6720656e6f75676820746f2062652061206b6579206f662031323862697\n";

/// Sessions in the memory of the one process: who logs in gets one, and is asked to log in where it is not known.
const APP: &str = r#"
import uuid
sessions = set()
def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        session = uuid.uuid4().hex
        sessions.add(session)
        start_response("200 OK", [("Content-Length", "0"), ("Set-Cookie", "sid=" + session)])
        return []
    known = any(("sid=" + session) in environ.get("HTTP_COOKIE", "") for session in sessions)
    status, location = ("200 OK", []) if known else ("302 Found", [("Location", "/login")])
    start_response(status, [("Content-Length", "0")] + location)
    return []
"#;

fn config(addresses: &[SocketAddr], audit: &str) -> String {
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\n\
         affinity = {{ cookie = \"stay\", key_file = \"affinity.key\"{audit} }}\n[[route]]\nupstream = \"app\"\n",
        lettered(addresses)
    )
}

fn start(text: &str) -> Balancer {
    Balancer::start_with(text, |directory| {
        fs::write(directory.join("affinity.key"), KEY).unwrap();
    })
}

/// A client that keeps its connection and its cookies.
struct Client {
    connection: Connection,
    cookies: Vec<String>,
}

impl Client {
    /// Asks once by `method`, and takes what cookies it is given.
    fn begin(balancer: &Balancer, method: &str) -> Self {
        let mut client = Self {
            connection: Connection::open(balancer.http()),
            cookies: Vec::new(),
        };
        let reply = client.ask(method);
        for cookie in reply.head.all("set-cookie") {
            let cookie = cookie.split(';').next().unwrap();
            client.cookies.push(cookie.to_owned());
        }
        client
    }

    fn ask(&mut self, method: &str) -> Reply {
        let cookies = self.cookies.join("; ");
        self.connection.send(format!(
            "{method} / HTTP/1.1\r\nHost: app.test\r\nCookie: {cookies}\r\nContent-Length: 0\r\n\r\n"
        ));
        self.connection.reply()
    }
}

/// What has been counted.
fn counted(balancer: &Balancer, pin: &str, result: &str) -> f64 {
    let labels = [("upstream", "app"), ("pin", pin), ("result", result)];
    let metrics = balancer.metrics();
    metrics.sum("balancer_affinity_audit_total", &labels)
}

/// What is told of the audit: the exit code, and the text.
fn audited(balancer: &Balancer) -> (Option<i32>, String) {
    told(&command(balancer, &["clones", "app", "--audit"]))
}

#[test]
fn sessions_that_live_on_single_members_are_found_and_stay_where_they_are() {
    let Some(servers) = Server::gunicorns(APP, ["a", "b"]) else {
        return;
    };
    let addresses = servers.each_ref().map(Server::address);
    let balancer = start(&config(&addresses, ", audit = 0.5"));
    let (code, text) = audited(&balancer);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("50.0 % of requests are to be moved, none was yet"),
        "{text}"
    );

    let mut client = Client::begin(&balancer, "POST");
    assert_eq!(client.cookies.len(), 2, "{:?}", client.cookies);
    let replies: Vec<_> = (0..200).map(|_| client.ask("GET")).collect();
    // With a client that is moved again and again, the cookie stays as it is, and so does the session.
    assert!(
        replies
            .iter()
            .all(|reply| reply.head.all("set-cookie").is_empty())
    );
    let moved = replies.iter().filter(|reply| reply.status == 302).count() as f64;
    assert!((40.0..160.0).contains(&moved), "{moved}");
    assert_eq!(counted(&balancer, "broken", "redirected"), moved);
    assert_eq!(counted(&balancer, "kept", "ok"), 200.0 - moved);
    assert_eq!(
        counted(&balancer, "broken", "ok") + counted(&balancer, "kept", "redirected"),
        0.0
    );
    // What changes something is never moved.
    for _ in 0..20 {
        assert!(client.ask("POST").head.all("set-cookie").len() == 1);
    }
    assert_eq!(counted(&balancer, "kept", "ok"), 200.0 - moved);

    let (code, text) = audited(&balancer);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("app: 100.0 % ("), "{text}");
    assert!(
        text.contains(
            ": sessions seem to live on single members (counted are requests, not clients: "
        ),
        "{text}"
    );
    let text = done(&command(&balancer, &["status"]));
    assert!(text.contains("\n  affinity audit: 100.0 % ("), "{text}");
    let output = command(&balancer, &["clones", "app", "--audit", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["verdict"], "on-single-members");
    assert_eq!(said["broken"]["redirected"], moved as u64);
}

#[test]
fn sessions_that_every_member_knows_are_told_to_live_nowhere_in_particular() {
    let origins = [Origin::named("a"), Origin::named("b")];
    let balancer = start(&config(
        &origins.each_ref().map(Origin::address),
        ", audit = 0.5",
    ));
    let mut client = Client::begin(&balancer, "GET");
    let mut by_other = 0;
    let home = client.ask("POST").text();
    for _ in 0..1200 {
        by_other += u32::from(client.ask("GET").text() != home);
    }
    assert_eq!(counted(&balancer, "broken", "ok"), f64::from(by_other));
    let (code, text) = audited(&balancer);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("sessions do not seem to live on single members"),
        "{text}"
    );
    // Nobody else is there: nobody is moved, and nobody waits or fails for it.
    let other = if home == "a" { "app/b" } else { "app/a" };
    done(&command(&balancer, &["disable", other]));
    for _ in 0..20 {
        assert_eq!(client.ask("GET").text(), home);
    }
    assert_eq!(counted(&balancer, "broken", "ok"), f64::from(by_other));
}

#[test]
fn regression_requests_are_moved_to_all_other_members_alike() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let balancer = start(&config(
        &origins.each_ref().map(Origin::address),
        ", audit = 0.5",
    ));
    // Nobody but this one client asks, so that no turn passes but by it.
    let mut client = Client::begin(&balancer, "POST");
    let mut got = BTreeMap::<String, usize>::new();
    for _ in 0..400 {
        *got.entry(client.ask("GET").text()).or_default() += 1;
    }
    assert!(
        got.len() == 4 && got.values().all(|count| *count > 20),
        "{got:?}"
    );
}

#[test]
fn nobody_is_moved_unless_the_file_says_so() {
    let origins = [Origin::named("a"), Origin::named("b")];
    let addresses = origins.each_ref().map(Origin::address);
    let balancer = start(&config(&addresses, ""));
    let mut client = Client::begin(&balancer, "GET");
    let home = client.ask("GET").text();
    for _ in 0..30 {
        assert_eq!(client.ask("GET").text(), home);
    }
    let metrics = balancer.metrics();
    assert_eq!(metrics.find("balancer_affinity_audit_total", &[]), None);
    assert_eq!(
        balancer.status()["upstreams"][0]["affinity_audit"],
        Value::Null
    );
    let (code, text) = audited(&balancer);
    assert_eq!(code, Some(64), "{text}");
    assert!(
        text.contains("upstream \"app\" has no audit: it takes affinity = "),
        "{text}"
    );

    balancer.reloaded(&config(&addresses, ", audit = 0.25"));
    let nothing = json!({ "ok": 0, "refused": 0, "redirected": 0, "failed": 0 });
    assert_eq!(
        balancer.status()["upstreams"][0]["affinity_audit"],
        json!({ "share": 0.25, "kept": nothing, "broken": nothing })
    );
    for (audit, said) in [
        (", audit = 0", "must be above 0 and at most 0.5"),
        (", audit = 1", "must be above 0 and at most 0.5"),
        (
            ", by = \"version\", audit = 0.1",
            "has no effect with by = \"version\"",
        ),
    ] {
        match balancer.reload(&config(&addresses, audit)) {
            Outcome::Rejected(problems) => assert!(problems.contains(said), "{problems}"),
            Outcome::Accepted(_) => panic!("{audit} was accepted"),
        }
    }
}
