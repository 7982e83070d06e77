//! The end: readiness first, then the listeners, then what is in flight; a deadline; a second signal ends it at once.

use std::future::pending;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Daemon, Signals, end};
use crate::worker::{Command, Worker};

/// How often it is looked whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);
/// A worker that was told to stop does so at its next turn.
const STOP_WITHIN: Duration = Duration::from_secs(1);

impl Daemon {
    /// Drains and ends. Exit code 0, also when something had to be cut.
    pub(super) async fn shut_down(mut self, signals: &mut Signals) -> ExitCode {
        // Who still asks is told that nobody obeys any more.
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        let process = &self.config.process;
        self.admin.set_unready(Some("shutting down"));
        self.notify
            .stopping(process.shutdown_delay + process.shutdown_grace + 2 * STOP_WITHIN);
        info!(delay = ?process.shutdown_delay, grace = ?process.shutdown_grace, "shutting down");
        let drain = async {
            // The balancer above takes us out while we go on serving.
            sleep(process.shutdown_delay).await;
            self.tell(|| Command::Drain);
            for upstream in &self.publisher.current().upstreams {
                upstream.hold.give_up();
            }
            timeout(process.shutdown_grace, ended(&self.workers))
                .await
                .is_ok()
        };
        // Files may be rotated in the meantime: what is in flight is still logged.
        let rotations = async {
            while signals.reopen.recv().await.is_some() {
                self.log_writer.reopen(&self.config.access_log).await;
            }
            pending().await
        };
        let finished = tokio::select! {
            finished = drain => finished,
            finished = rotations => finished,
            () = end(&mut signals.terminate, &mut signals.interrupt) => false,
        };
        if !finished {
            let cut = self.instance.open.load(Relaxed);
            warn!(connections = cut, "connections are cut");
            self.tell(|| Command::Stop);
            let _ = timeout(STOP_WITHIN, ended(&self.workers)).await;
        }
        self.log_writer.finish_within(STOP_WITHIN);
        self.audit.finish_within(STOP_WITHIN);
        drop(self.socket);
        info!("stopped");
        ExitCode::SUCCESS
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            worker.tell(command());
        }
    }
}

async fn ended(workers: &[Worker]) {
    while !workers.iter().all(Worker::has_ended) {
        sleep(LOOK).await;
    }
}
