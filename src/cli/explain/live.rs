//! `balancer explain --live`: asks the running balancer where a request would go if it came now, and who would get it.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::lines::Lines;
use crate::cli::running::{AskError, At, Running, encoded, finished};
use crate::cli::table::{Cell, Table, Tone, in_colour, say};

/// Tell which route takes a request, and why.
#[derive(Clone, Debug, clap::Args)]
pub struct Question {
    #[command(flatten)]
    asked: super::Args,
    /// Ask the balancer that runs with the file, as things are now: which endpoint would be asked, and why not the others.
    #[arg(long)]
    live: bool,
    /// The client's address. Default: 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", requires = "live")]
    client: Option<IpAddr>,
    #[command(flatten)]
    at: At,
}

/// What is read of the explanation; there may be more.
#[derive(Debug, Deserialize)]
struct Explained {
    generation: u64,
    listener: String,
    host: String,
    client: IpAddr,
    path: Option<String>,
    sent_path: Option<String>,
    route: Option<String>,
    answer: Option<Answer>,
    forward: Option<Forward>,
    others: Vec<Other>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: u16,
    why: String,
    refused: bool,
}

#[derive(Debug, Deserialize)]
struct Forward {
    upstream: String,
    policy: String,
    waits: Option<String>,
    endpoint: Option<String>,
    by: String,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Deserialize)]
struct Candidate {
    endpoint: String,
    state: String,
    why_not: Option<String>,
    weight: u32,
    in_flight: u32,
    version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Other {
    route: String,
    why: String,
}

/// Explains by the file at `config`, or by the balancer that runs with it. 0: a route takes the request; 1: none does, or it is
/// refused, or no balancer runs.
pub fn run(args: &Question, config: &Path) -> ExitCode {
    if args.live {
        finished(ask(args, config))
    } else {
        super::run(&args.asked, config)
    }
}

fn ask(args: &Question, config: &Path) -> Result<ExitCode, AskError> {
    let told: Value = Running::with(config, &args.at)?.get(&args.path())?;
    let explained = Explained::deserialize(&told)
        .map_err(|_| AskError::Version("of an unknown version".to_owned()))?;
    if args.asked.json {
        say(&format!("{told}\n"));
    } else {
        let request = format!("{} {}", args.asked.method, args.asked.url);
        say(&explained.text(&request, in_colour()));
    }
    let is_refused = explained.answer.is_some_and(|answer| answer.refused);
    Ok(ExitCode::from(u8::from(is_refused)))
}

impl Question {
    /// Where the API has the explanation.
    fn path(&self) -> String {
        let super::Args {
            method,
            url,
            header,
            listener,
            server_name,
            ..
        } = &self.asked;
        let mut path = format!(
            "/api/v1/explain?method={}&url={}",
            encoded(method.as_str()),
            encoded(url)
        );
        let client = self.client.map(|client| client.to_string());
        let headers = header.iter().map(|header| ("header", header));
        let more = [
            ("listener", listener),
            ("server_name", server_name),
            ("client", &client),
        ];
        let more = more
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in headers.chain(more) {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
        path
    }
}

impl Explained {
    fn text(&self, request: &str, in_colour: bool) -> String {
        let mut lines = Lines::default();
        lines.push("request", request.to_owned());
        lines.push("generation", self.generation.to_string());
        lines.push("listener", self.listener.clone());
        let host = if self.host.is_empty() {
            "(none)"
        } else {
            &self.host
        };
        lines.push("host", host.to_owned());
        lines.push("client", self.client.to_string());
        for (label, told) in [
            ("path", &self.path),
            ("sent path", &self.sent_path),
            ("route", &self.route),
        ] {
            if let Some(told) = told {
                lines.push(label, told.clone());
            }
        }
        if let Some(forward) = &self.forward {
            let Forward {
                upstream, policy, ..
            } = forward;
            lines.push("upstream", format!("{upstream}, {policy}"));
            match forward.waits.as_deref() {
                Some("paused") => lines.push("waits", "until the upstream is resumed".to_owned()),
                Some(_) => lines.push("waits", "for an endpoint with room".to_owned()),
                None => {}
            }
            if let Some(endpoint) = &forward.endpoint {
                lines.push("endpoint", format!("{endpoint}, by {}", forward.by));
            }
        }
        if let Some(Answer {
            status,
            why,
            refused,
        }) = &self.answer
        {
            let label = if *refused { "refused" } else { "answer" };
            lines.push(label, format!("{status}, {why}"));
        }
        let mut text = lines.text();
        if let Some(forward) = &self.forward {
            text.push_str("\nendpoints\n");
            text.push_str(&forward.table().text("  ", in_colour));
        }
        let mut lines = Lines::indented();
        for Other { route, why } in &self.others {
            lines.push(route, why.clone());
        }
        if !lines.is_empty() {
            text.push_str(&format!("\nother routes\n{}", lines.text()));
        }
        text
    }
}

impl Forward {
    fn table(&self) -> Table {
        let has_versions = self.candidates.iter().any(|it| it.version.is_some());
        let mut heading = vec!["endpoint", "state", "in flight", "weight"];
        heading.extend(has_versions.then_some("version"));
        heading.push("why not");
        let mut table = Table::with_heading(&heading);
        for candidate in &self.candidates {
            let tone = match candidate.why_not {
                Some(_) => Tone::Doubtful,
                None => Tone::Good,
            };
            let mut row = vec![
                Cell::plain(&candidate.endpoint),
                Cell::new(&candidate.state, tone),
                Cell::plain(candidate.in_flight),
                Cell::plain(candidate.weight),
            ];
            if has_versions {
                let version = candidate.version.as_deref();
                row.push(Cell::plain(version.unwrap_or("unknown")));
            }
            row.push(Cell::plain(
                candidate.why_not.as_deref().unwrap_or_default(),
            ));
            table.push(row);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Question,
    }

    #[test]
    fn question_is_encoded_whole() {
        let line = Line::parse_from([
            "explain",
            "GET",
            "https://a.test/x?q=1&r",
            "--live",
            "-H",
            "x-a: b",
            "--client",
            "::1",
        ]);
        assert_eq!(
            line.args.path(),
            "/api/v1/explain?method=GET&url=https%3A%2F%2Fa.test%2Fx%3Fq%3D1%26r&header=x-a%3A%20b&client=%3A%3A1"
        );
    }

    #[test]
    fn explanation_is_told_with_every_endpoint() {
        let candidate = |name: &str, state: &str, why_not: Option<&str>| json!({ "endpoint": name, "state": state, "why_not": why_not, "weight": 1, "in_flight": 2, "more": 1 });
        let explained = json!({
            "generation": 3, "listener": "http", "host": "a.test", "client": "127.0.0.1", "path": "/x",
            "sent_path": null, "route": "app", "answer": null,
            "forward": { "upstream": "app", "policy": "round-robin", "waits": null, "endpoint": "b", "by": "round-robin",
                "candidates": [candidate("a", "draining", Some("draining")), candidate("b", "up", None)] },
            "others": [{ "route": "admin", "why": "path is not /admin" }],
        });
        let explained: Explained = serde_json::from_value(explained).unwrap();
        assert_eq!(
            explained.text("GET http://a.test/x", false),
            "\
request     GET http://a.test/x
generation  3
listener    http
host        a.test
client      127.0.0.1
path        /x
route       app
upstream    app, round-robin
endpoint    b, by round-robin

endpoints
  endpoint  state     in flight  weight  why not
  a         draining  2          1       draining
  b         up        2          1

other routes
  admin  path is not /admin
"
        );
    }
}
