//! The last facts about one endpoint, as JSON. Own structs, so that the inside may change without the outside.

use serde::Serialize;

use super::status::find;
use crate::snapshot::Snapshot;
use crate::units::unix_millis;
use crate::upstream::journal::Entry;

/// `GET /api/v1/endpoints/{upstream}/{endpoint}/facts`
#[derive(Debug, Serialize)]
pub struct Facts {
    upstream: String,
    endpoint: String,
    /// One word for all of it.
    state: &'static str,
    reason: Option<String>,
    /// Unix time in milliseconds of the last change.
    since_ms: u64,
    /// Oldest first; the last 64.
    facts: Vec<FactView>,
}

#[derive(Debug, Serialize)]
struct FactView {
    /// Unix time in milliseconds.
    first_ms: u64,
    /// The same of the last time, where it came up more than once.
    last_ms: u64,
    times: u64,
    kind: &'static str,
    text: String,
}

impl Facts {
    /// Of `endpoint` in `upstream`, or why there is none in `snapshot`.
    pub fn of(snapshot: &Snapshot, upstream: &str, endpoint: &str) -> Result<Self, String> {
        let (_, endpoint) = find(snapshot, upstream, endpoint)?;
        let state = endpoint.state();
        let entries = endpoint.journal().entries();
        Ok(Self {
            upstream: endpoint.upstream().to_string(),
            endpoint: endpoint.name().to_string(),
            state: state.word(),
            reason: state.why(),
            since_ms: unix_millis(state.since),
            facts: entries.iter().map(FactView::of).collect(),
        })
    }
}

impl FactView {
    fn of(entry: &Entry) -> Self {
        Self {
            first_ms: unix_millis(entry.first),
            last_ms: unix_millis(entry.last),
            times: entry.times,
            kind: entry.fact.kind(),
            text: entry.fact.to_string(),
        }
    }
}
