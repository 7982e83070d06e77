//! `balancer status`: what the running balancer knows of its listeners and endpoints.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::audit::Audit;
use super::running::{AskError, At, Running, finished};
use super::table::{Cell, Table, Tone, in_colour};
use crate::config::hint;
use crate::units::unix_seconds;
use crate::upstream::state::STANDBY;

/// Between two looks.
const WATCH: Duration = Duration::from_secs(1);

/// Show listeners, upstreams and endpoints of the running balancer.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this upstream.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
    /// Again every second, until it is ended.
    #[arg(long)]
    watch: bool,
}

/// What is read of the status; there may be more.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    generation: u64,
    started: u64,
    last_reload: Option<LastReload>,
    upgrade: Option<Upgrade>,
    listeners: Vec<Listener>,
    upstreams: Vec<Upstream>,
}

#[derive(Debug, Deserialize)]
struct Upgrade {
    state: String,
    pid: u32,
    connections: Option<usize>,
}

impl Upgrade {
    fn text(&self) -> String {
        let pid = self.pid;
        match self.connections {
            Some(connections) => {
                let s = if connections == 1 { "" } else { "s" };
                format!(
                    "process {pid}, from before the upgrade, finishes {connections} connection{s}\n\n"
                )
            }
            None => format!("upgrade: process {pid} is {}\n\n", self.state),
        }
    }
}

#[derive(Debug, Deserialize)]
struct LastReload {
    by: String,
    result: String,
    at: u64,
    why: Option<String>,
}

impl LastReload {
    /// What has to be known of it: that the file on disk is not what is in use.
    fn warning(&self, now: u64) -> Option<String> {
        let ago = ago(now.saturating_sub(self.at));
        match (&*self.by, &*self.result) {
            ("auto-rollback", "accepted") => Some(format!(
                "rolled back automatically {ago} ago: {}\n",
                self.why.as_deref().unwrap_or_default()
            )),
            (_, "rejected") => Some(format!(
                "the last reload ({}) was rejected {ago} ago; the configuration before it is in use\n",
                self.by
            )),
            _ => None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Listener {
    name: String,
    address: String,
    tls: bool,
    open_connections: usize,
}

#[derive(Debug, Deserialize)]
struct Upstream {
    name: String,
    policy: String,
    available: usize,
    /// Balancers before it was told say nothing of it.
    headroom: Option<Headroom>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    no_authority: Option<String>,
    #[serde(default)]
    active_set: Option<String>,
    #[serde(default)]
    file_set: Option<String>,
    #[serde(default)]
    flip: Option<super::flip::Flip>,
    /// Since when endpoints of more than one version serve.
    skew_since: Option<u64>,
    #[serde(default)]
    versions: Option<Vec<Version>>,
    #[serde(default)]
    affinity_audit: Option<Audit>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Version {
    serving: usize,
}

/// How many endpoints could be lost with the load still carried.
#[derive(Debug, Deserialize)]
struct Headroom {
    could_lose: usize,
    could_lose_at_peak: usize,
    of: usize,
    peak: u64,
    by: String,
}

impl Headroom {
    /// `could lose 1 of 3 (by max_in_flight; 0 at the peak of 40)`
    fn text(&self) -> String {
        let Self {
            could_lose,
            could_lose_at_peak,
            of,
            peak,
            by,
        } = self;
        let by = match (&**by, peak) {
            ("max_in_flight", _) => "by max_in_flight".to_owned(),
            (_, 0) => "nothing was in flight yet".to_owned(),
            ("observed_peak", _) => "by what they have carried".to_owned(),
            _ => "by max_in_flight and what the others have carried".to_owned(),
        };
        let at_peak = if could_lose == could_lose_at_peak {
            String::new()
        } else {
            format!("; {could_lose_at_peak} at the peak of {peak}")
        };
        format!(", could lose {could_lose} of {of} ({by}{at_peak})")
    }
}

/// One endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoint {
    pub(super) id: u64,
    /// A reload has removed it, and it finishes what it has.
    #[serde(default)]
    pub(super) gone: bool,
    name: String,
    #[serde(default)]
    set: Option<String>,
    weight: u32,
    pub(super) mode: String,
    pub(super) state: String,
    reason: Option<String>,
    since: u64,
    pub(super) in_flight: u32,
    pub(super) tunnels: u32,
    eligible: bool,
    version: Option<String>,
}

impl Endpoint {
    /// `draining (3 in flight, 2 tunnels)`: what is left, where it shall be left.
    pub(super) fn state_with_rest(&self) -> String {
        if let Some(set) = &self.set
            && self.state == STANDBY
        {
            return format!("{STANDBY} (set {set})");
        }
        if self.mode == "active" || self.in_flight == 0 {
            return self.state.clone();
        }
        format!(
            "{} ({})",
            self.state,
            in_flight(self.in_flight, self.tunnels)
        )
    }

    fn tone(&self) -> Tone {
        match &*self.state {
            "down" | "held" | "unresolved" => Tone::Bad,
            "up" | "unchecked" | STANDBY => Tone::Good,
            _ => Tone::Doubtful,
        }
    }
}

/// `3 in flight, 2 tunnels`; the tunnels are not counted twice.
pub(super) fn in_flight(in_flight: u32, tunnels: u32) -> String {
    let requests = in_flight.saturating_sub(tunnels);
    match tunnels {
        0 => format!("{requests} in flight"),
        1 => format!("{requests} in flight, 1 tunnel"),
        _ => format!("{requests} in flight, {tunnels} tunnels"),
    }
}

/// Shows the status of the balancer that runs with the file at `config`.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    finished(show(args, config))
}

fn show(args: &Args, config: &Path) -> Result<ExitCode, AskError> {
    let running = Running::with(config, &args.at)?;
    loop {
        let mut status: Value = running.get("/api/v1/status")?;
        if let Some(upstream) = &args.upstream {
            narrow(&mut status, upstream)?;
        }
        let text = if args.json {
            format!("{status}\n")
        } else {
            let status = Status::deserialize(&status)
                .map_err(|_| AskError::Version(status["version"].to_string()))?;
            status.text(now(), in_colour())
        };
        let clear = if args.watch && !args.json && stdout().is_terminal() {
            "\x1b[H\x1b[2J"
        } else {
            ""
        };
        let written = write!(stdout(), "{clear}{text}").and_then(|()| stdout().flush());
        if !args.watch || written.is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(WATCH);
    }
}

/// Leaves only the upstream called `name`.
fn narrow(status: &mut Value, name: &str) -> Result<(), AskError> {
    let Some(upstreams) = status["upstreams"].as_array_mut() else {
        return Ok(());
    };
    let names = upstreams.iter().filter_map(|it| it["name"].as_str());
    let hint = hint(name, names);
    upstreams.retain(|it| it["name"] == name);
    if upstreams.is_empty() {
        return Err(AskError::NoUpstream(name.to_owned(), hint));
    }
    Ok(())
}

impl Status {
    fn text(&self, now: u64, in_colour: bool) -> String {
        let mut text = format!(
            "balancer {}, generation {}, up {}\n",
            self.version,
            self.generation,
            ago(now.saturating_sub(self.started))
        );
        let last = self.last_reload.as_ref();
        text.push_str(&last.and_then(|last| last.warning(now)).unwrap_or_default());
        text.push('\n');
        if let Some(upgrade) = &self.upgrade {
            text.push_str(&upgrade.text());
        }
        let mut listeners = Table::with_heading(&["listener", "address", "", "connections"]);
        for listener in &self.listeners {
            listeners.push(vec![
                Cell::plain(&listener.name),
                Cell::plain(&listener.address),
                Cell::plain(if listener.tls { "tls" } else { "" }),
                Cell::plain(listener.open_connections),
            ]);
        }
        text.push_str(&listeners.text("", in_colour));
        for upstream in &self.upstreams {
            text.push_str(&format!(
                "\nupstream {} ({}): {} of {} available{}{}\n",
                upstream.name,
                upstream.by(),
                upstream.available,
                upstream.endpoints.len(),
                upstream
                    .headroom
                    .as_ref()
                    .filter(|_| !upstream.is_authoritative())
                    .map_or_else(String::new, Headroom::text),
                upstream.skew(now)
            ));
            text.push_str(&upstream.sets());
            text.push_str(&upstream.authority());
            if let Some(audit) = &upstream.affinity_audit {
                text.push_str(&format!("  affinity audit: {}\n", audit.text()));
            }
            text.push_str(&upstream.endpoints(now).text("  ", in_colour));
        }
        text
    }
}

impl Upstream {
    /// Which set serves, whether the file says so, and what the last flip has come to.
    fn sets(&self) -> String {
        let Some(active) = &self.active_set else {
            return String::new();
        };
        let mut text = format!("  set {active} serves");
        if let Some(file) = &self.file_set {
            text.push_str(&format!(
                ", the file says {file}: a restart lets that serve"
            ));
        }
        if let Some(flip) = &self.flip {
            text.push_str(&format!("; last flip: {}", flip.text(active)));
        }
        text + "\n"
    }

    fn is_authoritative(&self) -> bool {
        self.authority.is_some() || self.no_authority.is_some()
    }

    /// What decides who is asked.
    fn by(&self) -> &str {
        match self.is_authoritative() {
            true => "authoritative",
            false => &self.policy,
        }
    }

    /// Who alone serves, or why nobody.
    fn authority(&self) -> String {
        match (&self.authority, &self.no_authority) {
            (Some(name), _) if let Some(endpoint) = self.not_asked(name) => format!(
                "  authority {name} is {}: requests are refused (no_endpoint)\n",
                endpoint.state
            ),
            (Some(name), _) => format!("  authority {name} serves, no other\n"),
            (None, Some(why)) => format!("  no authority, requests are refused: {why}\n"),
            (None, None) => String::new(),
        }
    }

    /// The endpoint called `name`, where it may not be asked.
    fn not_asked(&self, name: &str) -> Option<&Endpoint> {
        let mut endpoints = self.endpoints.iter();
        endpoints.find(|it| it.name == name && !it.eligible)
    }

    /// `, 2 versions serve since 5 min 3 s`
    fn skew(&self, now: u64) -> String {
        let (Some(since), Some(versions)) = (self.skew_since, &self.versions) else {
            return String::new();
        };
        let serving = versions.iter().filter(|it| it.serving > 0).count();
        let long = ago(now.saturating_sub(since));
        format!(", {serving} versions serve since {long}")
    }

    fn endpoints(&self, now: u64) -> Table {
        // Only where somebody asks for versions.
        let has_versions = self.versions.is_some();
        let mut heading = vec!["endpoint", "state", "since", "in flight", "weight"];
        heading.extend(has_versions.then_some("version"));
        heading.push("reason");
        let mut table = Table::with_heading(&heading);
        for endpoint in &self.endpoints {
            let idle = if endpoint.eligible { "" } else { "not picked" };
            let mut row = vec![
                Cell::plain(&endpoint.name),
                Cell::new(endpoint.state_with_rest(), endpoint.tone()),
                Cell::plain(ago(now.saturating_sub(endpoint.since))),
                Cell::plain(endpoint.in_flight),
                Cell::plain(endpoint.weight),
            ];
            if has_versions {
                let version = endpoint.version.as_deref();
                row.push(match version {
                    Some(version) => Cell::plain(version),
                    None => Cell::new("unknown", Tone::Doubtful),
                });
            }
            row.push(Cell::plain(endpoint.reason.as_deref().unwrap_or(idle)));
            table.push(row);
        }
        table
    }
}

/// Seconds, in the two largest units.
pub(super) fn ago(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

pub(super) fn now() -> u64 {
    unix_seconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_is_told_in_aligned_lines() {
        let endpoint = |name: &str, mode: &str, state: &str, reason: Option<&str>| {
            json!({ "id": 1, "name": name, "weight": 1, "mode": mode, "state": state, "reason": reason,
                "since": 940, "in_flight": 5, "tunnels": 2, "eligible": state == "up", "more": 1 })
        };
        let status = json!({
            "version": "1.2.3", "generation": 7, "started": 0, "more": [],
            "listeners": [{ "name": "http", "address": "127.0.0.1:80", "tls": false, "open_connections": 12 }],
            "upstreams": [{ "name": "app", "policy": "round-robin", "available": 1, "endpoints": [
                endpoint("a", "active", "up", None),
                endpoint("bb", "draining", "draining", None),
                endpoint("c", "active", "down", Some("refused")),
            ] }],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(
            status.text(1000, false),
            "balancer 1.2.3, generation 7, up 16 min 40 s\n\n\
             listener  address         connections\n\
             http      127.0.0.1:80    12\n\n\
             upstream app (round-robin): 1 of 3 available\n\
             \x20 endpoint  state                              since      in flight  weight  reason\n\
             \x20 a         up                                 1 min 0 s  5          1\n\
             \x20 bb        draining (3 in flight, 2 tunnels)  1 min 0 s  5          1       not picked\n\
             \x20 c         down                               1 min 0 s  5          1       refused\n"
        );
    }

    #[test]
    fn regression_authority_that_may_not_be_asked_is_not_said_to_serve() {
        let told = |state: &str| {
            let endpoint = json!({ "id": 1, "name": "a", "weight": 1, "mode": "active", "state": state, "reason": null,
                "since": 940, "in_flight": 0, "tunnels": 0, "eligible": state == "up" });
            let upstream = json!({ "name": "app", "policy": "random", "available": 0, "authority": "a", "endpoints": [endpoint] });
            let upstream: Upstream = serde_json::from_value(upstream).unwrap();
            upstream.authority()
        };
        assert_eq!(told("up"), "  authority a serves, no other\n");
        for state in ["draining", "disabled", "down"] {
            let refused = format!("  authority a is {state}: requests are refused (no_endpoint)\n");
            assert_eq!(told(state), refused);
        }
    }

    #[test]
    fn versions_are_told_where_they_are_asked_for() {
        let endpoint = |name: &str, state: &str, version: Option<&str>| {
            json!({ "id": 1, "name": name, "weight": 1, "mode": "active", "state": state, "reason": null,
                "since": 940, "in_flight": 0, "tunnels": 0, "eligible": true, "version": version })
        };
        let status = json!({
            "version": "1.2.3", "generation": 7, "started": 0, "listeners": [],
            "upstreams": [{ "name": "app", "policy": "random", "available": 3, "skew_since": 940,
                "versions": [{ "version": "41", "endpoints": 1, "serving": 1 }, { "version": "42", "endpoints": 1, "serving": 1 },
                    { "version": "40", "endpoints": 1, "serving": 0 }],
                "endpoints": [endpoint("a", "up", Some("41")), endpoint("b", "up", Some("42")), endpoint("c", "up", None)],
            }],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        let text = status.text(1000, false);
        let told = text.split_once("\nupstream ").unwrap().1;
        assert_eq!(
            told,
            "app (random): 3 of 3 available, 2 versions serve since 1 min 0 s\n\
             \x20 endpoint  state  since      in flight  weight  version  reason\n\
             \x20 a         up     1 min 0 s  0          1       41\n\
             \x20 b         up     1 min 0 s  0          1       42\n\
             \x20 c         up     1 min 0 s  0          1       unknown\n"
        );
    }

    #[test]
    fn reload_that_is_not_in_use_is_told_of() {
        let warning = |by: &str, result: &str, why: Option<&str>| {
            let last = json!({ "by": by, "result": result, "at": 940, "why": why });
            let last: LastReload = serde_json::from_value(last).unwrap();
            last.warning(1000)
        };
        assert_eq!(warning("signal", "accepted", None), None);
        assert_eq!(warning("rollback", "accepted", None), None);
        assert_eq!(
            warning("watch", "rejected", None).unwrap(),
            "the last reload (watch) was rejected 1 min 0 s ago; the configuration before it is in use\n"
        );
        assert_eq!(
            warning("auto-rollback", "accepted", Some("much failed")).unwrap(),
            "rolled back automatically 1 min 0 s ago: much failed\n"
        );
    }

    #[test]
    fn headroom_says_what_it_is_known_by() {
        let headroom = |could_lose, at_peak, peak, by: &str| {
            let headroom = Headroom {
                could_lose,
                could_lose_at_peak: at_peak,
                of: 3,
                peak,
                by: by.to_owned(),
            };
            headroom.text()
        };
        assert_eq!(
            headroom(1, 0, 40, "max_in_flight"),
            ", could lose 1 of 3 (by max_in_flight; 0 at the peak of 40)"
        );
        assert_eq!(
            headroom(0, 0, 40, "observed_peak"),
            ", could lose 0 of 3 (by what they have carried)"
        );
        assert_eq!(
            headroom(2, 2, 0, "observed_peak"),
            ", could lose 2 of 3 (nothing was in flight yet)"
        );
        assert_eq!(
            headroom(2, 2, 4, "both"),
            ", could lose 2 of 3 (by max_in_flight and what the others have carried)"
        );
    }

    #[test]
    fn status_tells_of_an_upgrade_under_way_and_of_what_is_left_after_one() {
        let text = |upgrade| {
            let status = json!({ "version": "1.2.3", "generation": 7, "started": 0, "listeners": [],
                "upstreams": [], "upgrade": upgrade });
            let status: Status = serde_json::from_value(status).unwrap();
            let text = status.text(0, false);
            text.lines().nth(2).unwrap_or_default().to_owned()
        };
        assert_eq!(
            text(json!({ "state": "starting", "pid": 12 })),
            "upgrade: process 12 is starting"
        );
        assert_eq!(
            text(json!({ "state": "draining", "pid": 11, "connections": 3 })),
            "process 11, from before the upgrade, finishes 3 connections"
        );
    }

    #[test]
    fn times_are_short() {
        assert_eq!(ago(59), "59 s");
        assert_eq!(ago(61), "1 min 1 s");
        assert_eq!(ago(3 * 3600 + 60), "3 h 1 min");
        assert_eq!(ago(50 * 3600), "2 d 2 h");
    }
}
