//! Last in, first out, with expiry at the cold end. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What waits to be used again, coldest first.
#[derive(Debug)]
pub struct Idle<T>(VecDeque<(T, Instant)>);

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Idle<T> {
    /// Adds the warmest; beyond `limit` the coldest goes.
    pub fn push(&mut self, item: T, now: Instant, limit: usize) {
        if self.0.len() >= limit {
            self.0.pop_front();
        }
        self.0.push_back((item, now));
    }

    /// Takes the warmest, with the time it came.
    pub fn pop(&mut self) -> Option<(T, Instant)> {
        self.0.pop_back()
    }

    /// Puts back what was just taken.
    pub fn put_back(&mut self, item: T, since: Instant) {
        self.0.push_back((item, since));
    }

    /// Drops what has waited for longer than `limit`.
    pub fn expire(&mut self, now: Instant, limit: Duration) {
        let expired = self
            .0
            .partition_point(|(_, since)| now.saturating_duration_since(*since) > limit);
        self.0.drain(..expired);
    }

    /// The one that has waited longest.
    pub fn coldest(&self) -> Option<&T> {
        self.0.front().map(|(item, _)| item)
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warmest_is_used_first_and_coldest_expires() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut idle = Idle::default();
        for (item, time) in ["a", "b", "c"].into_iter().zip(0..) {
            idle.push(item, at(time), 10);
        }
        idle.expire(at(5), Duration::from_secs(4));
        assert_eq!(idle.coldest(), Some(&"b"));
        assert_eq!(idle.pop(), Some(("c", at(2))));
        assert_eq!(idle.pop(), Some(("b", at(1))));
        assert!(idle.is_empty());
    }

    #[test]
    fn beyond_the_limit_the_coldest_goes() {
        let now = Instant::now();
        let mut idle = Idle::default();
        for item in 0..5 {
            idle.push(item, now, 3);
        }
        assert_eq!(idle.coldest(), Some(&2));
    }
}
