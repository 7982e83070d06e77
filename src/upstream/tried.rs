//! Which endpoints a request has tried without success. Few: the last ones count.

use super::EndpointId;

/// The endpoints that a request tried last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried([Option<EndpointId>; MOST]);

impl Tried {
    /// With `id` among them, in the place of the oldest where there are too many.
    pub fn and(mut self, id: EndpointId) -> Self {
        self.0.rotate_right(1);
        self.0[0] = Some(id);
        self
    }

    /// The last one.
    pub fn latest(&self) -> Option<EndpointId> {
        self.0[0]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Whether `id` is one of them.
    pub fn contains(&self, id: EndpointId) -> bool {
        !self.is_empty() && self.0.contains(&Some(id))
    }
}

const MOST: usize = 4; // more than five attempts are hardly ever allowed
