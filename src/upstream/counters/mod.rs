//! Counters of an endpoint that several threads write at once. Pure.
//!
//! Their files say nothing of where atomics come from: `tests/counters.rs` puts those of a model checker there.

mod ghosts;
mod latency;

pub(super) use ghosts::Ghosts;
pub(super) use latency::Latency;

mod atomic {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_counts_for_two_fadings() {
        let ghosts = Ghosts::new();
        ghosts.add();
        ghosts.add();
        assert_eq!(ghosts.count(), 2);
        ghosts.fade();
        ghosts.add();
        assert_eq!(ghosts.count(), 3);
        ghosts.fade();
        assert_eq!(ghosts.count(), 1);
        ghosts.fade();
        assert_eq!(ghosts.count(), 0);
    }

    #[test]
    fn flood_of_failures_does_not_run_over() {
        let ghosts = Ghosts::new();
        (0..200_000).for_each(|_| ghosts.add());
        assert_eq!(ghosts.count(), 60_000);
        ghosts.fade();
        assert_eq!(ghosts.count(), 60_000);
    }

    #[test]
    fn peak_is_followed_at_once_and_forgotten_slowly() {
        let latency = Latency::new();
        assert_eq!(latency.micros(), 0.0);
        latency.observe(1000.0, 0);
        latency.observe(9000.0, 10);
        assert_eq!(latency.micros(), 9000.0);
        for now in 11..=10_010 {
            latency.observe(1000.0, now);
        }
        // A third of the peak's 8000 is left after ten seconds.
        assert!(
            (3900.0..4000.0).contains(&latency.micros()),
            "{}",
            latency.micros()
        );
    }

    #[test]
    fn answers_within_a_millisecond_count_once() {
        let latency = Latency::new();
        latency.observe(9000.0, 7);
        (0..1000).for_each(|_| latency.observe(1000.0, 7));
        assert_eq!(latency.micros(), 9000.0);
    }

    #[test]
    fn what_nobody_sees_again_fades() {
        let latency = Latency::new();
        latency.fade(5000);
        assert_eq!(latency.micros(), 0.0);
        latency.observe(5_000_000.0, u32::MAX - 100);
        latency.fade(200);
        assert_eq!(latency.micros(), 5_000_000.0, "answers are recent");
        (1..200).for_each(|half_second| latency.fade(half_second * 500));
        assert!(
            (1.0..300.0).contains(&latency.micros()),
            "{}",
            latency.micros()
        );
        (200..2000).for_each(|half_second| latency.fade(half_second * 500));
        assert_eq!(latency.micros(), 1.0);
    }

    #[test]
    fn answer_that_comes_late_into_the_record_does_no_harm() {
        let latency = Latency::new();
        latency.observe(1000.0, 50);
        latency.observe(500.0, 49);
        assert_eq!(latency.micros(), 1000.0);
    }
}
