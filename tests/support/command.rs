//! The commands of `balancer`, to their end or beside a test: against a balancer that runs, or with a file alone.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::balancer::{BINARY, Balancer};

/// Runs a command against `balancer`.
pub(crate) fn command(balancer: &Balancer, arguments: &[&str]) -> Output {
    run(&balancer.directory().join("balancer.toml"), arguments)
}

/// Runs a command with the file `config`.
pub(crate) fn run(config: &Path, arguments: &[&str]) -> Output {
    with(config, arguments).output().unwrap()
}

/// Begins a command against `balancer`, which goes on beside the test.
pub(crate) fn begun(balancer: &Balancer, arguments: &[&str]) -> Child {
    let mut command = with(&balancer.directory().join("balancer.toml"), arguments);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn with(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--config").arg(config);
    command.stdin(Stdio::null());
    command
}

/// The exit code, and what was said on either output.
pub(crate) fn told(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// The same of a command that must have worked.
#[track_caller]
pub(crate) fn done(output: &Output) -> String {
    let (code, text) = told(output);
    assert_eq!(code, Some(0), "{text}");
    text
}
