//! Who is held for the version it runs, and what is told of versions.

use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiler, apply};
use crate::tls::Tickets;
use crate::upstream::{Health, Tier};

/// One endpoint, through the snapshots of its file.
struct Daemon {
    compiler: Compiler,
    snapshot: Option<Snapshot>,
}

impl Daemon {
    fn start(health: &str) -> Self {
        let tickets = Tickets::new().unwrap();
        let mut daemon = Self {
            compiler: Compiler::new(Arc::new(Metrics::new()), tickets, 0),
            snapshot: None,
        };
        daemon.load(health);
        daemon
    }

    fn load(&mut self, health: &str) {
        let text = format!(
            "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [\"127.0.0.1:2\"]\nhealth = {{ {health} }}\n\
         [[route]]\nupstream = \"app\"\n"
        );
        let config = config::parse(&text, Path::new("f")).unwrap();
        let compiled = self.compiler.compile(&config, self.snapshot.as_ref());
        let snapshot = compiled.unwrap().snapshot;
        apply(&snapshot, &config);
        self.snapshot = Some(snapshot);
    }

    fn upstream(&self) -> &Upstream {
        &self.snapshot.as_ref().unwrap().upstreams[0]
    }

    fn endpoint(&self) -> &Endpoint {
        &self.upstream().endpoints[0]
    }

    fn shown(&self) -> (&'static str, Option<String>, Option<String>) {
        let state = self.endpoint().state();
        let version = self.endpoint().version();
        (state.word(), state.why(), version.map(|it| it.to_string()))
    }

    /// Whether an answer that says so sends for a check.
    fn is_doubted_by(&self, status: u16, headers: &[(&'static str, &str)]) -> bool {
        let fields = headers.iter();
        let headers: HeaderMap = fields
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let endpoint = self.endpoint();
        self.upstream().hear_version(endpoint, status, &headers);
        let mut context = Context::from_waker(Waker::noop());
        pin!(endpoint.doubted()).poll(&mut context).is_ready()
    }
}

fn version(text: &str) -> Runs {
    Runs::Version(AppVersion::try_from(text.as_bytes()).unwrap())
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn reload_that_expects_another_version_holds_at_once_what_is_known_to_run_the_old_one() {
    let mut daemon = Daemon::start("version_header = \"x-v\"");
    daemon.endpoint().set_health(Health::Up, None);
    assert!(daemon.endpoint().set_version(version("41")));
    assert_eq!(daemon.shown(), ("up", None, text("41")));
    daemon.load("version_header = \"x-v\", expect_version = \"42\"");
    let held = ("held", text("version 41, want 42"), text("41"));
    assert_eq!(daemon.shown(), held);
    assert_eq!(daemon.endpoint().tier(), Tier::Never);
    daemon.load("version_header = \"x-v\", expect_version = \"41\"");
    assert_eq!(daemon.shown(), ("up", None, text("41")));
    // Who is not asked any more says nothing.
    daemon.load("");
    assert_eq!(daemon.shown(), ("up", None, None));
    daemon.load("version_header = \"x-v\", expect_version = \"41\"");
    let held = text("version unknown: not checked yet, want 41");
    assert_eq!(daemon.shown(), ("held", held, None));
}

#[test]
fn regression_answers_to_clients_change_nothing_and_send_for_a_check_at_most_now_and_then() {
    let daemon =
        Daemon::start("version_header = \"x-v\", live_version = true, expect_version = \"42\"");
    daemon.endpoint().set_health(Health::Up, None);
    daemon.endpoint().set_version(version("42"));
    let well = ("up", None, text("42"));
    // What says nothing new, no version, or is not of now or not the application's.
    for (status, headers) in [
        (200, &[("x-v", "42")][..]),
        (200, &[("x-v", "")]),
        (200, &[]),
        (200, &[("x-v", "41"), ("age", "0")]),
        (304, &[("x-v", "41")]),
        (404, &[("x-v", "41")]),
        (503, &[("x-v", "41")]),
    ] {
        assert!(
            !daemon.is_doubted_by(status, headers),
            "{status} {headers:?}"
        );
    }
    let other = &[("x-v", "41")];
    assert!(daemon.is_doubted_by(200, other));
    assert_eq!(daemon.shown(), well, "only a check knows");
    assert_eq!(daemon.endpoint().tier(), Tier::Eligible);
    assert!(!daemon.is_doubted_by(200, other), "a moment ago");
    // Each time that the check finds the same it takes longer, up to a limit.
    let patience = || daemon.endpoint().shown.patience.load(Relaxed);
    let mut seen = Vec::new();
    for _ in 0..8 {
        daemon.endpoint().doubt_settled(false);
        seen.push(patience());
    }
    assert_eq!(seen[..2], [2000, 4000]);
    assert_eq!(seen[6..], [60_000, 60_000]);
    daemon.endpoint().doubt_settled(true);
    assert_eq!(patience(), 1000);
}

#[test]
fn regression_version_that_changes_all_the_time_is_told_once() {
    let daemon = Daemon::start("version_header = \"x-v\", expect_version = \"42\"");
    let endpoint = daemon.endpoint();
    endpoint.set_health(Health::Up, None);
    for number in 100..400 {
        assert!(endpoint.set_version(version(&number.to_string())));
        assert_eq!(endpoint.is_unstable(), number >= 107);
    }
    let held = ("held", text("version 399, want 42"), text("399"));
    assert_eq!(daemon.shown(), held, "it is known all the same");
    let facts = endpoint.journal().entries().into_iter();
    let told: Vec<_> = facts.map(|entry| entry.fact.to_string()).collect();
    assert_eq!(told.len(), 10, "{told:?}");
    assert_eq!(
        told[8..],
        [
            "version 105 → 106",
            "version unstable: another one 8 times within 10 minutes"
        ]
    );
}

#[test]
fn regression_why_says_since_when_an_endpoint_is_held_and_what_lets_it_in() {
    let mut daemon = Daemon::start("version_header = \"x-v\"");
    let facts = |daemon: &Daemon| -> Vec<String> {
        let facts = daemon.endpoint().journal().entries().into_iter();
        let facts = facts.filter(|it| matches!(it.fact.kind(), "held" | "version"));
        facts.map(|it| it.fact.to_string()).collect()
    };
    daemon.endpoint().set_health(Health::Up, None);
    daemon.endpoint().set_version(version("41"));
    daemon.load("version_header = \"x-v\", expect_version = \"42\"");
    daemon.load("version_header = \"x-v\", expect_version = \"43\"");
    let lets_in = "requests come when it runs that, or when health.expect_version says otherwise";
    // A hook restarts it, as a roll does.
    daemon.endpoint().forget_version();
    daemon.endpoint().set_version(version("43"));
    assert_eq!(
        facts(&daemon),
        [
            "version 41".to_owned(),
            format!("held out: version 41, want 42; {lets_in}"),
            format!("held out: version 41, want 43; {lets_in}"),
            "version unknown: not checked yet".to_owned(),
            "version 41 → 43".to_owned(),
            "held out no more".to_owned(),
        ]
    );
}

#[test]
fn restart_with_the_same_version_is_no_change_of_it() {
    let daemon = Daemon::start("version_header = \"x-v\"");
    let endpoint = daemon.endpoint();
    for _ in 0..20 {
        endpoint.set_version(version("41"));
        endpoint.forget_version();
    }
    assert!(!endpoint.is_unstable());
}

#[test]
fn changes_are_facts_and_what_is_not_known_yet_is_none() {
    let daemon = Daemon::start("version_header = \"x-v\"");
    let endpoint = daemon.endpoint();
    for runs in [
        version("41"),
        version("41"),
        version("42"),
        Runs::Unknown("the answer has no x-v".into()),
        version("42"),
    ] {
        endpoint.set_version(runs);
    }
    endpoint.forget_version();
    let facts = endpoint.journal().entries().into_iter();
    let told: Vec<_> = facts.map(|entry| entry.fact.to_string()).collect();
    assert_eq!(
        told,
        [
            "version 41",
            "version 41 → 42",
            "version unknown: the answer has no x-v",
            "version 42",
            "version unknown: not checked yet",
        ]
    );
}
