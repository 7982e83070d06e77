//! The command line: one file per command. Exit codes: 0 done, 1 refused or failed, 64 wrong usage, 78 invalid configuration.

pub mod certs;
pub mod check;
pub mod demo;
pub mod explain;
pub mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// sysexits(3): wrong usage.
pub const EXIT_USAGE: u8 = 64;

/// A reverse-proxy load balancer: terminates TLS, checks its endpoints, routes by path, reloads without losing a request.
#[derive(Debug, Parser)]
#[command(name = "balancer", version, disable_help_subcommand = true)]
struct Command {
    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "balancer.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve (what happens without a command).
    Run,
    /// Serve embedded origins with a generated certificate, to try things out.
    Demo(demo::Args),
    /// Validate the configuration with its certificates, without running.
    Check,
    /// Tell which route a request takes, and why.
    Explain(explain::Args),
    /// Make a development CA and a server certificate.
    Certs(certs::Args),
}

/// Runs the command the process was started with.
pub fn run() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            // Nowhere to print to is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() {
                EXIT_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match command.command.unwrap_or(Action::Run) {
        Action::Run => run::run(&command.config, Box::new(|_, _| {})),
        Action::Demo(args) => demo::run(&args, run::run),
        Action::Check => check::run(&command.config),
        Action::Explain(args) => explain::run(&args, &command.config),
        Action::Certs(args) => certs::run(&args),
    }
}
