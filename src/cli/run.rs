//! `balancer run`: reads the file, starts logging as it says, serves.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::daemon::{self, EXIT_CONFIG, Inherited, OnReady};
use crate::{config, logging};

/// Serves with the configuration at `path` until told to end.
pub fn run(path: &Path, on_ready: OnReady) -> ExitCode {
    // First of all: sockets that are passed have fixed numbers.
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => {
            // Standard error may be closed, and that is no reason to panic.
            let _ = writeln!(io::stderr(), "balancer: {error}");
            return ExitCode::FAILURE;
        }
    };
    match config::load(path) {
        Ok(config) => {
            logging::start(&config.log);
            let code = daemon::run(path, config, inherited, on_ready);
            logging::finish();
            code
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems}");
            inherited.give_up(&problems.to_string());
            EXIT_CONFIG.into()
        }
    }
}
