//! What stands around spans when they are sent: an OTLP `ExportTraceServiceRequest` of one process. Pure.

use crate::message::protobuf::Write;

/// What is known of this process.
#[derive(Debug)]
pub(super) struct Process(Vec<(&'static str, String)>);

impl Process {
    /// The one that runs.
    pub(super) fn this() -> Self {
        let host = rustix::system::uname();
        Self(vec![
            ("service.version", VERSION.to_owned()),
            ("service.instance.id", instance(fastrand::u128(..))),
            ("host.name", host.nodename().to_string_lossy().into_owned()),
        ])
    }
}

/// A random UUID (RFC 9562 §5.4), as the conventions want it.
fn instance(random: u128) -> String {
    let id = random & !(0xf << 76 | 0x3 << 62) | 4 << 76 | 2 << 62;
    let id = format!("{id:032x}");
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    parts.join("-")
}

/// The request that sends `spans`; `resource` is what the operator says of the process, and comes before what we know.
pub(super) fn envelope(
    process: &Process,
    resource: &[(Box<str>, Box<str>)],
    spans: &[u8],
) -> Vec<u8> {
    let said = resource.iter().map(|(key, value)| (&**key, &**value));
    let is_said = |key: &str| resource.iter().any(|(other, _)| **other == *key);
    let known = process.0.iter().map(|(key, value)| (*key, value.as_str()));
    let known = known.filter(|(key, _)| !is_said(key));
    let mut out = Vec::with_capacity(spans.len() + HEAD);
    out.message(RESOURCE_SPANS, |out| {
        out.message(RESOURCE, |out| {
            for (key, value) in said.chain(known) {
                out.message(ATTRIBUTES, |out| {
                    out.bytes(1, key.as_bytes());
                    out.message(2, |out| out.bytes(1, value.as_bytes()));
                });
            }
        });
        out.message(SCOPE_SPANS, |out| {
            out.message(SCOPE, |out| {
                out.bytes(1, b"balancer");
                out.bytes(2, VERSION.as_bytes());
            });
            out.extend_from_slice(spans);
        });
    });
    out
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `ExportTraceServiceRequest.resource_spans`
const RESOURCE_SPANS: u32 = 1;
/// Fields of `ResourceSpans`.
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
/// `Resource.attributes`
const ATTRIBUTES: u32 = 1;
/// `ScopeSpans.scope`
const SCOPE: u32 = 1;
const HEAD: usize = 1024; // what is said of a process is mostly shorter

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message;

    use super::*;

    #[test]
    fn official_types_read_what_is_sent() {
        let resource = [
            ("service.name".into(), "edge".into()),
            ("host.name".into(), "a".into()),
        ];
        let mut spans = Vec::new();
        spans.message(2, |out| out.bytes(5, b"GET /"));
        spans.message(2, |out| out.bytes(5, "x".repeat(200).as_bytes()));
        let sent = envelope(&Process::this(), &resource, &spans);
        let read = ExportTraceServiceRequest::decode(&*sent).unwrap();
        let [of_process] = &*read.resource_spans else {
            panic!("{read:?}");
        };
        let said = of_process.resource.as_ref().expect("a resource");
        let said: Vec<_> = said
            .attributes
            .iter()
            .map(|it| {
                let value = it.value.as_ref().and_then(|value| value.value.clone());
                let Some(Value::StringValue(value)) = value else {
                    panic!("{it:?}")
                };
                (it.key.as_str(), value)
            })
            .collect();
        assert_eq!(said[0], ("service.name", "edge".to_owned()));
        assert_eq!(said[1], ("host.name", "a".to_owned()));
        assert_eq!(said.len(), 4, "{said:?}");
        let [of_scope] = &*of_process.scope_spans else {
            panic!("{read:?}");
        };
        assert_eq!(of_scope.scope.as_ref().expect("a scope").name, "balancer");
        let names: Vec<_> = of_scope.spans.iter().map(|span| span.name.len()).collect();
        assert_eq!(names, [5, 200]);
    }

    #[test]
    fn instance_is_called_by_a_random_uuid() {
        assert_eq!(instance(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(instance(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
