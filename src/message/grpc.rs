//! What gRPC wants to be told of errors: a status of its own in place of HTTP's.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// `grpc-status`
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is a gRPC call, by its content type: `application/grpc`, also with a suffix or parameters.
pub fn is_call(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    kind.as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}

/// The gRPC status for an HTTP status of the balancer's own: what clients make of it by themselves where an answer has none
/// (gRPC's `http-grpc-status-mapping.md`), and for a body that is too large what servers say.
pub fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 431 => "13",             // INTERNAL
        404 => "12",                   // UNIMPLEMENTED
        413 => "8",                    // RESOURCE_EXHAUSTED
        429 | 502 | 503 | 504 => "14", // UNAVAILABLE
        408 => "1",                    // CANCELLED: the client's call ended early
        _ => "2",                      // UNKNOWN
    }
}

/// A response without a body that tells a gRPC client of `status` and why ("Trailers-Only" in gRPC's `PROTOCOL-HTTP2.md`).
/// `reason` is plain ASCII.
pub fn refusal(status: StatusCode, reason: &'static str) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(STATUS, HeaderValue::from_static(code(status)));
    headers.insert(MESSAGE, HeaderValue::from_static(reason));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_call(&headers), expected, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }
}
