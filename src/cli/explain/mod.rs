//! `balancer explain`: which route takes a request, by which rules, and why not the others. Reads the file, and where a listener
//! has several certificates, these; asks no running balancer and sends nothing.

pub(super) mod asked;
mod changes;
mod early;
mod limits;
mod lines;
pub mod live;
mod routes;
mod rules;

use std::borrow::Cow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use self::asked::{Asked, Target, parse_headers};
use self::lines::Lines;
use self::routes::{explain_outcome, other_routes};
use super::EXIT_USAGE;
use super::table::say;
use crate::config::{self, Config, Problem, Rewrite};
use crate::daemon::EXIT_CONFIG;
use crate::message::canonical_path::canonicalize;
use crate::route::{Matchers, Outcome, Query, Router, Unsendable};
use crate::units::Name;

/// Which route takes a request, and why not the others.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The request's method.
    pub method: Method,
    /// The request's URL (https://host/path?query) or its path.
    pub url: String,
    /// A header of the request, as 'name: value'. May be given more than once.
    #[arg(short = 'H', long)]
    pub header: Vec<String>,
    /// The listener it comes by. Default: the first that fits the URL's scheme.
    #[arg(long)]
    pub listener: Option<String>,
    /// The name the client asks for by TLS (SNI). Default: the URL's host.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints the explanation. 0: a route takes the request; 1: none does, or it is refused; 64: `args` make no request; 78:
/// the file at `config` is not valid.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    let report = config::load(config)
        .map_err(|errors| Failure::Configuration(errors.0))
        .and_then(|config| {
            let router = compile(&config).map_err(Failure::Configuration)?;
            report(args, &config, &router)
        });
    match report {
        Ok(report) => {
            if args.json {
                say(&format!("{:#}\n", report.json));
            } else {
                say(&report.text);
            }
            ExitCode::from(u8::from(!report.routed))
        }
        Err(Failure::Usage(message)) => {
            eprintln!("{message}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Configuration(problems)) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Why there is nothing to explain.
#[derive(Debug)]
enum Failure {
    Usage(String),
    Configuration(Vec<Problem>),
}

struct Report {
    text: String,
    json: Value,
    routed: bool,
}

impl Report {
    /// Of `lines`, the rules of those who may be asked, and why it is no other route.
    fn new(lines: &Lines, upstreams: &[(Name, Lines)], others: &Lines, routed: bool) -> Self {
        let mut text = lines.text();
        for (name, rules) in upstreams {
            text.push_str(&format!("\nupstream {name}\n{}", rules.text()));
        }
        if !others.is_empty() {
            text.push_str(&format!("\nother routes\n{}", others.text()));
        }
        let rules = |(name, rules): &(Name, Lines)| {
            let mut told = rules.json();
            told.insert("name".to_owned(), (**name).into());
            Value::Object(told)
        };
        let mut json = lines.json();
        json.insert("routed".to_owned(), routed.into());
        json.insert(
            "upstreams".to_owned(),
            upstreams.iter().map(rules).collect(),
        );
        json.insert("other_routes".to_owned(), others.json().into());
        Self {
            text,
            json: Value::Object(json),
            routed,
        }
    }

    /// Without a route.
    fn early(lines: &Lines, routed: bool) -> Self {
        Self::new(lines, &[], &Lines::default(), routed)
    }
}

/// The router of a file, or which of its routes cannot be told apart.
pub(super) fn compile(config: &Config) -> Result<Router, Vec<Problem>> {
    Router::compile(config.routes.iter().map(Matchers::from).collect()).map_err(|conflicts| {
        let problem = |conflict: crate::route::Conflict| {
            let [first, second] = [
                &config.routes[conflict.first],
                &config.routes[conflict.second],
            ];
            second.place.problem(format!(
                "cannot be told apart from the route {} ({})",
                first.name, first.place
            ))
        };
        conflicts.into_iter().map(problem).collect()
    })
}

/// What the route at `index` makes of the path that is asked for.
pub(super) fn sent_path<'p>(
    (config, router): (&Config, &Router),
    (index, rewrite): (usize, &Rewrite),
    asked: &Query<'p>,
) -> Result<Cow<'p, str>, Unsendable<'p>> {
    let longest = config.listeners[asked.listener].limits.uri_bytes;
    let action = |route: usize| &config.routes[route].action;
    let goes_within = |other: usize| action(index).is_within(action(other), asked.method);
    router.sent_path((rewrite, longest), asked, goes_within)
}

fn report(args: &Args, config: &Config, router: &Router) -> Result<Report, Failure> {
    let target = Target::parse(&args.method, &args.url).map_err(Failure::Usage)?;
    let headers = parse_headers(&args.header).map_err(Failure::Usage)?;
    let asked = Asked::of(args, config, &target, &headers).map_err(Failure::Usage)?;
    let listener = &config.listeners[asked.listener];

    let mut lines = Lines::default();
    lines.push("request", format!("{} {}", args.method, args.url));
    lines.push("listener", listener.name.to_string());
    lines.push(
        "host",
        match &*asked.host {
            "" => "(none)".to_owned(),
            host => host.to_owned(),
        },
    );
    if let Some(refusal) = early::refusal(args, config, &asked)? {
        lines.push("refused", refusal);
        return Ok(Report::early(&lines, false));
    }
    let path = match canonicalize(target.path) {
        Ok(path) => path,
        Err(error) => {
            lines.push("path", target.path.to_owned());
            lines.push("refused", format!("400, {error}"));
            return Ok(Report::early(&lines, false));
        }
    };
    lines.push("path", path.to_string());
    if target.path != path {
        lines.push("raw path", target.path.to_owned());
    }
    if let Some(redirect) = early::redirect(listener) {
        lines.push("action", redirect.to_owned());
        return Ok(Report::early(&lines, true));
    }
    let query = Query {
        listener: asked.listener,
        host: &asked.host,
        method: &args.method,
        headers: &headers,
        raw_path: target.path,
        path: &path,
    };
    let explanation = router.explain(&query);
    explain_outcome(&mut lines, config, &explanation);
    let mut routed = matches!(explanation.outcome, Outcome::Route(_));
    if let Outcome::Route(index) = explanation.outcome
        && let Some(rewrite) = &config.routes[index].rewrite
    {
        routed = changes::explain_rewrite(&mut lines, (config, router), (index, rewrite), &query);
    }
    let mut upstreams = Vec::new();
    if let Outcome::Route(index) = explanation.outcome {
        let route = &config.routes[index];
        let asked = route.action.upstreams();
        upstreams.extend(asked.map(|index| {
            let name = Arc::clone(&config.upstreams[index].name);
            (name, rules::rules(config, route, index))
        }));
    }
    let others = other_routes(config, &explanation);
    Ok(Report::new(&lines, &upstreams, &others, routed))
}

#[cfg(test)]
mod tests;
