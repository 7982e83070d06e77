//! Rules of HTTP messages, without I/O. Knows nothing of sockets, routes or endpoints.

pub mod authority;
pub mod body;
pub mod canonical_path;
pub mod forwarded;
pub mod framing;
pub mod hop_by_hop;
pub mod pause;
pub mod replay;
pub mod upload;
