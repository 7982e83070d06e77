//! Why a request could not be served: which stage, whose fault, which status.

use http::StatusCode;

use crate::filter::limit::Over;
use crate::message::canonical_path::PathError;
use crate::message::expectation::Unknown;
use crate::message::framing::Violation;
use crate::message::hop_by_hop::NamesProtected;
use crate::pool::OpenError;
use crate::upstream::Denied;

/// Everything that ends a request without a whole response of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyError {
    /// The bytes of the request are not HTTP as we take it.
    Framing(Violation),
    /// hyper could not read the request.
    Malformed,
    /// The head did not come in time.
    HeadTimeout,
    /// No host, two of them, or not a host.
    Host,
    /// The certificate that the client was shown does not stand for the host.
    Misdirected,
    /// `Connection` names an end-to-end field.
    ConnectionNames,
    /// `Expect` holds something that nobody has defined.
    Expectation,
    /// The path is malformed.
    Path(PathError),
    /// The path can be read in two ways, one of them under an exclusive route.
    AmbiguousPath,
    /// More header fields than allowed.
    TooManyFields,
    /// A longer target than allowed.
    TargetTooLong,
    /// CONNECT: we are no forward proxy.
    Connect,
    /// A protocol that the route does not let a client change to (RFC 8441).
    Upgrade,
    /// The request has been here before.
    Loop,
    /// No route takes it.
    NoRoute,
    /// What the route makes of the path is no path, or one of an exclusive route.
    Rewrite,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body paused for too long.
    BodyTimeout,
    /// The body ended early or was malformed.
    BodyBroken,
    /// As many requests as the route takes are being served.
    RouteFull,
    /// More requests than the route takes in a time.
    RateLimited {
        /// When there may be another.
        retry_after_seconds: u32,
    },
    /// Nobody may be asked.
    NoEndpoint,
    /// One endpoint serves and no other, and none claims to be that one.
    NoAuthority,
    /// One endpoint serves and no other, and several claim to be that one.
    TwoAuthorities,
    /// Those who may be asked have as many requests as they may, and nobody more may wait for them.
    QueueFull,
    /// The same, and the request has waited for as long as it may.
    QueueTimeout,
    /// The upstream is paused, and the request was not held, or not any longer.
    Paused,
    /// We are out of descriptors, memory or ports.
    Exhausted,
    /// The endpoint refused the connection.
    ConnectRefused,
    /// The endpoint could not be reached.
    ConnectFailed,
    /// The endpoint did not answer the connection in time.
    ConnectTimeout,
    /// The endpoint's certificate is not accepted.
    TlsCertificate,
    /// The TLS handshake with the endpoint failed.
    TlsFailed,
    /// The endpoint does not speak the upstream's protocol.
    WrongProtocol,
    /// The endpoint closed the connection before a whole response head.
    Closed,
    /// The endpoint says that it has not processed the request, and it was not sent to another one.
    StreamRefused,
    /// The endpoint answered something that is not HTTP.
    Garbage,
    /// The endpoint switched protocols unasked.
    Unasked101,
    /// The endpoint answered as if it had changed protocols, and had not.
    NotSwitched,
    /// Nothing was said over a connection that has changed its protocol.
    TunnelIdle,
    /// The request took longer than its route lets it.
    RequestTimeout,
    /// No response head in time.
    ResponseTimeout,
    /// The response body was cut by the endpoint.
    ResponseCut,
    /// The response body paused for too long.
    ResponseIdle,
    /// The client left.
    ClientLeft,
}

impl From<Violation> for ProxyError {
    fn from(violation: Violation) -> Self {
        Self::Framing(violation)
    }
}

impl From<PathError> for ProxyError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<NamesProtected> for ProxyError {
    fn from(_: NamesProtected) -> Self {
        Self::ConnectionNames
    }
}

impl From<Unknown> for ProxyError {
    fn from(_: Unknown) -> Self {
        Self::Expectation
    }
}

impl From<Over> for ProxyError {
    fn from(over: Over) -> Self {
        match over {
            Over::InFlight => Self::RouteFull,
            Over::Rate {
                retry_after_seconds,
            } => Self::RateLimited {
                retry_after_seconds,
            },
        }
    }
}

impl From<Denied> for ProxyError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Nobody => Self::NoEndpoint,
            Denied::NoAuthority => Self::NoAuthority,
            Denied::TwoAuthorities => Self::TwoAuthorities,
            Denied::Full => Self::QueueFull,
            Denied::Late => Self::QueueTimeout,
        }
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The client's.
    Client,
    /// An endpoint's.
    Endpoint,
    /// Ours, or the configuration's: nobody to ask, no route.
    Balancer,
}

/// How soon a client may ask again when nobody could be asked: about when the next checks have run.
const RETRY_AFTER: u32 = 5;
/// The same when those that could be asked were busy: places come free all the time.
const RETRY_AFTER_BUSY: u32 = 1;

impl From<OpenError> for ProxyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Timeout => Self::ConnectTimeout,
            OpenError::Refused => Self::ConnectRefused,
            OpenError::Failed => Self::ConnectFailed,
            OpenError::Certificate => Self::TlsCertificate,
            OpenError::Protocol => Self::WrongProtocol,
            OpenError::Tls => Self::TlsFailed,
            OpenError::Exhausted => Self::Exhausted,
        }
    }
}

impl ProxyError {
    /// The status of the reply. 499 is never sent: it stands in log and metrics for a client that left.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Framing(violation) => match violation {
                Violation::HeadTooLarge | Violation::TooManyFields => {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                }
                Violation::TargetTooLong => StatusCode::URI_TOO_LONG,
                Violation::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                Violation::BareLf
                | Violation::RequestLine
                | Violation::Fragment
                | Violation::ObsFold
                | Violation::ContentLength
                | Violation::TransferEncoding
                | Violation::BothLengths
                | Violation::OldTransferEncoding
                | Violation::Chunk => StatusCode::BAD_REQUEST,
            },
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Malformed
            | Self::Host
            | Self::ConnectionNames
            | Self::Path(_)
            | Self::AmbiguousPath
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Rewrite => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::RouteFull
            | Self::NoEndpoint
            | Self::NoAuthority
            | Self::TwoAuthorities
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Paused
            | Self::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::TlsCertificate
            | Self::TlsFailed
            | Self::WrongProtocol
            | Self::Closed
            | Self::StreamRefused
            | Self::Garbage
            | Self::Unasked101
            | Self::NotSwitched
            | Self::ResponseCut => StatusCode::BAD_GATEWAY,
            Self::TunnelIdle
            | Self::ConnectTimeout
            | Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::ResponseIdle => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientLeft => StatusCode::from_u16(499).expect("499 is a three-digit code"),
        }
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::Framing(_)
            | Self::Malformed
            | Self::HeadTimeout
            | Self::Host
            | Self::Misdirected
            | Self::ConnectionNames
            | Self::Expectation
            | Self::Path(_)
            | Self::AmbiguousPath
            | Self::TooManyFields
            | Self::TargetTooLong
            | Self::Connect
            | Self::Upgrade
            | Self::Loop
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::RateLimited { .. }
            | Self::ClientLeft => Fault::Client,
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::TlsCertificate
            | Self::TlsFailed
            | Self::WrongProtocol
            | Self::Closed
            | Self::StreamRefused
            | Self::Garbage
            | Self::Unasked101
            | Self::NotSwitched
            | Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::ResponseCut
            | Self::ResponseIdle => Fault::Endpoint,
            Self::TunnelIdle
            | Self::NoRoute
            | Self::Rewrite
            | Self::RouteFull
            | Self::NoEndpoint
            | Self::NoAuthority
            | Self::TwoAuthorities
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Paused
            | Self::Exhausted => Fault::Balancer,
        }
    }

    /// Whether a connection that others had used before may have been at its end, which says nothing of the endpoint.
    pub fn may_be_stale(self) -> bool {
        matches!(self, Self::Closed | Self::StreamRefused)
    }

    /// Whether clients bring it about as they like, those that let the endpoint wait where they `stall`.
    pub fn is_clients_choice(self, stall: impl FnOnce() -> bool) -> bool {
        let by_waiting = matches!(self, Self::Closed | Self::RequestTimeout);
        self == Self::NotSwitched || (by_waiting && stall())
    }

    /// Whether it tells of the health of the endpoint that was asked: that nobody answers there, or nobody who should. That a
    /// connection is closed does not where it `is_excused`: others had used it before and it was at its end, or the client had
    /// let the endpoint wait.
    pub fn is_telling(self, is_excused: bool) -> bool {
        match self {
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::TlsCertificate
            | Self::TlsFailed
            | Self::WrongProtocol
            | Self::Garbage
            | Self::ResponseTimeout => true,
            Self::Closed => !is_excused,
            // It is well enough to say so; and the head of a response that is cut had come.
            Self::StreamRefused
            | Self::Unasked101
            | Self::NotSwitched
            | Self::TunnelIdle
            | Self::ResponseCut
            | Self::ResponseIdle => false,
            Self::Framing(_)
            | Self::Malformed
            | Self::HeadTimeout
            | Self::Host
            | Self::Misdirected
            | Self::ConnectionNames
            | Self::Path(_)
            | Self::AmbiguousPath
            | Self::TooManyFields
            | Self::TargetTooLong
            | Self::Connect
            | Self::Upgrade
            | Self::Expectation
            | Self::Loop
            | Self::NoRoute
            | Self::Rewrite
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::RequestTimeout
            | Self::Paused
            | Self::RouteFull
            | Self::RateLimited { .. }
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::NoEndpoint
            | Self::NoAuthority
            | Self::TwoAuthorities
            | Self::Exhausted
            | Self::ClientLeft => false,
        }
    }

    /// How soon the client may ask again, in seconds, where that can be said.
    pub fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::RateLimited {
                retry_after_seconds,
            } => Some(retry_after_seconds),
            Self::RouteFull | Self::QueueFull | Self::QueueTimeout => Some(RETRY_AFTER_BUSY),
            Self::NoEndpoint
            | Self::NoAuthority
            | Self::TwoAuthorities
            | Self::Paused
            | Self::Exhausted => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// The reason in log and metrics. A closed set: [`REASONS`](crate::metrics::labels::REASONS).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Framing(violation) => match violation {
                Violation::HeadTooLarge => "head_too_large",
                Violation::TooManyFields => "too_many_fields",
                Violation::TargetTooLong => "target_too_long",
                Violation::Version => "version",
                Violation::BothLengths
                | Violation::ContentLength
                | Violation::TransferEncoding
                | Violation::OldTransferEncoding => "conflicting_framing",
                Violation::Chunk => "body_broken",
                Violation::BareLf
                | Violation::RequestLine
                | Violation::Fragment
                | Violation::ObsFold => "malformed",
            },
            Self::Malformed => "malformed",
            Self::TooManyFields => "too_many_fields",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTimeout => "head_timeout",
            Self::Host => "host",
            Self::Misdirected => "misdirected",
            Self::ConnectionNames => "connection_names",
            Self::Expectation => "expectation",
            Self::Path(_) => "path",
            Self::AmbiguousPath => "ambiguous_path",
            Self::Connect => "connect_method",
            Self::Upgrade => "upgrade",
            Self::Loop => "loop",
            Self::NoRoute => "no_route",
            Self::Rewrite => "rewrite",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyBroken => "body_broken",
            Self::RouteFull => "route_full",
            Self::RateLimited { .. } => "rate_limited",
            Self::NoEndpoint => "no_endpoint",
            Self::NoAuthority => "no_authority",
            Self::TwoAuthorities => "two_authorities",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Paused => "paused",
            Self::Exhausted => "exhausted",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsFailed => "tls_failed",
            Self::WrongProtocol => "wrong_protocol",
            Self::Closed => "closed",
            Self::StreamRefused => "stream_refused",
            Self::Garbage => "garbage",
            Self::Unasked101 => "unasked_101",
            Self::NotSwitched => "not_switched",
            Self::TunnelIdle => "tunnel_idle",
            Self::RequestTimeout => "request_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::ResponseCut => "response_cut",
            Self::ResponseIdle => "response_idle",
            Self::ClientLeft => "client_left",
        }
    }

    /// The `Proxy-Status` of the reply (RFC 9209 §2.3, §2.4: types and their meaning).
    pub fn proxy_status(self) -> &'static str {
        match self {
            Self::Connect => {
                "balancer; error=http_request_denied; details=\"CONNECT is not offered\""
            }
            Self::Upgrade => {
                "balancer; error=http_request_denied; details=\"protocol not allowed\""
            }
            Self::Framing(_)
            | Self::Malformed
            | Self::HeadTimeout
            | Self::Host
            | Self::ConnectionNames
            | Self::Path(_)
            | Self::TooManyFields
            | Self::TargetTooLong
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::ClientLeft => "balancer; error=http_request_error",
            Self::Misdirected => {
                "balancer; error=http_request_denied; details=\"another certificate stands for this host\""
            }
            Self::AmbiguousPath => "balancer; error=http_request_error; details=\"ambiguous path\"",
            Self::Expectation => {
                "balancer; error=http_request_error; details=\"unknown expectation\""
            }
            Self::Loop => "balancer; error=proxy_loop_detected",
            Self::NoRoute => "balancer; error=destination_not_found",
            Self::Rewrite => "balancer; error=proxy_configuration_error",
            Self::NoEndpoint => "balancer; error=destination_unavailable",
            Self::NoAuthority => {
                "balancer; error=destination_unavailable; details=\"no authority\""
            }
            Self::TwoAuthorities => {
                "balancer; error=destination_unavailable; details=\"two authorities\""
            }
            Self::RouteFull => {
                "balancer; error=http_request_denied; details=\"too many requests in flight\""
            }
            Self::RateLimited { .. } => {
                "balancer; error=http_request_denied; details=\"too many requests\""
            }
            Self::QueueFull => {
                "balancer; error=connection_limit_reached; details=\"endpoints are busy\""
            }
            Self::QueueTimeout => {
                "balancer; error=connection_limit_reached; details=\"endpoints stay busy\""
            }
            Self::Paused => "balancer; error=destination_unavailable; details=\"paused\"",
            Self::Exhausted => "balancer; error=connection_limit_reached",
            Self::ConnectRefused => "balancer; error=connection_refused",
            Self::ConnectFailed => "balancer; error=destination_ip_unroutable",
            Self::ConnectTimeout => "balancer; error=connection_timeout",
            Self::TlsCertificate => "balancer; error=tls_certificate_error",
            Self::TlsFailed => "balancer; error=tls_protocol_error",
            Self::WrongProtocol => {
                "balancer; error=http_protocol_error; details=\"protocol not agreed to\""
            }
            Self::Closed => "balancer; error=connection_terminated",
            Self::StreamRefused => {
                "balancer; error=connection_terminated; details=\"not processed\""
            }
            Self::Garbage | Self::Unasked101 => "balancer; error=http_protocol_error",
            Self::RequestTimeout | Self::ResponseTimeout => "balancer; error=http_response_timeout",
            Self::ResponseCut => "balancer; error=http_response_incomplete",
            Self::NotSwitched => "balancer; error=http_upgrade_failed",
            Self::ResponseIdle | Self::TunnelIdle => "balancer; error=connection_read_timeout",
        }
    }
}
