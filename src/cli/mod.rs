//! The command line: one file per command. Exit codes: 0 done, 1 refused or failed, 2 there would be changes, 3 flipped
//! back, 4 not in time, 64 wrong
//! usage, 78 invalid configuration. `clones`: 1 they differ, 4 somebody did not answer.

mod audit;
pub mod certs;
pub mod check;
pub mod clones;
pub mod completions;
pub mod demo;
pub mod explain;
mod file_set;
pub mod flip;
pub mod mode;
pub mod plan;
pub mod reload;
pub mod replay;
pub mod roll;
pub mod run;
mod running;
pub mod schema;
pub mod status;
mod table;
pub mod top;
pub mod upgrade;
pub mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use running::At;

/// `plan`: a reload would change something; `replay`: a request would go elsewhere.
pub const EXIT_CHANGES: u8 = 2;
/// `drain --wait`: something is still in flight; `roll`: the same, or an endpoint is not well in time.
pub const EXIT_TIMEOUT: u8 = 4;
/// The file where none is named.
const USUAL_CONFIG: &str = "balancer.toml";
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
        default_value = USUAL_CONFIG
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
    Explain(explain::live::Question),
    /// Show listeners, upstreams and endpoints of the running balancer.
    Status(status::Args),
    /// Watch the running balancer, and take endpoints out or in.
    Top(top::Args),
    /// Tell what a reload would change, without doing it.
    Plan(plan::Args),
    /// Tell which requests of an access log would go elsewhere under the file.
    Replay(replay::Args),
    /// Have the running balancer read its file again, and tell what came of it.
    Reload(reload::Reload),
    /// Have the running balancer use an earlier file again.
    Rollback(reload::Rollback),
    /// Let a new program take the place of the running one, without losing a connection.
    Upgrade(upgrade::Args),
    /// Take an endpoint out: it finishes what it has and gets nothing new.
    Drain(mode::Drain),
    /// Give an endpoint requests again.
    Resume(mode::One),
    /// Take an endpoint out, and do not check it either.
    Disable(mode::Disable),
    /// Restart an upstream's endpoints one after the other, each out of use meanwhile.
    Roll(roll::Args),
    /// Let another set of an upstream's endpoints serve, and go back where that is worse.
    Flip(flip::Args),
    /// Ask every member of an upstream the same thing, and show where their answers differ.
    Clones(clones::Args),
    /// Tell why an endpoint is as it is: its last checks, failures and changes.
    Why(why::Args),
    /// Print completions for a shell.
    Completions(completions::Args),
    /// Print the manual page.
    Man,
    /// Print the JSON Schema of the configuration file.
    Schema(schema::Args),
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
        Action::Explain(args) => explain::live::run(&args, &command.config),
        Action::Status(args) => status::run(&args, &command.config),
        Action::Top(args) => top::run(&args, &command.config),
        Action::Plan(args) => plan::run(&args, &command.config),
        Action::Replay(args) => replay::run(&args, &command.config),
        Action::Reload(args) => reload::reload(&args, &command.config),
        Action::Rollback(args) => reload::rollback(&args, &command.config),
        Action::Upgrade(args) => upgrade::run(&args, &command.config),
        Action::Drain(args) => mode::drain(&args, &command.config),
        Action::Resume(args) => mode::resume(&args, &command.config),
        Action::Disable(args) => mode::disable(&args, &command.config),
        Action::Roll(args) => roll::run(&args, &command.config),
        Action::Flip(args) => flip::run(&args, &command.config),
        Action::Clones(args) => clones::run(&args, &command.config),
        Action::Why(args) => why::run(&args, &command.config),
        Action::Completions(args) => completions::completions(&args),
        Action::Man => completions::man(),
        Action::Schema(args) => schema::run(&args),
        Action::Certs(args) => certs::run(&args),
    }
}
