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
    /// Whether it cannot be told anything any more.
    pub(super) is_deaf: bool,
    /// What it has been told was counted.
    pub(super) told: Totals,
    /// The last word about modes that this process has heard.
    pub(in crate::daemon) heard: u64,
    /// How it has ended, once that is known.
    pub(super) ended: Option<Ended>,
}

/// How a process has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// With exit code 0: it was told to, or has handed over itself.
    Well,
    /// Any other way.
    Lost,
}

/// What is known of the new process once it serves.
struct Serving {
    version: String,
    generation: u64,
    keeps_admin_socket: bool,
    told: Totals,
}

impl Conversation {
    /// Has it. Fails with what to tell the operator.
    pub(super) fn hold(mut self) -> Result<Successor, String> {
        match self.speak() {
            Ok(serving) => Ok(Successor {
                pid: self.child.id(),
                version: serving.version,
                generation: serving.generation,
                keeps_admin_socket: serving.keeps_admin_socket,
                channel: self.channel,
                is_deaf: false,
                told: serving.told,
                heard: 0,
                ended: None,
            }),
            Err(why) => {
                let ended = self.end(why.is_none());
                Err(why.unwrap_or_else(|| {
                    format!("the new process ended ({ended}) before it served; what it said is in the log of this one")
                }))
            }
        }
    }

    /// Fails with `None` where the new process just ended.
    fn speak(&self) -> Result<Serving, Option<String>> {
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
        // To end it now, where it may accept already, costs connections: the time it took to get ready does not count.
        self.channel
            .set_patience(Some(SERVE_WITHIN))
            .and_then(|()| self.channel.send(&take))
            .map_err(|error| Some(self.trouble(&error)))?;
        match self.answer(Instant::now() + SERVE_WITHIN)? {
            FromNew::Serving {
                generation,
                keeps_admin_socket,
            } => Ok(Serving {
                version,
                generation,
                keeps_admin_socket,
                told,
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
                let limit = self.timeout;
                format!(
                    "the new process was not ready within {limit:?}, or did not serve within {SERVE_WITHIN:?} from then on"
                )
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

/// What is left to do for one that is ready, on a machine that is very busy.
const SERVE_WITHIN: Duration = Duration::from_secs(30);
const OUT_OF_TURN: &str = "the new process spoke out of turn";
/// A process that has closed its end of the socket ends by itself in this time; another one is ended.
const END_WITHIN: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::thread;

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    use super::*;

    #[test]
    fn regression_process_that_got_ready_in_time_has_time_of_its_own_to_serve() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let timeout = Duration::from_millis(1000);
        let new = thread::spawn(move || {
            let channel = Channel::over(theirs);
            let version = "0".to_owned();
            channel
                .send(&Hello {
                    format: FORMAT,
                    version,
                })
                .unwrap();
            channel.receive::<Heritage>().unwrap().unwrap();
            channel.send(&FromNew::Ready {}).unwrap();
            channel.receive::<FromOld>().unwrap().unwrap();
            thread::sleep(timeout + Duration::from_millis(100));
            let serving = FromNew::Serving {
                generation: 2,
                keeps_admin_socket: false,
            };
            // Not read where it is given up by then.
            let _ = channel.send(&serving);
        });
        // Ends once its standard input does.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let _input = child.stdin.take();
        let conversation = Conversation {
            child,
            channel: Channel::over(ours),
            heritage: Heritage {
                format: FORMAT,
                pid: 1,
                generation: 1,
                sockets: Vec::new(),
                admin_socket: None,
                history: Vec::new(),
                wishes: Vec::new(),
                sets: Vec::new(),
                flips: Vec::new(),
                endpoints: Vec::new(),
                last_id: 0,
                ids: Default::default(),
                peaks: Vec::new(),
                skews: Vec::new(),
                authorities: Vec::new(),
                given_up: None,
                tickets: None,
                own_secret: None,
            },
            descriptors: Vec::new(),
            metrics: Arc::new(Metrics::new()),
            timeout,
        };
        let mut successor = conversation.hold().unwrap();
        assert_eq!(successor.generation, 2);
        assert!(!successor.is_lost());
        new.join().unwrap();
        let pid = Pid::from_raw(i32::try_from(successor.pid).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), seen).unwrap();
        assert!(successor.is_lost());
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        assert!(status.unwrap().is_some(), "left to whoever comes after");
        assert!(successor.is_lost(), "which changes nothing");
    }
}
