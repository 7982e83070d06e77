//! Where a file sends requests: asked of the router that serves traffic, step by step as the data path goes. Sends nothing.

use std::fmt;
use std::path::Path;

use http::{Method, StatusCode};

use super::asked::{Asked, Assumed};
use super::fields::{Known, Learned, Met, Requirements, met};
use super::record::{Record, Text};
use super::unknown::Unknown;
use crate::cli::explain;
use crate::config::{self, AccessLog, Action, Config, ConfigErrors, Listener, Route};
use crate::message::canonical_path::loosest;
use crate::proxy::error::ProxyError;
use crate::route::{Ambiguous, Query, Router};
use crate::tls::{self, Sessions};
use crate::units::Name;

/// A file, ready to be asked.
pub(super) struct Ways {
    pub(super) config: Config,
    router: Router,
    requirements: Requirements,
    /// Whether some exclusive route asks for header fields or cookies.
    guards_by_fields: bool,
    /// Per listener with several certificates.
    sessions: Vec<Option<Sessions>>,
    matches_hosts: bool,
    heeds_methods: bool,
}

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fate {
    /// By its index.
    pub(super) route: Option<usize>,
    /// What the balancer answers by itself. `None`: an endpoint answers.
    pub(super) answer: Option<Answer>,
    /// By which method; `None` where it is not known or makes no difference.
    pub(super) method: Option<Method>,
}

/// An answer of the balancer's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    Error(ProxyError),
    Redirect(StatusCode),
    Respond(StatusCode),
    /// As every request of its listener.
    ToHttps,
    /// `OPTIONS *`
    Options,
    /// Nobody listens.
    NoListener,
}

impl Answer {
    /// Its status; none where no connection comes about.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            Self::Error(error) => Some(error.status().as_u16()),
            Self::Redirect(status) | Self::Respond(status) => Some(status.as_u16()),
            Self::ToHttps => Some(308),
            Self::Options => Some(204),
            Self::NoListener => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::Error(error) => error.reason(),
            Self::Redirect(_) => "redirect",
            Self::Respond(_) => "respond",
            Self::ToHttps => "redirect_to_https",
            Self::Options => "options",
            Self::NoListener => return f.write_str("no such listener"),
        };
        let status = self.status().unwrap_or_default();
        write!(f, "{status} ({why})")
    }
}

impl Fate {
    fn own(route: Option<usize>, answer: Answer) -> Self {
        Self {
            route,
            answer: Some(answer),
            method: None,
        }
    }

    fn error(route: Option<usize>, error: ProxyError) -> Self {
        Self::own(route, Answer::Error(error))
    }
}

impl Ways {
    /// Of the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let config = config::load(path)?;
        Self::of(config).map_err(ConfigErrors)
    }

    /// Of a file that was read.
    pub(super) fn of(config: Config) -> Result<Self, Vec<config::Problem>> {
        let router = explain::compile(&config)?;
        let requirements = Requirements::of(&config);
        let mut routes = config.routes.iter().enumerate();
        let guards_by_fields = routes
            .any(|(index, route)| route.exclusive && requirements.of_route(index).next().is_some());
        Ok(Self {
            sessions: config.listeners.iter().map(sessions).collect(),
            matches_hosts: config.routes.iter().any(|route| !route.hosts.is_empty()),
            heeds_methods: config.routes.iter().any(heeds_methods),
            router,
            requirements,
            guards_by_fields,
            config,
        })
    }

    /// The name of the route at `index`.
    pub(super) fn route_name(&self, index: usize) -> &Name {
        &self.config.routes[index].name
    }

    /// Names of the upstreams that the route of `fate` leads to; each with whether it may get such a request.
    pub(super) fn targets(&self, fate: &Fate) -> impl Iterator<Item = (&str, bool)> {
        let action = fate.route.map(|index| &self.config.routes[index].action);
        action.into_iter().flat_map(move |action| {
            action.upstreams().map(move |upstream| {
                let has_share = match action {
                    Action::Split(split) => !split.shares.contains(&(upstream, 0)),
                    Action::Forward(_)
                    | Action::ReadsAndWrites(_)
                    | Action::Redirect(_)
                    | Action::Respond(_) => true,
                };
                // Who has written lately is not in the log.
                let reaches = |method| action.reached(method).any(|it| it == upstream);
                let gets = has_share && fate.method.as_ref().is_none_or(reaches);
                (&*self.config.upstreams[upstream].name, gets)
            })
        })
    }

    /// Where a request goes that was written down as `record`, or why that cannot be told.
    pub(super) fn fate(
        &self,
        asked: &Asked<'_>,
        (record, assumed): (&Record<'_>, &Assumed),
        (log, learned): (Option<&AccessLog>, &Learned),
    ) -> Result<Fate, Unknown> {
        let Some(index) = self.listener(asked, assumed)? else {
            return Ok(Fate::own(None, Answer::NoListener));
        };
        let listener = &self.config.listeners[index];
        let host = match &asked.host {
            Some(host) => &**host,
            None if self.matches_hosts => return Err(Unknown::NotLoggedNorAssumed("host")),
            None => "",
        };
        if let (Some(sessions), Some(name)) = (&self.sessions[index], &asked.server_name)
            && !host.is_empty()
            && !sessions.stands_for(name, host)
        {
            return Ok(Fate::error(None, ProxyError::Misdirected));
        }
        if asked.target_bytes > listener.limits.uri_bytes.as_usize() {
            return Ok(Fate::error(None, ProxyError::TargetTooLong));
        }
        if asked.was_longer {
            return Err(Unknown::Target);
        }
        let method = match &asked.method {
            Some(Method::CONNECT) if asked.is_extended => &Method::GET,
            Some(Method::CONNECT) => return Ok(Fate::error(None, ProxyError::Connect)),
            Some(method) => method,
            None if self.heeds_methods => return Err(Unknown::NotLogged("method")),
            None => &Method::GET,
        };
        if asked.raw_path == "*" {
            return Ok(match *method {
                Method::OPTIONS => Fate::own(None, Answer::Options),
                _ => Fate::error(None, ProxyError::Malformed),
            });
        }
        let path = match &asked.path {
            Ok(path) => path,
            Err(error) => return Ok(Fate::error(None, ProxyError::Path(*error))),
        };
        if listener.redirect_to_https {
            return Ok(Fate::own(None, Answer::ToHttps));
        }
        let known = self.requirements.known(record, log, learned);
        let query = Query {
            listener: index,
            host,
            method,
            headers: &known.least,
            raw_path: asked.raw_path,
            path,
        };
        match self.find(&query, &known)? {
            Ok(Some(route)) => self.routed(asked, route, &query),
            Ok(None) => Ok(Fate::error(None, ProxyError::NoRoute)),
            Err(_) => Ok(Fate::error(None, ProxyError::AmbiguousPath)),
        }
    }

    /// What can be known of requirements since `record` says which route took its request under this very file: that route's are
    /// met, and those are not of a route that would have come first with one more.
    pub(super) fn learn(
        &self,
        asked: &Asked<'_>,
        (record, assumed): (&Record<'_>, &Assumed),
        log: &AccessLog,
    ) -> Learned {
        let mut learned = Learned::new();
        let Some(taken) = record.route.as_ref().map(Text::as_str) else {
            return learned;
        };
        if self.requirements.is_empty() {
            return learned;
        }
        let routes = self.config.routes.iter();
        let taken = routes.zip(0..).find(|(route, _)| *route.name == *taken);
        for requirement in taken
            .iter()
            .flat_map(|(_, it)| self.requirements.of_route(*it))
        {
            learned.push((requirement.clone(), true));
        }
        let taken = taken.map(|(_, index)| index);
        // Each round rules out a route.
        for _ in 0..self.config.routes.len() {
            let Some(Ok(Some(first))) = self.at_most(asked, (record, assumed), (log, &learned))
            else {
                break;
            };
            let is_unknown =
                |requirement: &&_| met(requirement, record, Some(log), &learned) == Met::Unknown;
            let mut unknown = self.requirements.of_route(first).filter(is_unknown);
            let (Some(one), None) = (unknown.next(), unknown.next()) else {
                break;
            };
            if taken == Some(first) {
                break;
            }
            let missing = (one.clone(), false);
            learned.push(missing);
        }
        learned
    }

    /// The route that takes the request if it has all that it may have.
    fn at_most(
        &self,
        asked: &Asked<'_>,
        (record, assumed): (&Record<'_>, &Assumed),
        (log, learned): (&AccessLog, &Learned),
    ) -> Option<Result<Option<usize>, Ambiguous>> {
        let listener = self.listener(asked, assumed).ok()??;
        let known = self.requirements.known(record, Some(log), learned);
        let query = Query {
            listener,
            host: asked.host.as_deref().unwrap_or_default(),
            method: match &asked.method {
                Some(method) if !asked.is_extended => method,
                Some(_) | None => &Method::GET,
            },
            headers: &known.most,
            raw_path: asked.raw_path,
            path: asked.path.as_deref().ok()?,
        };
        Some(self.router.find(&query))
    }

    fn listener(&self, asked: &Asked<'_>, assumed: &Assumed) -> Result<Option<usize>, Unknown> {
        let listeners = &self.config.listeners;
        let named = |name: &str| listeners.iter().position(|it| *it.name == *name);
        let assumed = assumed.listener.as_deref().and_then(named);
        match (asked.listener, assumed) {
            (Some(name), assumed) => Ok(named(name).or(assumed)),
            (None, Some(assumed)) => Ok(Some(assumed)),
            (None, None) if listeners.len() == 1 => Ok(Some(0)),
            (None, None) => Err(Unknown::NotLoggedNorAssumed("listener")),
        }
    }

    /// What the router says, where it says the same whatever the request has besides what is known of it. Routes that take more
    /// requests only come before others: what comes first of all that may take it, and does take it, comes first in any case.
    fn find(
        &self,
        query: &Query<'_>,
        known: &Known<'_>,
    ) -> Result<Result<Option<usize>, Ambiguous>, Unknown> {
        let least = self.router.find(query);
        if self.requirements.is_empty() {
            return Ok(least);
        }
        let most = self.router.find(&Query {
            headers: &known.most,
            ..*query
        });
        // Of exclusive routes this is not so: one refuses what another, with it, would take.
        let is_doubtful =
            || query.raw_path != query.path || !matches!(loosest(query.path), Ok(None));
        let is_settled = least == most && !(self.guards_by_fields && is_doubtful());
        if is_settled || known.least == known.most {
            return Ok(least);
        }
        let route = match most {
            Ok(Some(route)) => route,
            Err(ambiguous) => ambiguous.route,
            Ok(None) => return Ok(least),
        };
        let mut requirements = self.requirements.of_route(route);
        match requirements.next() {
            Some(requirement) => Err(Unknown::of(self.route_name(route), requirement)),
            None => Err(Unknown::NotLogged("a header field or cookie")),
        }
    }

    /// From its route on.
    fn routed(&self, asked: &Asked<'_>, index: usize, query: &Query<'_>) -> Result<Fate, Unknown> {
        let route = &self.config.routes[index];
        let of_listener = self.config.listeners[query.listener].limits.body_bytes;
        match route.limits.body_bytes.or(of_listener) {
            Some(limit) if asked.body_bytes > limit.get() => {
                return Ok(Fate::error(Some(index), ProxyError::BodyTooLarge));
            }
            Some(_) if asked.had_long_body => return Err(Unknown::Body),
            Some(_) | None => {}
        }
        let asks_somebody = route.action.upstreams().next().is_some();
        if asked.is_extended && (!asks_somebody || route.upgrades.is_empty()) {
            return Ok(Fate::error(Some(index), ProxyError::Upgrade));
        }
        let answer = match &route.action {
            Action::Forward(_) | Action::Split(_) | Action::ReadsAndWrites(_) => None,
            Action::Redirect(redirect) => Some(Answer::Redirect(redirect.status)),
            Action::Respond(respond) => Some(Answer::Respond(respond.status)),
        };
        if let Some(rewrite) = &route.rewrite {
            let rewrite = (index, rewrite);
            if explain::sent_path((&self.config, &self.router), rewrite, query).is_err() {
                return Ok(Fate::error(Some(index), ProxyError::Rewrite));
            }
        }
        Ok(Fate {
            route: Some(index),
            answer,
            method: Some(query.method.clone()),
        })
    }
}

fn heeds_methods(route: &Route) -> bool {
    route.methods.is_some() || matches!(route.action, Action::ReadsAndWrites(_))
}

/// Of a listener with several certificates; without them nobody is refused for the one it was shown.
fn sessions(listener: &Listener) -> Option<Sessions> {
    let tls = listener.tls.as_ref();
    let tls = tls.filter(|tls| tls.certificates.len() > 1)?;
    match tls::sessions(tls) {
        Ok(sessions) => Some(sessions),
        Err(problems) => {
            for problem in problems {
                eprintln!("warning: {problem}; nobody is taken to be refused with 421");
            }
            None
        }
    }
}
