//! A route's requests shared among upstreams.

use std::net::IpAddr;
use std::sync::Arc;

use crate::balance::{Candidate, Cursor, RoundRobin, share};
use crate::config::SplitBy;
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
    /// Shares requests among `members`, of which one at least has a weight. `cursor` is where the turn stands.
    pub(super) fn new(
        members: impl Iterator<Item = (Arc<Upstream>, u16)>,
        by: SplitBy,
        cursor: Arc<Cursor>,
    ) -> Self {
        let member = |(upstream, weight): (Arc<Upstream>, u16)| Member {
            upstream,
            weight: weight.into(),
        };
        let members: Box<[Member]> = members.map(member).collect();
        let order = RoundRobin::default();
        order.refresh(&members, |_| true);
        Self {
            members,
            by,
            order,
            cursor,
        }
    }

    /// Where the turn stands.
    pub(super) fn cursor(&self) -> &Arc<Cursor> {
        &self.cursor
    }

    /// The index of the upstream that takes a request of `client`.
    pub fn pick(&self, client: IpAddr) -> u32 {
        let index = match self.by {
            SplitBy::Request => self
                .order
                .pick(&self.members, &self.cursor, |member| member.weight > 0),
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
