//! What the promises are tested with: the balancer as a process, scriptable origins, clients that may misbehave.

pub(crate) mod balancer;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod deadline;
pub(crate) mod h2;
pub(crate) mod http1;
pub(crate) mod origin;
pub(crate) mod peers;

pub(crate) use balancer::{Balancer, Outcome, simple};
pub(crate) use client::{Connection, Reply, get};
pub(crate) use deadline::{DEADLINE, Gate, eventually, eventually_some};
pub(crate) use origin::{Exchange, Next, Origin, Refusing};
