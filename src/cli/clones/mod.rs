//! `balancer clones`: asks every member of an upstream the same thing, past the balancer, and shows in what the answers differ.
//! Changes nothing, follows no redirect, and shows no value of a cookie.

mod answers;
mod ask;
mod audited;
mod body;
mod compare;
mod json;
mod members;
mod tell;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri};

use self::answers::Wanted;
use self::ask::Question;
use self::compare::Compared;
use self::members::Asked;
use super::explain::asked::parse_headers;
use super::running::At;
use super::table::{complain, in_colour, say};
use super::{EXIT_TIMEOUT, EXIT_USAGE};
use crate::config::{ConfigErrors, duration};
use crate::daemon::EXIT_CONFIG;

/// Ask every member of an upstream the same thing, and show where their answers differ.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Whose endpoints.
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
    /// What they are asked for, with query.
    #[arg(long, value_name = "/PATH", default_value = "/")]
    path: PathAndQuery,
    /// Another method than GET; nothing is sent but the head.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: Method,
    /// As which host they are asked. Default: as in checks, else the first of a route to them, else localhost.
    #[arg(long, value_name = "HOST")]
    host: Option<HeaderValue>,
    /// A header of the request, as 'name: value'. May be given more than once.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    request_header: Vec<String>,
    /// A header of the answers to be compared, instead of the usual ones. May be given more than once.
    #[arg(long, value_name = "NAME")]
    header: Vec<HeaderName>,
    /// What is left out of bodies before they are compared, as a regular expression. May be given more than once.
    #[arg(long, value_name = "REGEX")]
    ignore: Vec<regex::bytes::Regex>,
    /// How often each is asked. Default: 3 times, and once with a method that may change something.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// How long to wait for an answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Ask nobody: tell what the running balancer has found out about moving clients (affinity.audit).
    #[arg(long, conflicts_with_all = ["path", "method", "host", "request_header", "header", "ignore", "rounds", "timeout"])]
    audit: bool,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Configuration(#[from] ConfigErrors),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Configuration(_) => EXIT_CONFIG,
            Self::Io(_) => EXIT_TIMEOUT,
        }
    }
}

/// Asks the members that the balancer has that runs with the file at `config`; where none does, those of the file. 0: all say
/// the same; 1: they differ; 4: somebody did not answer, or too little of what they say is the same each time to tell.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    if args.audit {
        return audited::run(args, config);
    }
    match asked_and_told(args, config) {
        Ok(code) => code,
        Err(failure) => {
            match &failure {
                // Lines of a file begin with its name.
                Failure::Configuration(problems) => eprintln!("{problems}"),
                Failure::Usage(_) | Failure::Io(_) => complain(&failure.to_string()),
            }
            failure.code().into()
        }
    }
}

fn asked_and_told(args: &Args, config: &Path) -> Result<ExitCode, Failure> {
    let (question, host) = question(args)?;
    if args.header.contains(&header::SET_COOKIE) {
        let why = "Set-Cookie cannot be given as --header: the names of cookies are compared always, their values never";
        return Err(Failure::Usage(why.to_owned()));
    }
    let asked = Asked::of(args, config, host)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answered = runtime.block_on(ask::rounds(&asked, &question));
    let wanted = Wanted {
        headers: headers(args),
        ignored: &args.ignore,
        version: asked.version.as_ref(),
    };
    let compared = Compared::of(&asked, (&question.method, &wanted), &answered);
    say(&if args.json {
        format!("{}\n", json::json(&question, &asked, &compared))
    } else {
        tell::text(&question, &asked, &compared, in_colour())
    });
    Ok(if !compared.all_answered() {
        EXIT_TIMEOUT.into()
    } else if compared.differs() {
        ExitCode::FAILURE
    } else if compared.is_untold() {
        EXIT_TIMEOUT.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// What is asked, and as which host where that is said.
fn question(args: &Args) -> Result<(Question, Option<HeaderValue>), Failure> {
    let mut fields = parse_headers(&args.request_header).map_err(Failure::Usage)?;
    let about_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    if let Some(field) = about_body.iter().find(|name| fields.contains_key(*name)) {
        let why = format!("-H cannot give {field}: no body is sent");
        return Err(Failure::Usage(why));
    }
    if args.method == Method::CONNECT {
        return Err(Failure::Usage(
            "--method CONNECT asks for no answer".to_owned(),
        ));
    }
    let host = args.host.clone().or_else(|| fields.remove(header::HOST));
    if let Some(host) = &host
        && Uri::try_from(host.as_bytes()).map_or(true, |uri| uri.authority().is_none())
    {
        let host = tell::shown(&String::from_utf8_lossy(host.as_bytes()));
        return Err(Failure::Usage(format!("{host} is not a host")));
    }
    let usual = if args.method.is_safe() {
        USUAL_ROUNDS
    } else {
        1
    };
    let question = Question {
        method: args.method.clone(),
        path: args.path.to_string(),
        headers: listed(&fields),
        rounds: args.rounds.unwrap_or(usual),
        timeout: args.timeout,
    };
    Ok((question, host))
}

/// Who asks, unless the operator says something else.
fn listed(fields: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let agent = (header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let own = (!fields.contains_key(header::USER_AGENT)).then_some(agent);
    let given = fields
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    own.into_iter().chain(given).collect()
}

fn headers(args: &Args) -> Vec<HeaderName> {
    if args.header.is_empty() {
        USUAL_HEADERS.to_vec()
    } else {
        let mut headers = args.header.clone();
        let mut seen = std::collections::HashSet::new();
        headers.retain(|name| seen.insert(name.clone()));
        headers
    }
}

const USER_AGENT: &str = concat!("balancer-clones/", env!("CARGO_PKG_VERSION"));
const USUAL_ROUNDS: u16 = 3; // two see that something changes, the third that it was no chance
const USUAL_HEADERS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::LOCATION,
    header::CACHE_CONTROL,
    header::ETAG,
    header::SERVER,
];
