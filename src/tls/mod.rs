//! TLS towards clients (certificates, their choice by server name, session resumption) and towards endpoints (who is
//! trusted, and what is wrong with who is not).
//!
//! [`server()`] makes what a listener needs of its configuration, [`client()`] what an upstream needs. Knows nothing of
//! sockets: whoever accepts or opens a connection runs the handshake, and sets its deadline.

mod certificates;
mod client;
mod pem;
mod resolver;
mod roots;
mod server;
mod suites;
#[cfg(test)]
mod testing;
mod trouble;
mod unverified;

pub use certificates::CertificateInfo;
pub use client::{Client, ClientSettings, TlsError, client};
pub use server::{Alpn, Server, Tickets, server};
pub use suites::ByDevice;
pub use trouble::Note;
