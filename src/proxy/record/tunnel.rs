//! What a record is told of a change of protocols, and of the tunnel that comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use super::Record;
use crate::net::relay::Limits;
use crate::net::shared::SharedStream;
use crate::pool::Connection;
use crate::proxy::error::ProxyError;
use crate::proxy::tunnel::Asked;
use crate::upstream::Endpoint;

impl Record {
    /// The client wants to change protocols.
    pub fn set_asked(&mut self, asked: Box<Asked>) {
        self.asked = Some(asked);
    }

    /// What the client wants to change to.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.as_deref()
    }

    /// The same, taken.
    pub fn take_asked(&mut self) -> Option<Box<Asked>> {
        self.asked.take()
    }

    /// The connection that has changed its protocol, what came over it early, and whose it is.
    /// The client gets `status`.
    pub async fn take_stream(
        &mut self,
        status: StatusCode,
    ) -> Option<(SharedStream, Bytes, Arc<Endpoint>)> {
        self.status = status.as_u16();
        self.is_tunnel = true;
        let from = self.from.get_mut()?;
        let Connection::Http1(connection) = &mut from.connection else {
            return None;
        };
        let (stream, early) = connection.switch().await;
        Some((stream, early, Arc::clone(from.lease.endpoint())))
    }

    /// How long nothing may be said in a tunnel, or taken.
    pub fn tunnel_limits(&self) -> Limits {
        let timeouts = self.upstream().map(|upstream| self.timeouts(upstream));
        Limits {
            idle: timeouts.map_or(Duration::ZERO, |timeouts| timeouts.tunnel_idle),
            stalled: timeouts.map_or(Duration::ZERO, |timeouts| timeouts.stream_idle),
        }
    }

    /// A tunnel has ended, with so many bytes passed to the endpoint and to the client.
    pub fn end_tunnel(mut self: Box<Self>, (forth, back): (u64, u64), error: Option<ProxyError>) {
        self.from.take();
        self.begin_upload().add(forth);
        self.response_bytes = back;
        self.finish(error, Instant::now());
    }
}
