//! The map.

#![forbid(unsafe_code)]

// 2
pub mod tls;
// 1
pub mod config;
// 0
pub mod units;
