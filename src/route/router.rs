//! Finds the route of a request, or refuses a path that an exclusive route forbids to guess about.

use super::conflict::conflicts;
use super::host::Hosts;
use super::path::Paths;
use super::{Ambiguous, Conflict, Doubt, Matchers, Query};
use crate::message::canonical_path::{has_encoded_separator, loosest};

/// All routes, ready to be searched.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Matchers>,
    hosts: Hosts<Paths>,
}

impl Router {
    /// Prepares `routes`, given in file order. Fails when two of them cannot be told apart; each route is then reported
    /// once, with the first that it collides with.
    pub fn compile(routes: Vec<Matchers>) -> Result<Self, Vec<Conflict>> {
        let conflicts = conflicts(&routes);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let mut hosts: Hosts<Paths> = Hosts::default();
        for (route, index) in routes.iter().zip(0..) {
            if route.hosts.is_empty() {
                hosts.entry(None).insert(index, route);
            }
            for host in &route.hosts {
                hosts.entry(Some(host)).insert(index, route);
            }
        }
        hosts.values_mut().for_each(|paths| paths.sort(&routes));
        Ok(Self { routes, hosts })
    }

    /// The routes, in file order.
    pub fn routes(&self) -> &[Matchers] {
        &self.routes
    }

    /// The route that takes the request, `None` where none does.
    ///
    /// By precedence: exact host, longest wildcard host, any host; there exact path, longest exclusive prefix, regex in
    /// file order, longest prefix; there more matchers, then file order. A route that fails one of its other matchers
    /// leaves the request to the next.
    ///
    /// While an exclusive route can be reached by this host and listener, a path is refused that holds an encoded
    /// separator, or that a lenient server could take for one of an exclusive route which it does not match.
    pub fn find(&self, query: &Query<'_>) -> Result<Option<usize>, Ambiguous> {
        let tables = self.hosts.of(query.host);
        let exclusive = tables
            .iter()
            .find_map(|paths| paths.guard().reachable(query.listener));
        if let Some(route) = exclusive {
            self.refuse_doubt(query, &tables, route as usize)?;
        }
        let admitted = |index: u32| self.routes[index as usize].admit(query);
        Ok(tables
            .iter()
            .find_map(|paths| paths.find(query.path, admitted))
            .map(|index| index as usize))
    }

    /// The exclusive route that takes `query`, or that a lenient server could take its path for one of. For paths that were
    /// not asked for but made: where they lead into one, its guard would be passed by.
    pub(super) fn exclusive(&self, query: &Query<'_>) -> Option<usize> {
        match self.find(query) {
            Ok(Some(route)) => self.routes[route].exclusive.then_some(route),
            Ok(None) => None,
            Err(ambiguous) => Some(ambiguous.route),
        }
    }

    /// The twin test. What goes out is the canonical path, so that is what must not be misread; the raw one is tested
    /// too, for those who read logs or forward it.
    fn refuse_doubt(
        &self,
        query: &Query<'_>,
        tables: &[&Paths],
        route: usize,
    ) -> Result<(), Ambiguous> {
        let refused = |reason| Ambiguous { reason, route };
        if has_encoded_separator(query.path) {
            return Err(refused(Doubt::EncodedSeparator));
        }
        let differs = tables.iter().any(|paths| paths.guard().differs());
        match loosest(query.path).map_err(|error| refused(Doubt::Unreadable(error)))? {
            Some(reading) if reading.climbs => return Err(refused(Doubt::HiddenParent)),
            Some(reading) => self.refuse_twin(query, tables, &reading.path)?,
            None if differs => self.refuse_twin(query, tables, query.path.as_bytes())?,
            None => {}
        }
        if query.raw_path != query.path
            && let Some(reading) =
                loosest(query.raw_path).map_err(|error| refused(Doubt::Unreadable(error)))?
        {
            self.refuse_twin(query, tables, &reading.path)?;
        }
        Ok(())
    }

    /// Refuses a reading that falls under exclusive routes none of which takes the canonical path. Those whose patterns
    /// are read alike guard each other; one that takes the canonical path leaves it to precedence.
    fn refuse_twin(
        &self,
        query: &Query<'_>,
        tables: &[&Paths],
        reading: &[u8],
    ) -> Result<(), Ambiguous> {
        // Per length of the pattern: an exclusive route the reading falls under, and whether one of these is matched.
        let mut twins: Vec<(Option<usize>, bool)> = Vec::new();
        for paths in tables {
            for (depth, list) in paths.guard().over(reading).enumerate() {
                if twins.len() == depth {
                    twins.push((None, false));
                }
                for index in list
                    .map(|index| index as usize)
                    .filter(|index| self.routes[*index].admit(query))
                {
                    twins[depth].0.get_or_insert(index);
                    twins[depth].1 |= self.routes[index].take_path(query.path);
                }
            }
        }
        let unmatched =
            |(route, matched): (Option<usize>, bool)| if matched { None } else { route };
        match twins.into_iter().rev().find_map(unmatched) {
            Some(route) => Err(Ambiguous {
                reason: Doubt::Twin,
                route,
            }),
            None => Ok(()),
        }
    }
}
