//! Idle connections to endpoints, of one worker: the one used last is used next, so that the others can expire.

pub mod http1;
pub mod idle;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use http1::{Connection, OpenError, SendError};
use idle::Idle;

use crate::upstream::{Endpoint, EndpointId};

/// Idle connections kept per endpoint and worker. Beyond, the coldest goes.
const IDLE_LIMIT: usize = 256;

/// One worker's idle connections.
#[derive(Debug, Default)]
pub struct Pool {
    endpoints: RefCell<HashMap<EndpointId, Idle<Connection>, foldhash::fast::RandomState>>,
}

impl Pool {
    /// The warmest connection to `endpoint` that is still good: idle for at most `pool_idle`, open, and silent.
    pub fn checkout(
        &self,
        endpoint: &Endpoint,
        now: Instant,
        pool_idle: Duration,
    ) -> Option<Connection> {
        let mut endpoints = self.endpoints.borrow_mut();
        let idle = endpoints.get_mut(&endpoint.id())?;
        while let Some((connection, since)) = idle.pop() {
            if now.saturating_duration_since(since) > pool_idle {
                // The rest is colder still.
                idle.clear();
                return None;
            }
            if connection.is_usable() {
                connection.begin_use();
                return Some(connection);
            }
            endpoint.metrics.stale_avoided.inc();
        }
        None
    }

    /// Takes back a connection after use, unless it is older than `max_age` or not fit for another request.
    pub fn checkin(&self, connection: Connection, now: Instant, max_age: Duration) {
        if connection.is_closed() || now.saturating_duration_since(connection.opened()) > max_age {
            return;
        }
        connection.end_use();
        let mut endpoints = self.endpoints.borrow_mut();
        let idle = endpoints.entry(connection.endpoint().id()).or_default();
        idle.push(connection, now, IDLE_LIMIT);
    }

    /// Drops every idle connection to `endpoint`: one was closed by it, so more will have been.
    pub fn purge(&self, endpoint: EndpointId) {
        self.endpoints.borrow_mut().remove(&endpoint);
    }

    /// Drops what has been idle since before `before`, and all connections to endpoints that are gone or draining.
    pub fn sweep(&self, now: Instant, keep: impl Fn(&Arc<Endpoint>) -> Option<Duration>) {
        self.endpoints.borrow_mut().retain(|_, idle| {
            match idle
                .coldest()
                .and_then(|connection| keep(connection.endpoint()))
            {
                Some(pool_idle) => idle.expire(now, pool_idle),
                None => idle.clear(),
            }
            !idle.is_empty()
        });
    }
}
