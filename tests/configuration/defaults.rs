//! What is not in the file has the value the documentation says.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use balancer::config::{
    self, AccessLogFormat, AccessLogOnly, AccessLogTarget, Action, AdminSocket, AutoRollback,
    ClientAuth, CountedErrors, Field, Fields, ForwardedFields, HashKey, HostPattern, Hsts,
    ListenerLimits, ListenerTimeouts, LogFormat, LogLevel, Mode, Passive, PathPattern, Policy,
    Probe, QueueOrder, RateKey, Redirect, Retry, Rewrite, RouteLimits, RouteTimeouts, SplitBy,
    StatusRange, TlsVersion, UpstreamTimeouts,
};
use balancer::message::proxy_protocol::Version;
use balancer::message::redact::Secrets;
use balancer::units::ByteSize;
use http::{Method, StatusCode};

use super::{BASE, valid, valid_behind_base};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn of_the_process() {
    let config = valid("[listener.a]\naddress = \"127.0.0.1:0\"\n");
    assert_eq!(
        config.process.workers,
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    );
    assert_eq!(config.process.shutdown_delay, Duration::ZERO);
    assert_eq!(config.process.shutdown_grace, 30 * SECOND);
    assert_eq!(config.process.startup_wait, 2 * SECOND);
    assert_eq!(config.process.max_connections, None);
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.access_log.target, AccessLogTarget::Off);
    assert_eq!(config.access_log.sample, 1.0);
    assert_eq!(config.access_log.only, AccessLogOnly::All);
    assert_eq!(config.access_log.format, AccessLogFormat::Json);
    assert_eq!(config.access_log.fields, Fields::ALL);
    assert!(config.access_log.headers.is_empty());
    assert!(
        config.access_log.redact.query.is_none() && config.access_log.redact.headers.is_empty()
    );
    assert_eq!(config.access_log.slow, None);
    assert_eq!(config.admin.address, ([127, 0, 0, 1], 9900).into());
    assert_eq!(config.admin.place.to_string(), "f:1:1");
    assert_eq!(config.admin.socket, AdminSocket::Usual("run/f.sock".into()));
    assert!(config.admin.hosts.is_empty());
    assert_eq!(config.admin.audit, None);
    assert_eq!(config.process.drain_tunnel_timeout, 600 * SECOND);
    assert_eq!(config.process.config_poll, None);
    assert_eq!(config.process.auto_rollback, None);
    assert_eq!(config.access_log.place.to_string(), "f:1:1");
    assert!(config.upstreams.is_empty() && config.routes.is_empty() && config.warnings.is_empty());
}

#[test]
fn of_an_automatic_rollback() {
    let config = valid_behind_base("[process]\nauto_rollback = {}\nconfig_poll = \"1s\"\n");
    let rollback = AutoRollback {
        ratio: 0.05,
        min_requests: 100,
        window: 30 * SECOND,
        errors: CountedErrors::Own,
    };
    assert_eq!(config.process.auto_rollback, Some(rollback));
    assert_eq!(config.process.config_poll, Some(SECOND));
}

#[test]
fn of_a_listener() {
    let config = valid_behind_base("");
    let listener = &config.listeners[0];
    assert_eq!(&*listener.name, "http");
    assert_eq!(listener.address, ([0, 0, 0, 0], 8080).into());
    assert_eq!(listener.place.to_string(), "f:2:11: listener.http.address");
    assert!(listener.tls.is_none() && listener.http1 && listener.http2);
    assert!(listener.trusted_proxies.is_empty() && !listener.redirect_to_https);
    assert_eq!(listener.proxy_protocol, None);
    let timeouts = ListenerTimeouts {
        handshake: 10 * SECOND,
        header: 10 * SECOND,
        body_idle: 30 * SECOND,
        body_rate: Some(ByteSize::bytes(100)),
        body_grace: 30 * SECOND,
        keep_alive: 75 * SECOND,
        max_age: None,
    };
    assert_eq!(listener.timeouts, timeouts);
    let limits = ListenerLimits {
        connections: None,
        connections_per_client: None,
        requests_per_connection: None,
        header_bytes: ByteSize::kibibytes(64),
        headers: 100,
        uri_bytes: ByteSize::kibibytes(8),
        body_bytes: None,
        h2_streams: 100,
    };
    assert_eq!(listener.limits, limits);
    let tls = config.listeners[1].tls.as_ref().unwrap();
    assert_eq!(tls.min_version, TlsVersion::Tls12);
    assert!(matches!(tls.client_auth, ClientAuth::Off));
    assert_eq!(config.process.certificate_poll, None);
    assert_eq!(
        tls.certificates[0].place.to_string(),
        "f:5:25: listener.https.tls.certificates[0]"
    );
}

#[test]
fn certificates_are_not_polled_where_that_is_off() {
    let poll = |text: &str| {
        let config = valid_behind_base(&format!("[process]\ncertificate_poll = {text:?}\n"));
        config.process.certificate_poll
    };
    assert_eq!((poll("off"), poll("0s")), (None, None));
    assert_eq!(poll("1m"), Some(60 * SECOND));
}

#[test]
fn policy_of_tls_says_the_lowest_version() {
    let least = |text: &str| {
        let tls = "tls.certificates = [{ chain = \"a\", key = \"b\" }]";
        let listener = format!("[listener.b]\naddress = \"0.0.0.0:1\"\n{tls}\n{text}\n");
        let config = valid_behind_base(&listener);
        config.listeners[2].tls.as_ref().unwrap().min_version
    };
    for (text, expected) in [
        ("tls.policy = \"intermediate\"", TlsVersion::Tls12),
        (
            "tls.policy = \"intermediate\"\ntls.min_version = \"1.3\"",
            TlsVersion::Tls13,
        ),
        ("tls.policy = \"modern\"", TlsVersion::Tls13),
        (
            "tls.policy = \"modern\"\ntls.min_version = \"1.3\"",
            TlsVersion::Tls13,
        ),
    ] {
        assert_eq!(least(text), expected, "{text}");
    }
}

#[test]
fn route_says_only_what_differs_from_its_upstream() {
    let config = valid_behind_base(
        "[upstream.b]\nendpoints = [\"h:1\"]\nretry = { attempts = 3, statuses = [504, 503], on_timeout = true, attempt_timeout = \"1s\" }\n[[route]]\npath = \"/b\"\nupstream = \"b\"\nretry = { attempts = 2, on_timeout = false }\n[[route]]\npath = \"/c\"\nupstream = \"b\"\nretry = false\n",
    );
    let upstream = &config.upstreams[1].retry;
    assert_eq!(
        (upstream.attempts, &*upstream.statuses),
        (3, &[503, 504][..])
    );
    assert_eq!(upstream.attempt_timeout, Some(SECOND));
    let of = |path: &str| {
        let is_it = |route: &&config::Route| matches!(&route.path, PathPattern::Prefix(prefix) if &**prefix == path);
        let route = config.routes.iter().find(is_it).unwrap();
        route.retry.as_ref().unwrap().over(upstream)
    };
    let less = of("/b");
    assert_eq!(
        (less.attempts, less.on_timeout, less.attempt_timeout),
        (2, false, None)
    );
    assert_eq!(&*less.statuses, [503, 504]);
    assert_eq!(of("/c").attempts, 1);
}

#[test]
fn of_an_upstream() {
    let config = valid_behind_base(
        "[upstream.b]\nendpoints = [{ address = \"[::1]:80\" }, \"App.internal:80\"]\nhealth = {}\n",
    );
    let upstream = &config.upstreams[1];
    assert_eq!(upstream.place.to_string(), "f:8:1: upstream.b");
    assert_eq!(upstream.policy, Policy::RoundRobin);
    assert_eq!(upstream.proxy_protocol, None);
    assert_eq!(config.upstreams[0].health, None);
    assert_eq!((upstream.queue, upstream.adaptive), (None, None));
    assert_eq!(upstream.endpoints[0].max_in_flight, None);
    let timeouts = UpstreamTimeouts {
        connect: 2 * SECOND,
        response_head: 60 * SECOND,
        stream_idle: 60 * SECOND,
        tunnel_idle: 3600 * SECOND,
        pool_idle: 4 * SECOND,
        max_age: 3600 * SECOND,
    };
    assert_eq!(upstream.timeouts, timeouts);
    let retry = Retry {
        attempts: 2,
        statuses: Vec::new(),
        on_timeout: false,
        attempt_timeout: None,
        body_bytes: ByteSize::kibibytes(64),
        idempotency_key: false,
    };
    assert_eq!(upstream.retry, retry);
    assert_eq!((upstream.budget.share, upstream.budget.min), (0.2, 3));
    assert!(config.routes.iter().all(|route| route.retry.is_none()));
    assert!(config.routes.iter().all(|route| route.hedge.is_none()));
    let health = upstream.health.as_ref().unwrap();
    assert_eq!(
        (health.interval, health.fast_interval, health.timeout),
        (5 * SECOND, SECOND, 2 * SECOND)
    );
    assert_eq!((health.fall, health.rise), (3, 2));
    let expect_status = vec![StatusRange {
        low: 200,
        high: 299,
    }];
    assert_eq!(
        health.probe,
        Probe::Http {
            path: "/".into(),
            host: None,
            headers: Vec::new(),
            expect_status,
            expect_header: Vec::new(),
            expect_body: None,
        }
    );
    assert_eq!(health.busy_interval, 5 * SECOND);
    assert_eq!((&health.version, &health.expect_version), (&None, &None));
    assert!(!health.live_version);
    let passive = Passive {
        consecutive: 5,
        ratio: 0.5,
        min_requests: 20,
        window: 10 * SECOND,
        eject: 10 * SECOND,
        eject_limit: 300 * SECOND,
        max_ejected: 0.5,
        statuses: vec![502, 503, 504],
    };
    assert_eq!(upstream.passive, Some(passive));
    assert_eq!(upstream.min_available, 0.5);
    let [first, second] = &*upstream.endpoints else {
        panic!()
    };
    assert_eq!(
        (&*first.name, first.weight.get(), first.mode),
        ("[::1]:80", 1, None)
    );
    assert_eq!(
        (&*second.name, second.address.to_string().as_str()),
        ("App.internal:80", "app.internal:80")
    );
}

#[test]
fn of_a_route() {
    let config = valid_behind_base(
        "[[route]]\nupstream = \"app\"\n[[route]]\nredirect = { to = \"/x\" }\npath = \"/old/\"\n[[route]]\npath = \"/r\"\nrespond = {}\n",
    );
    let [forward, redirect, respond] = &*config.routes else {
        panic!()
    };
    assert!(forward.listeners.is_none() && forward.hosts.is_empty() && forward.methods.is_none());
    assert!(forward.headers.is_empty() && !forward.exclusive);
    assert!(matches!(&forward.path, PathPattern::Prefix(path) if &**path == "/"));
    assert!(matches!(forward.action, Action::Forward(0)));
    assert_eq!(forward.place.to_string(), "f:8:1: route[0]");
    assert_eq!(
        [&*forward.name, &redirect.name, &respond.name],
        ["/", "/old", "/r"]
    );
    assert!(matches!(&redirect.path, PathPattern::Prefix(path) if &**path == "/old"));
    let to = Redirect {
        to: "/x".into(),
        status: StatusCode::PERMANENT_REDIRECT,
    };
    assert!(matches!(&redirect.action, Action::Redirect(redirect) if *redirect == to));
    let Action::Respond(respond) = &respond.action else {
        panic!()
    };
    assert_eq!(
        (respond.status, &*respond.body, respond.headers.len()),
        (StatusCode::OK, "", 0)
    );
}

#[test]
fn of_limits_and_queues() {
    let config = valid_behind_base(
        "[upstream.b]\nendpoints = [{ address = \"h:1\", max_in_flight = 3 }]\nqueue = { length = 5 }\n[[route]]\nupstream = \"b\"\n[[route]]\npath = \"/r\"\nupstream = \"b\"\nlimits = { rate = { requests = 7 } }\ntimeouts = { request = \"2s\" }\n",
    );
    let upstream = &config.upstreams[1];
    let limit = upstream.endpoints[0].max_in_flight;
    assert_eq!(limit.map(NonZeroU32::get), Some(3));
    let queue = upstream.queue.unwrap();
    assert_eq!(
        (queue.length.get(), queue.wait, queue.order),
        (5, SECOND, QueueOrder::Fifo)
    );
    let [none, some] = &*config.routes else {
        panic!()
    };
    assert_eq!(none.limits, RouteLimits::default());
    assert_eq!(none.timeouts, RouteTimeouts::default());
    let rate = some.limits.rate.as_ref().unwrap();
    assert_eq!((rate.requests.get(), rate.burst.get()), (7, 7));
    assert_eq!((rate.per, &rate.key), (SECOND, &RateKey::ClientAddress));
    let timeouts = some.timeouts.over(&upstream.timeouts);
    assert_eq!(some.timeouts.request, Some(2 * SECOND));
    assert_eq!(timeouts, upstream.timeouts);
}

#[test]
fn what_the_file_says_of_limits_counts() {
    let config = valid_behind_base(
        r#"[upstream.b]
endpoints = [{ address = "h:1", max_in_flight = 3 }]
queue = { length = 5, wait = "2s", order = "newest-first" }
adaptive = { latency = "1s", max = 9 }
[[route]]
upstream = "b"
limits = { body_bytes = "1KiB", in_flight = 4, rate = { requests = 7, per = "1m", burst = 9, key = "header:X-Api-Key" } }
timeouts = { request = "9s", connect = "1s", response_head = "2s", stream_idle = "3s", tunnel_idle = "1h" }
[listener.b]
address = "127.0.0.1:1"
timeouts = { body_rate = "off", body_grace = "1s", max_age = "1h" }
limits = { connections = 9, connections_per_client = 9, requests_per_connection = 7 }
"#,
    );
    let queue = config.upstreams[1].queue.unwrap();
    assert_eq!(
        (queue.wait, queue.order),
        (2 * SECOND, QueueOrder::NewestFirst)
    );
    let adaptive = config.upstreams[1].adaptive.unwrap();
    assert_eq!(
        (adaptive.latency, adaptive.min.get(), adaptive.max.get()),
        (SECOND, 1, 9)
    );
    let RouteLimits {
        body_bytes,
        in_flight,
        rate,
    } = &config.routes[0].limits;
    assert_eq!(*body_bytes, Some(ByteSize::kibibytes(1)));
    assert_eq!(in_flight.map(NonZeroU32::get), Some(4));
    let rate = rate.as_ref().unwrap();
    assert_eq!((rate.requests.get(), rate.burst.get()), (7, 9));
    let key = RateKey::Header(http::HeaderName::from_static("x-api-key"));
    assert_eq!((rate.per, &rate.key), (60 * SECOND, &key));
    let upstream = config.upstreams[1].timeouts;
    let expected = UpstreamTimeouts {
        connect: SECOND,
        response_head: 2 * SECOND,
        stream_idle: 3 * SECOND,
        tunnel_idle: 3600 * SECOND,
        ..upstream
    };
    assert_eq!(config.routes[0].timeouts.over(&upstream), expected);
    let listener = &config.listeners[2];
    assert_eq!(
        (listener.timeouts.body_rate, listener.timeouts.max_age),
        (None, Some(3600 * SECOND))
    );
    assert_eq!(
        [
            listener.limits.connections_per_client,
            listener.limits.requests_per_connection
        ],
        [9, 7].map(NonZeroUsize::new)
    );
}

#[test]
fn of_what_is_changed_on_the_way() {
    let config = valid_behind_base("[[route]]\nupstream = \"app\"\n");
    let route = &config.routes[0];
    assert!(route.rewrite.is_none());
    assert!(route.request_headers.is_none() && route.response_headers.is_none());
    for listener in &config.listeners {
        assert_eq!(
            (listener.forwarded, listener.hsts),
            (ForwardedFields::XForwarded, None)
        );
    }
    assert!(config.error_pages.is_empty());
    // Tables that change nothing are none.
    let empty = "request_headers = { set = {}, add = {}, remove = [] }\nresponse_headers = {}\n";
    let config = valid_behind_base(&format!("[[route]]\nupstream = \"app\"\n{empty}"));
    let route = &config.routes[0];
    assert!(route.request_headers.is_none() && route.response_headers.is_none());

    let tls = "tls = { certificates = [{ chain = \"a\", key = \"b\" }] }";
    let text = format!(
        "[listener.b]\naddress = \"0.0.0.0:1\"\n{tls}\nhsts = {{}}\nforwarded = \"both\"\n[error_pages]\n502 = \"p/502.html\"\n[[route]]\nupstream = \"app\"\npath = \"/a/\"\nrewrite = {{ prefix = \"/b/\" }}\n"
    );
    let config = config::parse(&(BASE.to_owned() + &text), Path::new("etc/f")).unwrap();
    let listener = &config.listeners[2];
    let hsts = Hsts {
        max_age: Duration::from_secs(31_536_000),
        include_subdomains: false,
        preload: false,
    };
    assert_eq!(
        (listener.forwarded, listener.hsts),
        (ForwardedFields::Both, Some(hsts))
    );
    let page = &config.error_pages[0];
    assert_eq!(
        (page.status.as_u16(), &*page.path),
        (502, Path::new("etc/p/502.html"))
    );
    assert!(matches!(
        &config.routes[0].rewrite,
        Some(Rewrite::Prefix { from, to }) if (&**from, &**to) == ("/a", "/b")
    ));
}

#[test]
fn what_the_file_says_counts() {
    let config = valid_behind_base(
        r#"[[route]]
name = "given"
listeners = ["https", "http"]
hosts = ["A.example.com.", "*.B.example.com"]
path_exact = "/x/"
methods = ["GET", "HEAD"]
headers = { X-A = "1", x-b = "2" }
exclusive = true
upstream = "app"
[[route]]
path_regex = '^/\w+/(?i)abc$'
respond = { status = 204 }
[[route]]
path_regex = '^/\w+/(?i)abc$'
listeners = ["http"]
respond = { status = 404, body = "no", headers = { x-a = "b" } }
[upstream.tcp]
endpoints = [{ address = "127.0.0.1:1", name = "one", weight = 1000, state = "draining" }, { address = "127.0.0.1:2", backup = true }]
spill_below = 0.5
slow_start = "0s"
health = { kind = "tcp", fall = 1, rise = 1, interval = "2s" }
policy = "least-connections"
[upstream.http]
endpoints = ["127.0.0.1:1"]
health = { path = "/h?a=b", host = "h:80", headers = { x-a = "b" }, expect_status = "200, 300-399" }
proxy_protocol = "v2"
policy = "hash"
hash = { key = "cookie:sid", bounded_load = 1.5 }
passive = "off"
min_available = 0
[upstream.grpc]
endpoints = ["127.0.0.1:1"]
protocol = "h2"
health = { kind = "grpc", service = "shop.v1.Basket", busy_interval = "15s" }
passive = { consecutive = 3, ratio = 1, min_requests = 1, window = "60s", eject = "5m", max_ejected = 1.0, statuses = [] }
[listener.passed_on]
address = "127.0.0.1:1"
proxy_protocol = "required"
proxy_protocol_from = ["10.0.0.0/8", "2001:db8::1"]
[process]
workers = 3
max_connections = 10
startup_wait = "0s"
[access_log]
sample = 1
slow = "2s"
"#,
    );
    let [given, first, second] = &*config.routes else {
        panic!()
    };
    assert_eq!(
        [&*given.name, &first.name, &second.name],
        ["given", r"~^/\w+/(?i)abc$", r"~^/\w+/(?i)abc$#2"]
    );
    assert_eq!(given.listeners, Some(vec![1, 0]));
    let hosts = [
        HostPattern::Exact("a.example.com".into()),
        HostPattern::Wildcard("b.example.com".into()),
    ];
    assert_eq!(given.hosts, hosts);
    assert!(given.exclusive && matches!(&given.path, PathPattern::Exact(path) if &**path == "/x/"));
    assert_eq!(
        given.methods.as_ref().unwrap().0,
        [Method::GET, Method::HEAD]
    );
    assert_eq!(
        (given.headers[0].0.as_str(), given.headers[1].0.as_str()),
        ("x-a", "x-b")
    );
    assert!(matches!(&first.path, PathPattern::Regex(regex) if regex.is_match("/a/ABC")));
    let [_, tcp, http, grpc] = &*config.upstreams else {
        panic!()
    };
    assert_eq!(
        (
            tcp.policy,
            tcp.endpoints[0].mode,
            tcp.endpoints[0].weight.get()
        ),
        (Policy::LeastConnections, Some(Mode::Draining), 1000)
    );
    assert_eq!(&*tcp.endpoints[0].name, "one");
    let backups = tcp.endpoints.iter().map(|endpoint| endpoint.backup);
    assert_eq!(backups.collect::<Vec<_>>(), [false, true]);
    assert_eq!(
        (tcp.spill_below, tcp.slow_start),
        (Some(0.5), Duration::ZERO)
    );
    assert_eq!(
        (tcp.hash.key.clone(), tcp.hash.bounded_load),
        (HashKey::ClientAddress, Some(1250))
    );
    assert_eq!(
        (http.policy, http.slow_start),
        (Policy::Hash, Duration::from_secs(30))
    );
    let key = HashKey::Cookie("sid".into());
    assert_eq!((&http.hash.key, http.hash.bounded_load), (&key, Some(1500)));
    assert_eq!(tcp.health.as_ref().unwrap().probe, Probe::Tcp);
    let Some(Probe::Http {
        expect_status,
        host,
        ..
    }) = http.health.as_ref().map(|health| &health.probe)
    else {
        panic!()
    };
    assert_eq!(
        *expect_status,
        [
            StatusRange {
                low: 200,
                high: 200
            },
            StatusRange {
                low: 300,
                high: 399
            }
        ]
    );
    assert_eq!(host.as_ref().unwrap(), "h:80");
    assert_eq!(
        (tcp.proxy_protocol, http.proxy_protocol),
        (None, Some(Version::V2))
    );
    assert_eq!((&http.passive, http.min_available), (&None, 0.0));
    let passive = Passive {
        consecutive: 3,
        ratio: 1.0,
        min_requests: 1,
        window: 60 * SECOND,
        eject: 300 * SECOND,
        eject_limit: 300 * SECOND,
        max_ejected: 1.0,
        statuses: Vec::new(),
    };
    assert_eq!(grpc.passive, Some(passive));
    let health = grpc.health.as_ref().unwrap();
    assert_eq!(health.busy_interval, 15 * SECOND);
    assert!(matches!(&health.probe, Probe::Grpc { service, .. } if &**service == "shop.v1.Basket"));
    let networks = ["10.0.0.0/8", "2001:db8::1/128"].map(|network| network.parse().unwrap());
    assert_eq!(config.listeners[2].proxy_protocol, Some(networks.to_vec()));
    assert_eq!(
        (config.process.workers.get(), config.process.startup_wait),
        (3, Duration::ZERO)
    );
    assert_eq!(
        (config.access_log.sample, config.access_log.slow),
        (1.0, Some(2 * SECOND))
    );
}

#[test]
fn of_an_access_log() {
    let config = valid_behind_base(
        r#"[access_log]
target = "syslog:run/log"
only = "errors"
headers = ["X-Tenant", "cookie"]
fields = ["status", "headers"]
redact = { query = ["Token", "key"], headers = ["x-tenant"] }
"#,
    );
    let log = config.access_log;
    assert_eq!(log.target, AccessLogTarget::Syslog("run/log".into()));
    assert_eq!(log.only, AccessLogOnly::Errors);
    let chosen: Fields = [Field::Headers, Field::Status].into_iter().collect();
    assert_eq!(log.fields, chosen);
    assert!(log.fields.has(Field::Status) && !log.fields.has(Field::Path));
    assert_eq!(log.headers, ["x-tenant", "cookie"]);
    let names: [Box<str>; 2] = ["token".into(), "key".into()];
    assert_eq!(log.redact.query, Some(Secrets::Named(names.into())));
    assert_eq!(log.redact.headers, ["x-tenant"]);
    for (target, path) in [
        ("syslog", AccessLogTarget::Syslog("/dev/log".into())),
        (
            "journald",
            AccessLogTarget::Journald("/run/systemd/journal/socket".into()),
        ),
        ("journald:/x", AccessLogTarget::Journald("/x".into())),
    ] {
        let config = valid_behind_base(&format!("[access_log]\ntarget = {target:?}\n"));
        assert_eq!(config.access_log.target, path);
    }
}

#[test]
fn of_affinity_splits_mirrors_and_pauses() {
    let config = valid_behind_base(
        r#"[upstream.b]
endpoints = ["127.0.0.1:1"]
affinity = { cookie = "c", key_file = "keys/a" }
[upstream.c]
endpoints = ["127.0.0.1:1"]
affinity = { cookie = "d", key_file = "/keys/a", path = "/x", max_age = "24h", audit = 0.01 }
state = "paused"
pause = { hold = 0 }
[[route]]
split = [{ upstream = "b" }, { upstream = "c", weight = 0 }]
mirror = { upstream = "app" }
[[route]]
path = "/x"
cookies = { x-try = "1" }
split = [{ upstream = "b", weight = 1000 }]
split_by = "client"
mirror = { upstream = "app", percent = 0.5, body_bytes = "1KiB", methods = ["GET"], timeout = "1s" }
"#,
    );
    let [app, b, c] = &*config.upstreams else {
        panic!()
    };
    assert!(app.affinity.is_none() && !app.paused);
    assert_eq!(
        (app.pause.hold, app.pause.wait),
        (1000, Duration::from_secs(30))
    );
    let affinity = b.affinity.as_ref().unwrap();
    assert_eq!((&*affinity.cookie, &*affinity.path), ("c", "/"));
    assert_eq!(affinity.key_file, Path::new("keys/a"));
    assert_eq!((affinity.max_age, affinity.audit), (None, None));
    let affinity = c.affinity.as_ref().unwrap();
    assert_eq!((&*affinity.path, affinity.audit), ("/x", Some(0.01)));
    assert_eq!(affinity.max_age, Some(Duration::from_secs(86400)));
    assert!(c.paused && c.pause.hold == 0);
    assert_eq!(c.pause.wait, Duration::from_secs(30));

    let [first, second] = &*config.routes else {
        panic!()
    };
    let shares = |action: &Action| match action {
        Action::Split(split) => (split.shares.clone(), split.by),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        shares(&first.action),
        (vec![(1, 1), (2, 0)], SplitBy::Request)
    );
    assert_eq!(shares(&second.action), (vec![(1, 1000)], SplitBy::Client));
    assert!(first.cookies.is_empty());
    assert_eq!(second.cookies, [("x-try".into(), "1".into())]);
    let of = |route: &config::Route| {
        let mirror = route.mirror.clone().unwrap();
        let methods = mirror.methods.map(|methods| methods.0);
        (
            mirror.upstream,
            mirror.percent,
            methods,
            mirror.body_bytes,
            mirror.timeout,
        )
    };
    let seconds = Duration::from_secs;
    assert_eq!(
        of(first),
        (0, 100.0, None, ByteSize::kibibytes(64), seconds(10))
    );
    assert_eq!(
        of(second),
        (
            0,
            0.5,
            Some(vec![Method::GET]),
            ByteSize::kibibytes(1),
            seconds(1)
        )
    );
    // Who asks endpoints may let clients change protocols.
    assert_eq!(first.upgrades, ["websocket".into()]);
}
