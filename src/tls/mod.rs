//! TLS towards clients (certificates, their choice by server name, session resumption) and towards endpoints (who is
//! trusted, and what is wrong with who is not).
//!
//! [`server()`] makes what a listener needs of its configuration, [`client()`] what an upstream needs. Knows nothing of
//! sockets: whoever accepts or opens a connection runs the handshake, and sets its deadline.

mod certificates;
mod client;
mod clients;
pub mod expiry;
mod files;
mod identity;
mod pem;
mod resolver;
mod roots;
mod server;
mod session;
mod suites;
#[cfg(test)]
mod testing;
mod ticket_keys;
mod tickets;
mod trouble;
mod unverified;

pub use certificates::{CertificateInfo, seconds_since_1970};
pub use client::{Client, ClientSettings, TlsError, client};
pub use clients::RevocationInfo;
pub use files::Contents;
pub use server::{Alpn, Server, server, sessions};
pub use session::{Session, Sessions};
pub use suites::ByDevice;
pub use tickets::{TicketSecrets, Tickets};
pub use trouble::Note;
