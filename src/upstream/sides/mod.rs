//! The endpoints of an upstream by the version they run, where clients are kept with a version: each side has cookies and a
//! policy of its own. A client that was pinned to a version gets it for as long as somebody who runs it may be picked, in whichever
//! set gets requests; then the policy of all picks, and the cookie names what that one runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::cookies::{Baker, Cookies};
use super::sets::{Open, Way};
use super::version::Mark;
use super::{Endpoint, Lease, Upstream, Wanted, Wish};
use crate::balance::{Cursor, Policy};
use crate::units::AppVersion;

/// Which version a client's cookie names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionPin {
    /// The version.
    pub mark: Mark,
    /// Whether the cookie is signed with the key in use.
    is_current: bool,
}

/// All sides of one upstream.
#[derive(Debug, Default)]
pub struct Sides {
    /// Written by the control thread, read by workers: once or twice per request of such an upstream.
    table: ArcSwap<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Versions that endpoints run, and the last ones that they did run: their clients are known, too.
    sides: Box<[Arc<Side>]>,
    /// By place among these.
    cookies: Arc<Cookies>,
    /// Whether not all that serve run the same: only then there is something to choose.
    is_mixed: bool,
}

#[derive(Debug)]
struct Side {
    version: AppVersion,
    mark: Mark,
    policy: Policy,
    cursor: Cursor,
}

impl Sides {
    /// Knows what `before` knew. Picks by `policy`, whatever was picked by there.
    pub(super) fn follow(&self, before: &Self, baker: &Baker, policy: &Policy) {
        let before = before.table.load();
        let sides = before.sides.iter();
        let sides: Box<_> = sides
            .map(|side| Arc::new(Side::new(&side.version, policy, &side.cursor)))
            .collect();
        self.table.store(Arc::new(Table {
            cookies: Arc::new(bake(baker, &sides)),
            sides,
            is_mixed: before.is_mixed,
        }));
    }

    /// What the value of a cookie names.
    pub(super) fn find(&self, value: &[u8]) -> Option<VersionPin> {
        let table = self.table.load();
        let known = table.cookies.find(value)?;
        let side = table.sides.get(known.index as usize)?;
        Some(VersionPin {
            mark: side.mark,
            is_current: known.is_current,
        })
    }

    /// What tells a client of the version `mark`.
    fn said(&self, mark: Mark, tls: bool) -> Option<HeaderValue> {
        let table = self.table.load();
        let index = table.sides.iter().position(|side| side.mark == mark)?;
        table.cookies.said(index, tls).cloned()
    }

    /// Brings the sides up to what endpoints of the sets `open` run now.
    fn refresh(&self, upstream: &Upstream, baker: &Baker, open: Open) {
        let before = self.table.load();
        let mut sides: Vec<Arc<Side>> = Vec::new();
        for endpoint in &upstream.endpoints {
            let Some(version) = endpoint.version() else {
                continue;
            };
            let mark = Mark::of(&version);
            if sides.iter().any(|side| side.mark == mark) {
                continue;
            }
            let known = before.sides.iter().find(|side| side.mark == mark);
            let policy = upstream.policy_in_use();
            let known = known.filter(|side| side.counts_with(policy));
            sides.push(known.map_or_else(
                || Arc::new(Side::new(&version, policy, &upstream.cursor)),
                Arc::clone,
            ));
        }
        let is_here = |side: &Arc<Side>| sides.iter().any(|here| here.mark == side.mark);
        let gone: Vec<_> = before.sides.iter().filter(|side| !is_here(side)).collect();
        let gone: Vec<_> = gone.into_iter().take(GONE).map(Arc::clone).collect();
        sides.extend(gone);
        let serves = |endpoint: &Endpoint| upstream.is_eligible_in(open, endpoint);
        let serving = upstream.endpoints.iter().filter(|it| serves(it));
        let serving: Vec<_> = serving.map(|endpoint| endpoint.mark()).collect();
        let is_mixed = serving.windows(2).any(|pair| pair[0] != pair[1]);
        // Of those whom nobody runs that serves, nobody is picked.
        let is_picked = |side: &&Arc<Side>| is_mixed && serving.contains(&Some(side.mark));
        for side in sides.iter().filter(is_picked) {
            let is_one = |it: &Arc<Endpoint>| serves(it) && it.runs(side.mark);
            side.policy.refresh(&upstream.endpoints, is_one);
        }
        let marks = |sides: &[Arc<Side>]| sides.iter().map(|side| side.mark).collect::<Vec<_>>();
        let cookies = if marks(&sides) == marks(&before.sides) {
            Arc::clone(&before.cookies)
        } else {
            Arc::new(bake(baker, &sides))
        };
        self.table.store(Arc::new(Table {
            sides: sides.into(),
            cookies,
            is_mixed,
        }));
    }
}

impl Side {
    fn new(version: &AppVersion, policy: &Policy, cursor: &Cursor) -> Self {
        Self {
            version: version.clone(),
            mark: Mark::of(version),
            policy: policy.another(),
            cursor: cursor.peek(),
        }
    }

    /// Whether it goes by the requests that `policy` goes by: a set of endpoints has its own.
    fn counts_with(&self, policy: &Policy) -> bool {
        let [own, other] = [&self.policy, policy].map(|it| it.in_flight().map(Arc::as_ptr));
        own == other
    }
}

fn bake(baker: &Baker, sides: &[Arc<Side>]) -> Cookies {
    baker.bake(sides.iter().map(|side| side.version.as_str()))
}

impl Upstream {
    /// Brings the sides of versions up to what endpoints of the sets `open` run now, where clients are kept with versions.
    pub(super) fn refresh_sides(&self, open: Open) {
        let affinity = self.affinity.as_deref();
        if let Some((sides, baker)) = affinity.and_then(|affinity| affinity.sides()) {
            sides.refresh(self, baker, open);
        }
    }

    /// Picks one of the sets `open` that runs the version which `wish` names, where there is somebody to choose between: `take` has
    /// the last word on it.
    pub(super) fn pick_side<T>(
        &self,
        wish: Wish,
        open: Open,
        peeks: bool,
        take: impl Fn(usize) -> Option<T>,
    ) -> Option<T> {
        let mark = wish.version?;
        let (sides, _) = self.affinity.as_deref()?.sides()?;
        let table = sides.table.load();
        if !table.is_mixed {
            return None;
        }
        let side = table.sides.iter().find(|side| side.mark == mark)?;
        let holds_back = self.shares.holds_back();
        let is_one = |it: &Arc<Endpoint>| open.takes(it) && it.runs(mark);
        let best = |it: &Arc<Endpoint>| is_one(it) && super::is_best(it, wish.tried, holds_back);
        let good = |it: &Arc<Endpoint>| is_one(it) && super::is_good(it, wish.tried, holds_back);
        let aside = match (peeks, wish.tried.is_empty()) {
            (true, _) => Some(side.cursor.peek()),
            (false, false) => Some(side.cursor.aside()),
            (false, true) => None,
        };
        let cursor = aside.as_ref().unwrap_or(&side.cursor);
        loop {
            let endpoints = &self.endpoints;
            let pick_best = || side.policy.pick(endpoints, cursor, wish.key, best);
            // One whose last request failed is still better than another version.
            let pick_good = || side.policy.pick(endpoints, cursor, wish.key, good);
            let index = pick_best().or_else(|| (!wish.tried.is_empty()).then(pick_good)?)?;
            if let Some(taken) = take(index) {
                return Some(taken);
            }
        }
    }

    /// As [`pick_side`](Self::pick_side), and counts the request as the one's own.
    pub(super) fn take_side(&self, wish: Wish, way: Way<'_>) -> Option<Lease> {
        wish.version?;
        let take = |index: usize| self.take(&self.endpoints[index], way.policy);
        self.pick_side(wish, way.all, false, take)
    }

    /// As [`keep`](Self::keep), where clients are kept with versions. The cookie names what the endpoint runs by now.
    pub(super) fn keep_version(
        &self,
        sides: &Sides,
        wanted: Wanted,
        (answered, tls): (&Endpoint, bool),
    ) -> Option<HeaderValue> {
        let mark = answered.mark();
        match wanted {
            Wanted::Nobody | Wanted::Pinned(_) => {}
            Wanted::Unknown => self.metrics.count_repin("unknown_cookie"),
            Wanted::Version(pin) if Some(pin.mark) == mark => {
                if pin.is_current {
                    return None;
                }
            }
            Wanted::Version(_) => self.metrics.count_repin("version"),
        }
        // Of one that does not say what it runs, clients are told nothing.
        sides.said(mark?, tls)
    }
}

const GONE: usize = 8; // versions that nobody runs any more: clients of older ones are as new

#[cfg(test)]
mod tests;
