//! The map.

#![forbid(unsafe_code)]

// 1
pub mod config;
// 0
pub mod units;
