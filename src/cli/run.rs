//! `balancer run`: reads the file, starts logging as it says, serves.

use std::path::Path;
use std::process::ExitCode;

use crate::daemon::{self, EXIT_CONFIG, OnReady};
use crate::{config, logging};

/// Serves with the configuration at `path` until told to end.
pub fn run(path: &Path, on_ready: OnReady) -> ExitCode {
    match config::load(path) {
        Ok(config) => {
            logging::start(&config.log);
            daemon::run(path, config, on_ready)
        }
        Err(problems) => {
            eprintln!("{problems}");
            EXIT_CONFIG.into()
        }
    }
}
