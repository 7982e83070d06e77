//! The guard of one request in flight at an endpoint.

use std::sync::Arc;

use super::Endpoint;
use crate::balance::InFlight;

/// Counts one request at an endpoint from the pick until it is dropped: when the response body has ended, failed or been abandoned.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    /// Where the requests of all endpoints are counted, if the policy wants that.
    of_all: Option<Arc<InFlight>>,
}

impl Lease {
    pub(super) fn new(endpoint: &Arc<Endpoint>, of_all: Option<&Arc<InFlight>>) -> Self {
        endpoint.begin();
        if let Some(of_all) = of_all {
            of_all.begin();
        }
        Self {
            endpoint: Arc::clone(endpoint),
            of_all: of_all.cloned(),
        }
    }

    /// Whose request it is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.end();
        if let Some(of_all) = &self.of_all {
            of_all.end();
        }
    }
}
