//! The check of one endpoint: probes it again and again, and says what that comes to.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::ejector;
use super::probe::{self, ProbeError};
use super::threshold::Threshold;
use crate::config;
use crate::net::connect::is_own_shortage;
use crate::snapshot::Publisher;
use crate::units::AppVersion;
use crate::upstream::journal::{Fact, Return};
use crate::upstream::{Endpoint, Evidence, Health, Runs, Said, Upstream};

/// Each pause is up to this share longer or shorter, so that probes that once met do not go on meeting.
const JITTER: f64 = 0.1;

/// The check of one endpoint.
pub(super) struct Check {
    endpoint: Arc<Endpoint>,
    health: config::Health,
    publisher: Publisher,
    /// Whether the last probe failed.
    failed: Cell<bool>,
}

impl Check {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        health: &config::Health,
        publisher: &Publisher,
    ) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            health: health.clone(),
            publisher: publisher.clone(),
            failed: Cell::new(false),
        }
    }

    pub(super) async fn run(self, first_within: Duration) {
        let (health, endpoint) = (&self.health, &self.endpoint);
        sleep(health.interval.min(first_within).mul_f64(fastrand::f64())).await;
        let mut threshold =
            Threshold::new(health.fall, health.rise, believed(endpoint.state().health));
        let (mut first, mut is_doubted) = (true, false);
        let mut answered_well = endpoint.metrics.answered_well();
        loop {
            let begun = Instant::now();
            let moves = endpoint.moves();
            let found = match timeout(health.timeout, probe::probe(endpoint, health)).await {
                Ok(found) => found,
                Err(_) => ProbeError::Timeout(health.timeout).into(),
            };
            endpoint
                .metrics
                .check
                .observe(begun.elapsed().as_secs_f64());
            match found.verdict {
                // Our own trouble says nothing of the endpoint.
                Err(ProbeError::Connect(error)) if is_own_shortage(&error) => {
                    warn!(upstream = %endpoint.upstream(), endpoint = %endpoint.name(), %error, "endpoint cannot be checked");
                }
                // Its name led elsewhere meanwhile: this is of another machine. A summons waits.
                _ if endpoint.moves() != moves => {}
                result => {
                    // Before it is let in: nobody is to be sent where other code runs than is thought.
                    let is_other = self.note_version(found.version, result.is_ok());
                    if is_doubted {
                        endpoint.doubt_settled(is_other);
                    }
                    let is_role_other = self.note_role(found.role, result.is_ok(), begun);
                    let concerns_picks = is_other || is_role_other;
                    let is_gone = self.judge(&mut threshold, result, (begun, concerns_picks));
                    if (is_role_other || is_gone)
                        && let Some(upstream) = self.upstream()
                    {
                        upstream.summon_others(endpoint);
                    }
                }
            }
            let state = endpoint.state();
            let answers = endpoint.metrics.answered_well();
            let pause = if threshold.is_changing() || state.part.is_vacant {
                health.fast_interval
            } else if first {
                // From the second on they are spread over the whole interval.
                health.interval.mul_f64(fastrand::f64())
            } else if state.health == Health::Up
                && state.ejected.is_none()
                && answers > answered_well
            {
                // Clients' requests have shown that it is well.
                health.busy_interval
            } else {
                health.interval
            };
            answered_well = answers;
            first = false;
            let pause = pause.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0));
            is_doubted = tokio::select! {
                () = sleep_until(begun + pause) => false,
                () = endpoint.doubted() => true,
                // However often roles change, checks come no closer than those of an endpoint that does.
                () = async {
                    endpoint.summoned().await;
                    sleep_until(begun + health.fast_interval).await;
                } => false,
            };
        }
    }

    /// Takes note of what a probe that was begun then has found of its role. What answers badly and does not say it may be a page
    /// of something before the application. Returns whether it is another one.
    fn note_role(
        &self,
        found: Option<Result<Box<str>, String>>,
        is_well: bool,
        begun: Instant,
    ) -> bool {
        let said = match found {
            Some(Ok(role)) => Said::Role(role, begun.into_std()),
            Some(Err(why)) if is_well => Said::Nothing(why.into()),
            Some(Err(_)) | None => return false,
        };
        self.endpoint.hear_role(said)
    }

    /// The upstream of its endpoint, as it is now; `None`: gone.
    fn upstream(&self) -> Option<Arc<Upstream>> {
        let snapshot = self.publisher.current();
        let name = self.endpoint.upstream();
        let mut upstreams = snapshot.upstreams.iter();
        upstreams.find(|other| other.name == *name).cloned()
    }

    /// Takes note of the version that a probe has found. Returns whether it is another one. What answers badly may be a page of
    /// something before the application, which need not say it.
    fn note_version(&self, found: Option<Result<AppVersion, String>>, is_well: bool) -> bool {
        match found {
            Some(Ok(version)) => self.endpoint.set_version(Runs::Version(version)),
            Some(Err(why)) if is_well => self.endpoint.set_version(Runs::Unknown(why.into())),
            Some(Err(_)) | None => false,
        }
    }

    /// `concerns_picks`: the same probe has found another version, or another role. Returns whether who has said its role until
    /// now is not there any more.
    fn judge(
        &self,
        threshold: &mut Threshold,
        result: Result<(), ProbeError>,
        (begun, mut concerns_picks): (Instant, bool),
    ) -> bool {
        let endpoint = &self.endpoint;
        let state = endpoint.state();
        match &result {
            Ok(()) => endpoint.metrics.checks_passed.inc(),
            Err(_) => endpoint.metrics.checks_failed.inc(),
        }
        let next = match &result {
            Ok(()) => {
                let risen = threshold.observe(true).is_some();
                (risen || state.health == Health::Unchecked).then_some(Health::Up)
            }
            Err(ProbeError::Draining) => {
                threshold.leave();
                Some(Health::Draining)
            }
            Err(error) => {
                let fallen = threshold.observe(false).is_some();
                failed(state.health, error.evidence(), fallen)
            }
        };
        let is_surely_gone = result.as_ref().is_err_and(ProbeError::is_surely_gone);
        let reason = result.as_ref().err().map(ToString::to_string);
        self.note(reason.as_deref());
        if let Some(ejection) = state.ejected
            && result.is_ok()
            && begun.into_std() >= ejection.begun
        {
            ejector::take_back(endpoint, Return::Check);
            concerns_picks = true;
        }
        match next {
            Some(health) if health != state.health => {
                if endpoint.set_health(health, reason.clone()) {
                    self.announce(health, &reason.unwrap_or_default());
                }
                concerns_picks = true;
            }
            Some(_) | None => {
                let reason = match (reason, threshold.progress()) {
                    (Some(reason), Some(progress)) => Some(format!("{progress}: {reason}")),
                    (reason, progress) => reason.or(progress),
                };
                endpoint.set_health(state.health, reason);
            }
        }
        let is_gone = is_surely_gone && self.note_gone();
        if (concerns_picks || is_gone)
            && let Some(upstream) = self.upstream()
        {
            upstream.refresh();
        }
        is_gone
    }

    /// Takes note that nobody is there who could have a role, as soon as checks agree on it. What it claims later counts, whether
    /// it has risen by then or not. Returns whether that is news.
    fn note_gone(&self) -> bool {
        let agrees = |state: &crate::upstream::state::State| {
            matches!(state.health, Health::Down(_)) && state.part.said != Said::Unasked
        };
        self.endpoint.look(agrees) && self.endpoint.hear_role(Said::Gone)
    }

    /// Says what checks have changed.
    fn announce(&self, health: Health, reason: &str) {
        let (upstream, endpoint) = (self.endpoint.upstream(), self.endpoint.name());
        let metrics = &self.endpoint.metrics;
        match health {
            Health::Up => {
                metrics.to_up.inc();
                info!(%upstream, %endpoint, "endpoint up");
            }
            Health::Draining => {
                metrics.to_draining.inc();
                info!(%upstream, %endpoint, "endpoint asks for no new requests");
            }
            Health::Down(evidence) => {
                metrics.to_down.inc();
                warn!(%upstream, %endpoint, reason, evidence = evidence.as_str(), "endpoint down");
            }
            Health::Unknown | Health::Unchecked => {}
        }
    }

    /// Notes a failure, and the first pass after one.
    fn note(&self, reason: Option<&str>) {
        let journal = self.endpoint.journal();
        match reason {
            Some(reason) => journal.note(Fact::Probe(Err(reason.into()))),
            None if self.failed.get() => journal.note(Fact::Probe(Ok(()))),
            None => {}
        }
        self.failed.set(reason.is_some());
    }
}

/// What is to be believed after a failure. `fallen`: it was one too many.
fn failed(known: Health, evidence: Evidence, fallen: bool) -> Option<Health> {
    match known {
        // Who asked to be left alone is, until it passes again or is gone.
        Health::Draining => (evidence == Evidence::Hard).then_some(Health::Down(evidence)),
        Health::Down(_) => Some(Health::Down(evidence)),
        Health::Unchecked | Health::Unknown | Health::Up => {
            fallen.then_some(Health::Down(evidence))
        }
    }
}

/// What checks that begin now have to go on from: a check that was changed keeps what the one before it found, and who was in
/// use while nobody checked is taken to be up.
fn believed(health: Health) -> Option<bool> {
    match health {
        Health::Up | Health::Unchecked => Some(true),
        Health::Down(_) => Some(false),
        Health::Unknown | Health::Draining => None,
    }
}
