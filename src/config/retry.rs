//! `upstream.retry` and `route.retry`: when a request is sent once more.

use std::time::Duration;

use crate::units::ByteSize;

/// When a request is sent once more, as it holds for an upstream or for a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// `attempts`: how often one request is sent, at most. Default 2. 1, or `retry = false`: never again.
    pub attempts: u32,
    /// `statuses`, in order: of responses after which an idempotent request is sent again. Default none.
    pub statuses: Vec<u16>,
    /// `on_timeout`: whether an idempotent request is sent again where no response came in time. Default false.
    pub on_timeout: bool,
    /// `attempt_timeout`: how long an attempt that another may follow waits for its response. Only with `on_timeout`. Default:
    /// `timeouts.response_head`.
    pub attempt_timeout: Option<Duration>,
    /// `body_bytes`: how much of a request's body is kept to send it again. Default 64 KiB.
    pub body_bytes: ByteSize,
    /// `idempotency_key`: whether any request with a field `Idempotency-Key` counts as idempotent. Default false.
    pub idempotency_key: bool,
}

impl Retry {
    /// What holds where nothing is said.
    pub const DEFAULT: Self = Self {
        attempts: 2,
        statuses: Vec::new(),
        on_timeout: false,
        attempt_timeout: None,
        body_bytes: ByteSize::kibibytes(64),
        idempotency_key: false,
    };
}

/// `upstream.retry.budget` and `budget_min`: how many retries may fail, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// `budget`: the share of the requests answered in the last ten seconds. Default 0.2.
    pub share: f64,
    /// `budget_min`: or so many every second, where that is more. Default 3.
    pub min: u32,
}

impl Budget {
    /// What holds where nothing is said.
    pub const DEFAULT: Self = Self { share: 0.2, min: 3 };
}

/// `route.retry`: what it says itself. The rest is its upstream's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRetry {
    /// See [`Retry::attempts`].
    pub attempts: Option<u32>,
    /// See [`Retry::statuses`].
    pub statuses: Option<Vec<u16>>,
    /// See [`Retry::on_timeout`].
    pub on_timeout: Option<bool>,
    /// See [`Retry::attempt_timeout`].
    pub attempt_timeout: Option<Duration>,
    /// See [`Retry::body_bytes`].
    pub body_bytes: Option<ByteSize>,
    /// See [`Retry::idempotency_key`].
    pub idempotency_key: Option<bool>,
}

impl RouteRetry {
    /// What holds for the route, where `upstream` is what its upstream says.
    pub fn over(&self, upstream: &Retry) -> Retry {
        let on_timeout = self.on_timeout.unwrap_or(upstream.on_timeout);
        Retry {
            attempts: self.attempts.unwrap_or(upstream.attempts),
            statuses: self
                .statuses
                .clone()
                .unwrap_or_else(|| upstream.statuses.clone()),
            on_timeout,
            attempt_timeout: self
                .attempt_timeout
                .or(upstream.attempt_timeout)
                .filter(|_| on_timeout),
            body_bytes: self.body_bytes.unwrap_or(upstream.body_bytes),
            idempotency_key: self.idempotency_key.unwrap_or(upstream.idempotency_key),
        }
    }
}
