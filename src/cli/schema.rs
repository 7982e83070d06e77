//! `balancer schema`: what the file may hold, or what the admin API takes and answers, for programs.

use std::process::ExitCode;

use super::table::say;
use crate::admin::openapi;
use crate::config::schema::schema;

/// Print the JSON Schema of the configuration file.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The OpenAPI description of the admin API instead.
    #[arg(long)]
    openapi: bool,
}

/// Prints it.
pub fn run(args: &Args) -> ExitCode {
    let schema = if args.openapi {
        openapi::description()
    } else {
        schema()
    };
    say(&format!("{schema:#}\n"));
    ExitCode::SUCCESS
}
