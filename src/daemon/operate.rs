//! Obeys operators: what came over the admin's socket, one after another.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::Daemon;
use super::audit::Action;
use super::in_time::{PATIENCE, in_time};
use super::reload::Cause;
use super::upgrade::seats;
use super::wishes::Wishes;
use crate::admin::command::{
    Asked, Command, Operator, Refused, Reloaded, Reply, RollbackTo, Wanted,
};
use crate::admin::status;
use crate::config::{self, Config, ConfigErrors, Mode};
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiled, Compiler, apply};
use crate::snapshot::plan::consequences::Consequences;
use crate::snapshot::plan::restart::Started;
use crate::snapshot::plan::{Plan, Side};
use crate::tls::{Contents, Tickets};
use crate::worker;

impl Daemon {
    /// Obeys `asked`, and what has been asked for since. Reloads that wait together are one: it reads what all of them
    /// have seen. One that expects a generation is one of its own: of two, the second comes too late.
    pub(super) async fn obey(&mut self, asked: Asked) {
        let mut waiting = VecDeque::from([asked]);
        while let Ok(asked) = self.commands.try_recv() {
            waiting.push_back(asked);
        }
        while let Some(Asked { by, command }) = waiting.pop_front() {
            if command.is_abandoned() {
                let why = "who asked has left before it was begun".to_owned();
                self.note(by, (name(&command), ""), Some(&Refused::Conflict(why)));
                continue;
            }
            let command = match self.upgrade {
                Some(_) => match put_off(command) {
                    Ok((action, target, refused)) => {
                        self.note(by, (action, &target), Some(&refused));
                        continue;
                    }
                    Err(command) => command,
                },
                None => command,
            };
            match command {
                Command::Reload(wanted, reply) => {
                    let mut replies = vec![(by, reply)];
                    waiting = waiting
                        .into_iter()
                        .filter_map(|asked| match asked {
                            Asked {
                                by,
                                command: Command::Reload(other, reply),
                            } if other == wanted
                                && wanted.expect_generation.is_none()
                                && !reply.is_closed() =>
                            {
                                replies.push((by, reply));
                                None
                            }
                            other => Some(other),
                        })
                        .collect();
                    self.obey_reload(wanted, replies).await;
                }
                Command::Rollback(wanted, reply) => {
                    self.obey_rollback(by, wanted, reply).await;
                }
                Command::SetMode {
                    upstream,
                    endpoint,
                    mode,
                    reply,
                } => {
                    let outcome = self.set_mode(&upstream, &endpoint, mode);
                    let target = format!("{upstream}/{endpoint}");
                    self.note(by, (action(mode), &target), outcome.as_ref().err());
                    // Who has left need not be told; this holds for every reply.
                    let _ = reply.send(outcome);
                }
                Command::Flip {
                    upstream,
                    wanted,
                    reply,
                } => {
                    let outcome = self.begin_flip(by, (&upstream, &wanted));
                    let target = format!("{upstream} to {}", wanted.to);
                    self.note(by, ("flip", &target), outcome.as_ref().err());
                    let _ = reply.send(outcome);
                }
                Command::AbortFlip(upstream, reply) => {
                    let outcome = self.abort_flip(by, &upstream);
                    self.note(by, ("abort-flip", &upstream), outcome.as_ref().err());
                    let _ = reply.send(outcome);
                }
                Command::Upgrade(wanted, reply) => self.begin_upgrade(by, wanted, reply).await,
                Command::Plan(expected, reply) => {
                    let outcome = match self.is_expected(expected) {
                        Ok(()) => self.plan().await,
                        Err(refused) => Err(refused),
                    };
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    async fn obey_reload(&mut self, wanted: Wanted, replies: Vec<(Operator, Reply<Reloaded>)>) {
        // Who came first: all have seen the same file.
        let Some((first, _)) = replies.first() else {
            return;
        };
        let cause = Cause::Operator {
            by: *first,
            force: wanted.force,
        };
        let outcome = match self.is_expected(wanted.expect_generation) {
            Ok(()) => self.reload(cause).await.map_err(Refused::Config),
            Err(refused) => Err(refused),
        };
        for (by, reply) in replies {
            self.note(by, ("reload", ""), outcome.as_ref().err());
            let _ = reply.send(outcome.clone());
        }
    }

    /// Whether the generation in use is still the one that an operator has looked at.
    fn is_expected(&self, expected: Option<u64>) -> Result<(), Refused> {
        let generation = self.publisher.current().generation;
        match expected {
            Some(expected) if expected != generation => Err(Refused::Conflict(format!(
                "generation {generation} is in use, not {expected}: somebody was quicker; plan again"
            ))),
            _ => Ok(()),
        }
    }

    async fn obey_rollback(&mut self, by: Operator, wanted: RollbackTo, reply: Reply<Reloaded>) {
        let outcome = self.rollback(by, wanted).await;
        let target = rollback_target(wanted.generation);
        self.note(by, ("rollback", &target), outcome.as_ref().err());
        let _ = reply.send(outcome);
    }

    async fn rollback(
        &mut self,
        by: Operator,
        RollbackTo { generation, force }: RollbackTo,
    ) -> Result<Reloaded, Refused> {
        if generation == Some(self.publisher.current().generation) {
            return Err(Refused::Conflict(
                "that generation is the one in use".to_owned(),
            ));
        }
        let found = {
            let history = lock(&self.admin.history);
            history.find(generation).cloned()
        };
        let earlier = found.map_err(Refused::Unknown)?;
        let cause = Cause::Rollback { by, earlier, force };
        self.reload(cause).await.map_err(Refused::Config)
    }

    /// The mode before.
    fn set_mode(&mut self, upstream: &str, endpoint: &str, mode: Mode) -> Result<Mode, Refused> {
        let current = self.publisher.current();
        let (_, found) = status::find(&current, upstream, endpoint).map_err(Refused::Unknown)?;
        let before = found.state().mode;
        if !self
            .wishes
            .set(&mut self.config, (upstream, endpoint), mode)
        {
            return Err(Refused::Conflict(
                "the configuration has changed meanwhile; ask again".to_owned(),
            ));
        }
        apply(&current, &self.config);
        self.checker.follow(&current);
        self.farewells.follow(&current, Instant::now());
        for worker in &self.workers {
            // Idle connections to it are closed.
            worker.tell(worker::Command::Follow);
        }
        self.tell_modes();
        Ok(before)
    }

    /// Compares the file as it is now with what is in use, and changes nothing.
    async fn plan(&self) -> Result<Plan, Refused> {
        let (path, running, mut wishes) =
            (self.path.clone(), self.config.clone(), self.wishes.clone());
        let (current, files) = (self.publisher.current(), self.files.clone());
        let (started, given_up) = (self.started.clone(), self.given_up.clone());
        let planned = in_time(PATIENCE, move || {
            let since = (&started, &files);
            let (mut plan, next) = plan((&running, &current), (&mut wishes, since), &path)?;
            let refused = given_up.and_then(|given_up| given_up.refuses(&next));
            plan.warnings.extend(refused);
            Ok(plan)
        });
        let outcome = planned
            .await
            .unwrap_or_else(|why| Err(ConfigErrors::of_file(&self.path, why)));
        outcome.map_err(Refused::Config)
    }

    /// Whether an upstream has an endpoint that serves and no other, which may be another one at any time.
    pub(super) fn has_authorities(&self) -> bool {
        let snapshot = self.publisher.current();
        snapshot.upstreams.iter().any(|it| it.is_authoritative())
    }

    /// Has the tunnels of who is the authority no more end in their time, and lets the process before this one know who is.
    pub(super) fn follow_seats(&mut self) {
        let current = self.publisher.current();
        self.farewells.follow(&current, Instant::now());
        let seats = seats(&current);
        if seats != self.seats {
            self.seats = seats;
            self.tell_modes();
        }
    }

    /// Ends the tunnels of endpoints that have drained for long enough.
    pub(super) fn end_farewells(&mut self) {
        let long = self.config.process.drain_tunnel_timeout;
        for endpoint in self.farewells.take_over(Instant::now(), long) {
            for worker in &self.workers {
                worker.tell(worker::Command::CutTunnels(endpoint));
            }
        }
    }

    pub(super) fn note(
        &self,
        by: Operator,
        (action, target): (&'static str, &str),
        refused: Option<&Refused>,
    ) {
        let generation = self.publisher.current().generation;
        let refused = refused.map(ToString::to_string);
        let told = json!({
            "by": by.as_str(),
            "uid": by.uid(),
            "client": by.client(),
            "action": action,
            "target": target,
            "generation": generation,
            "result": if refused.is_some() { "refused" } else { "done" },
            "refused": refused,
        });
        self.admin.events.publish("operator", told);
        let action = Action {
            action,
            target,
            generation,
            refused,
        };
        self.audit.note(by, &action);
    }
}

/// As the audit log names it.
fn name(command: &Command) -> &'static str {
    match command {
        Command::Reload(..) => "reload",
        Command::Rollback(..) => "rollback",
        Command::SetMode { mode, .. } => action(*mode),
        Command::Flip { .. } => "flip",
        Command::AbortFlip(..) => "abort-flip",
        Command::Upgrade(..) => "upgrade",
        Command::Plan(..) => "plan",
    }
}

/// Refuses what would change something: the process that is about to take over would know nothing of it. What was asked for, of
/// what, and why not; or the command, if it changes nothing.
fn put_off(command: Command) -> Result<(&'static str, String, Refused), Command> {
    let refused = || {
        let why = "an upgrade is under way; ask again when it is over";
        Refused::Later(why.to_owned())
    };
    // Who has left need not be told.
    let (action, target) = match command {
        Command::Reload(_, reply) => {
            let _ = reply.send(Err(refused()));
            ("reload", String::new())
        }
        Command::Rollback(wanted, reply) => {
            let _ = reply.send(Err(refused()));
            ("rollback", rollback_target(wanted.generation))
        }
        Command::SetMode {
            upstream,
            endpoint,
            mode,
            reply,
        } => {
            let _ = reply.send(Err(refused()));
            (action(mode), format!("{upstream}/{endpoint}"))
        }
        Command::Flip {
            upstream,
            wanted,
            reply,
        } => {
            let _ = reply.send(Err(refused()));
            ("flip", format!("{upstream} to {}", wanted.to))
        }
        Command::AbortFlip(upstream, reply) => {
            let _ = reply.send(Err(refused()));
            ("abort-flip", upstream)
        }
        Command::Upgrade(..) | Command::Plan(..) => return Err(command),
    };
    Ok((action, target, refused()))
}

/// What an operator does to have an endpoint in `mode`.
fn action(mode: Mode) -> &'static str {
    match mode {
        Mode::Active => "resume",
        Mode::Draining => "drain",
        Mode::Disabled => "disable",
    }
}

fn rollback_target(generation: Option<u64>) -> String {
    generation.map(|it| it.to_string()).unwrap_or_default()
}

/// The file at `path` as taking it over beside `current` would make it, with what operators want. Of it nothing is in use.
pub(super) fn tried(
    path: &Path,
    current: &Snapshot,
    wishes: &mut Wishes,
) -> Result<(Config, Compiled), ConfigErrors> {
    let mut next = config::load(path)?;
    wishes.lay_over(&mut next);
    let tickets = Tickets::new().map_err(|error| ConfigErrors::of_file(path, error.to_string()))?;
    // With counters of its own: what is only tried has no series.
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), tickets, 0);
    let compiled = compiler.compile(&next, Some(current))?;
    Ok((next, compiled))
}

/// What taking the file at `path` over would change, with the modes that operators have set.
fn plan(
    (running, current): (&Config, &Snapshot),
    (wishes, (started, files)): (&mut Wishes, (&Started, &Contents)),
    path: &Path,
) -> Result<(Plan, Config), ConfigErrors> {
    let (next, compiled) = tried(path, current, wishes)?;
    let side = |config, snapshot| Side { config, snapshot };
    let (running, planned) = (side(running, current), side(&next, &compiled.snapshot));
    let mut plan = Plan::between(started, running, planned);
    let changed = compiled.files.changed(files);
    plan.files = changed.map(|file| file.display().to_string()).collect();
    plan.by_operator = wishes.list();
    plan.sets_by_operator = wishes.sets();
    plan.warnings = compiled.warnings.iter().map(ToString::to_string).collect();
    let consequences = Consequences::between(running.snapshot, planned);
    plan.warnings.extend(consequences.warnings());
    Ok((plan, next))
}
