//! Takes a reload back that made things worse: counts failures before and after, and where they have clearly become more, the
//! file from before is taken over again, once, and loudly.

mod judge;
mod tally;
mod trials;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use self::tally::Tally;
pub(super) use self::trials::Trials;
use self::trials::{Outcome, Verdict};
use super::Daemon;
use super::reload::Cause;
use crate::admin::command::{Operator, Refused};
use crate::admin::history::Accepted;
use crate::config::{Config, ConfigErrors};
use crate::lock::lock;
use crate::metrics::Metrics;

/// Counts from time to time.
pub(super) struct Counting {
    last: Instant,
    /// A count under way: with many series it takes a moment.
    counting: Option<JoinHandle<Tally>>,
}

impl Counting {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            counting: None,
        }
    }

    /// The counts, when it is time for them; never where `config` asks for no rollback. What is dropped while it waits goes on
    /// where it was.
    pub(super) async fn next(
        &mut self,
        config: &Config,
        trials: &Trials,
        metrics: &Arc<Metrics>,
    ) -> Tally {
        loop {
            if let Some(counting) = &mut self.counting {
                let counted = counting.await;
                self.counting = None;
                self.last = Instant::now();
                if let Ok(counted) = counted {
                    return counted;
                }
            }
            match &config.process.auto_rollback {
                Some(limits) => sleep_until(trials.next(self.last, limits)).await,
                None => std::future::pending().await,
            }
            self.counting = Some(count(metrics));
        }
    }
}

fn count(metrics: &Arc<Metrics>) -> JoinHandle<Tally> {
    let metrics = Arc::clone(metrics);
    tokio::task::spawn_blocking(move || Tally::take(&metrics))
}

/// A file that was rolled back.
#[derive(Clone, Debug)]
pub(super) struct GivenUp {
    text: Arc<str>,
    why: String,
}

impl GivenUp {
    /// As one process tells another.
    pub(super) fn told(&self) -> (String, String) {
        (self.text.to_string(), self.why.clone())
    }

    pub(super) fn heard((text, why): (String, String)) -> Self {
        Self {
            text: text.into(),
            why,
        }
    }

    /// Why a reload does not take `config` once more, if it is this.
    pub(super) fn refuses(&self, config: &Config) -> Option<String> {
        let why = &self.why;
        let is_it = self.text == config.text.0;
        is_it.then(|| format!("{why}; change the file, or insist: `balancer reload --force`"))
    }
}

impl Daemon {
    /// Before the first request, so that every one counts.
    pub(super) fn count_from_now(&mut self) {
        if let Some(limits) = &self.config.process.auto_rollback {
            let tally = Tally::take(&self.metrics);
            let limits = (limits, patience(&self.config));
            self.trials.look(Instant::now(), tally, limits);
        }
    }

    /// Counts before a reload, where what comes of it is watched, and says what is in use.
    pub(super) async fn count_before(&self) -> Option<(Tally, Accepted)> {
        self.config.process.auto_rollback.as_ref()?;
        let tally = count(&self.metrics).await.ok()?;
        let history = lock(&self.admin.history);
        Some((tally, history.current()?.clone()))
    }

    /// A reload has taken another file over. It is on trial where it is known how it was `before` and the file asks for that.
    pub(super) fn put_on_trial(&mut self, before: Option<(Tally, Accepted)>, is_from_file: bool) {
        let text = &self.config.text.0;
        match (before, &self.config.process.auto_rollback) {
            // The same file as before: certificates may be others, and there is nothing to go back to.
            (Some((_, from)), Some(_)) if from.text == *text => {}
            (Some((then, from)), Some(_)) => self.trials.begin(Instant::now(), then, from, text),
            _ => self.trials.forget(),
        }
        // Another file has been tried since, or somebody insists on this one.
        let given_up = self.given_up.take();
        self.given_up = given_up.filter(|it| !is_from_file && it.text != self.config.text.0);
    }

    /// A file that was rolled back is not taken again unasked: whoever sends a signal need not know of it.
    pub(super) fn refuse_given_up(&self, config: &Config) -> Result<(), ConfigErrors> {
        let given_up = self.given_up.as_ref();
        match given_up.and_then(|given_up| given_up.refuses(config)) {
            Some(message) => Err(ConfigErrors::of_file(&self.path, message)),
            None => Ok(()),
        }
    }

    /// Looks at what was counted, and goes back where it tells to.
    pub(super) async fn judge(&mut self, tally: Tally) {
        let Some(limits) = &self.config.process.auto_rollback else {
            self.trials.forget();
            return;
        };
        let limits = (limits, patience(&self.config));
        match self.trials.look(Instant::now(), tally, limits) {
            Outcome::Open => {}
            Outcome::Kept(before, after) => {
                let generation = self.publisher.current().generation;
                info!(
                    generation,
                    requests = after.requests,
                    failed = after.errors,
                    requests_before = before.requests,
                    failed_before = before.errors,
                    "configuration kept"
                );
            }
            Outcome::Unclear(before, after) => {
                let generation = self.publisher.current().generation;
                info!(
                    generation,
                    requests = after.requests,
                    failed = after.errors,
                    requests_before = before.requests,
                    failed_before = before.errors,
                    "not enough requests to tell whether the configuration is worse; it stays"
                );
            }
            Outcome::Worse(verdict) => self.give_up(verdict).await,
        }
    }

    async fn give_up(&mut self, verdict: Verdict) {
        let why = verdict.to_string();
        let back_to = verdict.back_to.generation;
        let given_up = self.publisher.current().generation;
        let before = Arc::clone(&self.config.text.0);
        let cause = Cause::AutoRollback(verdict.back_to, why.clone());
        let outcome = self.reload(cause).await;
        let refused = match outcome {
            Ok(reloaded) => {
                let generation = reloaded.generation;
                error!(generation, given_up, back_to, %why, "configuration rolled back automatically; the file still holds what failed");
                self.metrics.config_auto_rollbacks.inc();
                let why = format!("rolled back automatically from generation {given_up}: {why}");
                self.given_up = Some(GivenUp { text: before, why });
                None
            }
            Err(problems) => {
                error!(given_up, back_to, %why, %problems, "configuration fails, and the one before cannot be taken over again");
                Some(Refused::Config(problems))
            }
        };
        let target = given_up.to_string();
        self.note(ourselves(), ("auto-rollback", &target), refused.as_ref());
    }
}

/// As long as a request may wait for its response before it has failed.
fn patience(config: &Config) -> Duration {
    let upstreams = config.upstreams.iter().map(|it| it.timeouts.response_head);
    let routes = config
        .routes
        .iter()
        .filter_map(|it| it.timeouts.response_head);
    let longest = upstreams.chain(routes).max();
    longest.unwrap_or_default().min(LONGEST_PATIENCE)
}

const LONGEST_PATIENCE: Duration = Duration::from_secs(3600); // as the longest window

/// Who acts where nobody has asked.
fn ourselves() -> Operator {
    Operator::User {
        uid: rustix::process::geteuid().as_raw(),
        pid: Some(rustix::process::getpid().as_raw_nonzero().get()),
    }
}
