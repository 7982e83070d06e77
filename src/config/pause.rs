//! `upstream.pause`: what becomes of requests to an upstream that is paused.

use std::time::Duration;

/// `upstream.pause`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pause {
    /// `hold`: requests that wait, at most. Default 1000. Beyond: 503 at once.
    pub hold: usize,
    /// `wait`: for how long. Default 30 s. On expiry: 503.
    pub wait: Duration,
}
