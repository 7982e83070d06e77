//! `balancer drain`, `resume` and `disable`: what an operator wants of an endpoint.

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use super::EXIT_TIMEOUT;
use super::roll;
use super::running::{AskError, At, Running, Target, finished};
use super::status::{Endpoint, in_flight};
use super::table::{complain, say};

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
    /// Also where nobody would be left, or not enough for the load.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    at: At,
}

/// Take an endpoint out, checks and all.
#[derive(Clone, Debug, clap::Args)]
pub struct Disable {
    #[command(flatten)]
    one: One,
    /// Also where nobody would be left, or not enough for the load.
    #[arg(long)]
    force: bool,
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
    finished(drained(args, config))
}

fn drained(args: &Drain, config: &Path) -> Result<ExitCode, AskError> {
    let running = Running::with(config, &args.at)?;
    if !args.force && is_needed(&running, &args.target)? {
        return Ok(ExitCode::FAILURE);
    }
    let endpoint = set(&running, (&args.target, "drain"))?;
    match args.wait {
        true => wait(&running, &endpoint, args),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Gives it requests again.
pub fn resume(args: &One, config: &Path) -> ExitCode {
    let running = Running::with(config, &args.at);
    finished(running.and_then(|running| {
        set(&running, (&args.target, "resume"))?;
        Ok(ExitCode::SUCCESS)
    }))
}

/// Takes it out, checks and all.
pub fn disable(args: &Disable, config: &Path) -> ExitCode {
    let One { target, at } = &args.one;
    let running = Running::with(config, at);
    finished(running.and_then(|running| {
        if !args.force && is_needed(&running, target)? {
            return Ok(ExitCode::FAILURE);
        }
        set(&running, (target, "disable"))?;
        Ok(ExitCode::SUCCESS)
    }))
}

/// Whether requests would have nowhere to go without it, which is said.
fn is_needed(running: &Running, target: &Target) -> Result<bool, AskError> {
    let group = match roll::group(running, &target.upstream) {
        Ok(group) => group,
        // Whoever is asked to take it out says better what is wrong.
        Err(AskError::Unknown(_) | AskError::Version(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let objection = roll::objection(&group, &target.endpoint);
    if let Some(objection) = &objection {
        complain(&format!(
            "{target} stays: {objection}; --force takes it out all the same"
        ));
    }
    Ok(objection.is_some())
}

fn set(running: &Running, (target, action): (&Target, &str)) -> Result<Endpoint, AskError> {
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
    Ok(endpoint)
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
