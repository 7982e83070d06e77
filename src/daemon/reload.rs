//! From an edited file to a published snapshot; or nothing changes, and why is said.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::in_time::{PATIENCE, in_time, too_long};
use super::listeners::{Opened, open};
use super::retire::{self, Gone};
use super::watch::Tried;
use super::{Daemon, Inherited, log_writer, names, note_accepted, notify, publish_gauges, warn_of};
use crate::admin::command::{Operator, Reloaded};
use crate::admin::history::{Accepted, By};
use crate::admin::reloads::LastReload;
use crate::config::{self, Config, ConfigErrors};
use crate::lock::lock;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiled, Compiler, apply};
use crate::snapshot::plan::consequences::Consequences;
use crate::snapshot::plan::{Counts, Side};
use crate::tls::Contents;
use crate::worker::Command;

/// Why a configuration is taken over.
pub(super) enum Cause {
    /// SIGHUP.
    Signal,
    /// The file, or one that it names, holds something else.
    Watch,
    /// An operator's command.
    Operator {
        /// Whose.
        by: Operator,
        /// Also for a file that was given up.
        force: bool,
    },
    /// An operator's command: an earlier file.
    Rollback {
        /// Whose.
        by: Operator,
        /// Which.
        earlier: Accepted,
        /// Also where nobody would be left to take requests, or another set gets them unasked.
        force: bool,
    },
    /// Requests fail, in this way: an earlier file, likewise.
    AutoRollback(Accepted, String),
}

impl Cause {
    fn by(&self) -> By {
        match self {
            Self::Signal => By::Signal,
            Self::Watch => By::Watch,
            Self::Operator { by, .. } => By::Reload(by.uid()),
            Self::Rollback { by, .. } => By::Rollback(by.uid()),
            Self::AutoRollback(..) => By::AutoRollback,
        }
    }

    /// The earlier file; none: the one on disk is read.
    fn earlier(&self) -> Option<&Accepted> {
        match self {
            Self::Signal | Self::Watch | Self::Operator { .. } => None,
            Self::Rollback { earlier, .. } | Self::AutoRollback(earlier, _) => Some(earlier),
        }
    }

    /// Why, where nobody has asked for it.
    fn why(&self) -> Option<&str> {
        match self {
            Self::Signal | Self::Watch | Self::Operator { .. } | Self::Rollback { .. } => None,
            Self::AutoRollback(_, why) => Some(why),
        }
    }

    /// Whether what comes of it is watched: it is not who has gone back, or insists.
    fn is_tried(&self) -> bool {
        match self {
            Self::Signal | Self::Watch | Self::Operator { force: false, .. } => true,
            Self::Operator { force: true, .. } | Self::Rollback { .. } | Self::AutoRollback(..) => {
                false
            }
        }
    }

    /// Whether it is done although nobody is left by it, or requests go where nobody has sent them: not unless somebody wants just
    /// that, or requests fail as things are.
    fn insists(&self) -> bool {
        match self {
            Self::Signal | Self::Watch => false,
            Self::Operator { force, .. } | Self::Rollback { force, .. } => *force,
            Self::AutoRollback(..) => true,
        }
    }
}

impl Daemon {
    /// Reads the file again. Either all of it is in use afterwards, or none.
    pub(super) async fn reload(&mut self, cause: Cause) -> Result<Reloaded, ConfigErrors> {
        self.notify.reloading();
        let (by, is_from_file) = (cause.by(), cause.earlier().is_none());
        let why = cause.why().map(str::to_owned);
        let before = if cause.is_tried() {
            self.count_before().await
        } else {
            None
        };
        let outcome = self.try_reload(cause).await;
        self.admin.set_last_reload(LastReload {
            by,
            accepted: outcome.is_ok(),
            at: SystemTime::now(),
            why: why.clone(),
        });
        match &outcome {
            Ok(reloaded) => {
                self.put_on_trial(before, is_from_file);
                self.tell_modes();
                note_accepted(&self.metrics, &lock(&self.admin.history));
                match &why {
                    None => self.notify.ready(&self.summary()),
                    Some(why) => {
                        // The file is not what is in use.
                        self.metrics.config_last_reload_successful.set(0);
                        let summary = self.summary();
                        self.notify
                            .ready(&format!("rolled back automatically: {why}; {summary}"));
                    }
                }
                let told = json!({ "by": by.as_str(), "result": "accepted", "previous": reloaded.previous, "generation": reloaded.generation, "kept": reloaded.kept, "added": reloaded.added, "draining": reloaded.draining, "why": why });
                self.admin.events.publish("reload", told);
                self.metrics
                    .config_reloads
                    .with_label_values(&["accepted"])
                    .inc();
            }
            Err(problems) => {
                self.watch_those_in_use_too();
                self.notify.ready(&notify::rejected(problems));
                self.metrics.config_last_reload_successful.set(0);
                self.metrics
                    .config_reloads
                    .with_label_values(&["rejected"])
                    .inc();
                let generation = self.publisher.current().generation;
                error!(generation, %problems, "configuration rejected");
                let told = json!({ "by": by.as_str(), "result": "rejected", "generation": generation, "problem_count": problems.0.len(), "problems": problems.to_string() });
                self.admin.events.publish("reload", told);
            }
        }
        outcome
    }

    async fn try_reload(&mut self, cause: Cause) -> Result<Reloaded, ConfigErrors> {
        let path = self.path.clone();
        let (mut wishes, mut tried) = (self.wishes.clone(), self.tried.clone());
        let is_tried = cause.is_tried();
        let earlier = cause.earlier().map(|earlier| Arc::clone(&earlier.text));
        let load = move || {
            let loaded = match earlier {
                None => {
                    tried = tried.unread();
                    let loaded = config::load(&path);
                    loaded.inspect(|config| tried = Tried::of(config, &path))
                }
                Some(text) => config::parse(&text, &path),
            };
            let loaded = loaded.map(|mut config| {
                wishes.lay_over(&mut config);
                (config, wishes)
            });
            (loaded, Some(tried))
        };
        // Not here: a file system that hangs would hold everything else up.
        let (loaded, tried) = in_time(PATIENCE, load)
            .await
            .unwrap_or_else(|why| (Err(ConfigErrors::of_file(&self.path, why)), None));
        if let Some(tried) = tried {
            self.has_tried(tried);
        }
        let (config, wishes) = loaded?;
        if is_tried {
            self.refuse_given_up(&config)?;
        }
        let Some((config, compiled)) = self.compile(move || Ok(config)).await? else {
            let message = "nothing can be compiled any more; restart the balancer";
            return Err(ConfigErrors::of_file(&self.path, message));
        };
        let consequences = self.consequences((&config, &compiled), cause.insists())?;
        let text = Arc::clone(&config.text.0);
        let mut reloaded = self
            .take_over(config, compiled, "configuration reloaded")
            .await?;
        self.wishes = wishes;
        self.wishes.tell(&self.publisher.current().upstreams);
        self.gone_back_from = None;
        if cause.earlier().is_some() {
            self.gone_back_from = Some(self.tried.clone());
            self.watch_those_in_use_too();
        }
        let mut history = lock(&self.admin.history);
        let mut doubts = match cause.earlier() {
            None => history.end_of_rollback(&text),
            Some(earlier) => changed_since(earlier, &self.files),
        };
        doubts.extend(consequences);
        for doubt in &doubts {
            warn!("{doubt}");
        }
        reloaded.warnings.extend(doubts);
        history.push(Accepted {
            generation: reloaded.generation,
            origin: cause
                .earlier()
                .map_or(reloaded.generation, |earlier| earlier.origin),
            text,
            files: self.files.clone(),
            at: SystemTime::now(),
            by: cause.by(),
        });
        Ok(reloaded)
    }

    /// Says what becomes of who serves when this is taken over. Unless somebody `insists`, it is refused where nobody is left to take
    /// requests, or where they go to a set that nobody has named.
    fn consequences(
        &self,
        (config, compiled): (&Config, &Compiled),
        insists: bool,
    ) -> Result<Vec<String>, ConfigErrors> {
        let (current, snapshot) = (self.publisher.current(), &compiled.snapshot);
        let consequences = Consequences::between(&current, Side { config, snapshot });
        let problems = consequences.refusals();
        if problems.is_empty() || insists {
            return Ok(consequences.told());
        }
        self.pending.undo(snapshot, &current, &self.metrics);
        Err(ConfigErrors(problems))
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
        let spare = compiler.clone();
        let compile = move || {
            let result = load().and_then(|config| {
                let compiled = compiler.compile(&config, Some(&publisher.current()))?;
                Ok((config, compiled))
            });
            (compiler, result)
        };
        let mut compiling = tokio::task::spawn_blocking(compile);
        let Ok(compiled) = timeout(PATIENCE, &mut compiling).await else {
            self.compiler = Some(spare);
            let (metrics, publisher) = (Arc::clone(&self.metrics), self.publisher.clone());
            let pending = self.pending.clone();
            tokio::spawn(async move {
                // Whatever it comes to, it is never in use, and its series go.
                if let Ok((_, Ok((_, compiled)))) = compiling.await {
                    pending.undo(&compiled.snapshot, &publisher.current(), &metrics);
                }
            });
            return Err(ConfigErrors::of_file(&self.path, too_long(PATIENCE)));
        };
        match compiled {
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
        let (target, opened) = match self.prepare(&config, &snapshot).await {
            Ok(prepared) => prepared,
            Err(problems) => {
                let current = self.publisher.current();
                self.pending.undo(&snapshot, &current, &self.metrics);
                return Err(problems);
            }
        };
        names::resolve(&snapshot).await;

        // From here on there is no way back.
        warn_of(&warnings);
        let restart = self.warn_of_restart(&config);
        let previous = self.publisher.current();
        let counts = Counts::between(&previous, &snapshot);
        // What was counted so far was counted where endpoints are now.
        self.flips.count(&previous);
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
        self.pending.add(&gone);
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

    /// Opens what `config` needs beside what is open: from its access log and its listeners the last problems come.
    async fn prepare(
        &self,
        config: &Config,
        snapshot: &Snapshot,
    ) -> Result<(log_writer::Target, Vec<Opened>), ConfigErrors> {
        let log = config.access_log.clone();
        // Not here: a file system that hangs would hold everything else up.
        let target = in_time(PATIENCE, move || log_writer::Target::open(&log))
            .await
            .unwrap_or_else(|why| Err(std::io::Error::other(why)))
            .map_err(|error| {
                ConfigErrors(vec![
                    config
                        .access_log
                        .place
                        .problem(format!("cannot be opened: {error}")),
                ])
            })?;
        let none = &mut Inherited::default();
        let opened = open(snapshot, &self.addresses, self.workers.len(), none)
            .map_err(|error| ConfigErrors::of_file(&self.path, error.to_string()))?;
        Ok((target, opened))
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
