//! The new process's side: is started by the one it takes over from, with a socket to that one as its standard input.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};
use rustix::stdio::dup2_stdin;
use tracing::{error, info, warn};

use super::message::{FORMAT, FromNew, FromOld, Hello, Heritage, Modes, Serving};
use super::{TELL_WITHIN, seats};
use crate::admin::Admin;
use crate::admin::before::Ids;
use crate::admin::history::{Accepted, By, History};
use crate::daemon::auto_rollback::GivenUp;
use crate::daemon::flip::Handed;
use crate::daemon::inherit::{Inherited, Passed, Whose};
use crate::daemon::signals::{Signals, end};
use crate::daemon::wishes::Wishes;
use crate::daemon::{Daemon, owners};
use crate::metrics::Metrics;
use crate::metrics::totals::Totals;
use crate::net::pass::Channel;
use crate::snapshot::plan::ByOperator;
use crate::snapshot::{Publisher, Snapshot};
use crate::tls::TicketSecrets;
use crate::upstream::EndpointId;
use crate::upstream::written::Secret;

/// Says to a process that it takes over, and from whom.
pub(super) const VARIABLE: &str = "BALANCER_TAKES_OVER_FROM";

/// Takes over from another process.
#[derive(Debug)]
pub(in crate::daemon) struct Heir {
    channel: Channel,
    heritage: Rest,
}

/// An earlier file that is in use.
#[derive(Debug)]
pub(in crate::daemon) struct RolledBackTo {
    pub(in crate::daemon) text: String,
    /// The generation whose file it is.
    pub(in crate::daemon) origin: u64,
    pub(in crate::daemon) by: By,
}

/// What is not given to somebody else yet.
struct Rest(Heritage);

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // There are keys in it.
        f.debug_struct("Heritage").finish_non_exhaustive()
    }
}

impl Heir {
    /// Receives everything, where the environment says that there is something.
    pub(in crate::daemon) fn from_environment() -> io::Result<Option<Inherited>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let failed = |error: io::Error| {
            let why = format!("cannot take over from another process: {error}");
            io::Error::new(error.kind(), why)
        };
        receive().map(Some).map_err(failed)
    }

    /// Tells the other process that nothing comes of it.
    pub(in crate::daemon) fn give_up(&self, why: &str) {
        // Without an answer it notices the end.
        let _ = self.channel.send(&FromNew::Failed {
            why: why.to_owned(),
        });
    }

    /// Numbers the endpoints of this process on from the other's: whoever waits for one shall not find another. Before any is
    /// made.
    pub(in crate::daemon) fn number_on(&self) {
        EndpointId::begin_after(self.heritage.0.last_id);
    }

    /// Ticket keys, once.
    pub(in crate::daemon) fn tickets(&mut self) -> Option<TicketSecrets> {
        self.heritage.0.tickets.take()
    }

    /// What cookies of those who have written are signed with there where no file says it, once.
    pub(in crate::daemon) fn own_secret(&mut self) -> Option<Secret> {
        self.heritage.0.own_secret.take()
    }

    /// Whether the other process's admin socket, the file, is the one at `path`.
    fn keeps(&self, path: Option<&Path>) -> bool {
        path.is_some() && self.heritage.0.admin_socket.as_deref() == path
    }

    /// What operators want of endpoints.
    pub(in crate::daemon) fn wishes(&self) -> Wishes {
        Wishes::listed(&self.heritage.0.wishes).with_sets(&self.heritage.0.sets)
    }

    /// The file to go on with, where that is not `file`: one that was rolled back to, unasked or not, is in use until a reload.
    pub(in crate::daemon) fn rolled_back_to(&self, file: &str) -> Option<RolledBackTo> {
        let current = self.heritage.0.history.last()?;
        let is_other = current.by.is_back() && current.text != file;
        is_other.then(|| RolledBackTo {
            text: current.text.clone(),
            origin: current.origin,
            by: current.by,
        })
    }

    /// Flips that are under way, once.
    pub(in crate::daemon) fn flips(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.heritage.0.flips)
    }

    /// A file that is not taken again unasked, once.
    pub(in crate::daemon) fn given_up(&mut self) -> Option<GivenUp> {
        self.heritage.0.given_up.take().map(GivenUp::heard)
    }

    /// The files accepted so far, once.
    pub(in crate::daemon) fn history(&mut self) -> History {
        let files = self.heritage.0.history.drain(..);
        History::restored(files.map(|file| Accepted {
            generation: file.generation,
            origin: file.origin,
            text: file.text.into(),
            files: file.files,
            at: file.at,
            by: file.by,
        }))
    }

    /// Numbers `snapshot`, the first here, on from the other's, and believes what that one knew of endpoints. Before anything
    /// is checked. How that one's endpoints are numbered here.
    pub(in crate::daemon) fn brief(&self, snapshot: &mut Snapshot) -> Ids {
        let Heritage {
            generation,
            endpoints,
            ids: earlier,
            peaks,
            skews,
            authorities,
            ..
        } = &self.heritage.0;
        let mut ids = Ids::new();
        snapshot.generation = generation + 1;
        let known: std::collections::HashMap<_, _> = endpoints
            .iter()
            .map(|known| ((&*known.upstream, &*known.endpoint), known))
            .collect();
        for upstream in &snapshot.upstreams {
            for endpoint in &upstream.endpoints {
                let known = known.get(&(&**endpoint.upstream(), &**endpoint.name()));
                if let Some(known) = known
                    && endpoint.recall(known, upstream.passive.is_some())
                {
                    ids.insert(known.id, endpoint.id().get());
                    let is_it = |(of, name): &&(String, String)| {
                        **of == *upstream.name && **name == **endpoint.name()
                    };
                    if authorities.iter().any(|it| is_it(&it)) {
                        upstream.recall_holder(endpoint);
                    }
                }
            }
            if let Some((_, seen)) = peaks.iter().find(|(name, _)| **name == *upstream.name) {
                upstream.peaks.recall(Instant::now(), *seen);
            }
            upstream.refresh();
            if let Some((_, since)) = skews.iter().find(|(name, _)| **name == *upstream.name) {
                let since = UNIX_EPOCH + Duration::from_millis(*since);
                upstream.versions.recall(since);
            }
        }
        let earlier = earlier.iter();
        let still: Vec<_> = earlier
            .filter_map(|(earlier, theirs)| Some((*earlier, *ids.get(theirs)?)))
            .collect();
        ids.extend(still);
        ids
    }

    /// Says that all is prepared, and waits for the word to accept. Blocks. What has been counted until then.
    pub(in crate::daemon) fn take(&self) -> io::Result<Totals> {
        self.channel.send(&FromNew::Ready {})?;
        match self.channel.receive()? {
            Some(FromOld::Take { totals }) => Ok(totals),
            Some(FromOld::Left { .. }) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the process to take over from has changed its mind, or has ended",
            )),
        }
    }

    /// Says that connections are accepted, and follows the other process to its end: what it still has, and counts. `on_main`
    /// is called once this process is the one that counts for the service manager. Where the other process is told things.
    pub(in crate::daemon) fn follow(
        self,
        (generation, keeps_admin_socket): (u64, bool),
        admin: Arc<Admin>,
        on_main: impl FnOnce() + Send + 'static,
    ) -> io::Result<Channel> {
        self.channel.set_patience_to_write(TELL_WITHIN)?;
        self.channel.send(&FromNew::Serving {
            generation,
            keeps_admin_socket,
        })?;
        let pid = self.heritage.0.pid;
        let other_end = Channel::clone_of(&self.channel)?;
        let follow = move || {
            let mut on_main = Some(on_main);
            // An end that is no good one is an end.
            while let Ok(Some(said)) = self.channel.receive() {
                if let FromOld::Left { left, totals } = said {
                    go_on(&admin.metrics, totals, &admin.publisher);
                    admin.set_left(left);
                }
                if let Some(on_main) = on_main.take() {
                    on_main();
                }
            }
            if let Some(on_main) = on_main.take() {
                on_main();
            }
            admin.end_draining();
            info!(pid, "the process before this one has ended");
        };
        std::thread::Builder::new()
            .name("predecessor".to_owned())
            .spawn(follow)?;
        Ok(other_end)
    }
}

impl Daemon {
    /// Waits for the word to accept, and goes on counting from where the other process is. The exit code where nothing comes
    /// of it.
    pub(in crate::daemon) async fn take_place(
        &self,
        heir: Heir,
        signals: &mut Signals,
    ) -> Result<Heir, ExitCode> {
        let taking = tokio::task::spawn_blocking(move || (heir.take(), heir));
        let taken = tokio::select! {
            taken = taking => taken,
            () = end(&mut signals.terminate, &mut signals.interrupt) => return Err(ExitCode::SUCCESS),
        };
        match taken.map_err(io::Error::other) {
            Ok((Ok(totals), heir)) => {
                go_on(&self.metrics, totals, &self.publisher);
                self.admin.begin_draining(heir.heritage.0.pid);
                self.doors.answer(&self.admin);
                Ok(heir)
            }
            Ok((Err(error), _)) | Err(error) => {
                error!(%error, "nothing is taken over");
                Err(ExitCode::FAILURE)
            }
        }
    }

    /// Says that this process serves, and follows the other one to its end.
    pub(in crate::daemon) fn follow(&mut self, heir: Heir) {
        let keeps = heir.keeps(self.doors.path());
        let (notify, summary) = (Arc::clone(&self.notify), self.summary());
        let generation = self.publisher.current().generation;
        let followed = heir.follow((generation, keeps), Arc::clone(&self.admin), move || {
            notify.ready(&summary);
        });
        // Not before the other one knows that it is relieved, or has ended.
        self.doors.own();
        match followed {
            Ok(other_end) => {
                self.predecessor = Some(other_end);
                self.tell_modes();
            }
            Err(error) => {
                // It has ended this very moment: then this one is all there is.
                warn!(%error, "the process before this one cannot be told that it is relieved");
                self.admin.end_draining();
                self.notify.ready(&self.summary());
            }
        }
    }

    /// Tells the process before this one, while there is one, what is wanted of endpoints by now: it has requests to send yet.
    pub(in crate::daemon) fn tell_modes(&self) {
        let Some(predecessor) = &self.predecessor else {
            return;
        };
        let Some(number) = self.admin.next_word() else {
            return;
        };
        let snapshot = self.publisher.current();
        let endpoints = snapshot.upstreams.iter().flat_map(|it| &it.endpoints);
        let modes = endpoints.map(|endpoint| ByOperator {
            upstream: endpoint.upstream().to_string(),
            endpoint: endpoint.name().to_string(),
            mode: endpoint.state().mode.as_str().to_owned(),
        });
        let sets = snapshot.upstreams.iter().filter_map(|upstream| {
            Some(Serving {
                upstream: upstream.name.to_string(),
                set: upstream.active_set()?.to_string(),
                next: upstream
                    .next_set()
                    .map(|(set, percent)| (set.to_string(), percent)),
            })
        });
        let modes = Modes {
            number,
            modes: modes.collect(),
            sets: sets.collect(),
            seats: seats(&snapshot),
        };
        if let Err(error) = predecessor.send(&FromNew::Modes(modes)) {
            warn!(%error, "the process before this one cannot be told what is wanted of endpoints");
        }
    }
}

/// Goes on from `totals`, of what is in use.
fn go_on(metrics: &Metrics, totals: Totals, publisher: &Publisher) {
    let current = publisher.current();
    let owners = owners::of(&current);
    metrics.go_on_from(totals, |labels| owners.own_all(labels));
}

fn receive() -> io::Result<Inherited> {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let is_socket = sockopt::socket_type(stdin).is_ok_and(|kind| kind == SocketType::STREAM)
        && getsockname(stdin).is_ok_and(|it| it.address_family() == AddressFamily::UNIX);
    if !is_socket {
        let why = format!("{VARIABLE} is set, but standard input is no socket; unset it");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let channel = Channel::over(UnixStream::from(stdin.try_clone_to_owned()?));
    // Whoever else reads from there reads nothing.
    dup2_stdin(File::open("/dev/null")?)?;
    channel.set_patience(Some(PATIENCE))?;
    channel.send(&Hello {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    let mut heritage: Heritage = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if heritage.format != FORMAT {
        let theirs = heritage.format;
        let why = format!("it hands over in format {theirs}, and this one takes over in {FORMAT}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let count = heritage.sockets.len() + usize::from(heritage.admin_socket.is_some());
    let mut descriptors = channel.receive_descriptors(count)?.into_iter();
    // From here on it is waited as long as the other process does.
    channel.set_patience(None)?;
    let sockets = heritage.sockets.drain(..).zip(descriptors.by_ref());
    let sockets = sockets.map(|(socket, descriptor)| {
        let whose = socket.listener.map_or(Whose::Admin, Whose::Listener);
        Passed::new(whose, socket.address, TcpListener::from(descriptor))
    });
    let sockets = sockets.collect::<io::Result<_>>()?;
    let admin_socket = heritage.admin_socket.clone();
    let admin_socket = admin_socket.zip(descriptors.next().map(UnixListener::from));
    Ok(Inherited {
        sockets,
        admin_socket,
        heir: Some(Heir {
            channel,
            heritage: Rest(heritage),
        }),
        ..Inherited::default()
    })
}

/// The other process has it all at hand.
const PATIENCE: Duration = Duration::from_secs(30);
