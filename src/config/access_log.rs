//! `[access_log]`: which requests have a line, what stands in it, and where it goes.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::Place;
use crate::message::redact::Secrets;

/// `[access_log]`
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// `target`. Default off.
    pub target: AccessLogTarget,
    /// `format`. Default `json`.
    pub format: AccessLogFormat,
    /// `fields`: what stands in a line of JSON. Default: everything.
    pub fields: Fields,
    /// `headers`: fields of requests that stand in a line of JSON. Default none.
    pub headers: Vec<HeaderName>,
    /// `redact`: what is not shown.
    pub redact: Redact,
    /// `sample`: share of requests logged, above 0 to 1; errors (status 500 and above, and requests without an answer) are always logged. Default 1.
    pub sample: f64,
    /// `only`. Default all.
    pub only: AccessLogOnly,
    /// `slow`: requests that took so long are always logged, as errors are. Default: however long.
    pub slow: Option<Duration>,
    /// Where `target` stands.
    pub place: Place,
}

/// `access_log.target`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AccessLogTarget {
    /// `"off"`
    Off,
    /// `"stdout"`
    Stdout,
    /// `"syslog"`, `"syslog:PATH"`: the socket of this machine's syslog daemon. Default path `/dev/log`.
    Syslog(PathBuf),
    /// `"journald"`, `"journald:PATH"`: the socket of systemd's journal. Default path `/run/systemd/journal/socket`.
    Journald(PathBuf),
    /// A file, appended to.
    File(PathBuf),
}

/// `access_log.format`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessLogFormat {
    /// `"json"`: one object per line.
    Json,
    /// `"combined"`: text, as nginx and Apache write it.
    Combined,
}

/// `access_log.only`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessLogOnly {
    /// `"all"`
    All,
    /// `"errors"`: status 500 and above, and requests without an answer.
    Errors,
}

/// `access_log.redact`
#[derive(Clone, Debug, Default)]
pub struct Redact {
    /// `query`: parameters whose values are not shown. Default none.
    pub query: Option<Secrets>,
    /// `headers`: fields whose values are not shown, besides those that always hold secrets. Default none.
    pub headers: Vec<HeaderName>,
}

/// What a line of JSON may hold, in the order in which it stands there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "README says what each is")]
pub enum Field {
    Time,
    Generation,
    RequestId,
    TraceId,
    Client,
    Listener,
    Sni,
    Protocol,
    Method,
    Host,
    Path,
    RawPath,
    Query,
    UserAgent,
    Referer,
    Headers,
    Route,
    Upstream,
    Endpoint,
    EndpointVersion,
    Attempts,
    FailedAttempts,
    Status,
    Who,
    Reason,
    RequestBytes,
    ResponseBytes,
    TlsMs,
    QueuedMs,
    ConnectMs,
    HeadMs,
    TotalMs,
}

impl Field {
    /// All there are, with their names.
    pub const ALL: [(&'static str, Self); 32] = [
        ("time", Self::Time),
        ("generation", Self::Generation),
        ("request_id", Self::RequestId),
        ("trace_id", Self::TraceId),
        ("client", Self::Client),
        ("listener", Self::Listener),
        ("sni", Self::Sni),
        ("protocol", Self::Protocol),
        ("method", Self::Method),
        ("host", Self::Host),
        ("path", Self::Path),
        ("raw_path", Self::RawPath),
        ("query", Self::Query),
        ("user_agent", Self::UserAgent),
        ("referer", Self::Referer),
        ("headers", Self::Headers),
        ("route", Self::Route),
        ("upstream", Self::Upstream),
        ("endpoint", Self::Endpoint),
        ("endpoint_version", Self::EndpointVersion),
        ("attempts", Self::Attempts),
        ("failed_attempts", Self::FailedAttempts),
        ("status", Self::Status),
        ("who", Self::Who),
        ("reason", Self::Reason),
        ("request_bytes", Self::RequestBytes),
        ("response_bytes", Self::ResponseBytes),
        ("tls_ms", Self::TlsMs),
        ("queued_ms", Self::QueuedMs),
        ("connect_ms", Self::ConnectMs),
        ("head_ms", Self::HeadMs),
        ("total_ms", Self::TotalMs),
    ];

    /// Their names.
    pub(super) const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = Self::ALL[index].0;
            index += 1;
        }
        names
    };
}

/// A set of them: one bit each, so that asking costs next to nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fields(u64);

impl Fields {
    /// Every field.
    pub const ALL: Self = Self((1 << Field::ALL.len()) - 1);

    /// Whether `field` is among them.
    #[inline]
    pub const fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u32 != 0
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        Self(
            fields
                .into_iter()
                .fold(0, |set, field| set | 1 << field as u32),
        )
    }
}
