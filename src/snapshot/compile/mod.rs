//! From a configuration and the snapshot before it to the next snapshot.
//!
//! What is the same thing in both keeps its state: endpoints by (upstream, name, contact), round-robin positions by
//! upstream, sockets by address. Reads certificates; binds nothing.

mod apply;
mod listener;
mod route;
mod upstream;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::apply::apply;
use self::listener::{identity_fields, unserved_https};
pub use self::listener::{is_same_address, tls_files};
use super::{
    AccessLogRule, Action, OwnSecret, Pages, Snapshot, affinity, contacts, mirror,
    reads_and_writes, token, tracing,
};
use crate::config::{self, AccessLogTarget, Config, ConfigErrors, Problem};
use crate::metrics::Metrics;
use crate::metrics::labels::NO_ROUTE;
use crate::route::{Matchers, Router};
use crate::tls::{Contents, Tickets};
use crate::upstream::{Alarm, Upstream};

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
    pub own_secret: OwnSecret,
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
            own_secret: OwnSecret::default(),
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
            match reads_and_writes::written(config, route, &self.own_secret) {
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
        let routes = self.routes(config, written, &upstreams, previous);
        let snapshot = Snapshot {
            generation,
            listeners,
            router,
            routes,
            no_route: Arc::new(self.bare_route(config, &NO_ROUTE.into(), Action::NotFound)),
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
