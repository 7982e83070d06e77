//! Reads `[listener.NAME]` with its timeouts and limits.

use std::time::Duration;

use ipnet::IpNet;

use super::hsts::hsts;
use super::process::count;
use super::{socket_address, tls};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{ForwardedFields, Listener, ListenerLimits, ListenerTimeouts};
use crate::units::ByteSize;

pub(super) fn listener(entry: &Value<'_>) -> Option<Listener> {
    entry.table(|table| {
        let address = table.required("address", "\"0.0.0.0:8080\"");
        let tls_value = table.get("tls");
        let tls = tls_value
            .as_ref()
            .and_then(|value| value.table(tls::tls))
            .flatten();
        let (http2, http1) = table
            .get("protocols")
            .and_then(|value| protocols(&value, tls_value.is_some()))
            .unwrap_or((true, true));
        let trusted_proxies = table
            .get("trusted_proxies")
            .and_then(|value| networks(&value))
            .unwrap_or_default();
        let proxy_protocol = proxy_protocol(table);
        let forwarded = table
            .get("forwarded")
            .and_then(|value| value.one_of(&FORWARDED, &[]))
            .unwrap_or(ForwardedFields::XForwarded);
        let hsts = table
            .get("hsts")
            .and_then(|value| hsts(&value, tls_value.is_some()));
        let redirect_to_https = table.get("redirect_to_https").and_then(|value| {
            let redirect = value.bool()?;
            if redirect && tls_value.is_some() {
                value.report(
                    "must not be set on a listener with tls: its requests are https already",
                );
            }
            Some(redirect)
        });
        let timeouts = table
            .get("timeouts")
            .and_then(|value| value.table(timeouts))
            .unwrap_or(TIMEOUTS);
        let limits = table
            .get("limits")
            .and_then(|value| value.table(limits))
            .unwrap_or(LIMITS);
        let address_value = address?;
        Some(Listener {
            name: entry.name.into(),
            address: socket_address(&address_value)?,
            tls,
            http2,
            http1,
            trusted_proxies,
            proxy_protocol,
            forwarded,
            hsts,
            redirect_to_https: redirect_to_https.unwrap_or(false),
            timeouts,
            limits,
            place: address_value.place(),
        })
    })?
}

/// Whether `h2` and whether `http/1.1` is among the protocols.
fn protocols(value: &Value<'_>, has_tls: bool) -> Option<(bool, bool)> {
    let protocols = value.non_empty_array(
        "an array such as [\"h2\", \"http/1.1\"]",
        "; leave the key out for both protocols",
    )?;
    let (mut http2, mut http1) = (false, false);
    for protocol in &protocols {
        let is_http2 = protocol.one_of(&[("h2", true), ("http/1.1", false)], &[])?;
        let seen = if is_http2 { &mut http2 } else { &mut http1 };
        if std::mem::replace(seen, true) {
            protocol.report(format!("{protocol} is listed twice"));
        }
    }
    if !http1 && !has_tls {
        value.report("\"h2\" alone needs tls, where it is negotiated; add \"http/1.1\" or tls");
    }
    Some((http2, http1))
}

/// The networks a PROXY protocol header is required from, where it is.
fn proxy_protocol(table: &mut Table<'_>) -> Option<Vec<IpNet>> {
    let value = table.get("proxy_protocol");
    let from_value = table.get("proxy_protocol_from");
    let from = from_value.as_ref().map(networks);
    let required = match &value {
        Some(value) => value.one_of(&[("off", false), ("required", true)], &[])?,
        None => false,
    };
    match (required, &from_value, from.flatten()) {
        (true, Some(value), Some(networks)) => {
            value.non_empty_array(NETWORKS, "; name the networks of the proxies in front")?;
            Some(networks)
        }
        (true, None, _) => {
            value?.report("needs proxy_protocol_from, the networks of the proxies in front, such as proxy_protocol_from = [\"10.0.0.0/8\"]");
            None
        }
        (false, Some(value), Some(networks)) if !networks.is_empty() => {
            value.source.report(
                value.key_place(),
                "has no effect unless proxy_protocol is \"required\"",
            );
            None
        }
        (true | false, ..) => None,
    }
}

fn networks(value: &Value<'_>) -> Option<Vec<IpNet>> {
    let elements = value.array(NETWORKS)?;
    Some(elements.iter().filter_map(network).collect())
}

fn network(value: &Value<'_>) -> Option<IpNet> {
    let what = "a network such as \"10.0.0.0/8\" or an IP address";
    let text = value.string_such_as(what)?;
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(address.to_canonical().into());
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return value.expected(what);
    };
    if network.trunc() != network {
        value.report(format!(
            "has bits set beyond its prefix; write \"{}\", got {value}",
            network.trunc()
        ));
        return None;
    }
    // Addresses are compared as IPv4 where they are such in the clothes of IPv6.
    let mapped = match network {
        IpNet::V6(inner) if inner.prefix_len() >= 96 => inner
            .network()
            .to_ipv4_mapped()
            .and_then(|address| IpNet::new(address.into(), inner.prefix_len() - 96).ok()),
        IpNet::V4(_) | IpNet::V6(_) => None,
    };
    Some(mapped.unwrap_or(network))
}

fn timeouts(table: &mut Table<'_>) -> ListenerTimeouts {
    let mut read = |key, default| {
        table
            .get(key)
            .and_then(|value| value.duration())
            .unwrap_or(default)
    };
    ListenerTimeouts {
        handshake: read("handshake", TIMEOUTS.handshake),
        header: read("header", TIMEOUTS.header),
        body_idle: read("body_idle", TIMEOUTS.body_idle),
        keep_alive: read("keep_alive", TIMEOUTS.keep_alive),
        body_grace: read("body_grace", TIMEOUTS.body_grace),
        max_age: table.get("max_age").and_then(|value| value.duration()),
        body_rate: table
            .get("body_rate")
            .map_or(TIMEOUTS.body_rate, |value| body_rate(&value)),
    }
}

/// Bytes a second, or `"off"`.
fn body_rate(value: &Value<'_>) -> Option<ByteSize> {
    if value.string_such_as("\"off\" or a size such as \"100B\", a second")? == "off" {
        return None;
    }
    value.size()
}

fn limits(table: &mut Table<'_>) -> ListenerLimits {
    let connections = table
        .get("connections")
        .and_then(|value| count(&value, i64::MAX));
    let per_client = table.get("connections_per_client").and_then(|value| {
        let per_client = count(&value, i64::MAX)?;
        if connections.is_some_and(|connections| per_client > connections) {
            value.report(format!(
                "connections_per_client ({per_client}) must not be more than connections; lower it, or leave it out"
            ));
        }
        Some(per_client)
    });
    let requests_per_connection = table
        .get("requests_per_connection")
        .and_then(|value| count(&value, i64::MAX));
    let headers = table
        .get("headers")
        .and_then(|value| count(&value, MOST_HEADERS));
    let h2_streams = table
        .get("h2_streams")
        .and_then(|value| value.integer(1..=MOST_STREAMS));
    ListenerLimits {
        connections,
        connections_per_client: per_client,
        requests_per_connection,
        header_bytes: table
            .get("header_bytes")
            .and_then(|value| value.size())
            .unwrap_or(LIMITS.header_bytes),
        headers: headers.map_or(LIMITS.headers, usize::from),
        uri_bytes: table
            .get("uri_bytes")
            .and_then(|value| value.size())
            .unwrap_or(LIMITS.uri_bytes),
        body_bytes: table.get("body_bytes").and_then(|value| value.size()),
        h2_streams: h2_streams
            .and_then(|streams| u32::try_from(streams).ok())
            .unwrap_or(LIMITS.h2_streams),
    }
}

const NETWORKS: &str = "an array of networks such as [\"10.0.0.0/8\"]";
const FORWARDED: [(&str, ForwardedFields); 3] = [
    ("x-forwarded", ForwardedFields::XForwarded),
    ("forwarded", ForwardedFields::Forwarded),
    ("both", ForwardedFields::Both),
];

const TIMEOUTS: ListenerTimeouts = ListenerTimeouts {
    handshake: Duration::from_secs(10),
    header: Duration::from_secs(10),
    body_idle: Duration::from_secs(30),
    body_rate: Some(ByteSize::bytes(100)),
    body_grace: Duration::from_secs(30),
    keep_alive: Duration::from_secs(75),
    max_age: None,
};

const LIMITS: ListenerLimits = ListenerLimits {
    connections: None,
    connections_per_client: None,
    requests_per_connection: None,
    header_bytes: ByteSize::kibibytes(64),
    headers: 100,
    uri_bytes: ByteSize::kibibytes(8),
    body_bytes: None,
    h2_streams: 100,
};

const MOST_HEADERS: i64 = 10_000; // a header map holds 24 576 at most
const MOST_STREAMS: i64 = 0x7fff_ffff; // RFC 9113 §5.1.1: stream identifiers have 31 bits
