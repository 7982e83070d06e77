//! What an affinity audit has counted, as JSON.

use serde::Serialize;

use crate::metrics::{Audited, Pinned};
use crate::upstream::Audit;

/// `affinity_audit` of an upstream's status.
#[derive(Debug, Serialize)]
pub(super) struct AuditStatus {
    /// The share of requests that is moved.
    share: f64,
    /// Answers of endpoints that clients are kept with.
    kept: Answers,
    /// Those of others.
    broken: Answers,
}

#[derive(Debug, Serialize)]
struct Answers {
    ok: u64,
    refused: u64,
    redirected: u64,
    failed: u64,
}

impl From<&Audit> for AuditStatus {
    fn from(audit: &Audit) -> Self {
        let answers = |pinned| {
            let get = |audited| audit.metrics.get(pinned, audited);
            Answers {
                ok: get(Audited::Ok),
                refused: get(Audited::Refused),
                redirected: get(Audited::Redirected),
                failed: get(Audited::Failed),
            }
        };
        Self {
            share: audit.share(),
            kept: answers(Pinned::Kept),
            broken: answers(Pinned::Broken),
        }
    }
}
