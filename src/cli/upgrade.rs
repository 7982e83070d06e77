//! `balancer upgrade`: another process takes the place of the running one, without losing a connection.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::running::{At, Running, finished};
use super::table::say;
use crate::admin::takeover::{DEFAULT_SECONDS, Upgraded};

/// Let a new program take the place of the running one.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The program [default: where the running one was started from].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// How long the new one may take to get ready; then it is ended, and the running one goes on.
    #[arg(long, value_name = "TIME", value_parser = time, default_value_t = Seconds(DEFAULT_SECONDS))]
    timeout: Seconds,
    /// Also where who has started the running one follows that process alone, and may end the service with it, or where the file
    /// would hold out every endpoint of an upstream, or send requests to another set unasked.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    at: At,
}

/// Whole seconds, at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// `60s`, `2m` or `60`.
fn time(text: &str) -> Result<Seconds, String> {
    let (number, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let seconds = number.parse::<u64>().ok();
    let seconds = seconds.and_then(|number| number.checked_mul(factor));
    match seconds.map(Duration::from_secs) {
        Some(time) if (1..=3600).contains(&time.as_secs()) => Ok(Seconds(time.as_secs())),
        _ => Err("expected a time from 1s to 1h, such as 60s".to_owned()),
    }
}

/// Upgrades the balancer that runs with the file at `config`; says what came of it.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    let binary = args.binary.as_deref().map(std::path::absolute).transpose();
    let binary = match binary {
        Ok(binary) => binary,
        Err(error) => {
            eprintln!("balancer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut body = json!({ "binary": binary, "timeout_seconds": args.timeout.0 });
    // One of an earlier version does not know of it.
    if args.force {
        body["force"] = true.into();
    }
    let body = body.to_string();
    let asked = Running::with(config, &args.at)
        .and_then(|running| running.post::<Upgraded>("/api/v1/upgrade", body.into()));
    finished(asked.map(|upgraded| {
        say(&format!("{upgraded}\n"));
        ExitCode::SUCCESS
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_in_the_file() {
        assert_eq!(time("60s"), Ok(Seconds(60)));
        assert_eq!(time("90"), Ok(Seconds(90)));
        assert_eq!(time("2m"), Ok(Seconds(120)));
        for wrong in ["", "s", "0s", "2h", "1d", "-1s", "99999999999999999999s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
