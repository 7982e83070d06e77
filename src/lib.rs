//! The map.

#![forbid(unsafe_code)]

// 5: which route takes a request
pub mod route;
// 2: which endpoint takes a request
pub mod balance;
// 1: what the operator means
pub mod config;
// 0: rules of HTTP messages
pub mod message;
// 0
pub mod units;
