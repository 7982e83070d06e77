//! Traces: a span for each sampled request and one for each attempt, in one tree with those of others; and a collector that is
//! away, slow or wrong is no concern of any client.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use rustix::process::Signal;

use crate::support::certificates::Authority;
use crate::support::client::HOST;
use crate::support::collector::{Collector, Taken, hexadecimal};
use crate::support::h2_origin::{H2Origin, ready, text};
use crate::support::tls_origin::TlsFront;
use crate::support::{
    Balancer, Connection, Gate, Next, Origin, Refusing, eventually, eventually_some, get,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A configuration with traces for `collector`, and endpoints such as `"127.0.0.1:1"`.
fn config(collector: &Collector, tracing: &str, endpoints: &str, more: &str) -> String {
    format!(
        r#"
        [tracing]
        endpoint = "http://{}"
        {tracing}

        [listener.http]
        address = "127.0.0.1:0"
        {more}

        [upstream.app]
        endpoints = [{endpoints}]
        retry = {{ attempts = 3, statuses = [503], budget = 1.0, budget_min = 10 }}
        passive = "off"

        [[route]]
        name = "main"
        path = "/main"
        upstream = "app"

        [[route]]
        name = "hedged"
        path = "/hedged"
        upstream = "app"
        hedge = {{ after = "20ms" }}
        "#,
        collector.address()
    )
}

fn quoted(origin: &Origin) -> String {
    format!("\"{}\"", origin.address())
}

/// What the origin was sent last as `traceparent`, in its four parts.
fn told(origin: &Origin) -> [String; 4] {
    let head = origin.last_request().head;
    let told = head.field("traceparent").expect("a traceparent");
    let parts: Vec<String> = told.split('-').map(str::to_owned).collect();
    parts.try_into().expect("four parts")
}

/// The server span, and client spans in the order in which they began.
fn tree(mut spans: Vec<Taken>) -> (Taken, Vec<Taken>) {
    let server = spans
        .iter()
        .position(Taken::is_server)
        .expect("a server span");
    let server = spans.remove(server);
    spans.sort_by_key(|taken| taken.span.start_time_unix_nano);
    for client in &spans {
        assert!(!client.is_server());
        assert_eq!(
            (client.trace(), client.parent()),
            (server.trace(), server.id())
        );
        assert!(client.span.start_time_unix_nano >= server.span.start_time_unix_nano);
        assert!(client.span.end_time_unix_nano <= server.span.end_time_unix_nano);
        assert!(client.span.end_time_unix_nano >= client.span.start_time_unix_nano);
    }
    (server, spans)
}

#[track_caller]
fn has(taken: &Taken, attributes: &[(&str, &str)]) {
    for (key, value) in attributes {
        assert_eq!(
            taken.get(key).as_deref(),
            Some(*value),
            "{key} in {taken:#?}"
        );
    }
}

#[test]
fn request_is_a_span_and_its_attempt_one_within() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let keys =
        "sample = 1\nservice_name = \"edge\"\nresource = { \"host.name\" = \"h\", team = \"x\" }";
    let access_log = "[access_log]\ntarget = \"stdout\"\n";
    let balancer = Balancer::start(&config(&collector, keys, &quoted(&origin), access_log));
    assert_eq!(get(balancer.http(), "/main/x?secret=1").status, 200);
    let (server, clients) = tree(collector.await_spans(2));
    let [client] = &*clients else {
        panic!("{clients:#?}")
    };

    assert_eq!(server.span.name, "GET main");
    assert!(server.parent().is_empty() && !server.is_error());
    let port = balancer.http().port().to_string();
    has(
        &server,
        &[
            ("http.request.method", "GET"),
            ("url.path", "/main/x"),
            ("url.scheme", "http"),
            ("http.route", "main"),
            ("server.address", HOST),
            ("server.port", &port),
            ("client.address", "127.0.0.1"),
            ("network.peer.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("http.response.status_code", "200"),
            ("balancer.listener", "http"),
            ("balancer.upstream", "app"),
            ("balancer.endpoint", &origin.address().to_string()),
            ("balancer.generation", "1"),
        ],
    );
    let resource = &server.resource;
    assert_eq!(resource["service.name"], "edge");
    assert_eq!((&*resource["host.name"], &*resource["team"]), ("h", "x"));
    assert_eq!(resource["service.instance.id"].len(), 36);

    assert_eq!(client.span.name, "GET");
    assert!(!client.is_error());
    has(
        client,
        &[
            ("http.request.method", "GET"),
            ("url.full", &format!("http://{}/main/x", origin.address())),
            ("server.address", "127.0.0.1"),
            ("server.port", &origin.address().port().to_string()),
            ("http.response.status_code", "200"),
            ("balancer.endpoint", &origin.address().to_string()),
        ],
    );
    let [version, trace, parent, flags] = told(&origin);
    assert_eq!((&*version, &*flags), ("00", "01"));
    assert_eq!((trace, parent), (client.trace(), client.id()));
    assert_eq!(server.trace().len(), 32);
    // Queries are secrets, and fields too.
    assert!(!format!("{server:?}{client:?}").contains("secret"));
    for key in [
        "url.query",
        "error.type",
        "balancer.reason",
        "http.request.resend_count",
    ] {
        assert_eq!((server.get(key), client.get(key)), (None, None), "{key}");
    }
    let line = eventually_some("the line is written", || {
        balancer.output().into_iter().next()
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        server.get("balancer.request_id").as_deref(),
        line["request_id"].as_str()
    );
    let metrics = balancer.metrics();
    assert_eq!(metrics.sum("balancer_spans_exported_total", &[]), 2.0);
    assert_eq!(metrics.sum("balancer_spans_dropped_total", &[]), 0.0);
}

#[test]
fn regression_spans_do_not_hold_what_the_access_log_hides() {
    let collector = Collector::new();
    let origin = Origin::named("a");
    let keys = "sample = 1\nquery = true\n[access_log]\nredact = { query = [\"token\"] }";
    let balancer = Balancer::start(&config(&collector, keys, &quoted(&origin), ""));
    let target = "/main/a;token=s3cret/b?token=s3cret&b=2";
    assert_eq!(get(balancer.http(), target).status, 200);
    assert_eq!(origin.last_request().target(), target);
    let (server, clients) = tree(collector.await_spans(2));
    let [client] = &*clients else {
        panic!("{clients:?}");
    };
    let url = format!("http://{}/main/a;token=***?token=***&b=2", origin.address());
    has(
        &server,
        &[
            ("url.path", "/main/a;token=***"),
            ("url.query", "token=***&b=2"),
        ],
    );
    has(client, &[("url.full", &url)]);
    assert!(!format!("{server:?}{client:?}").contains("s3cret"));
}

#[test]
fn every_attempt_is_a_span_of_its_own() {
    let collector = Collector::new();
    let origin = Origin::with("a", |exchange| match exchange.number {
        0 => Next::Close,
        1 => exchange.respond(503, &[], "busy"),
        _ => exchange.respond_with_name(),
    });
    let keys = "sample = 1\nquery = true";
    let balancer = Balancer::start(&config(&collector, keys, &quoted(&origin), ""));
    assert_eq!(get(balancer.http(), "/main?a=b").status, 200);
    let (server, clients) = tree(collector.await_spans(4));
    has(
        &server,
        &[("url.query", "a=b"), ("http.response.status_code", "200")],
    );
    assert!(!server.is_error());
    let [closed, busy, last] = &*clients else {
        panic!("{clients:#?}")
    };
    has(closed, &[("error.type", "closed")]);
    has(
        busy,
        &[
            ("error.type", "503"),
            ("http.response.status_code", "503"),
            ("http.request.resend_count", "1"),
            ("url.full", &format!("http://{}/main?a=b", origin.address())),
        ],
    );
    has(
        last,
        &[
            ("http.response.status_code", "200"),
            ("http.request.resend_count", "2"),
        ],
    );
    assert!(closed.is_error() && busy.is_error() && !last.is_error());
    // Each was told its own.
    let told: Vec<_> = origin
        .requests()
        .iter()
        .map(|it| it.head.field("traceparent").map(str::to_owned))
        .collect();
    let expected: Vec<_> = clients
        .iter()
        .map(|it| Some(format!("00-{}-{}-01", it.trace(), it.id())))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn attempts_at_the_same_time_are_told_apart() {
    let (collector, gate) = (Collector::new(), Gate::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let origins = ["a", "b"].map(|name| {
        let (gate, asked) = (gate.clone(), asked.clone());
        Origin::with(name, move |exchange| {
            // Whoever is asked first is slow.
            if asked.fetch_add(1, SeqCst) == 0 {
                gate.wait();
            }
            exchange.respond_with_name()
        })
    });
    let endpoints = origins.iter().map(quoted).collect::<Vec<_>>().join(", ");
    let balancer = Balancer::start(&config(&collector, "sample = 1", &endpoints, ""));
    let reply = get(balancer.http(), "/hedged");
    gate.open();
    let (server, clients) = tree(collector.await_spans(3));
    let [outrun, answered] = &*clients else {
        panic!("{clients:#?}")
    };
    has(outrun, &[("balancer.outcome", "outrun")]);
    has(answered, &[("http.response.status_code", "200")]);
    assert!(!outrun.is_error() && !answered.is_error() && !server.is_error());
    assert_eq!(outrun.get("error.type"), None);
    let winner = origins
        .iter()
        .position(|origin| {
            reply.text()
                == if origin.address() == origins[0].address() {
                    "a"
                } else {
                    "b"
                }
        })
        .unwrap();
    has(
        answered,
        &[("balancer.endpoint", &origins[winner].address().to_string())],
    );
    assert_eq!(
        server.get("balancer.endpoint"),
        answered.get("balancer.endpoint")
    );
    has(
        outrun,
        &[(
            "balancer.endpoint",
            &origins[1 - winner].address().to_string(),
        )],
    );
}

#[test]
fn endpoint_over_http_2_is_told_too() {
    let (collector, origin) = (Collector::new(), H2Origin::new(|_| ready(text("a"))));
    let endpoint = format!("\"{}\"", origin.address());
    let plain = config(&collector, "sample = 1", &endpoint, "");
    let http2 = plain.replace("[upstream.app]", "[upstream.app]\nprotocol = \"h2\"");
    let balancer = Balancer::start(&http2);
    assert_eq!(get(balancer.http(), "/main").status, 200);
    let (server, clients) = tree(collector.await_spans(2));
    has(&server, &[("network.protocol.version", "1.1")]);
    has(&clients[0], &[("network.protocol.version", "2")]);
    let asked = origin.asked();
    let told = asked[0].head.headers["traceparent"].to_str().unwrap();
    assert!(told.contains(&clients[0].id()), "{told}");
}

#[test]
fn errors_are_those_of_the_side_that_has_them() {
    let (collector, refusing) = (Collector::new(), Refusing::new());
    let endpoint = format!("\"{}\"", refusing.address());
    let balancer = Balancer::start(&config(&collector, "sample = 1", &endpoint, ""));
    assert_eq!(get(balancer.http(), "/elsewhere").status, 404);
    let (server, clients) = tree(collector.await_spans(1));
    assert!(clients.is_empty() && !server.is_error());
    assert_eq!(server.span.name, "GET");
    has(
        &server,
        &[
            ("http.response.status_code", "404"),
            ("balancer.reason", "no_route"),
        ],
    );
    assert_eq!(
        (server.get("http.route"), server.get("error.type")),
        (None, None)
    );

    let mut connection = Connection::open(balancer.http());
    connection.send(format!("BREW /main HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(connection.reply().status, 502);
    let spans = eventually_some("the spans are taken", || {
        Some(collector.taken()).filter(|all| all.len() > 2)
    });
    let (server, clients) = tree(spans[1..].to_vec());
    assert!(server.is_error() && clients.iter().all(Taken::is_error));
    assert_eq!(server.span.name, "HTTP main");
    let error = server.get("error.type");
    assert_eq!(
        (&error, clients[0].get("error.type")),
        (&server.get("balancer.reason"), error.clone())
    );
    has(
        &server,
        &[
            ("http.request.method", "_OTHER"),
            ("http.request.method_original", "BREW"),
        ],
    );
    assert_eq!(clients[0].get("http.response.status_code"), None);
}

/// Asks with these further lines.
#[track_caller]
fn ask(balancer: &Balancer, lines: &str) {
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET /main HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{lines}\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
}

#[test]
fn trusted_proxys_decision_is_followed() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let trusting = "trusted_proxies = [\"127.0.0.1/32\"]";
    let text = |keys| config(&collector, keys, &quoted(&origin), trusting);
    let balancer = Balancer::start(&text("sample = 0"));
    let undecided = format!("Traceparent: 00-{TRACE}-{PARENT}-00\r\nTracestate: v=1\r\n");
    let decided = undecided
        .replace("-00\r", "-01\r")
        .replace("v=1", "v=1,w=2")
        + "X-Forwarded-For: 192.0.2.7\r\n";
    ask(&balancer, "");
    assert!(!origin.last_request().head.has("traceparent"));
    ask(&balancer, &undecided);
    assert_eq!(told(&origin), ["00", TRACE, PARENT, "00"]);
    ask(&balancer, &decided);
    let (server, clients) = tree(collector.await_spans(2));
    assert_eq!(
        (server.trace(), server.parent()),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert_eq!(server.span.trace_state, "v=1,w=2");
    assert_eq!(server.span.flags, 0x301);
    has(
        &server,
        &[
            ("client.address", "192.0.2.7"),
            ("network.peer.address", "127.0.0.1"),
        ],
    );
    assert_eq!(told(&origin), ["00", TRACE, &clients[0].id(), "01"]);
    assert_eq!(
        origin.last_request().head.field("tracestate"),
        Some("v=1,w=2")
    );

    // Not asked, it decides itself, in the same trace.
    balancer.reloaded(&text("sample = 1\nparent_based = false"));
    ask(&balancer, &undecided);
    let (server, _) = tree(collector.await_spans(4)[2..].to_vec());
    assert_eq!(
        (server.trace(), server.parent()),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    has(&server, &[("balancer.generation", "2")]);
    balancer.reloaded(&text("sample = 0.0001\nparent_based = false"));
    ask(&balancer, &decided);
    assert_eq!(told(&origin), ["00", TRACE, PARENT, "01"]);
}

#[test]
fn what_strangers_say_is_a_link() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let balancer = Balancer::start(&config(&collector, "sample = 1", &quoted(&origin), ""));
    ask(
        &balancer,
        &format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\nTracestate: v=1\r\n"),
    );
    let (server, clients) = tree(collector.await_spans(2));
    assert!(server.trace() != TRACE && server.parent().is_empty());
    let [link] = &*server.span.links else {
        panic!("{server:#?}")
    };
    assert_eq!(
        (hexadecimal(&link.trace_id), hexadecimal(&link.span_id)),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert_eq!(
        told(&origin),
        ["00", &server.trace(), &clients[0].id(), "01"]
    );
    assert!(!origin.last_request().head.has("tracestate"));
}

#[test]
fn hostile_parents_are_none() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let trusting = "trusted_proxies = [\"127.0.0.1/32\"]";
    let balancer = Balancer::start(&config(
        &collector,
        "sample = 1",
        &quoted(&origin),
        trusting,
    ));
    let valid = format!("00-{TRACE}-{PARENT}-01");
    let hostile = [
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        valid.to_uppercase(),
        format!("ff{}", &valid[2..]),
        format!("{valid}-more"),
        format!("{valid}\r\nTraceparent: {valid}"),
        valid.replace('-', "_"),
        "x".repeat(8000),
        String::new(),
    ];
    for value in &hostile {
        ask(
            &balancer,
            &format!(
                "Traceparent: {value}\r\nTracestate: {}\r\n",
                "a=b,".repeat(500)
            ),
        );
    }
    let spans = collector.await_spans(2 * hostile.len());
    for server in spans.iter().filter(|it| it.is_server()) {
        assert!(
            server.parent().is_empty() && server.span.links.is_empty(),
            "{server:#?}"
        );
        assert!(server.trace() != TRACE && server.span.trace_state.is_empty());
        assert!(server.span.trace_id.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn share_of_requests_is_traced() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let balancer = Balancer::start(&config(&collector, "sample = 0.5", &quoted(&origin), ""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..400 {
        assert_eq!(connection.get("/main").status, 200);
    }
    let told = origin
        .requests()
        .iter()
        .filter(|it| it.head.has("traceparent"))
        .count();
    // Ten standard deviations either way.
    assert!((100..300).contains(&told), "{told}");
    let spans = collector.await_spans(2 * told);
    let traces: std::collections::BTreeSet<_> = spans.iter().map(Taken::trace).collect();
    assert_eq!(traces.len(), told);
    // What one has kept, all with the same share keep: it is decided by the end of the id.
    assert!(
        traces.iter().all(|trace| &trace[18..19] >= "8"),
        "{traces:?}"
    );
}

#[test]
fn collector_that_is_away_concerns_nobody() {
    let (mut collector, origin) = (Collector::new(), Origin::named("a"));
    collector.origin.stop();
    let balancer = Balancer::start(&config(&collector, "sample = 1", &quoted(&origin), ""));
    let mut connection = Connection::open(balancer.http());
    for _ in 0..50 {
        assert_eq!(connection.get("/main").status, 200);
    }
    eventually("it is said", || {
        !balancer.events("spans are not taken").is_empty()
    });
    collector.origin.start_again();
    collector.await_spans(100);
    eventually("its end is said", || {
        !balancer.events("spans are taken again").is_empty()
    });
    let said = balancer.events("spans are not taken");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0]["error"].as_str().unwrap().contains("refused"),
        "{said:?}"
    );
    assert_eq!(
        balancer.metrics().sum("balancer_spans_dropped_total", &[]),
        0.0
    );
}

#[test]
fn what_waits_for_a_collector_that_hangs_is_bounded() {
    let (collector, origin, gate) = (Collector::new(), Origin::named("a"), Gate::new());
    let hanging = gate.clone();
    collector.on_request(move |_| {
        hanging.wait();
        None
    });
    let keys = "sample = 1\nqueue = \"64KiB\"";
    let balancer = Balancer::start(&config(&collector, keys, &quoted(&origin), ""));
    let mut connection = Connection::open(balancer.http());
    let dropped = || {
        balancer
            .metrics()
            .sum("balancer_spans_dropped_total", &[("why", "queue")])
    };
    let mut requests = 0;
    eventually("spans are dropped", || {
        for _ in 0..50 {
            assert_eq!(connection.get("/main").status, 200);
        }
        requests += 50;
        dropped() > 0.0
    });
    let said = eventually_some("it is said", || balancer.events("spans are dropped").pop());
    assert_eq!(said["error"], "there is no room for more");
    gate.open();
    let exported = || balancer.metrics().sum("balancer_spans_exported_total", &[]);
    eventually("every span is accounted for", || {
        exported() + dropped() == 2.0 * f64::from(requests)
    });
    assert_eq!(collector.taken().len() as f64, exported());
}

#[test]
fn collector_may_ask_for_time_or_refuse() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let times = Arc::new(AtomicUsize::new(0));
    collector.on_request(move |exchange| match times.fetch_add(1, SeqCst) {
        0 => Some(exchange.respond(429, &[("Retry-After", "2")], "")),
        _ => None,
    });
    let balancer = Balancer::start(&config(&collector, "sample = 1", &quoted(&origin), ""));
    assert_eq!(get(balancer.http(), "/main").status, 200);
    collector.await_spans(2);
    let sent = collector.origin.requests();
    assert_eq!(sent.len(), 2);
    assert!(sent[1].at - sent[0].at >= std::time::Duration::from_secs(2));
    let bytes = |index: usize| sent[index].body.as_ref().map(|body| body.bytes.clone());
    assert_eq!(bytes(0), bytes(1));

    // Refused once is refused for good; and part of it may be.
    let dropped = || {
        balancer
            .metrics()
            .sum("balancer_spans_dropped_total", &[("why", "refused")])
    };
    collector.on_request(|exchange| Some(exchange.respond(400, &[], "")));
    assert_eq!(get(balancer.http(), "/main").status, 200);
    eventually("they are dropped", || dropped() == 2.0);
    collector.on_request(|exchange| {
        let partly = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 1,
                error_message: "no".to_owned(),
            }),
        };
        let partly = String::from_utf8(partly.encode_to_vec()).unwrap();
        Some(exchange.respond(200, &[], &partly))
    });
    assert_eq!(get(balancer.http(), "/main").status, 200);
    eventually("one is dropped", || dropped() == 3.0);
    assert_eq!(
        balancer.metrics().sum("balancer_spans_exported_total", &[]),
        3.0
    );
}

#[test]
fn what_waits_at_the_end_is_sent_unless_the_collector_hangs() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let text = config(&collector, "sample = 1", &quoted(&origin), "");
    let mut balancer = Balancer::start(&text);
    assert_eq!(get(balancer.http(), "/main").status, 200);
    balancer.signal(Signal::TERM);
    assert!(balancer.wait_exit().success());
    collector.await_spans(2);

    let gate = Gate::new();
    let hanging = gate.clone();
    collector.on_request(move |_| {
        hanging.wait();
        None
    });
    let mut balancer = Balancer::start(&text);
    assert_eq!(get(balancer.http(), "/main").status, 200);
    let begun = Instant::now();
    balancer.signal(Signal::TERM);
    assert!(balancer.wait_exit().success());
    assert!(
        begun.elapsed().as_secs() < 9,
        "it does not wait for `timeout`"
    );
    let lost = balancer.events("spans are lost").pop().unwrap();
    assert_eq!(lost["spans"], 2, "{lost}");
    let url = format!("http://{}/v1/traces", collector.address());
    assert_eq!(lost["collector"], url, "{lost}");
    gate.open();
}

#[test]
fn collector_is_spoken_to_over_tls_and_told_a_token() {
    let (collector, origin) = (Collector::new(), Origin::named("a"));
    let authority = Authority::new("root");
    let front = TlsFront::new(collector.address(), &authority.issue(&["collector.test"]));
    let keys = "sample = 1\nheaders = { x-tenant = \"shop\" }\nheader_files = { authorization = \"token\" }\ntls = { ca = \"ca.pem\", server_name = \"collector.test\" }";
    let text = config(&collector, keys, &quoted(&origin), "");
    let text = text.replace(
        &format!("http://{}", collector.address()),
        &format!("https://{}/x/traces", front.address()),
    );
    let balancer = Balancer::start_with(&text, |folder| {
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        fs::write(folder.join("token"), "Bearer one\n").unwrap();
    });
    assert_eq!(get(balancer.http(), "/main").status, 200);
    collector.await_spans(2);
    let sent = collector.origin.last_request();
    assert_eq!(sent.target(), "/x/traces");
    assert_eq!(sent.head.field("authorization"), Some("Bearer one"));
    assert_eq!(sent.head.field("x-tenant"), Some("shop"));

    // A reload reads the file again, and says what is wrong with it.
    let token = balancer.directory().join("token");
    fs::write(&token, "Bearer two").unwrap();
    balancer.reloaded(&text.replace("sample = 1", "sample = 1\nservice_name = \"other\""));
    assert_eq!(get(balancer.http(), "/main").status, 200);
    assert_eq!(
        collector.await_spans(4)[3].resource["service.name"],
        "other"
    );
    assert_eq!(
        collector.origin.last_request().head.field("authorization"),
        Some("Bearer two")
    );
    fs::write(&token, "\n").unwrap();
    let crate::support::Outcome::Rejected(problems) = balancer.reload(&text) else {
        panic!("an empty token was taken");
    };
    assert!(
        problems.contains("tracing.header_files.authorization: "),
        "{problems}"
    );
    assert!(
        problems.contains("token is empty; it must hold what authorization is"),
        "{problems}"
    );

    // And one without the table ends it.
    let (before, after) = (
        text.find("[tracing]").unwrap(),
        text.find("[listener").unwrap(),
    );
    balancer.reloaded(&(text[..before].to_owned() + &text[after..]));
    assert_eq!(get(balancer.http(), "/main").status, 200);
    assert!(!origin.last_request().head.has("traceparent"));
}
