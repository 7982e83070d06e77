//! What checks, responses and reloads make of an endpoint's version.

use std::path::Path;

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

    fn hears(&self, said: &'static str) {
        let mut headers = HeaderMap::new();
        headers.insert("x-v", said.parse().unwrap());
        self.upstream().hear_version(self.endpoint(), &headers);
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
fn responses_change_the_version_at_once_and_the_control_thread_follows() {
    let daemon =
        Daemon::start("version_header = \"x-v\", live_version = true, expect_version = \"41\"");
    daemon.endpoint().set_health(Health::Up, None);
    daemon.endpoint().set_version(version("41"));
    daemon.hears("41");
    daemon.upstream().adopt_versions();
    assert_eq!(daemon.shown(), ("up", None, text("41")));
    daemon.hears("42");
    assert_eq!(daemon.shown(), ("up", None, text("42")), "not heard of yet");
    daemon.upstream().adopt_versions();
    let held = ("held", text("version 42, want 41"), text("42"));
    assert_eq!(daemon.shown(), held);
    // Of two that answer in turns the control thread does not hear each time.
    daemon.hears("41");
    daemon.upstream().adopt_versions();
    assert_eq!(daemon.shown(), held);
    // What is no version changes nothing.
    daemon.hears("");
    assert_eq!(daemon.shown(), held);
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
