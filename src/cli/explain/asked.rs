//! What is asked about: the request that the arguments stand for.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Args;
use super::lines::join;
use crate::config::Config;
use crate::message::authority;

/// The parts of the URL argument. Not parsed as a URI: a path that may not be is to be explained, not refused as usage.
pub(super) struct Target<'a> {
    /// `None` for a bare path.
    pub(super) tls: Option<bool>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn parse(url: &'a str) -> Result<Self, String> {
        if url.starts_with('/') {
            return Ok(Self {
                tls: None,
                authority: None,
                path: without_query(url),
            });
        }
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => {
                return Err(format!(
                    "url must begin with http://, https:// or /, got {url}"
                ));
            }
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.parse::<http::uri::Authority>().is_err() || authority.contains('@') {
            return Err(format!("url must name a host, got {url}"));
        }
        let path = without_query(path);
        Ok(Self {
            tls: Some(tls),
            authority: Some(authority),
            path: if path.is_empty() { "/" } else { path },
        })
    }
}

fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

pub(super) fn parse_headers(given: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in given {
        let parsed = header.split_once(':').and_then(|(name, value)| {
            let name = name.parse::<HeaderName>().ok()?;
            Some((name, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) =
            parsed.ok_or_else(|| format!("header must be 'name: value', got {header:?}"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

pub(super) fn listener(args: &Args, config: &Config, target: &Target<'_>) -> Result<usize, String> {
    let Some(name) = &args.listener else {
        let fits = |tls| {
            config
                .listeners
                .iter()
                .position(|listener| listener.tls.is_some() == tls)
        };
        return Ok(target.tls.and_then(fits).unwrap_or(0));
    };
    config
        .listeners
        .iter()
        .position(|listener| *listener.name == **name)
        .ok_or_else(|| {
            let names = join(config.listeners.iter().map(|listener| &listener.name), ", ");
            format!("there is no listener {name}; there is {names}")
        })
}

/// The host as the data path reads it; empty where none is given.
pub(super) fn host(given: &str) -> Result<Cow<'_, str>, String> {
    match given {
        "" => Ok(Cow::Borrowed("")),
        _ => authority::host(given).ok_or_else(|| format!("{given} is not a host")),
    }
}
