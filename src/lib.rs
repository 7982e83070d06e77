//! A reverse-proxy load balancer, as a library that its own binary, tests and benches drive.
//!
//! # The way of a request
//!
//! ```text
//! net::listen ─► worker::accept ─► tls ─► proxy::http1 | http2 ─► proxy::handler
//!                                                                  │
//!      route::router ─► filter ─► upstream (balance) ─► pool ─► proxy::retry ┘─► filter ─► response ─► log, metrics
//! ```
//!
//! # The way of the configuration
//!
//! `balancer.toml` ─► [`config`] (what the operator means, every problem at once) ─► [`snapshot`] (compiled, immutable)
//! ─► published with one store, read once per request. [`health`] and the signals of [`daemon`] work beside it, on the
//! control thread.
//!
//! # The layers
//!
//! Imports go down only; `tests/architecture.rs` holds that.

#![forbid(unsafe_code)]

// 11: what is typed
pub mod cli;
// 10: what is said
pub mod logging;
// 9: the process
pub mod daemon;
// 8: a serving thread; the operator's view; whether endpoints are well
pub mod admin;
pub mod health;
pub mod worker;
// 7: a request's way
pub mod proxy;
// 6: all that a request may consult
pub mod snapshot;
// 5: which route takes a request
pub mod route;
// 4: connections to endpoints; what routes change in messages, and how many they take
pub mod filter;
pub mod pool;
// 3: groups of endpoints
pub mod upstream;
// 2: which endpoint takes a request; certificates
pub mod balance;
pub mod tls;
// 1: what the operator means; what is counted
pub mod config;
pub mod metrics;
// 0: rules of HTTP messages; sockets
pub mod message;
pub mod net;
// below all
pub mod lock;
pub mod units;
