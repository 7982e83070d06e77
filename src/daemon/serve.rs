//! Serves: waits for what comes next, and does it, until the process is told to end or another one has taken over.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{Instant, Interval, interval_at};
use tracing::{info, warn};

use super::auto_rollback::Counting;
use super::reload::Cause;
use super::retire::Due;
use super::signals::{Signals, end};
use super::upgrade::{Successor, Upgrade};
use super::watch::Watch;
use super::{Daemon, OnReady, adaptive, certificates, names, notify, tick};
use crate::admin::recent;
use crate::health;
use crate::snapshot::Publisher;
use crate::worker::Worker;

/// So often it is said which certificates end soon.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// So often it is looked whether other endpoints are authorities: for what follows of it, not for who serves.
const SEATS: Duration = Duration::from_secs(1);

/// What is looked at from time to time.
struct Looks {
    files: certificates::Files,
    watch: Watch,
    counting: Counting,
    /// When it is said which certificates end soon.
    day: Interval,
    /// When it is looked whether other endpoints are authorities.
    seats: Interval,
}

impl Looks {
    fn new() -> Self {
        Self {
            files: certificates::Files::new(),
            watch: Watch::new(),
            counting: Counting::new(),
            day: interval_at(Instant::now() + DAY, DAY),
            seats: interval_at(Instant::now() + SEATS, SEATS),
        }
    }
}

impl Daemon {
    pub(super) async fn serve(mut self, mut signals: Signals, on_ready: OnReady) -> ExitCode {
        self.checker.follow(&self.publisher.current());
        tokio::spawn(names::keep_resolved(self.publisher.clone()));
        tokio::spawn(adaptive::keep_adapting(self.publisher.clone()));
        tokio::spawn(tick::keep_ticking(self.publisher.clone()));
        tokio::spawn(health::ejector::watch(self.publisher.clone()));
        tokio::spawn(recent::keep_taking(Arc::clone(&self.admin)));
        let asked_to_end = tokio::select! {
            () = wait_for_checks(&self.publisher, self.config.process.startup_wait) => false,
            () = end(&mut signals.terminate, &mut signals.interrupt) => true,
        };
        if asked_to_end {
            return ExitCode::SUCCESS;
        }
        let heir = match self.heir.take() {
            Some(heir) => match self.take_place(heir, &mut signals).await {
                Ok(heir) => Some(heir),
                Err(code) => return code,
            },
            None => None,
        };
        self.count_from_now();
        self.hand_out();
        self.admin.set_unready(None);
        let generation = self.publisher.current().generation;
        info!(generation, workers = self.workers.len(), "ready");
        on_ready(&self.named_addresses(), self.admin_address);
        match heir {
            Some(heir) => self.follow(heir),
            None => self.notify.ready(&self.summary()),
        }
        if let Some(every) = self.notify.watchdog() {
            let workers = self.workers.iter().map(Worker::commands).collect();
            tokio::spawn(notify::keep_alive(Arc::clone(&self.notify), every, workers));
        }
        if let Some(every) = self.config.process.config_poll {
            info!(path = %self.path.display(), ?every, "configuration file is watched");
        }
        let mut looks = Looks::new();
        loop {
            let Signals {
                hangup,
                reopen,
                terminate,
                interrupt,
            } = &mut signals;
            tokio::select! {
                successor = self.turn((hangup, reopen), &mut looks) => {
                    if let Some(successor) = successor {
                        return self.shut_down(&mut signals, Some(successor)).await;
                    }
                }
                // Whatever is under way: a reload that waits for a disk or a name is given up, and nothing has changed.
                () = end(terminate, interrupt) => break,
            }
        }
        self.shut_down(&mut signals, None).await
    }

    /// Waits for what comes next, and does it: the process that serves now, where one has taken over. May be dropped at any point by who shuts down afterwards.
    async fn turn(
        &mut self,
        (hangup, reopen): (&mut Signal, &mut Signal),
        Looks {
            files,
            watch,
            counting,
            day,
            seats,
        }: &mut Looks,
    ) -> Option<Successor> {
        tokio::select! {
            _ = reopen.recv() => self.log_writer.reopen(&self.config.access_log).await,
            // What would change waits while another process is about to go on from here.
            _ = hangup.recv(), if self.upgrade.is_none() => {
                // What came of it is logged.
                let _ = self.reload(Cause::Signal).await;
            }
            Some(asked) = self.commands.recv() => self.obey(asked).await,
            () = self.farewells.wait(self.config.process.drain_tunnel_timeout) => self.end_farewells(),
            () = self.flips.due(), if self.upgrade.is_none() => self.tend_flips().await,
            found = files.look(&self.config), if self.upgrade.is_none() => self.follow_certificates(found).await,
            found = watch.change(self.config.process.config_poll, &self.tried), if self.upgrade.is_none() => self.follow_files(found).await,
            tally = counting.next(&self.config, &self.trials, &self.metrics), if self.upgrade.is_none() => self.judge(tally).await,
            Some(due) = self.finished.receiver.recv() => self.retire(due).await,
            outcome = Upgrade::outcome(&mut self.upgrade) => {
                let successor = self.end_upgrade(outcome).await?;
                successor.pass_on(hangup).await;
                return Some(successor);
            }
            _ = day.tick() => self.warn_of_endings(),
            _ = seats.tick(), if self.has_authorities() => self.follow_seats(),
        }
        None
    }

    /// Takes series away for which the time has come.
    async fn retire(&mut self, due: Due) {
        let with = (Arc::clone(&self.metrics), self.publisher.current());
        let pending = match &due {
            Due::Gauges(_) => Vec::new(),
            Due::Series(gone) => self.pending.remove(gone),
        };
        let retire = move || match due {
            Due::Gauges(gone) => gone.retire_gauges_again(&with.0, &with.1),
            Due::Series(gone) => gone.retire(&with.0, &with.1, &pending),
        };
        // Not here: of thousands it takes a while, and checks would wait for it.
        let _ = tokio::task::spawn_blocking(retire).await;
    }

    /// What is served, in one line.
    pub(super) fn summary(&self) -> String {
        let snapshot = self.publisher.current();
        let endpoints = snapshot.upstreams.iter().map(|it| it.endpoints.len());
        format!(
            "serving; listeners: {}, routes: {}, endpoints: {}",
            snapshot.listeners.len(),
            self.config.routes.len(),
            endpoints.sum::<usize>()
        )
    }
}

/// Waits until every endpoint has been checked once, for `limit` at most.
async fn wait_for_checks(publisher: &Publisher, limit: Duration) {
    let settled = async {
        while !health::is_settled(&publisher.current()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(limit, settled).await.is_err() {
        warn!(waited = ?limit, "some endpoints are not checked yet");
    }
}
