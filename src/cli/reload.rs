//! `balancer reload` and `balancer rollback`: another configuration for the running balancer, and what came of it.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::running::{AskError, At, Running, finished};
use super::status::{ago, now};
use super::table::{Cell, Table, in_colour, say};
use crate::admin::command::Reloaded;

/// Have the running balancer read its file again, and tell what came of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Reload {
    /// Only if this generation is in use: nobody has changed anything since `plan` told of it.
    #[arg(long, value_name = "GENERATION")]
    expect_generation: Option<u64>,
    /// Also a file that was rolled back automatically, or one by which nobody of an upstream is left to take requests; and without
    /// watching what comes of it.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    at: At,
}

/// Have the running balancer use an earlier file again.
#[derive(Clone, Debug, clap::Args)]
pub struct Rollback {
    /// Which one [default: the last before the one in use that was another]
    #[arg(conflicts_with = "list")]
    generation: Option<u64>,
    /// List those that are kept, and change nothing.
    #[arg(long)]
    list: bool,
    /// Also one by which nobody of an upstream is left to take requests, or they go to another set unasked.
    #[arg(long, conflicts_with = "list")]
    force: bool,
    #[command(flatten)]
    at: At,
}

/// What is read of the configuration in use; there may be more.
#[derive(Debug, Deserialize)]
struct Kept {
    generation: u64,
    accepted: Vec<Accepted>,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    generation: u64,
    file_of: u64,
    hash: String,
    at: u64,
    by: String,
    uid: Option<u32>,
}

/// Reloads; says what has become of endpoints, or every problem.
pub fn reload(args: &Reload, config: &Path) -> ExitCode {
    let mut body = json!({});
    if let Some(expected) = args.expect_generation {
        body["expect_generation"] = json!(expected);
    }
    if args.force {
        body["force"] = json!(true);
    }
    let running = Running::with(config, &args.at);
    finished(
        ask(running, "/api/v1/reload", body.to_string().into()).map(|reloaded| {
            tell(&reloaded);
            ExitCode::SUCCESS
        }),
    )
}

/// Goes back, or lists where to.
pub fn rollback(args: &Rollback, config: &Path) -> ExitCode {
    let running = Running::with(config, &args.at);
    if args.list {
        return finished(list(running));
    }
    let mut body = json!({});
    if let Some(generation) = args.generation {
        body["generation"] = json!(generation);
    }
    if args.force {
        body["force"] = json!(true);
    }
    finished(
        ask(running, "/api/v1/rollback", body.to_string().into()).map(|reloaded| {
            tell(&reloaded);
            eprintln!("warning: the file still holds what it held; a reload or restart uses that");
            ExitCode::SUCCESS
        }),
    )
}

fn list(running: Result<Running, AskError>) -> Result<ExitCode, AskError> {
    let kept: Kept = running?.get("/api/v1/config")?;
    say(&kept.text(now(), in_colour()));
    Ok(ExitCode::SUCCESS)
}

impl Kept {
    fn text(&self, now: u64, in_colour: bool) -> String {
        let mut table = Table::with_heading(&["generation", "accepted", "by", "file"]);
        for accepted in &self.accepted {
            let uid = accepted.uid;
            let uid = uid.map_or_else(String::new, |uid| format!(" (uid {uid})"));
            let hash = accepted.hash.get(..12).unwrap_or(&accepted.hash);
            let file = if accepted.file_of == accepted.generation {
                hash.to_owned()
            } else {
                format!("{hash}, as in generation {}", accepted.file_of)
            };
            table.push(vec![
                Cell::plain(accepted.generation),
                Cell::plain(format!("{} ago", ago(now.saturating_sub(accepted.at)))),
                Cell::plain(format!("{}{uid}", accepted.by)),
                Cell::plain(file),
            ]);
        }
        format!(
            "{}in use: generation {}\n",
            table.text("", in_colour),
            self.generation
        )
    }
}

fn ask(running: Result<Running, AskError>, path: &str, body: Bytes) -> Result<Reloaded, AskError> {
    running?.post(path, body)
}

fn tell(reloaded: &Reloaded) {
    for warning in &reloaded.warnings {
        eprintln!("warning: {warning}");
    }
    say(&format!("{reloaded}\n"));
    for setting in &reloaded.restart {
        say(&format!("changes with a restart only: {setting}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_files_are_listed_oldest_first() {
        let accepted = |generation, file_of, by: &str, uid| Accepted {
            generation,
            file_of,
            hash: format!("{file_of}").repeat(64),
            at: 10 * generation,
            by: by.to_owned(),
            uid,
        };
        let kept = Kept {
            generation: 3,
            accepted: vec![
                accepted(1, 1, "start", None),
                accepted(2, 2, "signal", None),
                accepted(3, 1, "rollback", Some(1000)),
            ],
        };
        assert_eq!(
            kept.text(100, false),
            "generation  accepted        by                   file\n\
             1           1 min 30 s ago  start                111111111111\n\
             2           1 min 20 s ago  signal               222222222222\n\
             3           1 min 10 s ago  rollback (uid 1000)  111111111111, as in generation 1\n\
             in use: generation 3\n"
        );
    }
}
