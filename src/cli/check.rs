//! `balancer check`: everything that starting or reloading would refuse, without doing either.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{self, ConfigErrors};
use crate::daemon::EXIT_CONFIG;
use crate::metrics::Metrics;
use crate::snapshot::compile::{Compiled, Compiler};
use crate::tls::Tickets;

/// Validates the file at `config`; problems and warnings go to standard error.
pub fn run(config: &Path) -> ExitCode {
    match check(config) {
        Ok(compiled) => {
            for warning in &compiled.warnings {
                eprintln!("warning: {warning}");
            }
            let snapshot = &compiled.snapshot;
            let endpoints: usize = snapshot
                .upstreams
                .iter()
                .map(|upstream| upstream.endpoints.len())
                .sum();
            println!(
                "{}: ok ({}, {}, {} with {})",
                config.display(),
                count(snapshot.listeners.len(), "listener"),
                count(snapshot.routes.len(), "route"),
                count(snapshot.upstreams.len(), "upstream"),
                count(endpoints, "endpoint"),
            );
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            EXIT_CONFIG.into()
        }
    }
}

fn check(path: &Path) -> Result<Compiled, ConfigErrors> {
    let config = config::load(path)?;
    let tickets = Tickets::new().map_err(|error| {
        ConfigErrors::of_file(path, format!("no random bytes for ticket keys: {error}"))
    })?;
    Compiler::new(Arc::new(Metrics::new()), tickets, 0).compile(&config, None)
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
