//! A collector of traces: takes OTLP over HTTP, reads it with the official types, and remembers every span.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use super::deadline::eventually_some;
use super::origin::{Exchange, Next, Origin};

/// Takes what it is sent, unless it is told otherwise.
pub(crate) struct Collector {
    pub(crate) origin: Origin,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// A span, and of what process.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) span: Span,
    pub(crate) resource: BTreeMap<String, String>,
}

impl Collector {
    pub(crate) fn new() -> Self {
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let into = taken.clone();
        let origin = Origin::with("collector", move |exchange| take(exchange, &into));
        Self { origin, taken }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// From now on what is sent is answered so, and not taken, where `answer` says something.
    pub(crate) fn on_request(
        &self,
        answer: impl Fn(&mut Exchange<'_>) -> Option<Next> + Send + Sync + 'static,
    ) {
        let into = self.taken.clone();
        self.origin.on_request(move |exchange| {
            let answered = answer(exchange);
            answered.unwrap_or_else(|| take(exchange, &into))
        });
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits for so many spans in all; fails if there are more.
    #[track_caller]
    pub(crate) fn await_spans(&self, count: usize) -> Vec<Taken> {
        let taken = eventually_some("the spans are taken", || {
            Some(self.taken()).filter(|taken| taken.len() >= count)
        });
        assert_eq!(taken.len(), count, "{taken:#?}");
        taken
    }
}

fn take(exchange: &mut Exchange<'_>, into: &Mutex<Vec<Taken>>) -> Next {
    assert_eq!(exchange.method(), "POST");
    let kind = exchange.head.field("content-type");
    assert_eq!(kind, Some("application/x-protobuf"));
    let body = exchange.body();
    let request = ExportTraceServiceRequest::decode(&*body.bytes).expect("OTLP");
    for of_process in request.resource_spans {
        let resource = of_process.resource.expect("a resource").attributes;
        let resource = attributes(&resource);
        let spans = of_process.scope_spans.into_iter().flat_map(|it| it.spans);
        let taken = spans.map(|span| Taken {
            span,
            resource: resource.clone(),
        });
        into.lock().unwrap().extend(taken);
    }
    exchange.respond(200, &[("Content-Type", "application/x-protobuf")], "")
}

impl Taken {
    pub(crate) fn is_server(&self) -> bool {
        self.span.kind() == SpanKind::Server
    }

    /// An attribute in words; none where there is none.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        attributes(&self.span.attributes).remove(key)
    }

    /// Whether its status is an error.
    pub(crate) fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|it| it.code == 2)
    }

    /// As in `traceparent`.
    pub(crate) fn trace(&self) -> String {
        hexadecimal(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hexadecimal(&self.span.span_id)
    }

    pub(crate) fn parent(&self) -> String {
        hexadecimal(&self.span.parent_span_id)
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|it| it.value.as_ref());
        let text = match value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), text)
    };
    let all: BTreeMap<_, _> = attributes.iter().map(text).collect();
    assert_eq!(all.len(), attributes.len(), "a key stands twice");
    all
}
