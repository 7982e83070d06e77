//! From an edited file to a published snapshot; or nothing changes, and why is said.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::retire::{self, Gone};
use super::{Daemon, log_writer, names, note_accepted, notify, open, publish_gauges, warn_of};
use crate::config::{self, Config, ConfigErrors};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiled, Compiler, apply};
use crate::upstream::EndpointId;
use crate::worker::Command;

impl Daemon {
    /// Reads the file again. Either all of it is in use afterwards, or none.
    pub(super) async fn reload(&mut self) {
        self.notify.reloading();
        match self.try_reload().await {
            Ok(()) => {
                self.notify.ready(&self.summary());
                note_accepted(&self.metrics);
                self.metrics
                    .config_reloads
                    .with_label_values(&["accepted"])
                    .inc();
            }
            Err(problems) => {
                self.notify.ready(&notify::rejected(&problems));
                self.metrics.config_last_reload_successful.set(0);
                self.metrics
                    .config_reloads
                    .with_label_values(&["rejected"])
                    .inc();
                let generation = self.publisher.current().generation;
                error!(generation, %problems, "configuration rejected");
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), ConfigErrors> {
        let path = self.path.clone();
        let Some((config, compiled)) = self.compile(move || config::load(&path)).await? else {
            return Ok(());
        };
        self.take_over(config, compiled, "configuration reloaded")
            .await
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
    ) -> Result<(), ConfigErrors> {
        let Compiled {
            snapshot,
            warnings,
            tls_files,
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
        self.warn_of_restart(&config);
        let previous = self.publisher.current();
        let changes = Changes::between(&previous, &snapshot);
        apply(&snapshot, &config);
        publish_gauges(&self.metrics, &snapshot);
        let generation = snapshot.generation;
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
        let gone = Gone::between(&previous, &current);
        gone.resume(&previous);
        gone.retire_gauges(&self.metrics);
        let with = (Arc::clone(&self.metrics), self.publisher.clone());
        let finished = self.finished.sender.clone();
        tokio::spawn(retire::wait(gone, previous, with, finished));
        self.config = config;
        self.tls_files = tls_files;
        self.refused_tls_files = None;
        info!(
            generation,
            kept = changes.kept,
            added = changes.added,
            removed = changes.removed,
            in_flight = changes.in_flight,
            "{said}"
        );
        Ok(())
    }

    /// Names what a reload cannot change.
    fn warn_of_restart(&self, config: &Config) {
        let (before, after) = (&self.config.process, &config.process);
        if before.workers != after.workers {
            warn!(
                running = before.workers,
                configured = after.workers,
                "process.workers changes with a restart only"
            );
        }
        if before.max_connections != after.max_connections {
            warn!("process.max_connections changes with a restart only");
        }
        if self.config.admin.address != config.admin.address {
            warn!(running = %self.config.admin.address, configured = %config.admin.address, "admin.address changes with a restart only");
        }
        if self.config.log != config.log {
            warn!("[log] changes with a restart only");
        }
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

/// What a reload does to endpoints.
struct Changes {
    kept: usize,
    added: usize,
    removed: usize,
    /// On those kept.
    in_flight: u32,
}

impl Changes {
    fn between(previous: &Snapshot, next: &Snapshot) -> Self {
        let ids = |snapshot: &Snapshot| -> HashSet<EndpointId> {
            snapshot
                .upstreams
                .iter()
                .flat_map(|upstream| &upstream.endpoints)
                .map(|endpoint| endpoint.id())
                .collect()
        };
        let (before, after) = (ids(previous), ids(next));
        let kept = before.intersection(&after).count();
        let in_flight = next
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.endpoints)
            .filter(|endpoint| before.contains(&endpoint.id()))
            .map(|endpoint| endpoint.in_flight())
            .sum();
        Self {
            kept,
            added: after.len() - kept,
            removed: before.len() - kept,
            in_flight,
        }
    }
}
