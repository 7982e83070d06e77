//! The beat by which upstreams' slow starts go on and what endpoints did a moment ago is forgotten.

use std::time::Instant;

use tokio::time::{MissedTickBehavior, interval};

use crate::snapshot::Publisher;
use crate::upstream::load::TICK;

/// Tells every upstream of the current snapshot the time, again and again.
pub(super) async fn keep_ticking(publisher: Publisher) {
    let mut beat = interval(TICK);
    // A moment that was missed need not be made up for.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let now = Instant::now();
        for upstream in &publisher.current().upstreams {
            upstream.tick(now);
        }
    }
}
