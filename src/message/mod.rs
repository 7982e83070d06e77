//! Rules of HTTP messages, without I/O. Knows nothing of sockets, routes or endpoints.

pub mod canonical_path;
