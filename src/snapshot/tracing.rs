//! Which requests become traces, and how their collector is reached, with what its files hold.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::{self, Address, Config, Problem};
use crate::message::redact::Secrets;
use crate::tls::{Client, client};
use crate::units::ByteSize;

/// What a request has to know of traces.
#[derive(Debug)]
pub struct Tracing {
    /// Of 2⁵⁶ equally likely requests so many are traced.
    pub sampled: u64,
    /// Whether a trusted proxy that has decided about a request is followed.
    pub parent_based: bool,
    /// Whether spans hold queries.
    pub query: bool,
    /// Parameters whose values they do not hold.
    pub secrets: Option<Arc<Secrets>>,
    /// Where they go. Shared with who sends them.
    pub collector: Arc<Collector>,
}

impl Tracing {
    /// All requests, in units of [`Tracing::sampled`].
    pub const ALL: u64 = 1 << 56;
}

/// Who takes traces.
#[derive(Debug)]
pub struct Collector {
    /// Where it is reached.
    pub address: Address,
    /// How to speak TLS to it.
    pub tls: Option<Client>,
    /// `Host`
    pub host: HeaderValue,
    /// The path to send to.
    pub path: Box<str>,
    /// What it gets beside.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long it may take to take what it is sent.
    pub timeout: Duration,
    /// Bytes that may wait for it.
    pub queue: usize,
    /// What is said of this process: keys and values.
    pub resource: Vec<(Box<str>, Box<str>)>,
}

impl Collector {
    /// Where spans are sent.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = self.host.to_str().unwrap_or_default();
        format!("{scheme}://{host}{}", self.path)
    }
}

/// What `config` says of traces, and what is doubtful about it.
pub(super) fn tracing(config: &Config) -> Result<(Option<Tracing>, Vec<Problem>), Vec<Problem>> {
    let Some(tracing) = &config.tracing else {
        return Ok((None, Vec::new()));
    };
    let (mut problems, mut doubts) = (Vec::new(), doubts(config, tracing));
    let mut headers = tracing.headers.clone();
    for file in &tracing.header_files {
        match value(file) {
            Ok(value) => headers.push((file.name.clone(), value)),
            Err(problem) => problems.push(problem),
        }
    }
    let collector = &tracing.collector;
    let tls = match &collector.tls {
        None => None,
        Some(tls) => match client(tls, "http/1.1") {
            Err(mut found) => {
                problems.append(&mut found);
                None
            }
            Ok(mut settings) => {
                doubts.append(&mut settings.warnings);
                let made = settings.of(&collector.address);
                if made.is_none() {
                    problems.push(collector.place.problem(format!(
                        "no certificate can be for the host of {}: give the name it proves as tls.server_name",
                        collector.address
                    )));
                }
                made
            }
        },
    };
    let host = HeaderValue::from_str(&collector.authority)
        .map_err(|_| problems.push(collector.place.problem("its host is no name")));
    let (Ok(host), true) = (host, problems.is_empty()) else {
        return Err(problems);
    };
    let service = (Box::from("service.name"), tracing.service_name.clone());
    let collector = Collector {
        address: collector.address.clone(),
        tls,
        host,
        path: collector.path.clone(),
        headers,
        timeout: tracing.timeout,
        queue: tracing.queue.as_usize(),
        resource: std::iter::once(service)
            .chain(tracing.resource.iter().cloned())
            .collect(),
    };
    let made = Tracing {
        sampled: (tracing.sample * Tracing::ALL as f64) as u64,
        parent_based: tracing.parent_based,
        query: tracing.query,
        secrets: config.access_log.redact.query.clone().map(Arc::new),
        collector: Arc::new(collector),
    };
    Ok((Some(made), doubts))
}

/// What the field of `file` holds. Problems do not show it.
fn value(file: &config::HeaderFile) -> Result<HeaderValue, Problem> {
    let path = file.path.display();
    let problem = |message: String| file.place.problem(message);
    let text = config::read_file(&file.path, LARGEST)
        .map_err(|error| problem(format!("{path} cannot be read: {error}")))?;
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(problem(format!(
            "{path} is empty; it must hold what {} is",
            file.name
        )));
    }
    let mut value = HeaderValue::from_bytes(text)
        .map_err(|_| problem(format!("{path} must hold one line of printable ASCII")))?;
    value.set_sensitive(true);
    Ok(value)
}

fn doubts(config: &Config, tracing: &config::Tracing) -> Vec<Problem> {
    let mut doubts = Vec::new();
    let collector = &tracing.collector;
    let is_here = match &collector.address {
        Address::Socket(address) => match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        },
        Address::Name(..) => false,
    };
    if collector.tls.is_none() && !is_here && !tracing.header_files.is_empty() {
        doubts.push(
            collector
                .place
                .problem("header_files are sent in plain text to another machine: use https"),
        );
    }
    let nobody_is_trusted = config
        .listeners
        .iter()
        .all(|it| it.trusted_proxies.is_empty());
    if tracing.sample == 0.0 && nobody_is_trusted {
        doubts.push(tracing.place.problem(
            "sample = 0 traces only what a trusted proxy has decided to trace, and no listener has trusted_proxies: nothing is traced",
        ));
    }
    doubts
}

/// More than any token.
const LARGEST: ByteSize = ByteSize::kibibytes(16);
