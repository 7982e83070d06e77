//! What came of an attempt at an endpoint, and who is told.

use std::time::{Duration, Instant};

use super::journal::Fact;
use super::{Endpoint, Upstream};

/// What came of one attempt at an endpoint. Nothing is said of attempts that failed by the client's fault, or by our own.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The head of a response came.
    Answered {
        /// Its status code.
        status: u16,
        /// Since the request had been sent, with what its client had sent of its body.
        after: Duration,
        /// When it came.
        at: Instant,
    },
    /// No response came, and the endpoint is to blame.
    Failed {
        /// Why, as in metrics and logs.
        reason: &'static str,
        /// Why that says nothing of the endpoint, if it does not.
        excuse: Option<Excuse>,
        /// It tells of the endpoint's health: that nobody answers there, or nobody who should.
        is_telling: bool,
    },
}

/// Why a failed attempt says nothing of its endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Excuse {
    /// The connection was one that others had used before, and is at its end.
    Stale {
        /// No client goes without an answer for that: another attempt follows.
        is_made_good: bool,
    },
    /// Clients bring it about as they like, such as by letting the endpoint wait.
    Client,
}

impl Upstream {
    /// Takes note of what came of an attempt at `endpoint`, which is one of its own.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome) {
        self.weigh(endpoint, outcome);
        if let Some(rule) = &self.adaptive {
            match outcome {
                Outcome::Answered { after, .. } => endpoint.note(after > rule.latency),
                // Nor of how busy it is.
                Outcome::Failed {
                    excuse: Some(_), ..
                } => {}
                Outcome::Failed { .. } => endpoint.note(true),
            }
        }
        match outcome {
            Outcome::Answered { status, after, .. } => {
                endpoint.metrics.response.observe(after.as_secs_f64());
                endpoint.metrics.count(status);
                let Some(watch) = &self.passive else { return };
                // What clients are told by the application itself is below 500, nearly always.
                if status < 500 || !watch.rule.statuses.contains(&status) {
                    endpoint.outlier().succeed();
                } else {
                    self.note_failure(endpoint, Fact::Answered(status));
                }
            }
            Outcome::Failed {
                reason,
                excuse,
                is_telling,
            } => {
                endpoint.metrics.count_failure(reason);
                match excuse {
                    None
                    | Some(Excuse::Stale {
                        is_made_good: false,
                    }) => endpoint.metrics.attempts.count_unanswered(),
                    Some(Excuse::Stale { is_made_good: true } | Excuse::Client) => {}
                }
                if is_telling {
                    self.note_failure(endpoint, Fact::Failed(reason));
                }
            }
        }
    }

    #[cold]
    fn note_failure(&self, endpoint: &Endpoint, fact: Fact) {
        let by_response = matches!(fact, Fact::Answered(_));
        endpoint.journal().note(fact);
        if let Some(watch) = &self.passive
            && endpoint
                .outlier()
                .fail(by_response, endpoint.answered(), &watch.rule)
        {
            watch.alarm.raise();
        }
    }
}
