//! TLS towards clients: certificates, their choice by server name, session resumption.
//!
//! [`server()`] makes what a listener needs of its configuration. Knows nothing of sockets: whoever accepts a connection
//! runs the handshake, and sets its deadline.

mod certificates;
mod clients;
pub mod expiry;
mod files;
mod identity;
mod pem;
mod resolver;
mod server;
mod session;
mod suites;
#[cfg(test)]
mod testing;
mod tickets;

pub use certificates::CertificateInfo;
pub use clients::RevocationInfo;
pub use files::Contents;
pub use server::{Alpn, Server, server};
pub use session::{Session, Sessions};
pub use suites::ByDevice;
pub use tickets::Tickets;
