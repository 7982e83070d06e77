//! Which endpoints in use a configuration would hold out, because of the version they run. Compares; changes nothing.

use std::collections::HashSet;
use std::fmt;

use super::{Side, endpoints};
use crate::config::{Mode, Place, Problem};
use crate::snapshot::Snapshot;
use crate::units::{AppVersion, Name};
use crate::upstream::{EndpointId, Tier};

/// An upstream of which endpoints in use would be held out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HeldOut {
    upstream: Name,
    expected: AppVersion,
    /// Where that stands in the file.
    place: Place,
    /// How many.
    held: usize,
    /// Of so many that may be picked now.
    of: usize,
    /// How many could be picked afterwards.
    left: usize,
    /// What those that are held run, each once.
    versions: Vec<AppVersion>,
    /// How many of them do not say.
    mute: usize,
}

impl HeldOut {
    /// Every upstream of `next` to which that would happen, in the order of the file.
    pub(super) fn between(running: &Snapshot, next: Side<'_>) -> Vec<Self> {
        let known: HashSet<EndpointId> = endpoints(running).map(|it| it.id()).collect();
        let mut found = Vec::new();
        for (upstream, configured) in next.snapshot.upstreams.iter().zip(&next.config.upstreams) {
            let Some((expected, place)) = configured.expected_version() else {
                continue;
            };
            let mut one = Self {
                upstream: Name::clone(&upstream.name),
                expected: expected.clone(),
                place: place.clone(),
                held: 0,
                of: 0,
                left: 0,
                versions: Vec::new(),
                mute: 0,
            };
            for (endpoint, configured_one) in upstream.endpoints.iter().zip(&configured.endpoints) {
                let serves =
                    configured.active_set.is_none() || configured_one.set == configured.active_set;
                // Of one that is new nothing is known, and nobody misses it.
                if !serves || !known.contains(&endpoint.id()) {
                    continue;
                }
                let now = endpoint.state();
                let mut then = now.clone();
                then.mode = configured_one.mode.unwrap_or(Mode::Active);
                then.expect(upstream.asks_version(), Some(expected));
                let is_in_use = now.tier() != Tier::Never;
                one.of += usize::from(is_in_use);
                one.left += usize::from(then.tier() != Tier::Never);
                if !is_in_use || !then.is_wanted() || !then.is_held() {
                    continue;
                }
                one.held += 1;
                match then.version.version() {
                    Some(version) if !one.versions.contains(version) => {
                        one.versions.push(version.clone());
                    }
                    Some(_) => {}
                    None => one.mute += 1,
                }
            }
            if one.held > 0 {
                found.push(one);
            }
        }
        found
    }

    /// Why it is not taken over unasked, where nobody would be left to take requests.
    pub(super) fn refusal(&self) -> Option<Problem> {
        let why = || {
            format!(
                "{self}, and nobody is left to take requests; roll to {} first and expect it then, or insist with `--force`",
                self.expected
            )
        };
        (self.left == 0).then(|| self.place.problem(why()))
    }
}

/// `app: holds out 3 of 3 endpoints (they run 42, want 43)`
impl fmt::Display for HeldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            upstream,
            expected,
            held,
            of,
            mute,
            ..
        } = self;
        let plural = if *of == 1 { "" } else { "s" };
        write!(f, "{upstream}: holds out {held} of {of} endpoint{plural} (")?;
        if !self.versions.is_empty() {
            let versions: Vec<_> = self.versions.iter().map(AppVersion::as_str).collect();
            let who = if *held == 1 { "it runs" } else { "they run" };
            write!(f, "{who} {}, ", versions.join(" and "))?;
        }
        if *mute > 0 {
            write!(f, "of {mute} it is not known what they run, ")?;
        }
        write!(f, "want {expected})")
    }
}
