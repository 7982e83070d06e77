//! Where endpoints' host names lead: asked when a configuration is loaded, and again every now and then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::Address;
use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::{Endpoint, Upstream};

/// A name that takes longer is not resolved for now.
const LIMIT: Duration = Duration::from_secs(2);
/// The system's resolver does not say how long an answer is good for.
const EVERY: Duration = Duration::from_secs(30);

/// Resolves every name of `snapshot`, all at once. A name that leads nowhere leaves its endpoint unresolved; the others work.
pub async fn resolve(snapshot: &Snapshot) {
    if look_up_all(snapshot).await {
        refresh(snapshot);
    }
}

/// Resolves the names of the current snapshot again and again.
pub async fn keep_resolved(publisher: Publisher) {
    loop {
        sleep(EVERY).await;
        if look_up_all(&publisher.current()).await {
            // Another one may have been published meanwhile.
            refresh(&publisher.current());
        }
    }
}

/// Returns whether an endpoint's address has changed.
async fn look_up_all(snapshot: &Snapshot) -> bool {
    let mut lookups = JoinSet::new();
    for upstream in &snapshot.upstreams {
        for endpoint in &upstream.endpoints {
            if let Address::Name(host, port) = endpoint.address() {
                let whose = (Arc::clone(upstream), Arc::clone(endpoint));
                lookups.spawn(look_up(whose, host.to_string(), *port));
            }
        }
    }
    let mut changed = false;
    while let Some(result) = lookups.join_next().await {
        changed |= result.unwrap_or(false);
    }
    changed
}

fn refresh(snapshot: &Snapshot) {
    for upstream in &snapshot.upstreams {
        upstream.refresh();
    }
}

async fn look_up(
    (upstream, endpoint): (Arc<Upstream>, Arc<Endpoint>),
    host: String,
    port: u16,
) -> bool {
    let found = match timeout(LIMIT, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => choose(addresses, endpoint.socket_address())
            .ok_or_else(|| format!("`{host}` has no address")),
        Ok(Err(error)) => Err(format!("`{host}` cannot be resolved: {error}")),
        Err(_) => Err(format!("`{host}` not resolved within {LIMIT:?}")),
    };
    if let Err(why) = &found {
        warn!(upstream = %endpoint.upstream(), endpoint = %endpoint.name(), "{why}");
    }
    let changed = endpoint.set_resolved(found);
    if changed {
        if upstream.is_authoritative() {
            // Another machine is no authority, also while other names are asked yet.
            upstream.refresh();
        }
        info!(upstream = %endpoint.upstream(), endpoint = %endpoint.name(), address = ?endpoint.socket_address(), "endpoint resolved");
    }
    changed
}

/// The address in use while it is among those found, else the first.
fn choose(
    addresses: impl Iterator<Item = SocketAddr>,
    in_use: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    in_use
        .filter(|address| addresses.contains(address))
        .or_else(|| addresses.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_in_use_is_kept_while_it_is_among_those_found() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(
            choose([address(1), address(2)].into_iter(), Some(address(2))),
            Some(address(2))
        );
        assert_eq!(
            choose([address(1), address(2)].into_iter(), Some(address(3))),
            Some(address(1))
        );
        assert_eq!(choose([].into_iter(), Some(address(3))), None);
    }
}
