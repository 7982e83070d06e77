//! Which version of its code an endpoint runs: what is believed, and what requests and workers read of it.
//!
//! Checks say it, on the control thread; where the upstream asks for that, clients' responses say it too, on workers. These
//! change at once what picks read, and leave the rest to the control thread, which they wake.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName};
use tracing::{info, warn};

use super::journal::Fact;
use super::outlier::Alarm;
use super::state::State;
use super::{Endpoint, Upstream};
use crate::balance::stable_hash;
use crate::units::AppVersion;

/// What is known of the version that an endpoint runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Runs {
    /// Nobody asks.
    Unasked,
    /// It does not say, or has not been asked yet; why.
    Unknown(Box<str>),
    /// This one.
    Version(AppVersion),
}

impl Runs {
    /// The version, where it is known.
    pub fn version(&self) -> Option<&AppVersion> {
        match self {
            Self::Version(version) => Some(version),
            Self::Unasked | Self::Unknown(_) => None,
        }
    }

    /// Why it is not known, where it is asked for.
    pub fn why_unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::Unasked | Self::Version(_) => None,
        }
    }

    fn unchecked() -> Self {
        Self::Unknown(NOT_CHECKED.into())
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => f.write_str("version unknown"),
            Self::Unknown(why) => write!(f, "version unknown: {why}"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}

/// A version in one word, to be compared: of equals the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark(NonZeroU64);

impl Mark {
    /// Of `version`.
    pub fn of(version: &AppVersion) -> Self {
        let hash = stable_hash(version.as_str().as_bytes());
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }
}

/// What is read of an endpoint's version without a lock.
#[derive(Debug, Default)]
pub(super) struct Shown {
    text: ArcSwapOption<AppVersion>,
    /// Its [`Mark`]; 0 where none is known. Written with `text`, by the control thread and, at what responses say, by workers; read by picks and for the
    /// log. Relaxed: one that misses the latest change is one a moment earlier.
    mark: AtomicU64,
    /// Whether a response has said something that the control thread has not heard of yet. Written by workers, taken by the
    /// control thread. Relaxed: who sees it sees the text in time, or is woken again.
    is_news: AtomicBool,
    /// When a response has last changed it, by the endpoint's clock, and never 0. Written by workers. Relaxed: the worst is one
    /// change too many.
    changed: AtomicU32,
}

impl Shown {
    fn set(&self, version: Option<&AppVersion>) {
        self.text.store(version.cloned().map(Arc::new));
        let mark = version.map_or(0, |version| Mark::of(version).0.get());
        self.mark.store(mark, Relaxed);
    }
}

/// In which field responses to clients say it, and who is woken when it is another one.
#[derive(Debug)]
pub struct LiveVersion {
    /// The field.
    pub field: HeaderName,
    /// Wakes the control thread.
    pub alarm: Arc<Alarm>,
}

impl Endpoint {
    /// The version it runs, where it is known.
    pub fn version(&self) -> Option<Arc<AppVersion>> {
        // Most endpoints are not asked: of those no more is looked at.
        self.mark()?;
        self.shown.text.load_full()
    }

    /// The same, to be compared.
    pub(super) fn mark(&self) -> Option<Mark> {
        NonZeroU64::new(self.shown.mark.load(Relaxed)).map(Mark)
    }

    /// Whether it runs that version.
    pub fn runs(&self, mark: Mark) -> bool {
        self.mark() == Some(mark)
    }

    /// Says whether anybody asks for its version, and which it must run to be used. For the control thread.
    pub fn ask_version(&self, asks: bool, expected: Option<&AppVersion>) {
        self.change_version(|state| {
            state.expected = expected.cloned();
            match (&state.version, asks) {
                (_, false) => state.version = Runs::Unasked,
                (Runs::Unasked, true) => state.version = Runs::unchecked(),
                (Runs::Unknown(_) | Runs::Version(_), true) => {}
            }
        });
    }

    /// What it ran says nothing of now. For the control thread.
    pub fn forget_version(&self) {
        self.change_version(|state| {
            if state.version != Runs::Unasked {
                state.version = Runs::unchecked();
            }
        });
    }

    /// Says which version it runs. Returns whether that is another one. For the control thread.
    pub fn set_version(&self, version: Runs) -> bool {
        self.change_version(|state| state.version = version)
    }

    /// Changes what is known, and tells of what is new. Returns whether the version is another one.
    fn change_version(&self, change: impl FnOnce(&mut State)) -> bool {
        let (mut before, mut now) = (Runs::Unasked, Runs::Unasked);
        let (mut was_held, mut held) = (false, None);
        self.change(|state| {
            (before, was_held) = (state.version.clone(), state.is_held());
            change(state);
            (now, held) = (state.version.clone(), state.held());
            held.is_some() != was_held
        });
        let (upstream, endpoint) = (self.upstream(), self.name());
        let is_other = before.version() != now.version();
        if is_other {
            self.shown.set(now.version());
        }
        let is_awaited = |runs: &Runs| runs.why_unknown() == Some(NOT_CHECKED);
        if is_other && let Some(known) = before.version() {
            let (before, version) = (known.as_str(), now.version().map(AppVersion::as_str));
            info!(%upstream, %endpoint, before, version, "endpoint runs another version");
        }
        match held {
            // That nothing is known yet is no news.
            Some(reason) if !is_awaited(&now) && (before != now || !was_held) => {
                warn!(%upstream, %endpoint, reason, "endpoint held out");
            }
            None if was_held && !is_awaited(&before) => {
                info!(%upstream, %endpoint, "endpoint held out no more");
            }
            Some(_) | None => {}
        }
        if before != now && now != Runs::Unasked && (is_other || !is_awaited(&now)) {
            let fact = Fact::Version(before.version().cloned(), now);
            self.journal().note(fact);
        }
        is_other
    }

    /// A response of it says that it runs `said`. Returns whether the control thread has something to hear.
    #[inline]
    fn hear_version(&self, said: &[u8]) -> bool {
        let known = self.shown.text.load();
        if known
            .as_deref()
            .is_some_and(|known| known.as_str().as_bytes() == said)
        {
            return false;
        }
        self.change_live(said)
    }

    /// Believes it. Where the last change is a moment ago, nothing: an old process that ends has answered, or several stand
    /// behind one address, and neither shall keep the control thread busy.
    #[cold]
    fn change_live(&self, said: &[u8]) -> bool {
        let Ok(version) = AppVersion::try_from(said) else {
            return false;
        };
        let now = self.clock(Instant::now()).max(1);
        let last = self.shown.changed.load(Relaxed);
        if last != 0 && now.wrapping_sub(last) < LIVE_CHANGE {
            return false;
        }
        self.shown.changed.store(now, Relaxed);
        self.shown.set(Some(&version));
        self.shown.is_news.store(true, Relaxed);
        true
    }

    /// Takes over what a response has said since the last time. Returns whether there was something.
    fn adopt_version(&self) -> bool {
        if !self.shown.is_news.swap(false, Relaxed) {
            return false;
        }
        let Some(version) = self.version() else {
            return false;
        };
        // Of who is not asked any more nothing is shown.
        if self.state().version == Runs::Unasked {
            self.shown.set(None);
            return true;
        }
        self.set_version(Runs::Version((*version).clone()))
    }
}

impl Upstream {
    /// Looks what a response of `endpoint` says of the version it runs, where that is asked for.
    #[inline]
    pub fn hear_version(&self, endpoint: &Endpoint, headers: &HeaderMap) {
        if let Some(live) = &self.live_version {
            live.hear(endpoint, headers);
        }
    }

    /// Takes over what responses have said of versions. For the control thread.
    pub fn adopt_versions(&self) {
        if self.live_version.is_none() {
            return;
        }
        let mut is_news = false;
        for endpoint in &self.endpoints {
            is_news |= endpoint.adopt_version();
        }
        if is_news {
            self.refresh();
        }
    }
}

impl LiveVersion {
    #[inline(never)]
    fn hear(&self, endpoint: &Endpoint, headers: &HeaderMap) {
        // Not every response comes from the application.
        let Some(said) = headers.get(&self.field) else {
            return;
        };
        if endpoint.hear_version(said.as_bytes()) {
            self.alarm.raise();
        }
    }
}

const NOT_CHECKED: &str = "not checked yet";
const LIVE_CHANGE: u32 = 1000; // ms: an alarm a second and endpoint is nothing

#[cfg(test)]
mod tests {
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
}
