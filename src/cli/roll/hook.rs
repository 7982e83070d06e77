//! The operator's own command, run for an endpoint that has nothing in flight.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};

use super::super::status::ago;
use super::decide::Member;

/// Between two looks at a hook.
const LOOK: Duration = Duration::from_millis(20);
/// How long one that is asked to end may take.
const GRACE: Duration = Duration::from_secs(2);

/// One that runs.
#[derive(Debug)]
pub(super) struct Hook {
    child: Child,
    begun: Instant,
}

/// How it has ended, where it did by itself.
#[derive(Debug)]
pub(super) enum End {
    Status(ExitStatus),
    Late(Duration),
}

/// Starts `hook` in a shell, in a session of its own: Ctrl-C stops what is rolled, not a restart half done; and what asks for a
/// password finds no terminal and fails, where it would wait for ever. What it writes is passed through; where `is_json`, all of it
/// to standard error.
pub(super) fn start(
    hook: &str,
    (upstream, member): (&str, &Member),
    is_json: bool,
) -> io::Result<Hook> {
    let prepared = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("BALANCER_UPSTREAM", upstream)
            .env("BALANCER_ENDPOINT", &member.name)
            .env("BALANCER_ADDRESS", &member.address)
            .stdin(Stdio::null());
        if is_json {
            command.stdout(io::stderr());
        }
        command
    };
    let child = match prepared("setsid", &["sh", "-c", hook]).spawn() {
        // No such program here: a group of its own, and who asks is stopped by the system, which `wait` tells.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            prepared("sh", &["-c", hook]).process_group(0).spawn()
        }
        started => started,
    }?;
    Ok(Hook {
        child,
        begun: Instant::now(),
    })
}

impl Hook {
    /// Waits for its end, by default however long that takes: a restart half done is worse than one that is late. Calls
    /// `on_stop` when the hook was stopped, as one is that asks the terminal for something.
    pub(super) fn wait(mut self, limit: Option<Duration>, on_stop: impl Fn()) -> io::Result<End> {
        let pid = Pid::from_child(&self.child);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(End::Status(status));
            }
            let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
            if let Ok(Some(_)) = waitid(WaitId::Pid(pid), stopped) {
                on_stop();
            }
            if let Some(limit) = limit.filter(|limit| self.begun.elapsed() >= *limit) {
                self.end(pid)?;
                return Ok(End::Late(limit));
            }
            thread::sleep(LOOK);
        }
    }

    /// Ends it and what it has started, in order where that works.
    fn end(&mut self, pid: Pid) -> io::Result<()> {
        let asked = Instant::now();
        // One that is stopped ends only when it goes on. Who has ended meanwhile need not be told.
        let _ = kill_process_group(pid, Signal::TERM);
        let _ = kill_process_group(pid, Signal::CONT);
        while asked.elapsed() < GRACE {
            let is_over = self.child.try_wait()?.is_some();
            if is_over && test_kill_process_group(pid).is_err() {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.kill();
        self.child.wait().map(drop)
    }
}

/// Why it has not worked; `None` where it has.
pub(super) fn failure(ended: &io::Result<End>) -> Option<String> {
    match ended {
        Ok(End::Status(status)) if status.success() => None,
        Ok(End::Status(status)) => Some(format!("the hook failed: {status}")),
        Ok(End::Late(limit)) => Some(format!(
            "the hook was ended: it took longer than {}",
            ago(limit.as_secs())
        )),
        Err(error) => Some(format!("the hook cannot be run: {error}")),
    }
}
