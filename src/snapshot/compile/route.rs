//! Routes: what each does, with which upstreams. Turns and counts go on from the snapshot before.

use std::collections::HashMap;
use std::sync::Arc;

use super::Compiler;
use crate::balance::Cursor;
use crate::config::{self, Config};
use crate::filter::limit::Limits;
use crate::metrics::{MirrorMetrics, RouteMetrics};
use crate::snapshot::{Action, Filters, Mirror, ReadsAndWrites, Route, Snapshot, Split, split};
use crate::units::Name;
use crate::upstream::{Upstream, Written};

impl Compiler {
    /// In file order. `written` is what those who have written are known by, of each.
    pub(super) fn routes(
        &self,
        config: &Config,
        written: Vec<Option<Written>>,
        upstreams: &[Arc<Upstream>],
        previous: Option<&Snapshot>,
    ) -> Vec<Arc<Route>> {
        let turns = split::turns(previous);
        let limits_before: HashMap<&str, &Limits> = previous
            .into_iter()
            .flat_map(|previous| &previous.routes)
            .filter_map(|route| Some((&*route.name, route.limits.as_deref()?)))
            .collect();
        let routes = config.routes.iter().zip(written);
        let routes = routes.map(|(configured, written)| {
            let action = match &configured.action {
                config::Action::Forward(index) => Action::Forward(Arc::clone(&upstreams[*index])),
                config::Action::Split(split) => {
                    let cursor = turns.get(&*configured.name).map_or_else(
                        || Arc::new(Cursor::new(self.seed)),
                        |cursor| Arc::clone(cursor),
                    );
                    Action::Split(Box::new(Split::new(split, upstreams, cursor)))
                }
                config::Action::ReadsAndWrites(both) => {
                    let both = ReadsAndWrites::new(both, upstreams, written);
                    Action::ReadsAndWrites(Box::new(both))
                }
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
                ..self.bare_route(config, &configured.name, action)
            })
        });
        routes.collect()
    }

    /// One that does `action` and nothing else.
    pub(super) fn bare_route(&self, config: &Config, name: &Name, action: Action) -> Route {
        let listeners = config.listeners.iter().map(|listener| &*listener.name);
        Route {
            name: Arc::clone(name),
            action,
            upgrades: Box::default(),
            filters: None,
            limits: None,
            timeouts: None,
            mirror: None,
            retry: Box::default(),
            hedge: None,
            metrics: RouteMetrics::new(&self.metrics, name, listeners),
        }
    }
}

/// Protocols that clients of `route` may change to. None where endpoints speak HTTP/2: a tunnel to them would be another kind
/// of request (RFC 8441), which is not made yet.
pub(super) fn upgrades<'a>(config: &Config, route: &'a config::Route) -> &'a [Box<str>] {
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
