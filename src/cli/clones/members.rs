//! Who is asked: the endpoints of one upstream, as the running balancer has them, or else as the file has them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use serde::Deserialize;

use super::{Args, Failure};
use crate::cli::running::{AskError, Running};
use crate::cli::table::complain;
use crate::config::{self, Config, ConfigErrors, HostPattern, Mode, Probe, VersionSource, hint};
use crate::metrics::{EndpointMetrics, Metrics};
use crate::snapshot::contacts;
use crate::upstream::{Endpoint, Health};

/// An upstream, and how its members are asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) upstream: String,
    pub(super) members: Vec<Member>,
    /// Names of those that are taken out, checks and all.
    pub(super) not_asked: Vec<String>,
    pub(super) host: HeaderValue,
    /// By what that was chosen, in words.
    pub(super) host_by: &'static str,
    /// Where answers say which version an endpoint runs.
    pub(super) version: Option<VersionSource>,
    /// Whether a running balancer has told of them.
    pub(super) is_live: bool,
}

/// One that is asked.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) set: Option<String>,
    /// How it is, where a running balancer says so.
    pub(super) state: Option<String>,
    /// Which version checks have found.
    pub(super) version: Option<String>,
}

impl Member {
    pub(super) fn name(&self) -> &str {
        self.endpoint.name()
    }
}

/// What is read of the status; there may be more.
#[derive(Debug, Default, Deserialize)]
struct Status {
    upstreams: Vec<KnownUpstream>,
}

#[derive(Debug, Deserialize)]
struct KnownUpstream {
    name: String,
    endpoints: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct Known {
    name: String,
    resolved: Option<String>,
    mode: String,
    state: String,
    version: Option<String>,
}

/// What is read of the configuration in use.
#[derive(Debug, Deserialize)]
struct InUse {
    text: Option<String>,
}

impl Asked {
    /// `host`: as whom they are asked, where the operator says so.
    pub(super) fn of(args: &Args, file: &Path, host: Option<HeaderValue>) -> Result<Self, Failure> {
        let (config, status) = match running(args, file) {
            Ok((text, status)) => (config::parse(&text, file)?, Some(status)),
            Err(why) => {
                complain(&format!("{why}; endpoints are asked as the file has them"));
                (config::load(file)?, None)
            }
        };
        let Some((index, upstream)) = config
            .upstreams
            .iter()
            .enumerate()
            .find(|(_, it)| *it.name == *args.upstream)
        else {
            let hint = hint(&args.upstream, config.upstreams.iter().map(|it| &*it.name));
            let why = format!("no upstream is named {:?}{hint}", args.upstream);
            return Err(Failure::Usage(why));
        };
        if upstream.authoritative && !args.method.is_safe() && !args.force {
            let why = format!(
                "{} may change something, and {:?} has one endpoint that serves and no other: all of them would do it; --force asks them all the same",
                args.method, args.upstream
            );
            return Err(Failure::Usage(why));
        }
        let is_live = status.is_some();
        let upstreams = status.unwrap_or_default().upstreams;
        let known = upstreams.into_iter().find(|it| *it.name == *upstream.name);
        let mut known: HashMap<String, Known> = known
            .into_iter()
            .flat_map(|it| it.endpoints)
            .map(|it| (it.name.clone(), it))
            .collect();
        let (contacts, _) = contacts(upstream).map_err(ConfigErrors)?;
        let metrics = Metrics::new();
        let (mut members, mut not_asked) = (Vec::new(), Vec::new());
        for (configured, contact) in upstream.endpoints.iter().zip(contacts) {
            let known = known.remove(&*configured.name);
            let is_disabled = match &known {
                Some(known) => known.mode == Mode::Disabled.as_str(),
                None => configured.mode == Some(Mode::Disabled),
            };
            if is_disabled {
                not_asked.push(configured.name.to_string());
                continue;
            }
            let name = &configured.name;
            let endpoint = Endpoint::new(
                Arc::clone(&upstream.name),
                Arc::clone(name),
                (contact, Health::Unchecked),
                (
                    Arc::default(),
                    EndpointMetrics::new(&metrics, &upstream.name, name),
                ),
            );
            // Where the balancer goes now; a name may lead elsewhere by now.
            let resolved = known.as_ref().and_then(|it| it.resolved.as_ref());
            if let Some(address) = resolved.and_then(|it| it.parse().ok()) {
                endpoint.set_resolved(Ok(address));
            }
            let (state, version) = known.map(|it| (it.state, it.version)).unzip();
            members.push(Member {
                endpoint: Arc::new(endpoint),
                set: configured.set.as_ref().map(ToString::to_string),
                state,
                version: version.flatten(),
            });
        }
        let (host, host_by) = match host {
            Some(host) => (host, "as told"),
            None => host_of(&config, (index, upstream)),
        };
        Ok(Self {
            upstream: upstream.name.to_string(),
            members,
            not_asked,
            host,
            host_by,
            version: upstream.health.as_ref().and_then(|it| it.version.clone()),
            is_live,
        })
    }
}

/// The file that is in use, which may be another one by now, and how endpoints are.
fn running(args: &Args, file: &Path) -> Result<(String, Status), AskError> {
    let running = Running::with(file, &args.at)?;
    let in_use: InUse = running.get("/api/v1/config")?;
    let status = running.get("/api/v1/status")?;
    let no_text = || AskError::Version("which does not show its file".to_owned());
    Ok((in_use.text.ok_or_else(no_text)?, status))
}

/// As which host the members of `upstream` are asked where nobody says so: the same for all, for much of an answer may be made of it.
fn host_of(
    config: &Config,
    (index, upstream): (usize, &config::Upstream),
) -> (HeaderValue, &'static str) {
    let of_checks = upstream
        .health
        .as_ref()
        .and_then(|health| match &health.probe {
            Probe::Http { host, .. } | Probe::Grpc { host, .. } => host.clone(),
            Probe::Tcp => None,
        });
    if let Some(host) = of_checks {
        return (host, "as checks do");
    }
    let routes = config.routes.iter();
    let mut hosts = routes
        .filter(|route| route.action.upstreams().any(|it| it == index))
        .flat_map(|route| &route.hosts)
        .filter_map(|host| match host {
            HostPattern::Exact(name) => HeaderValue::from_str(name).ok(),
            HostPattern::Wildcard(_) => None,
        });
    match hosts.next() {
        Some(host) => (host, "of a route"),
        None => (HeaderValue::from_static("localhost"), "no route names one"),
    }
}
