//! What is done with the endpoints that are out together: drain, wait, hook, resume, wait. Each step tells what it has come to.

use std::io;
use std::time::{Duration, Instant};

use super::decide::Group;
use super::tell::Step;
use super::{Ended, Roll, hook, of, stopped};
use crate::cli::EXIT_TIMEOUT;
use crate::cli::running::AskError;
use crate::cli::status::{ago, in_flight};

/// Between two looks at an endpoint.
const LOOK: Duration = Duration::from_millis(100);

impl Roll<'_> {
    /// Takes those of `batch` through all of it.
    pub(super) fn one(&self, group: &Group, batch: &[String]) -> Result<(), Ended> {
        let failed = |error: AskError| of(&error, batch);
        for name in batch {
            let member = self.post(name, "drain").map_err(failed)?;
            let left = in_flight(member.in_flight, member.tunnels);
            self.teller
                .of(name, Step::Draining, &format!("draining, {left}"));
        }
        self.wait_empty(batch)?;
        if let Some(hook) = &self.args.hook {
            self.run_hook(hook, group, batch)?;
        }
        for name in batch {
            self.post(name, "resume").map_err(failed)?;
            self.teller.of(name, Step::Resumed, "resumed");
        }
        self.wait_well(batch)
    }

    fn wait_empty(&self, batch: &[String]) -> Result<(), Ended> {
        let begun = Instant::now();
        let mut waiting: Vec<&String> = batch.iter().collect();
        loop {
            let mut left = Vec::new();
            for name in waiting {
                let member = self.get(name).map_err(|error| of(&error, batch))?;
                if member.mode == "active" {
                    let why = format!("{name} gets requests again: somebody has resumed it");
                    return Err(stopped(1, batch, why));
                }
                if member.in_flight == 0 {
                    self.teller.of(name, Step::Empty, "nothing is in flight");
                } else {
                    left.push((name, in_flight(member.in_flight, member.tunnels)));
                }
            }
            if self.stop.is_wanted() {
                // Nothing was done to them yet: they are as they were before.
                for name in batch {
                    let _ = self.post(name, "resume");
                }
                let why = "stopped by a signal, before anything was restarted".to_owned();
                return Err(stopped(1, batch, why));
            }
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= self.args.timeout {
                let left: Vec<_> = left
                    .iter()
                    .map(|(name, left)| format!("{name} has {left}"))
                    .collect();
                let long = ago(self.args.timeout.as_secs());
                let why = format!("{} after {long}", left.join(", "));
                return Err(stopped(EXIT_TIMEOUT, batch, why));
            }
            waiting = left.into_iter().map(|(name, _)| name).collect();
            self.stop.sleep(LOOK);
        }
    }

    /// Runs the hook for all of `batch` at once. They are disabled meanwhile: no check finds them down, and after it only what a
    /// check finds anew counts.
    fn run_hook(&self, hook: &str, group: &Group, batch: &[String]) -> Result<(), Ended> {
        let mut hooks = Vec::with_capacity(batch.len());
        for name in batch {
            let disabled = self.post(name, "disable");
            let started = match disabled {
                Ok(member) => {
                    self.teller.of(name, Step::Hook, "the hook runs");
                    let whom = (&*group.name, &member);
                    hook::start(hook, whom, self.teller.is_json())
                }
                Err(error) => Err(io::Error::other(error.to_string())),
            };
            hooks.push((name, started));
        }
        let mut failures = Vec::new();
        for (name, started) in hooks {
            let ended = started.and_then(hook::wait);
            match hook::failure(&ended) {
                None => self.teller.of(name, Step::HookDone, "the hook is done"),
                Some(why) => {
                    // Checked again, so that `status` and `why` tell how it is.
                    let _ = self.post(name, "drain");
                    failures.push((name, format!("{name}: {why}")));
                }
            }
        }
        let (has_failed, is_stopped) = (!failures.is_empty(), self.stop.is_wanted());
        if !has_failed && !is_stopped {
            return Ok(());
        }
        for name in batch {
            if !failures.iter().any(|(failed, _)| *failed == name) {
                // Restarted, and back as soon as a check says that it is well.
                let _ = self.post(name, "resume");
            }
        }
        let why = if has_failed {
            let failures: Vec<_> = failures.into_iter().map(|(_, why)| why).collect();
            failures.join(", ")
        } else {
            "stopped by a signal, after the hook; nobody has waited until all is well".to_owned()
        };
        Err(stopped(1, batch, why))
    }

    /// Until all are well and have their full share. Those that do not get well are drained again.
    fn wait_well(&self, batch: &[String]) -> Result<(), Ended> {
        let begun = Instant::now();
        let mut well: Vec<&String> = Vec::new();
        loop {
            let mut waiting = Vec::new();
            for name in batch {
                let member = self.get(name).map_err(|error| of(&error, batch))?;
                if member.mode != "active" {
                    let why = format!("{name} is {}: somebody has taken it out", member.mode);
                    return Err(stopped(1, batch, why));
                }
                if member.is_well() && !well.contains(&name) {
                    let text = if member.is_settled() {
                        member.state.clone()
                    } else {
                        format!("{}, its share grows", member.state)
                    };
                    self.teller.of(name, Step::Well, &text);
                    well.push(name);
                }
                let has_fallen = well.contains(&name) && !member.is_well();
                let is_late = !member.is_well() && begun.elapsed() >= self.args.timeout;
                if has_fallen || is_late {
                    let _ = self.post(name, "drain");
                    let reason = member.reason.as_deref();
                    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                    let state = format!("{name} is {}{reason}", member.state);
                    return Err(if has_fallen {
                        stopped(1, batch, format!("{state}, and was well a moment ago"))
                    } else {
                        let long = ago(self.args.timeout.as_secs());
                        stopped(EXIT_TIMEOUT, batch, format!("{state} after {long}"))
                    });
                }
                if !member.is_settled() {
                    waiting.push(member.progress());
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if self.stop.is_wanted() {
                let why = "stopped by a signal; nobody has waited until all is well".to_owned();
                return Err(stopped(1, batch, why));
            }
            self.stop.sleep(LOOK);
        }
    }
}
