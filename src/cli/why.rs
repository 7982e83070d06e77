//! `balancer why`: the last facts about an endpoint, oldest first.

use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::running::{AskError, At, Running, Target, finished};
use super::status::{ago, now};
use super::table::{Cell, Table, Tone, in_colour, say};

/// Tell why an endpoint is as it is: its last checks, failures and changes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which one.
    #[arg(value_name = "UPSTREAM/ENDPOINT")]
    target: Target,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// What is read of the facts; there may be more.
#[derive(Debug, Deserialize)]
struct Facts {
    state: String,
    reason: Option<String>,
    since_ms: u64,
    facts: Vec<Fact>,
}

#[derive(Debug, Deserialize)]
struct Fact {
    last_ms: u64,
    times: u64,
    kind: String,
    text: String,
}

/// Asks the balancer that runs with the file at `config`.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    finished(tell(args, config))
}

fn tell(args: &Args, config: &Path) -> Result<ExitCode, AskError> {
    let path = format!("{}/facts", args.target.path());
    let facts: Value = Running::with(config, &args.at)?.get(&path)?;
    if args.json {
        say(&format!("{facts}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let facts = Facts::deserialize(&facts).map_err(|error| AskError::Version(error.to_string()))?;
    say(&facts.text(&args.target, now(), in_colour()));
    Ok(ExitCode::SUCCESS)
}

impl Facts {
    fn text(&self, target: &Target, now: u64, in_colour: bool) -> String {
        let since = |milliseconds: u64| ago(now.saturating_sub(milliseconds / 1000));
        let reason = self.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let mut text = format!(
            "{target}: {} for {}{reason}\n",
            self.state,
            since(self.since_ms)
        );
        let mut table = Table::default();
        for fact in &self.facts {
            let times = match fact.times {
                0 | 1 => String::new(),
                times => format!("{times} times"),
            };
            table.push(vec![
                Cell::new(format!("{} ago", since(fact.last_ms)), Tone::Faint),
                Cell::plain(&fact.kind),
                Cell::plain(&fact.text),
                Cell::plain(times),
            ]);
        }
        text.push_str(&table.text("  ", in_colour));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_told_oldest_first() {
        let fact = |last_ms, times, text: &str| Fact {
            last_ms,
            times,
            kind: "check".to_owned(),
            text: text.to_owned(),
        };
        let facts = Facts {
            state: "down".to_owned(),
            reason: Some("refused".to_owned()),
            since_ms: 90_000,
            facts: vec![
                fact(60_000, 1, "check passed"),
                fact(99_000, 7, "check failed: refused"),
            ],
        };
        let target = "app/a".parse().unwrap();
        assert_eq!(
            facts.text(&target, 100, false),
            "app/a: down for 10 s: refused\n\
             \x20 40 s ago  check  check passed\n\
             \x20 1 s ago   check  check failed: refused  7 times\n"
        );
    }
}
