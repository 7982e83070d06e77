//! Who gets a copy of a route's requests.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::config::{self, Config, MethodSet, Problem};
use crate::metrics::MirrorMetrics;
use crate::upstream::Upstream;

/// Who gets a copy of a route's requests.
#[derive(Debug)]
pub struct Mirror {
    /// Whose endpoints get it.
    pub upstream: Arc<Upstream>,
    /// The largest body that is copied, in bytes.
    pub body_bytes: usize,
    /// For a whole exchange.
    pub timeout: Duration,
    /// Its counters.
    pub metrics: MirrorMetrics,
    /// Of all requests.
    share: f64,
    methods: Option<MethodSet>,
}

impl Mirror {
    pub(super) fn new(
        mirror: &config::Mirror,
        upstream: &Arc<Upstream>,
        metrics: MirrorMetrics,
    ) -> Box<Self> {
        Box::new(Self {
            upstream: Arc::clone(upstream),
            body_bytes: mirror.body_bytes.as_usize(),
            timeout: mirror.timeout,
            metrics,
            share: mirror.percent / 100.0,
            methods: mirror.methods.clone(),
        })
    }

    /// Whether a request is among those copied; `random` is a number in [0, 1).
    pub fn wants(&self, method: &Method, random: f64) -> bool {
        let methods = self.methods.as_ref();
        random < self.share && methods.is_none_or(|methods| methods.contains(method))
    }
}

/// A mirror whose endpoints want to be told of each request's client first.
pub(super) fn unfit(config: &Config, route: &config::Route) -> Option<Problem> {
    let mirror = route.mirror.as_ref()?;
    let upstream = &config.upstreams[mirror.upstream];
    upstream.proxy_protocol?;
    Some(mirror.place.problem(format!(
        "upstream {:?} has proxy_protocol, and copies of requests come from no client; mirror to an upstream without it",
        upstream.name
    )))
}
