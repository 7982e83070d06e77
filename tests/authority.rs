//! The authority: exactly one member serves, the one that alone claims to; where that is doubtful nobody does, and never a clone.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::support::command::command;
use crate::support::{Balancer, Connection, Gate, Next, Origin, Reply, eventually, get};

mod gone;
mod refusing;
mod taking_over;
mod writes;

/// Checks that notice within moments; a claim counts as long as `more` says.
const FAST: &str = "interval = \"500ms\", fast_interval = \"50ms\", timeout = \"500ms\", rise = 1, role_header = \"X-Role\"";
const LASTING: &str = "claim_ttl = \"1h\"";

/// A member of the cluster, and what it says of its role.
struct Node {
    origin: Origin,
    role: Arc<Mutex<String>>,
}

impl Node {
    fn new(name: &str, role: &str) -> Self {
        let node = Self {
            origin: Origin::named(name),
            role: Arc::new(Mutex::new(role.to_owned())),
        };
        let role = Arc::clone(&node.role);
        node.origin.on_probe(move |exchange| {
            let role = role.lock().unwrap().clone();
            match &*role {
                "" => exchange.respond(200, &[], ""),
                role => exchange.respond(200, &[("X-Role", role)], ""),
            }
        });
        node
    }

    fn say(&self, role: &str) {
        *self.role.lock().unwrap() = role.to_owned();
    }

    /// It takes connections, and answers no check until the gate is opened.
    fn fall_silent(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate::new());
        let waited = Arc::clone(&gate);
        self.origin.on_probe(move |_| {
            waited.wait();
            Next::Close
        });
        gate
    }
}

/// An upstream `app` of `a`, `b`…, which has an authority.
fn config(nodes: &[&Node], health: &str, more: &str) -> String {
    let endpoints: Vec<String> = nodes
        .iter()
        .zip('a'..)
        .map(|(node, name)| {
            let address = node.origin.address();
            format!("{{ name = \"{name}\", address = \"{address}\" }}")
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nrole = \"authoritative\"\nendpoints = [{}]\nhealth = {{ {health} }}\n{more}\n[[route]]\nupstream = \"app\"\n",
        endpoints.join(", ")
    )
}

fn start(nodes: &[&Node], lifetime: &str) -> Balancer {
    Balancer::start(&config(nodes, &format!("{FAST}, {lifetime}"), ""))
}

fn upstream(balancer: &Balancer) -> Value {
    balancer.status()["upstreams"][0].clone()
}

fn await_authority(balancer: &Balancer, name: &str) {
    eventually(&format!("{name} is the authority"), || {
        upstream(balancer)["authority"] == name
    });
}

/// Nobody serves, for this reason; every request is told so.
#[track_caller]
fn await_refusal(balancer: &Balancer, reason: &str, why: &str) {
    eventually("nobody serves", || {
        upstream(balancer)["no_authority"] == why
    });
    assert_eq!(upstream(balancer)["authority"], Value::Null);
    assert_refused(balancer, &get(balancer.http(), "/admin"), reason);
}

#[track_caller]
fn assert_refused(balancer: &Balancer, reply: &Reply, reason: &str) {
    reply.assert_made_by_balancer(503);
    assert_eq!(reply.field("retry-after"), Some("5"));
    let metrics = balancer.metrics();
    let errors = metrics.sum("balancer_errors_total", &[("reason", reason)]);
    assert!(errors > 0.0, "{}", metrics.text);
}

/// State and reason of an endpoint.
fn shown(balancer: &Balancer, name: &str) -> Value {
    let endpoint = balancer.endpoint("app", name);
    json!([endpoint["state"], endpoint["reason"], endpoint["role"]])
}

fn said(balancer: &Balancer, arguments: &[&str]) -> String {
    let output = command(balancer, arguments);
    // What would be refused is told so.
    assert!(
        output.status.success() || arguments[0] == "explain",
        "{output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_member_serves_and_operators_see_which_and_why_not_the_others() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    for _ in 0..8 {
        assert_eq!(get(balancer.http(), "/admin").text(), "a");
    }
    assert_eq!(shown(&balancer, "a"), json!(["up", null, "authority"]));
    let standby = json!(["standby", "role replica", "standby"]);
    assert_eq!(shown(&balancer, "b"), standby);
    let endpoint = balancer.endpoint("app", "b");
    assert_eq!(endpoint["eligible"], false);
    let app = upstream(&balancer);
    let told = (&app["role"], &app["no_authority"], &app["available"]);
    assert_eq!(told, (&json!("authoritative"), &Value::Null, &json!(1)));
    let metrics = balancer.metrics();
    let of_app = [("upstream", "app")];
    let claimants = metrics.find("balancer_upstream_authorities", &of_app);
    assert_eq!(claimants, Some(1.0));
    let up = metrics.find("balancer_endpoint_up", &[("endpoint", "b")]);
    assert_eq!(up, Some(1.0), "that it stands by is no alarm");
    let status = said(&balancer, &["status"]);
    assert!(
        status.contains("  authority a serves, no other\n"),
        "{status}"
    );
    let explained = said(&balancer, &["explain", "--live", "GET", "http://app.test/"]);
    assert!(explained.contains("standby: role replica"), "{explained}");
    let why = said(&balancer, &["why", "app/a"]);
    assert!(why.contains("is the authority"), "{why}");
    assert_eq!(nodes[1].origin.request_count(), 0);
}

#[test]
fn authority_that_may_not_be_asked_is_not_replaced() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    said(&balancer, &["drain", "app/a", "--force"]);
    let reply = get(balancer.http(), "/admin");
    assert_refused(&balancer, &reply, "no_endpoint");
    assert_eq!(upstream(&balancer)["authority"], "a");
    said(&balancer, &["resume", "app/a"]);
    assert_eq!(get(balancer.http(), "/admin").text(), "a");
    // Nor where it seems unwell: there is no second best.
    nodes[0].origin.on_probe(|exchange| {
        let fields = [("X-Role", "authority")];
        exchange.respond(500, &fields, "")
    });
    balancer.await_health("app", "a", "down");
    let reply = get(balancer.http(), "/admin");
    assert_refused(&balancer, &reply, "no_endpoint");
    assert_eq!(upstream(&balancer)["authority"], "a");
    assert_eq!(nodes[1].origin.request_count(), 0);
}

#[test]
fn without_roles_the_operator_says_who_serves() {
    let nodes = [Node::new("a", ""), Node::new("b", "")];
    let text = config(
        &[&nodes[0], &nodes[1]],
        "interval = \"1s\", timeout = \"1s\"",
        "",
    );
    let address = nodes[1].origin.address();
    let text = text.replace(
        &format!("\"{address}\""),
        &format!("\"{address}\", state = \"disabled\""),
    );
    let balancer = Balancer::start(&text);
    assert_eq!(get(balancer.http(), "/admin").text(), "a");
    said(&balancer, &["resume", "app/b"]);
    let both =
        "a and b are in use, and nothing says which of them is the authority; disable the others";
    await_refusal(&balancer, "two_authorities", both);
    said(&balancer, &["disable", "app/a"]);
    eventually("b serves", || get(balancer.http(), "/admin").text() == "b");
    said(&balancer, &["disable", "app/b", "--force"]);
    await_refusal(&balancer, "no_authority", "every endpoint is disabled");
}

#[test]
fn what_was_sent_to_the_authority_is_sent_to_nobody_else() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    nodes[0].origin.on_request(|exchange| {
        exchange.body();
        Next::Close
    });
    let more = "retry = { attempts = 4, statuses = [503] }";
    let text = config(&[&nodes[0], &nodes[1]], &format!("{FAST}, {LASTING}"), more);
    let balancer = Balancer::start(&text);
    await_authority(&balancer, "a");
    for method in ["GET", "PUT", "POST"] {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "{method} /admin HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n"
        ));
        connection.reply().assert_made_by_balancer(502);
    }
    assert_eq!(nodes[1].origin.request_count(), 0);
    let asked = nodes[0].origin.requests();
    let posts = asked.iter().filter(|request| request.method() == "POST");
    assert_eq!(posts.count(), 1);
}

#[test]
fn reload_asks_nobody_again_and_a_member_that_is_added_stops_nothing() {
    let nodes = [
        Node::new("a", "authority"),
        Node::new("b", "replica"),
        Node::new("c", "replica"),
    ];
    let _silent = nodes[2].fall_silent();
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut connection = Connection::open(balancer.http());
            let mut others = 0;
            while !stop.load(SeqCst) {
                others += usize::from(connection.get("/admin").text() != "a");
            }
            others
        });
        let health = format!("{FAST}, {LASTING}");
        balancer.reloaded(&config(&[&nodes[0], &nodes[1], &nodes[2]], &health, ""));
        balancer.reloaded(&config(&[&nodes[0], &nodes[2]], &health, ""));
        stop.store(true, SeqCst);
        assert_eq!(asking.join().unwrap(), 0);
    });
    assert_eq!(upstream(&balancer)["authority"], "a");
    // One that is taken out of the file serves no more, and nobody in its place.
    let health = format!("{FAST}, {LASTING}");
    balancer.reloaded(&config(&[&nodes[1], &nodes[2]], &health, ""));
    let reply = get(balancer.http(), "/admin");
    assert_refused(&balancer, &reply, "no_authority");
    // As clones they all serve.
    let text = config(
        &[&nodes[0], &nodes[1]],
        "interval = \"1h\", timeout = \"1s\"",
        "",
    );
    balancer.reloaded(&text.replace("role = \"authoritative\"", "role = \"clones\""));
    eventually("both are asked", || {
        let _ = get(balancer.http(), "/");
        nodes[1].origin.request_count() > 0
    });
    let metrics = balancer.metrics();
    let of_app = [("upstream", "app")];
    let claimants = metrics.find("balancer_upstream_authorities", &of_app);
    assert_eq!(claimants, None);
}
