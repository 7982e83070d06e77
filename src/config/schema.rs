//! The keys of the file as a JSON Schema (draft 2020-12), for editors. Says what may stand where; what contradicts what, only the
//! reader knows. Long because every key of the file stands here once.

use serde_json::{Map, Value, json};

use super::{Field, Policy};
use Kind::{
    Duration, List, Named, No, Number, Or, Policy as Policies, Size, Table, Text, Whole, Words, Yes,
};
use Need::{May, Must};

/// What may stand at a key.
enum Kind {
    Text,
    Yes,
    Whole(i64, i64),
    /// Above the first, or it, to the second.
    Number(f64, f64),
    Duration,
    Size,
    Words(&'static [&'static str]),
    /// `false`, and nothing else.
    No,
    Policy,
    Or(&'static [Self]),
    List(&'static Self),
    /// A table whose keys are names.
    Named(&'static Self),
    Table(&'static [Key]),
}

/// A key, and whether its table needs it.
struct Key(&'static str, Need, Kind);

#[derive(PartialEq)]
enum Need {
    Must,
    May,
}

/// The schema of the whole file.
pub fn schema() -> Value {
    let mut schema = value(&Table(FILE));
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("balancer.toml");
    schema
}

fn value(kind: &Kind) -> Value {
    match kind {
        Text => json!({ "type": "string" }),
        Yes => json!({ "type": "boolean" }),
        Whole(low, i64::MAX) => json!({ "type": "integer", "minimum": low }),
        Whole(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Duration => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" }),
        Size => json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" }),
        No => json!({ "const": false }),
        Words(words) => json!({ "enum": words }),
        Policies => json!({ "enum": Policy::WORDS.map(|(word, _)| word) }),
        Or(kinds) => json!({ "anyOf": kinds.iter().map(value).collect::<Vec<_>>() }),
        List(kind) => json!({ "type": "array", "items": value(kind) }),
        Named(kind) => json!({ "type": "object", "additionalProperties": value(kind) }),
        Table(keys) => {
            let properties: Map<_, _> = keys
                .iter()
                .map(|Key(name, _, kind)| ((*name).to_owned(), value(kind)))
                .collect();
            let required: Vec<_> = keys
                .iter()
                .filter(|Key(_, need, _)| *need == Must)
                .map(|Key(name, ..)| name)
                .collect();
            json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            })
        }
    }
}

const ANY: i64 = i64::MAX;
const WORDS: Kind = List(&Text);
const STATUSES: Kind = List(&Whole(100, 599));
const CERTIFICATE: Kind = Table(&[Key("chain", Must, Text), Key("key", Must, Text)]);

const FILE: &[Key] = &[
    Key("process", May, Table(PROCESS)),
    Key("log", May, Table(LOG)),
    Key("access_log", May, Table(ACCESS_LOG)),
    Key("tracing", May, Table(TRACING)),
    Key("admin", May, Table(ADMIN)),
    Key("error_pages", May, Named(&Text)),
    Key("listener", Must, Named(&Table(LISTENER))),
    Key("upstream", May, Named(&Table(UPSTREAM))),
    Key("route", May, List(&Table(ROUTE))),
];

const PROCESS: &[Key] = &[
    Key("workers", May, Whole(1, 1024)),
    Key("shutdown_delay", May, Duration),
    Key("shutdown_grace", May, Duration),
    Key("startup_wait", May, Duration),
    Key("certificate_poll", May, Or(&[Words(&["off"]), Duration])),
    Key("config_poll", May, Or(&[Words(&["off"]), Duration])),
    Key("auto_rollback", May, Table(AUTO_ROLLBACK)),
    Key("drain_tunnel_timeout", May, Duration),
    Key("max_connections", May, Whole(1, ANY)),
];

const AUTO_ROLLBACK: &[Key] = &[
    Key("ratio", May, Number(0.0, 1.0)),
    Key("min_requests", May, Whole(10, 1_000_000_000)),
    Key("window", May, Duration),
    Key("errors", May, Words(&["own", "all"])),
];

const LOG: &[Key] = &[
    Key(
        "level",
        May,
        Words(&["error", "warn", "info", "debug", "trace"]),
    ),
    Key("format", May, Words(&["text", "json"])),
];

const ACCESS_LOG: &[Key] = &[
    Key("target", May, Text),
    Key("format", May, Words(&["json", "combined"])),
    Key("fields", May, List(&Words(&Field::NAMES))),
    Key("headers", May, WORDS),
    Key("redact", May, Table(REDACT)),
    Key("sample", May, Number(0.0, 1.0)),
    Key("only", May, Words(&["all", "errors"])),
    Key("slow", May, Duration),
];

const REDACT: &[Key] = &[
    Key("query", May, Or(&[Words(&["all"]), WORDS])),
    Key("headers", May, WORDS),
];

const TRACING: &[Key] = &[
    Key("endpoint", Must, Text),
    Key("sample", May, Number(0.0, 1.0)),
    Key("parent_based", May, Yes),
    Key("query", May, Yes),
    Key("service_name", May, Text),
    Key("resource", May, Named(&Text)),
    Key("headers", May, Named(&Text)),
    Key("header_files", May, Named(&Text)),
    Key("timeout", May, Duration),
    Key("queue", May, Size),
    Key("tls", May, Table(UPSTREAM_TLS)),
];

const ADMIN: &[Key] = &[
    Key("address", May, Text),
    Key("socket", May, Text),
    Key("hosts", May, WORDS),
    Key("audit", May, Text),
    Key("token_file", May, Text),
];

const LISTENER: &[Key] = &[
    Key("address", Must, Text),
    Key("tls", May, Table(LISTENER_TLS)),
    Key("protocols", May, List(&Words(&["h2", "http/1.1"]))),
    Key("trusted_proxies", May, WORDS),
    Key(
        "forwarded",
        May,
        Words(&["x-forwarded", "forwarded", "both"]),
    ),
    Key("proxy_protocol", May, Words(&["off", "required"])),
    Key("proxy_protocol_from", May, WORDS),
    Key("hsts", May, Table(HSTS)),
    Key("redirect_to_https", May, Yes),
    Key("timeouts", May, Table(LISTENER_TIMEOUTS)),
    Key("limits", May, Table(LISTENER_LIMITS)),
];

const LISTENER_TLS: &[Key] = &[
    Key("certificates", Must, List(&CERTIFICATE)),
    Key("policy", May, Words(&["intermediate", "modern"])),
    Key("min_version", May, Words(&["1.2", "1.3"])),
    Key("client_auth", May, Words(&["off", "optional", "required"])),
    Key("client_ca", May, Text),
    Key("client_crl", May, Text),
    Key("forward_identity", May, Table(FORWARD_IDENTITY)),
];

const FORWARD_IDENTITY: &[Key] = &[
    Key("certificate", May, Text),
    Key("subject", May, Text),
    Key("san", May, Text),
    Key("fingerprint", May, Text),
];

const HSTS: &[Key] = &[
    Key("max_age", May, Duration),
    Key("include_subdomains", May, Yes),
    Key("preload", May, Yes),
];

const LISTENER_TIMEOUTS: &[Key] = &[
    Key("handshake", May, Duration),
    Key("header", May, Duration),
    Key("body_idle", May, Duration),
    Key("body_rate", May, Or(&[Words(&["off"]), Size])),
    Key("body_grace", May, Duration),
    Key("keep_alive", May, Duration),
    Key("max_age", May, Duration),
];

const LISTENER_LIMITS: &[Key] = &[
    Key("connections", May, Whole(1, ANY)),
    Key("connections_per_client", May, Whole(1, ANY)),
    Key("requests_per_connection", May, Whole(1, ANY)),
    Key("header_bytes", May, Size),
    Key("headers", May, Whole(1, 10_000)),
    Key("uri_bytes", May, Size),
    Key("body_bytes", May, Size),
    Key("h2_streams", May, Whole(1, ANY)),
];

const UPSTREAM: &[Key] = &[
    Key("endpoints", Must, List(&Or(&[Text, Table(ENDPOINT)]))),
    Key("policy", May, Policies),
    Key("hash", May, Table(HASH)),
    Key("slow_start", May, Duration),
    Key("spill_below", May, Number(0.0, 1.0)),
    Key("active_set", May, Text),
    Key("role", May, Words(&["clones", "authoritative"])),
    Key("protocol", May, Words(&["http/1.1", "h2"])),
    Key("tls", May, Table(UPSTREAM_TLS)),
    Key("proxy_protocol", May, Words(&["off", "v1", "v2"])),
    Key("health", May, Table(HEALTH)),
    Key("passive", May, Or(&[Words(&["off"]), Table(PASSIVE)])),
    Key("min_available", May, Number(0.0, 1.0)),
    Key("timeouts", May, Table(UPSTREAM_TIMEOUTS)),
    Key("retry", May, Or(&[No, Table(UPSTREAM_RETRY)])),
    Key("adaptive", May, Table(ADAPTIVE)),
    Key("queue", May, Table(QUEUE)),
    Key("affinity", May, Table(AFFINITY)),
    Key("state", May, Words(&["active", "paused"])),
    Key("pause", May, Table(PAUSE)),
];

const ENDPOINT: &[Key] = &[
    Key("address", Must, Text),
    Key("name", May, Text),
    Key("weight", May, Whole(1, 1000)),
    Key("state", May, Words(&["active", "draining", "disabled"])),
    Key("max_in_flight", May, Whole(1, ANY)),
    Key("backup", May, Yes),
    Key("set", May, Text),
];

const HASH: &[Key] = &[
    Key("key", May, Text),
    Key(
        "bounded_load",
        May,
        Or(&[Words(&["off"]), Number(1.0, 1000.0)]),
    ),
];

const UPSTREAM_TLS: &[Key] = &[
    Key("ca", May, Text),
    Key("server_name", May, Text),
    Key("verify", May, Yes),
    Key("client_certificate", May, CERTIFICATE),
];

const HEALTH: &[Key] = &[
    Key("kind", May, Words(&["http", "tcp", "grpc"])),
    Key("interval", May, Duration),
    Key("busy_interval", May, Duration),
    Key("fast_interval", May, Duration),
    Key("timeout", May, Duration),
    Key("fall", May, Whole(1, 1000)),
    Key("rise", May, Whole(1, 1000)),
    Key("path", May, Text),
    Key("expect_status", May, Text),
    Key("expect_header", May, Named(&Text)),
    Key("expect_body", May, Text),
    Key("host", May, Text),
    Key("headers", May, Named(&Text)),
    Key("service", May, Text),
    Key("version_header", May, Text),
    Key("version_pointer", May, Text),
    Key("live_version", May, Yes),
    Key("expect_version", May, Text),
    Key("role_header", May, Text),
    Key("role_value", May, Text),
    Key("claim_ttl", May, Duration),
];

const PASSIVE: &[Key] = &[
    Key("consecutive", May, Whole(1, ANY)),
    Key("ratio", May, Number(0.0, 1.0)),
    Key("min_requests", May, Whole(1, ANY)),
    Key("window", May, Duration),
    Key("eject", May, Duration),
    Key("eject_limit", May, Duration),
    Key("max_ejected", May, Number(0.0, 1.0)),
    Key("statuses", May, STATUSES),
];

const UPSTREAM_TIMEOUTS: &[Key] = &[
    Key("connect", May, Duration),
    Key("response_head", May, Duration),
    Key("stream_idle", May, Duration),
    Key("tunnel_idle", May, Duration),
    Key("pool_idle", May, Duration),
    Key("max_age", May, Duration),
];

const UPSTREAM_RETRY: &[Key] = &[
    Key("attempts", May, Whole(1, ANY)),
    Key("statuses", May, STATUSES),
    Key("on_timeout", May, Yes),
    Key("attempt_timeout", May, Duration),
    Key("body_bytes", May, Size),
    Key("idempotency_key", May, Yes),
    Key("budget", May, Number(0.0, 1.0)),
    Key("budget_min", May, Whole(0, ANY)),
];

const ADAPTIVE: &[Key] = &[
    Key("latency", Must, Duration),
    Key("min", May, Whole(1, ANY)),
    Key("max", May, Whole(1, ANY)),
];

const QUEUE: &[Key] = &[
    Key("length", Must, Whole(1, ANY)),
    Key("wait", May, Duration),
    Key("order", May, Words(&["fifo", "newest-first"])),
];

const AFFINITY: &[Key] = &[
    Key("by", May, Words(&["endpoint", "version"])),
    Key("cookie", May, Text),
    Key("header", May, Text),
    Key("key_file", May, Text),
    Key("path", May, Text),
    Key("max_age", May, Duration),
];

const PAUSE: &[Key] = &[Key("hold", May, Whole(0, ANY)), Key("wait", May, Duration)];

const ROUTE: &[Key] = &[
    Key("name", May, Text),
    Key("listeners", May, WORDS),
    Key("hosts", May, WORDS),
    Key("path", May, Text),
    Key("path_exact", May, Text),
    Key("path_regex", May, Text),
    Key("methods", May, WORDS),
    Key("headers", May, Named(&Text)),
    Key("cookies", May, Named(&Text)),
    Key("exclusive", May, Yes),
    Key("upstream", May, Text),
    Key("writes", May, Text),
    Key(
        "read_your_writes",
        May,
        Or(&[Duration, Table(READ_YOUR_WRITES)]),
    ),
    Key("split", May, List(&Table(SHARE))),
    Key("split_by", May, Words(&["request", "client"])),
    Key("redirect", May, Table(REDIRECT)),
    Key("respond", May, Table(RESPOND)),
    Key("upgrades", May, WORDS),
    Key("rewrite", May, Table(REWRITE)),
    Key("request_headers", May, Table(CHANGES)),
    Key("response_headers", May, Table(CHANGES)),
    Key("timeouts", May, Table(ROUTE_TIMEOUTS)),
    Key("limits", May, Table(ROUTE_LIMITS)),
    Key("retry", May, Or(&[No, Table(ROUTE_RETRY)])),
    Key("hedge", May, Table(HEDGE)),
    Key("mirror", May, Table(MIRROR)),
];

const READ_YOUR_WRITES: &[Key] = &[
    Key("window", Must, Duration),
    Key("cookie", May, Text),
    Key("key_file", May, Text),
    Key("path", May, Text),
];

const SHARE: &[Key] = &[
    Key("upstream", Must, Text),
    Key("weight", May, Whole(0, 1000)),
];

const REDIRECT: &[Key] = &[Key("to", Must, Text), Key("status", May, Whole(301, 308))];

const RESPOND: &[Key] = &[
    Key("status", May, Whole(200, 599)),
    Key("body", May, Text),
    Key("headers", May, Named(&Text)),
];

const REWRITE: &[Key] = &[
    Key("prefix", May, Text),
    Key("regex", May, Text),
    Key("to", May, Text),
];

const CHANGES: &[Key] = &[
    Key("remove", May, WORDS),
    Key("set", May, Named(&Text)),
    Key("add", May, Named(&Text)),
];

const ROUTE_TIMEOUTS: &[Key] = &[
    Key("request", May, Duration),
    Key("connect", May, Duration),
    Key("response_head", May, Duration),
    Key("stream_idle", May, Duration),
    Key("tunnel_idle", May, Duration),
];

const ROUTE_LIMITS: &[Key] = &[
    Key("body_bytes", May, Size),
    Key("in_flight", May, Whole(1, ANY)),
    Key("rate", May, Table(RATE)),
];

const RATE: &[Key] = &[
    Key("requests", Must, Whole(1, ANY)),
    Key("per", May, Duration),
    Key("burst", May, Whole(1, ANY)),
    Key("key", May, Text),
];

const ROUTE_RETRY: &[Key] = &[
    Key("attempts", May, Whole(1, ANY)),
    Key("statuses", May, STATUSES),
    Key("on_timeout", May, Yes),
    Key("attempt_timeout", May, Duration),
    Key("body_bytes", May, Size),
    Key("idempotency_key", May, Yes),
];

const HEDGE: &[Key] = &[Key("after", Must, Duration)];

const MIRROR: &[Key] = &[
    Key("upstream", Must, Text),
    Key("percent", May, Number(0.0, 100.0)),
    Key("body_bytes", May, Size),
    Key("methods", May, WORDS),
    Key("timeout", May, Duration),
];
