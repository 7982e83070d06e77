//! The counters that workers and the control thread write at once, in every order that their atomics allow: the very file
//! of the balancer, on a model checker's atomics.

use std::sync::Arc;

use loom::thread;

use ghosts::Ghosts;
use latency::Latency;

/// What the balancer has from the standard library.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/upstream/counters/ghosts.rs"]
mod ghosts;
#[path = "../src/upstream/counters/latency.rs"]
mod latency;

/// Runs `writers` beside each other, and `meanwhile` on the thread that waits for them.
fn at_once<T: Send + Sync + 'static>(
    shared: &Arc<T>,
    writers: [fn(&T); 2],
    meanwhile: impl FnOnce(&T),
) {
    let threads = writers.map(|write| {
        let shared = Arc::clone(shared);
        thread::spawn(move || write(&shared))
    });
    meanwhile(shared);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn no_failure_is_lost_between_adding_and_fading() {
    loom::model(|| {
        let ghosts = Arc::new(Ghosts::new());
        // One that is there already: fading none is another path, and this one shall be taken in every order.
        ghosts.add();
        at_once(&ghosts, [Ghosts::add, Ghosts::add], |ghosts| {
            ghosts.fade();
            assert!(ghosts.count() <= 3);
        });
        // However they met: one fading forgets none of that time.
        assert_eq!(ghosts.count(), 3);
        ghosts.fade();
        ghosts.fade();
        assert_eq!(ghosts.count(), 0);
    });
}

#[test]
fn peak_is_kept_whoever_writes_beside_it() {
    loom::model(|| {
        let latency = Arc::new(Latency::new());
        latency.observe(1000.0, 0);
        let peak: fn(&Latency) = |latency| latency.observe(9000.0, 1000);
        let usual: fn(&Latency) = |latency| latency.observe(1000.0, 1000);
        at_once(&latency, [peak, usual], |latency| {
            latency.fade(1000);
            assert!(latency.micros() >= 900.0, "value and time belong together");
        });
        // What comes within the same millisecond does not wear a peak off.
        assert_eq!(latency.micros(), 9000.0);
    });
}
