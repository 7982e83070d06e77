//! Upstreams: what stays of the one before, and what is made anew.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;
use http::uri::Scheme;

use super::Compiler;
use crate::balance::{
    Bound, ConsistentHash, Cursor, LeastConnections, PeakEwma, Policy, Random, RoundRobin,
    TwoChoices,
};
use crate::config::{self, Config, VersionSource};
use crate::metrics::{AuditMetrics, EndpointMetrics, UpstreamMetrics};
use crate::units::Name;
use crate::upstream::{
    Affinity, Audit, Authority, Contact, Division, Endpoint, Floor, Health, Hold, Shares, Upstream,
    Watch,
};

impl Compiler {
    pub(super) fn upstream(
        &self,
        (index, upstream): (usize, &config::Upstream),
        (contacts, affinity): (Vec<Contact>, Option<Affinity>),
        config: &Config,
        before: Option<&Upstream>,
    ) -> Upstream {
        let known: HashMap<&str, &Arc<Endpoint>> = before
            .into_iter()
            .flat_map(|before| before.endpoints.iter())
            .map(|endpoint| (&**endpoint.name(), endpoint))
            .collect();
        let unknown = if upstream.health.is_some() {
            Health::Unknown
        } else {
            Health::Unchecked
        };
        let queue = before.map_or_else(Arc::default, |before| Arc::clone(&before.queue));
        // Whether endpoints go on beside which others would be newcomers, among backups and among the rest.
        let goes_on = [false, true].map(|is_backup| {
            let mut configured = upstream.endpoints.iter().zip(&contacts);
            configured.any(|(configured, contact)| {
                let stays = known.get(&*configured.name);
                configured.backup == is_backup && stays.is_some_and(|it| it.contact() == contact)
            })
        });
        let configured = upstream.endpoints.iter().zip(contacts);
        let endpoints =
            configured.map(|(configured, contact)| match known.get(&*configured.name) {
                Some(endpoint) if *endpoint.contact() == contact => Arc::clone(endpoint),
                predecessor => {
                    let metrics =
                        EndpointMetrics::new(&self.metrics, &upstream.name, &configured.name);
                    let mut endpoint = Endpoint::new(
                        Arc::clone(&upstream.name),
                        Arc::clone(&configured.name),
                        (contact, unknown),
                        (Arc::clone(&queue), metrics),
                    );
                    if let Some(predecessor) = predecessor {
                        endpoint.succeed(predecessor);
                    }
                    if goes_on[usize::from(configured.backup)] {
                        endpoint.set_newcomer();
                    }
                    Arc::new(endpoint)
                }
            });
        let endpoints = endpoints.collect();
        let policy = policy_of(upstream, before.map(|before| &before.policy));
        let affinity = affinity.map(|affinity| {
            let before = before.and_then(|before| before.affinity.as_deref());
            let share = upstream.affinity.as_ref().and_then(|it| it.audit);
            let audit = share
                .map(|share| Audit::new(share, AuditMetrics::new(&self.metrics, &upstream.name)));
            Box::new(affinity.following(before, &policy).audited(audit))
        });
        Upstream {
            name: Arc::clone(&upstream.name),
            endpoints,
            queue,
            queueing: upstream.queue,
            adaptive: upstream.adaptive,
            policy,
            division: upstream.active_set.as_ref().map(|_| {
                let before = before.and_then(|before| before.division.as_deref());
                Box::new(Division {
                    sets: before.map_or_else(Arc::default, |before| Arc::clone(&before.sets)),
                    spare: policy_of(upstream, before.map(|before| &before.spare)),
                })
            }),
            authority: upstream.authoritative.then(|| {
                let before = before.and_then(|before| before.authority.as_deref());
                let source = upstream.health.as_ref().and_then(|it| it.role.clone());
                Box::new(Authority::new(source, before))
            }),
            cursor: before.map_or_else(
                || Arc::new(Cursor::new(self.seed)),
                |before| Arc::clone(&before.cursor),
            ),
            hash_key: (upstream.policy == config::Policy::Hash).then(|| upstream.hash.key.clone()),
            shares: Shares::new(upstream.slow_start, upstream.spill_below)
                .following(before.map(|before| &before.shares)),
            http2: match &upstream.tls {
                _ if !upstream.http2 => None,
                Some(_) => Some(Scheme::HTTPS),
                None => Some(Scheme::HTTP),
            },
            timeouts: upstream.timeouts,
            retry: upstream.retry.clone(),
            budget_rule: upstream.budget,
            budget: before.map_or_else(Arc::default, |before| Arc::clone(&before.budget)),
            health: upstream.health.clone(),
            passive: upstream.passive.clone().map(|rule| Watch {
                rule,
                alarm: Arc::clone(&self.alarm),
            }),
            floor: Floor {
                min_available: upstream.min_available,
                fails_closed: upstream.authoritative
                    || config.routes.iter().any(|route| {
                        route.exclusive && route.action.upstreams().any(|asked| asked == index)
                    }),
            },
            affinity,
            live_version: live_version(upstream).map(Box::new),
            versions: before.map_or_else(Arc::default, |before| Arc::clone(&before.versions)),
            hold: before.map_or_else(
                || self.hold(&upstream.name),
                |before| Arc::clone(&before.hold),
            ),
            pause: upstream.pause,
            copies: before.map_or_else(Arc::default, |before| Arc::clone(&before.copies)),
            peaks: before.map_or_else(Arc::default, |before| Arc::clone(&before.peaks)),
            metrics: UpstreamMetrics::new(&self.metrics, &upstream.name),
        }
    }

    fn hold(&self, name: &Name) -> Arc<Hold> {
        let labels = [&**name];
        Hold::new(
            self.metrics.paused.with_label_values(&labels),
            self.metrics.held_requests.with_label_values(&labels),
        )
    }
}

/// The field in which responses to clients say which version an endpoint runs, where they are looked at.
fn live_version(upstream: &config::Upstream) -> Option<HeaderName> {
    let health = upstream.health.as_ref().filter(|it| it.live_version)?;
    match &health.version {
        Some(VersionSource::Header(name)) => Some(name.clone()),
        Some(VersionSource::Pointer(_)) | None => None,
    }
}

/// The policy of `upstream`, which goes on counting where the one before it has counted.
fn policy_of(upstream: &config::Upstream, before: Option<&Policy>) -> Policy {
    match upstream.policy {
        config::Policy::RoundRobin => Policy::RoundRobin(RoundRobin::default()),
        config::Policy::LeastConnections => Policy::LeastConnections(LeastConnections::default()),
        config::Policy::TwoChoices => Policy::TwoChoices(TwoChoices::default()),
        config::Policy::PeakEwma => Policy::PeakEwma(PeakEwma::default()),
        config::Policy::Hash => {
            let in_flight = before.and_then(Policy::in_flight).cloned();
            let bound = upstream.hash.bounded_load.map(Bound);
            Policy::ConsistentHash(ConsistentHash::new(
                bound.map(|bound| (bound, in_flight.unwrap_or_default())),
            ))
        }
        config::Policy::Random => Policy::Random(Random::default()),
    }
}
