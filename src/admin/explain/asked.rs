//! The request that is asked about, as the query of `GET /api/v1/explain` has it. Strict about what it is given.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::admin::names::decoded;

/// A request that nobody has made.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// `https://host/path?query`, or the path alone.
    pub url: String,
    /// Its header, `Host` among it where it is another than the URL's.
    pub headers: HeaderMap,
    /// The name of the listener it comes by; `None`: the first that fits the URL's scheme.
    pub listener: Option<String>,
    /// What the client asks for by TLS; `None`: the URL's host.
    pub server_name: Option<String>,
    /// The client's address.
    pub client: IpAddr,
}

impl Asked {
    /// A request without header, from this machine.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: HeaderMap::new(),
            listener: None,
            server_name: None,
            client: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// From `query`, percent-encoded: `url` must be there; `header` alone may be there more than once.
    pub fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self::new(Method::GET, "");
        let mut seen = HashSet::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name != "header" && !seen.insert(name) {
                return Err(format!("{name} is given more than once"));
            }
            let value = decoded(value).ok_or_else(|| format!("{name} is not percent-encoded"))?;
            match name {
                "method" => {
                    asked.method = value
                        .parse()
                        .map_err(|_| format!("{value:?} is no method"))?;
                }
                "url" => asked.url = value,
                "header" => {
                    let (name, value) = header(&value)
                        .ok_or_else(|| format!("header must be 'name: value', got {value:?}"))?;
                    asked.headers.append(name, value);
                }
                "listener" => asked.listener = Some(value),
                "server_name" => asked.server_name = Some(value),
                "client" => {
                    asked.client = value
                        .parse()
                        .map_err(|_| format!("{value:?} is no IP address"))?;
                }
                other => {
                    return Err(format!(
                        "nothing is named {other:?}: url, method, header, listener, server_name or client"
                    ));
                }
            }
        }
        if asked.url.is_empty() {
            return Err("url is missing".to_owned());
        }
        Ok(asked)
    }
}

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.parse().ok()?, value.trim().parse().ok()?))
}

/// The parts of a URL. Not parsed as a URI: a path that may not be is to be explained, not refused as a wrong question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// `None` for a path alone.
    pub(super) tls: Option<bool>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(super) fn of(url: &'a str) -> Result<Self, String> {
        let (tls, rest) = match url.split_once("://") {
            _ if url.starts_with('/') => (None, url),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            _ => {
                return Err(format!(
                    "url must begin with http://, https:// or /, got {url}"
                ));
            }
        };
        let begin = match tls {
            Some(_) => rest.find(['/', '?']).unwrap_or(rest.len()),
            None => 0,
        };
        let (authority, target) = rest.split_at(begin);
        if tls.is_some() && authority.is_empty() {
            // Such a request is answered 400 before anything is looked for.
            return Err(format!("url must name a host, got {url}"));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Ok(Self {
            tls,
            authority: tls.map(|_| authority),
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_is_read_from_a_query() {
        let query = "method=POST&url=https%3A%2F%2Fa.test%2Fx%3Fq%3D1&header=x-a%3A%20b&header=x-a:c&client=192.0.2.7&listener=https&server_name=b.test";
        let asked = Asked::read(query).unwrap();
        assert_eq!(asked.method, Method::POST);
        assert_eq!(asked.url, "https://a.test/x?q=1");
        let values: Vec<_> = asked.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["b", "c"]);
        assert_eq!(asked.client.to_string(), "192.0.2.7");
        assert_eq!(asked.listener.as_deref(), Some("https"));
        assert_eq!(asked.server_name.as_deref(), Some("b.test"));
    }

    #[test]
    fn what_is_no_question_is_refused_with_a_reason() {
        for (query, reason) in [
            ("", "url is missing"),
            ("url=/&method=a%20b", "is no method"),
            ("url=/&header=x", "must be 'name: value'"),
            ("url=/&client=me", "is no IP address"),
            ("url=/&colour=red", "nothing is named \"colour\""),
            ("url=%zz", "not percent-encoded"),
            ("url=%+1", "not percent-encoded"),
            ("url=%ff", "not percent-encoded"),
        ] {
            let refused = Asked::read(query).unwrap_err();
            assert!(refused.contains(reason), "{query}: {refused}");
        }
    }

    #[test]
    fn regression_one_question_is_asked_at_a_time() {
        for name in ["method", "url", "listener", "server_name", "client"] {
            let value = if name == "client" { "::1" } else { "x" };
            let query = format!("{name}={value}&{name}={value}");
            let refused = Asked::read(&query).unwrap_err();
            assert_eq!(refused, format!("{name} is given more than once"));
        }
    }

    #[test]
    fn regression_whole_url_names_a_host() {
        for url in ["http:///x", "https://", "http://?q"] {
            let refused = Target::of(url).unwrap_err();
            assert_eq!(refused, format!("url must name a host, got {url}"));
        }
    }

    #[test]
    fn url_is_a_whole_one_or_a_path() {
        let target = Target::of("https://a.test:8443?q").unwrap();
        assert_eq!(
            (target.tls, target.authority, target.path, target.query),
            (Some(true), Some("a.test:8443"), "/", Some("q"))
        );
        let target = Target::of("/x?u=http://b/").unwrap();
        assert_eq!(
            (target.tls, target.authority, target.path, target.query),
            (None, None, "/x", Some("u=http://b/"))
        );
        assert!(Target::of("ftp://x/").is_err());
    }
}
