//! Flips from one set of an upstream's endpoints to another: asked for, refused, ended by hand, and handed to the next process.
//! Whoever has asked may leave: [`tend`] sees to the end.

mod check;
mod judge;
mod ledger;
mod run;
mod tend;
mod trial;
mod warm;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::ledger::{Ledger, PAGE};
pub(super) use self::run::Handed;
use self::run::{Run, Stage};
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
    /// The number of the last one.
    last: u64,
}

impl Flips {
    pub(super) fn new() -> Self {
        Self {
            running: HashMap::new(),
            ledgers: HashMap::new(),
            page: Instant::now(),
            last: 0,
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

    /// What was counted for a set of `upstream` within the last minutes.
    fn lately(&self, upstream: &Name, set: &Name) -> Answers {
        let ledger = self.ledgers.get(upstream);
        ledger.map_or_else(Answers::default, |it| it.lately(set))
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
            self.last = self.last.max(handed.number());
            let run = Run::resumed(handed, upstream);
            upstream.tell_flip(&run.told());
            self.go_on(run);
        }
    }

    /// It is looked at again when its time comes.
    fn go_on(&mut self, run: Run) {
        self.running.insert(Name::clone(&run.upstream), run);
    }

    /// Those that are to be looked at.
    fn take_due(&mut self, now: Instant) -> Vec<Run> {
        let due = self.running.extract_if(|_, run| run.next <= now);
        due.map(|(_, run)| run).collect()
    }

    /// Counts for every upstream with a flip under way; when it is time also for all others with sets, and remembers that.
    fn write_ledgers(&mut self, snapshot: &Snapshot, now: Instant) {
        let is_page = now >= self.page;
        let divided = snapshot.upstreams.iter();
        let divided = divided.filter(|upstream| upstream.division.is_some());
        if is_page {
            self.page = now + PAGE;
            let names: HashSet<_> = divided.clone().map(|upstream| &upstream.name).collect();
            self.ledgers.retain(|name, _| names.contains(name));
        }
        for upstream in divided.filter(|it| is_page || self.running.contains_key(&it.name)) {
            let ledger = self.ledgers.entry(Name::clone(&upstream.name));
            let ledger = ledger.or_default();
            ledger.count(upstream);
            if is_page {
                ledger.remember(now);
            }
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
        let upstream = flippable(&snapshot, upstream)?;
        let (from, to) = check::sets(upstream, &wanted.to)?;
        if let Some(run) = self.flips.running.get(&upstream.name) {
            return Err(Refused::Conflict(run.is_under_way()));
        }
        let doubts = check::may_take_over(upstream, (&from, &to), wanted)?;
        if from == to {
            return Ok(Begun { flip: None });
        }
        self.flips.last += 1;
        let number = self.flips.last;
        let by = (number, by.uid());
        let run = Run::begun(by, upstream, (from, to), (wanted, &doubts));
        self.say(upstream, &run, Phase::Warming);
        self.flips.go_on(run);
        Ok(Begun { flip: Some(number) })
    }

    /// Ends a flip that is under way; the old set serves again.
    pub(super) fn abort_flip(&mut self, by: Operator, upstream: &str) -> Result<Begun, Refused> {
        let snapshot = self.publisher.current();
        let upstream = flippable(&snapshot, upstream)?;
        let name = &upstream.name;
        let Some(run) = self.flips.running.remove(name) else {
            return Err(Refused::Conflict(format!(
                "no flip of upstream {name:?} is under way"
            )));
        };
        let number = run.number;
        info!(upstream = %name, number, uid = by.uid(), "flip aborted");
        let why = "an operator wanted it back".to_owned();
        match run.stage {
            Stage::Warming(_) => self.end_flip(upstream, run, (Phase::Aborted, Some(why))),
            Stage::Watching { .. } => self.retreat(upstream, run, (Phase::Aborted, why)),
        }
        Ok(Begun { flip: Some(number) })
    }
}

fn flippable<'s>(snapshot: &'s Snapshot, name: &str) -> Result<&'s Arc<Upstream>, Refused> {
    find(snapshot, name).ok_or_else(|| {
        let names = snapshot.upstreams.iter().map(|it| &*it.name);
        let hint = crate::config::hint(name, names);
        Refused::Unknown(format!("no upstream is named {name:?}{hint}"))
    })
}

fn find<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Arc<Upstream>> {
    snapshot.upstreams.iter().find(|it| *it.name == *name)
}
