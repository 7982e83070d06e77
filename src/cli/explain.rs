//! `balancer explain`: which route takes a request, and why not the others. Reads the file only; asks no running balancer
//! and sends nothing.

mod changes;

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::EXIT_USAGE;
use crate::config::{self, Action, Config, HostPattern, PathPattern, Policy, Problem, Route};
use crate::daemon::EXIT_CONFIG;
use crate::message::authority;
use crate::message::canonical_path::canonicalize;
use crate::route::{Explanation, Matchers, Mismatch, Outcome, Query, Router, Verdict};

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
}

/// Prints the explanation. 0: a route takes the request; 1: none does, or it is refused; 64: `args` make no request; 78:
/// the file at `config` is not valid.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    let report = config::load(config)
        .map_err(|errors| Failure::Configuration(errors.0))
        .and_then(|config| {
            let router = compile(&config)?;
            report(args, &config, &router)
        });
    match report {
        Ok(report) => {
            print!("{}", report.text);
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
    routed: bool,
}

fn compile(config: &Config) -> Result<Router, Failure> {
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
        Failure::Configuration(conflicts.into_iter().map(problem).collect())
    })
}

fn report(args: &Args, config: &Config, router: &Router) -> Result<Report, Failure> {
    let target = Target::parse(&args.url).map_err(Failure::Usage)?;
    let headers = parse_headers(&args.header).map_err(Failure::Usage)?;
    let listener = listener(args, config, &target).map_err(Failure::Usage)?;
    let given = headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host(target.authority.unwrap_or(given)).map_err(Failure::Usage)?;

    let mut lines = Lines::default();
    lines.push("request", format!("{} {}", args.method, args.url));
    lines.push("listener", config.listeners[listener].name.to_string());
    lines.push(
        "host",
        if host.is_empty() {
            "(none)".to_owned()
        } else {
            host.to_string()
        },
    );
    let path = match canonicalize(target.path) {
        Ok(path) => path,
        Err(error) => {
            lines.push("path", target.path.to_owned());
            lines.push("refused", format!("400, {error}"));
            return Ok(Report {
                text: lines.text(),
                routed: false,
            });
        }
    };
    lines.push("path", path.to_string());
    if target.path != path {
        lines.push("raw path", target.path.to_owned());
    }
    let query = Query {
        listener,
        host: &host,
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
    let mut text = lines.text();
    text.push_str(&other_routes(config, &explanation));
    Ok(Report { text, routed })
}

fn explain_outcome(lines: &mut Lines, config: &Config, explanation: &Explanation) {
    match explanation.outcome {
        Outcome::Route(index) => {
            let route = &config.routes[index];
            lines.push("route", route.name.to_string());
            lines.push("action", action(config, &route.action));
            changes::explain_headers(lines, route);
            changes::explain_mirror(lines, config, route);
            let beaten = explanation
                .routes
                .iter()
                .filter(|verdict| matches!(verdict, Verdict::Shadowed { .. }))
                .count();
            let why = match beaten {
                0 => "no other route matches".to_owned(),
                1 => "comes before 1 other that matches".to_owned(),
                count => format!("comes before {count} others that match"),
            };
            lines.push("because", format!("{}; {why}", matchers(config, route)));
        }
        Outcome::None => lines.push("route", "none: 404".to_owned()),
        Outcome::Refused(ambiguous) => {
            let guarded = &config.routes[ambiguous.route].name;
            lines.push(
                "refused",
                format!("400, {ambiguous}; guards the exclusive route {guarded}"),
            );
        }
    }
}

fn other_routes(config: &Config, explanation: &Explanation) -> String {
    let why = |verdict: &Verdict| match verdict {
        Verdict::Chosen => None,
        Verdict::Shadowed { by, rule } => Some(format!(
            "matches, but {} comes first: {rule}",
            config.routes[*by].name
        )),
        Verdict::Refused => Some("matches, but the request is refused".to_owned()),
        Verdict::Mismatch(why) => Some(mismatch(config, why)),
    };
    let mut lines = Lines {
        indent: "  ",
        ..Lines::default()
    };
    for (route, verdict) in config.routes.iter().zip(&explanation.routes) {
        if let Some(why) = why(verdict) {
            lines.push(&route.name, why);
        }
    }
    if lines.rows.is_empty() {
        String::new()
    } else {
        format!("\nother routes\n{}", lines.text())
    }
}

fn mismatch(config: &Config, mismatch: &Mismatch) -> String {
    let (what, expected, given) = match mismatch {
        Mismatch::Listener { expected, given } => {
            let names = expected.iter().map(|index| &*config.listeners[*index].name);
            (
                "listener",
                join(names, " or "),
                config.listeners[*given].name.to_string(),
            )
        }
        Mismatch::Host { expected, given } => (
            "host",
            join(expected.iter().map(host_text), " or "),
            given.clone(),
        ),
        Mismatch::Path { expected, given } => ("path", expected.clone(), given.clone()),
        Mismatch::Method { expected, given } => {
            ("method", join(expected, " or "), given.to_string())
        }
        Mismatch::Header {
            name,
            expected,
            given,
        } => {
            let given = given
                .as_ref()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let expected = String::from_utf8_lossy(expected.as_bytes());
            return match given {
                Some(given) => format!("header {name} is {given}, not {expected}"),
                None => format!("header {name} is missing, not {expected}"),
            };
        }
        Mismatch::Cookie { name, is_given } => {
            let given = if *is_given { "another one" } else { "missing" };
            return format!("cookie {name} is {given}");
        }
    };
    let given = if given.is_empty() { "missing" } else { &given };
    format!("{what} is {given}, not {expected}")
}

/// What a route asks for, in one line.
fn matchers(config: &Config, route: &Route) -> String {
    let exclusive = if route.exclusive { "exclusive " } else { "" };
    let mut text = match &route.path {
        PathPattern::Prefix(path) => format!("{exclusive}path {path}"),
        PathPattern::Exact(path) => format!("{exclusive}exact path {path}"),
        PathPattern::Regex(regex) => format!("path regex {regex}"),
    };
    let mut add = |what: &str, value: String| {
        let _ = write!(text, ", {what} {value}");
    };
    if !route.hosts.is_empty() {
        add("host", join(route.hosts.iter().map(host_text), " or "));
    }
    if let Some(methods) = &route.methods {
        add("method", join(&methods.0, " or "));
    }
    for (name, value) in &route.headers {
        add(
            "header",
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())),
        );
    }
    for (name, _) in &route.cookies {
        add("cookie", name.to_string());
    }
    if let Some(listeners) = &route.listeners {
        add(
            "listener",
            join(
                listeners
                    .iter()
                    .map(|index| &*config.listeners[*index].name),
                " or ",
            ),
        );
    }
    text
}

fn action(config: &Config, action: &Action) -> String {
    match action {
        Action::Forward(index) => upstream(&config.upstreams[*index]),
        Action::Split(split) => {
            let sum: u32 = split
                .shares
                .iter()
                .map(|(_, weight)| u32::from(*weight))
                .sum();
            let shares = split.shares.iter().map(|(index, weight)| {
                let upstream = upstream(&config.upstreams[*index]);
                format!("{weight} of {sum} to {upstream}")
            });
            format!("split by {}: {}", split.by.as_str(), join(shares, "; "))
        }
        Action::Redirect(redirect) => {
            format!("redirect {} to {}", redirect.status.as_u16(), redirect.to)
        }
        Action::Respond(respond) => format!("respond {}", respond.status.as_u16()),
    }
}

fn upstream(upstream: &config::Upstream) -> String {
    let policy = match upstream.policy {
        Policy::RoundRobin => "round-robin",
        Policy::LeastConnections => "least-connections",
    };
    let endpoints = upstream
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.weight.get() {
            1 => endpoint.name.to_string(),
            weight => format!("{} (weight {weight})", endpoint.name),
        });
    let paused = if upstream.paused { " (paused)" } else { "" };
    format!(
        "upstream {}{paused}, {policy}: {}",
        upstream.name,
        join(endpoints, ", ")
    )
}

fn host_text(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(parent) => format!("*.{parent}"),
    }
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(separator)
}

/// Rows of a label and a text, aligned.
#[derive(Default)]
struct Lines {
    indent: &'static str,
    rows: Vec<(String, String)>,
}

impl Lines {
    fn push(&mut self, label: &str, text: String) {
        self.rows.push((label.to_owned(), text));
    }

    fn text(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(label, _)| label.chars().count())
            .max()
            .unwrap_or(0);
        self.rows
            .iter()
            .map(|(label, text)| format!("{}{label:width$}  {text}\n", self.indent))
            .collect()
    }
}

/// The parts of the URL argument. Not parsed as a URI: a path that may not be is to be explained, not refused as usage.
struct Target<'a> {
    /// `None` for a bare path.
    tls: Option<bool>,
    authority: Option<&'a str>,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Result<Self, String> {
        if url.starts_with('/') {
            return Ok(Self {
                tls: None,
                authority: None,
                path: without_query(url),
            });
        }
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => {
                return Err(format!(
                    "url must begin with http://, https:// or /, got {url}"
                ));
            }
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.parse::<http::uri::Authority>().is_err() || authority.contains('@') {
            return Err(format!("url must name a host, got {url}"));
        }
        let path = without_query(path);
        Ok(Self {
            tls: Some(tls),
            authority: Some(authority),
            path: if path.is_empty() { "/" } else { path },
        })
    }
}

fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

fn parse_headers(given: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in given {
        let parsed = header.split_once(':').and_then(|(name, value)| {
            let name = name.parse::<HeaderName>().ok()?;
            Some((name, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) =
            parsed.ok_or_else(|| format!("header must be 'name: value', got {header:?}"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn listener(args: &Args, config: &Config, target: &Target<'_>) -> Result<usize, String> {
    let Some(name) = &args.listener else {
        let fits = |tls| {
            config
                .listeners
                .iter()
                .position(|listener| listener.tls.is_some() == tls)
        };
        return Ok(target.tls.and_then(fits).unwrap_or(0));
    };
    config
        .listeners
        .iter()
        .position(|listener| *listener.name == **name)
        .ok_or_else(|| {
            let names = join(config.listeners.iter().map(|listener| &listener.name), ", ");
            format!("there is no listener {name}; there is {names}")
        })
}

/// The host as the data path reads it; empty where none is given.
fn host(given: &str) -> Result<Cow<'_, str>, String> {
    match given {
        "" => Ok(Cow::Borrowed("")),
        _ => authority::host(given).ok_or_else(|| format!("{given} is not a host")),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::*;
    use crate::units::{ByteSize, Weight};

    #[test]
    fn a_request_is_explained_route_by_route() {
        let (text, routed) = explained(
            "https://App.Example.com:8443/x/..//admin/y?q=1",
            &["x-team: blue"],
        );
        assert_eq!(
            text,
            "\
request   GET https://App.Example.com:8443/x/..//admin/y?q=1
listener  https
host      app.example.com
path      /admin/y
raw path  /x/..//admin/y
route     admin
action    upstream authority, round-robin: 127.0.0.1:9001, 127.0.0.1:9002 (weight 3)
because   exclusive path /admin; comes before 2 others that match

other routes
  app     matches, but admin comes first: exclusive prefix
  old     path is /admin/y, not /old
  blue    matches, but admin comes first: exclusive prefix
  writes  method is GET, not POST or PUT
  other   host is app.example.com, not other.test or *.example.org
  plain   listener is https, not http
  green   header x-team is blue, not green
"
        );
        assert!(routed);
    }

    #[test]
    fn a_refusal_names_the_route_it_guards() {
        let (text, routed) = explained("/ADMIN", &["host: a.test"]);
        assert!(text.contains("host      a.test\n"), "{text}");
        assert!(
            text.contains(
                "refused   400, path can be read as one of an exclusive route; guards the exclusive route admin\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("  app     matches, but the request is refused\n"),
            "{text}"
        );
        assert!(!routed);
    }

    #[test]
    fn a_path_without_canonical_spelling_is_refused() {
        let (text, routed) = explained("http://a.test/..", &[]);
        assert!(text.contains("listener  http\n"), "{text}");
        assert!(
            text.ends_with("path      /..\nrefused   400, path climbs above its root\n"),
            "{text}"
        );
        assert!(!routed);
    }

    #[test]
    fn a_request_nobody_takes_is_a_404() {
        let mut config = config();
        config.routes.truncate(1);
        let router = compile(&config).unwrap();
        let report = report(&args("/x", &[]), &config, &router).unwrap();
        assert!(
            report.text.contains("route     none: 404\n"),
            "{}",
            report.text
        );
        assert!(!report.routed);
    }

    #[test]
    fn other_actions_are_told_too() {
        assert!(
            explained("/old", &[])
                .0
                .contains("action    redirect 308 to /new\n")
        );
    }

    #[test]
    fn changes_of_headers_are_told_without_their_values() {
        let mut config = config();
        let constant = |name| {
            let value = HeaderValue::from_static("secret");
            (HeaderName::from_static(name), FieldValue::Constant(value))
        };
        config.routes[1].request_headers = Some(HeaderChanges {
            remove: vec![HeaderName::from_static("cookie")],
            set: vec![constant("host"), constant("x-a")],
            add: vec![constant("x-b")],
        });
        config.routes[1].response_headers = Some(HeaderChanges {
            add: vec![constant("x-c")],
            ..HeaderChanges::default()
        });
        let router = compile(&config).unwrap();
        let text = report(&args("/x", &[]), &config, &router).unwrap().text;
        assert!(
            text.contains("request headers   remove cookie; set host, x-a; add x-b\n"),
            "{text}"
        );
        assert!(text.contains("response headers  add x-c\n"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_rewritten_path_is_told_or_why_it_is_refused() {
        let mut config = config();
        let rewriting = |to: &str| {
            Some(Rewrite::Prefix {
                from: "".into(),
                to: to.into(),
            })
        };
        config.upstreams.push(config.upstreams[0].clone());
        config.routes[1].action = Action::Forward(1);
        config.routes[1].rewrite = rewriting("/v2");
        let router = compile(&config).unwrap();
        let told = report(&args("/x//y", &[]), &config, &router).unwrap();
        assert!(told.text.contains("sent path  /v2/x/y\n"), "{}", told.text);
        assert!(told.routed);
        config.routes[1].rewrite = rewriting("/admin");
        let told = report(&args("/x", &[]), &config, &router).unwrap();
        assert!(
            told.text.contains(
                "refused    500, the rewritten path belongs to the exclusive route admin\n"
            ),
            "{}",
            told.text
        );
        assert!(!told.routed);
    }

    #[test]
    fn wrong_usage_is_told_apart_from_a_refusal() {
        let config = config();
        let router = compile(&config).unwrap();
        let usage = |args: Args| match report(&args, &config, &router) {
            Err(Failure::Usage(message)) => message,
            _ => panic!("{args:?} is no wrong usage"),
        };
        assert_eq!(
            usage(args("ftp://x/", &[])),
            "url must begin with http://, https:// or /, got ftp://x/"
        );
        assert_eq!(
            usage(args("http:///x", &[])),
            "url must name a host, got http:///x"
        );
        assert_eq!(
            usage(args("/", &["x"])),
            "header must be 'name: value', got \"x\""
        );
        let nowhere = Args {
            listener: Some("x".into()),
            ..args("/", &[])
        };
        assert_eq!(
            usage(nowhere),
            "there is no listener x; there is http, https"
        );
    }

    #[test]
    fn routes_that_collide_are_problems_of_the_configuration() {
        let mut config = config();
        config.routes.push(config.routes[0].clone());
        let Err(Failure::Configuration(problems)) = compile(&config) else {
            panic!("compiled")
        };
        assert_eq!(
            problems[0].to_string(),
            "balancer.toml:1:1: cannot be told apart from the route admin (balancer.toml:1:1)"
        );
    }

    #[test]
    fn a_host_is_bared_of_case_port_and_trailing_dot() {
        for (authority, host) in [
            ("A.test.:80", "a.test"),
            ("a:", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(super::host(authority).as_deref(), Ok(host));
        }
    }

    fn explained(url: &str, headers: &[&str]) -> (String, bool) {
        let config = config();
        let router = compile(&config).unwrap();
        let report = report(&args(url, headers), &config, &router).unwrap();
        (report.text, report.routed)
    }

    fn args(url: &str, headers: &[&str]) -> Args {
        let header = headers.iter().map(|header| (*header).to_owned()).collect();
        Args {
            method: Method::GET,
            url: url.to_owned(),
            header,
            listener: None,
        }
    }

    fn place() -> Place {
        Place {
            file: Path::new("balancer.toml").into(),
            line: 1,
            column: 1,
            key: "".into(),
        }
    }

    fn route(name: &str, path: &str) -> Route {
        Route {
            name: name.into(),
            listeners: None,
            hosts: Vec::new(),
            path: PathPattern::Prefix(path.into()),
            methods: None,
            headers: Vec::new(),
            cookies: Vec::new(),
            exclusive: false,
            upgrades: Vec::new(),
            action: Action::Forward(0),
            rewrite: None,
            request_headers: None,
            response_headers: None,
            mirror: None,
            place: place(),
        }
    }

    fn listener(name: &str, tls: bool) -> Listener {
        let second = Duration::from_secs(1);
        Listener {
            name: name.into(),
            address: ([127, 0, 0, 1], 0).into(),
            tls: tls.then(|| ListenerTls {
                certificates: Vec::new(),
                min_version: TlsVersion::Tls12,
                client_auth: ClientAuth::Off,
            }),
            http2: true,
            http1: true,
            trusted_proxies: Vec::new(),
            proxy_protocol: None,
            forwarded: ForwardedFields::XForwarded,
            hsts: None,
            redirect_to_https: false,
            timeouts: ListenerTimeouts {
                handshake: second,
                header: second,
                body_idle: second,
                keep_alive: second,
            },
            limits: ListenerLimits {
                connections: None,
                header_bytes: ByteSize::kibibytes(64),
                headers: 100,
                uri_bytes: ByteSize::kibibytes(8),
                body_bytes: None,
                h2_streams: 100,
            },
            place: place(),
        }
    }

    fn config() -> Config {
        let second = Duration::from_secs(1);
        let endpoint = |port: u16, weight| Endpoint {
            name: format!("127.0.0.1:{port}").into(),
            address: Address::Socket(([127, 0, 0, 1], port).into()),
            weight,
            mode: None,
            place: place(),
        };
        let header = |value| {
            vec![(
                HeaderName::from_static("x-team"),
                HeaderValue::from_static(value),
            )]
        };
        let name = |text: &str| -> Arc<str> { text.into() };
        let redirect = Redirect {
            to: "/new".into(),
            status: http::StatusCode::PERMANENT_REDIRECT,
        };
        Config {
            process: Process {
                workers: NonZeroUsize::MIN,
                shutdown_delay: second,
                shutdown_grace: second,
                startup_wait: second,
                certificate_poll: None,
                max_connections: None,
            },
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Text,
            },
            access_log: AccessLog {
                target: AccessLogTarget::Off,
                sample: 1.0,
                only: AccessLogOnly::All,
                place: place(),
            },
            admin: Admin {
                address: ([127, 0, 0, 1], 9900).into(),
                place: place(),
            },
            error_pages: Vec::new(),
            listeners: vec![listener("http", false), listener("https", true)],
            upstreams: vec![Upstream {
                name: name("authority"),
                policy: Policy::RoundRobin,
                endpoints: vec![
                    endpoint(9001, Weight::ONE),
                    endpoint(9002, Weight::try_from(3).unwrap()),
                ],
                http2: false,
                tls: None,
                health: None,
                timeouts: UpstreamTimeouts {
                    connect: second,
                    response_head: second,
                    stream_idle: second,
                    tunnel_idle: second,
                    pool_idle: second,
                    max_age: second,
                },
                paused: false,
                pause: Pause {
                    hold: 1,
                    wait: Duration::from_secs(1),
                },
                affinity: None,
                proxy_protocol: None,
                place: place(),
            }],
            routes: vec![
                Route {
                    exclusive: true,
                    ..route("admin", "/admin")
                },
                route("app", "/"),
                Route {
                    action: Action::Redirect(redirect),
                    ..route("old", "/old")
                },
                Route {
                    headers: header("blue"),
                    ..route("blue", "/")
                },
                Route {
                    methods: Some(MethodSet(vec![Method::POST, Method::PUT])),
                    ..route("writes", "/admin/y")
                },
                Route {
                    hosts: vec![
                        HostPattern::Exact(name("other.test")),
                        HostPattern::Wildcard(name("example.org")),
                    ],
                    ..route("other", "/")
                },
                Route {
                    listeners: Some(vec![0]),
                    ..route("plain", "/admin/y")
                },
                Route {
                    headers: header("green"),
                    ..route("green", "/")
                },
            ],
            warnings: Vec::new(),
        }
    }
}
