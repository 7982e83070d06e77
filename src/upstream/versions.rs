//! Which versions of its code an upstream's endpoints run, all together: how many, since when more than one, and which of them are
//! labels of metrics. Has no clock: it is told the time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use super::Upstream;
use crate::lock::lock;
use crate::units::AppVersion;

/// So many versions of an upstream are labels of their own; the rest are [`OTHER`].
pub const LABELS: usize = 8;
/// What stands for the rest.
pub const OTHER: &str = "other";
/// So long after the last endpoint has left a version its label stays taken: series are kept by who reads them, and few new ones an
/// hour shall come up however often versions change.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// What is kept of an upstream's versions over time; survives reloads. The control thread's own.
#[derive(Debug, Default)]
pub struct Versions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    skew_since: Option<SystemTime>,
    /// In the order in which they came up; each with when it was last in use.
    labels: Vec<(AppVersion, Instant)>,
}

/// A version, and who runs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Share {
    /// The version.
    pub version: AppVersion,
    /// Endpoints that run it.
    pub endpoints: usize,
    /// Those of them that may be picked now: backups that wait and sets on standby are not.
    pub serving: usize,
}

impl Versions {
    /// Since when endpoints of more than one version serve, if they do.
    pub fn skew_since(&self) -> Option<SystemTime> {
        self.kept().skew_since
    }

    /// Another process has seen it since then.
    pub fn recall(&self, skew_since: SystemTime) {
        let mut kept = self.kept();
        if kept.skew_since.is_some() {
            kept.skew_since = Some(skew_since);
        }
    }

    /// So many versions serve at `now`.
    fn note(&self, serving: usize, now: SystemTime) {
        let mut kept = self.kept();
        kept.skew_since = match kept.skew_since {
            _ if serving < 2 => None,
            since => since.or(Some(now)),
        };
    }

    /// The label of each of `present`: its own for those that had it before and, while there are fewer than [`LABELS`], for
    /// others.
    fn labels(&self, present: &[AppVersion], now: Instant) -> HashMap<AppVersion, String> {
        let mut kept = self.kept();
        kept.labels.retain_mut(|(version, last)| {
            if present.contains(version) {
                *last = now;
            }
            now.saturating_duration_since(*last) < KEPT_FOR
        });
        for version in present {
            if kept.labels.len() < LABELS && !kept.has_label(version) {
                kept.labels.push((version.clone(), now));
            }
        }
        let label = |version: &AppVersion| {
            let has_own = kept.has_label(version);
            if has_own { version.as_str() } else { OTHER }.to_owned()
        };
        let labels = present.iter();
        labels
            .map(|version| (version.clone(), label(version)))
            .collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0)
    }
}

impl Kept {
    fn has_label(&self, version: &AppVersion) -> bool {
        self.labels.iter().any(|(other, _)| other == version)
    }
}

/// What is said to whoever wants a certain version of endpoints of `upstream` that nobody asks for theirs.
pub fn nobody_asks(upstream: &str) -> String {
    format!(
        "nobody asks endpoints of upstream {upstream:?} for their version: set health.version_header or health.version_pointer"
    )
}

impl Upstream {
    /// Whether anybody asks its endpoints for their version.
    pub fn asks_version(&self) -> bool {
        let health = self.health.as_ref();
        health.is_some_and(|health| health.version.is_some())
    }

    /// Which versions its endpoints run, as far as they are known, in the order of the endpoints.
    pub fn shares_of_versions(&self) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for endpoint in &self.endpoints {
            let Some(version) = endpoint.version() else {
                continue;
            };
            let serving = usize::from(self.is_eligible(endpoint));
            match shares.iter_mut().find(|share| share.version == *version) {
                Some(share) => {
                    share.endpoints += 1;
                    share.serving += serving;
                }
                None => shares.push(Share {
                    version: (*version).clone(),
                    endpoints: 1,
                    serving,
                }),
            }
        }
        shares
    }

    /// The label of each version that its endpoints run, but for those whose version is unstable: these get no label of their own.
    pub fn labels_of_versions(&self, now: Instant) -> HashMap<AppVersion, String> {
        let mut present: Vec<AppVersion> = Vec::new();
        let stable = self.endpoints.iter().filter(|it| !it.is_unstable());
        for version in stable.filter_map(|endpoint| endpoint.version()) {
            if !present.contains(&version) {
                present.push((*version).clone());
            }
        }
        self.versions.labels(&present, now)
    }

    /// Takes note of how many versions serve now.
    pub(super) fn note_versions(&self, now: SystemTime) {
        if !self.asks_version() {
            return;
        }
        let shares = self.shares_of_versions();
        let serving = shares.iter().filter(|share| share.serving > 0).count();
        self.versions.note(serving, now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn version(number: usize) -> AppVersion {
        AppVersion::try_from(number.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn skew_begins_with_the_second_version_and_ends_with_the_last_but_one() {
        let versions = Versions::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        versions.note(1, at(1));
        assert_eq!(versions.skew_since(), None);
        versions.note(2, at(2));
        versions.note(3, at(3));
        assert_eq!(versions.skew_since(), Some(at(2)));
        versions.recall(at(1));
        assert_eq!(
            versions.skew_since(),
            Some(at(1)),
            "seen by another process"
        );
        versions.note(1, at(4));
        versions.recall(at(1));
        assert_eq!(versions.skew_since(), None, "it is over");
    }

    #[test]
    fn no_more_labels_than_that_however_many_versions_and_none_changes_hands() {
        let versions = Versions::default();
        let begin = Instant::now();
        let present: Vec<_> = (0..20).map(version).collect();
        let own = |labels: &HashMap<AppVersion, String>| {
            let labels = labels.iter();
            let mut own: Vec<usize> = labels
                .filter(|(_, label)| *label != OTHER)
                .map(|(version, _)| version.as_str().parse().unwrap())
                .collect();
            own.sort_unstable();
            own
        };
        let first = versions.labels(&present, begin);
        assert_eq!(first.len(), 20);
        assert_eq!(own(&first), (0..LABELS).collect::<Vec<_>>());
        // In another order, and with those of the beginning gone: who has a label keeps it, and after a while the next gets the free
        // ones.
        let mut later: Vec<_> = present[2..].to_vec();
        later.reverse();
        let soon = begin + KEPT_FOR / 2;
        assert_eq!(own(&versions.labels(&later, soon)), [2, 3, 4, 5, 6, 7]);
        let end = begin + KEPT_FOR;
        let labels = versions.labels(&later, end);
        assert_eq!(own(&labels), [2, 3, 4, 5, 6, 7, 18, 19]);
    }

    #[test]
    fn regression_version_after_version_gets_few_labels_over_time() {
        let versions = Versions::default();
        let begin = Instant::now();
        let mut own = std::collections::HashSet::new();
        for second in 0..1200 {
            let present = [version(second)];
            let now = begin + Duration::from_secs(second as u64);
            own.extend(versions.labels(&present, now).into_values());
        }
        assert!(own.len() <= 2 * LABELS + 1, "{own:?}");
    }
}
