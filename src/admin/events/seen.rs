//! What viewers know of endpoints and upstreams, and what has become of them since. With thousands of endpoints it is looked often:
//! nothing is copied of what has not changed.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::snapshot::Snapshot;
use crate::units::{AppVersion, Name, unix_seconds};
use crate::upstream::authority::Incumbent;
use crate::upstream::state::State;
use crate::upstream::{Endpoint, EndpointId, Upstream};

/// All of it, in the order of one generation.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The generation; 0: nothing was seen.
    generation: u64,
    endpoints: Vec<(EndpointId, OfEndpoint)>,
    /// By upstream, whether it is paused.
    paused: Vec<(Box<str>, bool)>,
    /// Who is the authority, or why nobody, of upstreams of which one endpoint serves.
    authorities: HashMap<Box<str>, (Option<Name>, Option<String>)>,
}

#[derive(Debug)]
struct OfEndpoint {
    word: &'static str,
    mode: &'static str,
    health: &'static str,
    is_ejected: bool,
    reason: Option<String>,
    version: Option<AppVersion>,
    /// Of such a one another version is no news.
    is_unstable: bool,
    weight: u32,
    is_eligible: bool,
}

impl Seen {
    /// Whether it was looked before.
    pub(super) fn is_begun(&self) -> bool {
        self.generation != 0
    }

    /// Looks at `snapshot`, and gives `tell` the kind and data of everything that is new. The first time nothing is.
    pub(super) fn look(&mut self, snapshot: &Snapshot, mut tell: impl FnMut(&'static str, Value)) {
        let is_first = !self.is_begun();
        if self.generation != snapshot.generation {
            self.follow(snapshot, is_first);
        }
        let mut seen = self.endpoints.iter_mut();
        for (upstream, endpoint) in all(snapshot) {
            let Some((_, seen)) = seen.next() else { break };
            let (is_eligible, weight) = (upstream.would_pick(endpoint), endpoint.weight());
            let is_standby = upstream.is_standby(endpoint);
            let change = endpoint.look(|state| {
                if seen.is((state, is_standby), weight, is_eligible) {
                    return None;
                }
                let before = Some(seen.word).filter(|word| !word.is_empty());
                let version_before = seen.version.take();
                *seen = OfEndpoint::of((state, is_standby), weight, is_eligible);
                Some((before, version_before, state.clone()))
            });
            if let Some((before, version_before, state)) = change {
                let ejected = state.ejected.map(|ejection| {
                    json!({ "reason": ejection.line.as_str(), "until": unix_seconds(ejection.until) })
                });
                let data = json!({
                    "generation": snapshot.generation,
                    "upstream": &**endpoint.upstream(),
                    "endpoint": &**endpoint.name(),
                    "before": before,
                    "state": state.word_of(is_standby),
                    "reason": state.why(),
                    "since": unix_seconds(state.since),
                    "mode": state.mode.as_str(),
                    "health": state.health.as_str(),
                    "ejected": ejected,
                    "version": state.version.version().map(AppVersion::as_str),
                    "version_before": version_before.as_ref().map(AppVersion::as_str),
                    "weight": weight,
                    "in_flight": endpoint.in_flight(),
                    "eligible": is_eligible,
                });
                tell("endpoint", data);
            }
        }
        for upstream in &snapshot.upstreams {
            if let Some(Incumbent { endpoint, why, .. }) = upstream.incumbent() {
                self.look_at_authority(&upstream.name, (endpoint, why), &mut tell);
            }
        }
        for (upstream, (name, seen)) in snapshot.upstreams.iter().zip(&mut self.paused) {
            let is_paused = upstream.hold.is_paused();
            if std::mem::replace(seen, is_paused) != is_paused {
                tell("pause", json!({ "upstream": name, "paused": is_paused }));
            }
        }
    }

    /// The first time there is no news.
    fn look_at_authority(
        &mut self,
        upstream: &Name,
        now: (Option<Name>, Option<String>),
        mut tell: impl FnMut(&'static str, Value),
    ) {
        match self.authorities.get_mut(&**upstream) {
            None => {
                self.authorities.insert((**upstream).into(), now);
            }
            Some(seen) if *seen == now => {}
            Some(seen) => {
                let data = json!({
                    "upstream": &**upstream,
                    "from": seen.0.as_deref(),
                    "to": now.0.as_deref(),
                    "why": &now.1,
                });
                *seen = now;
                tell("authority", data);
            }
        }
    }

    /// Brings what is known into the order of `snapshot`. Of what is new nothing is known; `is_first`: of nothing there is news.
    fn follow(&mut self, snapshot: &Snapshot, is_first: bool) {
        let mut known: HashMap<EndpointId, OfEndpoint> = self.endpoints.drain(..).collect();
        let of = |(upstream, endpoint): (&Upstream, &Endpoint)| {
            let seen = known.remove(&endpoint.id());
            let now = || {
                let is_eligible = upstream.would_pick(endpoint);
                let is_standby = upstream.is_standby(endpoint);
                endpoint.look(|state| {
                    OfEndpoint::of((state, is_standby), endpoint.weight(), is_eligible)
                })
            };
            let seen = match seen {
                Some(seen) => seen,
                None if is_first => now(),
                None => OfEndpoint::UNSEEN,
            };
            (endpoint.id(), seen)
        };
        self.endpoints = all(snapshot).map(of).collect();
        let mut known: HashMap<Box<str>, bool> = self.paused.drain(..).collect();
        let upstreams = snapshot.upstreams.iter();
        self.paused = upstreams
            .map(|upstream| {
                let seen = known.remove(&*upstream.name);
                let seen = seen.unwrap_or_else(|| is_first && upstream.hold.is_paused());
                ((*upstream.name).into(), seen)
            })
            .collect();
        let is_there = |name: &str| snapshot.upstreams.iter().any(|it| *it.name == *name);
        self.authorities.retain(|name, _| is_there(name));
        self.generation = snapshot.generation;
    }
}

impl OfEndpoint {
    const UNSEEN: Self = Self {
        word: "",
        mode: "",
        health: "",
        is_ejected: false,
        reason: None,
        version: None,
        is_unstable: false,
        weight: 0,
        is_eligible: false,
    };

    fn of((state, is_standby): (&State, bool), weight: u32, is_eligible: bool) -> Self {
        Self {
            word: state.word_of(is_standby),
            mode: state.mode.as_str(),
            health: state.health.as_str(),
            is_ejected: state.ejected.is_some(),
            reason: state.why(),
            version: state.version.version().cloned(),
            is_unstable: state.churn.is_unstable(),
            weight,
            is_eligible,
        }
    }

    fn is(&self, (state, is_standby): (&State, bool), weight: u32, is_eligible: bool) -> bool {
        let words = (self.word, self.mode, self.health);
        let is_unstable = state.churn.is_unstable();
        words
            == (
                state.word_of(is_standby),
                state.mode.as_str(),
                state.health.as_str(),
            )
            && self.is_ejected == state.ejected.is_some()
            && match state.is_held() || state.part.passed_over.is_some() {
                true => is_unstable || self.reason == state.why(),
                false => self.reason == state.reason,
            }
            && self.is_unstable == is_unstable
            && (is_unstable || self.version.as_ref() == state.version.version())
            && (self.weight, self.is_eligible) == (weight, is_eligible)
    }
}

fn all(snapshot: &Snapshot) -> impl Iterator<Item = (&Upstream, &Endpoint)> {
    let upstreams = snapshot.upstreams.iter();
    upstreams.flat_map(|upstream| {
        let endpoints = upstream.endpoints.iter();
        endpoints.map(|endpoint| (&**upstream, &**endpoint))
    })
}
