//! A route's requests shared among upstreams.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Action, Snapshot};
use crate::balance::{Candidate, Cursor, RoundRobin, share};
use crate::config::{self, SplitBy};
use crate::upstream::Upstream;

/// A route's requests shared among upstreams by weight. Blind to who is well: an upstream without anybody to ask keeps its
/// share.
#[derive(Debug)]
pub struct Split {
    members: Box<[Member]>,
    by: SplitBy,
    order: RoundRobin,
    /// Where the turn stands; survives reloads.
    cursor: Arc<Cursor>,
}

#[derive(Debug)]
struct Member {
    upstream: Arc<Upstream>,
    weight: u32,
}

impl Candidate for Member {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        0
    }
}

impl Split {
    /// Shares requests among `upstreams` as `split` says. `cursor` is where the turn stands.
    pub(super) fn new(
        split: &config::Split,
        upstreams: &[Arc<Upstream>],
        cursor: Arc<Cursor>,
    ) -> Self {
        let member = |(index, weight): &(usize, u16)| Member {
            upstream: Arc::clone(&upstreams[*index]),
            weight: u32::from(*weight),
        };
        let members: Box<[Member]> = split.shares.iter().map(member).collect();
        let order = RoundRobin::default();
        order.refresh(&members, |_| true);
        Self {
            members,
            by: split.by,
            order,
            cursor,
        }
    }

    /// The index of the upstream that takes a request of `client`.
    pub fn pick(&self, client: IpAddr) -> u32 {
        self.pick_at(client, &self.cursor)
    }

    /// The one that would take it now; no turn is taken.
    pub fn preview(&self, client: IpAddr) -> u32 {
        self.pick_at(client, &self.cursor.peek())
    }

    fn pick_at(&self, client: IpAddr, cursor: &Cursor) -> u32 {
        let index = match self.by {
            SplitBy::Request => self
                .order
                .pick(&self.members, cursor, |member| member.weight > 0),
            SplitBy::Client => share::of_client(client, self.members.iter().map(Candidate::weight)),
        };
        index
            .and_then(|index| u32::try_from(index).ok())
            .unwrap_or(0)
    }

    /// The upstream at `index`.
    pub fn upstream(&self, index: u32) -> Option<&Arc<Upstream>> {
        self.members
            .get(index as usize)
            .map(|member| &member.upstream)
    }

    /// Every upstream and its weight, in file order.
    pub fn shares(&self) -> impl Iterator<Item = (&Upstream, u32)> {
        self.members
            .iter()
            .map(|member| (&*member.upstream, member.weight))
    }
}

/// Where the turns of routes stand that shared their requests before, by the routes' names.
pub(super) fn turns(previous: Option<&Snapshot>) -> HashMap<&str, &Arc<Cursor>> {
    let routes = previous.into_iter().flat_map(|previous| &previous.routes);
    let turns = routes.filter_map(|route| match &route.action {
        Action::Split(split) => Some((&*route.name, &split.cursor)),
        Action::Forward(_)
        | Action::ReadsAndWrites(_)
        | Action::Redirect(_)
        | Action::Respond(_)
        | Action::NotFound => None,
    });
    turns.collect()
}
