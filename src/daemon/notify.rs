//! Tells the service manager how the process is, in the words of sd_notify(3). Where no manager listens nothing is said,
//! and one that cannot be told fails nobody.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, warn};

use crate::config::ConfigErrors;
use crate::worker::Command;

/// Longest wait for a manager that reads nothing.
const TELL_WITHIN: Duration = Duration::from_secs(1);
/// Between the last deadline of our own and the manager's.
const BEYOND_GRACE: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let manager = address(&name).and_then(|address| Ok((socket()?, address)));
            manager
                .inspect_err(
                    |error| warn!(socket = ?name, %error, "service manager cannot be told"),
                )
                .ok()
        });
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self { manager, watchdog }
    }

    /// So often a sign of life is wanted; `None` where nobody wants any.
    pub fn watchdog(&self) -> Option<Duration> {
        self.manager.as_ref().and(self.watchdog)
    }

    /// Everything is up; also after a reload, whatever came of it.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload begins. [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"
        ));
    }

    /// The end has begun and may take `limit`: without this the manager would kill what is in flight at its own.
    pub fn stopping(&self, limit: Duration) {
        let micros = (limit + BEYOND_GRACE).as_micros();
        self.tell(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=shutting down"
        ));
    }

    /// Another process, a child of this one, is the service from now on, and says how it is.
    pub fn hand_over(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    fn tell(&self, what: &str) {
        let Some((socket, address)) = &self.manager else {
            return;
        };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), address) {
            warn!(%error, "service manager cannot be told");
        }
    }
}

/// Shows the manager that the control thread and every worker still turn: a sign of life comes after all have answered,
/// and not at all while one does not. Workers that have ended are not missed.
pub async fn keep_alive(
    notify: impl AsRef<Notify>,
    every: Duration,
    workers: Vec<UnboundedSender<Command>>,
) {
    loop {
        // All at once: together they have no longer than one.
        let until = Instant::now() + every;
        let ask = |(index, worker): (usize, &UnboundedSender<Command>)| {
            let (answer, answered) = oneshot::channel();
            let is_there = worker.send(Command::Answer(answer)).is_ok();
            is_there.then_some((index, answered))
        };
        let asked: Vec<_> = workers.iter().enumerate().filter_map(ask).collect();
        for (worker, mut answered) in asked {
            if timeout_at(until, &mut answered).await.is_err() {
                error!(worker, waited = ?every, "worker does not answer");
                let _ = answered.await;
            }
        }
        notify.as_ref().tell("WATCHDOG=1");
        sleep(every).await;
    }
}

/// What the manager shows of a reload that changed nothing: one line.
pub fn rejected(problems: &ConfigErrors) -> String {
    let first = problems.0.first().map(ToString::to_string);
    let first = first.unwrap_or_default().replace('\n', " ");
    let more = match problems.0.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    format!("reload rejected, the configuration before it stays in use: {first}{more}")
}

fn socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(TELL_WITHIN))?;
    Ok(socket)
}

/// `/run/notify` is a path, `@name` a name without a file.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither a path nor an abstract name",
        )),
    }
}

/// Half of what the manager waits at most, if it is this process that it waits for.
fn watchdog(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let is_meant = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let micros: u64 = micros?.parse().ok()?;
    (is_meant && micros > 1).then(|| Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn watchdog_holds_for_the_process_it_is_meant_for() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("2000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("2000000"), None, 7), second);
        assert_eq!(watchdog(Some("2000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("2000000"), Some("x"), 7), None);
        assert_eq!(watchdog(None, Some("7"), 7), None);
        for nonsense in ["", "0", "1", "-1", "soon"] {
            assert_eq!(watchdog(Some(nonsense), None, 7), None, "{nonsense:?}");
        }
    }

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        let of = |name: &str| address(OsStr::new(name));
        assert_eq!(
            of("/run/notify").unwrap().as_pathname(),
            Some(Path::new("/run/notify"))
        );
        assert_eq!(of("@a/b").unwrap().as_abstract_name(), Some(&b"a/b"[..]));
        for other in ["", "notify", "vsock:2:1234"] {
            assert!(of(other).is_err(), "{other:?}");
        }
        assert!(of(&format!("/{}", "x".repeat(200))).is_err(), "too long");
    }

    #[test]
    fn status_of_a_rejected_reload_is_one_line() {
        let problems = |text| config::parse(text, Path::new("b.toml")).expect_err("invalid");
        let several = problems("[listener.a]\naddress = \"x\"\n[listener.b]\naddress = \"y\"\n");
        assert!(several.0.len() > 1);
        let said = rejected(&several);
        assert!(said.contains("b.toml:"), "{said}");
        assert!(
            said.ends_with(&format!("(and {} more)", several.0.len() - 1)),
            "{said}"
        );
        let said = rejected(&problems("[listener\n"));
        assert!(!said.contains('\n') && !said.contains("more)"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn regression_workers_are_asked_at_once_and_not_one_after_the_other() {
        let notify = std::sync::Arc::new(Notify {
            manager: None,
            watchdog: None,
        });
        let (first, _silent) = tokio::sync::mpsc::unbounded_channel();
        let (second, mut commands) = tokio::sync::mpsc::unbounded_channel();
        let every = Duration::from_secs(1);
        tokio::spawn(keep_alive(notify, every, vec![first, second]));
        let asked = tokio::time::timeout(every / 2, commands.recv()).await;
        assert!(
            matches!(asked, Ok(Some(Command::Answer(_)))),
            "while the first one is silent"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn worker_that_does_not_answer_keeps_the_sign_of_life_back() {
        let name = format!("balancer-test-{}-{}", std::process::id(), fastrand::u64(..));
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notify = std::sync::Arc::new(Notify {
            manager: Some((socket().unwrap(), address)),
            watchdog: None,
        });
        let signs = || {
            let mut buffer = [0; 64];
            std::iter::from_fn(|| manager.recv(&mut buffer).ok()).count()
        };
        let (first, mut commands) = tokio::sync::mpsc::unbounded_channel();
        let (ended, gone) = tokio::sync::mpsc::unbounded_channel();
        drop(gone);
        let second = Duration::from_secs(1);
        tokio::spawn(keep_alive(notify, second, vec![first, ended]));

        let Some(Command::Answer(answer)) = commands.recv().await else {
            panic!("the worker is asked");
        };
        sleep(10 * second).await;
        assert_eq!(signs(), 0, "not while it is silent");
        answer.send(()).unwrap();
        sleep(second / 2).await;
        assert_eq!(signs(), 1, "the one that has ended is not missed");
        let Some(Command::Answer(answer)) = commands.recv().await else {
            panic!("the worker is asked again");
        };
        drop(answer);
        sleep(second / 2).await;
        assert_eq!(signs(), 1);
    }
}
