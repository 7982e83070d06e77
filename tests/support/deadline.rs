//! Waiting for conditions, with a deadline; never for time to pass.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything. Far above what is ever needed, so that a busy machine fails no test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5); // short beside every timeout under test

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until `find` finds something.
#[track_caller]
pub(crate) fn eventually_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}"
        );
        thread::sleep(POLL);
    }
}

/// Waits until `measure` has stayed the same for `quiet`, and returns it.
#[track_caller]
pub(crate) fn settled<T: PartialEq>(
    what: &str,
    quiet: Duration,
    mut measure: impl FnMut() -> T,
) -> T {
    let (mut last, mut since) = (measure(), Instant::now());
    eventually_some(what, || {
        let now = measure();
        if now != last {
            (last, since) = (now, Instant::now());
            return None;
        }
        (since.elapsed() >= quiet).then_some(now)
    })
}

/// Holds whoever waits until it is opened. Opens by itself when the test gives it up.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits for the gate; false if it stayed shut to the deadline.
    pub(crate) fn wait(&self) -> bool {
        let guard = self.0.0.lock().unwrap();
        let (guard, _) = self
            .0
            .1
            .wait_timeout_while(guard, DEADLINE, |open| !*open)
            .unwrap();
        *guard
    }
}
