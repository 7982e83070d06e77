//! Sees flips through: sends the new set all requests at one stroke or share by share once it is warm, watches what comes of it,
//! and goes back where that is worse. What is worse is judged elsewhere.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::check::{self, list};
use super::run::{Run, Stage};
use super::trial::{Look, News};
use super::{Daemon, find};
use crate::units::Name;
use crate::upstream::Upstream;
use crate::upstream::flip::Phase;

impl Daemon {
    /// Looks at every flip whose time it is, and writes the ledgers.
    pub(in crate::daemon) async fn tend_flips(&mut self) {
        let (snapshot, now) = (self.publisher.current(), Instant::now());
        self.flips.write_ledgers(&snapshot, now);
        for run in self.flips.take_due(now) {
            let upstream = find(&snapshot, &run.upstream);
            self.tend(upstream, run, now).await;
        }
    }

    async fn tend(&mut self, upstream: Option<&Arc<Upstream>>, mut run: Run, now: Instant) {
        let Some(upstream) = upstream else {
            let (from, to) = (&run.from, &run.to);
            warn!(upstream = %run.upstream, %from, %to, "flip ended: its upstream is gone");
            return;
        };
        if let Some(why) = run.is_overtaken(upstream) {
            self.end_flip(upstream, run, (Phase::Overtaken, Some(why)));
            return;
        }
        match &mut run.stage {
            Stage::Warming(warming) => {
                if !warming.is_finished() {
                    run.next = now + WARMING;
                    self.flips.go_on(run);
                    return;
                }
                let failed = warming.await;
                let failed = failed.unwrap_or_else(|error| vec![error.to_string()]);
                self.warmed(upstream, run, &failed);
            }
            Stage::Watching { since, told } => {
                if let Some(why) = dead(upstream, (&run.from, &run.to)) {
                    self.retreat(upstream, run, (Phase::FlippedBack, why));
                    return;
                }
                let age = now.saturating_duration_since(*since);
                let totals = self.flips.totals(&upstream.name, (&run.from, &run.to));
                let news = News {
                    old: totals.0.since(&told.0),
                    new: totals.1.since(&told.1),
                    in_flight: in_flight(upstream, &run.to),
                };
                **told = totals;
                let patience = upstream.timeouts.response_head.min(LONGEST_PATIENCE);
                let look = run.trial.look((age, patience), &news);
                self.act(upstream, run, look);
            }
        }
    }

    /// Every endpoint of the new set was probed; of those in `failed` it is said why they have not passed.
    fn warmed(&mut self, upstream: &Arc<Upstream>, mut run: Run, failed: &[String]) {
        let is_cold = !failed.is_empty() && !run.force;
        let cold = is_cold.then(|| format!("not warm: {}", list(failed, "")));
        // What was so when it was asked for need not be so any more.
        if let Some(why) = cold.or_else(|| unfit(upstream, &run)) {
            self.end_flip(upstream, run, (Phase::Refused, Some(why)));
            return;
        }
        let before = self.flips.lately(&upstream.name, &run.from);
        run.trial.begin(before, in_flight(upstream, &run.to));
        self.widen(upstream, run);
    }

    fn act(&mut self, upstream: &Arc<Upstream>, mut run: Run, look: Look) {
        match look {
            Look::Open => {
                run.next = Instant::now() + run.trial.pause();
                upstream.tell_flip(&run.told());
                self.flips.go_on(run);
            }
            Look::Widen(percent) => {
                if let Some(why) = unfit(upstream, &run) {
                    self.retreat(upstream, run, (Phase::FlippedBack, why));
                    return;
                }
                info!(upstream = %upstream.name, set = %run.to, percent, "flip goes on: nothing is worse");
                self.widen(upstream, run);
            }
            Look::Kept => self.end_flip(upstream, run, (Phase::Kept, None)),
            Look::Unclear(why) => {
                let sets = (&*run.from, &*run.to);
                // Who forces it knows that it is not well.
                let sicker = check::is_sicker(upstream, sets).filter(|_| !run.force);
                let goes_back = run.trial.percent() < 100 || sicker.is_some();
                let why = sicker.map_or_else(|| why.clone(), |sicker| format!("{why}; {sicker}"));
                if goes_back {
                    self.retreat(upstream, run, (Phase::Unclear, why));
                } else {
                    self.end_flip(upstream, run, (Phase::Unclear, Some(why)));
                }
            }
            Look::Worse(fault) => {
                self.retreat(upstream, run, (Phase::FlippedBack, fault.to_string()));
            }
        }
    }

    /// Gives the new set the share that is its turn.
    fn widen(&mut self, upstream: &Arc<Upstream>, mut run: Run) {
        let percent = run.trial.percent();
        let begun = Instant::now();
        if percent < 100 {
            upstream.share(&run.to, percent);
        } else {
            upstream.switch(&run.to);
        }
        run.took = Some(begun.elapsed());
        if percent == 100 {
            self.wish_for_set(upstream, &run.to);
        }
        self.tell_modes();
        let told = Box::new(self.flips.totals(&upstream.name, (&run.from, &run.to)));
        let now = Instant::now();
        run.stage = Stage::Watching { since: now, told };
        run.since = SystemTime::now();
        run.next = now + run.trial.pause();
        self.say(upstream, &run, Phase::Watching);
        self.flips.go_on(run);
    }

    /// Lets the old set serve again, and ends it as `phase`; as stranded where nobody of the old one can be asked.
    pub(super) fn retreat(
        &mut self,
        upstream: &Arc<Upstream>,
        mut run: Run,
        (phase, why): (Phase, String),
    ) {
        let from = &run.from;
        if !check::has_anybody(upstream, from) {
            let why = format!("{why}; nobody of set {from} can be asked, so there is no way back");
            self.end_flip(upstream, run, (Phase::Stranded, Some(why)));
            return;
        }
        let begun = Instant::now();
        upstream.switch(&run.from);
        run.took = Some(begun.elapsed());
        run.is_back = true;
        self.wish_for_set(upstream, &run.from);
        self.tell_modes();
        self.end_flip(upstream, run, (phase, Some(why)));
    }

    /// It outlives a reload.
    fn wish_for_set(&mut self, upstream: &Arc<Upstream>, set: &Name) {
        self.wishes
            .set_active(&mut self.config, &upstream.name, set);
        self.wishes.tell(std::slice::from_ref(upstream));
    }

    /// It is over, for the reason that is known already where there is no other.
    pub(super) fn end_flip(
        &self,
        upstream: &Arc<Upstream>,
        mut run: Run,
        (phase, why): (Phase, Option<String>),
    ) {
        run.verdict = why.or(run.verdict);
        let (from, to) = (&run.from, &run.to);
        let (name, why) = (&upstream.name, run.verdict.as_deref().unwrap_or_default());
        let (before, after) = run.trial.counts();
        let (requests_before, failed_before) = (before.requests, before.errors);
        let (requests, failed) = (after.requests, after.errors);
        match phase {
            Phase::FlippedBack => {
                error!(upstream = %name, set = %to, back_to = %from, why, requests, failed, requests_before, failed_before, "flipped back automatically");
            }
            Phase::Stranded => {
                error!(upstream = %name, set = %to, why, requests, failed, requests_before, failed_before, "set is worse, and there is no way back");
            }
            Phase::Kept => {
                info!(upstream = %name, set = %to, why, requests, failed, requests_before, failed_before, "flip kept");
            }
            Phase::Unclear
            | Phase::Aborted
            | Phase::Refused
            | Phase::Overtaken
            | Phase::Warming
            | Phase::Watching => {
                warn!(upstream = %name, %from, %to, result = phase.as_str(), why, "flip ended");
            }
        }
        if let Some((set, file)) = upstream.active_set().zip(upstream.file_set()) {
            warn!(upstream = %name, %set, %file, "the file names another set than the one that serves: a reload leaves that, a restart does not");
        }
        let labels = [&**name, phase.as_str()];
        self.metrics.flips.with_label_values(&labels).inc();
        self.say(upstream, &run, phase);
    }

    /// Tells everybody how far it is.
    pub(super) fn say(&self, upstream: &Upstream, run: &Run, phase: Phase) {
        let mut flip = run.told();
        flip.phase = phase;
        if !phase.is_over() {
            let (from, to, percent) = (&flip.from, &flip.to, flip.percent);
            info!(upstream = %upstream.name, %from, %to, percent, took = ?flip.took.unwrap_or_default(), phase = phase.as_str(), "flip");
        }
        let told = json!({
            "upstream": &*upstream.name,
            "number": flip.number,
            "from": &*flip.from,
            "to": &*flip.to,
            "phase": phase.as_str(),
            "percent": flip.percent,
            "active_set": upstream.active_set().as_deref(),
            "verdict": flip.verdict,
            "uid": flip.uid,
        });
        upstream.tell_flip(&flip);
        self.admin.events.publish("flip", told);
    }
}

/// Requests in flight at `set` that may wait for an answer: those with a tunnel have had theirs.
fn in_flight(upstream: &Upstream, set: &str) -> u64 {
    let members = upstream.members(set);
    let waiting = members.map(|it| it.in_flight().saturating_sub(it.tunnels()));
    waiting.map(u64::from).sum()
}

/// That nobody of the new set may be asked, not even for want of others, while somebody of the old one may.
fn dead(upstream: &Upstream, (from, to): (&str, &str)) -> Option<String> {
    check::nobody(upstream, to).filter(|_| check::has_anybody(upstream, from))
}

/// Why the new set is not to get its next share, as it is by now.
fn unfit(upstream: &Upstream, run: &Run) -> Option<String> {
    let doubts = || {
        let sets = (&*run.from, &*run.to);
        let doubts = check::doubts(upstream, sets, run.expected.as_deref());
        let is_unfit = !doubts.is_empty() && !run.force;
        is_unfit.then(|| format!("set {} is not fit any more: {}", run.to, list(&doubts, "")))
    };
    check::nobody(upstream, &run.to).or_else(doubts)
}

const WARMING: Duration = Duration::from_millis(50);
const LONGEST_PATIENCE: Duration = Duration::from_secs(3600); // as the longest of others
