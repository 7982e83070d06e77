//! The operator's own command, run for an endpoint that has nothing in flight.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::decide::Member;

/// Starts `hook` in a shell, in a process group of its own: Ctrl-C stops what is rolled, not a restart half done. What it
/// writes is passed through; where `is_json`, all of it to standard error.
pub(super) fn start(
    hook: &str,
    (upstream, member): (&str, &Member),
    is_json: bool,
) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command
        .args(["-c", hook])
        .env("BALANCER_UPSTREAM", upstream)
        .env("BALANCER_ENDPOINT", &member.name)
        .env("BALANCER_ADDRESS", &member.address)
        .stdin(Stdio::null())
        .process_group(0);
    if is_json {
        command.stdout(io::stderr());
    }
    command.spawn()
}

/// Waits for its end, however long that takes: a restart half done is worse than one that is late.
pub(super) fn wait(mut hook: Child) -> io::Result<ExitStatus> {
    hook.wait()
}

/// Why it has not worked; `None` where it has.
pub(super) fn failure(ended: &io::Result<ExitStatus>) -> Option<String> {
    match ended {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("the hook failed: {status}")),
        Err(error) => Some(format!("the hook cannot be run: {error}")),
    }
}
