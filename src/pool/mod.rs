//! Connections to endpoints, of one worker. HTTP/1.1: those that are idle; the one used last is used next, so that the others
//! can expire. HTTP/2: all of them, shared by the requests on them.

pub mod connection;
pub mod http1;
pub mod http2;
pub mod idle;
mod pipe;
mod shared;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use connection::{Connection, NotOpened, OpenError, Opened, SendError};
use http2::Shared;
use idle::Idle;
use shared::{Group, Opening, Step};

use crate::config::UpstreamTimeouts;
use crate::upstream::{Endpoint, EndpointId};

/// Idle connections kept per endpoint and worker. Beyond, the coldest goes.
const IDLE_LIMIT: usize = 256;

/// What may not be sent twice goes on a connection within this time after the request before it. However late this worker has
/// read the answer, the endpoint cannot have waited for longer. Some servers close after a second, and none is known to close
/// sooner; the rest is room for the way and for the endpoint.
const MOMENT: Duration = Duration::from_millis(800);

/// Or, where the answer took its time, within this time after it was read: less, for it may have lain there unread. What is
/// left of the second is how late a worker may be that has to wait for a core.
const WARM: Duration = Duration::from_millis(200);

/// One worker's connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<EndpointId, Idle<http1::Connection>, foldhash::fast::RandomState>>,
    shared: RefCell<HashMap<EndpointId, Group, foldhash::fast::RandomState>>,
}

impl Pool {
    /// A connection to `endpoint` that is there already. HTTP/2: a share in one that is in use and has room. HTTP/1.1: the
    /// warmest idle one that is still good: open, silent, and idle for at most `pool_idle`, or for less where the endpoint closes
    /// sooner; a moment where `is_lost` says that its end in this very moment could not be made good. That is looked at again
    /// when the request is about to go out, which may be later.
    pub fn checkout(
        &self,
        endpoint: &Endpoint,
        now: Instant,
        (timeouts, is_lost): (&UpstreamTimeouts, bool),
    ) -> Option<Connection> {
        if endpoint.contact().http2 {
            let groups = self.shared.borrow();
            let stream = groups.get(&endpoint.id())?.join(now, timeouts.max_age)?;
            return Some(Connection::Http2(stream));
        }
        let mut endpoints = self.idle.borrow_mut();
        let idle = endpoints.get_mut(&endpoint.id())?;
        while let Some((connection, since)) = idle.pop() {
            let rested = now.saturating_duration_since(since);
            let limit = endpoint.keep_alive.limit(timeouts.pool_idle, now);
            if rested > limit {
                connection.learn(since, now);
                // The rest is colder still.
                idle.clear();
                return None;
            }
            let until = is_lost.then(|| {
                let moment = limit.min(MOMENT);
                (connection.asked() + moment).max(since + moment.min(WARM))
            });
            if until.is_some_and(|until| now > until) {
                // For another request it is good enough, and so are those below.
                idle.put_back(connection, since);
                return None;
            }
            if connection.is_usable() {
                connection.begin_use(rested, until);
                return Some(Connection::Http1(connection));
            }
            connection.learn(since, now);
            endpoint.metrics.stale_avoided.inc();
        }
        None
    }

    /// A connection to `endpoint` where [`checkout`](Self::checkout) had none, and whether it was there already: over HTTP/1.1 a
    /// new one, `preface` first; over HTTP/2 a share in one.
    pub async fn open(
        &self,
        endpoint: &Arc<Endpoint>,
        timeouts: &UpstreamTimeouts,
        preface: Option<&[u8]>,
    ) -> Opened {
        let Some(address) = endpoint.socket_address() else {
            return Err(OpenError::Failed.into());
        };
        if endpoint.contact().http2 {
            return self.share(endpoint, address, timeouts).await;
        }
        let opened = http1::Connection::open(endpoint, address, timeouts.connect, preface).await?;
        Ok((Connection::Http1(opened), false))
    }

    /// A share in an HTTP/2 connection to `endpoint` at `address`, and whether the connection was there already. Opens one
    /// where there is none with room; several requests that come meanwhile wait for it together.
    async fn share(
        &self,
        endpoint: &Arc<Endpoint>,
        address: SocketAddr,
        timeouts: &UpstreamTimeouts,
    ) -> Opened {
        let is_idle = {
            let groups = self.shared.borrow();
            groups.get(&endpoint.id()).is_some_and(Group::is_next_idle)
        };
        if is_idle {
            // The endpoint may have closed it, and nobody has been woken yet.
            tokio::task::yield_now().await;
        }
        loop {
            let step = {
                let mut groups = self.shared.borrow_mut();
                let group = groups.entry(endpoint.id()).or_default();
                group.step(Instant::now(), timeouts.pool_idle, timeouts.max_age)
            };
            let opening = match step {
                Step::Join(stream) => return Ok((Connection::Http2(stream), true)),
                Step::Wait(opening) => {
                    opening.wait().await.map_err(NotOpened::another)?;
                    continue;
                }
                Step::Open(opening) => opening,
            };
            let end = End {
                pool: self,
                endpoint: endpoint.id(),
                opening,
            };
            let opened = Shared::open(endpoint, address, timeouts.connect).await;
            end.opening
                .set_outcome(opened.as_ref().map(drop).map_err(|error| *error));
            let connection = opened.map_err(NotOpened::own)?;
            let Some(stream) = connection.join() else {
                // It was closed, or its limit lowered, in this very moment.
                return Err(NotOpened::own(OpenError::Failed));
            };
            if let Some(group) = self.shared.borrow_mut().get_mut(&endpoint.id()) {
                group.add(connection);
            }
            return Ok((Connection::Http2(stream), false));
        }
    }

    /// Takes back a connection after use, unless it is older than `max_age` or not fit for another request.
    pub fn checkin(&self, connection: Connection, now: Instant, max_age: Duration) {
        let connection = match connection {
            Connection::Http1(connection) => connection,
            // Its place is free again, and that is all.
            Connection::Http2(_) => return,
        };
        if connection.is_closed() || now.saturating_duration_since(connection.opened()) > max_age {
            return;
        }
        connection.end_use();
        let mut endpoints = self.idle.borrow_mut();
        let idle = endpoints.entry(connection.endpoint().id()).or_default();
        idle.push(connection, now, IDLE_LIMIT);
    }

    /// `ending` was lost with a request on it that had been sent.
    pub fn lose(&self, ending: &Connection, now: Instant) {
        if let Connection::Http1(connection) = ending {
            let endpoint = connection.endpoint();
            endpoint.keep_alive.closed_after(connection.rested(), now);
        }
        self.purge(ending);
    }

    /// Uses nothing any more that may have ended as `ending` has. HTTP/1.1: every idle connection to its endpoint, for one was
    /// closed by it, so more will have been. HTTP/2: this one, for trying the next costs little and loses nothing.
    pub fn purge(&self, ending: &Connection) {
        match ending {
            Connection::Http1(ending) => {
                self.idle.borrow_mut().remove(&ending.endpoint().id());
            }
            Connection::Http2(stream) => {
                let ending = stream.shared();
                if let Some(group) = self.shared.borrow_mut().get_mut(&ending.endpoint().id()) {
                    group.remove(ending);
                }
            }
        }
    }

    /// Lets go of what has been idle for longer than `keep` says, and of all connections to endpoints that are gone or
    /// draining, of which it says nothing.
    pub fn sweep(&self, now: Instant, keep: impl Fn(&Arc<Endpoint>) -> Option<Duration>) {
        self.idle.borrow_mut().retain(|_, idle| {
            match idle
                .coldest()
                .and_then(|connection| keep(connection.endpoint()))
            {
                Some(pool_idle) => idle.expire(now, pool_idle),
                None => idle.clear(),
            }
            !idle.is_empty()
        });
        self.shared.borrow_mut().retain(|_, group| {
            group.sweep(now, &keep);
            !group.is_empty()
        });
    }
}

/// Ends the opening of a connection, also where whoever wanted it leaves.
struct End<'a> {
    pool: &'a Pool,
    endpoint: EndpointId,
    opening: Rc<Opening>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.pool.shared.borrow_mut().get_mut(&self.endpoint) {
            group.end(&self.opening);
        }
    }
}
