//! `balancer replay`: which requests of an access log would go elsewhere under a file. Reads the log and the file, and where a
//! listener has several certificates, these; asks no running balancer and sends nothing.
//!
//! What decides on the way of a request and is not in the log (header fields, cookies, lengths) makes it one of which nothing can
//! be told. What an endpoint would answer is not known: while endpoints answer, the status is taken to stay.

mod asked;
mod compare;
mod fields;
mod lines;
mod record;
mod tally;
mod told;
mod unknown;
mod ways;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::asked::{Asked, Assumed, Standing};
use self::compare::{Differences, against_file, against_log, upstreams};
use self::fields::Learned;
use self::record::{Record, Text};
use self::tally::{Change, Side, Tally};
use self::unknown::Unknown;
use self::ways::{Answer, Fate, Ways};
use super::EXIT_CHANGES;
use super::table::{complain, in_colour, say};
use crate::daemon::EXIT_CONFIG;
use crate::metrics::labels::NO_ROUTE;

/// Tell which requests of an access log would go elsewhere under the file.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Access logs, as JSON or in the combined format; `-` is standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Compare with where this file sends them, instead of with what the log says.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The host of requests whose lines do not name it.
    #[arg(long)]
    host: Option<String>,
    /// The listener of requests whose lines do not name one that there is.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Examples of each kind of change.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    examples: usize,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// Prints what would be another under the file at `config`. 0: nothing; 2: something; 1: a log cannot be read; 78: a file is not
/// valid.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    let ways = Ways::read(config);
    let earlier = args.from.as_deref().map(Ways::read).transpose();
    let (ways, earlier) = match (ways, earlier) {
        (Ok(ways), Ok(earlier)) => (ways, earlier),
        (ways, earlier) => {
            for problems in [ways.err(), earlier.err()].into_iter().flatten() {
                eprintln!("{problems}");
            }
            return EXIT_CONFIG.into();
        }
    };
    let replay = Replay {
        ways,
        earlier,
        assumed: Assumed {
            listener: args.listener.clone(),
            host: args.host.clone(),
        },
    };
    let mut tally = Tally::new(args.examples);
    let read = lines::each(&args.logs, |line| {
        let record = match line.bytes.map(Record::read) {
            Some(Ok(record)) => record,
            Some(Err(why)) => return tally.add_bad(&line, why),
            None => return tally.add_bad(&line, "too long".to_owned()),
        };
        match replay.change(&record) {
            Ok(None) => tally.add_same(&record),
            Ok(Some(change)) => tally.add_change(&line, &record, change),
            Err(unknown) => tally.add_unknown(&line, &record, unknown),
        }
    });
    if let Err(error) = read {
        complain(&error.to_string());
        return ExitCode::FAILURE;
    }
    tally.settle();
    if args.json {
        say(&format!("{:#}\n", told::as_json(&tally)));
    } else {
        say(&told::text(&tally, args.from.is_some(), in_colour()));
    }
    if tally.changed() > 0 {
        EXIT_CHANGES.into()
    } else if tally.requests == 0 {
        // No log at all: it has shown nothing.
        if tally.bad == 0 {
            complain("no line was read");
        }
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// What requests are asked of.
struct Replay {
    ways: Ways,
    /// What it is compared with, where that is not the log.
    earlier: Option<Ways>,
    assumed: Assumed,
}

impl Replay {
    /// What would be another for the request that `record` tells of.
    fn change(&self, record: &Record<'_>) -> Result<Option<Change>, Unknown> {
        let asked = match asked::asked(record, &self.assumed)? {
            Standing::Routed(asked) => asked,
            Standing::Refused => return Ok(None),
        };
        match &self.earlier {
            None => self.beside_log(&asked, record),
            Some(earlier) => self.beside_file(&asked, record, earlier),
        }
    }

    fn beside_log(
        &self,
        asked: &Asked<'_>,
        record: &Record<'_>,
    ) -> Result<Option<Change>, Unknown> {
        let known = (record, &self.assumed);
        let fate = self.ways.fate(asked, known, (None, &Learned::new()))?;
        let logged = record.route.as_ref().map(Text::as_str);
        let has_left = record.reason() == Some("client_left") && logged == Some(NO_ROUTE);
        if has_left && fate.route.is_some() {
            return Err(Unknown::Left);
        }
        let differences = against_log(record, &self.ways, &fate);
        if !differences.any() {
            return Ok(None);
        }
        let upstream = record.upstream.as_ref().map(Text::as_str);
        let class = record.status.map(|status| format!("{}xx", status / 100));
        let reason = record.reason().map(|reason| format!(" ({reason})"));
        let before = Side {
            route: logged.map(tally::shown),
            upstream: match (upstream, logged) {
                (None, None) => None,
                (None, Some(_)) => Some("none".to_owned()),
                (Some(upstream), _) => Some(tally::shown(upstream)),
            },
            status: match (record.status, reason) {
                (Some(status), Some(reason)) => Some(format!("{status}{}", tally::shown(&reason))),
                _ => class,
            },
        };
        Ok(Some(self.changed(differences, before, &fate)))
    }

    fn beside_file(
        &self,
        asked: &Asked<'_>,
        record: &Record<'_>,
        earlier: &Ways,
    ) -> Result<Option<Change>, Unknown> {
        let known = (record, &self.assumed);
        let log = &earlier.config.access_log;
        let learned = earlier.learn(asked, known, log);
        let by = (Some(log), &learned);
        let before = earlier.fate(asked, known, by)?;
        if before.answer == Some(Answer::NoListener) {
            let name = asked.listener.unwrap_or_default();
            return Err(Unknown::Listener(tally::shown(name)));
        }
        let fate = self.ways.fate(asked, known, by)?;
        let differences = against_file((earlier, &before), (&self.ways, &fate));
        let change = || self.changed(differences, side(earlier, &before), &fate);
        Ok(differences.any().then(change))
    }

    fn changed(&self, differences: Differences, before: Side, fate: &Fate) -> Change {
        Change {
            differences,
            before,
            after: side(&self.ways, fate),
        }
    }
}

fn side(ways: &Ways, fate: &Fate) -> Side {
    let route = fate.route.map_or(NO_ROUTE, |index| ways.route_name(index));
    let upstreams = upstreams(ways, fate);
    Side {
        route: Some(route.to_owned()),
        upstream: Some(match upstreams.is_empty() {
            true => "none".to_owned(),
            false => upstreams.join(" or "),
        }),
        status: Some(match &fate.answer {
            Some(answer) => answer.to_string(),
            None => "the endpoint's".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
