//! How long an endpoint keeps an idle connection, as far as it lets us know. Connections are given up some time before that, so
//! that a request and the end of its connection do not cross on their way.
//!
//! An endpoint that is restarted closes its connections, too. So what was learned is forgotten after a minute, and after longer
//! each time that it turns out to be so again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What is known of one endpoint's patience.
///
/// Written by workers that find a connection closed or open one, read by all of them when they take an idle one. Relaxed:
/// each number is of use by itself, and one that comes a moment late costs what it cost before it was known.
#[derive(Debug)]
pub struct KeepAlive {
    begun: Instant,
    /// Milliseconds; 0: nothing is known.
    limit: AtomicU32,
    /// Milliseconds since `begun` up to which `limit` holds.
    until: AtomicU64,
    /// For how long it holds when it is learned again, in milliseconds.
    hold: AtomicU64,
    /// What the endpoint says of itself, in milliseconds; 0: nothing.
    hint: AtomicU32,
}

/// What was closed sooner than that was not closed for having been idle.
const SHORTEST: Duration = Duration::from_millis(500);
/// For how long something learned holds at first.
const HOLD: Duration = Duration::from_secs(60);
/// And at most.
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 3600);

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            limit: AtomicU32::new(0),
            until: AtomicU64::new(0),
            hold: AtomicU64::new(milliseconds(HOLD)),
            hint: AtomicU32::new(0),
        }
    }
}

impl KeepAlive {
    /// How long a connection may have been idle to be used `now`, where `configured` is the longest.
    pub fn limit(&self, configured: Duration, now: Instant) -> Duration {
        let (learned, hint) = (self.limit.load(Relaxed), self.hint.load(Relaxed));
        if learned | hint == 0 {
            return configured;
        }
        self.known(configured, (learned, hint), now)
    }

    #[cold]
    fn known(&self, configured: Duration, (learned, hint): (u32, u32), now: Instant) -> Duration {
        let holds = self.since_begin(now) < self.until.load(Relaxed);
        let known = [(learned, holds), (hint, true)];
        known
            .into_iter()
            .filter(|(limit, holds)| *limit > 0 && *holds)
            .map(|(limit, _)| Duration::from_millis(limit.into()))
            .fold(configured, Duration::min)
    }

    /// The endpoint has closed a connection `now` that had been idle for so long.
    pub fn closed_after(&self, idle: Duration, now: Instant) {
        if idle < SHORTEST {
            return;
        }
        let limit = margin(idle);
        let before = self.limit.load(Relaxed);
        let at = self.since_begin(now);
        let holds = before > 0 && at < self.until.load(Relaxed);
        if holds && limit >= before {
            return;
        }
        // The same again, more or less.
        let is_known = limit.abs_diff(before) <= limit / 8;
        let hold = match self.hold.load(Relaxed) {
            hold if is_known => (hold * 4).min(milliseconds(LONGEST_HOLD)),
            _ => milliseconds(HOLD),
        };
        self.hold.store(hold, Relaxed);
        self.until.store(at + hold, Relaxed);
        self.limit.store(limit, Relaxed);
    }

    /// The endpoint says in `Keep-Alive` how long it keeps idle connections, or else nothing.
    pub fn says(&self, field: Option<&[u8]>) {
        let hint = field.and_then(timeout).map_or(0, margin);
        if self.hint.load(Relaxed) != hint {
            self.hint.store(hint, Relaxed);
        }
    }

    fn since_begin(&self, now: Instant) -> u64 {
        milliseconds(now.saturating_duration_since(self.begun))
    }
}

/// Four fifths: room for both sides' clocks and for the way.
fn margin(idle: Duration) -> u32 {
    u32::try_from(milliseconds(idle) * 4 / 5)
        .unwrap_or(u32::MAX)
        .max(1)
}

/// `timeout=5, max=100`: the seconds. Not in any RFC but widely said (RFC 2068 §19.7.1 had it).
fn timeout(field: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(field).ok()?;
    let seconds = text.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| value.parse::<u32>().ok())?
    })?;
    Some(Duration::from_secs(seconds.into()))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Duration = Duration::from_secs(4);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_known_is_what_was_configured() {
        let keep_alive = KeepAlive::default();
        assert_eq!(keep_alive.limit(CONFIGURED, Instant::now()), CONFIGURED);
    }

    #[test]
    fn what_was_learned_leaves_a_margin_and_only_ever_shortens() {
        let (keep_alive, now) = (KeepAlive::default(), Instant::now());
        keep_alive.closed_after(seconds(60), now);
        assert_eq!(keep_alive.limit(CONFIGURED, now), CONFIGURED);
        keep_alive.closed_after(seconds(1), now);
        assert_eq!(
            keep_alive.limit(CONFIGURED, now),
            Duration::from_millis(800)
        );
        keep_alive.closed_after(seconds(3), now);
        assert_eq!(
            keep_alive.limit(CONFIGURED, now),
            Duration::from_millis(800)
        );
    }

    #[test]
    fn close_soon_after_use_teaches_nothing() {
        let (keep_alive, now) = (KeepAlive::default(), Instant::now());
        keep_alive.closed_after(Duration::from_millis(20), now);
        assert_eq!(keep_alive.limit(CONFIGURED, now), CONFIGURED);
    }

    #[test]
    fn what_turns_out_to_be_so_again_is_remembered_for_longer() {
        let (keep_alive, mut now) = (KeepAlive::default(), Instant::now());
        let known = |now| keep_alive.limit(CONFIGURED, now) < CONFIGURED;
        for held in [60, 240, 960] {
            keep_alive.closed_after(seconds(1), now);
            assert!(known(now + seconds(held - 1)), "{held}");
            assert!(!known(now + seconds(held + 1)), "{held}");
            now += seconds(held + 1);
        }
        keep_alive.closed_after(seconds(3), now);
        assert!(!known(now + seconds(61)), "something else begins anew");
    }

    #[test]
    fn what_the_endpoint_says_is_believed_until_it_says_something_else() {
        let (keep_alive, now) = (KeepAlive::default(), Instant::now());
        for (field, expected) in [
            (Some("timeout=1"), 800),
            (Some("max=100, Timeout=\"2\""), 1600),
            (Some("timeout=60"), 4000),
            (Some("timeout=1"), 800),
            (Some("timeout=soon"), 4000),
            (None, 4000),
        ] {
            keep_alive.says(field.map(str::as_bytes));
            assert_eq!(
                keep_alive.limit(CONFIGURED, now),
                Duration::from_millis(expected),
                "{field:?}"
            );
        }
    }
}
