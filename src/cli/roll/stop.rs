//! Ctrl-C and SIGTERM while something is under way: the first asks for an end in order, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

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
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            if let Ok(runtime) = runtime {
                runtime.block_on(wanted.follow());
            }
        });
        stop
    }

    async fn follow(&self) {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if self.0.swap(true, Relaxed) {
                eprintln!(
                    "balancer: ended at once; a hook that runs goes on, and `balancer status` shows which endpoints are out"
                );
                std::process::exit(1);
            }
            eprintln!("balancer: stopping in order; another signal ends this at once");
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
