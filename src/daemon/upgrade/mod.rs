//! Another process takes the place of this one: a newer program, or the same with a clean memory. It gets the listening sockets
//! themselves, so that no connection is refused or reset, and what is known of endpoints; this one goes on until that one
//! serves, and then finishes what it has.
//!
//! This process starts the new one, as its child: it runs as the same user, in the same service and with the same limits.

mod conversation;
mod heir;
mod manager;
mod message;

use std::ffi::OsStr;
use std::future::{pending, ready};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, geteuid, kill_process, waitid};
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{error, info, warn};

pub(super) use self::conversation::Successor;
use self::conversation::{Conversation, Ended};
pub(super) use self::heir::{Heir, RolledBackTo};
pub(super) use self::manager::Manager;
pub(super) use self::message::Modes;
use self::message::{FORMAT, File, FromNew, FromOld, Heritage, Socket};
use super::Daemon;
use super::auto_rollback::GivenUp;
use super::in_time::{PATIENCE, in_time};
use super::operate::tried;
use super::wishes::Wishes;
use crate::admin::before::{Busy, Left};
use crate::admin::command::{Operator, Refused, Reply};
use crate::admin::takeover::{Upgraded, Wanted};
use crate::config::{ConfigErrors, Problem};
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::metrics::totals::Totals;
use crate::net::pass::Channel;
use crate::snapshot::Snapshot;
use crate::snapshot::plan::Side;
use crate::snapshot::plan::consequences::Consequences;
use crate::units::unix_millis;
use crate::upstream::EndpointId;
use crate::worker;

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    by: Operator,
    reply: Reply<Upgraded>,
    pid: u32,
    channel: Channel,
    outcome: oneshot::Receiver<Result<Successor, String>>,
}

impl Upgrade {
    /// Waits for what comes of it; for ever where there is none under way.
    pub(super) async fn outcome(upgrade: &mut Option<Self>) -> Result<Successor, String> {
        match upgrade {
            Some(upgrade) => (&mut upgrade.outcome)
                .await
                .unwrap_or_else(|_| Err("the thread that saw to it was lost".to_owned())),
            None => pending().await,
        }
    }

    /// This process ends first: the new one shall not go on, and is waited for where that is soon.
    pub(super) async fn abandon(self) {
        self.channel.close();
        let _ = timeout(ABANDON_WITHIN, self.outcome).await;
    }
}

impl Daemon {
    /// Starts what `by` wants to take over; what comes of it comes later, and goes to `reply`.
    pub(super) async fn begin_upgrade(
        &mut self,
        by: Operator,
        wanted: Wanted,
        reply: Reply<Upgraded>,
    ) {
        match self.try_begin(by, &wanted).await {
            Ok((pid, channel, outcome)) => {
                info!(pid, uid = by.uid(), timeout = ?wanted.timeout, "upgrade begun");
                self.admin.set_starting(Some(pid));
                let told = json!({ "result": "begun", "pid": pid });
                self.admin.events.publish("upgrade", told);
                self.upgrade = Some(Upgrade {
                    by,
                    reply,
                    pid,
                    channel,
                    outcome,
                });
            }
            Err(refused) => {
                self.note(by, ("upgrade", ""), Some(&refused));
                // Who has left need not be told.
                let _ = reply.send(Err(refused));
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "the parts of an Upgrade")]
    async fn try_begin(
        &self,
        by: Operator,
        wanted: &Wanted,
    ) -> Result<(u32, Channel, oneshot::Receiver<Result<Successor, String>>), Refused> {
        may(by.uid(), geteuid().as_raw())?;
        if let Some(upgrade) = &self.upgrade {
            let pid = upgrade.pid;
            return Err(Refused::Conflict(format!(
                "an upgrade is under way: process {pid} is about to take over"
            )));
        }
        if std::process::id() == 1 {
            let why = "this balancer is process 1: its container ends when it does; start a new container instead";
            return Err(Refused::Conflict(why.to_owned()));
        }
        if let Some(follows) = self.manager.follows_only_this().filter(|_| !wanted.force) {
            return Err(Refused::Conflict(follows.to_owned()));
        }
        if !wanted.force {
            self.refuse_as_a_reload().await?;
        }
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Refused::Failed(format!("{what}: {error}"));
        let Some(binary) = wanted.binary.as_ref().or(self.binary.as_ref()) else {
            let why = "it is not known what this process was started from; say --binary";
            return Err(Refused::Conflict(why.to_owned()));
        };
        let lent = self.lend().await;
        let lent = lent.map_err(|error| failed("sockets cannot be passed on", &error))?;
        let prepared = self.heritage(lent);
        let (heritage, descriptors) =
            prepared.map_err(|error| failed("sockets cannot be passed on", &error))?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| failed("no socket for the new process", &error))?;
        let child = Command::new(binary)
            .arg("--config")
            .arg(&self.path)
            .arg("run")
            .env(heir::VARIABLE, std::process::id().to_string())
            // Of this process alone.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(|error| {
                Refused::Failed(format!("{} cannot be started: {error}", binary.display()))
            })?;
        let pid = child.id();
        let channel = Channel::over(ours);
        let copy = Channel::clone_of(&channel);
        let conversation = Conversation {
            child,
            channel,
            heritage,
            descriptors,
            metrics: Arc::clone(&self.metrics),
            timeout: wanted.timeout,
        };
        let (sender, outcome) = oneshot::channel();
        let hold = move || {
            // Nobody is left to be told where this process ends first.
            let _ = sender.send(conversation.hold());
        };
        let copy = copy.and_then(|copy| {
            std::thread::Builder::new()
                .name("upgrade".to_owned())
                .spawn(hold)?;
            Ok(copy)
        });
        let copy = copy.map_err(|error| failed("no thread for the upgrade", &error))?;
        Ok((pid, copy, outcome))
    }

    /// Refuses a file by which nobody of an upstream would be left, or requests go to another set unasked, as a reload does. Whatever
    /// else may be wrong with it the new process finds, which may know more of it.
    async fn refuse_as_a_reload(&self) -> Result<(), ConfigErrors> {
        if self.goes_on_from_earlier() {
            return Ok(());
        }
        let (path, mut wishes) = (self.path.clone(), self.wishes.clone());
        let current = self.publisher.current();
        let look = move || {
            let (config, compiled) = tried(&path, &current, &mut wishes).ok()?;
            let side = Side {
                config: &config,
                snapshot: &compiled.snapshot,
            };
            Some(Consequences::between(&current, side).refusals())
        };
        let found: Option<Vec<Problem>> = in_time(PATIENCE, look).await.unwrap_or_default();
        match found {
            Some(problems) if !problems.is_empty() => Err(ConfigErrors(problems)),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the new process goes on with an earlier file, which is in use, whatever the file says by now.
    fn goes_on_from_earlier(&self) -> bool {
        let history = lock(&self.admin.history);
        let current = history.current();
        current.is_some_and(|current| current.by.is_back())
    }

    /// What an upgrade came to. The process that serves now, where one does: this one has nothing to do but to finish.
    pub(super) async fn end_upgrade(
        &mut self,
        outcome: Result<Successor, String>,
    ) -> Option<Successor> {
        let upgrade = self.upgrade.take()?;
        let told = match &outcome {
            Ok(successor) => {
                // From here on it is the one that counts, and may say so.
                self.notify.hand_over(successor.pid);
                json!({ "result": "done", "pid": successor.pid, "version": successor.version, "generation": successor.generation })
            }
            Err(why) => {
                error!(
                    pid = upgrade.pid,
                    why, "upgrade failed; this process goes on"
                );
                json!({ "result": "failed", "pid": upgrade.pid, "problems": why })
            }
        };
        self.admin.events.publish("upgrade", told);
        self.admin.set_starting(None);
        let (answer, successor) = match outcome {
            Ok(successor) => {
                let upgraded = Upgraded {
                    pid: successor.pid,
                    version: successor.version.clone(),
                    generation: successor.generation,
                    previous_pid: std::process::id(),
                    draining: self.connections(),
                };
                info!(pid = successor.pid, version = successor.version, "upgraded");
                (Ok(upgraded), Some(successor))
            }
            Err(why) => (Err(Refused::Failed(why)), None),
        };
        self.note(upgrade.by, ("upgrade", ""), answer.as_ref().err());
        if let Some(successor) = &successor {
            self.doors.leave(&self.admin, successor.keeps_admin_socket);
            self.accept_nothing_more().await;
        }
        let _ = upgrade.reply.send(answer);
        successor
    }

    /// Returns when every connection from now on is the other process's: who is told that it serves finds that it does.
    async fn accept_nothing_more(&self) {
        let asked: Vec<_> = self
            .workers
            .iter()
            .map(|worker| {
                let (answer, answered) = oneshot::channel();
                worker.tell(worker::Command::Drain);
                worker.tell(worker::Command::Answer(answer));
                answered
            })
            .collect();
        let all = async {
            for answered in asked {
                // One that has ended accepts nothing.
                let _ = answered.await;
            }
        };
        // One that is stuck accepts nothing either.
        let _ = timeout(LEAVE_WITHIN, all).await;
    }

    /// Copies of the workers' sockets.
    async fn lend(&self) -> io::Result<Vec<(u32, TcpListener)>> {
        let mut lent = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            worker.tell(worker::Command::Lend(reply));
            let sockets = timeout(LEND_WITHIN, answer).await;
            let silent = || io::Error::other("a worker does not answer");
            lent.extend(sockets.map_err(|_| silent())?.map_err(|_| silent())??);
        }
        Ok(lent)
    }

    fn heritage(&self, lent: Vec<(u32, TcpListener)>) -> io::Result<(Heritage, Vec<OwnedFd>)> {
        let snapshot = self.publisher.current();
        let mut sockets = Vec::new();
        let mut descriptors = Vec::new();
        for (slot, socket) in lent {
            // A listener that was removed a moment ago goes with this process.
            if let Some(index) = snapshot.listener_index(slot) {
                let listener = &snapshot.listeners[index];
                sockets.push(Socket {
                    listener: Some(listener.name.to_string()),
                    address: listener.address,
                });
                descriptors.push(socket.into());
            }
        }
        if let Some(listener) = &self.doors.tcp {
            sockets.push(Socket {
                listener: None,
                address: self.config.admin.address,
            });
            descriptors.push(listener.try_clone()?.into());
        }
        let admin_socket = self.doors.path().map(PathBuf::from);
        if let Some((_, listener)) = &self.doors.unix {
            descriptors.push(listener.try_clone()?.into());
        }
        let history = lock(&self.admin.history);
        let endpoints = snapshot.upstreams.iter().flat_map(|it| &it.endpoints);
        let heritage = Heritage {
            format: FORMAT,
            pid: std::process::id(),
            generation: snapshot.generation,
            sockets,
            admin_socket,
            history: history
                .all()
                .map(|accepted| File {
                    generation: accepted.generation,
                    origin: accepted.origin,
                    text: accepted.text.to_string(),
                    files: accepted.files.clone(),
                    at: accepted.at,
                    by: accepted.by,
                })
                .collect(),
            wishes: self.wishes.list(),
            sets: self.wishes.sets(),
            flips: self.flips.hand_over(),
            endpoints: endpoints.map(|endpoint| endpoint.remember()).collect(),
            last_id: EndpointId::last(),
            ids: self.admin.ids(),
            peaks: snapshot
                .upstreams
                .iter()
                .map(|it| (it.name.to_string(), it.peaks.remember()))
                .collect(),
            skews: skews(&snapshot),
            authorities: authorities(&snapshot),
            given_up: self.given_up.as_ref().map(GivenUp::told),
            tickets: self.compiler.as_ref().map(|it| it.tickets.secrets()),
            own_secret: self
                .compiler
                .as_ref()
                .and_then(|it| it.own_secret.get().cloned()),
        };
        Ok((heritage, descriptors))
    }
}

/// Upstreams of which one endpoint serves and no other, and who that is; `None`: nobody.
pub(super) type Seats = Vec<(String, Option<String>)>;

/// Those of `snapshot`.
pub(super) fn seats(snapshot: &Snapshot) -> Seats {
    let upstreams = snapshot.upstreams.iter();
    let seats = upstreams.filter_map(|upstream| {
        let holder = upstream.incumbent()?.endpoint;
        Some((upstream.name.to_string(), holder.map(|it| it.to_string())))
    });
    seats.collect()
}

/// Which endpoints are authorities.
fn authorities(snapshot: &Snapshot) -> Vec<(String, String)> {
    let upstreams = snapshot.upstreams.iter();
    let held = upstreams.filter_map(|upstream| {
        let endpoint = upstream.incumbent()?.endpoint?;
        Some((upstream.name.to_string(), endpoint.to_string()))
    });
    held.collect()
}

/// Since when which upstreams serve more than one version.
fn skews(snapshot: &Snapshot) -> Vec<(String, u64)> {
    let upstreams = snapshot.upstreams.iter();
    let skews = upstreams.filter_map(|upstream| {
        let since = upstream.versions.skew_since()?;
        Some((upstream.name.to_string(), unix_millis(since)))
    });
    skews.collect()
}

impl Daemon {
    /// Does with endpoints what the process that serves now wants, and takes who it says for authorities: requests come here yet, over connections that are open.
    pub(super) fn obey_successor(&self, told: &Modes) {
        let Modes {
            modes, sets, seats, ..
        } = told;
        let wanted = Wishes::listed(modes);
        let snapshot = self.publisher.current();
        for upstream in &snapshot.upstreams {
            for endpoint in &upstream.endpoints {
                if let Some(mode) = wanted.of(endpoint.upstream(), endpoint.name()) {
                    endpoint.set_mode(mode);
                }
            }
            if let Some((_, holder)) = seats.iter().find(|(name, _)| **name == *upstream.name) {
                upstream.obey_seat(holder.as_deref());
            }
            upstream.refresh();
            if let Some(serving) = sets.iter().find(|it| *it.upstream == *upstream.name) {
                let next = serving.next.as_ref();
                upstream.obey(&serving.set, next.map(|(set, percent)| (&**set, *percent)));
            }
        }
        for worker in &self.workers {
            // Idle connections to endpoints that are out are closed.
            worker.tell(worker::Command::Follow);
        }
        self.tell_modes();
    }

    /// What is left here, and in processes before this one. `heard`: the last word about modes, which counts once those know it
    /// too.
    pub(super) fn left(&self, heard: u64) -> Left {
        let mut left = self.admin.left_before().unwrap_or_default();
        left.connections += self.connections();
        left.heard = if self.admin.before_has_heard() {
            heard
        } else {
            0
        };
        let snapshot = self.publisher.current();
        let endpoints = snapshot.upstreams.iter().flat_map(|it| &it.endpoints);
        let all = endpoints.cloned().chain(self.admin.leaving.all());
        let busy = all.filter(|endpoint| endpoint.in_flight() > 0);
        left.busy.extend(busy.map(|endpoint| Busy {
            id: endpoint.id().get(),
            upstream: endpoint.upstream().to_string(),
            endpoint: endpoint.name().to_string(),
            address: endpoint.address().to_string(),
            in_flight: endpoint.in_flight(),
            tunnels: endpoint.metrics.tunnels.get(),
        }));
        left
    }
}

impl Successor {
    /// A reload that was asked for meanwhile by signal is the new process's to do: it may have read its file before.
    pub(super) async fn pass_on(&self, hangup: &mut Signal) {
        let is_waiting = tokio::select! {
            biased;
            _ = hangup.recv() => true,
            () = ready(()) => false,
        };
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| is_waiting) {
            // One that has ended by now needs no reload.
            let _ = kill_process(pid, rustix::process::Signal::HUP);
        }
    }

    /// Hears what it says of endpoints, on a thread of its own.
    pub(super) fn hear(&self) -> mpsc::UnboundedReceiver<Modes> {
        let (sender, heard) = mpsc::unbounded_channel();
        let listen = Channel::clone_of(&self.channel).and_then(|channel| {
            channel.set_patience_to_write(TELL_WITHIN)?;
            let hear = move || {
                while let Ok(Some(FromNew::Modes(modes))) = channel.receive() {
                    if sender.send(modes).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("successor".to_owned());
            thread.spawn(hear)
        });
        if let Err(error) = listen {
            warn!(%error, "what the process that serves now wants of endpoints cannot be heard");
        }
        heard
    }

    /// How it has ended, where it has. Says so in the log, once. It is not reaped: whoever this process leaves it to, such as a
    /// service manager that has it for the main process, shall see how it ended.
    fn ended(&mut self) -> Option<Ended> {
        if self.ended.is_some() {
            return self.ended;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Of one that cannot be waited for nothing is known.
        let status = waitid(WaitId::Pid(pid), look).ok().flatten()?;
        self.ended = Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => {
                info!(self.pid, "the process that served has ended");
                Ended::Well
            }
            (code, signal) => {
                error!(
                    self.pid,
                    code,
                    signal,
                    "the process that took over is lost; nobody accepts connections, and this one ends soon"
                );
                Ended::Lost
            }
        });
        self.ended
    }

    /// Whether it has ended, and not as it should.
    pub(super) fn is_lost(&mut self) -> bool {
        self.ended() == Some(Ended::Lost)
    }

    /// Tells it that nothing is in flight here any more, cut or not, and what has been counted since the last time.
    pub(super) fn tell_the_end(&mut self, metrics: &Metrics) {
        let left = Left {
            heard: self.heard,
            ..Left::default()
        };
        self.tell(left, metrics);
    }

    /// Tells it what is left here, and what has been counted since the last time.
    pub(super) fn tell(&mut self, left: Left, metrics: &Metrics) {
        if self.is_deaf || self.ended().is_some() {
            return;
        }
        let counted = Totals::of(metrics);
        let totals = counted.since(&self.told);
        self.told = counted;
        let told = self.channel.send(&FromOld::Left { left, totals });
        if let Err(error) = told {
            self.is_deaf = true;
            warn!(%error, "the process that serves now cannot be told what is left here");
        }
    }
}

/// What this process was started from, as it was named: a link may lead elsewhere by now, a file may be another one.
pub(super) fn own_binary() -> Option<PathBuf> {
    let named = PathBuf::from(std::env::args_os().next()?);
    if named.components().count() > 1 {
        return std::path::absolute(named).ok();
    }
    let running = std::env::current_exe().ok();
    let searched = std::env::var_os("PATH").unwrap_or_default();
    let found = running
        .as_deref()
        .and_then(|running| found(&named, &searched, running));
    found.or(running)
}

/// Where the search path leads to what runs, `running`, by the name `named`.
fn found(named: &Path, searched: &OsStr, running: &Path) -> Option<PathBuf> {
    std::env::split_paths(searched)
        .filter_map(|folder| std::path::absolute(folder.join(named)).ok())
        .find(|path| path.canonicalize().is_ok_and(|it| it == running))
}

/// Who may decide what runs in the place of this process: who could have started it, and root.
fn may(uid: Option<u32>, own: u32) -> Result<(), Refused> {
    let who = match uid {
        Some(uid) if uid == own || uid == 0 => return Ok(()),
        Some(uid) => format!("user {uid}"),
        None => "nobody by token".to_owned(),
    };
    Err(Refused::Forbidden(format!(
        "{who} may not upgrade the balancer of user {own}: ask as that one, or as root"
    )))
}

/// A worker gives copies of its sockets at its next turn.
const LEND_WITHIN: Duration = Duration::from_secs(5);
const LEAVE_WITHIN: Duration = Duration::from_secs(1); // a worker that turns takes milliseconds
/// A new process that does not end by itself is ended by then.
const ABANDON_WITHIN: Duration = Duration::from_secs(2);
/// One that reads nothing does not hold up the end.
const TELL_WITHIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_program_found_in_the_search_path_is_the_link_there_and_not_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let [old, other, bin] = ["old", "other", "bin"].map(|name| {
            let path = folder.join(name);
            std::fs::create_dir(&path).unwrap();
            path
        });
        let running = old.join("balancer");
        std::fs::write(&running, "").unwrap();
        // Another program of that name comes first, but it is not the one that runs.
        std::fs::write(other.join("balancer"), "").unwrap();
        std::os::unix::fs::symlink(&running, bin.join("balancer")).unwrap();
        let searched = std::env::join_paths([&other, &bin]).unwrap();
        let found = |name: &str| found(Path::new(name), &searched, &running);
        assert_eq!(found("balancer"), Some(bin.join("balancer")));
        assert_eq!(found("balance"), None);
    }

    #[test]
    fn only_the_own_user_and_root_may_upgrade() {
        assert!(may(Some(1000), 1000).is_ok() && may(Some(0), 1000).is_ok());
        for (uid, own) in [(1001, 1000), (1000, 0), (u32::MAX, 1000)] {
            assert!(matches!(may(Some(uid), own), Err(Refused::Forbidden(_))));
        }
    }
}
