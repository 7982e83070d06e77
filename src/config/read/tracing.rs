//! Reads `[tracing]`.

use std::time::Duration;

use http::Uri;

use super::header::{field_name, to_send};
use super::{host, upstream_tls};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Address, Collector, HeaderFile, Tracing, Trust, UpstreamTls};
use crate::units::ByteSize;

/// `None` where there is no such table, or a problem with it.
pub(super) fn tracing(root: &mut Table<'_>) -> Option<Tracing> {
    let value = root.get("tracing")?;
    if !cfg!(feature = "otel") {
        value.source.report(
            value.key_place(),
            "this balancer was built without traces; build it with `--features otel`, or remove the table",
        );
    }
    value.table(table)?
}

fn table(table: &mut Table<'_>) -> Option<Tracing> {
    let endpoint = table.required("endpoint", "\"http://127.0.0.1:4318\"");
    let tls = table.get("tls");
    let sample = table.get("sample");
    let share = sample.as_ref().and_then(share).unwrap_or(SAMPLE);
    let parent_based = flag(table, "parent_based").unwrap_or(true);
    if let Some(sample) = &sample
        && share == 0.0
        && !parent_based
    {
        sample.report("0 with parent_based = false traces nothing: raise it, or remove [tracing]");
    }
    let query = flag(table, "query").unwrap_or(false);
    let service_name = table.get("service_name");
    let service_name = service_name.as_ref().and_then(attribute);
    let resource = table.get("resource").map(|value| resource(&value));
    let headers = table.get("headers").map(|value| to_send(&value));
    let header_files = table.get("header_files").map(|value| header_files(&value));
    let timeout = table.get("timeout").and_then(|value| value.duration());
    let queue = table.get("queue").and_then(|value| queue(&value));
    let tls = tls.map(|tls| (tls.table(upstream_tls::tls), tls));
    let collector = endpoint.and_then(|endpoint| collector(&endpoint, tls));
    Some(Tracing {
        collector: collector?,
        sample: share,
        parent_based,
        query,
        service_name: service_name.unwrap_or_else(|| "balancer".into()),
        resource: resource.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        header_files: header_files.unwrap_or_default(),
        timeout: timeout.unwrap_or(TIMEOUT),
        queue: queue.unwrap_or(QUEUE),
        place: table.place(),
    })
}

fn flag(table: &mut Table<'_>, key: &'static str) -> Option<bool> {
    table.get(key)?.bool()
}

fn share(value: &Value<'_>) -> Option<f64> {
    let share = value.number()?;
    if (0.0..=1.0).contains(&share) {
        Some(share)
    } else {
        value.expected("0 to 1")
    }
}

fn collector(
    endpoint: &Value<'_>,
    tls: Option<(Option<UpstreamTls>, Value<'_>)>,
) -> Option<Collector> {
    let what =
        "a URL such as \"http://127.0.0.1:4318\" or \"https://collector.example.com/v1/traces\"";
    let text = endpoint.string_such_as(what)?;
    let Ok(url) = text.parse::<Uri>() else {
        return endpoint.expected(what);
    };
    let is_tls = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) | None => return endpoint.expected(what),
    };
    let Some(authority) = url.authority() else {
        return endpoint.expected(what);
    };
    if authority.as_str().contains('@') {
        endpoint.report("must not hold a name or password; send them as a field of header_files");
        return None;
    }
    if url.query().is_some() {
        return endpoint.expected(what);
    }
    let usual = if is_tls { 443 } else { 80 };
    let address = match authority.as_str() {
        host if host == authority.host() => host::address(&format!("{host}:{usual}")),
        host_and_port => host::address(host_and_port),
    };
    let Ok(address) = address else {
        return endpoint.expected(what);
    };
    let tls = match (tls, is_tls) {
        (Some((tls, _)), true) => Some(tls?),
        (Some((_, tls)), false) => {
            tls.source
                .report(tls.key_place(), "only where endpoint is https");
            return None;
        }
        (None, true) => Some(UpstreamTls {
            trust: Trust::System,
            server_name: None,
            client_certificate: None,
            place: endpoint.place(),
        }),
        (None, false) => None,
    };
    Some(Collector {
        address: settled(address),
        authority: authority.as_str().into(),
        path: match url.path() {
            "" | "/" => PATH.into(),
            path => path.into(),
        },
        tls,
        place: endpoint.place(),
    })
}

/// The address; `localhost` is no question for a resolver (RFC 6761 §6.3).
fn settled(address: Address) -> Address {
    match &address {
        Address::Name(host, port) if &**host == "localhost" => {
            Address::Socket((std::net::Ipv4Addr::LOCALHOST, *port).into())
        }
        Address::Name(..) | Address::Socket(_) => address,
    }
}

/// Text in traces.
fn attribute(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.string()?;
    if text.is_empty() || text.len() > LONGEST_ATTRIBUTE {
        return value.expected(format_args!("1–{LONGEST_ATTRIBUTE} bytes of text"));
    }
    Some(text.into())
}

fn resource(value: &Value<'_>) -> Vec<(Box<str>, Box<str>)> {
    let entries =
        value.entries("a table such as { \"deployment.environment.name\" = \"production\" }");
    let mut resource = Vec::new();
    for entry in &entries {
        if entry.name == "service.name" {
            entry
                .source
                .report(entry.key_place(), "is set by `service_name`");
        } else if let Some(text) = attribute(entry) {
            resource.push((entry.name.into(), text));
        }
    }
    resource
}

fn header_files(value: &Value<'_>) -> Vec<HeaderFile> {
    let entries = value.entries("a table such as { authorization = \"collector.token\" }");
    let read = |entry: &Value<'_>| match field_name(entry.name) {
        Ok(name) => Some(HeaderFile {
            name,
            path: entry.path()?,
            place: entry.place(),
        }),
        Err(message) => {
            entry.source.report(entry.key_place(), message);
            None
        }
    };
    entries.iter().filter_map(read).collect()
}

fn queue(value: &Value<'_>) -> Option<ByteSize> {
    let queue = value.size()?;
    if queue < SMALLEST_QUEUE || queue > LARGEST_QUEUE {
        return value.expected(format_args!("{SMALLEST_QUEUE} to {LARGEST_QUEUE}"));
    }
    Some(queue)
}

const SAMPLE: f64 = 0.01;
const PATH: &str = "/v1/traces"; // OTLP 1.x, OTLP/HTTP
const TIMEOUT: Duration = Duration::from_secs(10); // the OpenTelemetry specification's default
const QUEUE: ByteSize = ByteSize::kibibytes(4 * 1024);
const SMALLEST_QUEUE: ByteSize = ByteSize::kibibytes(64); // one span may take a third of that
const LARGEST_QUEUE: ByteSize = ByteSize::kibibytes(1024 * 1024);
const LONGEST_ATTRIBUTE: usize = 1024; // goes with everything that is sent
