//! Ctrl-C, SIGTERM and a terminal that is gone (SIGHUP) while something is under way: the first asks for an end in order, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::table::complain;

/// Whether somebody wants an end. Written by the thread that waits for signals, read between steps; relaxed, for it guards nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

/// Longest time in which nobody looks.
const LOOK: Duration = Duration::from_millis(50);

impl Stop {
    /// From now on signals are taken note of. Where they cannot be, they end the process as ever.
    pub(super) fn on_signals() -> Self {
        let stop = Self::default();
        let wanted = stop.clone();
        let (noting, is_noting) = channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            if let Ok(runtime) = runtime {
                runtime.block_on(wanted.follow(noting));
            }
        });
        // Until they are taken note of, or cannot be, nothing is begun: a signal would leave it half done.
        let _ = is_noting.recv();
        stop
    }

    async fn follow(&self, noting: Sender<()>) {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        // Who has it ignored, by nohup, wants it to go on.
        let mut hangup = match is_hangup_ignored() {
            true => None,
            false => signal(SignalKind::hangup()).ok(),
        };
        let hung_up = async |hangup: &mut Option<Signal>| match hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        };
        drop(noting);
        loop {
            let is_hangup = tokio::select! {
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                _ = hung_up(&mut hangup) => true,
            };
            if self.0.swap(true, Relaxed) {
                if is_hangup {
                    // A terminal that is closed says so more than once.
                    continue;
                }
                complain(
                    "ended at once; a hook that runs goes on, and `balancer status` shows which endpoints are out",
                );
                std::process::exit(1);
            }
            complain("stopping in order; another signal ends this at once");
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Sleeps for `long`, or until somebody wants an end.
    pub(super) fn sleep(&self, long: Duration) {
        let begun = Instant::now();
        while !self.is_wanted() && begun.elapsed() < long {
            thread::sleep(LOOK.min(long.saturating_sub(begun.elapsed())));
        }
    }
}

/// Whether the process was started so that SIGHUP does nothing.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}
