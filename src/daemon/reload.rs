//! From an edited file to a published snapshot; or nothing changes, and why is said.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use serde_json::json;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::retire::{self, Gone};
use super::{Daemon, log_writer, names, note_accepted, notify, open, publish_gauges, warn_of};
use crate::admin::command::{Operator, Reloaded};
use crate::admin::history::{Accepted, By};
use crate::config::{self, Config, ConfigErrors};
use crate::snapshot::compile::{Compiled, Compiler, apply};
use crate::snapshot::plan::Counts;
use crate::tls::Contents;
use crate::worker::Command;

/// Why a configuration is taken over.
pub(super) enum Cause {
    /// SIGHUP.
    Signal,
    /// An operator's command.
    Operator(Operator),
    /// An operator's command: an earlier file, which is this.
    Rollback(Operator, Accepted),
}

impl Daemon {
    /// Reads the file again. Either all of it is in use afterwards, or none.
    pub(super) async fn reload(&mut self, cause: Cause) -> Result<Reloaded, ConfigErrors> {
        self.notify.reloading();
        let by = match cause {
            Cause::Signal => "signal",
            Cause::Operator(_) => "reload",
            Cause::Rollback(..) => "rollback",
        };
        let outcome = self.try_reload(cause).await;
        match &outcome {
            Ok(reloaded) => {
                self.notify.ready(&self.summary());
                note_accepted(&self.metrics);
                let told = json!({ "by": by, "result": "accepted", "previous": reloaded.previous, "generation": reloaded.generation, "kept": reloaded.kept, "added": reloaded.added, "draining": reloaded.draining });
                self.admin.events.publish("reload", &told);
                self.metrics
                    .config_reloads
                    .with_label_values(&["accepted"])
                    .inc();
            }
            Err(problems) => {
                self.notify.ready(&notify::rejected(problems));
                self.metrics.config_last_reload_successful.set(0);
                self.metrics
                    .config_reloads
                    .with_label_values(&["rejected"])
                    .inc();
                let generation = self.publisher.current().generation;
                error!(generation, %problems, "configuration rejected");
                let told = json!({ "by": by, "result": "rejected", "generation": generation, "problems": problems.to_string() });
                self.admin.events.publish("reload", &told);
            }
        }
        outcome
    }

    async fn try_reload(&mut self, cause: Cause) -> Result<Reloaded, ConfigErrors> {
        let path = self.path.clone();
        let mut wishes = self.wishes.clone();
        let earlier = match &cause {
            Cause::Signal | Cause::Operator(_) => None,
            Cause::Rollback(_, earlier) => Some(Arc::clone(&earlier.text)),
        };
        let load = move || {
            let mut config = match earlier {
                None => config::load(&path)?,
                Some(text) => config::parse(&text, &path)?,
            };
            wishes.lay_over(&mut config);
            Ok((config, wishes))
        };
        // Not here: a file system that hangs would hold everything else up.
        let (config, wishes) = tokio::task::spawn_blocking(load)
            .await
            .unwrap_or_else(|error| {
                let message = format!("could not be understood: {error}");
                Err(ConfigErrors::of_file(&self.path, message))
            })?;
        let Some((config, compiled)) = self.compile(move || Ok(config)).await? else {
            let message = "nothing can be compiled any more; restart the balancer";
            return Err(ConfigErrors::of_file(&self.path, message));
        };
        let text = Arc::clone(&config.text.0);
        let mut reloaded = self
            .take_over(config, compiled, "configuration reloaded")
            .await?;
        self.wishes = wishes;
        let history = self.admin.history.lock();
        let mut history = history.unwrap_or_else(PoisonError::into_inner);
        let (by, origin, doubts) = match cause {
            Cause::Signal => (By::Signal, None, history.end_of_rollback(&text)),
            Cause::Operator(by) => (By::Reload(by.uid), None, history.end_of_rollback(&text)),
            Cause::Rollback(by, earlier) => {
                let doubts = changed_since(&earlier, &self.files);
                (By::Rollback(by.uid), Some(earlier.origin), doubts)
            }
        };
        for doubt in &doubts {
            warn!("{doubt}");
        }
        reloaded.warnings.extend(doubts);
        history.push(Accepted {
            generation: reloaded.generation,
            origin: origin.unwrap_or(reloaded.generation),
            text,
            files: self.files.clone(),
            at: SystemTime::now(),
            by,
        });
        Ok(reloaded)
    }

    /// Compiles what `load` gives. None where there is no compiler: one was lost, and no other could be made.
    pub(super) async fn compile(
        &mut self,
        load: impl FnOnce() -> Result<Config, ConfigErrors> + Send + 'static,
    ) -> Result<Option<(Config, Compiled)>, ConfigErrors> {
        // Large files take a while; checks and the admin listener go on meanwhile.
        let Some(mut compiler) = self.compiler.take() else {
            return Ok(None);
        };
        let publisher = self.publisher.clone();
        let compile = move || {
            let result = load().and_then(|config| {
                let compiled = compiler.compile(&config, Some(&publisher.current()))?;
                Ok((config, compiled))
            });
            (compiler, result)
        };
        match tokio::task::spawn_blocking(compile).await {
            Ok((compiler, result)) => {
                self.compiler = Some(compiler);
                result.map(Some)
            }
            // The panic was logged; the compiler was lost in it, and with it the ticket keys.
            Err(error) => {
                self.compiler = self.new_compiler();
                Err(ConfigErrors::of_file(
                    &self.path,
                    format!("could not be understood: {error}"),
                ))
            }
        }
    }

    /// Puts what was compiled in use; `said` is what the log then says.
    pub(super) async fn take_over(
        &mut self,
        config: Config,
        compiled: Compiled,
        said: &'static str,
    ) -> Result<Reloaded, ConfigErrors> {
        let Compiled {
            snapshot,
            warnings,
            files,
        } = compiled;
        let log = config.access_log.clone();
        // Not here: a file system that hangs would hold everything else up.
        let target = tokio::task::spawn_blocking(move || log_writer::open(&log))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| {
                ConfigErrors(vec![
                    config
                        .access_log
                        .place
                        .problem(format!("cannot be opened: {error}")),
                ])
            })?;
        let opened = open(&snapshot, &self.addresses, self.workers.len())
            .map_err(|error| ConfigErrors::of_file(&self.path, error.to_string()))?;
        names::resolve(&snapshot).await;

        // From here on there is no way back.
        warn_of(&warnings);
        let restart = self.warn_of_restart(&config);
        let previous = self.publisher.current();
        let counts = Counts::between(&previous, &snapshot);
        apply(&snapshot, &config);
        publish_gauges(&self.metrics, &snapshot);
        let generation = snapshot.generation;
        // Before it is published: who finds the name taken by another finds the one before here.
        self.admin.leaving.follow(&previous, &snapshot);
        self.publisher.publish(snapshot);

        let current = self.publisher.current();
        self.log_writer.set_target(target);
        self.addresses
            .retain(|(slot, _)| current.listener_index(*slot).is_some());
        self.addresses
            .extend(opened.iter().map(|opened| (opened.slot, opened.address)));
        self.admin.set_addresses(self.addresses.clone());
        self.unopened = opened;
        self.hand_out();
        for worker in &self.workers {
            worker.tell(Command::Follow);
        }
        self.checker.follow(&current);
        self.farewells.follow(&current, Instant::now());
        let reloaded = Reloaded {
            previous: previous.generation,
            generation,
            kept: counts.kept,
            in_flight: counts.in_flight,
            added: counts.added,
            draining: counts.removed,
            restart,
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        let gone = Gone::between(&previous, &current);
        gone.resume(&previous);
        gone.retire_gauges(&self.metrics);
        let with = (Arc::clone(&self.metrics), self.publisher.clone());
        let finished = self.finished.sender.clone();
        tokio::spawn(retire::wait(gone, previous, with, finished));
        self.config = config;
        self.files = files;
        self.refused_tls_files = None;
        info!(
            previous = reloaded.previous,
            generation,
            kept = counts.kept,
            added = counts.added,
            removed = counts.removed,
            in_flight = counts.in_flight,
            "{said}"
        );
        Ok(reloaded)
    }

    /// Names what a reload cannot change.
    fn warn_of_restart(&self, config: &Config) -> Vec<String> {
        let settings = self.started.needs_restart(config);
        for setting in &settings {
            warn!(
                running = setting.before,
                configured = setting.after,
                "{} changes with a restart only",
                setting.key
            );
        }
        settings.iter().map(ToString::to_string).collect()
    }

    fn new_compiler(&self) -> Option<Compiler> {
        let tickets = crate::tls::Tickets::new().ok()?;
        Some(Compiler::new(
            Arc::clone(&self.metrics),
            tickets,
            fastrand::usize(..),
        ))
    }
}

/// Says which files hold something else by now than when `earlier` was taken over.
fn changed_since(earlier: &Accepted, files: &Contents) -> Vec<String> {
    let say = |file: &std::path::Path| {
        format!(
            "{} holds something else than when generation {} was taken over: what it holds now is used",
            file.display(),
            earlier.generation
        )
    };
    earlier.files.changed(files).map(say).collect()
}
