//! What is told of requests, as whole texts.

mod fixture;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use self::fixture::config;
use super::*;
use crate::config::*;
use crate::units::ByteSize;

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

upstream authority
  health         none
  passive        5 failures, or answers 502, 503, 504, in a row, or 50 % of 20 in 10s: ejected for 10s to 300s, at most 50 %
  min_available  none: a route that leads there is exclusive
  slow_start     30s
  retry          2 attempts, bodies up to 64KiB, budget 20 % or 3 a second
  timeouts       connect 2s, response_head 60s, stream_idle 60s, tunnel_idle 3600s, pool_idle 4s, max_age 3600s

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
fn what_a_policy_picks_by_is_told_and_who_is_a_backup() {
    let mut config = config();
    let upstream = &mut config.upstreams[0];
    upstream.policy = Policy::Hash;
    upstream.hash.key = HashKey::Cookie("sid".into());
    upstream.endpoints[0].backup = true;
    upstream.endpoints[1].backup = true;
    let router = compile(&config).unwrap();
    let text = report(&args("/x", &[]), &config, &router).unwrap().text;
    let told = "upstream authority, hash by cookie sid: 127.0.0.1:9001 (backup), 127.0.0.1:9002 (weight 3, backup)\n";
    assert!(text.contains(told), "{text}");
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
fn limits_and_the_queue_are_told() {
    let mut config = config();
    let number = |number| NonZeroU32::new(number).unwrap();
    config.routes[1].limits = RouteLimits {
        body_bytes: Some(ByteSize::kibibytes(1)),
        in_flight: Some(number(4)),
        rate: Some(Rate {
            requests: number(10),
            per: Duration::from_secs(60),
            burst: number(20),
            key: RateKey::Header(HeaderName::from_static("x-api-key")),
        }),
    };
    config.routes[1].timeouts.request = Some(Duration::from_secs(30));
    config.routes[1].hedge = Some(Hedge {
        after: Duration::from_millis(50),
        place: config.routes[1].place.clone(),
    });
    config.upstreams[0].queue = Some(Queue {
        length: NonZeroUsize::MIN,
        wait: Duration::from_millis(500),
        order: QueueOrder::NewestFirst,
    });
    let router = compile(&config).unwrap();
    let text = report(&args("/x", &[]), &config, &router).unwrap().text;
    for line in [
        "limits    body 1KiB, 4 in flight, 10 requests per 60s by header x-api-key, 20 at once\n",
        "timeouts  request 30s\n",
        "  queue          1 wait for 500ms, newest-first\n",
        "hedge     a second endpoint after 50ms without answer, for GET, HEAD, OPTIONS, TRACE and QUERY without a body\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn rules_of_the_upstream_are_told_as_they_hold_for_the_route() {
    const FILE: &str = r#"
[listener.http]
address = "127.0.0.1:8080"
[upstream.app]
endpoints = [
    { address = "127.0.0.1:1", max_in_flight = 4 },
    { address = "127.0.0.1:2", max_in_flight = 8 },
    { address = "127.0.0.1:3", backup = true },
]
health = { path = "/healthz", busy_interval = "15s" }
passive = "off"
min_available = 0.3
slow_start = "0s"
spill_below = 0.5
adaptive = { latency = "250ms" }
timeouts = { connect = "1s" }
retry = { attempts = 3, on_timeout = true, budget = 0.1 }
[[route]]
name = "app"
upstream = "app"
timeouts = { response_head = "9s" }
retry = { statuses = [503], attempt_timeout = "2s" }
[[route]]
name = "once"
path = "/once"
upstream = "app"
retry = false
"#;
    let config = parse(FILE, Path::new("balancer.toml")).unwrap();
    let router = compile(&config).unwrap();
    let told = report(&args("/", &[]), &config, &router).unwrap();
    let rules = "
upstream app
  health         GET /healthz every 5s, 1s while it changes, 15s while clients are answered, within 2s; down after 3, up after 2
  passive        off
  min_available  30 %
  slow_start     none
  spill_below    50 %
  retry          3 attempts, after 503, after 2s without a response, bodies up to 64KiB, budget 10 % or 3 a second
  timeouts       connect 1s, response_head 9s, stream_idle 60s, tunnel_idle 3600s, pool_idle 4s, max_age 3600s
  max_in_flight  4 at 127.0.0.1:1, 8 at 127.0.0.1:2
  adaptive       1 to 1000 in flight at an endpoint, for 250ms

other routes
";
    assert!(told.text.contains(rules), "{}", told.text);
    let json = &told.json;
    assert_eq!(
        (&json["route"], &json["routed"]),
        (&"app".into(), &true.into())
    );
    let upstream = &json["upstreams"][0];
    assert_eq!(
        (
            &upstream["name"],
            &upstream["passive"],
            &upstream["min_available"]
        ),
        (&"app".into(), &"off".into(), &"30 %".into())
    );
    assert_eq!(json["other_routes"]["once"], "path is /, not /once");
    let told = report(&args("/once", &[]), &config, &router).unwrap();
    assert!(
        told.text.contains("  retry          never\n"),
        "{}",
        told.text
    );
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
        told.text
            .contains("refused    500, the rewritten path belongs to the exclusive route admin\n"),
        "{}",
        told.text
    );
    assert!(!told.routed);
}

#[test]
fn what_is_answered_before_a_route_is_looked_for_is_told() {
    let mut config = config();
    config.listeners[0].redirect_to_https = true;
    let router = compile(&config).unwrap();
    let connect = |url| Args {
        method: Method::CONNECT,
        ..args(url, &[])
    };
    for url in ["https://a.test/x", "a.test:443", "/x"] {
        let told = report(&connect(url), &config, &router).unwrap();
        let refused =
            "refused   405, CONNECT is not offered; for a WebSocket over HTTP/2 ask about GET\n";
        assert!(told.text.ends_with(refused), "{}", told.text);
        assert!(!told.routed);
    }
    let told = report(&args("http://a.test/x", &[]), &config, &router).unwrap();
    let redirect =
        "path      /x\naction    redirect 308 to https, as every request of this listener\n";
    assert!(told.text.ends_with(redirect), "{}", told.text);
    assert!(told.routed);
}

#[test]
fn host_field_takes_the_place_of_the_urls_host() {
    let (text, _) = explained("https://a.test/x", &["host: Other.test:1"]);
    assert!(text.contains("host      other.test\npath"), "{text}");
    assert!(text.contains("route     other\n"), "{text}");
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
    let Err(problems) = compile(&config) else {
        panic!("compiled")
    };
    assert_eq!(
        problems[0].to_string(),
        "balancer.toml:12:1: route[0]: cannot be told apart from the route admin (balancer.toml:12:1: route[0])"
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
        assert_eq!(asked::host(authority).as_deref(), Ok(host));
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
        server_name: None,
        json: false,
    }
}
