//! What the router promises. Here: what the tests of each promise share.

mod exclusive;
mod model;
mod precedence;
mod servers;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::message::canonical_path::canonicalize;

/// The router of the table: `/admin` is exclusive, the rest goes to the app.
fn guarded() -> Router {
    compile(vec![
        Matchers {
            exclusive: true,
            ..route("/admin")
        },
        route("/"),
    ])
}

fn route(prefix: &str) -> Matchers {
    Matchers {
        listeners: None,
        hosts: Vec::new(),
        path: PathPattern::Prefix(prefix.into()),
        methods: None,
        headers: Vec::new(),
        cookies: Vec::new(),
        exclusive: false,
    }
}

fn hosts(patterns: &[&str]) -> Vec<HostPattern> {
    let pattern = |text: &&str| match text.strip_prefix("*.") {
        Some(parent) => HostPattern::Wildcard(parent.into()),
        None => HostPattern::Exact((*text).into()),
    };
    patterns.iter().map(pattern).collect()
}

fn headers(given: &[(&'static str, &str)]) -> Vec<(HeaderName, HeaderValue)> {
    given
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

fn compile(routes: Vec<Matchers>) -> Router {
    Router::compile(routes).unwrap()
}

fn query<'a>(raw_path: &'a str, path: &'a str) -> Query<'a> {
    static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    Query {
        listener: 0,
        host: "",
        method: &Method::GET,
        headers: &NONE,
        raw_path,
        path,
    }
}

fn find(router: &Router, raw: &str) -> Result<Option<usize>, Ambiguous> {
    router.find(&query(raw, &canonicalize(raw).unwrap()))
}
