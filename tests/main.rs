//! Promises of the balancer, kept by driving the real binary over real sockets: one module per promise.
//!
//! Every test starts its own process on ports of the system's choosing, in a directory of its own, and ends it itself.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod support;

mod access_log;
mod affinity;
mod architecture;
mod authority;
mod balancing;
mod client_faults;
mod configuration;
mod counters;
mod deployment;
mod error_pages;
mod evidence;
mod forwarded;
mod grpc;
mod header_changes;
mod headers;
mod health;
mod hedging;
mod hostile_clients;
mod hsts;
mod http2_conformance;
mod idle_connections;
mod limits;
mod log_rotation;
mod metrics_and_logs;
mod mirroring;
mod newcomer;
mod operating;
mod overload;
mod passive;
mod pausing;
mod peers;
mod policies;
mod proxy_protocol;
mod readme;
mod reload;
mod retries;
mod rewriting;
mod routing;
mod series;
mod service_manager;
mod serving;
mod shutdown;
mod simulation;
mod smuggling;
mod socket_activation;
mod splitting;
mod tls_listener;
mod tracing;
mod tunnels;
mod upgrading;
mod upstream_faults;
mod upstream_h2;
mod upstream_tls;
mod versions;
