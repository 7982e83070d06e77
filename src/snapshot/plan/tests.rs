//! Plans in words, and that reloads keep them.

use std::path::Path;

use proptest::prelude::*;

use super::held::HeldOut;
use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::snapshot::compile::{Compiler, apply};
use crate::tls::Tickets;
use crate::units::AppVersion;
use crate::upstream::Health;
use crate::upstream::version::Runs;

fn compiler() -> Compiler {
    Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0)
}

fn parsed(text: &str) -> Config {
    config::parse(text, Path::new("balancer.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Both snapshots, the first in force, and the plan from it to the second.
fn planned(before: &str, after: &str) -> (Snapshot, Snapshot, Plan) {
    let (before, after) = (parsed(before), parsed(after));
    let mut lasting = compiler();
    let running = lasting.compile(&before, None).unwrap().snapshot;
    apply(&running, &before);
    let planned = compiler().compile(&after, Some(&running)).unwrap().snapshot;
    let side = |config, snapshot| Side { config, snapshot };
    let started = Started::with(&before);
    let plan = Plan::between(&started, side(&before, &running), side(&after, &planned));
    // What the reload then makes of it.
    let next = lasting.compile(&after, Some(&running)).unwrap().snapshot;
    (running, next, plan)
}

const BASE: &str = r#"
[listener.http]
address = "127.0.0.1:1"
[upstream.app]
endpoints = ["127.0.0.1:2", { address = "127.0.0.1:3", name = "b", weight = 2 }]
[[route]]
upstream = "app"
[[route]]
path = "/x"
respond = { body = "x" }
"#;

fn lines(plan: &Plan) -> Vec<String> {
    let what = |what: &[Difference]| what.iter().map(|it| format!(" {it}")).collect::<String>();
    let named = [
        ("listener", &plan.listeners),
        ("upstream", &plan.upstreams),
        ("route", &plan.routes),
    ];
    let items = named.into_iter().flat_map(|(kind, items)| {
        items
            .iter()
            .map(move |it| format!("{kind} {} {:?}{}", it.name, it.change, what(&it.what)))
    });
    let endpoints = plan
        .endpoints
        .iter()
        .map(|it| format!("endpoint {} {:?}{}", it.endpoint, it.change, what(&it.what)));
    let settings = plan.settings.iter().map(|it| format!("setting {it}"));
    items.chain(endpoints).chain(settings).collect()
}

fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(BASE.contains(from), "{from}");
    lines(&planned(BASE, &BASE.replace(from, to)).2)
}

#[test]
fn same_file_with_other_spaces_and_comments_changes_nothing() {
    let after = format!("# a comment\n{}", BASE.replace(" = ", "   =   "));
    let (.., plan) = planned(BASE, &after);
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.counts.kept, 2);
}

#[test]
fn every_kind_of_change_is_named_where_it_is() {
    assert_eq!(
        changed("weight = 2", "weight = 5"),
        ["endpoint b Changed weight: 2 -> 5"]
    );
    assert_eq!(
        changed("weight = 2", "weight = 2, state = \"draining\""),
        ["endpoint b Changed state: active -> draining"]
    );
    assert_eq!(
        changed("weight = 2", "weight = 2, state = \"active\""),
        Vec::<String>::new(),
        "as it is"
    );
    assert_eq!(
        changed("127.0.0.1:3", "127.0.0.1:4"),
        ["endpoint b Removed", "endpoint b Added"],
        "another one under its name"
    );
    assert_eq!(
        changed("\"127.0.0.1:2\", ", ""),
        ["endpoint 127.0.0.1:2 Removed"]
    );
    assert_eq!(
        changed("body = \"x\"", "body = \"y\""),
        ["route /x Changed respond.body: \"x\" -> \"y\""]
    );
    assert_eq!(
        changed("path = \"/x\"", "path = \"/y\""),
        ["route /x Removed", "route /y Added"]
    );
    assert_eq!(
        changed("[upstream.app]", "[upstream.app]\npolicy = \"random\""),
        ["upstream app Changed policy: unset -> \"random\""]
    );
    assert_eq!(
        changed("127.0.0.1:1\"", "127.0.0.1:9\""),
        ["listener http Changed address: \"127.0.0.1:1\" -> \"127.0.0.1:9\""]
    );
    assert_eq!(
        changed(
            "[[route]]\nup",
            "[access_log]\ntarget = \"stdout\"\n[[route]]\nup"
        ),
        ["setting access_log.target: unset -> \"stdout\""]
    );
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let after = format!(
        "{BASE}[process]\nworkers = 3\nshutdown_grace = \"1s\"\n[admin]\nsocket = \"off\"\n"
    );
    let (.., plan) = planned(BASE, &after);
    let keys: Vec<_> = plan.restart.iter().map(|it| &*it.key).collect();
    assert_eq!(keys, ["process.workers", "admin.socket"]);
}

#[test]
fn order_of_regular_expressions_counts_and_that_of_other_routes_does_not() {
    let route = |key: &str| format!("[[route]]\n{key}\nrespond = {{}}\n");
    let head = "[listener.http]\naddress = \"127.0.0.1:1\"\n";
    let (one, two) = (route("path_regex = \"a\""), route("path_regex = \"b\""));
    let (.., plan) = planned(&format!("{head}{one}{two}"), &format!("{head}{two}{one}"));
    assert_eq!(plan.settings.len(), 1, "{plan:?}");
    let (one, two) = (route("path = \"/a\""), route("path = \"/b\""));
    let (.., plan) = planned(&format!("{head}{one}{two}"), &format!("{head}{two}{one}"));
    assert!(plan.is_empty(), "{plan:?}");
}

#[derive(Clone, Debug)]
struct Small {
    /// Endpoints by number: address, weight, mode.
    endpoints: Vec<Option<(u8, u8, u8)>>,
    routes: Vec<Option<u8>>,
    listeners: Vec<Option<u8>>,
    policy: u8,
}

fn small() -> impl Strategy<Value = Small> {
    let endpoint = prop::option::weighted(0.7, (0_u8..2, 1_u8..3, 0_u8..4));
    (
        prop::collection::vec(endpoint, 3),
        prop::collection::vec(prop::option::of(0_u8..2), 3),
        prop::collection::vec(prop::option::of(0_u8..2), 2),
        0_u8..2,
    )
        .prop_map(|(endpoints, routes, listeners, policy)| Small {
            endpoints,
            routes,
            listeners,
            policy,
        })
}

fn text(small: &Small) -> String {
    let mut text = "[listener.always]\naddress = \"127.0.0.1:1\"\n".to_owned();
    for (index, port) in (0..).zip(&small.listeners) {
        if let Some(port) = port {
            let port = 10 + 2 * index + u16::from(*port);
            text += &format!("[listener.l{index}]\naddress = \"127.0.0.1:{port}\"\n");
        }
    }
    let policy = ["round-robin", "random"][usize::from(small.policy)];
    text += &format!("[upstream.app]\npolicy = \"{policy}\"\nendpoints = [\n\"127.0.0.1:99\",\n");
    for (index, endpoint) in (0..).zip(&small.endpoints) {
        let Some((port, weight, mode)) = endpoint else {
            continue;
        };
        let port = 100 + 2 * index + u16::from(*port);
        let mode = match mode {
            0 => "",
            1 => ", state = \"active\"",
            2 => ", state = \"draining\"",
            _ => ", state = \"disabled\"",
        };
        text += &format!(
            "{{ name = \"e{index}\", address = \"127.0.0.1:{port}\", weight = {weight}{mode} }},\n"
        );
    }
    text += "]\n[[route]]\nupstream = \"app\"\n";
    for (index, body) in (0..).zip(&small.routes) {
        if let Some(body) = body {
            text +=
                &format!("[[route]]\npath = \"/r{index}\"\nrespond = {{ body = \"{body}\" }}\n");
        }
    }
    text
}

/// An endpoint as traffic sees it.
type Seen = (EndpointId, u32, Mode);

fn seen(snapshot: &Snapshot) -> Vec<(String, Seen)> {
    endpoints(snapshot)
        .map(|endpoint| {
            let seen = (endpoint.id(), endpoint.weight(), endpoint.state().mode);
            (endpoint.name().to_string(), seen)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plan_agrees_with_what_the_reload_then_does(before in small(), after in small()) {
        let (before, after) = (text(&before), text(&after));
        let (running, next, plan) = planned(&before, &after);
        prop_assert_eq!(plan.counts, Counts::between(&running, &next));
        let was = seen(&running);
        apply(&next, &parsed(&after));
        let is = seen(&next);
        let find = |list: &[(String, Seen)], id| list.iter().find(|(_, it)| it.0 == id).cloned();
        let said = |name: &str, change| {
            plan.endpoints.iter().any(|it| it.endpoint == *name && it.change == change)
        };
        for (name, before) in &was {
            match find(&is, before.0) {
                None => prop_assert!(said(name, Change::Removed), "{} went: {:?}", name, plan),
                Some((_, after)) => {
                    prop_assert!(!said(name, Change::Removed));
                    prop_assert_eq!(said(name, Change::Changed), after != *before, "{}: {:?}", name, plan);
                }
            }
        }
        for (name, after) in &is {
            prop_assert_eq!(said(name, Change::Added), find(&was, after.0).is_none());
        }
        let names = |snapshot: &Snapshot| -> HashSet<String> {
            snapshot.routes.iter().map(|route| route.name.to_string()).collect()
        };
        let (routes, later) = (names(&running), names(&next));
        let of = |change| -> HashSet<String> {
            let items = plan.routes.iter().filter(|item| item.change == change);
            items.map(|item| item.name.clone()).collect()
        };
        prop_assert_eq!(of(Change::Added), later.difference(&routes).cloned().collect());
        prop_assert_eq!(of(Change::Removed), routes.difference(&later).cloned().collect());
        // A listener's sockets stay where its count of connections does.
        for listener in &next.listeners {
            let stays = running.listeners.iter().any(|it| Arc::ptr_eq(&it.open, &listener.open));
            let is_said = plan.listeners.iter().any(|item| item.name == *listener.name);
            prop_assert_eq!(is_said, !stays, "{}", listener.name);
        }
        // Weights are as the running balancer has them, modes too: so a second plan is empty.
        let (config, snapshot) = (parsed(&after), compiler().compile(&parsed(&after), Some(&next)));
        let snapshot = snapshot.unwrap().snapshot;
        let again = Plan::between(
            &Started::with(&config),
            Side { config: &config, snapshot: &next },
            Side { config: &config, snapshot: &snapshot },
        );
        prop_assert!(again.is_empty(), "{:?}", again);
        prop_assert_eq!(plan.is_empty(), before == after || is_only_said(&before, &after));
    }
}

/// Whether the files differ in nothing but `state = "active"`, which is what holds without it.
fn is_only_said(before: &str, after: &str) -> bool {
    let bare = |text: &str| text.replace(", state = \"active\"", "");
    bare(before) == bare(after)
}

#[test]
fn endpoints_in_use_that_would_be_held_out_are_counted() {
    const APP: &str = r#"
[listener.http]
address = "127.0.0.1:1"
[upstream.app]
active_set = "blue"
endpoints = [
    { address = "127.0.0.1:2", name = "a", set = "blue" }, { address = "127.0.0.1:3", name = "b", set = "blue" },
    { address = "127.0.0.1:4", name = "c", set = "green" },
]
health = { version_header = "x-v" }
[[route]]
upstream = "app"
"#;
    let before = parsed(APP);
    let running = compiler().compile(&before, None).unwrap().snapshot;
    apply(&running, &before);
    let version = |text: &str| AppVersion::try_from(text.as_bytes()).unwrap();
    for (endpoint, runs) in running.upstreams[0]
        .endpoints
        .iter()
        .zip(["41", "42", "43"])
    {
        endpoint.set_health(Health::Up, None);
        endpoint.set_version(Runs::Version(version(runs)));
    }
    let held_out = |after: &str| -> Vec<(String, bool)> {
        let after = parsed(after);
        let snapshot = compiler().compile(&after, Some(&running)).unwrap().snapshot;
        let next = Side {
            config: &after,
            snapshot: &snapshot,
        };
        let all = HeldOut::between(&running, next);
        let told = all
            .iter()
            .map(|it| (it.to_string(), it.refusal().is_some()));
        told.collect()
    };
    let one = |text: &str, is_refused| vec![(text.to_owned(), is_refused)];
    let expecting = |version: &str| {
        let more = format!("\"x-v\", expect_version = \"{version}\"");
        APP.replace("\"x-v\"", &more)
    };
    assert_eq!(held_out(APP), []);
    assert_eq!(
        held_out(&expecting("42")),
        one(
            "app: holds out 1 of 2 endpoints (it runs 41, want 42)",
            false
        )
    );
    // What stands by takes no requests.
    assert_eq!(
        held_out(&expecting("43")),
        one(
            "app: holds out 2 of 2 endpoints (they run 41 and 42, want 43)",
            true
        )
    );
    // The other set is to serve.
    let green = expecting("43").replace("active_set = \"blue\"", "active_set = \"green\"");
    assert_eq!(held_out(&green), []);
    // Who is out, by the file or for good, is held from nothing; of who is new nothing is known.
    let left = expecting("42").replace("name = \"b\",", "name = \"b\", state = \"disabled\",");
    assert_eq!(
        held_out(&left),
        one(
            "app: holds out 1 of 2 endpoints (it runs 41, want 42)",
            true
        )
    );
    let new = expecting("42").replace("127.0.0.1:3", "127.0.0.1:9");
    assert_eq!(
        held_out(&new),
        one("app: holds out 1 of 1 endpoint (it runs 41, want 42)", true)
    );
    // Asked for the first time, nobody has said anything yet.
    running.upstreams[0].endpoints[0].ask_version(false, None);
    running.upstreams[0].endpoints[1].ask_version(false, None);
    assert_eq!(
        held_out(&expecting("42")),
        one(
            "app: holds out 2 of 2 endpoints (of 2 it is not known what they run, want 42)",
            true
        )
    );
}
