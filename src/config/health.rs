//! `upstream.health`: how endpoints are checked.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::units::AppVersion;

/// `upstream.health`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// `kind` and what belongs to it.
    pub probe: Probe,
    /// `interval` between probes. Default 5 s, at least 10 ms.
    pub interval: Duration,
    /// `fast_interval`: between probes while the state is changing, not above `interval`. Default 1 s, or `interval`.
    pub fast_interval: Duration,
    /// `busy_interval` between probes while requests are answered well, from `interval` to 1 h. Default: `interval`.
    pub busy_interval: Duration,
    /// `timeout` of a whole probe, at most `interval`. Default 2 s.
    pub timeout: Duration,
    /// `fall`: consecutive failures that take an endpoint down. Default 3, at least 1.
    pub fall: u32,
    /// `rise`: consecutive passes that bring it up again. Default 2, at least 1. The very first admission needs one.
    pub rise: u32,
    /// `version_header` or `version_pointer`: where a probe's answer says which version of its code an endpoint runs. Default:
    /// nobody asks.
    pub version: Option<VersionSource>,
    /// `live_version`: an endpoint is checked at once when an answer to a client has another one in the header. Default false; only
    /// with `version_header`.
    pub live_version: bool,
    /// `expect_version`: an endpoint that runs another one, or does not say, is held out. Default: any will do. Only where
    /// `version` says where it stands.
    pub expect_version: Option<AppVersion>,
    /// `role_header` and what belongs to it: where a probe's answer says which endpoint is the authority. Only where the upstream's
    /// `role` is `"authoritative"`; default: nobody asks.
    pub role: Option<RoleSource>,
}

/// Where endpoints say their role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleSource {
    /// `role_header`: the value of this field is the role.
    pub header: HeaderName,
    /// `role_value`: the role of the authority. Default `authority`.
    pub authority: Box<str>,
    /// `claim_ttl`: how long a claim to be the authority counts after it was last made. Default: 1.2 × `interval` × `fall` +
    /// `timeout`.
    pub lifetime: Duration,
}

/// Where a version stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VersionSource {
    /// `version_header`: the value of this field.
    Header(HeaderName),
    /// `version_pointer`: a text or a number in the body, which is JSON, at this pointer (RFC 6901).
    Pointer(Box<str>),
}

/// `health.kind`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// `"http"` (default): `GET path` on a connection of its own, over the upstream's protocol.
    Http {
        /// `path`, with query. Default `/`.
        path: Box<str>,
        /// `host`: the `Host` header. Default: the endpoint's address.
        host: Option<HeaderValue>,
        /// `headers`: added to the probe.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// `expect_status`. Default `200-299`. Redirects are not followed.
        expect_status: Vec<StatusRange>,
        /// `expect_header`: fields that a response must have with exactly these values. Default none.
        expect_header: Vec<(HeaderName, HeaderValue)>,
        /// `expect_body`: what must stand in the first 64 KiB of its body. Default: the body is not read.
        expect_body: Option<Box<str>>,
    },
    /// `"tcp"`: a connection that opens, over TLS with its handshake, is a pass.
    Tcp,
    /// `"grpc"`: gRPC's health protocol (`grpc.health.v1.Health/Check`). Only where the upstream speaks HTTP/2.
    Grpc {
        /// `service` that is asked about. Default `""`: the whole server.
        service: Box<str>,
        /// `host`: the `:authority`. Default: the endpoint's address.
        host: Option<HeaderValue>,
        /// `headers`: added to the probe.
        headers: Vec<(HeaderName, HeaderValue)>,
    },
}

/// Inclusive bounds of status codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusRange {
    /// Lowest, 100 to 599.
    pub low: u16,
    /// Highest, 100 to 599, not below `low`.
    pub high: u16,
}
