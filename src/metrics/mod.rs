//! What is counted. Families are made once; handles are resolved when a snapshot is compiled, never per request.

pub mod attempts;
pub mod catalogue;
pub mod cells;
pub mod census;
pub mod encode;
pub mod family;
pub mod handles;
pub mod labels;
mod measured;
pub mod owners;
pub mod recent;
mod retire;
pub mod totals;
pub mod vector;

pub use catalogue::Metrics;
pub use handles::{
    AuditMetrics, Audited, CodeCounters, EndpointMetrics, HedgeResult, ListenerMetrics,
    MirrorMetrics, Pinned, RetryDenied, RetryReason, RouteMetrics, UpstreamMetrics,
};
