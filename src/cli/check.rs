//! `balancer check`: everything that starting or reloading would refuse, without doing either.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::table::say;
use crate::config::{self, Config, ConfigErrors};
use crate::daemon::EXIT_CONFIG;
use crate::metrics::Metrics;
use crate::metrics::census::{self, Mix, Sizes};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiled, Compiler};
use crate::tls::Tickets;

/// Validates the file at `config`; problems and warnings go to standard error.
pub fn run(config: &Path) -> ExitCode {
    match check(config) {
        Ok((loaded, compiled)) => {
            for warning in &compiled.warnings {
                eprintln!("warning: {warning}");
            }
            let sizes = sizes(&loaded, &compiled.snapshot);
            say(&format!(
                "{}: ok ({}, {}, {} with {})\n",
                config.display(),
                count(sizes.listeners, "listener"),
                count(sizes.routes, "route"),
                count(sizes.upstreams, "upstream"),
                count(sizes.endpoints, "endpoint"),
            ));
            print_series(&sizes);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            EXIT_CONFIG.into()
        }
    }
}

fn check(path: &Path) -> Result<(Config, Compiled), ConfigErrors> {
    let config = config::load(path)?;
    let tickets = Tickets::new().map_err(|error| {
        ConfigErrors::of_file(path, format!("no random bytes for ticket keys: {error}"))
    })?;
    let compiled = Compiler::new(Arc::new(Metrics::new()), tickets, 0).compile(&config, None)?;
    Ok((config, compiled))
}

fn sizes(config: &Config, snapshot: &Snapshot) -> Sizes {
    let (listeners, routes) = (&snapshot.listeners, &snapshot.routes);
    let upstreams = &snapshot.upstreams;
    Sizes {
        listeners: listeners.len(),
        certificates: listeners.iter().map(|it| it.certificates.len()).sum(),
        routes: routes.len(),
        mirrors: routes.iter().filter(|it| it.mirror.is_some()).count(),
        upstreams: upstreams.len(),
        endpoints: upstreams.iter().map(|it| it.endpoints.len()).sum(),
        sets: upstreams.iter().map(|it| it.set_names().len()).sum(),
        workers: config.process.workers.get(),
    }
}

/// How much whoever scrapes may have to store.
fn print_series(sizes: &Sizes) {
    let Mix { codes, methods } = Mix::USUAL;
    say(&format!(
        "metrics: {} series at most while no route is asked with more than {methods} methods nor answers with more than \
         {codes} statuses, {} with all there are\n",
        census::total(sizes, Mix::USUAL),
        census::total(sizes, Mix::ANY),
    ));
    let most = census::families(sizes, Mix::USUAL);
    let most: Vec<_> = most
        .iter()
        .take(MOST)
        .map(|(family, series)| format!("{} {series}", family.name))
        .collect();
    say(&format!("         most of them: {}\n", most.join(", ")));
}

/// So many families are named.
const MOST: usize = 4;

fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
