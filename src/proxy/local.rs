//! What a worker lends to the way of its requests: snapshot, pool, access log, spans, identity.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;

use super::access_log::AccessLog;
use super::open_tunnels::OpenTunnels;
use super::trace::outbox::Outbox;
use crate::metrics::Metrics;
use crate::net::relay::Scratch;
use crate::pool::Pool;
use crate::snapshot::{Held, Instance, Reader};

/// One worker's belongings.
#[derive(Debug)]
pub struct Local {
    /// The current snapshot.
    pub reader: Reader,
    /// Idle connections to endpoints.
    pub pool: Rc<Pool>,
    /// Lines on their way to the access log.
    pub access_log: AccessLog,
    /// Spans on their way to a collector.
    pub spans: Outbox,
    /// What the process is.
    pub instance: Arc<Instance>,
    /// For what is counted rarely.
    pub metrics: Arc<Metrics>,
    /// What requests get as `Via`.
    pub via: Via,
    /// Room for what passes through tunnels.
    pub scratch: Scratch,
    /// Tunnels that are open.
    pub tunnels: Rc<OpenTunnels>,
    /// State of [`Local::request_id`] and [`Local::random`].
    random: Cell<u64>,
    request_prefix: u64,
    requests: Cell<u64>,
}

impl Local {
    /// A worker's belongings; `seed` differs from worker to worker and from start to start.
    pub fn new(
        reader: Reader,
        (access_log, spans): (AccessLog, Outbox),
        instance: Arc<Instance>,
        metrics: Arc<Metrics>,
        seed: u64,
    ) -> Self {
        Self {
            reader,
            pool: Rc::new(Pool::default()),
            access_log,
            spans,
            via: Via {
                http1: own(&instance.via_http1),
                http2: own(&instance.via_http2),
            },
            scratch: Scratch::default(),
            tunnels: Rc::default(),
            instance,
            metrics,
            random: Cell::new(seed | 1),
            request_prefix: seed & 0xffff_ffff_0000_0000,
            requests: Cell::new(seed & 0xffff),
        }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Held {
        self.reader.load()
    }

    /// A new request's id: 16 hexadecimal digits, unique within the process and very likely beyond it. Not secret.
    pub fn request_id(&self) -> RequestId {
        let number = self.requests.get().wrapping_add(1);
        self.requests.set(number);
        RequestId::new(self.request_prefix | (number & 0xffff_ffff))
    }

    /// 16 bytes that differ each time. Not secret.
    pub fn nonce(&self) -> [u8; 16] {
        let halves = [self.next(), self.next()];
        std::array::from_fn(|index| halves[index / 8].to_le_bytes()[index % 8])
    }

    /// A number in [0, 1), good enough to spread things. Not secret.
    pub fn random(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number that differs each time. Not secret.
    pub(super) fn next(&self) -> u64 {
        // xorshift64
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }
}

/// The `Via` entries of [`Instance`], in memory of the worker's own: every request raises and lowers their counts.
#[derive(Debug)]
pub struct Via {
    /// Of requests that came over HTTP/1.
    pub http1: HeaderValue,
    /// Of those that came over HTTP/2.
    pub http2: HeaderValue,
}

fn own(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("a value's bytes are a value")
}

/// A request's id.
#[derive(Clone, Copy, Debug)]
pub struct RequestId([u8; 16]);

impl RequestId {
    pub(super) fn new(number: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        Self(std::array::from_fn(|index| {
            DIGITS[(number >> (60 - 4 * index) & 15) as usize]
        }))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }

    /// As a field's value.
    pub fn to_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("hexadecimal digits are valid in a field")
    }
}
