//! Sockets. Of HTTP it knows only the spawner that hyper asks for.

pub mod coalesce;
pub mod connect;
pub mod cut;
pub mod gather;
pub mod listen;
pub mod local;
pub mod pass;
pub mod per_client;
pub mod relay;
pub mod shared;
pub mod transport;
