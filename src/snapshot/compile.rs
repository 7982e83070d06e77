//! From a configuration and the snapshot before it to the next snapshot.
//!
//! What is the same thing in both keeps its state: endpoints by (upstream, name, contact), round-robin positions by
//! upstream, sockets by address. Reads certificates; binds nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue};

use super::reads_and_writes::OwnKey;
use super::{
    AccessLogRule, Action, Filters, Listener, Mirror, Pages, ReadsAndWrites, Route, Snapshot,
    Split, affinity, contacts, mirror, reads_and_writes, split, token, tracing,
};
use crate::balance::{
    Bound, ConsistentHash, Cursor, LeastConnections, PeakEwma, Policy, Random, RoundRobin,
    TwoChoices,
};
use crate::config::{self, AccessLogTarget, Config, ConfigErrors, Problem, VersionSource};
use crate::filter::limit::Limits;
use crate::message::upgrade;
use crate::metrics::labels::NO_ROUTE;
use crate::metrics::{
    AuditMetrics, EndpointMetrics, ListenerMetrics, Metrics, MirrorMetrics, RouteMetrics,
    UpstreamMetrics,
};
use crate::route::{Matchers, Router};
use crate::tls::{Alpn, Contents, Server, Tickets, server};
use crate::units::Name;
use crate::upstream::{
    Affinity, Alarm, Audit, Authority, Contact, Division, Endpoint, Floor, Health, Hold, Shares,
    Upstream, Watch,
};

/// What compiling needs beside the configuration; made once per process. A clone goes on where this one is.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Where handles come from.
    pub metrics: Arc<Metrics>,
    /// TLS session tickets, the same through all generations.
    pub tickets: Tickets,
    /// Where round-robin begins, so that several balancers, or one that restarts often, do not all begin at the first endpoint.
    pub seed: usize,
    /// What cookies of those who have written are signed with where no file says it.
    written_key: OwnKey,
    /// By which workers wake the control thread; the same through all generations.
    alarm: Arc<Alarm>,
    next_slot: u32,
}

/// A snapshot, and what is doubtful about its configuration.
#[derive(Debug)]
pub struct Compiled {
    /// Ready to be published.
    pub snapshot: Snapshot,
    /// Warnings of the configuration and of its certificates; of many of a kind the first.
    pub warnings: Vec<Problem>,
    /// What the files that the configuration names held, at the latest when they were read.
    pub files: Contents,
}

impl Compiler {
    /// For a new process.
    pub fn new(metrics: Arc<Metrics>, tickets: Tickets, seed: usize) -> Self {
        Self {
            metrics,
            tickets,
            seed,
            written_key: OwnKey::default(),
            alarm: Arc::default(),
            next_slot: 0,
        }
    }

    /// Compiles `config`; `previous` is the snapshot in use, if any. Changes nothing of it, except that weights and modes
    /// of endpoints that stay are set by [`apply`], when the snapshot is published.
    pub fn compile(
        &mut self,
        config: &Config,
        previous: Option<&Snapshot>,
    ) -> Result<Compiled, ConfigErrors> {
        if let Some(previous) = previous {
            self.alarm = Arc::clone(&previous.alarm);
        }
        // Before the files are read for use: what changes meanwhile is a change yet to come.
        let files = Contents::of(config.files());
        let mut problems = Vec::new();
        let mut warnings = config.warnings.clone();
        let error_pages = Arc::new(
            Pages::read(&config.error_pages).unwrap_or_else(|mut found| {
                problems.append(&mut found);
                Pages::default()
            }),
        );
        let mut secured = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            match self.tls(listener) {
                Ok((tls, mut doubts)) => {
                    warnings.append(&mut doubts);
                    secured.push(tls);
                }
                Err(mut found) => problems.append(&mut found),
            }
        }
        warnings.extend(unserved_https(config));
        let mut reached = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            match contacts(upstream) {
                Ok((found, mut doubts)) => {
                    warnings.append(&mut doubts);
                    reached.push(found);
                }
                Err(mut found) => problems.append(&mut found),
            }
        }
        let mut affinities = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            match affinity::affinity(upstream) {
                Ok(affinity) => affinities.push(affinity),
                Err(problem) => problems.push(problem),
            }
        }
        let mut written = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            match reads_and_writes::written(config, route, &self.written_key) {
                Ok(found) => written.push(found),
                Err(problem) => problems.push(problem),
            }
        }
        let admin_token = config.admin.token_file.as_ref().map(token::token);
        let admin_token = admin_token.transpose().unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let tracing = match tracing::tracing(config) {
            Ok((tracing, mut doubts)) => {
                warnings.append(&mut doubts);
                tracing.map(Box::new)
            }
            Err(mut found) => {
                problems.append(&mut found);
                None
            }
        };
        problems.extend(cannot_be_opened(config));
        if config.routes.is_empty()
            && let Some(listener) = config.listeners.first()
        {
            warnings.push(
                listener
                    .place
                    .problem("no `[[route]]`: every request is answered 404"),
            );
        }
        problems.extend(
            config
                .routes
                .iter()
                .filter_map(|route| mirror::unfit(config, route)),
        );
        let matchers = config.routes.iter().map(Matchers::from).collect();
        let router = Router::compile(matchers).map_err(|conflicts| {
            problems.extend(conflicts.iter().map(|conflict| {
                let (first, second) = (&config.routes[conflict.first], &config.routes[conflict.second]);
                second.place.problem(format!(
                    "route `{}` cannot be told apart from route `{}` (line {}); give one of them another path, host, method or header",
                    second.name, first.name, first.place.line
                ))
            }));
        });
        let (Ok(router), true) = (router, problems.is_empty()) else {
            problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
            return Err(ConfigErrors(problems));
        };
        let upstreams_before: HashMap<&str, &Upstream> = previous
            .into_iter()
            .flat_map(|previous| &previous.upstreams)
            .map(|upstream| (&*upstream.name, &**upstream))
            .collect();
        let turns = split::turns(previous);
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        let access_log = AccessLogRule::of(&config.access_log, generation);
        // From here on handles are made, and with them series: not for what is not going to be.
        let listeners = config.listeners.iter().zip(secured).enumerate();
        let listeners = listeners
            .map(|(index, (listener, tls))| {
                let made = (tls, Arc::clone(&error_pages), access_log.clone());
                Arc::new(self.listener((index, listener), made, config, previous))
            })
            .collect();
        let upstreams: Vec<_> = config
            .upstreams
            .iter()
            .zip(reached.into_iter().zip(affinities))
            .enumerate()
            .map(|(index, (upstream, made))| {
                let before = upstreams_before.get(&*upstream.name).copied();
                Arc::new(self.upstream((index, upstream), made, config, before))
            })
            .collect();
        let listener_names = || config.listeners.iter().map(|listener| &*listener.name);
        let route = |name: &Name, action| Route {
            name: Arc::clone(name),
            action,
            upgrades: Box::default(),
            filters: None,
            limits: None,
            timeouts: None,
            mirror: None,
            retry: Box::default(),
            hedge: None,
            metrics: RouteMetrics::new(&self.metrics, name, listener_names()),
        };
        let limits_before: HashMap<&str, &Limits> = previous
            .into_iter()
            .flat_map(|previous| &previous.routes)
            .filter_map(|route| Some((&*route.name, route.limits.as_deref()?)))
            .collect();
        let routes = config
            .routes
            .iter()
            .zip(written)
            .map(|(configured, written)| {
                let action = match &configured.action {
                    config::Action::Forward(index) => {
                        Action::Forward(Arc::clone(&upstreams[*index]))
                    }
                    config::Action::Split(split) => {
                        let cursor = turns.get(&*configured.name).map_or_else(
                            || Arc::new(Cursor::new(self.seed)),
                            |cursor| Arc::clone(cursor),
                        );
                        Action::Split(Box::new(Split::new(split, &upstreams, cursor)))
                    }
                    config::Action::ReadsAndWrites(both) => Action::ReadsAndWrites(Box::new(
                        ReadsAndWrites::new(both, &upstreams, written),
                    )),
                    config::Action::Redirect(redirect) => Action::Redirect(redirect.clone()),
                    config::Action::Respond(respond) => Action::Respond(respond.clone()),
                };
                let before = limits_before.get(&*configured.name).copied();
                let timeouts = configured.timeouts;
                Arc::new(Route {
                    upgrades: upgrades(config, configured).into(),
                    filters: Filters::of(configured),
                    limits: Limits::of(&configured.limits, before),
                    timeouts: (timeouts != config::RouteTimeouts::default())
                        .then(|| Box::new(timeouts)),
                    mirror: configured.mirror.as_ref().map(|mirror| {
                        let metrics = MirrorMetrics::new(&self.metrics, &configured.name);
                        Mirror::new(mirror, &upstreams[mirror.upstream], metrics)
                    }),
                    retry: retry(config, configured),
                    hedge: configured.hedge.as_ref().map(|hedge| hedge.after),
                    ..route(&configured.name, action)
                })
            })
            .collect();
        let snapshot = Snapshot {
            generation,
            listeners,
            router,
            routes,
            no_route: Arc::new(route(&NO_ROUTE.into(), Action::NotFound)),
            upstreams,
            alarm: Arc::clone(&self.alarm),
            tracing,
            identity_fields: identity_fields(config),
            admin_token,
        };
        Ok(Compiled {
            snapshot,
            warnings: config::first_of_each_kind(warnings),
            files,
        })
    }

    /// What `listener` proves itself with, and what is doubtful about that.
    fn tls(
        &self,
        listener: &config::Listener,
    ) -> Result<(Option<Server>, Vec<Problem>), Vec<Problem>> {
        let Some(tls) = &listener.tls else {
            return Ok((None, Vec::new()));
        };
        let alpn = Alpn {
            http1: listener.http1,
            http2: listener.http2,
        };
        let mut server = server(tls, alpn, &self.tickets)?;
        let warnings = std::mem::take(&mut server.warnings);
        Ok((Some(server), warnings))
    }

    fn listener(
        &mut self,
        (index, listener): (usize, &config::Listener),
        (tls, error_pages, access_log): (Option<Server>, Arc<Pages>, Option<Arc<AccessLogRule>>),
        config: &Config,
        previous: Option<&Snapshot>,
    ) -> Listener {
        let (tls, sessions, certificates, revocation) = match tls {
            Some(server) => (
                Some(server.config),
                server.sessions,
                server.certificates,
                server.revocation,
            ),
            None => Default::default(),
        };
        let before = previous.and_then(|previous| {
            previous.listeners.iter().find(|before| {
                is_same_address(
                    (before.address, &before.name),
                    (listener.address, &listener.name),
                )
            })
        });
        let (slot, open, per_client) = match before {
            Some(before) => (
                before.slot,
                Arc::clone(&before.open),
                Arc::clone(&before.per_client),
            ),
            None => {
                self.next_slot += 1;
                (
                    self.next_slot,
                    Arc::new(AtomicUsize::new(0)),
                    Arc::default(),
                )
            }
        };
        let metrics = ListenerMetrics::new(&self.metrics, &listener.name);
        let https = https(config).map_or(443, |other| other.address.port());
        Listener {
            name: Arc::clone(&listener.name),
            slot,
            address: listener.address,
            tls,
            sessions,
            certificates,
            revocation,
            http2: listener.http2,
            websocket: config.routes.iter().any(|route| {
                let listens = route.listeners.as_ref();
                listens.is_none_or(|listeners| listeners.contains(&index))
                    && upgrades(config, route)
                        .iter()
                        .any(|name| **name == *upgrade::WEBSOCKET)
            }),
            trusted_proxies: listener.trusted_proxies.clone(),
            proxy_protocol: listener.proxy_protocol.clone(),
            forwarded: listener.forwarded,
            hsts: listener.hsts.as_ref().and_then(hsts),
            error_pages,
            access_log,
            redirect_to_https: listener.redirect_to_https.then_some(https),
            timeouts: listener.timeouts,
            limits: listener.limits,
            open,
            per_client,
            metrics,
        }
    }

    fn upstream(
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

/// Where a listener without TLS sends clients that shall use it.
fn https(config: &Config) -> Option<&config::Listener> {
    config.listeners.iter().find(|other| other.tls.is_some())
}

fn unserved_https(config: &Config) -> impl Iterator<Item = Problem> {
    let redirects = |listener: &&config::Listener| listener.redirect_to_https;
    let all = config.listeners.iter().filter(redirects);
    all.filter(|_| https(config).is_none()).map(|listener| {
        listener
            .place
            .problem("redirect_to_https, but no listener has `tls`: clients are sent to port 443")
    })
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

/// Protocols that clients of `route` may change to. None where endpoints speak HTTP/2: a tunnel to them would be another kind
/// of request (RFC 8441), which is not made yet.
fn upgrades<'a>(config: &Config, route: &'a config::Route) -> &'a [Box<str>] {
    let mut upstreams = route.action.upstreams();
    if upstreams.any(|upstream| config.upstreams[upstream].http2) {
        return &[];
    }
    &route.upgrades
}

/// When requests of `route` are sent once more, for each of its upstreams, where it says so itself.
fn retry(config: &Config, route: &config::Route) -> Box<[config::Retry]> {
    let Some(said) = &route.retry else {
        return Box::default();
    };
    let upstreams = route.action.upstreams();
    upstreams
        .map(|upstream| said.over(&config.upstreams[upstream].retry))
        .collect()
}

/// RFC 6797 §6.1.
fn hsts(hsts: &config::Hsts) -> Option<HeaderValue> {
    let mut value = format!("max-age={}", hsts.max_age.as_secs());
    if hsts.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if hsts.preload {
        value.push_str("; preload");
    }
    HeaderValue::try_from(value).ok()
}

/// What the files hold that the listeners' TLS is made of.
pub fn tls_files(config: &Config) -> Contents {
    let listeners = config.listeners.iter();
    let tls = listeners.filter_map(|listener| listener.tls.as_ref());
    Contents::of(tls.flat_map(config::ListenerTls::files))
}

/// The fields of any listener.
fn identity_fields(config: &Config) -> Option<Arc<[HeaderName]>> {
    let clients = config
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref()?.client_auth.clients());
    let mut names: Vec<HeaderName> = Vec::new();
    for name in clients.flat_map(|clients| clients.forward_identity.names()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    (!names.is_empty()).then(|| names.into())
}

/// What the system would refuse when the process starts, as far as it can be told beforehand.
fn cannot_be_opened(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let overlaps = |other: &&config::Listener| {
            let (one, other) = (listener.address, other.address);
            one.port() != 0
                && one.port() == other.port()
                && (one.ip().is_unspecified() || other.ip().is_unspecified())
                && (one.is_ipv4() == other.is_ipv4() || one.is_ipv6() && one.ip().is_unspecified())
        };
        if let Some(other) = config.listeners[..index].iter().find(overlaps) {
            problems.push(listener.place.problem(format!(
                "{} overlaps {} of listener `{}`; give one of them another port",
                listener.address, other.address, other.name
            )));
        }
    }
    if let AccessLogTarget::File(path) = &config.access_log.target
        && let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        problems.push(
            config
                .access_log
                .place
                .problem(format!("{} is no folder; make it first", folder.display())),
        );
    }
    problems
}

/// Whether two listeners, each an address and a name, share their sockets. Port 0 says nothing of the address: there the name decides.
pub fn is_same_address(one: (SocketAddr, &Name), other: (SocketAddr, &Name)) -> bool {
    one.0 == other.0 && (one.0.port() != 0 || one.1 == other.1)
}

/// Sets what the file says of endpoints that `snapshot` may share with the one before: weights, modes, sets, whether they
/// are checked; and of upstreams whether they are paused; and lets the policies see it. Directly before publishing: from here on there is no way back.
pub fn apply(snapshot: &Snapshot, config: &Config) {
    for (upstream, configured) in snapshot.upstreams.iter().zip(&config.upstreams) {
        for (endpoint, configured) in upstream.endpoints.iter().zip(&configured.endpoints) {
            endpoint.set_weight(configured.weight);
            let limit = configured.max_in_flight;
            endpoint.set_limits(limit, upstream.adaptive.as_ref());
            endpoint.set_backup(configured.backup);
            let expected = upstream
                .health
                .as_ref()
                .and_then(|it| it.expect_version.as_ref());
            endpoint.ask_version(upstream.asks_version(), expected);
            // What neither the file nor an operator says is active.
            let mode = configured.mode.unwrap_or(config::Mode::Active);
            let before = endpoint.state();
            match (&upstream.health, before.health) {
                (None, Health::Unchecked) => {}
                (None, Health::Unknown | Health::Up | Health::Draining | Health::Down(_)) => {
                    endpoint.set_health(Health::Unchecked, None);
                }
                // What was found before it was disabled says nothing of now.
                (Some(_), _) if before.mode == config::Mode::Disabled && mode != before.mode => {
                    endpoint.set_health(
                        Health::Unknown,
                        Some("not checked since it was disabled".to_owned()),
                    );
                    endpoint.forget_version();
                    endpoint.forget_role();
                }
                // Checks that begin on an endpoint in use leave it in use until they have found something.
                (Some(_), _) => {}
            }
            // Last, so that nobody picks it for what was found before it was disabled.
            endpoint.set_mode(mode);
        }
        let sets = configured.endpoints.iter().map(|it| it.set.as_ref());
        upstream.divide(sets, configured.active_set.as_ref());
        upstream.ask_roles();
        upstream.set_paused(configured.paused);
        upstream.refresh();
    }
}
