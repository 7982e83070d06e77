//! One flip under way: what it is about, how far it is, and what is told of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::wilson::Counts;
use super::check::list;
use super::judge::{Limits, p99};
use super::trial::Trial;
use super::warm;
use crate::admin::flip::Wanted;
use crate::metrics::attempts::Answers;
use crate::units::{Name, unix_millis};
use crate::upstream::Upstream;
use crate::upstream::flip::{Figures, Flip, Phase};

/// A flip under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    /// The user who has asked for it, where that is known.
    uid: Option<u32>,
    pub(super) upstream: Name,
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) trial: Trial,
    pub(super) stage: Stage,
    /// Also where a probe fails.
    pub(super) force: bool,
    /// The version that every endpoint of the new set must run.
    pub(super) expected: Option<String>,
    begun: SystemTime,
    /// When its stage began, or its share.
    pub(super) since: SystemTime,
    /// When it is looked at next.
    pub(super) next: Instant,
    pub(super) verdict: Option<String>,
    pub(super) took: Option<Duration>,
    /// Whether the old set has all requests again.
    pub(super) is_back: bool,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Endpoints are probed; what comes of it are those that have not passed, and why.
    Warming(JoinHandle<Vec<String>>),
    /// The new set gets its share.
    Watching {
        since: Instant,
        /// What had been counted of the old set and of the new one at the last look.
        told: Box<(Answers, Answers)>,
    },
}

/// A flip under way, as one process tells another.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::daemon) struct Handed {
    upstream: String,
    number: u64,
    uid: Option<u32>,
    from: String,
    to: String,
    force: bool,
    #[serde(default)]
    expected: Option<String>,
    verdict: Option<String>,
    trial: Trial,
    /// How long it has been at its share; none: it gets none yet.
    watched: Option<Duration>,
    /// Unix time in milliseconds.
    begun: u64,
}

impl Handed {
    pub(in crate::daemon) fn upstream(&self) -> &str {
        &self.upstream
    }

    pub(in crate::daemon) fn number(&self) -> u64 {
        self.number
    }
}

impl Run {
    fn new(
        (number, uid): (u64, Option<u32>),
        upstream: &Upstream,
        (from, to): (Name, Name),
        (trial, stage): (Trial, Stage),
    ) -> Self {
        let now = SystemTime::now();
        Self {
            number,
            uid,
            upstream: Name::clone(&upstream.name),
            from,
            to,
            trial,
            stage,
            force: false,
            expected: None,
            begun: now,
            since: now,
            next: Instant::now(),
            verdict: None,
            took: None,
            is_back: false,
        }
    }

    /// One that is `wanted` although there are these doubts. Every endpoint of the new set is probed once more.
    pub(super) fn begun(
        by: (u64, Option<u32>),
        upstream: &Upstream,
        sets: (Name, Name),
        (wanted, doubts): (&Wanted, &[String]),
    ) -> Self {
        let limits = Limits {
            min_requests: wanted.min_requests,
            tolerance: wanted.tolerance,
            heeds_latency: wanted.heeds_latency,
        };
        let trial = Trial::new(wanted.percent.clone(), wanted.watch, limits);
        let expected = wanted.expect_version.clone();
        let warming = warm::begin(upstream, &sets.1, expected.as_deref());
        Self {
            force: wanted.force,
            expected,
            verdict: (!doubts.is_empty()).then(|| format!("forced although {}", list(doubts, ""))),
            ..Self::new(by, upstream, sets, (trial, Stage::Warming(warming)))
        }
    }

    /// What another process goes on with.
    pub(super) fn hand_over(&self) -> Handed {
        Handed {
            upstream: self.upstream.to_string(),
            number: self.number,
            uid: self.uid,
            from: self.from.to_string(),
            to: self.to.to_string(),
            force: self.force,
            expected: self.expected.clone(),
            verdict: self.verdict.clone(),
            trial: self.trial.clone(),
            watched: match &self.stage {
                Stage::Warming(_) => None,
                Stage::Watching { since, .. } => Some(since.elapsed()),
            },
            begun: unix_millis(self.begun),
        }
    }

    /// Goes on with one of another process: where that was watched it is watched for the rest of the time, and where endpoints
    /// were probed they are once more.
    pub(super) fn resumed(handed: Handed, upstream: &Upstream) -> Self {
        let (from, to): (Name, Name) = (handed.from.into(), handed.to.into());
        let (trial, mut since) = (handed.trial, SystemTime::now());
        let stage = match handed.watched {
            None => Stage::Warming(warm::begin(upstream, &to, handed.expected.as_deref())),
            Some(watched) => {
                if trial.percent() < 100 {
                    upstream.share(&to, trial.percent());
                }
                since = since.checked_sub(watched).unwrap_or(UNIX_EPOCH);
                let now = Instant::now();
                Stage::Watching {
                    since: now.checked_sub(watched).unwrap_or(now),
                    told: Box::default(),
                }
            }
        };
        let by = (handed.number, handed.uid);
        Self {
            force: handed.force,
            expected: handed.expected,
            verdict: handed.verdict,
            begun: UNIX_EPOCH + Duration::from_millis(handed.begun),
            since,
            ..Self::new(by, upstream, (from, to), (trial, stage))
        }
    }

    /// Who has begun it, when, and how far it is: for who would begin another.
    pub(super) fn is_under_way(&self) -> String {
        let ago = self.begun.elapsed().unwrap_or_default().as_secs();
        let (from, to) = (&self.from, &self.to);
        let who = match self.uid {
            Some(uid) => format!("user {uid}"),
            None => "somebody".to_owned(),
        };
        format!(
            "{who} has begun to flip it from {from} to {to} {ago} s ago, and that is {}; `balancer flip {} --abort` ends it",
            self.phase().as_str(),
            self.upstream
        )
    }

    /// Why nothing is left of it to do: what serves is not what it has left, or one of its sets is gone.
    pub(super) fn is_overtaken(&self, upstream: &Upstream) -> Option<String> {
        let to = &self.to;
        let Some(active) = upstream.active_set() else {
            return Some("a reload has removed the sets of this upstream".to_owned());
        };
        let is_gone = |set: &&Name| upstream.members(set).next().is_none();
        if let Some(gone) = [to, &self.from].into_iter().find(is_gone) {
            return Some(format!(
                "a reload has removed set {gone}; set {active} serves"
            ));
        }
        let percent = self.trial.percent();
        let is_watched = matches!(self.stage, Stage::Watching { .. });
        let expected = if is_watched && percent == 100 {
            to
        } else {
            &self.from
        };
        let next = (is_watched && percent < 100).then(|| (Name::clone(to), percent));
        if active == *expected && upstream.next_set() == next {
            return None;
        }
        Some(format!("a reload says otherwise; set {active} serves"))
    }

    fn phase(&self) -> Phase {
        match self.stage {
            Stage::Warming(_) => Phase::Warming,
            Stage::Watching { .. } => Phase::Watching,
        }
    }

    /// What is told of it.
    pub(super) fn told(&self) -> Flip {
        let (before, after) = self.trial.answers();
        let (was, is) = self.trial.counts();
        Flip {
            number: self.number,
            uid: self.uid,
            from: Name::clone(&self.from),
            to: Name::clone(&self.to),
            phase: self.phase(),
            percent: match self.stage {
                Stage::Warming(_) => 0,
                Stage::Watching { .. } if self.is_back => 0,
                Stage::Watching { .. } => self.trial.percent(),
            },
            begun: self.begun,
            since: self.since,
            window: self.trial.window(),
            before: figures(was, before),
            after: figures(is, after),
            verdict: self.verdict.clone(),
            took: self.took,
        }
    }
}

fn figures(counts: Counts, answers: &Answers) -> Figures {
    Figures {
        requests: counts.requests,
        errors: counts.errors,
        p99: p99(answers),
    }
}
