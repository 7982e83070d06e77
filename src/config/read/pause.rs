//! Reads `upstream.pause`.

use std::time::Duration;

use crate::config::Pause;
use crate::config::file::Table;

pub(super) fn pause(table: &mut Table<'_>) -> Pause {
    let hold = table.get("hold").and_then(|value| value.integer(0..=MOST));
    let wait = table.get("wait").and_then(|value| value.duration());
    Pause {
        hold: hold
            .and_then(|hold| usize::try_from(hold).ok())
            .unwrap_or(PAUSE.hold),
        wait: wait.unwrap_or(PAUSE.wait),
    }
}

/// The default.
pub(super) const PAUSE: Pause = Pause {
    hold: 1000,
    wait: Duration::from_secs(30),
};
const MOST: i64 = 1_000_000; // each is a client's open connection, or a stream of one
