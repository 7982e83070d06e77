//! `process.auto_rollback`: when a reload that made things worse is taken back.

use std::time::Duration;

/// `process.auto_rollback`
#[derive(Clone, Debug, PartialEq)]
pub struct AutoRollback {
    /// `ratio`: share of a route's requests, or of all, that may fail, above 0, below 1. Default 0.05.
    pub ratio: f64,
    /// `min_requests`: how many there must have been, before the reload and after it. Default 100, at least 10.
    pub min_requests: u32,
    /// `window`: how long is looked after a reload, and how far back before it, 1 s to 1 h. Default 30 s.
    pub window: Duration,
    /// `errors`: which responses are failures. Default `own`.
    pub errors: CountedErrors,
}

/// `process.auto_rollback.errors`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CountedErrors {
    /// `"own"`: those the balancer makes itself, with status 500 and above, through no fault of the client.
    Own,
    /// `"all"`: every response with status 500 and above, whoever made it.
    All,
}
