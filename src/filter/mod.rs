//! What a route changes in the messages that pass by it. Pure: knows nothing of sockets, routes or endpoints.

pub mod headers;
pub mod rewrite;
