//! `balancer reload` and `balancer rollback`: another configuration for the running balancer, and what came of it.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;

use super::running::{AskError, Running, finished};
use super::table::say;
use crate::admin::command::Reloaded;

/// Have the running balancer read its file again, and tell what came of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Reload {
    /// Only if this generation is in use: nobody has changed anything since `plan` told of it.
    #[arg(long, value_name = "GENERATION")]
    expect_generation: Option<u64>,
    /// Also a file that was rolled back automatically, and without watching what comes of it.
    #[arg(long)]
    force: bool,
}

/// Have the running balancer use an earlier file again.
#[derive(Clone, Debug, clap::Args)]
pub struct Rollback {
    /// Which one [default: the last that was another]
    generation: Option<u64>,
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
    let body = body.to_string().into();
    finished(ask(config, "/api/v1/reload", body).map(|reloaded| {
        tell(&reloaded);
        ExitCode::SUCCESS
    }))
}

/// Goes back.
pub fn rollback(args: &Rollback, config: &Path) -> ExitCode {
    let body = match args.generation {
        Some(generation) => json!({ "generation": generation }).to_string(),
        None => String::new(),
    };
    finished(
        ask(config, "/api/v1/rollback", body.into()).map(|reloaded| {
            tell(&reloaded);
            eprintln!(
                "warning: {} still holds what it held; a reload or restart uses that",
                config.display()
            );
            ExitCode::SUCCESS
        }),
    )
}

fn ask(config: &Path, path: &str, body: Bytes) -> Result<Reloaded, AskError> {
    Running::with(config)?.post(path, body)
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
