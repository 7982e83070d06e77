//! The end: readiness first, then the listeners, then what is in flight; a deadline; a second signal ends it at once.

use std::future::pending;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Daemon;
use super::signals::{Signals, end};
use super::upgrade::Successor;
use crate::health::Checker;
use crate::worker::{Command, Worker};

/// How often it is looked whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often a process that serves already is told what is left here.
const REPORT: Duration = Duration::from_secs(1);
/// What is in flight has no more where nobody accepts until this process has ended.
const LOST_GRACE: Duration = Duration::from_secs(5);
/// A worker that was told to stop does so at its next turn.
const STOP_WITHIN: Duration = Duration::from_secs(1);

impl Daemon {
    /// Drains and ends. Exit code 0, also when something had to be cut. Where a `successor` serves already nobody waits for the
    /// end, and there is more time; unless that one is lost: then this process ends soon and with 1, so that who watches over it
    /// starts another.
    pub(super) async fn shut_down(
        mut self,
        signals: &mut Signals,
        mut successor: Option<Successor>,
    ) -> ExitCode {
        // Who still asks is told that nobody obeys any more.
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        let process = &self.config.process;
        self.admin.set_unready(Some("shutting down"));
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.abandon().await;
        }
        let mut modes = None;
        let (delay, grace) = match &mut successor {
            None => {
                let (delay, grace) = (process.shutdown_delay, process.shutdown_grace);
                self.notify.stopping(delay + grace + 3 * STOP_WITHIN);
                (delay, grace)
            }
            Some(successor) => {
                // It checks endpoints now.
                self.checker = Checker::new(self.publisher.clone());
                modes = Some(successor.hear());
                successor.tell(self.left(0), &self.metrics);
                let longest = process.shutdown_grace.max(process.drain_tunnel_timeout);
                (Duration::ZERO, longest)
            }
        };
        let pid = successor.as_ref().map(|successor| successor.pid);
        info!(?delay, ?grace, successor = pid, "shutting down");
        let drain = async {
            // The balancer above takes us out while we go on serving.
            sleep(delay).await;
            self.tell(|| Command::Drain);
            for upstream in &self.publisher.current().upstreams {
                upstream.hold.give_up();
            }
            let all = async {
                ended(&self.workers).await;
                // What the process before this one has counted goes on through this one.
                while pid.is_some() && self.admin.left_before().is_some() {
                    sleep(LOOK).await;
                }
            };
            timeout(grace, all).await.is_ok()
        };
        // Files may be rotated in the meantime: what is in flight is still logged.
        let rotations = async {
            while signals.reopen.recv().await.is_some() {
                self.log_writer.reopen(&self.config.access_log).await;
            }
            pending().await
        };
        let reports = async {
            while let (Some(successor), Some(modes)) = (&mut successor, &mut modes) {
                tokio::select! {
                    Some(modes) = modes.recv() => {
                        self.obey_successor(&modes);
                        successor.heard = modes.number;
                    }
                    () = sleep(REPORT) => {}
                }
                if successor.is_lost() {
                    sleep(process.shutdown_grace.min(LOST_GRACE)).await;
                    return false;
                }
                successor.tell(self.left(successor.heard), &self.metrics);
            }
            pending().await
        };
        let signalled = async {
            end(&mut signals.terminate, &mut signals.interrupt).await;
            if pid.is_some() {
                // The first one says to end; as for any end there is a grace.
                sleep_or_end(
                    process.shutdown_grace,
                    &mut signals.terminate,
                    &mut signals.interrupt,
                )
                .await;
            }
        };
        let finished = tokio::select! {
            finished = drain => finished,
            finished = rotations => finished,
            finished = reports => finished,
            () = signalled => false,
        };
        if !finished {
            let cut = self.connections();
            warn!(connections = cut, "connections are cut");
            self.tell(|| Command::Stop);
            let _ = timeout(STOP_WITHIN, ended(&self.workers)).await;
        }
        if let Some(successor) = &mut successor {
            successor.tell_the_end(&self.metrics);
        }
        self.spans.finish_within(STOP_WITHIN).await;
        self.log_writer.finish_within(STOP_WITHIN);
        // These have counted what they wrote, sent and lost until now.
        let mut is_lost = false;
        if let Some(successor) = &mut successor {
            successor.tell_the_end(&self.metrics);
            is_lost = successor.is_lost();
        }
        self.audit.finish_within(STOP_WITHIN);
        drop(self.doors);
        info!("stopped");
        if is_lost {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }

    /// Client connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.instance.open.load(Relaxed)
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            worker.tell(command());
        }
    }
}

/// Waits for `limit`, or another signal.
async fn sleep_or_end(limit: Duration, terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        () = sleep(limit) => {}
        () = end(terminate, interrupt) => {}
    }
}

async fn ended(workers: &[Worker]) {
    while !workers.iter().all(Worker::has_ended) {
        sleep(LOOK).await;
    }
}
