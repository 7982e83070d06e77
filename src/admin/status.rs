//! What is shown of a snapshot, as JSON. Own structs, so that the inside may change without the outside.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::audit::AuditStatus;
use super::before::Busy;
use super::flip::{self, FlipStatus};
use super::leaving::Leaving;
use super::reloads::{LastReload, LastReloadView};
use super::routes::RouteStatus;
use super::takeover::{Neighbours, Succession};
use crate::config::{self, hint};
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::units::unix_seconds;
use crate::upstream::outlier::Ejection;
use crate::upstream::state::State;
use crate::upstream::versions::{self, OTHER};
use crate::upstream::{Endpoint, Evidence, Headroom, Health, Tier, Upstream};

/// `GET /api/v1/status`
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    /// Number of the configuration in use.
    generation: u64,
    /// Unix time in seconds.
    started: u64,
    /// Where there was one.
    last_reload: Option<LastReloadView>,
    /// While another process takes the place of this one, or the one before still has connections.
    pub(super) upgrade: Option<Succession>,
    admin: AdminStatus,
    listeners: Vec<ListenerStatus>,
    upstreams: Vec<UpstreamStatus>,
    routes: Vec<RouteStatus>,
}

/// What may be done where this was asked.
#[derive(Debug, Serialize)]
struct AdminStatus {
    /// Whether endpoints can be drained and the like; over TCP it takes a token.
    writable: bool,
}

#[derive(Debug, Serialize)]
struct ListenerStatus {
    name: String,
    address: String,
    tls: bool,
    open_connections: usize,
    certificates: Vec<CertificateStatus>,
}

#[derive(Debug, Serialize)]
struct CertificateStatus {
    label: String,
    names: Vec<String>,
    /// Unix time in seconds.
    not_after: i64,
}

#[derive(Debug, Serialize)]
struct UpstreamStatus {
    name: String,
    policy: &'static str,
    available: usize,
    /// Whether endpoints are in use that seem unwell.
    degraded: bool,
    /// Requests that wait for an endpoint with room.
    queued: usize,
    paused: bool,
    /// Requests that wait for the end of a pause.
    held: usize,
    headroom: HeadroomStatus,
    /// `clones`, or `authoritative` where one endpoint serves and no other.
    role: &'static str,
    /// Of those the one that serves.
    authority: Option<String>,
    /// Why none does.
    no_authority: Option<String>,
    /// The set that serves, where there are sets.
    active_set: Option<String>,
    /// The one that the file names, where that is another.
    file_set: Option<String>,
    /// The last flip from one to another in this process.
    flip: Option<FlipStatus>,
    /// Which versions of their code its endpoints run, where they are asked.
    versions: Option<Vec<VersionStatus>>,
    /// Unix time in seconds since when endpoints of more than one serve, if they do.
    skew_since: Option<u64>,
    /// The one that they must run to be used.
    expect_version: Option<String>,
    /// What became of clients that were moved, where affinity is audited.
    affinity_audit: Option<AuditStatus>,
    endpoints: Vec<EndpointStatus>,
}

#[derive(Debug, Serialize)]
struct VersionStatus {
    version: String,
    /// How many run it.
    endpoints: usize,
    /// How many of them may be picked now.
    serving: usize,
}

impl From<versions::Share> for VersionStatus {
    fn from(share: versions::Share) -> Self {
        Self {
            version: share.version.to_string(),
            endpoints: share.endpoints,
            serving: share.serving,
        }
    }
}

/// How many endpoints could be lost with the load still carried.
#[derive(Debug, Serialize)]
struct HeadroomStatus {
    could_lose: usize,
    could_lose_at_peak: usize,
    /// Of so many that are picked now.
    of: usize,
    /// Most requests at once within the last minute.
    load: u64,
    /// The same within the last day.
    peak: u64,
    /// `max_in_flight`, `observed_peak` or `both`.
    by: &'static str,
}

impl From<Headroom> for HeadroomStatus {
    fn from(headroom: Headroom) -> Self {
        Self {
            could_lose: headroom.could_lose,
            could_lose_at_peak: headroom.could_lose_at_peak,
            of: headroom.of,
            load: headroom.load,
            peak: headroom.peak,
            by: headroom.by.as_str(),
        }
    }
}

/// `GET /api/v1/endpoints/{upstream}/{endpoint}`
#[derive(Debug, Serialize)]
pub struct EndpointStatus {
    /// Its identity within this process: another one under its name has another.
    id: u64,
    /// Whether a reload has removed it, and it finishes what it has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    name: String,
    address: String,
    /// Where a name leads.
    resolved: Option<String>,
    weight: u32,
    /// Whether it is for when others are out.
    backup: bool,
    /// The set it is in.
    set: Option<String>,
    /// How far it has come to its full share, from 0 to 1, where it was added or is back.
    slow_start: Option<f64>,
    mode: &'static str,
    health: &'static str,
    /// Of one that is down: whether it may stay in use (`soft`) or not (`hard`).
    evidence: Option<&'static str>,
    ejected: Option<EjectionStatus>,
    /// One word for all of it.
    state: &'static str,
    reason: Option<String>,
    /// Unix time in seconds of the last change.
    since: u64,
    /// Requests, tunnels among them.
    in_flight: u32,
    /// As the file has it.
    max_in_flight: Option<u32>,
    /// Most requests at once within the last day.
    peak_in_flight: u32,
    tunnels: i64,
    /// Requests that failed here and were sent again, here or elsewhere.
    retries: u64,
    eligible: bool,
    /// Which version of its code it runs, where it says so.
    version: Option<String>,
    /// Why that is not known, where it is asked.
    version_unknown: Option<String>,
    /// Where one endpoint serves and no other: `authority`; `claimant`, which claims to be it and does not serve; or `standby`.
    role: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct EjectionStatus {
    /// As in metrics.
    reason: &'static str,
    /// Unix time in seconds.
    until: u64,
}

impl From<Ejection> for EjectionStatus {
    fn from(ejection: Ejection) -> Self {
        Self {
            reason: ejection.line.as_str(),
            until: unix_seconds(ejection.until),
        }
    }
}

impl Status {
    /// Of `snapshot`, whose listeners' sockets have `addresses` by slot.
    pub fn of(snapshot: &Snapshot, addresses: &[(u32, SocketAddr)], started: SystemTime) -> Self {
        let listeners = snapshot.listeners.iter().map(|listener| {
            let real = addresses
                .iter()
                .find(|(slot, _)| *slot == listener.slot)
                .map_or(listener.address, |(_, real)| *real);
            ListenerStatus {
                name: listener.name.to_string(),
                address: real.to_string(),
                tls: listener.tls.is_some(),
                open_connections: listener.open.load(std::sync::atomic::Ordering::Relaxed),
                certificates: listener
                    .certificates
                    .iter()
                    .map(|certificate| CertificateStatus {
                        label: certificate.label.clone(),
                        names: certificate.names.clone(),
                        not_after: certificate.not_after,
                    })
                    .collect(),
            }
        });
        let upstreams = snapshot.upstreams.iter().map(|upstream| {
            let available = upstream.available();
            let incumbent = upstream.incumbent();
            UpstreamStatus {
                name: upstream.name.to_string(),
                policy: upstream.policy.name(),
                available,
                degraded: upstream.is_degraded(),
                queued: upstream.queue.len(),
                paused: upstream.hold.is_paused(),
                held: upstream.hold.held(),
                headroom: upstream.headroom().into(),
                role: match upstream.is_authoritative() {
                    true => "authoritative",
                    false => "clones",
                },
                authority: incumbent
                    .as_ref()
                    .and_then(|it| it.endpoint.as_ref())
                    .map(ToString::to_string),
                no_authority: incumbent.and_then(|it| it.why),
                active_set: upstream.active_set().map(|set| set.to_string()),
                file_set: upstream.file_set().map(|set| set.to_string()),
                flip: flip::last(upstream),
                versions: upstream.asks_version().then(|| {
                    let shares = upstream.shares_of_versions().into_iter();
                    shares.map(VersionStatus::from).collect()
                }),
                skew_since: upstream.versions.skew_since().map(unix_seconds),
                expect_version: upstream
                    .health
                    .as_ref()
                    .and_then(|health| health.expect_version.as_ref())
                    .map(ToString::to_string),
                affinity_audit: upstream
                    .affinity
                    .as_ref()
                    .and_then(|affinity| affinity.audit().map(AuditStatus::from)),
                endpoints: upstream
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint_status(endpoint, Some(upstream)))
                    .collect(),
            }
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: snapshot.generation,
            started: unix_seconds(started),
            last_reload: None,
            upgrade: None,
            admin: AdminStatus { writable: false },
            listeners: listeners.collect(),
            upstreams: upstreams.collect(),
            routes: RouteStatus::all(snapshot),
        }
    }
}

impl Status {
    /// The same, after this reload.
    pub fn after(mut self, last: Option<LastReload>) -> Self {
        self.last_reload = last.map(LastReloadView::from);
        self
    }

    /// The same, where something may be changed or not.
    pub(super) fn writable(mut self, writable: bool) -> Self {
        self.admin = AdminStatus { writable };
        self
    }
}

impl Status {
    /// Of one endpoint, or why there is none.
    pub fn endpoint(
        snapshot: &Snapshot,
        upstream: &str,
        endpoint: &str,
    ) -> Result<EndpointStatus, String> {
        let (upstream, endpoint) = find(snapshot, upstream, endpoint)?;
        Ok(endpoint_status(endpoint, Some(upstream)))
    }

    /// Of the endpoint of these names that has `id`, in use or among those that are `leaving`. `None` where nothing of it is
    /// left.
    pub fn endpoint_with(
        (snapshot, leaving): (&Snapshot, &Leaving),
        (upstream, endpoint): (&str, &str),
        id: u64,
    ) -> Option<EndpointStatus> {
        if let Ok((upstream, found)) = find(snapshot, upstream, endpoint)
            && found.id().get() == id
        {
            return Some(endpoint_status(found, Some(upstream)));
        }
        let is_meant =
            |it: &Arc<Endpoint>| **it.upstream() == *upstream && **it.name() == *endpoint;
        let found = leaving.find(id).filter(is_meant)?;
        Some(endpoint_status(&found, None))
    }
}

impl Status {
    /// Adds what the process before this one has in flight.
    pub(super) fn add_before(&mut self, neighbours: &Neighbours) {
        for endpoint in self.upstreams.iter_mut().flat_map(|it| &mut it.endpoints) {
            endpoint.add_before(neighbours);
        }
    }
}

impl EndpointStatus {
    /// The same, with what the process before this one has in flight.
    pub(super) fn and_before(mut self, neighbours: &Neighbours) -> Self {
        self.add_before(neighbours);
        self
    }

    fn add_before(&mut self, neighbours: &Neighbours) {
        let (in_flight, tunnels) = neighbours.in_flight(self.id);
        self.in_flight = self.in_flight.saturating_add(in_flight);
        self.tunnels += tunnels;
    }

    /// Of one that the process before this one alone has, and that gets nothing new.
    pub(super) fn of_gone(busy: &Busy) -> Self {
        let state = config::Mode::Draining.as_str();
        Self {
            id: busy.id,
            gone: true,
            name: busy.endpoint.clone(),
            address: busy.address.clone(),
            resolved: None,
            weight: 1,
            backup: false,
            set: None,
            slow_start: None,
            mode: state,
            health: Health::Unknown.as_str(),
            evidence: None,
            ejected: None,
            state,
            reason: Some("in flight in the process before this one".to_owned()),
            since: unix_seconds(SystemTime::now()),
            in_flight: busy.in_flight,
            max_in_flight: None,
            peak_in_flight: busy.in_flight,
            tunnels: busy.tunnels,
            retries: 0,
            eligible: false,
            version: None,
            version_unknown: None,
            role: None,
        }
    }
}

/// The endpoint of these names, or what there is instead.
pub fn find<'a>(
    snapshot: &'a Snapshot,
    upstream: &str,
    endpoint: &str,
) -> Result<(&'a Upstream, &'a Arc<Endpoint>), String> {
    let upstreams = &snapshot.upstreams;
    let Some(found) = upstreams.iter().find(|other| *other.name == *upstream) else {
        let hint = hint(upstream, upstreams.iter().map(|other| &*other.name));
        return Err(format!("no upstream is named {upstream:?}{hint}"));
    };
    let endpoints = &found.endpoints;
    let Some(endpoint) = endpoints.iter().find(|other| **other.name() == *endpoint) else {
        let hint = hint(endpoint, endpoints.iter().map(|other| &**other.name()));
        return Err(format!(
            "upstream {upstream:?} has no endpoint {endpoint:?}{hint}"
        ));
    };
    Ok((found, endpoint))
}

/// `upstream` is the one it is in, unless it is gone.
fn endpoint_status(endpoint: &Endpoint, upstream: Option<&Upstream>) -> EndpointStatus {
    let state = endpoint.state();
    let progress = endpoint.progress();
    EndpointStatus {
        id: endpoint.id().get(),
        gone: upstream.is_none(),
        name: endpoint.name().to_string(),
        address: endpoint.address().to_string(),
        resolved: endpoint.socket_address().map(|address| address.to_string()),
        weight: endpoint.weight(),
        backup: endpoint.is_backup(),
        set: upstream
            .and_then(|upstream| upstream.set_of(endpoint))
            .map(|set| set.to_string()),
        slow_start: (progress < 1.0).then(|| (progress * 100.0).round() / 100.0),
        mode: state.mode.as_str(),
        health: state.health.as_str(),
        evidence: match state.health {
            Health::Down(evidence) => Some(evidence.as_str()),
            Health::Unchecked | Health::Unknown | Health::Up if state.is_held() => {
                Some(Evidence::Hard.as_str())
            }
            Health::Unchecked | Health::Unknown | Health::Up | Health::Draining => None,
        },
        ejected: state.ejected.map(EjectionStatus::from),
        state: match upstream {
            Some(upstream) => state.word_of(upstream.is_standby(endpoint)),
            None => state.word(),
        },
        reason: state.why(),
        since: unix_seconds(state.since),
        in_flight: endpoint.in_flight(),
        tunnels: endpoint.metrics.tunnels.get(),
        retries: endpoint.retried(),
        max_in_flight: endpoint.max_in_flight().map(NonZeroU32::get),
        peak_in_flight: endpoint.peak_in_flight(),
        eligible: upstream.is_some_and(|upstream| upstream.would_pick(endpoint)),
        version: endpoint.version().map(|version| version.to_string()),
        version_unknown: state.version.why_unknown().map(str::to_owned),
        role: upstream.and_then(|upstream| role(upstream, endpoint)),
    }
}

fn role(upstream: &Upstream, endpoint: &Endpoint) -> Option<&'static str> {
    upstream.is_authoritative().then(|| {
        if upstream.is_holder(endpoint) {
            "authority"
        } else if upstream.claims(endpoint) {
            "claimant"
        } else {
            "standby"
        }
    })
}

/// Sets the gauges that are read from endpoints only when somebody looks.
pub fn refresh_gauges(snapshot: &Snapshot, metrics: &Metrics) {
    refresh_versions(snapshot, metrics);
    refresh_sets(snapshot, metrics);
    refresh_authorities(snapshot, metrics);
    for upstream in &snapshot.upstreams {
        let name = [&*upstream.name];
        let available = gauge(upstream.available());
        upstream.metrics.available.set(available);
        let headroom = metrics.headroom_endpoints.with_label_values(&name);
        headroom.set(gauge(upstream.headroom().could_lose));
        let queue_length = metrics.queue_length.with_label_values(&name);
        queue_length.set(gauge(upstream.queue.len()));
        for endpoint in &upstream.endpoints {
            let shown = endpoint.metrics.shown(metrics);
            shown.set_state(upstream.word(endpoint));
            // A backup that waits is well, and no reason for alarm; nor is a set on standby, nor who stands by for the authority.
            let waits = upstream.waits(endpoint) || upstream.is_standby(endpoint);
            let waits = waits && endpoint.tier() == Tier::Eligible;
            let stands_by = upstream.is_authoritative() && endpoint.look(State::stands_by);
            let eligible = waits || stands_by || upstream.would_pick(endpoint);
            shown.up.set(i64::from(eligible));
            shown.weight.set(i64::from(endpoint.weight()));
            shown.in_flight.set(i64::from(endpoint.in_flight()));
        }
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The series of upstreams that have no authority any more go with that.
fn refresh_authorities(snapshot: &Snapshot, metrics: &Metrics) {
    let mut upstreams = HashSet::new();
    for upstream in &snapshot.upstreams {
        if let Some(incumbent) = upstream.incumbent() {
            let claimants = metrics
                .upstream_authorities
                .with_label_values(&[&*upstream.name]);
            claimants.set(gauge(incumbent.claimants));
            upstreams.insert(&*upstream.name);
        }
    }
    let is_there = |values: &[&str]| values.iter().all(|name| upstreams.contains(name));
    metrics.upstream_authorities.keep(is_there);
}

/// The series of sets that are gone go with them.
fn refresh_sets(snapshot: &Snapshot, metrics: &Metrics) {
    let (mut upstreams, mut sets) = (HashSet::new(), HashSet::new());
    for upstream in &snapshot.upstreams {
        if upstream.division.is_some() {
            let differs = metrics.set_differs.with_label_values(&[&*upstream.name]);
            differs.set(i64::from(upstream.file_set().is_some()));
            upstreams.insert(&*upstream.name);
        }
        for set in upstream.set_names() {
            let series = metrics
                .active_set
                .with_label_values(&[&*upstream.name, &*set]);
            series.set(i64::from(upstream.percent_of(&set) > 0));
            sets.insert((&*upstream.name, set));
        }
    }
    let is_there = |values: &[&str]| matches!(values, [upstream, set] if sets.contains(&(*upstream, (*set).into())));
    metrics.active_set.keep(is_there);
    let is_there = |values: &[&str]| values.iter().all(|name| upstreams.contains(name));
    metrics.set_differs.keep(is_there);
}

/// The series of versions that are gone go with them.
fn refresh_versions(snapshot: &Snapshot, metrics: &Metrics) {
    let (mut upstreams, mut infos) = (HashSet::new(), HashSet::new());
    let asking = snapshot.upstreams.iter();
    for upstream in asking.filter(|upstream| upstream.asks_version()) {
        let shares = upstream.shares_of_versions();
        let serving = shares.iter().filter(|share| share.serving > 0).count();
        let name = [&*upstream.name];
        upstreams.insert(&*upstream.name);
        let versions = metrics.upstream_versions.with_label_values(&name);
        versions.set(gauge(serving));
        let skew = upstream.versions.skew_since();
        let skew = skew.and_then(|since| SystemTime::now().duration_since(since).ok());
        let seconds = metrics.upstream_skew_seconds.with_label_values(&name);
        seconds.set(skew.map_or(0, |skew| i64::try_from(skew.as_secs()).unwrap_or(i64::MAX)));
        let labels = upstream.labels_of_versions(Instant::now());
        for endpoint in &upstream.endpoints {
            let Some(version) = endpoint.version() else {
                continue;
            };
            let label = match endpoint.is_unstable() {
                true => Some(OTHER),
                false => labels.get(&*version).map(String::as_str),
            };
            if let Some(label) = label {
                let values = [name[0], &**endpoint.name(), label];
                metrics
                    .endpoint_version_info
                    .with_label_values(&values)
                    .set(1);
                infos.insert(values.map(str::to_owned));
            }
        }
    }
    // What stays is there all the time: somebody else may be reading.
    let is_asked = |values: &[&str]| values.iter().all(|name| upstreams.contains(name));
    metrics.upstream_versions.keep(is_asked);
    metrics.upstream_skew_seconds.keep(is_asked);
    metrics.endpoint_version_info.keep(|values| {
        let values: Result<[&str; 3], _> = values.try_into();
        values.is_ok_and(|values| infos.contains(&values.map(str::to_owned)))
    });
}
