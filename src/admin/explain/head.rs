//! What is known of a request before a route is looked for: the listener, the host, the client.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header;

use super::asked::{Asked, Target};
use crate::message::{authority, forwarded};
use crate::snapshot::{Listener, Snapshot};

/// What comes before the path.
pub(super) struct Head<'a> {
    /// By its index.
    pub(super) listener: usize,
    /// As requests have it; empty where none is given.
    pub(super) host: Cow<'a, str>,
    /// Whom the listener takes for the client.
    pub(super) client: IpAddr,
    /// What the client asks for by TLS. None over a plain listener, and of who names no host there.
    pub(super) server_name: Option<String>,
    pub(super) target: Target<'a>,
}

impl<'a> Head<'a> {
    /// That of `asked`, or why that is no request.
    pub(super) fn of(snapshot: &Snapshot, asked: &'a Asked) -> Result<Self, String> {
        let target = Target::of(&asked.url)?;
        let listener = listener(snapshot, asked, &target)?;
        let found = &*snapshot.listeners[listener];
        let named = match asked.headers.get(header::HOST) {
            Some(field) => field
                .to_str()
                .map_err(|_| "Host is not a host".to_owned())?,
            None => target.authority.unwrap_or_default(),
        };
        Ok(Self {
            listener,
            host: host(named)?,
            client: client(asked, found),
            server_name: name_by_tls(asked, found, &target),
            target,
        })
    }
}

fn listener(snapshot: &Snapshot, asked: &Asked, target: &Target<'_>) -> Result<usize, String> {
    let listeners = &snapshot.listeners;
    let Some(name) = &asked.listener else {
        let fits = |tls| listeners.iter().position(|it| it.tls.is_some() == tls);
        return Ok(target.tls.and_then(fits).unwrap_or(0));
    };
    let found = listeners.iter().position(|it| *it.name == **name);
    found.ok_or_else(|| {
        let names: Vec<_> = listeners.iter().map(|it| &*it.name).collect();
        format!("there is no listener {name}; there is {}", names.join(", "))
    })
}

fn name_by_tls(asked: &Asked, listener: &Listener, target: &Target<'_>) -> Option<String> {
    let name = asked.server_name.as_deref().or(target.authority);
    let name = host(name?).ok()?;
    let is_address = name.is_empty() || name.starts_with('[') || name.parse::<IpAddr>().is_ok();
    (listener.tls.is_some() && !is_address).then(|| name.into_owned())
}

fn host(given: &str) -> Result<Cow<'_, str>, String> {
    match given {
        "" => Ok(Cow::Borrowed("")),
        _ => authority::host(given).ok_or_else(|| format!("{given} is not a host")),
    }
}

fn client(asked: &Asked, listener: &Listener) -> IpAddr {
    let peer = SocketAddr::new(asked.client, 0);
    forwarded::client_address(&asked.headers, peer, &listener.trusted_proxies)
}
