//! Whether clients could be moved without harm: a share of the requests of clients that are kept with an endpoint goes to another
//! one, and what these are answered is counted beside what the others are. Pure: chance is passed in.

use http::StatusCode;

use super::EndpointId;
use super::affinity::Wanted;
use crate::metrics::{AuditMetrics, Audited, Pinned};

/// How one upstream's affinity is audited.
#[derive(Debug)]
pub struct Audit {
    share: f64,
    /// What was answered so far.
    pub metrics: AuditMetrics,
}

impl Audit {
    /// Moves `share` of the requests, from 0 to 1.
    pub fn new(share: f64, metrics: AuditMetrics) -> Self {
        Self { share, metrics }
    }

    /// The share of requests that is moved.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Whom a request shall go to that `wanted` somebody; `chance` is any number from 0 to 1.
    pub fn lend(&self, wanted: Wanted, chance: f64) -> Wanted {
        match wanted {
            Wanted::Pinned(pin) if chance < self.share => Wanted::Pinned(pin.lent()),
            Wanted::Nobody | Wanted::Unknown | Wanted::Pinned(_) | Wanted::Version(_) => wanted,
        }
    }

    /// Counts what `answered` has said to a request that `wanted` somebody. Who was moved for another reason does not count: what
    /// failed, or was drained, says nothing of sessions.
    pub fn note(&self, wanted: Wanted, answered: EndpointId, status: StatusCode) {
        let Some(pin) = wanted.pin() else {
            return;
        };
        let pinned = match (pin.id == answered, pin.is_lent()) {
            (true, _) => Pinned::Kept,
            (false, true) => Pinned::Broken,
            (false, false) => return,
        };
        self.metrics.count(pinned, audited(status));
    }
}

/// What an answer says of who was asked. Permanent redirects tell where something is, not who may see it.
fn audited(status: StatusCode) -> Audited {
    match status.as_u16() {
        401 | 403 => Audited::Refused,
        302 | 303 | 307 => Audited::Redirected,
        500.. => Audited::Failed,
        _ => Audited::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_they_say_of_a_session() {
        for (status, expected) in [
            (200, Audited::Ok),
            (304, Audited::Ok),
            (301, Audited::Ok),
            (404, Audited::Ok),
            (302, Audited::Redirected),
            (303, Audited::Redirected),
            (307, Audited::Redirected),
            (401, Audited::Refused),
            (403, Audited::Refused),
            (500, Audited::Failed),
            (503, Audited::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(audited(status), expected, "{status}");
        }
    }
}
