//! What a route changes in the messages that pass by it, and how many it lets pass. Knows nothing of sockets, routes or
//! endpoints.

pub mod headers;
pub mod limit;
pub mod rate;
pub mod rewrite;
