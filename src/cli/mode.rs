//! `balancer drain`, `resume` and `disable`: what an operator wants of an endpoint.

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use super::EXIT_TIMEOUT;
use super::running::{AskError, At, Running, Target, finished};
use super::status::{Endpoint, in_flight};
use super::table::say;

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(200);

/// Take an endpoint out: it finishes what it has and gets nothing new.
#[derive(Clone, Debug, clap::Args)]
pub struct Drain {
    /// Which one.
    #[arg(value_name = "UPSTREAM/ENDPOINT")]
    target: Target,
    /// Wait until nothing is left in flight.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds; then exit with 4.
    #[arg(long, requires = "wait", value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    #[command(flatten)]
    at: At,
}

/// The endpoint to be changed.
#[derive(Clone, Debug, clap::Args)]
pub struct One {
    /// Which one.
    #[arg(value_name = "UPSTREAM/ENDPOINT")]
    target: Target,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Deserialize)]
struct Changed {
    before: String,
    endpoint: Endpoint,
}

/// Drains, and waits where that is asked for.
pub fn drain(args: &Drain, config: &Path) -> ExitCode {
    finished(
        set((&args.target, "drain"), config, &args.at).and_then(|(running, endpoint)| {
            if args.wait {
                wait(&running, &endpoint, args)
            } else {
                Ok(ExitCode::SUCCESS)
            }
        }),
    )
}

/// Gives it requests again.
pub fn resume(args: &One, config: &Path) -> ExitCode {
    finished(set((&args.target, "resume"), config, &args.at).map(|_| ExitCode::SUCCESS))
}

/// Takes it out, checks and all.
pub fn disable(args: &One, config: &Path) -> ExitCode {
    finished(set((&args.target, "disable"), config, &args.at).map(|_| ExitCode::SUCCESS))
}

fn set(
    (target, action): (&Target, &str),
    config: &Path,
    at: &At,
) -> Result<(Running, Endpoint), AskError> {
    let running = Running::with(config, at)?;
    let path = format!("{}/{action}", target.path());
    let Changed { before, endpoint } = running.post(&path, Bytes::new())?;
    let was = if before == endpoint.mode {
        "as it was".to_owned()
    } else {
        format!("was {before}")
    };
    say(&format!(
        "{target}: {}, {was}\n",
        endpoint.state_with_rest()
    ));
    Ok((running, endpoint))
}

/// Waits for `drained`, whoever has its name by now.
fn wait(running: &Running, drained: &Endpoint, args: &Drain) -> Result<ExitCode, AskError> {
    let (target, limit) = (&args.target, Duration::from_secs(args.timeout));
    let path = format!("{}?id={}", target.path(), drained.id);
    let begun = Instant::now();
    loop {
        let endpoint: Endpoint = match running.get(&path) {
            Err(AskError::Gone(_)) => {
                say(&format!("{target}: is gone, and nothing is in flight\n"));
                return Ok(ExitCode::SUCCESS);
            }
            asked => asked?,
        };
        if endpoint.mode == "active" && !endpoint.gone {
            eprintln!("balancer: {target} gets requests again: somebody has resumed it");
            return Ok(ExitCode::FAILURE);
        }
        if endpoint.in_flight == 0 {
            let gone = if endpoint.gone { "is gone, and " } else { "" };
            say(&format!("{target}: {gone}nothing is in flight\n"));
            return Ok(ExitCode::SUCCESS);
        }
        if begun.elapsed() >= limit {
            let left = in_flight(endpoint.in_flight, endpoint.tunnels);
            eprintln!("balancer: {target}: {left} after {} s", args.timeout);
            return Ok(EXIT_TIMEOUT.into());
        }
        sleep(LOOK.min(limit.saturating_sub(begun.elapsed())));
    }
}
