//! Flips an upstream from one set of its endpoints to another: looks whether the new one may take over, warms it, sends it all
//! requests at one stroke or share by share, watches what comes of it, and goes back by itself where that is worse. Whoever has
//! asked may leave: the daemon sees to the end.

mod check;
mod judge;
mod ledger;
mod run;
mod trial;
mod warm;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use self::check::list;
use self::judge::Limits;
use self::ledger::{Ledger, PAGE};
pub(super) use self::run::Handed;
use self::run::{Run, Stage};
use self::trial::{Look, News, Trial};
use super::Daemon;
use crate::admin::command::{Operator, Refused};
use crate::admin::flip::{Begun, Wanted};
use crate::metrics::attempts::Answers;
use crate::snapshot::Snapshot;
use crate::units::Name;
use crate::upstream::Upstream;
use crate::upstream::flip::Phase;

/// Flips under way, and what is known of the time before.
#[derive(Debug)]
pub(super) struct Flips {
    running: HashMap<Name, Run>,
    /// By upstream, of those with sets.
    ledgers: HashMap<Name, Ledger>,
    /// When the ledgers are written next.
    page: Instant,
    /// Flips so far.
    count: u64,
}

impl Flips {
    pub(super) fn new() -> Self {
        Self {
            running: HashMap::new(),
            ledgers: HashMap::new(),
            page: Instant::now(),
            count: 0,
        }
    }

    /// Waits until it is time to look; may be dropped meanwhile.
    pub(super) async fn due(&self) {
        let looks = self.running.values().map(|run| run.next);
        sleep_until(looks.fold(self.page, Instant::min)).await;
    }

    /// All that was counted for two sets of `upstream`.
    fn totals(&self, upstream: &Name, (from, to): (&Name, &Name)) -> (Answers, Answers) {
        let ledger = self.ledgers.get(upstream);
        let total = |set| ledger.map_or_else(Answers::default, |it| it.total(set));
        (total(from), total(to))
    }

    /// Brings what was counted up to now, before endpoints change sets.
    pub(super) fn count(&mut self, snapshot: &Snapshot) {
        for upstream in &snapshot.upstreams {
            if let Some(ledger) = self.ledgers.get_mut(&upstream.name) {
                ledger.count(upstream);
            }
        }
    }

    /// What another process goes on with.
    pub(super) fn hand_over(&self) -> Vec<Handed> {
        self.running.values().map(Run::hand_over).collect()
    }

    /// Goes on with what a process before this one has begun, before `snapshot` serves.
    pub(super) fn resume(&mut self, handed: Vec<Handed>, snapshot: &Snapshot) {
        for handed in handed {
            let found = find(snapshot, handed.upstream());
            let Some(upstream) = found else { continue };
            self.count = self.count.max(handed.number());
            let run = Run::resumed(handed, upstream);
            upstream.tell_flip(&run.told());
            self.running.insert(Name::clone(&upstream.name), run);
        }
    }
}

impl Daemon {
    /// Begins a flip, or says why not.
    pub(super) fn begin_flip(
        &mut self,
        by: Operator,
        (upstream, wanted): (&str, &Wanted),
    ) -> Result<Begun, Refused> {
        let snapshot = self.publisher.current();
        let upstream = self.flippable(&snapshot, upstream)?;
        let (from, to) = check::sets(upstream, &wanted.to)?;
        if let Some(run) = self.flips.running.get(&upstream.name) {
            return Err(Refused::Conflict(run.is_under_way()));
        }
        if from == to {
            let doubts = check::doubts(upstream, (&from, &to), wanted.expect_version.as_deref());
            if !doubts.is_empty() && !wanted.force {
                return Err(Refused::Conflict(format!(
                    "set {to} serves already, and is not as it should be: {}",
                    list(&doubts, "")
                )));
            }
            return Ok(Begun { flip: None });
        }
        if let Some(why) = check::nobody(upstream, &to) {
            let hint = match check::is_held_out(upstream, &to) {
                true => "; take `health.expect_version` out of the file and reload first",
                false => "",
            };
            return Err(Refused::Conflict(format!(
                "{why}; this cannot be forced{hint}"
            )));
        }
        let expected = wanted.expect_version.as_deref();
        let doubts = check::doubts(upstream, (&from, &to), expected);
        if !doubts.is_empty() && !wanted.force {
            let why = list(&doubts, "");
            return Err(Refused::Conflict(format!(
                "set {to} is not fit to take over: {why} (--force goes on all the same)"
            )));
        }
        let limits = Limits {
            min_requests: wanted.min_requests,
            tolerance: wanted.tolerance,
            heeds_latency: wanted.heeds_latency,
        };
        let trial = Trial::new(
            wanted.percent.clone(),
            (wanted.watch, limits),
            Answers::default(),
        );
        self.flips.count += 1;
        let number = self.flips.count;
        let mut run = Run::new((number, by.uid()), upstream, (from, to), trial);
        run.force = wanted.force;
        run.expected = wanted.expect_version.clone();
        run.verdict =
            (!doubts.is_empty()).then(|| format!("forced although {}", list(&doubts, "")));
        run.warm(upstream);
        self.flips.running.insert(Name::clone(&upstream.name), run);
        let run = &self.flips.running[&upstream.name];
        self.say(upstream, run, Phase::Warming);
        Ok(Begun { flip: Some(number) })
    }

    /// Ends a flip that is under way; the old set serves again.
    pub(super) fn abort_flip(&mut self, by: Operator, upstream: &str) -> Result<Begun, Refused> {
        let snapshot = self.publisher.current();
        let upstream = self.flippable(&snapshot, upstream)?;
        let name = &upstream.name;
        let Some(mut run) = self.flips.running.remove(name) else {
            return Err(Refused::Conflict(format!(
                "no flip of upstream {name:?} is under way"
            )));
        };
        let number = run.number;
        info!(upstream = %name, number, uid = by.uid(), "flip aborted");
        run.verdict = Some("an operator wanted it back".to_owned());
        let phase = match run.stage {
            Stage::Warming(_) => Phase::Aborted,
            Stage::Watching { .. } => self.go_back(upstream, &mut run, Phase::Aborted),
        };
        self.end_flip(upstream, run, phase);
        Ok(Begun { flip: Some(number) })
    }

    fn flippable<'s>(
        &self,
        snapshot: &'s Snapshot,
        name: &str,
    ) -> Result<&'s Arc<Upstream>, Refused> {
        find(snapshot, name).ok_or_else(|| {
            let names = snapshot.upstreams.iter().map(|it| &*it.name);
            let hint = crate::config::hint(name, names);
            Refused::Unknown(format!("no upstream is named {name:?}{hint}"))
        })
    }

    /// Looks at every flip under way, and writes the ledgers.
    pub(super) async fn tend_flips(&mut self) {
        let (snapshot, now) = (self.publisher.current(), Instant::now());
        let is_page = now >= self.flips.page;
        if is_page {
            self.flips.page = now + PAGE;
        }
        let divided = || snapshot.upstreams.iter().filter(|it| it.division.is_some());
        self.flips
            .ledgers
            .retain(|name, _| divided().any(|upstream| upstream.name == *name));
        for upstream in divided() {
            let is_looked_at = self.flips.running.contains_key(&upstream.name);
            if is_page || is_looked_at {
                let ledgers = &mut self.flips.ledgers;
                let ledger = ledgers.entry(Name::clone(&upstream.name)).or_default();
                ledger.count(upstream);
                if is_page {
                    ledger.remember(now);
                }
            }
        }
        let due = self.flips.running.iter();
        let due: Vec<_> = due
            .filter(|(_, run)| run.next <= now)
            .map(|(name, _)| Name::clone(name))
            .collect();
        for name in due {
            if let Some(run) = self.flips.running.remove(&name) {
                let upstream = find(&snapshot, &name);
                self.tend(upstream, run, now).await;
            }
        }
    }

    async fn tend(&mut self, upstream: Option<&Arc<Upstream>>, mut run: Run, now: Instant) {
        let Some(upstream) = upstream else {
            let (from, to) = (&run.from, &run.to);
            warn!(upstream = %run.upstream, %from, %to, "flip ended: its upstream is gone");
            return;
        };
        if let Some(why) = run.is_overtaken(upstream) {
            run.verdict = Some(why);
            self.end_flip(upstream, run, Phase::Overtaken);
            return;
        }
        if let Some(why) = dead(upstream, &run) {
            self.retreat(upstream, run, why, Phase::FlippedBack);
            return;
        }
        match &mut run.stage {
            Stage::Warming(warming) => {
                if !warming.is_finished() {
                    run.next = now + WARMING;
                    self.flips.running.insert(Name::clone(&upstream.name), run);
                    return;
                }
                let warmed = warming
                    .await
                    .unwrap_or_else(|error| vec![error.to_string()]);
                self.warmed(upstream, run, &warmed);
            }
            Stage::Watching { since, told } => {
                let age = now.saturating_duration_since(*since);
                let totals = self.flips.totals(&upstream.name, (&run.from, &run.to));
                let in_flight = upstream.members(&run.to);
                let news = News {
                    old: totals.0.since(&told.0),
                    new: totals.1.since(&told.1),
                    in_flight: in_flight.map(|it| u64::from(it.in_flight())).sum(),
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
        if !failed.is_empty() && (!run.force || !check::has_anybody(upstream, &run.to)) {
            run.verdict = Some(format!("not warm: {}", list(failed, "")));
            self.end_flip(upstream, run, Phase::Refused);
            return;
        }
        // What was so when it was asked for need not be so any more.
        if let Some(why) = unfit(upstream, &run) {
            run.verdict = Some(why);
            self.end_flip(upstream, run, Phase::Refused);
            return;
        }
        let ledger = self.flips.ledgers.entry(Name::clone(&upstream.name));
        let ledger = ledger.or_default();
        ledger.count(upstream);
        run.trial.begin(ledger.lately(&run.from));
        self.give_share(upstream, &mut run);
        self.say(upstream, &run, Phase::Watching);
        self.flips.running.insert(Name::clone(&upstream.name), run);
    }

    fn act(&mut self, upstream: &Arc<Upstream>, mut run: Run, look: Look) {
        match look {
            Look::Open => {
                run.next = Instant::now() + run.trial.pause();
                upstream.tell_flip(&run.told());
                self.flips.running.insert(Name::clone(&upstream.name), run);
            }
            Look::Widen(percent) => {
                if let Some(why) = unfit(upstream, &run) {
                    self.retreat(upstream, run, why, Phase::FlippedBack);
                    return;
                }
                info!(upstream = %upstream.name, set = %run.to, percent, "flip goes on: nothing is worse");
                self.give_share(upstream, &mut run);
                self.say(upstream, &run, Phase::Watching);
                self.flips.running.insert(Name::clone(&upstream.name), run);
            }
            Look::Kept => self.end_flip(upstream, run, Phase::Kept),
            Look::Unclear(why) => {
                let sets = (&*run.from, &*run.to);
                // Who forces it knows that it is not well.
                let sicker = check::is_sicker(upstream, sets).filter(|_| !run.force);
                let goes_back = run.trial.percent() < 100 || sicker.is_some();
                let why = sicker.map_or_else(|| why.clone(), |sicker| format!("{why}; {sicker}"));
                if goes_back {
                    self.retreat(upstream, run, why, Phase::Unclear);
                } else {
                    run.verdict = Some(why);
                    self.end_flip(upstream, run, Phase::Unclear);
                }
            }
            Look::Hangs(why) => self.retreat(upstream, run, why, Phase::Unclear),
            Look::Worse(fault) => {
                self.retreat(upstream, run, fault.to_string(), Phase::FlippedBack);
            }
        }
    }

    /// Lets the old set serve again, and ends it.
    fn retreat(&mut self, upstream: &Arc<Upstream>, mut run: Run, why: String, phase: Phase) {
        run.verdict = Some(why);
        let phase = self.go_back(upstream, &mut run, phase);
        self.end_flip(upstream, run, phase);
    }

    /// Gives the new set the share that is its turn.
    fn give_share(&mut self, upstream: &Arc<Upstream>, run: &mut Run) {
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
    }

    /// Lets the old set serve again, unless nobody of it can be asked. What that comes to: `phase`, or that it did not work.
    fn go_back(&mut self, upstream: &Arc<Upstream>, run: &mut Run, phase: Phase) -> Phase {
        if !check::has_anybody(upstream, &run.from) {
            let why = run.verdict.take().unwrap_or_default();
            let from = &run.from;
            run.verdict = Some(format!(
                "{why}; nobody of set {from} can be asked, so there is no way back"
            ));
            return Phase::Stranded;
        }
        let begun = Instant::now();
        upstream.switch(&run.from);
        run.took = Some(begun.elapsed());
        run.is_back = true;
        self.wish_for_set(upstream, &run.from);
        self.tell_modes();
        phase
    }

    /// It outlives a reload.
    fn wish_for_set(&mut self, upstream: &Upstream, set: &Name) {
        self.wishes
            .set_active(&mut self.config, &upstream.name, set);
    }

    fn end_flip(&self, upstream: &Arc<Upstream>, run: Run, phase: Phase) {
        let (from, to) = (&run.from, &run.to);
        let (name, why) = (&upstream.name, run.verdict.as_deref().unwrap_or_default());
        let (before, after) = run.trial.answers();
        let figures = (before.requests, before.errors, after.requests, after.errors);
        let (requests_before, failed_before, requests, failed) = figures;
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
        let labels = [&**name, phase.as_str()];
        self.metrics.flips.with_label_values(&labels).inc();
        self.say(upstream, &run, phase);
    }

    /// Tells everybody how far it is.
    fn say(&self, upstream: &Upstream, run: &Run, phase: Phase) {
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

fn find<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Arc<Upstream>> {
    snapshot.upstreams.iter().find(|it| *it.name == *name)
}

/// That nobody of the new set may be asked, not even for want of others, while it gets requests and somebody of the old one may.
fn dead(upstream: &Upstream, run: &Run) -> Option<String> {
    if matches!(run.stage, Stage::Warming(_)) {
        return None;
    }
    check::nobody(upstream, &run.to).filter(|_| check::has_anybody(upstream, &run.from))
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
