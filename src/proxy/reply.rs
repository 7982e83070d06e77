//! Responses we author ourselves.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Uri, Version};

use super::error::ProxyError;
use super::record::ResponseBody;
use crate::config;
use crate::message::grpc;
use crate::message::negotiate::{Format, preferred};
use crate::snapshot::{Listener, Pages};

/// Who gets an error, as far as that decides how it looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// What the client takes. Of several `Accept` fields the first: these are short messages.
    pub accept: Option<&'a HeaderValue>,
    /// Whether it wants no body.
    pub is_head: bool,
    /// What is configured in the place of short messages.
    pub pages: Option<&'a Pages>,
}

/// What a client gets instead of a response: a configured page, or a short message in the form it likes best.
pub fn error(error: ProxyError, asker: Asker<'_>) -> Response<ResponseBody> {
    let (head, body) = error_parts(error, asker);
    let body = if asker.is_head {
        ResponseBody::empty()
    } else {
        ResponseBody::full(body)
    };
    head.map(|()| body)
}

/// The same for a gRPC call: a success, to HTTP, that says what failed.
pub fn grpc_error(error: ProxyError) -> Response<ResponseBody> {
    let mut head = grpc::refusal(error.status(), error.reason());
    head.headers_mut().insert(
        "proxy-status",
        HeaderValue::from_static(error.proxy_status()),
    );
    head.map(|()| ResponseBody::empty())
}

/// The same, as the bytes of an HTTP/1.1 response after which the connection is closed: for requests that never became one.
pub fn error_bytes(error: ProxyError, listener: &Listener) -> Vec<u8> {
    let asker = Asker {
        pages: Some(&listener.error_pages),
        ..Asker::default()
    };
    let (mut head, body) = error_parts(error, asker);
    let headers = head.headers_mut();
    if let Some(hsts) = &listener.hsts {
        secure(headers, hsts);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let status = error.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in head.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

fn error_parts(error: ProxyError, asker: Asker<'_>) -> (Response<()>, Bytes) {
    let status = error.status();
    let mut head = Response::new(());
    *head.status_mut() = status;
    let headers = head.headers_mut();
    let (format, body) = match asker.pages.and_then(|pages| pages.get(status)) {
        Some(page) => (page.format, page.body.clone()),
        None => {
            headers.insert(header::VARY, HeaderValue::from_static("accept"));
            let accept = asker.accept.map(HeaderValue::as_bytes);
            let format = accept.map_or(Format::Text, preferred);
            (format, message(status, format).into())
        }
    };
    headers.insert(header::CONTENT_TYPE, format.content_type());
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(
        "proxy-status",
        HeaderValue::from_static(error.proxy_status()),
    );
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(
            header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
        );
    }
    (head, body)
}

/// The status in words.
fn message(status: StatusCode, format: Format) -> String {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or("Error");
    match format {
        Format::Text => format!("{code} {reason}\n"),
        Format::Html => format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{code} {reason}</title>\n<h1>{code} {reason}</h1>\n</html>\n"
        ),
        // RFC 9457 §4.2.1: of the type about:blank the status says all.
        Format::Problem | Format::Json => {
            format!("{{\"type\":\"about:blank\",\"title\":\"{reason}\",\"status\":{code}}}\n")
        }
    }
}

/// `route.respond`
pub fn respond(respond: &config::Respond) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(respond.body.as_bytes().to_vec()));
    *response.status_mut() = respond.status;
    let headers = response.headers_mut();
    for (name, value) in &respond.headers {
        headers.append(name.clone(), value.clone());
    }
    if !respond.body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
    }
    response
}

/// `route.redirect`, its placeholders filled in: `{host}` as the client asked for it without port, `{path}` canonical, `{query}` with its `?`.
pub fn redirect(
    redirect: &config::Redirect,
    host: &str,
    path: &str,
    query: Option<&str>,
) -> Response<ResponseBody> {
    let mut to = String::with_capacity(redirect.to.len() + path.len());
    let mut rest = &*redirect.to;
    while let Some(begin) = rest.find('{') {
        to.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let Some(end) = rest.find('}') else { break };
        match &rest[1..end] {
            "host" => to.push_str(host),
            "path" => to.push_str(path),
            "query" => push_query(&mut to, query),
            _ => to.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    to.push_str(rest);
    to_location(redirect.status, &to)
}

/// `listener.redirect_to_https`
pub fn redirect_to_https(
    port: u16,
    host: &str,
    path: &str,
    query: Option<&str>,
) -> Response<ResponseBody> {
    let mut to = format!("https://{host}");
    if port != 443 {
        to.push(':');
        to.push_str(itoa::Buffer::new().format(port));
    }
    to.push_str(path);
    push_query(&mut to, query);
    to_location(StatusCode::PERMANENT_REDIRECT, &to)
}

fn push_query(to: &mut String, query: Option<&str>) {
    if let Some(query) = query {
        to.push('?');
        to.push_str(query);
    }
}

fn to_location(status: StatusCode, to: &str) -> Response<ResponseBody> {
    // A path like `//evil.example` would be read as a host by the client.
    let to = if to.starts_with("//") {
        to.trim_start_matches('/').to_owned()
    } else {
        to.to_owned()
    };
    let (Ok(location), Ok(_)) = (HeaderValue::from_str(&to), to.parse::<Uri>()) else {
        return error(ProxyError::Malformed, Asker::default());
    };
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The answer to `OPTIONS *`: a question to the server itself (RFC 9110 §9.3.7).
pub fn options() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Says that clients shall come over https only, unless the endpoint has said something of it (RFC 6797 §7.1).
pub fn secure(headers: &mut HeaderMap, hsts: &HeaderValue) {
    headers
        .entry(header::STRICT_TRANSPORT_SECURITY)
        .or_insert_with(|| hsts.clone());
}

/// Says that the connection ends with this response. HTTP/2 has its own way of saying so.
pub fn close(version: Version, response: &mut Response<ResponseBody>) {
    if version < Version::HTTP_2 {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &str, query: Option<&str>) -> String {
        let redirect = config::Redirect {
            to: to.into(),
            status: StatusCode::FOUND,
        };
        let response = super::redirect(&redirect, "example.com", "/a/b", query);
        response.headers()[header::LOCATION]
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn redirect_fills_in_what_was_asked() {
        assert_eq!(
            location("https://{host}{path}{query}", Some("q=1")),
            "https://example.com/a/b?q=1"
        );
        assert_eq!(
            location("https://www.{host}/new", None),
            "https://www.example.com/new"
        );
        assert_eq!(location("/x{query}", None), "/x");
        assert_eq!(location("/x{query}", Some("")), "/x?");
    }

    #[test]
    fn redirect_to_https_names_an_unusual_port() {
        let at = |port| {
            redirect_to_https(port, "h", "/p", Some("q")).headers()[header::LOCATION]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(at(443), "https://h/p?q");
        assert_eq!(at(8443), "https://h:8443/p?q");
    }

    #[test]
    fn errors_say_who_made_them() {
        let response = error(ProxyError::NoEndpoint, Asker::default());
        assert_eq!(response.status(), 503);
        assert_eq!(
            response.headers()["proxy-status"],
            "balancer; error=destination_unavailable"
        );
        assert_eq!(response.headers()["retry-after"], "5");
        let seconds =
            |made: ProxyError| error(made, Asker::default()).headers()["retry-after"].clone();
        assert_eq!(seconds(ProxyError::Exhausted), "5");
        for busy in [
            ProxyError::RouteFull,
            ProxyError::QueueFull,
            ProxyError::QueueTimeout,
        ] {
            assert_eq!(seconds(busy), "1");
        }
        let retry_after_seconds = 7;
        let limited = ProxyError::RateLimited {
            retry_after_seconds,
        };
        assert_eq!(seconds(limited), "7");
    }

    #[test]
    fn errors_are_said_in_the_form_the_client_likes_best() {
        let accept = HeaderValue::from_static("application/problem+json");
        let asker = Asker {
            accept: Some(&accept),
            ..Asker::default()
        };
        let (head, body) = error_parts(ProxyError::NoRoute, asker);
        assert_eq!(head.headers()["content-type"], "application/problem+json");
        assert_eq!(head.headers()["vary"], "accept");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["status"], &body["title"]),
            (&404.into(), &"Not Found".into())
        );
    }
}
