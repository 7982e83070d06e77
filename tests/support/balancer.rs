//! The balancer as a process: started, told, watched and ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Connection, Reply};
use super::deadline::{eventually, eventually_some};
use super::origin::Origin;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_balancer");

/// A configuration with one plain listener `http`, one upstream `app` of these origins, and one route to it.
pub(crate) fn simple(origins: &[&Origin]) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .map(|origin| format!("\"{}\"", origin.address()))
        .collect();
    format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"

        [upstream.app]
        endpoints = [{}]

        [[route]]
        upstream = "app"
        "#,
        endpoints.join(", ")
    )
}

/// Endpoints `a`, `b`… at these addresses, as they stand in a file's list.
pub(crate) fn lettered(addresses: &[SocketAddr]) -> String {
    let endpoints = addresses.iter().zip('a'..);
    let endpoints: Vec<String> = endpoints
        .map(|(address, name)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    endpoints.join(", ")
}

/// A running balancer. Ended, and its log shown if the test failed, when dropped.
pub(crate) struct Balancer {
    child: Child,
    directory: TempDir,
    log: Lines,
    output: Lines,
}

/// What a reload came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The new generation.
    Accepted(u64),
    /// Every problem.
    Rejected(String),
}

impl Balancer {
    /// Starts with `configuration` and waits until it is ready. What the test does not care about is filled in: JSON
    /// logs, an admin address, two workers.
    #[track_caller]
    pub(crate) fn start(configuration: &str) -> Self {
        Self::start_with(configuration, |_| {})
    }

    /// The same, in a directory where `prepare` has put further files.
    #[track_caller]
    pub(crate) fn start_with(configuration: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::spawn(configuration, prepare, Command::new(BINARY)).ready()
    }

    /// The same, after a shell has set limits on the process.
    #[track_caller]
    pub(crate) fn start_limited(configuration: &str, limits: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\""), BINARY]);
        Self::spawn(configuration, |_| {}, shell).ready()
    }

    /// Starts without waiting for anything.
    pub(crate) fn spawn(
        configuration: &str,
        prepare: impl FnOnce(&Path),
        command: Command,
    ) -> Self {
        Self::spawn_reading(Stdio::null(), configuration, prepare, command)
    }

    /// The same, with a standard input.
    pub(crate) fn spawn_reading(
        input: Stdio,
        configuration: &str,
        prepare: impl FnOnce(&Path),
        mut command: Command,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        prepare(directory.path());
        fs::write(
            directory.path().join("balancer.toml"),
            completed(configuration),
        )
        .unwrap();
        let mut child = command
            .arg("--config")
            .arg(directory.path().join("balancer.toml"))
            .current_dir(directory.path())
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Lines::follow(child.stderr.take().expect("stderr is piped"));
        let output = Lines::follow(child.stdout.take().expect("stdout is piped"));
        Self {
            child,
            directory,
            log,
            output,
        }
    }

    /// Waits until a [`spawn`](Self::spawn)ed balancer is ready.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        eventually("the balancer is ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the balancer ended with {status} instead of getting ready");
            }
            !self.events("ready").is_empty()
        });
        self
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where a listener is reached.
    #[track_caller]
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let event = self
            .events("listener open")
            .into_iter()
            .rfind(|event| event["listener"] == listener);
        let event = event.unwrap_or_else(|| panic!("listener {listener} did not open"));
        event["address"]
            .as_str()
            .and_then(|address| address.parse().ok())
            .expect("an address")
    }

    /// Where the listener of [`simple`] is reached.
    #[track_caller]
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("http")
    }

    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        let events = self.events("admin open");
        events
            .last()
            .and_then(|event| event["address"].as_str()?.parse().ok())
            .expect("an admin address")
    }

    /// Every line logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.all()
    }

    /// Every line written to stdout so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.all()
    }

    /// The log's events with this message.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.log.all();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event: &Value| event["message"] == message)
            .collect()
    }

    /// Replaces the file, as an editor would.
    pub(crate) fn write_configuration(&self, configuration: &str) {
        let file = self.directory.path().join("balancer.toml");
        let beside = self.directory.path().join("balancer.toml.new");
        fs::write(&beside, completed(configuration)).unwrap();
        fs::rename(beside, file).unwrap();
    }

    /// Replaces the file, asks for a reload, and waits for its outcome.
    #[track_caller]
    pub(crate) fn reload(&self, configuration: &str) -> Outcome {
        self.write_configuration(configuration);
        self.reload_as_it_is()
    }

    /// Asks for a reload of the file as it is, and waits for the outcome.
    #[track_caller]
    pub(crate) fn reload_as_it_is(&self) -> Outcome {
        let outcomes = || -> Vec<Value> {
            let is_outcome = |event: &Value| {
                event["message"] == "configuration reloaded"
                    || event["message"] == "configuration rejected"
            };
            self.log
                .all()
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok())
                .filter(is_outcome)
                .collect()
        };
        let before = outcomes().len();
        self.signal(Signal::HUP);
        let outcome = eventually_some("the reload has an outcome", || {
            outcomes().into_iter().nth(before)
        });
        match outcome["generation"].as_u64() {
            Some(generation) if outcome["message"] == "configuration reloaded" => {
                Outcome::Accepted(generation)
            }
            _ => Outcome::Rejected(
                outcome["problems"]
                    .as_str()
                    .unwrap_or_else(|| panic!("no problems in {outcome}"))
                    .to_owned(),
            ),
        }
    }

    /// Reloads; fails if that is refused. The new generation.
    #[track_caller]
    pub(crate) fn reloaded(&self, configuration: &str) -> u64 {
        match self.reload(configuration) {
            Outcome::Accepted(generation) => generation,
            Outcome::Rejected(problems) => panic!("reload rejected: {problems}"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        eventually_some("the balancer ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks the admin listener.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str) -> Reply {
        let mut connection = Connection::open(self.admin());
        connection.send(format!(
            "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
        ));
        connection.reply()
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let reply = self.ask("/metrics");
        assert_eq!(reply.status, 200);
        Metrics::parse(&reply.text())
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let reply = self.ask("/api/v1/status");
        assert_eq!(reply.status, 200);
        serde_json::from_slice(&reply.body.bytes).expect("JSON")
    }

    /// One endpoint's part of the status.
    #[track_caller]
    pub(crate) fn endpoint(&self, upstream: &str, name: &str) -> Value {
        let status = self.status();
        let upstreams = status["upstreams"].as_array().expect("upstreams");
        let upstream = upstreams
            .iter()
            .find(|other| other["name"] == upstream)
            .expect("the upstream");
        let endpoint = upstream["endpoints"]
            .as_array()
            .expect("endpoints")
            .iter()
            .find(|other| other["name"] == name);
        endpoint
            .unwrap_or_else(|| panic!("no endpoint {name} in {upstream}"))
            .clone()
    }

    /// Waits until an endpoint's health is `health`.
    #[track_caller]
    pub(crate) fn await_health(&self, upstream: &str, name: &str, health: &str) {
        eventually(&format!("{upstream}/{name} is {health}"), || {
            self.endpoint(upstream, name)["health"] == health
        });
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- balancer's log:\n{}", self.log.all().join("\n"));
            return;
        }
        let panics: Vec<String> = self
            .log
            .all()
            .into_iter()
            .filter(|line| line.contains("panicked at"))
            .collect();
        assert!(panics.is_empty(), "the balancer panicked: {panics:?}");
    }
}

/// Adds the tables every test needs and few care about. At the end, so that line numbers stay.
fn completed(configuration: &str) -> String {
    let mut text = configuration.to_owned();
    for (table, content) in [
        ("[log]", "format = \"json\""),
        ("[admin]", "address = \"127.0.0.1:0\""),
        ("[process]", "workers = 2\nstartup_wait = \"2s\""),
    ] {
        if !configuration.contains(table) {
            text.push_str(&format!("\n{table}\n{content}\n"));
        }
    }
    text
}

/// The lines of a process's output, collected as they come.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn follow(output: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let collected = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                collected.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// One scrape.
pub(crate) struct Metrics {
    pub(crate) text: String,
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Reads the text exposition; fails on a line that is neither a comment nor a sample.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = samples
            .map(|line| parse_sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}")))
            .collect();
        Self {
            text: text.to_owned(),
            series,
        }
    }

    /// The sum of a family's samples that carry all of these labels; `None` where there is no such sample.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let carries = |series: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(label, value)| series.get(*label).is_some_and(|v| v == value))
        };
        let matching: Vec<f64> = self
            .series
            .iter()
            .filter(|(n, l, _)| n == name && carries(l))
            .map(|(_, _, value)| *value)
            .collect();
        (!matching.is_empty()).then(|| matching.iter().sum())
    }

    /// The same, with no sample read as 0.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_default()
    }
}

/// `name{label="value",…} number`
fn parse_sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().ok()?,
    };
    let Some((name, labels)) = series.split_once('{') else {
        return Some((series.to_owned(), BTreeMap::new(), value));
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut content = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => match characters.next()?.1 {
                    'n' => content.push('\n'),
                    other => content.push(other),
                },
                (end, '"') => break end,
                (_, other) => content.push(other),
            }
        };
        labels.insert(label.to_owned(), content);
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some((name.to_owned(), labels, value))
}
