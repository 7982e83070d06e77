//! Probes every endpoint of a set once more, right before it gets requests: that it accepts connections, shakes hands and answers
//! now, has what it needs for that at hand, and runs the version that is expected. Connections for requests are opened by the first of these.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::check::is_wanted;
use crate::config::Health;
use crate::health::probe::{Finding, ProbeError, connect, probe};
use crate::upstream::{Endpoint, Upstream};

/// Begins. What comes of it: who has not passed, and why.
pub(super) fn begin(
    upstream: &Upstream,
    set: &str,
    expected: Option<&str>,
) -> JoinHandle<Vec<String>> {
    let expected: Option<Arc<str>> = expected.map(Into::into);
    let members = upstream.members(set).filter(|it| is_wanted(it));
    let members: Vec<_> = members.cloned().collect();
    let health = upstream.health.clone();
    let to_connect = upstream.timeouts.connect;
    tokio::spawn(async move {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut probes = JoinSet::new();
        for endpoint in members {
            let (health, at_once) = (health.clone(), Arc::clone(&at_once));
            let expected = expected.clone();
            probes.spawn(async move {
                // It is never closed.
                let _place = at_once.acquire().await;
                let limits = (health.as_ref(), to_connect);
                let passed = pass(&endpoint, limits, expected.as_deref()).await;
                let name = endpoint.name();
                passed.err().map(|why| format!("{name}: {why}"))
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
    (health, to_connect): (Option<&Health>, Duration),
    expected: Option<&str>,
) -> Result<(), String> {
    let mut tries = 1;
    loop {
        let limit = health.map_or(to_connect, |health| health.timeout);
        let found = timeout(limit, ask(endpoint, health)).await;
        let found = found.unwrap_or_else(|_| ProbeError::Timeout(limit).into());
        match fit(found, expected) {
            Ok(()) => return Ok(()),
            Err(why) if tries == TRIES => return Err(why),
            Err(_) => tries += 1,
        }
        sleep(AGAIN).await;
    }
}

async fn ask(endpoint: &Endpoint, health: Option<&Health>) -> Finding {
    let Some(health) = health else {
        return Finding {
            verdict: connect(endpoint).await.map(drop),
            version: None,
            role: None,
        };
    };
    probe(endpoint, health).await
}

/// Whether that will do, or why not.
fn fit(found: Finding, expected: Option<&str>) -> Result<(), String> {
    found.verdict.map_err(|error| error.to_string())?;
    match (expected, found.version) {
        (None, _) => Ok(()),
        (Some(expected), Some(Ok(version))) if version.as_str() == expected => Ok(()),
        (Some(expected), Some(Ok(version))) => Err(format!("version {version}, want {expected}")),
        (Some(expected), Some(Err(why))) => Err(format!("version unknown: {why}, want {expected}")),
        (Some(expected), None) => Err(format!("version unknown, want {expected}")),
    }
}

/// Probes at once: enough for a thousand endpoints within a second or two, and few enough for those who share a machine.
const AT_ONCE: usize = 64;
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_millis(200);
