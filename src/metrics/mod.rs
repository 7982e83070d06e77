//! What is counted. The registry is made once; handles are resolved when a snapshot is compiled, never per request.

pub mod catalogue;
pub mod encode;
pub mod handles;
pub mod recent;
pub mod totals;

pub use catalogue::Metrics;
pub use handles::{
    CodeCounters, EndpointMetrics, HedgeResult, ListenerMetrics, MirrorMetrics, RetryDenied,
    RetryReason, RouteMetrics, UpstreamMetrics,
};
