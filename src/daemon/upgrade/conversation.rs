//! The old process's side, on a thread of its own: gives the new one all it has, and waits until that one serves. Whatever goes
//! wrong before, the new process is ended and the old one has lost nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::message::{FORMAT, FromNew, FromOld, Hello, Heritage};
use crate::metrics::Metrics;
use crate::metrics::totals::Totals;
use crate::net::pass::Channel;

/// What is needed for it.
pub(super) struct Conversation {
    pub(super) child: Child,
    pub(super) channel: Channel,
    pub(super) heritage: Heritage,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) timeout: Duration,
}

/// The process that serves now.
#[derive(Debug)]
pub(in crate::daemon) struct Successor {
    /// Its number.
    pub(in crate::daemon) pid: u32,
    pub(super) version: String,
    pub(super) generation: u64,
    pub(in crate::daemon) keeps_admin_socket: bool,
    pub(super) channel: Channel,
    /// What it has been told was counted.
    pub(super) told: Totals,
    /// The last word about modes that this process has heard.
    pub(in crate::daemon) heard: u64,
}

impl Conversation {
    /// Has it. Fails with what to tell the operator.
    pub(super) fn hold(mut self) -> Result<Successor, String> {
        let outcome = self.speak();
        outcome.map_err(|why| {
            let ended = self.end(why.is_none());
            why.unwrap_or_else(|| {
                format!("the new process ended ({ended}) before it served; what it said is in the log of this one")
            })
        })
    }

    /// Fails with `None` where the new process just ended.
    fn speak(&self) -> Result<Successor, Option<String>> {
        let until = Instant::now() + self.timeout;
        let Hello { format, version } = self.receive(until)?;
        if format != FORMAT {
            return Err(Some(format!(
                "balancer {version} takes over in format {format}, and this one hands over in {FORMAT}: restart instead"
            )));
        }
        let sent = self.channel.send(&self.heritage).and_then(|()| {
            let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
            self.channel.send_descriptors(&descriptors)
        });
        // Why it does not listen it may have said.
        match (sent, self.answer(until)?) {
            (Ok(()), FromNew::Ready {}) => {}
            (Ok(()), _) => return Err(Some(OUT_OF_TURN.to_owned())),
            (Err(error), _) => return Err(Some(self.trouble(&error))),
        }
        let told = Totals::of(&self.metrics);
        let take = FromOld::Take {
            totals: told.clone(),
        };
        self.channel
            .send(&take)
            .map_err(|error| Some(self.trouble(&error)))?;
        match self.answer(until)? {
            FromNew::Serving {
                generation,
                keeps_admin_socket,
            } => Ok(Successor {
                pid: self.child.id(),
                version,
                generation,
                keeps_admin_socket,
                channel: Channel::clone_of(&self.channel)
                    .map_err(|error| Some(self.trouble(&error)))?,
                told,
                heard: 0,
            }),
            FromNew::Ready {} | FromNew::Failed { .. } | FromNew::Modes(_) => {
                Err(Some(OUT_OF_TURN.to_owned()))
            }
        }
    }

    /// What the new process says of itself.
    fn answer(&self, until: Instant) -> Result<FromNew, Option<String>> {
        match self.receive(until)? {
            FromNew::Failed { why } => Err(Some(format!("the new process gave up: {why}"))),
            answer @ (FromNew::Ready {} | FromNew::Serving { .. } | FromNew::Modes(_)) => {
                Ok(answer)
            }
        }
    }

    fn receive<T: DeserializeOwned>(&self, until: Instant) -> Result<T, Option<String>> {
        let left = until.saturating_duration_since(Instant::now());
        let received = self
            .channel
            .set_patience(Some(left))
            .and_then(|()| self.channel.receive());
        match received {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(None),
            Err(error) => Err(Some(self.trouble(&error))),
        }
    }

    fn trouble(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("the new process was not ready within {:?}", self.timeout)
            }
            _ => format!("the new process could not be spoken with: {error}"),
        }
    }

    /// Ends the new process, if it does not end by itself where it is about to; says how it did.
    fn end(&mut self, is_about_to: bool) -> String {
        let until = Instant::now()
            + if is_about_to {
                END_WITHIN
            } else {
                Duration::ZERO
            };
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
                Ok(None) | Err(_) => break,
            }
        }
        // One that has ended meanwhile is waited for all the same.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

const OUT_OF_TURN: &str = "the new process spoke out of turn";
/// A process that has closed its end of the socket ends by itself in this time; another one is ended.
const END_WITHIN: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);
