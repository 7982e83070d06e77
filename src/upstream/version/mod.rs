//! Which version of its code an endpoint runs: what is believed, and what requests and workers read of it.
//!
//! Checks say it, on the control thread. Where the upstream asks for that, workers look what answers to clients say: one that speaks
//! of another version has the endpoint checked at once. It is no proof: it may come from a cache, or repeat what a client sent.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use http::header::AGE;
use http::{HeaderMap, HeaderName, StatusCode};
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
    /// Its [`Mark`]; 0 where none is known. Written with `text`, by the control thread; read by picks and for the log.
    /// Relaxed: one that misses the latest change is one a moment earlier.
    mark: AtomicU64,
    /// Wakes its check: an answer to a client speaks of another version.
    doubt: Alarm,
    /// When that was so last, by the endpoint's clock, and never 0. Written by workers. Relaxed: the worst is one check too many.
    doubted: AtomicU32,
    /// How many milliseconds later it may be so again; 0: the least. Written by the check. Relaxed: as above.
    patience: AtomicU32,
}

impl Shown {
    fn set(&self, version: Option<&AppVersion>) {
        self.text.store(version.cloned().map(Arc::new));
        let mark = version.map_or(0, |version| Mark::of(version).0.get());
        self.mark.store(mark, Relaxed);
    }
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
        self.change_version(|state| state.expect(asks, expected));
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
        // A restart has it forgotten until it is checked again: what it ran before that is what it is compared with.
        let mut ran = None;
        let mut is_wished = false;
        let (mut was_unstable, mut is_unstable) = (false, false);
        let mut is_other = false;
        self.change(|state| {
            (before, was_held) = (state.version.clone(), state.is_held());
            was_unstable = state.churn.is_unstable();
            let wished = state.expected.clone();
            change(state);
            is_wished = state.expected != wished;
            is_other = before.version() != state.version.version();
            ran = state
                .ran
                .clone()
                .filter(|ran| state.version.version() != Some(ran));
            let is_new =
                state.version.version().is_some() && state.version.version() != state.ran.as_ref();
            state.churn.note(is_new, Instant::now());
            match &state.version {
                Runs::Unasked => state.ran = None,
                Runs::Unknown(_) => {}
                Runs::Version(version) => state.ran = Some(version.clone()),
            }
            is_unstable = state.churn.is_unstable();
            (now, held) = (state.version.clone(), state.held());
            held.is_some() != was_held
        });
        let (upstream, endpoint) = (self.upstream(), self.name());
        if is_other {
            self.shown.set(now.version());
        }
        let is_awaited = |runs: &Runs| runs.why_unknown() == Some(NOT_CHECKED);
        if is_other && !is_unstable {
            match (&ran, &now) {
                (Some(ran), Runs::Version(version)) => {
                    let (before, version) = (ran.as_str(), version.as_str());
                    info!(%upstream, %endpoint, before, version, "endpoint runs another version");
                }
                (Some(ran), Runs::Unknown(why)) if !is_awaited(&now) => {
                    info!(%upstream, %endpoint, before = ran.as_str(), why, "endpoint does not say its version any more");
                }
                (None, _) | (_, Runs::Unasked | Runs::Unknown(_)) => {}
            }
        }
        let is_held = held.is_some();
        // That nothing is known yet is no news.
        let held = held.filter(|_| {
            let is_news = before != now && !is_unstable || !was_held || is_wished;
            is_news && !is_awaited(&now)
        });
        let is_let_in = was_held && !is_held && (!is_awaited(&before) || ran.is_some());
        if let Some(reason) = &held {
            warn!(%upstream, %endpoint, reason, "endpoint held out");
        }
        if is_let_in {
            info!(%upstream, %endpoint, "endpoint held out no more");
        }
        match (was_unstable, is_unstable) {
            (false, true) => {
                warn!(%upstream, %endpoint, "endpoint's version is unstable: it changes all the time, as if it named the process; changes are not told until it keeps one for 10 minutes");
                self.journal().note(Fact::Unstable);
            }
            (true, true) => {}
            (true, false) => {
                info!(%upstream, %endpoint, "endpoint's version is stable again");
                if now != Runs::Unasked {
                    self.journal().note(Fact::Version(None, now));
                }
            }
            (false, false) => {
                if before != now && now != Runs::Unasked && (is_other || !is_awaited(&now)) {
                    self.journal().note(Fact::Version(ran, now));
                }
            }
        }
        // From then on the versions tell how it goes on.
        let is_begun = held.is_some() && (!was_held || is_wished || is_awaited(&before));
        if is_begun || is_let_in {
            self.journal().note(Fact::Held(held.map(Into::into)));
        }
        is_other
    }

    /// Whether its version changes so often that the changes are no news.
    pub fn is_unstable(&self) -> bool {
        self.look(|state| state.churn.is_unstable())
    }

    /// Waits until an answer to a client speaks of another version than is known, once. For its check, which finds out.
    pub async fn doubted(&self) {
        self.shown.doubt.raised().await;
    }

    /// A check that such an answer has brought about has found another version; or the same, so that the next one may wait: a
    /// page from a cache says the same all day.
    pub fn doubt_settled(&self, is_other: bool) {
        let patience = self.shown.patience.load(Relaxed).max(LEAST_PATIENCE);
        let next = match is_other {
            true => LEAST_PATIENCE,
            false => (2 * patience).min(MOST_PATIENCE),
        };
        self.shown.patience.store(next, Relaxed);
    }

    /// An answer of it says that it runs `said`. That changes nothing: who has made the answer, and when, nobody knows.
    #[inline]
    fn hear_version(&self, said: &[u8]) {
        let known = self.shown.text.load();
        let is_known = known.as_deref();
        if is_known.is_none_or(|known| known.as_str().as_bytes() != said) {
            self.doubt(said);
        }
    }

    /// Has it checked at once. Where that was so a moment ago, not again: an old process that ends has answered, or several stand
    /// behind one address, and nobody shall have an endpoint checked with each request.
    #[cold]
    fn doubt(&self, said: &[u8]) {
        if AppVersion::try_from(said).is_err() {
            return;
        }
        let now = self.clock(Instant::now()).max(1);
        let last = self.shown.doubted.load(Relaxed);
        let patience = self.shown.patience.load(Relaxed).max(LEAST_PATIENCE);
        if last != 0 && now.wrapping_sub(last) < patience {
            return;
        }
        self.shown.doubted.store(now, Relaxed);
        self.shown.doubt.raise();
    }
}

impl State {
    /// Whether anybody asks for its version, and which it must run to be used.
    pub fn expect(&mut self, asks: bool, expected: Option<&AppVersion>) {
        self.expected = expected.cloned();
        match (&self.version, asks) {
            (_, false) => self.version = Runs::Unasked,
            (Runs::Unasked, true) => self.version = Runs::unchecked(),
            (Runs::Unknown(_) | Runs::Version(_), true) => {}
        }
    }
}

impl Upstream {
    /// Looks what an answer of `endpoint` says of the version it runs, where that is asked for.
    #[inline]
    pub fn hear_version(&self, endpoint: &Endpoint, status: StatusCode, headers: &HeaderMap) {
        if let Some(field) = &self.live_version {
            hear(field, endpoint, status, headers);
        }
    }
}

#[inline(never)]
fn hear(field: &HeaderName, endpoint: &Endpoint, status: StatusCode, headers: &HeaderMap) {
    // Not every answer comes from the application, and not every one from now.
    if !status.is_success() || headers.contains_key(AGE) {
        return;
    }
    if let Some(said) = headers.get(field) {
        endpoint.hear_version(said.as_bytes());
    }
}

const NOT_CHECKED: &str = "not checked yet";
const LEAST_PATIENCE: u32 = 1000; // ms: a check a second and endpoint is little
const MOST_PATIENCE: u32 = 60_000;

#[cfg(test)]
mod tests;
