//! What is counted of an affinity audit.

use prometheus::IntCounter;

use crate::metrics::Metrics;
use crate::metrics::labels::{AUDITED, PINNED};

/// Answers to clients that an upstream keeps with an endpoint, while that is audited.
#[derive(Debug)]
pub struct AuditMetrics([[IntCounter; AUDITED.len()]; PINNED.len()]);

impl AuditMetrics {
    /// Of the upstream `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        Self(PINNED.map(|pin| {
            AUDITED.map(|result| {
                let family = &metrics.affinity_audit;
                family.with_label_values(&[name, pin, result])
            })
        }))
    }

    /// One answer more.
    pub fn count(&self, pinned: Pinned, audited: Audited) {
        self.0[pinned as usize][audited as usize].inc();
    }

    /// How many there were.
    pub fn get(&self, pinned: Pinned, audited: Audited) -> u64 {
        self.0[pinned as usize][audited as usize].get()
    }
}

/// Whether the endpoint answered that the client is kept with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pinned {
    /// It did.
    Kept,
    /// Another one did, for the audit's sake.
    Broken,
}

/// What an answer came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audited {
    /// Any other.
    Ok,
    /// 401 or 403.
    Refused,
    /// 302, 303 or 307: perhaps to where one logs in.
    Redirected,
    /// 500 and above.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_the_order_of_their_enums() {
        assert_eq!(PINNED[Pinned::Kept as usize], "kept");
        assert_eq!(PINNED[Pinned::Broken as usize], "broken");
        assert_eq!(AUDITED[Audited::Ok as usize], "ok");
        assert_eq!(AUDITED[Audited::Refused as usize], "refused");
        assert_eq!(AUDITED[Audited::Redirected as usize], "redirected");
        assert_eq!(AUDITED[Audited::Failed as usize], "failed");
    }
}
