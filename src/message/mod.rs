//! Rules of HTTP messages and of what may come before them, without I/O. Knows nothing of sockets, routes or endpoints.

pub mod authority;
pub mod body;
pub mod canonical_path;
pub mod causes;
pub mod cookie;
pub mod expectation;
pub mod forwarded;
pub mod forwarded_field;
pub mod framing;
pub mod grpc;
pub mod grpc_health;
pub mod hexadecimal;
pub mod hop_by_hop;
pub mod list;
pub mod negotiate;
pub mod pause;
pub mod protobuf;
pub mod proxy_protocol;
pub mod received;
pub mod redact;
pub mod replay;
pub mod sent_head;
pub mod tee;
#[cfg(test)]
pub(crate) mod testing;
pub mod trace;
pub mod unfit;
pub mod upgrade;
pub mod upload;
