//! Probes every endpoint of a set once more, right before it gets requests: that it accepts connections, shakes hands and answers
//! now, and has what it needs for that at hand. Connections for requests are opened by the first of these.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::check::is_wanted;
use crate::config::{Health, Probe};
use crate::health::probe::{ProbeError, probe};
use crate::upstream::{Endpoint, Upstream};

/// Begins. What comes of it: who has not passed, and why.
pub(super) fn begin(upstream: &Upstream, set: &str) -> JoinHandle<Vec<String>> {
    let members = upstream.members(set).filter(|it| is_wanted(it));
    let members: Vec<_> = members.cloned().collect();
    let health = upstream.health.clone();
    let connect = upstream.timeouts.connect;
    tokio::spawn(async move {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut probes = JoinSet::new();
        for endpoint in members {
            let (health, at_once) = (health.clone(), Arc::clone(&at_once));
            probes.spawn(async move {
                // It is never closed.
                let _place = at_once.acquire().await;
                let passed = pass(&endpoint, health.as_ref(), connect).await;
                let name = endpoint.name();
                passed.err().map(|error| format!("{name}: {error}"))
            });
        }
        let mut failed: Vec<_> = probes.join_all().await.into_iter().flatten().collect();
        failed.sort_unstable();
        failed
    })
}

/// Tries more than once: one probe that fails is none too many for a check either.
async fn pass(
    endpoint: &Endpoint,
    health: Option<&Health>,
    connect: Duration,
) -> Result<(), ProbeError> {
    let (kind, limit) = match health {
        Some(health) => (&health.probe, health.timeout),
        None => (&Probe::Tcp, connect),
    };
    let mut tries = 1;
    loop {
        let passed = timeout(limit, probe(endpoint, kind)).await;
        match passed.unwrap_or(Err(ProbeError::Timeout(limit))) {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        sleep(AGAIN).await;
    }
}

/// Probes at once: enough for a thousand endpoints within a second or two, and few enough for those who share a machine.
const AT_ONCE: usize = 64;
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_millis(200);
