//! Whom a request would be given to, without giving it to anybody: for who asks about a request that does not exist.

use std::sync::Arc;

use super::sets::Way;
use super::{Denied, Tier, Upstream, Wish};

impl Upstream {
    /// The index of the endpoint that [`pick`](Self::pick) would choose now. Takes no turn and counts no request.
    pub fn preview(&self, wish: Wish) -> Result<usize, Denied> {
        if self.queueing.is_some() && self.queue.is_waited_in() {
            return Err(Denied::Full);
        }
        if let Some(authority) = &self.authority {
            return self.find_authority(authority, wish.tried);
        }
        let holds_back = self.shares.holds_back();
        let way = self.way(&wish, false);
        if let Some(pin) = wish.preferred
            && let Some(endpoint) = self.preferred(pin, wish.tried, holds_back, way.all)
        {
            let mut endpoints = self.endpoints.iter();
            let index = endpoints.position(|other| Arc::ptr_eq(other, endpoint));
            return index.ok_or(Denied::Nobody);
        }
        if let Some(index) = self.pick_side(wish, way.all, true, Some) {
            return Ok(index);
        }
        let cursor = way.cursor.peek();
        let way = Way {
            cursor: &cursor,
            ..way
        };
        let found = way
            .policy
            .pick(&self.endpoints, &cursor, wish.key, |endpoint| {
                endpoint.tier() == Tier::Eligible
                    && way.open.takes(endpoint)
                    && !wish.tried.contains(endpoint.id())
                    && !(holds_back && endpoint.is_backup())
                    && endpoint.has_room()
            });
        found.map_or_else(|| self.second_best(wish, holds_back, way), Ok)
    }
}
