//! Where it is doubtful who the authority is nobody serves, and the answer says why.

use serde_json::{Value, json};

use super::{LASTING, Node, await_authority, await_refusal, said, shown, start, upstream};
use crate::support::{eventually, get};

const BOTH: &str = "a and b claim to be the authority";
const NONE: &str = "no endpoint claims to be the authority";

#[test]
fn two_that_claim_it_get_nothing_until_one_steps_down() {
    let nodes = [
        Node::new("a", "authority"),
        Node::new("b", "authority"),
        Node::new("c", "replica"),
    ];
    let balancer = start(&[&nodes[0], &nodes[1], &nodes[2]], LASTING);
    await_refusal(&balancer, "two_authorities", BOTH);
    let held = json!(["held", BOTH, "claimant"]);
    assert_eq!(
        [shown(&balancer, "a"), shown(&balancer, "b")],
        [held.clone(), held]
    );
    assert_eq!(
        shown(&balancer, "c"),
        json!(["standby", "role replica", "standby"])
    );
    let metrics = balancer.metrics();
    let of_app = [("upstream", "app")];
    let claimants = metrics.find("balancer_upstream_authorities", &of_app);
    assert_eq!(claimants, Some(2.0));
    let status = said(&balancer, &["status"]);
    let line = format!("  no authority, requests are refused: {BOTH}\n");
    assert!(status.contains(&line), "{status}");
    let explained = said(&balancer, &["explain", "--live", "GET", "http://app.test/"]);
    assert!(explained.contains(BOTH), "{explained}");
    nodes[0].say("replica");
    await_authority(&balancer, "b");
    assert_eq!(get(balancer.http(), "/admin").text(), "b");
    let asked = nodes.each_ref().map(|node| node.origin.request_count());
    assert_eq!(asked, [0, 1, 0]);
}

#[test]
fn operator_ends_a_quarrel_by_disabling_one_of_two() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "authority")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_refusal(&balancer, "two_authorities", BOTH);
    said(&balancer, &["disable", "app/a"]);
    eventually("b serves", || get(balancer.http(), "/admin").text() == "b");
    // Drained, it claims it all the same.
    said(&balancer, &["drain", "app/a"]);
    await_refusal(&balancer, "two_authorities", BOTH);
    assert_eq!(nodes[0].origin.request_count(), 0);
}

#[test]
fn nobody_serves_where_none_claims_it_whatever_else_they_say() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    for role in [
        "replica",
        "",
        "Authority",
        "authority, authority",
        "authority\r\nX-Role: authority",
    ] {
        nodes[0].say(role);
        await_refusal(&balancer, "no_authority", NONE);
        nodes[0].say("authority");
        await_authority(&balancer, "a");
    }
    nodes[0].say("");
    await_refusal(&balancer, "no_authority", NONE);
    let why = "role unknown: the answer has no x-role";
    assert_eq!(shown(&balancer, "a"), json!(["standby", why, "standby"]));
    assert_eq!(nodes[1].origin.request_count(), 0);
}

#[test]
fn one_that_cannot_be_heard_may_be_a_second_one() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "authority")];
    let silent = nodes[1].fall_silent();
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    let why = "a claims to be the authority, and not every other was heard yet";
    await_refusal(&balancer, "no_authority", why);
    // Not for ever.
    let health = super::FAST.to_owned() + ", claim_ttl = \"1100ms\"";
    balancer.reloaded(&super::config(&[&nodes[0], &nodes[1]], &health, ""));
    await_authority(&balancer, "a");
    silent.open();
    assert_eq!(get(balancer.http(), "/admin").text(), "a");
}

#[test]
fn claims_that_come_and_go_bring_nothing_to_who_makes_them() {
    let nodes = [Node::new("a", "authority"), Node::new("b", "replica")];
    let balancer = start(&[&nodes[0], &nodes[1]], LASTING);
    await_authority(&balancer, "a");
    for _ in 0..4 {
        nodes[1].say("authority");
        await_refusal(&balancer, "two_authorities", BOTH);
        nodes[1].say("replica");
        await_authority(&balancer, "a");
        assert_eq!(get(balancer.http(), "/admin").text(), "a");
    }
    assert_eq!(nodes[1].origin.request_count(), 0);
    let changes = balancer.metrics();
    let changes = changes.sum("balancer_authority_changes_total", &[("upstream", "app")]);
    assert_eq!(changes, 9.0);
    assert_eq!(upstream(&balancer)["no_authority"], Value::Null);
}
