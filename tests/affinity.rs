//! Affinity: a client stays with the endpoint that answered it first, by a cookie nobody can forge; and never at the price of
//! an answer.

use std::fs;
use std::path::Path;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{H2, get as h2_get};
use crate::support::{Balancer, Connection, Origin, Outcome, Reply, eventually, get};

const KEY: &str = "6c6f6e6720656e6f75676820746f2062652061206b6579206f662031323862697\n";
const NEXT: &str = "a5ecd3d6e0f5b1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a\n";

/// Origins `a` and `b` behind a plain and a TLS listener; `states` says more of each.
fn configuration(origins: &[Origin; 2], states: [&str; 2]) -> String {
    let endpoint = |index: usize| {
        let (address, state) = (origins[index].address(), states[index]);
        format!(
            "{{ name = \"{}\", address = \"{address}\" {state} }}",
            ["a", "b"][index]
        )
    };
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [upstream.app]
        endpoints = [{}, {}]
        affinity = {{ cookie = "stay", key_file = "affinity.key" }}
        [[route]]
        upstream = "app"
        "#,
        endpoint(0),
        endpoint(1)
    )
}

struct Setting {
    origins: [Origin; 2],
    authority: Authority,
    balancer: Balancer,
}

impl Setting {
    fn start() -> Self {
        let origins = [Origin::named("a"), Origin::named("b")];
        let authority = Authority::new("test");
        let balancer = Balancer::start_with(&configuration(&origins, [""; 2]), |directory| {
            authority.issue(&[HOST]).write(directory, "server");
            write_key(directory, KEY);
        });
        Self {
            origins,
            authority,
            balancer,
        }
    }

    fn ask(&self, cookie: &str) -> Reply {
        ask(&self.balancer, cookie)
    }

    /// The name of the endpoint that answered, and its cookie.
    fn begin(&self) -> (String, String) {
        let reply = get(self.balancer.http(), "/");
        (reply.text(), cookie(&reply))
    }

    fn repins(&self, why: &str) -> f64 {
        let labels = [("upstream", "app"), ("why", why)];
        self.balancer
            .metrics()
            .sum("balancer_sticky_repins_total", &labels)
    }

    /// The same file, in which the endpoint called `name` has `state`.
    fn reload_with(&self, name: &str, state: &str) {
        let states = ["a", "b"].map(|other| if other == name { state } else { "" });
        self.balancer
            .reloaded(&configuration(&self.origins, states));
    }
}

fn write_key(directory: &Path, key: &str) {
    fs::write(directory.join("affinity.key"), key).unwrap();
}

/// Stops it, and waits until its last connection has ended.
fn stop(origin: &mut Origin) {
    origin.stop();
    eventually("its connections have ended", || origin.open() == 0);
}

fn ask(balancer: &Balancer, cookie: &str) -> Reply {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    ));
    connection.reply()
}

/// What a client sends back of a reply's only cookie.
#[track_caller]
fn cookie(reply: &Reply) -> String {
    let said = reply
        .field("set-cookie")
        .unwrap_or_else(|| panic!("no cookie: {reply:?}"));
    assert!(said.starts_with("stay="), "{said}");
    said.split(';').next().unwrap().to_owned()
}

#[test]
fn a_client_stays_with_the_endpoint_that_answered_it_first() {
    let setting = Setting::start();
    let (first, cookie) = setting.begin();
    for _ in 0..10 {
        let reply = setting.ask(&cookie);
        assert_eq!(reply.text(), first);
        assert_eq!(reply.field("set-cookie"), None, "it is said once");
    }
    // Others take turns, beside it.
    let (one, other) = (setting.begin().0, setting.begin().0);
    assert_ne!(one, other);
    assert_eq!(setting.repins("down"), 0.0);
}

#[test]
fn endpoints_do_not_see_the_cookie() {
    let setting = Setting::start();
    let (first, cookie) = setting.begin();
    let index = usize::from(first == "b");
    setting.ask(&format!("x=1; {cookie}; y=2"));
    let head = setting.origins[index].last_request().head;
    assert_eq!(head.field("cookie"), Some("x=1; y=2"));
    setting.ask(&cookie);
    assert!(!setting.origins[index].last_request().head.has("cookie"));
    // Over HTTP/2 cookies come in crumbs.
    let tls = Tls::new(&setting.authority, HOST);
    let mut request = h2_get("/");
    for crumb in ["x=1", &cookie, "y=2"] {
        request
            .headers_mut()
            .append("cookie", crumb.parse().unwrap());
    }
    let reply = H2::connect(setting.balancer.address("https"), &tls)
        .send(request)
        .unwrap();
    assert_eq!(reply.status, 200);
    let head = setting.origins[index].last_request().head;
    assert_eq!(head.field("cookie"), Some("x=1; y=2"));
}

#[test]
fn cookie_of_a_client_over_tls_is_secure() {
    let setting = Setting::start();
    let plain = get(setting.balancer.http(), "/");
    let said = plain.field("set-cookie").unwrap();
    assert!(said.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{said}");
    let tls = Tls::new(&setting.authority, HOST);
    let mut connection = Connection::secure(setting.balancer.address("https"), &tls).unwrap();
    let secure = connection.get("/");
    let said = secure.field("set-cookie").unwrap();
    assert!(
        said.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"),
        "{said}"
    );
}

#[test]
fn forged_cookies_are_ignored_and_replaced() {
    let setting = Setting::start();
    let (_, good) = setting.begin();
    let mut forged = good.clone();
    let last = if forged.ends_with('A') { "B" } else { "A" };
    forged.replace_range(forged.len() - 1.., last);
    for (count, forged) in [&*forged, "stay=", "stay=x", "stay=\"", "stay=AAAA; stay=é"]
        .into_iter()
        .enumerate()
    {
        let reply = setting.ask(forged);
        assert_eq!(reply.status, 200, "{forged}");
        cookie(&reply);
        assert_eq!(setting.repins("unknown_cookie"), (count + 1) as f64);
    }
    // Beside a good one they do no harm.
    let reply = setting.ask(&format!("stay=x; {good}"));
    assert_eq!(reply.field("set-cookie"), None);
}

#[test]
fn endpoint_that_is_draining_gives_its_clients_up() {
    for state in ["draining", "disabled"] {
        let setting = Setting::start();
        let (first, pinned) = setting.begin();
        setting.reload_with(&first, &format!(", state = \"{state}\""));
        let reply = setting.ask(&pinned);
        assert_ne!(reply.text(), first);
        let moved = cookie(&reply);
        assert_eq!(setting.repins(state), 1.0);
        // It stays there when the first one is back.
        let second = reply.text();
        setting.reload_with(&first, "");
        let reply = setting.ask(&moved);
        assert_eq!(
            (reply.text(), reply.field("set-cookie")),
            (second, None),
            "it has moved"
        );
        assert_eq!(setting.repins(state), 1.0);
    }
}

#[test]
fn endpoint_that_refuses_the_connection_is_left_within_the_same_request() {
    let mut setting = Setting::start();
    let (first, pinned) = setting.begin();
    let origin = &mut setting.origins[usize::from(first == "b")];
    stop(origin);
    let reply = setting.ask(&pinned);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_ne!(reply.text(), first);
    assert_eq!(setting.repins("failed"), 1.0);
    // The cookie names who has answered.
    let moved = cookie(&reply);
    let again = setting.ask(&moved);
    assert_eq!(again.text(), reply.text());
    assert_eq!(again.field("set-cookie"), None);
}

#[test]
fn with_nobody_to_ask_nothing_is_promised() {
    let mut setting = Setting::start();
    let (_, pinned) = setting.begin();
    setting.origins.iter_mut().for_each(stop);
    let reply = setting.ask(&pinned);
    reply.assert_made_by_balancer(502);
    assert_eq!(reply.field("set-cookie"), None);
}

#[test]
fn keys_are_exchanged_by_reloads_without_losing_anybody() {
    let setting = Setting::start();
    let (first, old) = setting.begin();
    let directory = setting.balancer.directory();
    write_key(directory, &format!("{NEXT}{KEY}"));
    setting.reload_with("", "");
    let reply = setting.ask(&old);
    assert_eq!(reply.text(), first);
    let new = cookie(&reply);
    assert_ne!(new, old);
    write_key(directory, NEXT);
    setting.reload_with("", "");
    let reply = setting.ask(&new);
    assert_eq!((reply.text(), reply.field("set-cookie")), (first, None));
    assert_eq!(setting.repins("unknown_cookie"), 0.0);
    // With its key a cookie ends.
    cookie(&setting.ask(&old));
    assert_eq!(setting.repins("unknown_cookie"), 1.0);
}

#[test]
fn a_key_that_cannot_be_used_leaves_the_one_in_use() {
    let setting = Setting::start();
    let (first, pinned) = setting.begin();
    let refused = |expected: &str| match setting.balancer.reload_as_it_is() {
        Outcome::Rejected(problems) => {
            assert!(problems.contains(expected), "{problems}");
            assert!(
                problems.contains("upstream.app.affinity.key_file"),
                "{problems}"
            );
            assert!(!problems.contains("short"), "it shows the key: {problems}");
        }
        Outcome::Accepted(_) => panic!("accepted; expected: {expected}"),
    };
    let directory = setting.balancer.directory();
    write_key(directory, "short\n");
    refused("holds a key of 5 characters: at least 32; make one: openssl rand -hex 32 > ");
    write_key(directory, "\n\n");
    refused("holds no key; make one");
    write_key(directory, &format!("{KEY}{NEXT}{KEY}"));
    refused("holds 3 keys: at most 2");
    fs::remove_file(directory.join("affinity.key")).unwrap();
    refused("cannot be read");
    let reply = setting.ask(&pinned);
    assert_eq!((reply.text(), reply.field("set-cookie")), (first, None));
}

#[test]
fn two_balancers_with_one_key_keep_each_others_clients() {
    let setting = Setting::start();
    let other = Balancer::start_with(&configuration(&setting.origins, [""; 2]), |directory| {
        setting.authority.issue(&[HOST]).write(directory, "server");
        write_key(directory, KEY);
    });
    let (first, cookie) = setting.begin();
    for _ in 0..4 {
        let reply = ask(&other, &cookie);
        assert_eq!(
            (reply.text(), reply.field("set-cookie")),
            (first.clone(), None)
        );
    }
}
