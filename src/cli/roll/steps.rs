//! What is done with the endpoints that are out together: drain, wait, hook, resume, wait. Each step tells what it has come to.

use std::time::{Duration, Instant};

use super::decide::{Group, Member, Refusal, refusal};
use super::tell::Step;
use super::turn::{Turn, action, names};
use super::{Ended, Roll, hook, stopped};
use crate::cli::EXIT_TIMEOUT;
use crate::cli::running::AskError;
use crate::cli::status::{ago, in_flight};

/// Between two looks at an endpoint.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at the others, which cost more.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(1);

impl Roll<'_> {
    /// Takes those of `batch` through all of it.
    pub(super) fn one(&self, group: &Group, batch: &[Turn]) -> Result<(), Ended> {
        for (index, turn) in batch.iter().enumerate() {
            let member = match self.change(turn, action(turn.out()), &turn.before) {
                Ok(member) => member,
                Err(why) => {
                    self.put_back(&batch[..index]);
                    return Err(stopped(1, &names(batch), why));
                }
            };
            let left = in_flight(member.in_flight, member.tunnels);
            let text = format!("{}, {left}", turn.out());
            self.teller.of(&turn.name, Step::Draining, &text);
        }
        self.wait_empty(batch)?;
        if let Some(hook) = &self.args.hook {
            self.run_hook(hook, group, batch)?;
        }
        for turn in batch {
            let mode = match self.args.hook {
                Some(_) => "disabled",
                None => turn.out(),
            };
            self.change(turn, action(&turn.before), mode)
                .map_err(|why| stopped(1, &names(batch), why))?;
            if turn.was_active() {
                self.teller.of(&turn.name, Step::Resumed, "resumed");
            } else {
                let text = format!("{} as before", turn.before);
                self.teller.of(&turn.name, Step::AsBefore, &text);
            }
        }
        self.wait_well(batch)
    }

    /// Has `action` done to the one that is meant, if its mode was `expected` until then. Otherwise others are at work: what they
    /// want is put back, and said.
    fn change(&self, turn: &Turn, wanted: &str, expected: &str) -> Result<Member, String> {
        let name = &turn.name;
        let changed = self.post(name, wanted);
        let (before, member) = changed.map_err(|error| error.to_string())?;
        let is_it = self.is_it(turn, &member);
        if is_it && before == expected {
            return Ok(member);
        }
        // What a reload gives another endpoint together with the name is what was done here.
        let back = if before == expected {
            &turn.before
        } else {
            &before
        };
        let _ = self.post(name, action(back));
        Err(if is_it {
            format!("{name} was {before} and not {expected}: somebody else is at work")
        } else {
            replaced(name)
        })
    }

    /// Whether `member` is the one that is meant. After an upgrade it has another number, and is known by its old one still.
    fn is_it(&self, turn: &Turn, member: &Member) -> bool {
        let is_known = |known: Member| !known.gone && known.id == member.id;
        member.id == turn.id || self.get(&turn.name, Some(turn.id)).is_ok_and(is_known)
    }

    /// Gives the one whose hook failed nothing new, and never requests, whoever has its name by now. It is checked again, so that
    /// `status` and `why` tell how it is. Only what somebody else has wanted meanwhile is put back.
    fn leave_out(&self, turn: &Turn) {
        if let Ok((before, _)) = self.post(&turn.name, action(turn.out()))
            && before != "disabled"
        {
            let _ = self.post(&turn.name, action(&before));
        }
    }

    /// Gives those of `batch`, to which nothing else was done yet, the mode back that they had.
    fn put_back(&self, batch: &[Turn]) {
        for turn in batch {
            let _ = self.change(turn, action(&turn.before), turn.out());
        }
    }

    /// How it is, as long as it is the one that is meant.
    fn look(&self, turn: &Turn) -> Result<Member, String> {
        match self.get(&turn.name, Some(turn.id)) {
            Ok(member) if !member.gone => Ok(member),
            Ok(_) | Err(AskError::Gone(_)) => Err(replaced(&turn.name)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn wait_empty(&self, batch: &[Turn]) -> Result<(), Ended> {
        let names = names(batch);
        let undone = |why: String| {
            self.put_back(batch);
            stopped(1, &names, why).unbegun()
        };
        let begun = Instant::now();
        let mut looked = begun;
        let mut waiting: Vec<&Turn> = batch.iter().collect();
        loop {
            let mut left = Vec::new();
            for turn in waiting {
                let name = &turn.name;
                let member = self.look(turn).map_err(undone)?;
                if member.mode == "active" {
                    let why = format!("{name} gets requests again: somebody has resumed it");
                    return Err(undone(why));
                }
                if member.in_flight == 0 {
                    self.teller.of(name, Step::Empty, "nothing is in flight");
                } else {
                    left.push((turn, in_flight(member.in_flight, member.tunnels)));
                }
            }
            if self.stop.is_wanted() {
                let why = "stopped by a signal, before anything was restarted";
                return Err(undone(why.to_owned()));
            }
            if left.is_empty() || looked.elapsed() >= LOOK_AT_OTHERS {
                self.may_go_on(&names).map_err(undone)?;
                looked = Instant::now();
            }
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= self.args.timeout {
                let left: Vec<_> = left
                    .iter()
                    .map(|(turn, left)| format!("{} has {left}", turn.name))
                    .collect();
                let long = ago(self.args.timeout.as_secs());
                let why = format!("{} after {long}", left.join(", "));
                return Err(stopped(EXIT_TIMEOUT, &names, why).unbegun());
            }
            waiting = left.into_iter().map(|(turn, _)| turn).collect();
            self.stop.sleep(LOOK);
        }
    }

    /// Whether the others are still well enough that `batch` may be out.
    fn may_go_on(&self, batch: &[String]) -> Result<(), String> {
        if self.args.force {
            return Ok(());
        }
        let group = self.group().map_err(|error| error.to_string())?;
        match refusal(&group, batch) {
            // They carry it already: what was never seen before is seen now.
            None | Some(Refusal::Overload { limited: false, .. }) => Ok(()),
            Some(why) => Err(format!(
                "{} not restarted: {why} (--force goes on all the same)",
                batch.join(", ")
            )),
        }
    }

    /// Runs the hook for all of `batch` at once. They are disabled meanwhile: no check finds them down, and after it only what a
    /// check finds anew counts.
    fn run_hook(&self, hook: &str, group: &Group, batch: &[Turn]) -> Result<(), Ended> {
        let mut members = Vec::with_capacity(batch.len());
        for (index, turn) in batch.iter().enumerate() {
            match self.change(turn, "disable", turn.out()) {
                Ok(member) => members.push(member),
                Err(why) => {
                    for turn in &batch[..index] {
                        let _ = self.change(turn, action(&turn.before), "disabled");
                    }
                    self.put_back(&batch[index + 1..]);
                    return Err(stopped(1, &names(batch), why));
                }
            }
        }
        let mut hooks = Vec::with_capacity(batch.len());
        for (turn, member) in batch.iter().zip(&members) {
            self.teller.of(&turn.name, Step::Hook, "the hook runs");
            let whom = (&*group.name, member);
            hooks.push((turn, hook::start(hook, whom, self.teller.is_json())));
        }
        let mut failures = Vec::new();
        for (turn, started) in hooks {
            let name = &turn.name;
            let ended = started.and_then(|hook| {
                hook.wait(self.args.hook_timeout, || {
                    let text = "the hook was stopped, as one is that asks the terminal: it goes on by SIGCONT, or never";
                    self.teller.of(name, Step::HookStopped, text);
                })
            });
            match hook::failure(&ended) {
                None => self.teller.of(name, Step::HookDone, "the hook is done"),
                Some(why) => failures.push((turn, format!("{name}: {why}"))),
            }
        }
        let (has_failed, is_stopped) = (!failures.is_empty(), self.stop.is_wanted());
        if !has_failed && !is_stopped {
            return Ok(());
        }
        for turn in batch {
            if failures.iter().any(|(failed, _)| *failed == turn) {
                self.leave_out(turn);
            } else {
                // Restarted, and back as soon as a check says that it is well.
                let _ = self.change(turn, action(&turn.before), "disabled");
            }
        }
        let why = if has_failed {
            let failures: Vec<_> = failures.into_iter().map(|(_, why)| why).collect();
            failures.join(", ")
        } else {
            "stopped by a signal, after the hook; nobody has waited until all is well".to_owned()
        };
        Err(stopped(1, &names(batch), why))
    }

    /// Until all that get requests again are well and have their full share. Those that do not get well are drained again.
    fn wait_well(&self, batch: &[Turn]) -> Result<(), Ended> {
        let names = names(batch);
        let expected = self.args.expect_version.as_deref();
        let begun = Instant::now();
        let (mut well, mut others): (Vec<&Turn>, Vec<&Turn>) = (Vec::new(), Vec::new());
        loop {
            let mut waiting = Vec::new();
            for turn in batch.iter().filter(|turn| turn.was_active()) {
                let name = &turn.name;
                let member = self.look(turn).map_err(|why| stopped(1, &names, why))?;
                if member.mode != "active" {
                    let why = format!("{name} is {}: somebody has taken it out", member.mode);
                    return Err(stopped(1, &names, why));
                }
                let is_well = member.is_well() && member.runs(expected);
                if is_well && !well.contains(&turn) {
                    let mut text = member.state.clone();
                    if expected.is_some() {
                        text = format!("{text}, {}", member.version_told());
                    }
                    if !member.is_settled() {
                        text.push_str(", its share grows");
                    }
                    self.teller.of(name, Step::Well, &text);
                    well.push(turn);
                }
                let other = expected.filter(|expected| member.is_up_with_another(expected));
                if let Some(expected) = other
                    && !others.contains(&turn)
                {
                    let left = self.args.timeout.saturating_sub(begun.elapsed());
                    let text = format!(
                        "is up again, but runs {}, want {expected}; waits {} more at most",
                        member.version_told(),
                        ago(left.as_secs())
                    );
                    self.teller.of(name, Step::OtherVersion, &text);
                    others.push(turn);
                }
                let has_fallen = well.contains(&turn) && !is_well;
                let is_late = !is_well && begun.elapsed() >= self.args.timeout;
                if has_fallen || is_late {
                    let _ = self.change(turn, "drain", "active");
                    let reason = member.reason.as_deref();
                    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                    let mut state = format!("{name} is {}{reason}", member.state);
                    if let Some(expected) = expected {
                        state = format!("{state}, {}, want {expected}", member.version_told());
                    }
                    return Err(if has_fallen {
                        stopped(1, &names, format!("{state}, and was well a moment ago"))
                    } else {
                        let long = ago(self.args.timeout.as_secs());
                        let hint = match other {
                            Some(_) => {
                                ": the hook has not brought it; is the package there, and does the link lead to it?"
                            }
                            None => "",
                        };
                        stopped(EXIT_TIMEOUT, &names, format!("{state} after {long}{hint}"))
                    });
                }
                if !is_well || !member.is_settled() {
                    waiting.push(member.progress());
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if self.stop.is_wanted() {
                let why = "stopped by a signal; nobody has waited until all is well".to_owned();
                return Err(stopped(1, &names, why));
            }
            self.stop.sleep(LOOK);
        }
    }
}

fn replaced(name: &str) -> String {
    format!("{name} is another or gone since a reload; what had its name is not looked after")
}
