//! The request's way.
//!
//! ```text
//!  bytes ─► gate ─► hyper ─► handler::handle ─────────────────────────────► response ─► record: log, metrics
//!           │                 │                                              ▲
//!           framing           ├ head: host, path, forwarding fields          │
//!           checked           ├ router: which route                          │
//!                             └ retry: pick ─► pool ─► attempt at an endpoint┘
//! ```
//!
//! [`http1`] and [`http2`] serve a client's connection, [`handler`] one request of it, [`retry`] an exchange with endpoints,
//! `hedge` two attempts of it at once, [`record`] what is left of it in the end. [`hold`] keeps requests to a paused upstream back, [`mirror`] sends copies elsewhere, [`trace`] makes spans of some. Whatever goes wrong is a [`error::ProxyError`] and becomes a reply in one place, the handler.

pub mod access_log;
pub mod client;
pub mod deadline;
pub mod drain;
pub mod error;
mod forward;
pub mod gate;
pub mod handler;
pub mod hash_key;
pub mod head;
mod hedge;
pub mod hold;
pub mod http1;
pub mod http2;
mod leftover;
pub mod local;
pub mod mirror;
mod moment;
pub mod open_tunnels;
pub mod preface;
pub mod record;
pub mod reply;
pub mod retry;
pub mod trace;
pub mod tunnel;
