//! What is asked about: the request that the arguments stand for.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Args;
use super::lines::join;
use crate::config::Config;
use crate::message::authority;

/// A request, as far as it matters before its path.
pub(super) struct Asked<'a> {
    /// By its index.
    pub(super) listener: usize,
    /// As the data path reads it; empty where none is given.
    pub(super) host: Cow<'a, str>,
    /// What the client asked for by TLS. None over a plain listener, and of who names no host there.
    pub(super) server_name: Option<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    /// As a client would ask that is given `target` and `headers`: `Host` takes the place of the URL's host, but TLS is asked
    /// for the latter, unless a name is given for it.
    pub(super) fn of(
        args: &'a Args,
        config: &Config,
        target: &Target<'a>,
        headers: &'a HeaderMap,
    ) -> Result<Self, String> {
        let listener = listener(args, config, target)?;
        let given = headers.get(header::HOST);
        let given = given.and_then(|given| given.to_str().ok());
        let of_url = target.authority;
        let name = args
            .server_name
            .as_deref()
            .or(of_url)
            .map(host)
            .transpose()?;
        Ok(Self {
            listener,
            host: host(given.or(of_url).unwrap_or_default())?,
            server_name: name.filter(|name| {
                let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
                config.listeners[listener].tls.is_some() && !is_address
            }),
        })
    }
}

/// The parts of the URL argument. Not parsed as a URI: a path that may not be is to be explained, not refused as usage.
pub(super) struct Target<'a> {
    /// `None` for a bare path.
    pub(super) tls: Option<bool>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn parse(method: &Method, url: &'a str) -> Result<Self, String> {
        if *method == Method::CONNECT && !url.starts_with('/') && !url.contains("://") {
            // The form CONNECT has (RFC 9112 §3.2.3).
            return Self::of_authority(None, url, "", url);
        }
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
        Self::of_authority(Some(tls), authority, path, url)
    }

    fn of_authority(
        tls: Option<bool>,
        authority: &'a str,
        path: &'a str,
        url: &str,
    ) -> Result<Self, String> {
        if authority.parse::<http::uri::Authority>().is_err() || authority.contains('@') {
            return Err(format!("url must name a host, got {url}"));
        }
        let path = without_query(path);
        Ok(Self {
            tls,
            authority: Some(authority),
            path: if path.is_empty() { "/" } else { path },
        })
    }
}

fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

pub(in crate::cli) fn parse_headers(given: &[String]) -> Result<HeaderMap, String> {
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

fn listener(args: &Args, config: &Config, target: &Target<'_>) -> Result<usize, String> {
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
