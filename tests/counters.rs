//! The counters that workers and the control thread write at once, in every order that their atomics allow: the very file
//! of the balancer, on a model checker's atomics.

use std::sync::Arc;

use loom::thread;

use ghosts::Ghosts;
use latency::Latency;
use loads::Loads;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use waiting::Waiting;

/// What the balancer has from the standard library.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

#[path = "../src/upstream/counters/ghosts.rs"]
mod ghosts;
#[path = "../src/upstream/counters/latency.rs"]
mod latency;
#[path = "../src/worker/spread/loads.rs"]
mod loads;
#[path = "../src/upstream/queue/waiting.rs"]
mod waiting;

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

/// The only place of an endpoint, and those that wait for it.
struct OnePlace {
    /// As leases count them.
    in_flight: AtomicUsize,
    waiting: Waiting,
    /// Whether somebody stands in line.
    line: Mutex<bool>,
}

impl OnePlace {
    /// Gives the place to who is in line, where it is free.
    fn serve(&self, line: &mut bool) {
        let is_free = |in_flight| (in_flight == 0).then_some(1);
        if *line
            && self
                .in_flight
                .fetch_update(Relaxed, Relaxed, is_free)
                .is_ok()
        {
            *line = false;
        }
        self.waiting.set(usize::from(*line));
    }

    fn wait(&self) {
        let mut line = self.line.lock().unwrap();
        *line = true;
        self.waiting.set(1);
        self.waiting.before_looking();
        self.serve(&mut line);
    }

    fn free(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
        if self.waiting.after_freeing() {
            self.serve(&mut self.line.lock().unwrap());
        }
    }
}

#[test]
fn no_place_is_freed_unseen_by_who_waits_for_it() {
    loom::model(|| {
        let place = Arc::new(OnePlace {
            in_flight: AtomicUsize::new(1),
            waiting: Waiting::none(),
            line: Mutex::new(false),
        });
        at_once(&place, [OnePlace::wait, OnePlace::free], |place| {
            assert!(place.waiting.count() <= 1);
        });
        assert!(
            !*place.line.lock().unwrap(),
            "the place is free, and nobody says so"
        );
        assert_eq!(
            (place.in_flight.load(Relaxed), place.waiting.count()),
            (1, 0)
        );
    });
}

#[test]
fn connections_are_counted_whoever_accepts_and_whoever_serves_them() {
    loom::model(|| {
        let loads = Arc::new(Loads::new(2));
        let serve: fn(&Loads) = |loads| {
            // Accepted by the first worker, and handed over where that has more.
            let worker = loads.choose(0);
            loads.begin(worker);
            if worker != 0 {
                loads.send(worker);
                loads.arrive(worker);
            }
            loads.end(worker);
        };
        at_once(&loads, [serve, serve], |loads| {
            assert!(loads.choose(1) < 2);
        });
        // Nothing is left at either: one more at a worker is one more than the other has.
        for (worker, other) in [(0, 1), (1, 0)] {
            loads.begin(worker);
            assert_eq!((loads.choose(0), loads.choose(1)), (other, other));
            loads.end(worker);
        }
    });
}
