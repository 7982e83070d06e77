//! What is told of attempts at the same time.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use http::Method;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, status::StatusCode};
use prometheus::IntCounter;
use prost::Message as _;

use super::outbox::Outbox;
use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::proxy::drain::Drain;
use crate::proxy::hedge::OUTRUN;
use crate::snapshot::compile::Compiler;
use crate::snapshot::{Held, Publisher};
use crate::tls::Tickets;

const TEXT: &str = "[listener.a]\naddress = \"127.0.0.1:80\"\n[upstream.app]\n\
    endpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n[[route]]\nupstream = \"app\"\n";

fn snapshot() -> Held {
    let config = config::parse(TEXT, Path::new("f")).unwrap();
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    let compiled = compiler.compile(&config, None).unwrap();
    Publisher::new(compiled.snapshot).reader().load()
}

/// The spans of a request that was answered, after `course` with both endpoints asked: its own first.
fn spans(course: impl FnOnce(&Trace, [&Arc<Endpoint>; 2])) -> Vec<Span> {
    let held = snapshot();
    let address = ([127, 0, 0, 1], 80).into();
    let drain = Rc::new(Drain::new(0, Rc::clone(&held)));
    let client = Client::new(address, address, &held.listeners[0], drain);
    let trace = Trace {
        secrets: None,
        id: new_trace(1),
        span: new_span(),
        parent: None,
        state: String::new(),
        link: None,
        begun: Instant::now(),
        at: 0,
        generation: 1,
        version: Version::HTTP_11,
        uri: Uri::from_static("/"),
        has_query: false,
        host: None,
        client: None,
        attempts: RefCell::default(),
    };
    let endpoints = &held.upstreams[0].endpoints;
    for endpoint in endpoints {
        trace.begin_attempt(endpoint, &mut Request::new(()));
    }
    course(&trace, [&endpoints[0], &endpoints[1]]);
    let (way, mut blocks) = outbox::way();
    let outbox = Outbox::new(way, IntCounter::new("x", "x").unwrap());
    let finished = Finished {
        client: &client,
        method: &Method::GET,
        request_id: "00ff",
        listener: "a",
        route: Some("/"),
        upstream: Some("app"),
        status: 200,
        reason: None,
        is_endpoints_fault: false,
        at: Instant::now(),
    };
    trace.finish(&finished, &outbox);
    outbox.flush();
    let block = blocks.try_recv().expect("spans");
    ScopeSpans::decode(&*block.bytes).unwrap().spans
}

fn texts(span: &Span) -> BTreeMap<&str, &str> {
    let attributes = span.attributes.iter();
    let text = attributes.filter_map(|it| match it.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((&*it.key, &**text)),
        _ => None,
    });
    text.collect()
}

fn is_error(span: &Span) -> bool {
    let status = span.status.as_ref();
    status.is_some_and(|it| it.code() == StatusCode::Error)
}

#[test]
fn regression_request_is_told_of_who_has_answered_and_who_is_outrun_has_no_error() {
    let spans = spans(|trace, [first, second]| {
        trace.answered(first, 200);
        trace.failed(second, OUTRUN);
    });
    let [server, answered, outrun] = &*spans else {
        panic!("{spans:#?}")
    };
    assert_eq!(texts(server)["balancer.endpoint"], "127.0.0.1:1");
    assert_eq!(texts(answered)["balancer.endpoint"], "127.0.0.1:1");
    assert_eq!(texts(outrun)["balancer.endpoint"], "127.0.0.1:2");
    assert_eq!(texts(outrun)["balancer.outcome"], "outrun");
    assert!(!spans.iter().any(is_error), "{spans:#?}");
    for span in &spans {
        assert_eq!(texts(span).get("error.type"), None);
    }
    assert_eq!(texts(answered).get("balancer.outcome"), None);
}

#[test]
fn request_that_nobody_answers_is_told_of_who_was_asked_last() {
    let spans = spans(|trace, [first, second]| {
        trace.failed(second, "connect_failed");
        trace.failed(first, "reset");
    });
    assert_eq!(texts(&spans[0])["balancer.endpoint"], "127.0.0.1:2");
    assert!(is_error(&spans[1]) && is_error(&spans[2]));
}
