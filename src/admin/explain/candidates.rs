//! Who of an upstream could take a request now, and why the others could not.

use std::num::NonZeroU32;

use serde::Serialize;

use crate::units::Name;
use crate::upstream::{Endpoint, Tier, Upstream};

/// An endpoint, as far as it matters whether it would be asked.
#[derive(Debug, Serialize)]
pub struct Candidate {
    /// Its name.
    pub endpoint: String,
    /// Its state in one word.
    pub state: &'static str,
    /// Why it would not be asked; `None`: it could be.
    pub why_not: Option<String>,
    weight: u32,
    in_flight: u32,
    max_in_flight: Option<u32>,
    /// Which version of its code it runs, where it says so.
    pub version: Option<String>,
}

/// All of `upstream`, in the order of the file.
pub(super) fn candidates(upstream: &Upstream) -> Vec<Candidate> {
    let candidate = |endpoint: &_| Candidate::of(endpoint, upstream);
    upstream.endpoints.iter().map(|it| candidate(it)).collect()
}

impl Candidate {
    fn of(endpoint: &Endpoint, upstream: &Upstream) -> Self {
        let state = endpoint.state();
        let is_standby = upstream.is_standby(endpoint);
        let word = state.word_of(is_standby);
        let why_not = match endpoint.tier() {
            Tier::Never => Some(match state.why() {
                Some(reason) => format!("{word}: {reason}"),
                None => word.to_owned(),
            }),
            Tier::Eligible | Tier::IfNoneEligible if is_standby => {
                let name = |name: Option<Name>| name.unwrap_or_else(|| "none".into());
                let (own, active) = (upstream.set_of(endpoint), upstream.active_set());
                Some(format!(
                    "of set {}, and set {} serves",
                    name(own),
                    name(active)
                ))
            }
            Tier::IfNoneEligible if !upstream.would_pick(endpoint) => {
                Some("no check has passed yet, and others are up".to_owned())
            }
            Tier::Eligible if upstream.waits(endpoint) => {
                Some("backup, and enough others may be asked".to_owned())
            }
            Tier::Eligible | Tier::IfNoneEligible => (!endpoint.has_room()).then(|| {
                let limit = endpoint.max_in_flight().map_or(0, NonZeroU32::get);
                format!("full: {} of {limit} in flight", endpoint.in_flight())
            }),
        };
        Self {
            endpoint: endpoint.name().to_string(),
            state: word,
            why_not,
            weight: endpoint.weight(),
            in_flight: endpoint.in_flight(),
            max_in_flight: endpoint.max_in_flight().map(NonZeroU32::get),
            version: endpoint.version().map(|version| version.to_string()),
        }
    }
}
