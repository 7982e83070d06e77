//! The guard of one request in flight at an endpoint.

use std::sync::Arc;

use super::Endpoint;

/// Counts one request at an endpoint from the pick until it is dropped: when the response body has ended, failed or been abandoned.
#[derive(Debug)]
pub struct Lease(Arc<Endpoint>);

impl Lease {
    /// One at `endpoint`; `None` where it has as many as it may.
    pub(super) fn take(endpoint: &Arc<Endpoint>) -> Option<Self> {
        endpoint.begin().then(|| Self(Arc::clone(endpoint)))
    }

    /// Whose request it is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.end();
    }
}
