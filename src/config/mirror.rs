//! `route.mirror`: who gets a copy of a route's requests.

use std::time::Duration;

use super::{MethodSet, Place};
use crate::units::ByteSize;

/// `route.mirror`
#[derive(Clone, Debug)]
pub struct Mirror {
    /// `upstream`, as an index into `Config::upstreams`.
    pub upstream: usize,
    /// `percent`: the share of requests, above 0, at most 100. Default 100.
    pub percent: f64,
    /// `body_bytes`: requests with a larger body are not mirrored. Default 64 KiB.
    pub body_bytes: ByteSize,
    /// `methods`. Default: all.
    pub methods: Option<MethodSet>,
    /// `timeout`: for a whole exchange with the mirror. Default 10 s.
    pub timeout: Duration,
    /// Where the table stands.
    pub place: Place,
}
