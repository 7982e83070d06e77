//! What came of an attempt at an endpoint, and who is told.

use std::time::{Duration, Instant};

use super::{Endpoint, Upstream};

/// What came of one attempt at an endpoint. Nothing is said of attempts that failed by the client's fault, or by our own.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The head of a response came.
    Answered {
        /// Its status code.
        status: u16,
        /// Since the request had been sent.
        after: Duration,
        /// When it came.
        at: Instant,
    },
    /// No response came, and the endpoint is to blame.
    Failed {
        /// Why, as in metrics and logs.
        reason: &'static str,
        /// It was sent on a connection that others had used before: that such a one is at its end says nothing of the
        /// endpoint.
        is_reused: bool,
    },
}

impl Upstream {
    /// Takes note of what came of an attempt at `endpoint`, which is one of its own.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome) {
        self.weigh(endpoint, outcome);
        match outcome {
            Outcome::Answered { status, after, .. } => {
                endpoint.metrics.response.observe(after.as_secs_f64());
                endpoint.metrics.count(status);
            }
            Outcome::Failed { reason, .. } => endpoint.metrics.count_failure(reason),
        }
    }
}
