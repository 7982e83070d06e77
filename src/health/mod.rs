//! Asks every endpoint regularly whether it is well. Runs on the control thread; workers only see the outcome.

pub mod probe;
pub mod threshold;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::config;
use crate::net::connect::is_own_shortage;
use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::{Endpoint, EndpointId, Health};
use probe::ProbeError;
use threshold::Threshold;

/// Longest wait before the first probe: they are spread, but nobody shall wait long for a new endpoint.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// Each pause is up to this share longer or shorter, so that probes that once met do not go on meeting.
const JITTER: f64 = 0.1;

/// One task per checked endpoint; follows the snapshots.
#[derive(Debug)]
pub struct Checker {
    publisher: Publisher,
    tasks: HashMap<EndpointId, Task>,
}

#[derive(Debug)]
struct Task {
    health: config::Health,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Checker {
    /// Checks nobody yet.
    pub fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            tasks: HashMap::new(),
        }
    }

    /// Checks the endpoints of `snapshot`, and no others. A check that has not changed goes on undisturbed.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.tasks);
        for upstream in &snapshot.upstreams {
            let Some(health) = &upstream.health else {
                continue;
            };
            for endpoint in &upstream.endpoints {
                if endpoint.state().mode == config::Mode::Disabled {
                    continue;
                }
                let task = match before.remove(&endpoint.id()) {
                    Some(task) if task.health == *health => task,
                    _ => self.start(endpoint, health),
                };
                self.tasks.insert(endpoint.id(), task);
            }
        }
    }

    fn start(&self, endpoint: &Arc<Endpoint>, health: &config::Health) -> Task {
        let check = Check {
            endpoint: Arc::clone(endpoint),
            health: health.clone(),
            publisher: self.publisher.clone(),
        };
        Task {
            health: health.clone(),
            handle: tokio::spawn(check.run()).abort_handle(),
        }
    }
}

/// Whether every checked endpoint of `snapshot` has been probed once.
pub fn is_settled(snapshot: &Snapshot) -> bool {
    snapshot
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.endpoints)
        .all(|endpoint| {
            let state = endpoint.state();
            state.health != Health::Unknown
                || state.mode == config::Mode::Disabled
                || endpoint.metrics.check.get_sample_count() > 0
        })
}

/// The check of one endpoint.
struct Check {
    endpoint: Arc<Endpoint>,
    health: config::Health,
    publisher: Publisher,
}

impl Check {
    async fn run(self) {
        let (health, endpoint) = (&self.health, &self.endpoint);
        sleep(health.interval.min(FIRST_WITHIN).mul_f64(fastrand::f64())).await;
        let mut threshold =
            Threshold::new(health.fall, health.rise, believed(endpoint.state().health));
        let mut first = true;
        loop {
            let begun = Instant::now();
            let result = match timeout(health.timeout, probe::probe(endpoint, &health.probe)).await
            {
                Ok(result) => result,
                Err(_) => Err(ProbeError::Timeout(health.timeout)),
            };
            endpoint
                .metrics
                .check
                .observe(begun.elapsed().as_secs_f64());
            match result {
                // Our own trouble says nothing of the endpoint.
                Err(ProbeError::Connect(error)) if is_own_shortage(&error) => {
                    warn!(upstream = %endpoint.upstream(), endpoint = %endpoint.name(), %error, "endpoint cannot be checked");
                }
                result => self.judge(&mut threshold, result),
            }
            let pause = if threshold.is_changing() {
                health.fast_interval
            } else if first {
                // From the second on they are spread over the whole interval.
                health.interval.mul_f64(fastrand::f64())
            } else {
                health.interval
            };
            first = false;
            sleep_until(begun + pause.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))).await;
        }
    }

    fn judge(&self, threshold: &mut Threshold, result: Result<(), ProbeError>) {
        let endpoint = &self.endpoint;
        match &result {
            Ok(()) => endpoint.metrics.checks_passed.inc(),
            Err(_) => endpoint.metrics.checks_failed.inc(),
        }
        let known = endpoint.state().health;
        let flipped = threshold.observe(result.is_ok());
        let reason = result.err().map(|error| error.to_string());
        let (upstream, name) = (endpoint.upstream(), endpoint.name());
        match flipped {
            Some(true) => {
                endpoint.set_health(Health::Up, None);
                endpoint.metrics.to_up.inc();
                info!(%upstream, endpoint = %name, "endpoint up");
            }
            Some(false) => {
                warn!(%upstream, endpoint = %name, reason = reason.as_deref().unwrap_or_default(), "endpoint down");
                endpoint.set_health(Health::Down, reason);
                endpoint.metrics.to_down.inc();
            }
            None => {
                let reason = match (reason, threshold.progress()) {
                    (Some(reason), Some(progress)) => Some(format!("{progress}: {reason}")),
                    (reason, progress) => reason.or(progress),
                };
                endpoint.set_health(known, reason);
                return;
            }
        }
        let snapshot = self.publisher.current();
        if let Some(upstream) = snapshot
            .upstreams
            .iter()
            .find(|other| other.name == *upstream)
        {
            upstream.refresh();
        }
    }
}

/// What checks that begin now have to go on from: a check that was changed keeps what the one before it found.
fn believed(health: Health) -> Option<bool> {
    match health {
        Health::Up => Some(true),
        Health::Down => Some(false),
        Health::Unknown | Health::Unchecked => None,
    }
}
