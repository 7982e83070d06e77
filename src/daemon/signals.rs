//! Signals that the process hears.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the process is told from outside.
pub(super) struct Signals {
    pub(super) hangup: Signal,
    /// SIGUSR1: the access log was renamed.
    pub(super) reopen: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        // A file has grown as large as the system lets it: who writes is told, and that is enough. Whoever has asked for a
        // signal once, does not end of it any more.
        drop(signal(SignalKind::from_raw(
            rustix::process::Signal::XFSZ.as_raw(),
        ))?);
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Waits for either signal that ends the process.
pub(super) async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
